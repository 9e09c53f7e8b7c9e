"""Laws that hold for every convolution, on problems drawn by hypothesis. Integers, so that equal means equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracle
from algorithms import CONV
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import npconv as nc
from npconv import _npconv

EXACT = ("im2col", "direct", "depthwise", "reference")
small = st.integers(1, 4)


@dataclass
class Problem:
    x: np.ndarray
    w: np.ndarray
    parameters: dict[str, Any]
    algorithm: str

    @property
    def nd(self) -> int:
        return self.w.ndim - 2

    def conv(self, x: Any = None, w: Any = None, **changes: Any) -> np.ndarray:
        x, w = self.x if x is None else x, self.w if w is None else w
        return CONV[self.nd](x, w, **{**self.parameters, "algorithm": self.algorithm, **changes})


@st.composite
def problems(draw: Any, max_stride: int = 3, max_groups: int = 3, modes: bool = True, pads: bool = True) -> Problem:
    nd = draw(st.integers(1, 3))
    axes = lambda values: tuple(draw(values) for _ in range(nd))  # noqa: E731
    groups = draw(st.integers(1, max_groups))
    icg, ocg = draw(small), draw(small)
    kernel, dilation, stride = axes(st.integers(1, 4)), axes(st.integers(1, 2)), axes(st.integers(1, max_stride))
    sizes = axes(st.integers(1, {1: 40, 2: 14, 3: 7}[nd]))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel)]
    before, after = (axes(st.integers(0, 3)) if pads else (0,) * nd for _ in range(2))
    assume(all(s + b + a > r for s, b, a, r in zip(sizes, before, after, reach)))
    parameters: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    if pads:
        parameters["padding"] = tuple(zip(before, after))
    if modes and all(max(b, a) < s for b, a, s in zip(before, after, sizes)):
        parameters["padding_mode"] = draw(st.sampled_from(["zeros", "reflect", "symmetric", "replicate", "circular"]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    x = rng.integers(-4, 5, (draw(st.integers(1, 3)), groups * icg, *sizes)).astype(dtype)
    w = rng.integers(-3, 4, (groups * ocg, icg, *kernel)).astype(dtype)
    rows = nc.explain(x, w, **parameters)
    taken = [r["algorithm"] for r in rows if r["refusal"] is None and r["algorithm"] in EXACT]
    return Problem(x, w, parameters, draw(st.sampled_from(taken)))


@given(problems())
@settings(max_examples=200)
def test_equals_the_oracle(p):
    np.testing.assert_array_equal(p.conv(), oracle.conv(p.x, p.w, **p.parameters))


@given(problems())
def test_every_choice_is_close(p):
    """Whatever `auto` picks, in every class."""
    want, size = oracle.conv(p.x, p.w, **p.parameters), oracle.magnitude(p.x, p.w, **p.parameters)
    eps = float(np.finfo(p.x.dtype).eps / np.finfo(np.float32).eps)
    for accuracy, c in (("strict", 4e-6), ("standard", 1e-5), ("fast", 1e-3)):
        got = p.conv(algorithm="auto", accuracy=accuracy)
        assert (np.abs(got - want) <= c * eps * size).all()


@given(problems(), st.integers(-3, 3), st.integers(-3, 3))
def test_linear_in_the_image(p, a, b):
    other = np.roll(p.x, 1, axis=-1) + 1
    np.testing.assert_array_equal(p.conv(a * p.x + b * other), a * p.conv() + b * p.conv(other))


@given(problems(), st.integers(-3, 3), st.integers(-3, 3))
def test_linear_in_the_weights(p, a, b):
    other = p.w[::-1] + 1
    np.testing.assert_array_equal(p.conv(w=a * p.w + b * other), a * p.conv() + b * p.conv(w=other))


@given(problems(modes=False, pads=False), st.integers(1, 3), st.data())
def test_shift_equivariance(p, steps, data):
    """Dropping `steps` strides of the image drops as many outputs; away from borders nothing else changes."""
    axis = data.draw(st.integers(0, p.nd - 1))
    stride = p.parameters["stride"][axis]
    y = p.conv()
    assume(y.shape[2 + axis] > steps)
    cut = [slice(None)] * p.x.ndim
    cut[2 + axis] = slice(steps * stride, None)
    drop = [slice(None)] * y.ndim
    drop[2 + axis] = slice(steps, None)
    np.testing.assert_array_equal(p.conv(p.x[tuple(cut)]), y[tuple(drop)])


@given(problems(max_stride=1), st.integers(-9, 9), st.data())
def test_circular_shift_equivariance(p, steps, data):
    """With circular padding there are no borders at all."""
    assume(all(k <= s for k, s in zip(p.w.shape[2:], p.x.shape[2:])))
    axis = 2 + data.draw(st.integers(0, p.nd - 1))
    reach = [d * (k - 1) for d, k in zip(p.parameters["dilation"], p.w.shape[2:])]
    assume(all(r <= s for r, s in zip(reach, p.x.shape[2:])))
    arguments = {"padding": "same", "padding_mode": "circular"}
    np.testing.assert_array_equal(p.conv(np.roll(p.x, steps, axis), **arguments),
                                  np.roll(p.conv(**arguments), steps, axis))


@given(problems())
def test_groups_are_a_concatenation(p):
    groups = p.parameters["groups"]
    icg, ocg = p.w.shape[1], len(p.w) // groups
    parts = [p.conv(p.x[:, g * icg:(g + 1) * icg], p.w[g * ocg:(g + 1) * ocg], groups=1, algorithm="im2col")
             for g in range(groups)]
    np.testing.assert_array_equal(p.conv(), np.concatenate(parts, axis=1))


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(0, 999),
       st.sampled_from(["im2col", "direct", "reference"]))
def test_one_by_one_is_matmul(n, oc, ic, pixels, seed, algorithm):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-4, 5, (n, ic, pixels)).astype(np.float32), rng.integers(-3, 4, (oc, ic)).astype(np.float32)
    want = np.matmul(w, x)
    np.testing.assert_array_equal(nc.conv1d(x, w[:, :, None], algorithm=algorithm), want)
    np.testing.assert_array_equal(nc.conv2d(x[:, :, None], w[:, :, None, None], algorithm=algorithm)[:, :, 0], want)


@given(problems())
def test_stride_is_a_subsample(p):
    whole = p.conv(stride=1, algorithm="im2col")
    steps = tuple(slice(None, None, s) for s in p.parameters["stride"])
    np.testing.assert_array_equal(p.conv(), whole[(slice(None), slice(None), *steps)])


@given(problems())
def test_dilation_is_a_kernel_with_holes(p):
    dilation = p.parameters["dilation"]
    holes = np.zeros((*p.w.shape[:2], *(d * (k - 1) + 1 for d, k in zip(dilation, p.w.shape[2:]))), p.w.dtype)
    holes[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = p.w
    np.testing.assert_array_equal(p.conv(), p.conv(w=holes, dilation=1, algorithm="im2col"))


@given(problems(modes=False))
def test_padding_is_a_larger_image(p):
    wide = np.pad(p.x, ((0, 0), (0, 0), *p.parameters["padding"]))
    np.testing.assert_array_equal(p.conv(), p.conv(wide, padding=0))


@given(problems())
def test_flip_is_a_reversed_kernel(p):
    reverse = (slice(None), slice(None)) + (slice(None, None, -1),) * p.nd
    np.testing.assert_array_equal(p.conv(flip=True), p.conv(w=p.w[reverse]))
    np.testing.assert_array_equal(p.conv(flip=True, w=p.w[reverse].copy()), p.conv())


@given(problems(max_stride=1))
def test_a_mirrored_problem_has_a_mirrored_result(p):
    reverse = (slice(None), slice(None)) + (slice(None, None, -1),) * p.nd
    mirrored = tuple((a, b) for b, a in p.parameters["padding"])
    np.testing.assert_array_equal(p.conv(p.x[reverse], p.w[reverse], padding=mirrored), p.conv()[reverse])


@given(problems(), st.sampled_from(["scale", "order", "copy"]))
def test_channels_may_be_relabelled(p, what):
    """Output channels are independent; input channels may be permuted together with the weights'."""
    if what == "scale":
        scale = np.arange(1, len(p.w) + 1, dtype=p.x.dtype)
        want = p.conv(w=p.w * scale.reshape((-1,) + (1,) * (p.nd + 1)))
        np.testing.assert_array_equal(p.conv(scale=scale), want)
    elif what == "order":
        assume(p.parameters["groups"] == 1)
        order = np.random.default_rng(p.x.size).permutation(p.x.shape[1])
        np.testing.assert_array_equal(p.conv(p.x[:, order], p.w[:, order]), p.conv())
    else:
        np.testing.assert_array_equal(np.concatenate([p.conv(p.x[k:k + 1]) for k in range(len(p.x))]), p.conv())


@given(problems())
def test_data_format_is_a_relabelling(p):
    last = np.moveaxis(p.x, 1, -1)
    for x in (last, last.copy()):
        got = p.conv(x, data_format="channels_last")
        np.testing.assert_array_equal(np.moveaxis(got, -1, 1), p.conv())
    np.testing.assert_array_equal(p.conv(p.x[0]), p.conv()[0])
    np.testing.assert_array_equal(p.conv(last[0], data_format="channels_last"), np.moveaxis(p.conv()[0], 0, -1))


@given(problems(), st.booleans())
def test_the_epilogue_is_what_it_says(p, after):
    rng = np.random.default_rng(1)
    y = p.conv()
    bias, scale = (rng.integers(-3, 4, len(p.w)).astype(p.x.dtype) for _ in range(2))
    r = rng.integers(-9, 10, y.shape).astype(p.x.dtype)
    along = (slice(None),) + (None,) * p.nd
    linear = y * scale[along] + bias[along]
    want = np.maximum(linear, 0) + r if after else np.maximum(linear + r, 0)
    got = p.conv(bias=bias, scale=scale, residual=r, activation="relu", residual_after=after)
    np.testing.assert_array_equal(got, want)


@given(problems())
def test_shapes_follow_the_formula(p):
    pads = p.parameters.get("padding", ((0, 0),) * p.nd)
    want = [(s + b + a - d * (k - 1) - 1) // t + 1 for s, (b, a), d, k, t in zip(
        p.x.shape[2:], pads, p.parameters["dilation"], p.w.shape[2:], p.parameters["stride"])]
    assert p.conv().shape == (len(p.x), len(p.w), *want)


@given(problems())
def test_descriptors_say_what_was_asked(p):
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    arguments = {"padding": 0, "padding_mode": "zeros", **p.parameters}
    text = _npconv.describe(p.nd, p.x.shape, p.x.dtype, p.w.shape, p.w.dtype, False, *(arguments[n] for n in names),
                            "channels_first", None, False, None, False, False, "standard", True)
    fields = _npconv.parse_descriptor(text)
    assert fields["descriptor"] == text == _npconv.parse_descriptor(fields["descriptor"])["descriptor"]
    assert (fields["mb"], fields["g"], fields["ic"], fields["oc"]) == (
        len(p.x), p.parameters["groups"], p.x.shape[1], len(p.w))
    want = (1,) * (3 - p.nd) + p.conv().shape[2:]
    assert tuple(fields["output"]) == want
    macs = math.prod(p.conv().shape) * math.prod(p.w.shape[1:])
    assert fields["macs"] == macs and fields["flops"] == 2 * macs


# ---------------------------------------------------------------- the five laws of full convolution

lines = st.lists(st.integers(-9, 9), min_size=1, max_size=20).map(lambda v: np.array(v, dtype=np.float64))


def full(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    conv = CONV[a.ndim]
    return conv(a[None, None], v[None, None], padding="full", flip=True, algorithm="im2col")[0, 0]


@st.composite
def images(draw: Any) -> list[np.ndarray]:
    """Three of one number of axes, each of its own size."""
    nd = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return [rng.integers(-4, 5, tuple(draw(st.integers(1, 7)) for _ in range(nd))).astype(float) for _ in range(3)]


@given(images())
def test_commutative(three):
    a, b, _ = three
    np.testing.assert_array_equal(full(a, b), full(b, a))


@given(images())
def test_associative(three):
    a, b, c = three
    np.testing.assert_array_equal(full(full(a, b), c), full(a, full(b, c)))


@given(images())
def test_distributive(three):
    a, b, _ = three
    c = np.roll(b, 1) + 2
    np.testing.assert_array_equal(full(a, b + c), full(a, b) + full(a, c))


@given(images())
def test_identity(three):
    a = three[0]
    np.testing.assert_array_equal(full(a, np.ones((1,) * a.ndim)), a)
    shifted = full(a, np.eye(1, 3, 2).reshape((1,) * (a.ndim - 1) + (3,)))
    np.testing.assert_array_equal(shifted[..., 2:], a)
    assert not shifted[..., :2].any()


@given(images(), st.integers(-5, 5))
def test_scalars_move_freely(three, s):
    a, b, _ = three
    np.testing.assert_array_equal(full(s * a, b), s * full(a, b))
    np.testing.assert_array_equal(full(a, s * b), s * full(a, b))


@given(lines, lines)
@example(np.array([1.0]), np.array([1.0]))
def test_lines_are_numpys(a, v):
    np.testing.assert_array_equal(full(a, v), np.convolve(a, v))
    longer, shorter = (a, v) if len(a) >= len(v) else (v, a)
    got = nc.conv1d(longer[None], shorter[None, None], algorithm="im2col")[0]
    np.testing.assert_array_equal(got, np.correlate(longer, shorter, "valid"))


@given(lines, lines)
def test_the_sum_of_a_full_convolution_is_the_product_of_sums(a, v):
    assert full(a, v).sum() == a.sum() * v.sum()
