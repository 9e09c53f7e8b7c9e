"""Depthwise layers of channels-last images: every width that leaves a tile incomplete, every border, every end of the channels."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from candidate_worker import force

import npconv as nc
from npconv import _npconv

F32 = np.float32


@pytest.fixture(autouse=True)
def no_wisdom_left():
    yield
    _npconv.wisdom_clear()


def by_every_path(x, *arguments, **parameters):
    """Plans with each of the kernels that the tuner may pick: the estimate alone would leave out all but one."""
    descriptor = nc.plan_conv2d(x.shape, *arguments, **parameters).descriptor
    paths = [c[1] for c in _npconv.candidates(descriptor, 2, "exhaustive") if c[0] == "depthwise"]
    assert len(paths) > 1
    for path in paths:
        force(descriptor, 2, "depthwise", path)
        plan = nc.plan_conv2d(x.shape, *arguments, num_threads=2, **parameters)
        assert (plan.algorithm, plan.parameters) == ("depthwise", path)
        yield plan


def layer(rng, height, width, channels, kernel, dtype=F32):
    x = rng.integers(-4, 5, (2, height, width, channels)).astype(dtype)
    return x, rng.integers(-3, 4, (channels, 1, *kernel)).astype(dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (1, 3), (5, 3), (3, 7)])
def test_widths_and_borders(kernel, stride):
    rng = np.random.default_rng(0)
    runs = 0
    for width, height, channels, border in itertools.product((1, 4, 5, 7, 11, 16, 30), (2, 5, 8), (8, 21), ("none", "one", "half", "reflect")):
        pads = {"none": (0, 0), "one": (1, 1)}.get(border, tuple((k - 1) // 2 for k in kernel))
        if any(n + 2 * p < k or (border == "reflect" and p >= n) for n, p, k in zip((height, width), pads, kernel)):
            continue
        x, w = layer(rng, height, width, channels, kernel)
        arguments = {"stride": stride, "padding": pads, "groups": channels, "padding_mode": "reflect" if border == "reflect" else "zeros"}
        want = np.moveaxis(oracle.conv(np.moveaxis(x, -1, 1), w, **arguments), 1, -1)
        for plan in by_every_path(x, w, data_format="channels_last", **arguments):
            np.testing.assert_array_equal(plan(x), want, err_msg=str((width, height, channels, border, plan.parameters)))
        runs += 1
    assert runs > 40


@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.5), "hardswish"])
@pytest.mark.parametrize("width", [3, 7, 10, 14])
def test_residual_in_place(width, activation):
    """Pixels that the last tile of a row would compute twice would get the residual twice."""
    rng = np.random.default_rng(1)
    for channels, kernel in itertools.product((16, 27), ((3, 3), (5, 5))):
        x, w = layer(rng, 6, width, channels, kernel)
        bias = rng.integers(-2, 3, channels).astype(F32)
        arguments = {"padding": kernel[0] // 2, "groups": channels, "activation": activation}
        r = rng.integers(-4, 5, x.shape).astype(F32)
        want = oracle.conv(np.moveaxis(x, -1, 1), w, bias, residual=np.moveaxis(r, -1, 1), **arguments)
        for plan in by_every_path(x, w, bias, residual=True, data_format="channels_last", **arguments):
            out = r.copy()
            assert plan(x, residual=out, out=out) is out
            np.testing.assert_allclose(out, np.moveaxis(want, 1, -1), rtol=1e-6, atol=1e-5)
