"""NaN, infinities, subnormals and overflow: what IEEE gives to the direct sum, under every algorithm."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from accuracy_classes import bounds
from algorithms import ALL, PROBLEMS, accepted, conv, data, plan, refusal

import npconv as nc

F32 = np.float32
PAIRS = accepted()
SPECIAL = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
# float64 can't overflow where float32 does: the oracle computes these in float32's range by hand


def classes(y: np.ndarray) -> np.ndarray:
    """0 finite, 1 NaN, 2 +inf, 3 -inf."""
    return np.select([np.isnan(y), np.isposinf(y), np.isneginf(y)], [1, 2, 3], 0)


def same(got: np.ndarray, want: np.ndarray, limit: float) -> None:
    np.testing.assert_array_equal(classes(got), classes(want))
    finite = np.isfinite(want)
    assert (np.abs(got[finite] - want[finite]) <= limit).all()


def limit_of(x, w, parameters, accuracy="standard", dtype=F32, **more):
    clean_x, clean_w = (np.where(np.isfinite(a), a, 0) for a in (x, w))
    return bounds(accuracy, dtype)[0] * (oracle.magnitude(clean_x, clean_w, **parameters) + 1)


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Corners, edges and the middle of the image, first and last channel, first and last image."""
    n, c, *spatial = shape
    ends = [(0, 0, *(0 for _ in spatial)), (n - 1, c - 1, *(s - 1 for s in spatial)), (n // 2, c // 2, *(s // 2 for s in spatial)),
            (0, c - 1, *(s // 3 for s in spatial)), (n - 1, 0, *(s - 2 if i else 1 for i, s in enumerate(spatial)))]
    return ends


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_footprint_in_the_image(algorithm, problem, value):
    x, w, parameters = data(problem)
    for at in places(x.shape):
        image = x.copy()
        image[at] = SPECIAL[value]
        want = oracle.conv(image, w, **parameters)
        got = conv(image, w, algorithm=algorithm, **parameters)
        same(got, want, limit_of(image, w, parameters))


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_several_at_once_with_an_epilogue(algorithm, problem):
    x, w, parameters = data(problem)
    rng = np.random.default_rng(1)
    for value in (np.nan, np.inf, -np.inf):
        x.ravel()[rng.choice(x.size, 3, replace=False)] = value
    bias, scale = (rng.uniform(0.5, 1, len(w)).astype(F32) for _ in range(2))
    r = rng.standard_normal(oracle.conv(x, w, **parameters).shape).astype(F32)
    r.ravel()[::97] = np.inf
    bias[0] = -np.inf
    for activation in (None, "relu", ("leaky_relu", 0.5)):
        arguments = {"bias": bias, "scale": scale, "residual": r, "activation": activation, **parameters}
        want = oracle.conv(x, w, **arguments)
        for threads in (1, 2):
            got = conv(x, w, algorithm=algorithm, num_threads=threads, **arguments)
            same(got, want, limit_of(x, w, parameters) + 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("accuracy", ["strict", "fast"])
@pytest.mark.parametrize("algorithm", ["winograd", "fft"])
def test_transforms_of_every_class(algorithm, accuracy, dtype):
    tried = 0
    for problem in PROBLEMS:
        if refusal(algorithm, problem, accuracy, dtype) is not None:
            continue
        tried += 1
        x, w, parameters = data(problem, dtype)
        for value in (np.nan, np.inf):
            image = x.copy()
            image[places(x.shape)[2]] = value
            got = conv(image, w, algorithm=algorithm, accuracy=accuracy, **parameters)
            same(got, oracle.conv(image, w, **parameters), limit_of(image, w, parameters, accuracy, dtype))
    if not tried:
        pytest.skip(f"{algorithm} serves no {accuracy} {np.dtype(dtype).name} problem")


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_weights_meet_the_padding(algorithm, problem, value):
    """An infinite weight on a padding zero is NaN: padding is multiplied, never skipped; planned weights alike."""
    x, w, parameters = data(problem)
    x[:, :, ::3] = 0  # infinity times a zero inside the image is NaN too
    w[(0,) * w.ndim] = SPECIAL[value]
    w[(len(w) - 1, w.shape[1] - 1) + (-1,) * (w.ndim - 2)] = SPECIAL[value]
    want = oracle.conv(x, w, **parameters)
    limit = limit_of(x, w, parameters)
    same(conv(x, w, algorithm=algorithm, **parameters), want, limit)
    same(plan(x.shape, w, algorithm=algorithm, **parameters)(x), want, limit)


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize(("algorithm", "problem"), [(a, p) for a, p in PAIRS if a in ("im2col", "direct", "depthwise")])
def test_channels_last(algorithm, problem, value):
    """Images whose channels are dense are read in place: products with the padding must not get lost there either."""
    x, w, parameters = data(problem)
    x[:, :, ::3] = 0
    x[places(x.shape)[2]] = SPECIAL[value]
    for weights in (w, w.copy()):
        if weights is not w:
            weights[(len(w) - 1, w.shape[1] - 1) + (-1,) * (w.ndim - 2)] = SPECIAL[value]
        want, limit = oracle.conv(x, weights, **parameters), limit_of(x, weights, parameters)
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        got = conv(last, weights, algorithm=algorithm, data_format="channels_last", **parameters)
        same(np.moveaxis(got, -1, 1), want, limit)


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric", "replicate", "circular"])
@pytest.mark.parametrize(("algorithm", "stride"), [*((a, 1) for a in ALL if a != "reference"), ("winograd", 2)])
def test_borders_repeat_special_values(algorithm, stride, mode):
    groups = 6 if algorithm in ("depthwise", "fft") else 1
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 6, 14, 13)).astype(F32)
    w = rng.standard_normal((6, 6 // groups, 3, 3)).astype(F32)
    x[0, 2, 1, 1] = np.nan
    x[0, 4, 13, 7] = np.inf
    arguments = {"padding": 1, "stride": stride, "groups": groups, "padding_mode": mode}
    got = nc.conv2d(x, w, algorithm=algorithm, **arguments)
    same(got, oracle.conv(x, w, **arguments), limit_of(x, w, arguments))
    if mode == "constant":
        for value in (np.nan, np.inf):
            got = nc.conv2d(x, w, algorithm=algorithm, padding_value=value, **arguments)
            same(got, oracle.conv(x, w, padding_value=value, **arguments), limit_of(x, w, arguments))


@pytest.mark.parametrize("activation", [
    "relu", "relu6", "leaky_relu", ("clip", -1.0, 1.0), "silu", "sigmoid", "tanh", "hardswish", "gelu", ("gelu", "tanh")],
    ids=str)
@pytest.mark.parametrize("algorithm", ["reference", "im2col", "direct", "depthwise", "winograd", "fft"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_passes_through_activations(algorithm, activation, dtype):
    groups = 5 if algorithm in ("depthwise", "fft") else 1
    x = np.ones((1, 5, 11, 21), dtype)
    w = np.full((5, 5 // groups, 3, 3), 0.25, dtype)
    x[0, 3, 5, 10] = np.nan
    if algorithm in ("winograd", "fft") and _refuses(x, w, algorithm, groups):
        pytest.skip(f"{algorithm} does not serve {np.dtype(dtype).name}")
    got = nc.conv2d(x, w, padding=1, groups=groups, activation=activation, algorithm=algorithm)
    want = oracle.conv(x, w, padding=1, groups=groups, activation=activation)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert np.isnan(got).sum() == 9 * (1 if groups > 1 else 5)


def _refuses(x, w, algorithm, groups):
    rows = nc.explain(x, w, padding=1, groups=groups)
    return next(row["refusal"] for row in rows if row["algorithm"] == algorithm) is not None


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", ("clip", -1.0, 1.0), "sigmoid", "tanh"], ids=str)
def test_infinities_through_activations(activation):
    x = np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0] * 7, F32).reshape(1, 1, 42)
    got = nc.conv1d(x, np.ones((1, 1, 1), F32), activation=activation)
    want = oracle.conv(x, np.ones((1, 1, 1)), activation=activation)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("activation", ["silu", "sigmoid", "tanh", "hardswish", "gelu", ("gelu", "tanh")], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_over_their_whole_range(activation, dtype):
    """Far tails included: no overflow to NaN, no infinity."""
    eps = np.finfo(dtype).eps
    x = np.concatenate([np.linspace(-12, 12, 4001), np.geomspace(1e-30, 1e30, 601), -np.geomspace(1e-30, 1e30, 601)])
    x = x.astype(dtype).reshape(1, 1, -1)
    with np.errstate(under="ignore"):
        got = nc.conv1d(x, np.ones((1, 1, 1), dtype), activation=activation).astype(float)
        want = oracle.conv(x, np.ones((1, 1, 1)), activation=activation)
    assert np.isfinite(got).all()
    assert (np.abs(got - want) <= 16 * eps * np.maximum(np.abs(want), np.minimum(np.abs(x), 1))).all()


def test_no_clamp_without_an_activation():
    x = np.full((1, 1, 40), 3e38, F32)
    assert np.isposinf(nc.conv1d(x, np.ones((1, 1, 2), F32))).all()
    assert np.isneginf(nc.conv1d(-x, np.ones((1, 1, 2), F32))).all()


# ---------------------------------------------------------------- subnormals and overflow


@pytest.mark.parametrize(("algorithm", "problem"), [(a, p) for a, p in accepted("strict") if a not in ("winograd", "fft")])
def test_strict_keeps_subnormals(algorithm, problem):
    """Powers of two times integers: every partial sum is a subnormal that float32 holds exactly."""
    _, _, parameters = PROBLEMS[problem]
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, PROBLEMS[problem][0]) * 2.0**-140
    w = rng.integers(-3, 4, PROBLEMS[problem][1]).astype(F32)
    want = oracle.conv(x, w, **parameters)
    assert 0 < np.abs(want).max() < np.finfo(F32).tiny
    got = conv(x.astype(F32), w, algorithm=algorithm, accuracy="strict", num_threads=2, **parameters)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_subnormals_are_kept_or_flushed_to_zero(algorithm, problem):
    """The other classes may flush, which changes a result by less than the smallest normal number a term."""
    x_shape, w_shape, parameters = PROBLEMS[problem]
    rng = np.random.default_rng(4)
    x = (rng.standard_normal(x_shape) * 2.0**-130).astype(F32)
    w = rng.standard_normal(w_shape).astype(F32)
    got = conv(x, w, algorithm=algorithm, **parameters)
    terms = math.prod(w_shape[1:])
    want = oracle.conv(x, w, **parameters)
    assert (np.abs(got - want) <= 16 * terms * float(np.finfo(F32).tiny)).all()


def test_the_callers_floating_point_mode_is_left_alone():
    tiny = np.full(4, 2.0**-130, F32)
    nc.conv2d(np.ones((1, 4, 20, 20), F32), np.ones((4, 4, 3, 3), F32), num_threads=2)
    assert (tiny * F32(0.5) == F32(2.0**-131)).all()


@pytest.mark.parametrize(("algorithm", "stride"), [("winograd", 1), ("winograd", 2), ("fft", 1)])
@pytest.mark.parametrize("accuracy", ["strict", "standard", "fast"])
def test_finite_results_survive_overflow_on_the_way(algorithm, stride, accuracy):
    """The transforms' intermediate values exceed float32 where the direct sum doesn't: the tile is computed directly."""
    groups = 4 if algorithm == "fft" else 1
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 4, 21, 22)).astype(F32)
    x[0, 1, 6:12, 6:12] = 2e38 * rng.choice([-1, 1], (6, 6))
    w = np.zeros((4, 4 // groups, 3, 3), F32)
    w[:, :, 1, 1] = 0.25
    w[:, :, 0, 2] = 2.0**-10
    if _refuses(x, w, algorithm, groups):
        pytest.skip(f"{algorithm} refuses")
    arguments = {"padding": 1, "stride": stride, "groups": groups}
    want = oracle.conv(x, w, **arguments)
    got = nc.conv2d(x, w, algorithm=algorithm, accuracy=accuracy, **arguments)
    assert np.isfinite(want.astype(F32)).all() and np.isfinite(got).all()
    assert (np.abs(got - want) <= bounds(accuracy, F32)[0] * oracle.magnitude(x, w, **arguments)).all()


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_results_that_overflow_are_infinite(algorithm, problem):
    """Same signs only, so that the order of the sum does not matter."""
    x_shape, w_shape, parameters = PROBLEMS[problem]
    rng = np.random.default_rng(6)
    x = rng.uniform(1, 2, x_shape).astype(F32)
    w = rng.uniform(1, 2, w_shape).astype(F32)
    at = places(x_shape)[2]
    x[at] = 3e38
    with np.errstate(over="ignore"):
        want = oracle.conv(x, w, **parameters).astype(F32)
    got = conv(x, w, algorithm=algorithm, **parameters)
    largest = oracle.conv(x, w, **parameters)
    clear = np.abs(largest / np.finfo(F32).max - 1) > 0.01  # near the limit rounding decides
    np.testing.assert_array_equal(classes(got)[clear], classes(want)[clear])
    assert np.isposinf(want).any()
