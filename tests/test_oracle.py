"""The oracle against independent libraries, on small cases: an oracle that is wrong makes every other test worthless."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest

scipy_ndimage = pytest.importorskip("scipy.ndimage")
scipy_signal = pytest.importorskip("scipy.signal")

NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
NDIMAGE_MODES = {"constant": "constant", "reflect": "mirror", "symmetric": "reflect", "replicate": "nearest",
                 "circular": "wrap"}


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float64)


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("amounts", [(0, 0), (1, 0), (0, 1), (2, 3), (7, 9)])
def test_pad_axis_is_numpys_pad(mode, size, amounts):
    x = np.arange(1.0, size + 1)
    extra = {"constant_values": 2.5} if mode == "constant" else {}
    want = np.pad(x, amounts, mode=NUMPY_MODES[mode], **extra)
    np.testing.assert_array_equal(oracle.pad_axis(x, 0, *amounts, mode, 2.5), want)


def test_negative_padding_crops():
    x = np.arange(6.0)
    np.testing.assert_array_equal(oracle.pad_axis(x, 0, -1, -2, "reflect", 0.0), x[1:4])
    np.testing.assert_array_equal(oracle.pad_axis(x, 0, -2, 1, "reflect", 0.0), [2, 3, 4, 5, 4])


@pytest.mark.parametrize("mode", NDIMAGE_MODES)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 7)])
def test_same_size_images_are_ndimages(mode, kernel):
    rng = np.random.default_rng(1)
    x, w = integers(rng, 9, 11), integers(rng, *kernel)
    pad = tuple(k // 2 for k in kernel)
    arguments = {"padding": pad, "padding_mode": mode, "padding_value": 3 if mode == "constant" else 0}
    want = scipy_ndimage.correlate(x, w, mode=NDIMAGE_MODES[mode], cval=3.0)
    np.testing.assert_array_equal(oracle.conv(x[None], w[None, None], **arguments)[0], want)
    want = scipy_ndimage.convolve(x, w, mode=NDIMAGE_MODES[mode], cval=3.0)
    np.testing.assert_array_equal(oracle.conv(x[None], w[None, None], flip=True, **arguments)[0], want)


@pytest.mark.parametrize("lengths", [(7, 3), (8, 4), (5, 5), (9, 1)])
@pytest.mark.parametrize("mode", ["full", "valid"])
def test_lines_are_numpys_convolve(lengths, mode):
    rng = np.random.default_rng(2)
    a, v = integers(rng, lengths[0]), integers(rng, lengths[1])
    got = oracle.conv(a[None], v[None, None], padding=mode, flip=True)[0]
    np.testing.assert_array_equal(got, np.convolve(a, v, mode))
    got = oracle.conv(a[None], v[None, None], padding=mode)[0]
    np.testing.assert_array_equal(got, np.correlate(a, v, mode))


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_even_kernels_align_as_documented(kernel):
    """same_lower is np.correlate's 'same'; same with flip is ndimage.convolve's alignment (features b.3)."""
    rng = np.random.default_rng(3)
    a, v = integers(rng, 9), integers(rng, kernel)
    np.testing.assert_array_equal(oracle.conv(a[None], v[None, None], padding="same_lower")[0], np.correlate(a, v, "same"))
    got = oracle.conv(a[None], v[None, None], padding="same", flip=True)[0]
    np.testing.assert_array_equal(got, scipy_ndimage.convolve1d(a, v, mode="constant"))


def test_volumes_are_scipys_correlate():
    rng = np.random.default_rng(4)
    x, w = integers(rng, 2, 3, 5, 6, 7), integers(rng, 4, 3, 2, 3, 2)
    want = np.array([[sum(scipy_signal.correlate(x[n, c], w[o, c], "valid", method="direct") for c in range(3))
                      for o in range(4)] for n in range(2)])
    np.testing.assert_array_equal(oracle.conv(x, w), want)


def test_stride_and_dilation_by_hand():
    x = np.arange(10.0)[None]
    got = oracle.conv(x, np.array([[[1.0, 10.0, 100.0]]]), stride=2, dilation=3, padding=1)
    rows = [0, 0 + 10 * 2 + 100 * 5, 1 + 10 * 4 + 100 * 7, 3 + 10 * 6 + 100 * 9]
    assert got.shape == (1, 3)
    np.testing.assert_array_equal(got[0], [0 * 1 + 10 * 2 + 100 * 5, rows[2], rows[3]])


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_loop_nest(nd):
    """Strides, dilations, groups and asymmetric padding at once, against the definition written as scalar loops."""
    rng = np.random.default_rng(5)
    sizes, kernel = (5, 6, 7)[:nd], (2, 3, 2)[:nd]
    stride, dilation, pads = (2, 1, 2)[:nd], (1, 2, 1)[:nd], ((1, 0), (0, 2), (2, 1))[:nd]
    groups, icg, ocg = 2, 3, 2
    x, w = integers(rng, 2, groups * icg, *sizes), integers(rng, groups * ocg, icg, *kernel)
    got = oracle.conv(x, w, stride=stride, dilation=dilation, padding=pads, groups=groups)
    want = np.zeros_like(got)
    for n, o, *out in np.ndindex(*got.shape):
        for c, *tap in np.ndindex(icg, *kernel):
            at = [p * s - b + t * d for p, s, (b, _), t, d in zip(out, stride, pads, tap, dilation)]
            if all(0 <= a < size for a, size in zip(at, sizes)):
                want[(n, o, *out)] += w[(o, c, *tap)] * x[(n, o // ocg * icg + c, *at)]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("h", [7, 8, 9])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2])
def test_same_gives_the_ceiling(h, k, s, d):
    for name in ("same", "same_lower"):
        before, after = oracle.axis_padding(name, h, k, s, d)
        assert (h + before + after - oracle.effective(k, d)) // s + 1 == math.ceil(h / s)
        assert abs(before - after) <= 1 and (before <= after if name == "same" else before >= after)


def test_formats_are_relabelled_axes():
    rng = np.random.default_rng(6)
    x, w = integers(rng, 2, 3, 6, 5), integers(rng, 4, 3, 3, 2)
    want = oracle.conv(x, w, padding=1)
    got = oracle.conv(x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), padding=1, data_format="channels_last",
                      weight_format="HWIO")
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), want)
    np.testing.assert_array_equal(oracle.conv(x[1], w, padding=1), want[1])


def test_epilogue_order():
    rng = np.random.default_rng(7)
    x, w, r = integers(rng, 1, 2, 4, 4), integers(rng, 3, 2, 1, 1), integers(rng, 1, 3, 4, 4)
    scale, bias = np.array([2.0, -1.0, 0.5]), np.array([1.0, 2.0, 3.0])
    linear = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) * scale[:, None, None] + bias[:, None, None]
    np.testing.assert_array_equal(oracle.conv(x, w, bias, scale=scale, residual=r, activation="relu"),
                                  np.maximum(linear + r, 0))
    got = oracle.conv(x, w, bias, scale=scale, residual=r, activation="relu", residual_after=True)
    np.testing.assert_array_equal(got, np.maximum(linear, 0) + r)


def test_padding_is_multiplied():
    """IEEE with explicit zeros: an infinite weight on a padding zero is NaN, on a finite value infinite."""
    w = np.array([[[np.inf, 1.0, 1.0]]])
    got = oracle.conv(np.ones((1, 4)), w, padding=1)[0]
    assert np.isnan(got[0]) and np.isposinf(got[1:]).all()
    w = np.ones((2, 2, 3, 3))
    w[0, 1, 0, 0] = np.nan
    got = oracle.conv(np.zeros((1, 2, 4, 4)), w, padding=1)
    assert np.isnan(got[0, 0]).all() and not got[0, 1].any()


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "silu", "sigmoid", "tanh", "gelu", ("gelu", "tanh"),
                                  "hardswish", "hardsigmoid", "softplus", "mish", ("clip", -1.0, 2.0), ("prelu", [0.3])])
def test_activations_pass_nan_and_known_values(name):
    v = np.array([-20.0, -1.0, 0.0, 1.0, 7.0, np.nan]).reshape(1, 1, 6)
    got = oracle.activate(v, name).ravel()
    assert np.isnan(got[5]) and np.isfinite(got[:5]).all()
    one = {"relu": 1.0, "relu6": 1.0, "leaky_relu": 1.0, "elu": 1.0, "silu": 0.7310585786300049, "sigmoid": 0.7310585786300049,
           "tanh": 0.7615941559557649, "gelu": 0.8413447460685429, "gelu tanh": 0.8411919906082768, "hardswish": 4 / 6,
           "hardsigmoid": 4 / 6, "softplus": 1.3132616875182228, "mish": 0.8650983882673103, "clip": 1.0, "prelu": 1.0}
    key = name if isinstance(name, str) else "gelu tanh" if name[0] == "gelu" else name[0]
    assert got[3] == pytest.approx(one[key], rel=1e-12)
