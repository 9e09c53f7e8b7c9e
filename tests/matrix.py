"""The cases of test_matrix.py: factors, their values, and a seeded sample that covers every pair of values.

Nothing here imports npconv. `PROMISED` states, from the documentation alone, which algorithm takes which shape; an
algorithm that starts to refuse what it promised fails the matrix instead of vanishing from it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SEED = 20261122


@dataclasses.dataclass(frozen=True)
class Shape:
    """One convolution problem. x is N, C, *spatial and w is O, C/groups, *kernel, whatever the layouts of a case are."""

    name: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    padding_mode: Any = "zeros"
    padding_value: float = 0
    batched: bool = True

    @property
    def nd(self) -> int:
        return len(self.w) - 2

    @property
    def parameters(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "padding_value")
        return {name: getattr(self, name) for name in names}


_SHAPES = (
    # 1x1: the plain matrix product
    Shape("single_number", (1, 1, 1, 1), (1, 1, 1, 1)),
    Shape("k1", (2, 16, 7, 9), (24, 16, 1, 1)),
    Shape("k1_square", (1, 64, 14, 14), (64, 64, 1, 1)),
    Shape("k1_stride2", (1, 20, 9, 11), (12, 20, 1, 1), stride=2),
    Shape("k1_stride21", (1, 24, 12, 10), (18, 24, 1, 1), stride=(2, 1)),
    Shape("k1_padded", (1, 5, 4, 6), (7, 5, 1, 1), padding=1),
    Shape("k1_row_padded", (1, 24, 31), (18, 24, 1), padding=2),
    Shape("k1_rows_padded", (1, 24, 6, 5), (18, 24, 1, 1), padding=(2, 0)),
    Shape("k1_long_sum", (1, 300, 5, 5), (8, 300, 1, 1)),
    # a few pixels behind whole vectors, which meet vectors of channels; sums of which all channels meet a block of terms first
    Shape("k1_tail", (1, 20, 2, 9), (45, 20, 1, 1)),
    Shape("k1_deep", (2, 300, 3, 7), (141, 300, 1, 1)),
    # the last block of terms is of one channel alone, whose taps lie evenly apart where those of all do not
    Shape("k5_tail", (1, 52, 23), (70, 52, 5)),
    Shape("k71_tail", (1, 37, 9, 18), (20, 37, 7, 1)),
    # 3x3, stride 1
    Shape("k3", (1, 8, 12, 12), (16, 8, 3, 3), padding=1),
    Shape("k3_odd", (2, 15, 13, 17), (17, 15, 3, 3), padding=1),
    Shape("k3_28", (1, 32, 28, 28), (32, 32, 3, 3), padding=1),
    Shape("k3_14", (1, 64, 14, 14), (64, 64, 3, 3), padding=1),
    Shape("k3_56", (1, 16, 56, 55), (16, 16, 3, 3), padding=1),
    Shape("k3_rows_of_3", (1, 6, 9, 3), (16, 6, 3, 3), padding=1),
    Shape("k3_rows_of_6", (2, 6, 5, 6), (16, 6, 3, 3), padding=1),
    Shape("k3_valid", (1, 5, 9, 8), (7, 5, 3, 3)),
    Shape("k3_full", (1, 4, 6, 7), (5, 4, 3, 3), padding="full"),
    Shape("k3_tiny_image", (1, 9, 2, 3), (4, 9, 3, 3), padding=1),
    Shape("k3_one_output", (2, 6, 3, 3), (5, 6, 3, 3)),
    Shape("k3_long_sum", (1, 130, 6, 7), (9, 130, 3, 3), padding=1),
    Shape("k3_one_out", (1, 20, 10, 11), (1, 20, 3, 3), padding=1),
    Shape("k3_one_in", (1, 1, 17, 19), (16, 1, 3, 3), padding=1),
    Shape("k3_image", (1, 1, 40, 37), (1, 1, 3, 3), padding=1),
    Shape("k3_groups2", (1, 16, 11, 10), (32, 8, 3, 3), padding=1, groups=2),
    Shape("k3_groups3", (1, 15, 8, 9), (21, 5, 3, 3), padding="same", groups=3),
    # strides, dilation, other kernels
    Shape("k3_stride2", (2, 16, 15, 15), (32, 16, 3, 3), stride=2, padding=1),
    Shape("k3_stride2_short", (3, 21, 12, 19), (37, 21, 3, 3), stride=2),
    Shape("k3_stride2_cropped", (1, 11, 15, 18), (9, 11, 3, 3), stride=2, padding=((1, -1), (-2, 1))),
    Shape("k3_stride2_groups", (1, 24, 17, 26), (20, 12, 3, 3), stride=2, padding=1, padding_mode="reflect", groups=2),
    Shape("k3_stride2_blocks", (1, 9, 66, 58), (12, 9, 3, 3), stride=2, padding=1),
    Shape("k3_stride2_long_sum", (1, 136, 6, 7), (9, 136, 3, 3), stride=2, padding=1),
    # four tiles of Winograd or less, with more channels than take their turns together
    Shape("tiles_row", (1, 70, 3, 15), (18, 70, 3, 3), padding=1),
    Shape("tiles_grouped", (3, 132, 7, 5), (20, 66, 3, 3), padding=1, padding_mode="reflect", groups=2),
    Shape("tiles_deep", (1, 40, 3, 6, 7), (9, 40, 5, 3, 3), padding=(2, 1, 1)),
    # channels-last pixels of a tile a multiple of 2048 bytes apart
    Shape("apart_stride2", (2, 256, 7, 10), (20, 256, 3, 3), stride=2, padding=1),
    Shape("apart_groups", (1, 512, 5, 4), (10, 256, 3, 3), padding=(1, 0), groups=2),
    Shape("apart_constant", (1, 512, 4, 5), (18, 512, 3, 2), padding=1, padding_mode="constant", padding_value=-2),
    Shape("apart_volume", (2, 256, 3, 4, 5), (7, 256, 2, 1, 3), stride=(1, 1, 2), padding=(0, 0, 1)),
    Shape("apart_line", (1, 512, 21), (17, 512, 3), padding=1),
    Shape("k3_stride21", (1, 6, 14, 13), (9, 6, 3, 3), stride=(2, 1), padding=(0, 1)),
    Shape("k3_stride3_unreached", (1, 7, 13, 12), (5, 7, 3, 3), stride=(3, 4)),
    Shape("k3_dilation2", (1, 8, 13, 14), (8, 8, 3, 3), padding=2, dilation=2),
    Shape("k3_dilation31", (1, 6, 16, 9), (10, 6, 3, 3), padding="same", dilation=(3, 1), stride=(1, 2)),
    Shape("k5", (1, 6, 13, 12), (18, 6, 5, 5), padding=2),
    Shape("k5_groups4", (2, 12, 9, 9), (8, 3, 5, 5), padding=2, groups=4),
    Shape("k7_stem", (1, 3, 33, 31), (16, 3, 7, 7), stride=2, padding=3),
    Shape("k17", (1, 8, 12, 15), (8, 8, 1, 7), padding=(0, 3)),
    Shape("k71", (1, 8, 15, 12), (8, 8, 7, 1), padding=(3, 0)),
    Shape("k2_same", (1, 6, 9, 10), (6, 6, 2, 2), padding="same"),
    Shape("k4_same_lower", (1, 5, 9, 8), (6, 5, 4, 4), padding="same_lower", stride=2),
    Shape("k7_larger_than_image", (1, 4, 3, 3), (6, 4, 7, 7), padding=3),
    Shape("k9_line", (1, 4, 1, 200), (5, 4, 1, 9), padding=(0, 4)),
    Shape("k3_flat_volume", (1, 3, 1, 16, 16), (8, 3, 1, 3, 3), padding=((0, 1), (1, 1), (1, 1))),
    Shape("k3_before_volume", (1, 3, 1, 9, 17), (8, 3, 1, 3, 3), padding=((1, 0), (1, 1), (1, 1)), stride=(2, 1, 1)),
    # one channel and depthwise
    Shape("depthwise_far_rows", (1, 8, 410, 84), (8, 1, 3, 3), padding=(0, 1), dilation=(200, 1), groups=8),
    Shape("depthwise_far_taps", (1, 17, 10, 150), (17, 1, 3, 3), padding=32, dilation=32, groups=17),
    Shape("image_k11", (1, 1, 30, 33), (1, 1, 11, 11), padding=5),
    Shape("image_k31", (1, 1, 50, 45), (1, 1, 31, 31), padding=15),
    Shape("image_k15_batch", (3, 1, 37, 29), (1, 1, 15, 15)),
    Shape("dw3", (1, 32, 14, 14), (32, 1, 3, 3), padding=1, groups=32),
    Shape("dw3_stride2", (2, 19, 15, 13), (19, 1, 3, 3), stride=2, padding=1, groups=19),
    Shape("dw3_dilation2", (1, 18, 13, 13), (18, 1, 3, 3), padding=2, dilation=2, groups=18),
    Shape("dw3_multiplier2", (1, 9, 12, 11), (18, 1, 3, 3), padding=1, groups=9),
    Shape("dw5", (1, 17, 14, 15), (17, 1, 5, 5), padding=2, groups=17),
    Shape("dw5_stride2_same", (1, 24, 14, 14), (24, 1, 5, 5), stride=2, padding="same", groups=24),
    Shape("dw7", (1, 20, 16, 15), (20, 1, 7, 7), padding=3, groups=20),
    Shape("dw46", (2, 10, 11, 12), (10, 1, 4, 6), padding=((1, 2), (3, 2)), groups=10),
    Shape("dw21", (1, 6, 30, 28), (6, 1, 21, 21), padding=10, groups=6),
    Shape("dw1", (1, 12, 7, 7), (12, 1, 1, 1), groups=12),
    # borders
    Shape("reflect3", (1, 8, 10, 11), (9, 8, 3, 3), padding=1, padding_mode="reflect"),
    Shape("reflect5", (2, 6, 9, 9), (7, 6, 5, 5), padding=2, padding_mode="reflect"),
    Shape("symmetric", (1, 5, 9, 12), (6, 5, 3, 3), padding=2, padding_mode="symmetric"),
    Shape("replicate", (1, 7, 8, 8), (6, 7, 3, 3), padding=3, padding_mode="replicate"),
    Shape("circular", (1, 8, 9, 10), (8, 8, 3, 3), padding=1, padding_mode="circular"),
    Shape("constant", (1, 6, 8, 9), (7, 6, 3, 3), padding=2, padding_mode="constant", padding_value=3),
    Shape("modes_per_axis", (1, 6, 9, 8), (5, 6, 3, 5), padding=(1, 2), padding_mode=("reflect", "circular")),
    Shape("dw_reflect", (1, 16, 12, 13), (16, 1, 3, 3), padding=1, padding_mode="reflect", groups=16),
    Shape("image_circular", (1, 1, 32, 30), (1, 1, 9, 9), padding=4, padding_mode="circular"),
    Shape("asymmetric", (1, 7, 9, 8), (6, 7, 3, 3), padding=((1, 2), (0, 3))),
    Shape("crop", (1, 6, 12, 12), (6, 6, 3, 3), padding=((-1, 2), (1, -2))),
    Shape("causal_mix", (1, 5, 10, 9), (6, 5, 3, 3), padding=("causal", 1)),
    # empty and unbatched
    Shape("no_images", (0, 3, 8, 8), (5, 3, 3, 3), padding=1),
    Shape("no_outputs", (2, 3, 8, 8), (0, 3, 3, 3), padding=1),
    Shape("no_inputs", (2, 0, 8, 8), (5, 0, 3, 3), padding=1),
    Shape("empty_axis", (1, 3, 0, 5), (4, 3, 3, 3), padding=2),
    Shape("unbatched", (1, 3, 9, 9), (8, 3, 3, 3), padding=1, batched=False),
    # 1-D
    Shape("line", (2, 8, 50), (12, 8, 3), padding=1),
    Shape("line_causal", (1, 16, 60), (32, 16, 2), padding="causal", dilation=4),
    Shape("line_k64", (1, 1, 500), (1, 1, 64), padding="full"),
    Shape("line_unbatched", (1, 4, 31), (6, 4, 5), stride=3, batched=False),
    Shape("line_dw_circular", (2, 14, 40), (14, 1, 7), padding=3, padding_mode="circular", groups=14),
    # 3-D
    Shape("volume", (1, 3, 6, 9, 8), (8, 3, 3, 3, 3), padding=1),
    Shape("volume_stride2", (2, 5, 7, 11, 13), (9, 5, 3, 3, 3), padding=1, stride=2),
    Shape("volume_stride122", (1, 18, 4, 9, 12), (7, 18, 2, 3, 3), padding="same", stride=(1, 2, 2)),
    Shape("volume_133", (1, 6, 4, 9, 10), (8, 6, 1, 3, 3), padding=(0, 1, 1)),
    Shape("volume_311_stride2", (1, 7, 9, 5, 6), (6, 7, 3, 1, 1), padding=(1, 0, 0), stride=(2, 1, 1)),
    Shape("volume_k1", (2, 12, 3, 4, 5), (10, 12, 1, 1, 1)),
    Shape("volume_k1_padded", (1, 12, 3, 4, 5), (10, 12, 1, 1, 1), padding=(1, 0, 0)),
    Shape("volume_dw", (1, 10, 5, 6, 7), (10, 1, 3, 3, 3), padding=1, groups=10),
    Shape("volume_reflect", (1, 4, 5, 6, 6), (5, 4, 3, 3, 3), padding=1, padding_mode="reflect", dilation=(1, 2, 1)),
)
SHAPES = {shape.name: shape for shape in _SHAPES}

ALGORITHMS = ("reference", "im2col", "direct", "depthwise", "winograd", "fft")
EXACT = ("reference", "im2col", "direct", "depthwise")  # integer data: the oracle's bits
ISAS = ("scalar", "avx2", "avx512")
LAYOUTS = ("nchw", "nhwc", "nchw_as_last", "nhwc_as_first", "plane_gaps", "pixel_gaps", "scattered")
OUTS = ("new", "dense", "crossed", "scattered")
WEIGHTS = ("oihw", "letters", "flip", "scattered")
EPILOGUES = ("none", "bias", "scale", "scale_bias", "relu", "bias_relu6", "leaky_relu", "bias_clip", "residual",
             "bias_residual_relu", "scale_bias_relu_residual_after", "silu", "sigmoid_residual_after", "bias_tanh",
             "hardswish", "bias_gelu", "gelu_tanh")

FACTORS: dict[str, tuple[Any, ...]] = {
    "isa": ISAS, "shape": tuple(SHAPES), "dtype": ("float32", "float64"), "layout": LAYOUTS, "out": OUTS,
    "weights": WEIGHTS, "call": ("fresh", "plan"), "accuracy": ("strict", "standard", "fast"), "epilogue": EPILOGUES,
    "threads": (1, 2, 3, 4), "data": ("integers", "normal"),
}
FULL_PRODUCT = ("dtype", "layout", "epilogue", "threads")  # times algorithm, isa and shape


@dataclasses.dataclass(frozen=True)
class Case:
    algorithm: str
    isa: str
    shape: str
    dtype: str
    layout: str
    out: str
    weights: str
    call: str
    accuracy: str
    epilogue: str
    threads: int
    data: str

    @property
    def id(self) -> str:
        return "-".join(str(v) for v in dataclasses.astuple(self))


# ---------------------------------------------------------------- promises


def empty(shape: Shape) -> bool:
    return 0 in shape.x or 0 in shape.w


def is_depthwise(shape: Shape) -> bool:
    return shape.w[1] == 1 and shape.groups == shape.x[1]


def last_two(value: Any, nd: int) -> tuple[int, ...]:
    return tuple(np.broadcast_to(value, (nd,)))[-2:]


def _winograd(shape: Shape) -> bool:
    """3x3 over height and width, dense, stride 1 or 2; a depth of any kind comes on top."""
    return (shape.nd > 1 and shape.w[-2:] == (3, 3) and last_two(shape.stride, shape.nd) in ((1, 1), (2, 2))
            and last_two(shape.dilation, shape.nd) == (1, 1) and not empty(shape))


def _dense(value: Any) -> bool:
    return all(v == 1 for v in np.ravel(value))


def _fft(shape: Shape) -> bool:
    return shape.nd == 2 and is_depthwise(shape) and _dense(shape.stride) and _dense(shape.dilation) and not empty(shape)


PROMISED: dict[str, Callable[[Shape], bool]] = {
    "reference": lambda shape: True,
    "im2col": lambda shape: not empty(shape),
    "direct": lambda shape: not empty(shape),
    "depthwise": lambda shape: is_depthwise(shape) and not empty(shape),
    "winograd": _winograd,
    "fft": _fft,
}


# ---------------------------------------------------------------- the covering sample


def covering(factors: dict[str, tuple[Any, ...]], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows that together hold every pair of values of any two factors; greedy, and the same for the same generator."""
    names = list(factors)
    sizes = [len(factors[n]) for n in names]
    missing = {(i, j): np.ones((sizes[i], sizes[j]), dtype=bool) for i, j in itertools.permutations(range(len(names)), 2)}
    while True:
        i, j = max(itertools.combinations(range(len(names)), 2), key=lambda p: int(missing[p].sum()))
        if not missing[i, j].any():
            return
        left = np.argwhere(missing[i, j])
        a, b = left[rng.integers(len(left))]
        row = {i: int(a), j: int(b)}
        for k in rng.permutation([k for k in range(len(names)) if k not in row]):
            gain = sum(missing[k, other][:, value].astype(int) for other, value in row.items())
            row[int(k)] = int(rng.choice(np.flatnonzero(gain == gain.max())))
        for p, q in itertools.permutations(row, 2):
            missing[p, q][row[p], row[q]] = False
        yield {names[k]: factors[names[k]][v] for k, v in row.items()}


def sample(algorithms: tuple[str, ...] = ALGORITHMS, seed: int = SEED) -> list[Case]:
    """For every algorithm, every pair of values of the other factors over the shapes it promises to take;
    and one case for every shape that it doesn't."""
    cases = []
    for number, algorithm in enumerate(algorithms):
        rng = np.random.default_rng([seed, number])
        promised = PROMISED.get(algorithm, lambda shape: True)
        taken = tuple(n for n, s in SHAPES.items() if promised(s))
        cases += [Case(algorithm, **row) for row in covering({**FACTORS, "shape": taken}, rng)]
        for name in SHAPES:
            if name not in taken:
                row = {f: values[rng.integers(len(values))] for f, values in FACTORS.items()}
                cases.append(Case(algorithm, **{**row, "shape": name}))
    order = {name: i for i, name in enumerate(SHAPES)}
    return sorted(cases, key=lambda c: (ISAS.index(c.isa), order[c.shape]))


def full(algorithm: str, isa: str, shape: str) -> list[Case]:
    """The whole product for one algorithm, ISA and shape; the factors outside it take their values in turn."""
    rest = [f for f in FACTORS if f not in FULL_PRODUCT and f not in ("isa", "shape")]
    cases = []
    for n, values in enumerate(itertools.product(*(FACTORS[f] for f in FULL_PRODUCT))):
        rng = np.random.default_rng([SEED, n])
        turn = {f: FACTORS[f][rng.integers(len(FACTORS[f]))] for f in rest}
        cases.append(Case(algorithm, isa, shape, **dict(zip(FULL_PRODUCT, values)), **turn))
    return cases
