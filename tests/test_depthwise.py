"""Depthwise layers of channels-last images: every width that leaves a tile incomplete, every border, every end of the channels."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest

import npconv as nc

F32 = np.float32


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
        got = nc.conv2d(x, w, algorithm="depthwise", data_format="channels_last", **arguments)
        np.testing.assert_array_equal(got, want, err_msg=str((width, height, channels, border)))
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
        got = nc.conv2d(x, w, bias, residual=r, out=r, algorithm="depthwise", data_format="channels_last", **arguments)
        assert got is r
        np.testing.assert_allclose(r, np.moveaxis(want, 1, -1), rtol=1e-6, atol=1e-5)
