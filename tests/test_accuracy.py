"""The accuracy classes, for every algorithm that serves a class, on friendly data and on data made to hurt.

    pytest tests/test_accuracy.py -s        prints the worst error of each algorithm
    python tests/test_accuracy.py           the same table without pytest
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import oracle
import pytest
from accuracy_classes import CLASSES, bounds

import npconv as nc
from npconv import _npconv

# Shapes as networks have them, small enough for the float64 oracle.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "k3_64x28": ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    "k3_256x14": ((1, 256, 14, 14), (64, 256, 3, 3), {"padding": 1}),
    "k3_512x7": ((1, 512, 7, 7), (64, 512, 3, 3), {"padding": 1}),
    "k3_16x112": ((1, 16, 112, 110), (16, 16, 3, 3), {"padding": 1}),
    "k3_stride2_64x56": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    "k3_stride2_256x28": ((1, 256, 28, 28), (64, 256, 3, 3), {"padding": 1, "stride": 2}),
    "k3_stride2_512x14": ((1, 512, 14, 14), (64, 512, 3, 3), {"padding": 1, "stride": 2}),
    "k3_reflect": ((1, 24, 30, 33), (40, 24, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
    "k1_1024": ((1, 1024, 14, 14), (64, 1024, 1, 1), {}),
    "k1_80000": ((1, 80000, 4, 4), (32, 80000, 1, 1), {}),
    "k7_stem": ((1, 3, 112, 112), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    "k5_dilated": ((1, 32, 28, 28), (48, 32, 5, 5), {"padding": 4, "dilation": 2}),
    "k3_groups": ((1, 64, 20, 20), (64, 16, 3, 3), {"padding": 1, "groups": 4}),
    "image_k31": ((1, 1, 200, 190), (1, 1, 31, 31), {"padding": 15}),
    "image_k3": ((1, 1, 200, 190), (1, 1, 3, 3), {"padding": 1}),
    "dw3": ((1, 64, 40, 40), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "dw7_stride2": ((1, 48, 40, 40), (48, 1, 7, 7), {"padding": 3, "stride": 2, "groups": 48}),
    "dw21": ((1, 16, 60, 60), (16, 1, 21, 21), {"padding": 10, "groups": 16}),
    "line_k512": ((1, 1, 4000), (1, 1, 512), {"padding": "same"}),
    "volume": ((1, 16, 8, 14, 14), (32, 16, 3, 3, 3), {"padding": 1}),
    "volume_stride2": ((1, 20, 8, 14, 15), (24, 20, 3, 3, 3), {"padding": 1, "stride": 2}),
}


def make_data(kind: str, x: tuple[int, ...], w: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([len(kind), *x, *w])
    image, weights = rng.standard_normal(x), rng.standard_normal(w)
    if kind == "constant":
        image[...] = 1 / 3
    elif kind == "offset":  # edges on a bright image: the sum cancels almost all of what goes into it
        image += 1e4
        weights -= weights.mean(axis=tuple(range(1, weights.ndim)), keepdims=True)
    elif kind == "spike":
        image[tuple(n // 2 for n in x)] = 1e6
    elif kind == "positive":
        image, weights = np.abs(image), np.abs(weights)
    elif kind == "scales":  # magnitudes from 1e-6 to 1e6, channel by channel
        image *= 10.0 ** rng.uniform(-6, 6, (1, x[1]) + (1,) * (len(x) - 2))
    elif kind == "alike":  # all channels: what the terms of a sum are rounded by adds up
        image[...], weights[...] = np.sign(image[:, :1]) / 3, np.sign(weights[:, :1])
    return image.astype(dtype), weights.astype(dtype)


KINDS = ("normal", "constant", "offset", "spike", "positive", "scales", "alike")


def measure(algorithm: str, shape: str, kind: str, accuracy: str, dtype: Any) -> tuple[float, float] | None:
    """(|error| / S, |error| / max|y|) of one run; None where the algorithm refuses."""
    x_shape, w_shape, parameters = SHAPES[shape]
    x, w = make_data(kind, x_shape, w_shape, dtype)
    rows = nc.explain(x, w, accuracy=accuracy, **parameters)
    if next(row["refusal"] for row in rows if row["algorithm"] == algorithm) is not None:
        return None
    conv = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}[w.ndim - 2]
    got = conv(x, w, algorithm=algorithm, accuracy=accuracy, **parameters)
    want, size = exact(shape, kind, np.dtype(dtype).name)
    error = float(np.abs(got.astype(want.dtype) - want).max())
    return error / size, error / float(np.abs(want).max())


_EXACT: dict[tuple[str, str, str], tuple[np.ndarray, float]] = {}


def exact(shape: str, kind: str, dtype: str) -> tuple[np.ndarray, float]:
    key = (shape, kind, dtype)
    if key not in _EXACT:
        x_shape, w_shape, parameters = SHAPES[shape]
        x, w = make_data(kind, x_shape, w_shape, dtype)
        _EXACT[key] = (oracle.conv(x, w, **parameters), oracle.magnitude(x, w, **parameters))
    return _EXACT[key]


WORST: dict[tuple[str, str, str, str], tuple[float, str]] = {}


def note(accuracy: str, dtype: str, algorithm: str, measured: str, error: float, where: str) -> None:
    key = (accuracy, dtype, algorithm, measured)
    WORST[key] = max(WORST.get(key, (0.0, "")), (error, where))


def table() -> str:
    """The worst errors noted so far, one line for each class, type and algorithm."""
    lines = [f"{'class':<9}{'dtype':<9}{'algorithm':<11}{'|e|/S':>10}{'c':>9}  {'where':<22}{'|e|/max|y|':>10}{'t':>9}  where"]
    for accuracy, dtype, algorithm in sorted({key[:3] for key in WORST}):
        c, t = bounds(accuracy, dtype)
        any_data = WORST.get((accuracy, dtype, algorithm, "S"), (0.0, "-"))
        normal = WORST.get((accuracy, dtype, algorithm, "y"), (0.0, "-"))
        lines.append(f"{accuracy:<9}{dtype:<9}{algorithm:<11}{any_data[0]:>10.2e}{c:>9.1e}  {any_data[1]:<22}"
                     f"{normal[0]:>10.2e}{t:>9.1e}  {normal[1]}")
    return "\n".join(lines)


def run(algorithm: str, accuracy: str, dtype: str) -> list[str]:
    """All shapes and data sets of one algorithm and class; what broke a bound."""
    c, t = bounds(accuracy, dtype)
    broken = []
    for shape in SHAPES:
        for kind in KINDS:
            errors = measure(algorithm, shape, kind, accuracy, dtype)
            if errors is None:
                break
            where = f"{shape} {kind}"
            note(accuracy, dtype, algorithm, "S", errors[0], where)
            if not errors[0] <= c:
                broken.append(f"{where}: |error| is {errors[0]:.2e} S, the class promises {c:.1e}")
            if kind == "normal":
                note(accuracy, dtype, algorithm, "y", errors[1], shape)
                if not errors[1] <= t:
                    broken.append(f"{where}: |error| is {errors[1]:.2e} max|y|, the class promises {t:.1e}")
    return broken


@pytest.fixture(scope="module", autouse=True)
def printed():
    yield
    print("\n" + table())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("accuracy", CLASSES)
@pytest.mark.parametrize("algorithm", [a for a in _npconv.algorithms() if a != "reference"])
def test_classes(algorithm, accuracy, dtype):
    assert not run(algorithm, accuracy, dtype)


@pytest.mark.parametrize("accuracy", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_choice_keeps_the_class(accuracy, kind):
    """Whatever `auto` picks."""
    c, t = bounds(accuracy, "float32")
    for shape, (x_shape, w_shape, parameters) in SHAPES.items():
        x, w = make_data(kind, x_shape, w_shape, np.float32)
        conv = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}[w.ndim - 2]
        want, size = exact(shape, kind, "float32")
        plan = {1: nc.plan_conv1d, 2: nc.plan_conv2d, 3: nc.plan_conv3d}[w.ndim - 2](x.shape, w, accuracy=accuracy, **parameters)
        for got in (conv(x, w, accuracy=accuracy, **parameters), plan(x)):
            error = float(np.abs(got - want).max())
            assert error <= c * size, shape
            assert kind != "normal" or error <= t * float(np.abs(want).max()), shape


@pytest.mark.parametrize("accuracy", ["strict", "standard"])
@pytest.mark.parametrize("algorithm", ["im2col", "direct", "depthwise", "winograd", "fft"])
def test_sparse_data(algorithm, accuracy):
    """A pixel that meets weights of zero only disturbs the outputs of its tile, if a transform computes them."""
    c, _ = bounds(accuracy, "float32")
    rng = np.random.default_rng(9)
    worst, transform = 0.0, algorithm in ("winograd", "fft")
    for channels, stride, tap in itertools.product((1, 3, 8, 20), (1, 2), itertools.product(range(3), repeat=2)):
        x = rng.standard_normal((1, channels, 17, 18)).astype("float32")
        x[:, :, (-2, 0, 1)[tap[0]], (-2, 0, 1)[tap[1]]] = 1e6  # out of reach
        w = np.zeros((channels if channels == 1 else 5, channels, 3, 3), "float32")
        w[:, :, tap[0], tap[1]] = rng.standard_normal(w.shape[:2])
        if next(r["refusal"] for r in nc.explain(x, w, stride=stride, accuracy=accuracy) if r["algorithm"] == algorithm) is not None:
            continue
        got = nc.conv2d(x, w, stride=stride, algorithm=algorithm, accuracy=accuracy)
        error = float(np.abs(got - oracle.conv(x, w, stride=stride)).max())
        worst = max(worst, error / oracle.magnitude(x, w, stride=stride))
        size = float(np.abs(x).max() * np.abs(w).sum((1, 2, 3)).max()) if transform else oracle.magnitude(x, w, stride=stride)
        assert error <= c * size, (channels, stride, tap)
    assert (worst > c) == transform  # else the promise could be the better one


def test_the_strictest_class_has_a_general_server():
    """Every shape and type can be asked for in every class."""
    for x_shape, w_shape, parameters in SHAPES.values():
        for accuracy in CLASSES:
            for dtype in ("f4", "f8"):
                rows = nc.explain(np.empty(x_shape, dtype), np.empty(w_shape, dtype), accuracy=accuracy, **parameters)
                assert [r for r in rows if r["refusal"] is None and r["algorithm"] != "reference"]


if __name__ == "__main__":
    for name in [a for a in _npconv.algorithms() if a != "reference"]:
        for accuracy_class in CLASSES:
            for kind_of_number in ("float32", "float64"):
                for line in run(name, accuracy_class, kind_of_number):
                    print(name, accuracy_class, kind_of_number, line)
    print(table())
