"""Winograd for few input channels: units that end rows, tiles and vectors of channels that are not whole, every epilogue."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from accuracy_classes import bounds
from candidate_worker import force

import npconv as nc
from npconv import _npconv

F32 = np.float32
FORMATS = ["channels_first", "channels_last"]


@pytest.fixture(autouse=True)
def no_wisdom_left():
    yield
    _npconv.wisdom_clear()


def planned(shape, *arguments, **parameters):
    descriptor = nc.plan_conv2d(shape, *arguments, **parameters).descriptor
    (few,) = (c[1] for c in _npconv.candidates(descriptor, 2, "exhaustive") if "few=1" in c[1])
    force(descriptor, 2, "winograd", few)
    plan = nc.plan_conv2d(shape, *arguments, num_threads=2, **parameters)
    assert (plan.algorithm, plan.parameters) == ("winograd", few)
    return plan


def ordered(a, data_format):
    return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if data_format == "channels_last" else a


def check(got, want, size, data_format):
    error = np.abs(got - ordered(want, data_format)).max()
    assert error <= bounds("standard", "float32")[0] * size, (error, size)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sizes(channels, data_format):
    rng = np.random.default_rng(channels)
    for height, width, ocg, groups in itertools.product((1, 4, 9), (3, 8, 30, 64, 71), (1, 8, 21, 32), (1, 2)):
        x = rng.standard_normal((2, channels * groups, height, width)).astype(F32)
        w = rng.standard_normal((ocg * groups, channels, 3, 3)).astype(F32)
        plan = planned(ordered(x, data_format).shape, w, padding=1, groups=groups, data_format=data_format)
        want = oracle.conv(x, w, padding=1, groups=groups)
        check(plan(ordered(x, data_format)), want, oracle.conv(abs(x), abs(w), padding=1, groups=groups).max(), data_format)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("activation", [None, "relu", ("clip", -1.0, 2.0), ("leaky_relu", 0.5), "silu"])
def test_epilogues(activation, data_format):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 3, 13, 37)).astype(F32)
    w = rng.standard_normal((19, 3, 3, 3)).astype(F32)
    bias = rng.standard_normal(19).astype(F32)
    scale = rng.standard_normal(19).astype(F32)
    r = rng.standard_normal((1, 19, 13, 37)).astype(F32)
    size = oracle.conv(abs(x), abs(w), padding=1).max() * abs(scale).max() + 3
    for with_scale, with_residual in itertools.product((False, True), (False, "same", "strided")):
        more = {"scale": scale} if with_scale else {}
        arguments = {"padding": 1, "activation": activation, **more}
        plan = planned(ordered(x, data_format).shape, w, bias, residual=bool(with_residual), data_format=data_format, **arguments)
        residual = {}
        if with_residual:
            same = ordered(r, data_format)
            residual = {"residual": same if with_residual == "same" else np.repeat(same, 2, axis=-1)[..., ::2]}
        want = oracle.conv(x, w, bias, **({"residual": r} if with_residual else {}), **arguments)
        check(plan(ordered(x, data_format), **residual), want, size, data_format)


@pytest.mark.parametrize("data_format", FORMATS)
def test_what_is_not_finite_stays_where_it_is(data_format):
    rng = np.random.default_rng(6)
    x = rng.integers(-4, 5, (1, 3, 12, 40)).astype(F32)
    w = rng.integers(1, 4, (11, 3, 3, 3)).astype(F32)
    x[0, 1, 5, 17], x[0, 2, 0, 39] = np.nan, np.inf
    plan = planned(ordered(x, data_format).shape, w, padding=1, data_format=data_format)
    with np.errstate(invalid="ignore"):
        want = ordered(oracle.conv(x, w, padding=1), data_format)
    got = plan(ordered(x, data_format))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    huge = planned(ordered(x, data_format).shape, np.full_like(w, 1e30), padding=1, data_format=data_format)
    large = np.full_like(x, 1e6)
    np.testing.assert_allclose(huge(ordered(large, data_format)), ordered(oracle.conv(large, np.full_like(w, 1e30), padding=1), data_format), rtol=1e-5)
