"""Winograd's last tiles, which have outputs behind the image and do without some points."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from accuracy_classes import bounds
from candidate_worker import force

import npconv as nc
from npconv import _npconv


@pytest.fixture(autouse=True)
def no_wisdom_left():
    yield
    _npconv.wisdom_clear()


def by_every_candidate(x, w, threads, **parameters):
    descriptor = nc.plan_conv2d(x.shape, w, **parameters).descriptor
    found = [c[1] for c in _npconv.candidates(descriptor, threads, "exhaustive") if c[0] == "winograd"]
    assert {p.partition(",")[0] for p in found} == {"m=2", "m=4"}
    for candidate in found:
        force(descriptor, threads, "winograd", candidate)
        plan = nc.plan_conv2d(x.shape, w, num_threads=threads, **parameters)
        assert (plan.algorithm, plan.parameters) == ("winograd", candidate)
        yield plan


# All that a tile of four can miss along both axes, in blocks of several rows of tiles and of one. The image goes on behind what
# the last outputs see, with numbers that would be felt.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height, width", [*itertools.product((2, 3, 4, 5), repeat=2), (13, 14), (14, 13), (15, 18), (21, 22)])
def test_every_end(height, width, stride, dtype):
    rng = np.random.default_rng(height * 30 + width)
    x = rng.standard_normal((2, 20, height * stride + 5, width * stride + 4)).astype(dtype)
    x[:, :, height * stride + 1 :] *= 1e6
    x[:, :, :, width * stride + 1 :] *= 1e6
    crop = [(1, (n - 1) * stride + 3 - 1 - size) for n, size in zip((height, width), x.shape[2:])]
    w = rng.standard_normal((19, 20, 3, 3)).astype(dtype)
    want = oracle.conv(x, w, stride=stride, padding=crop)
    assert want.shape[2:] == (height, width)
    seen = x.copy()
    seen[:, :, height * stride + 1 :] = seen[:, :, :, width * stride + 1 :] = 0
    limit = bounds("standard", dtype)[0] * oracle.conv(abs(seen), abs(w), stride=stride, padding=crop).max()
    for threads in (1, 2):
        for plan in by_every_candidate(x, w, threads, stride=stride, padding=crop):
            assert abs(plan(x) - want).max() <= limit, f"{threads} {plan.parameters}"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("stride", [1, 2])
def test_special_values_at_the_ends(stride, value):
    """What takes the place of a pixel must not carry a special value to outputs that don't see it. An image for each place."""
    rng = np.random.default_rng(5)
    w = rng.standard_normal((5, 6, 3, 3)).astype("float32")
    for outputs in (5, 6, 7):
        size = outputs * stride + 2
        crop = [(1, (outputs - 1) * stride + 2 - size)] * 2
        places = list(itertools.product(range(size - 5 * stride, size), repeat=2))
        x = rng.standard_normal((len(places), 6, size, size)).astype("float32")
        for image, (row, column) in zip(x, places):
            image[1, row, column] = value
        with np.errstate(invalid="ignore"):
            want = oracle.conv(x, w, stride=stride, padding=crop)
        finite = np.isfinite(want)
        for plan in by_every_candidate(x, w, 1, stride=stride, padding=crop):
            got = plan(x)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=plan.parameters)
            np.testing.assert_array_equal(np.isinf(got), np.isinf(want), err_msg=plan.parameters)
            np.testing.assert_allclose(got[finite], want[finite], atol=1e-4, err_msg=plan.parameters)
