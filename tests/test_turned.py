"""Channels-last images whose pixels meet in one set of L1: direct turns them to planes where these win."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from candidate_worker import force

import npconv as nc
from npconv import _npconv


@pytest.fixture(autouse=True)
def no_wisdom_left():
    yield
    _npconv.wisdom_clear()


# Gaps between pixels and between images.
@pytest.mark.parametrize("dtype, channels", [("float32", 768), ("float64", 384)])
@pytest.mark.parametrize("spatial, kernel, stride", [((6, 7), (3, 3), (1, 2)), ((3, 4, 5), (2, 1, 3), (1, 1, 2)), ((9,), (3,), (2,))])
def test_views(dtype, channels, spatial, kernel, stride):
    rng = np.random.default_rng(channels)
    x = rng.integers(-4, 5, (3, *spatial, channels + 5)).astype(dtype)[::2, ..., :channels]
    w = rng.integers(-3, 4, (19, channels, *kernel)).astype(dtype)
    arguments = {"stride": stride, "padding": tuple((k // 2, k // 2) for k in kernel)}
    want = np.moveaxis(oracle.conv(np.moveaxis(x, -1, 1), w, **arguments), 1, -1)
    arguments["data_format"] = "channels_last"
    nd = len(spatial)
    plan_conv, conv = getattr(nc, f"plan_conv{nd}d"), getattr(nc, f"conv{nd}d")
    const = plan_conv(x.shape, w, **arguments).descriptor
    in_place = 0
    for descriptor in (const, const.replace("_const", "_fresh")):
        for threads in (1, 2):
            for algorithm, parameters, _ in _npconv.candidates(descriptor, threads, "exhaustive"):
                if algorithm != "direct":
                    continue
                in_place += ",split=0" not in parameters
                force(descriptor, threads, algorithm, parameters)
                if descriptor == const:
                    plan = plan_conv(x.shape, w, num_threads=threads, **arguments)
                    assert plan.parameters == parameters
                    if nc.isa() == "avx512" and ",split=0" not in parameters:
                        assert plan.workspace_bytes >= x[0].nbytes
                    got = plan(x)
                    np.testing.assert_array_equal(plan(x[1:])[0], got[1], err_msg=parameters)
                else:
                    got = conv(x, w, num_threads=threads, **arguments)
                np.testing.assert_array_equal(got, want, err_msg=f"{descriptor} {threads} {parameters}")
    assert in_place


# More images than are turned at once, with a residual; and a padding value, for which strips are made of the planes.
def test_batch():
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, (11, 16, 15, 512)).astype("float32")
    w = rng.integers(-3, 4, (18, 512, 1, 2)).astype("float32")
    for value in (0, 2):
        arguments = {"stride": (2, 1), "padding": [(0, 0), (1, 1)], "padding_mode": "constant", "padding_value": value}
        want = oracle.conv(np.moveaxis(x, -1, 1), w, **arguments)
        residual = rng.integers(-9, 9, want.shape).astype("float32")
        want = np.moveaxis(want + residual, 1, -1)
        residual = np.ascontiguousarray(np.moveaxis(residual, 1, -1))
        arguments["data_format"] = "channels_last"
        descriptor = nc.plan_conv2d(x.shape, w, residual=True, **arguments).descriptor
        for threads in (1, 3):
            for algorithm, parameters, _ in _npconv.candidates(descriptor, threads, "measure"):
                if algorithm != "direct" or ",split=0" in parameters:
                    continue
                force(descriptor, threads, algorithm, parameters)
                plan = nc.plan_conv2d(x.shape, w, residual=True, num_threads=threads, **arguments)
                assert plan.parameters == parameters
                np.testing.assert_array_equal(plan(x, residual=residual), want, err_msg=f"{value} {threads} {parameters}")
                np.testing.assert_array_equal(plan(x[9:], residual=residual[9:]), want[9:])
