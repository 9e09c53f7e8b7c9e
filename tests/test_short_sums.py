"""Short sums of channels-last images with padding: tiles that follow one another are one call, those at the ends of rows have terms of their own."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from buffers import fenced
from candidate_worker import force

import npconv as nc
from npconv import _npconv


@pytest.fixture(autouse=True)
def no_wisdom_left():
    yield
    _npconv.wisdom_clear()


# Kernels of one row and one channel have terms that are neighbours, but not at the ends of rows.
@pytest.mark.parametrize("channels, kernel", [(1, (1, 3)), (1, (3, 3)), (3, (3, 3)), (4, (1, 3)), (12, (3, 3))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_candidate(channels, kernel, dtype):
    rng = np.random.default_rng(channels)
    padding = tuple((k // 2, k // 2) for k in kernel)
    for width, stride, outputs in itertools.product((9, 25, 83), (1, 2), (16, 40)):
        x = rng.integers(-4, 5, (1, 5, width, channels))
        w = rng.integers(-3, 4, (outputs, channels, *kernel))
        bias = rng.integers(-3, 4, outputs).astype(dtype)
        want = oracle.conv(np.moveaxis(x, -1, 1), w, bias, stride=(stride, stride), padding=padding)
        image = np.moveaxis(fenced(np.moveaxis(x, -1, 1), "nhwc", dtype, at_end=True), 1, -1)
        arguments = {"stride": stride, "padding": padding, "data_format": "NHWC", "weight_format": "OIHW"}
        descriptor = nc.plan_conv2d(image.shape, w.astype(dtype), bias, **arguments).descriptor
        found = [c[1] for c in _npconv.candidates(descriptor, 1, "exhaustive") if c[0] == "direct"]
        assert found
        for candidate in found:
            force(descriptor, 1, "direct", candidate)
            plan = nc.plan_conv2d(image.shape, w.astype(dtype), bias, num_threads=1, **arguments)
            assert plan.parameters == candidate
            np.testing.assert_array_equal(np.moveaxis(plan(image), -1, 1), want, err_msg=f"{width} {stride} {outputs} {candidate}")
