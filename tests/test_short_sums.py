"""Short sums with padding: tiles that follow one another are one call, those at the ends of rows have terms of their own."""

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


# Terms of one row and one channel are neighbours: all, those of the first output row only, or of none. Beside the short ones a sum whose
# last half block of terms goes on where the first half stopped (252 and 153 terms).
@pytest.mark.parametrize("channels, kernel", [(1, (1, 3)), (1, (2, 3)), (1, (3, 3)), (3, (3, 3)), (4, (1, 3)), (12, (3, 3)), (45, (3, 3))])
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
            got = np.moveaxis(plan(image), -1, 1)
            np.testing.assert_array_equal(got, want, err_msg=f"{width} {stride} {outputs} {candidate}")


# A residual keeps sums from leaving the registers for the result at once.
@pytest.mark.parametrize("channels, kernel", [(1, (1, 3)), (1, (2, 3)), (3, (3, 3))])
def test_every_candidate_with_a_residual(channels, kernel):
    rng = np.random.default_rng(channels)
    for width, stride, outputs in itertools.product((2, 9, 83), (1, 2), (16, 40)):
        x = rng.integers(-4, 5, (1, 5, width, channels)).astype("float32")
        w = rng.integers(-3, 4, (outputs, channels, *kernel)).astype("float32")
        padding = ((1, 1), (0, 0)) if width > kernel[1] else ((0, 0), (1, 1))
        arguments = {"stride": stride, "padding": padding, "data_format": "NHWC", "weight_format": "OIHW"}
        want = oracle.conv(np.moveaxis(x, -1, 1), w, stride=(stride, stride), padding=padding)
        residual = rng.integers(-9, 9, np.moveaxis(want, 1, -1).shape).astype("float32")
        descriptor = nc.plan_conv2d(x.shape, w, residual=True, **arguments).descriptor
        for candidate in [c[1] for c in _npconv.candidates(descriptor, 1, "exhaustive") if c[0] == "direct"]:
            force(descriptor, 1, "direct", candidate)
            plan = nc.plan_conv2d(x.shape, w, residual=True, num_threads=1, **arguments)
            assert plan.parameters == candidate
            got = np.moveaxis(plan(x, residual=residual) - residual, -1, 1)
            np.testing.assert_array_equal(got, want, err_msg=f"{width} {stride} {outputs} {candidate}")


# The first output row of a kernel of two rows has the terms of one, neighbours; all others' are not.
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(2, 3), (3, 3), (2, 1)])
def test_rows_of_planes_with_terms_of_their_own(kernel, groups):
    rng = np.random.default_rng(groups)
    for width, stride, padding in itertools.product((9, 83), (1, 2), (((1, 1), (0, 0)), ((1, 1), (1, 1)))):
        x = rng.integers(-4, 5, (1, groups, 5, width)).astype("float32")
        w = rng.integers(-3, 4, (40 * groups, 1, *kernel)).astype("float32")
        arguments = {"stride": stride, "padding": padding, "groups": groups}
        want = oracle.conv(x, w, stride=(stride, stride), padding=padding, groups=groups)
        descriptor = nc.plan_conv2d(x.shape, w, **arguments).descriptor
        for candidate in [c[1] for c in _npconv.candidates(descriptor, 1, "exhaustive") if c[0] == "direct"]:
            force(descriptor, 1, "direct", candidate)
            plan = nc.plan_conv2d(x.shape, w, num_threads=1, **arguments)
            assert plan.parameters == candidate
            np.testing.assert_array_equal(plan(x), want, err_msg=f"{width} {stride} {padding} {candidate}")


# Rows whose columns are parted into even and odd ones: less than a vector of pairs, some, with a column left over, none behind the first.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_every_width_with_stride_two(pad, dtype):
    rng = np.random.default_rng(pad)
    w = rng.integers(-3, 4, (9, 2, 3, 3))
    for width, at_end in itertools.product(range(max(1, 3 - 2 * pad), 42), (False, True)):
        x = rng.integers(-4, 5, (1, 2, 5, width))
        image, weights = fenced(x, "nchw", dtype, at_end=at_end), w.astype(dtype)
        arguments = {"stride": 2, "padding": ((1, 1), (pad, pad))}
        want = oracle.conv(x, w, stride=(2, 2), padding=((1, 1), (pad, pad)))
        descriptor = nc.plan_conv2d(image.shape, weights, **arguments).descriptor
        for candidate in [c[1] for c in _npconv.candidates(descriptor, 1, "measure") if c[0] == "direct"]:
            force(descriptor, 1, "direct", candidate)
            plan = nc.plan_conv2d(image.shape, weights, num_threads=1, **arguments)
            np.testing.assert_array_equal(plan(image), want, err_msg=f"{width} {candidate}")
