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
                    got = plan(x)
                    np.testing.assert_array_equal(plan(x[1:])[0], got[1], err_msg=parameters)
                else:
                    got = conv(x, w, num_threads=threads, **arguments)
                np.testing.assert_array_equal(got, want, err_msg=f"{descriptor} {threads} {parameters}")
    assert in_place
