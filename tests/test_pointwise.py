"""1x1 layers: every way to read pixels and to share them out, at sizes that leave tiles, blocks of terms and of channels incomplete."""

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


def by_every_candidate(x, *arguments, threads=2, algorithm="im2col", **parameters):
    descriptor = nc.plan_conv2d(x.shape, *arguments, **parameters).descriptor
    found = [c[1] for c in _npconv.candidates(descriptor, threads, "exhaustive") if c[0] == algorithm]
    assert len(found) > 2
    for candidate in found:
        force(descriptor, threads, algorithm, candidate)
        plan = nc.plan_conv2d(x.shape, *arguments, num_threads=threads, **parameters)
        assert (plan.algorithm, plan.parameters) == (algorithm, candidate)
        yield plan


# Pixels: less than a vector, than two, than a tile, tiles and a rest, tiles of two sizes, more than a chunk of tiles. Terms: one, not staged,
# staged, not a multiple of four, several blocks. Output channels: fewer than are staged, more than fetch, a block that isn't whole, or whose last
# vector is at most half full (vectors of 8 and of 16 channels).
PIXELS = [(1, 3), (1, 7), (1, 13), (1, 23), (1, 29), (5, 11), (7, 8), (25, 24)]
TERMS = [(1, 9), (24, 40), (64, 9), (67, 35), (131, 53), (300, 43), (600, 21)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, outputs", TERMS)
def test_every_candidate(channels, outputs, dtype):
    rng = np.random.default_rng(channels)
    for (height, width), groups, at_end in itertools.product(PIXELS, (1, 2), (False, True)):
        x = rng.integers(-4, 5, (2, channels * groups, height, width))
        w = rng.integers(-3, 4, (outputs * groups, channels, 1, 1))
        bias = rng.integers(-3, 4, outputs * groups).astype(dtype)
        want = oracle.conv(x, w, bias, groups=groups)
        image, weights = fenced(x, "nchw", dtype, at_end=at_end), fenced(w, "C", dtype, at_end=at_end)
        out = fenced(want, "nchw", dtype, at_end=at_end)
        for plan in by_every_candidate(image, weights, bias, groups=groups):
            out[...] = np.nan
            plan(image, out=out)
            np.testing.assert_array_equal(out, want, err_msg=f"{height}x{width} {groups} {plan.parameters}")


# Behind whole vectors of 4, 8 and 16 pixels one to eight more, which meet vectors of channels; a tile, several, a batch's bands. Terms: few, two
# blocks, three of which the last is short; output channels: one of these vectors, several and parts, more than take a tail together.
TAILS = [(1, 5), (1, 9), (1, 10), (1, 17), (2, 9), (1, 19), (4, 5), (3, 7), (2, 11), (1, 23), (1, 24), (7, 7), (3, 17), (1, 68), (14, 14)]
DEEP = [(3, 4), (3, 16), (5, 150), (100, 44), (257, 37), (512, 141), (530, 268)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, outputs", DEEP)
def test_last_pixels_of_a_row(channels, outputs, dtype):
    rng = np.random.default_rng(channels + outputs)
    for (height, width), kind in itertools.product(TAILS, ("bias", "scale", "residual")):
        x = rng.integers(-4, 5, (1, channels, height, width))
        w = rng.integers(-3, 4, (outputs, channels, 1, 1))
        bias, scale = rng.integers(-3, 4, outputs).astype(dtype), rng.integers(1, 4, outputs).astype(dtype)
        residual = rng.integers(-3, 4, (1, outputs, height, width)).astype(dtype)
        given = {"bias": {}, "scale": {"scale": scale}, "residual": {"residual": residual}}[kind]
        want = oracle.conv(x, w, bias, activation="relu", **given)
        image, weights = fenced(x, "nchw", dtype, at_end=kind != "scale"), fenced(w, "C", dtype, at_end=True)
        out = fenced(want, "nchw", dtype, at_end=kind != "scale")
        planned = {**given, "residual": True} if kind == "residual" else given
        called = {"residual": residual} if kind == "residual" else {}
        for plan in by_every_candidate(image, weights, bias, activation="relu", **planned):
            out[...] = np.nan
            plan(image, out=out, **called)
            np.testing.assert_array_equal(out, want, err_msg=f"{height}x{width} {kind} {plan.parameters}")


# One row of a strip or an image, whose last pixels meet up to 128 channels at once; a residual whose channels aren't dense, gathered for as many.
@pytest.mark.parametrize("channels, outputs, width, kernel", [(256, 150, 24, 5), (256, 5, 37, 3), (65, 131, 18, 4), (16, 128, 17, 1), (33, 275, 22, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_last_pixels_of_one_row(channels, outputs, width, kernel, dtype, order):
    rng = np.random.default_rng(width)
    x, w = rng.integers(-4, 5, (1, channels, 1, width)).astype(dtype), rng.integers(-3, 4, (outputs, channels, 1, kernel)).astype(dtype)
    bias = rng.integers(-3, 4, outputs).astype(dtype)
    residual = rng.integers(-3, 4, (1, outputs, 1, width - kernel + 1)).astype(dtype)
    want = oracle.conv(x, w, bias, residual=residual, activation="relu")
    if order == "NHWC":  # views of planes
        x, want, residual = (np.moveaxis(a, 1, -1) for a in (x, want, residual))
    arguments = {"data_format": order, "weight_format": "OIHW", "activation": "relu", "residual": True, "num_threads": 2}
    descriptor = nc.plan_conv2d(x.shape, w, bias, **arguments).descriptor
    ran = 0
    for algorithm, parameters, _ in _npconv.candidates(descriptor, 2, "exhaustive"):
        if algorithm not in ("im2col", "direct"):
            continue
        force(descriptor, 2, algorithm, parameters)
        plan = nc.plan_conv2d(x.shape, w, bias, **arguments)
        ran += "tile=1" in plan.parameters
        for out in (None, np.full(want.shape, np.nan, dtype), np.moveaxis(np.full(np.moveaxis(want, -1, 1).shape, np.nan, dtype), 1, -1)):
            np.testing.assert_array_equal(plan(x, residual=residual, out=out), want, err_msg=f"{algorithm} {parameters}")
    assert ran


# Pixels: less than a tile, one, two and three whole ones, tiles of two sizes, several runs. Output channels: vectors of one, two and more
# (of 4 to 16 channels), the last of them whole or not. Terms: one block, half a block and some, a block and some.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 5, 80, 131, 300])
def test_every_candidate_channels_last(channels, dtype):
    rng = np.random.default_rng(channels)
    arguments = {"data_format": "NHWC", "weight_format": "OIHW", "activation": "relu"}
    sizes = [(1, 4), (1, 6), (2, 6), (3, 6), (5, 11), (25, 24)]
    for (height, width), outputs, groups in itertools.product(sizes, (8, 16, 20, 24, 27, 40, 48), (1, 2)):
        x = rng.integers(-4, 5, (2, channels * groups, height, width))
        w = rng.integers(-3, 4, (outputs * groups, channels, 1, 1))
        bias = rng.integers(-3, 4, outputs * groups).astype(dtype)
        want = np.moveaxis(oracle.conv(x, w, bias, groups=groups, activation="relu"), 1, -1)
        image, out = (np.moveaxis(fenced(a, "nhwc", dtype, at_end=True), 1, -1) for a in (x, np.moveaxis(want, -1, 1)))
        for plan in by_every_candidate(image, w.astype(dtype), bias, groups=groups, **arguments):
            out[...] = np.nan
            plan(image, out=out)
            np.testing.assert_array_equal(out, want, err_msg=f"{height}x{width} {outputs} {groups} {plan.parameters}")


# Pixels 4 KB apart, of which wide registers meet as many at a time as a set of L1 has lines: tiles of two sizes, several runs; and shorter rows. Output
# channels: a last vector at most half full, behind a whole one of its block or alone, and one more than half full.
@pytest.mark.parametrize("dtype, channels, outputs", [("float32", 1024, 53), ("float32", 1024, 40), ("float64", 512, 43), ("float64", 512, 31)])
def test_pixels_that_share_a_set(dtype, channels, outputs):
    rng = np.random.default_rng(channels)
    for height, width in [(1, 9), (1, 23), (5, 11), (1, 47), (13, 14)]:
        x = rng.integers(-4, 5, (1, channels, height, width))
        w = rng.integers(-3, 4, (outputs, channels, 1, 1))
        want = np.moveaxis(oracle.conv(x, w), 1, -1)
        image, out = (np.moveaxis(fenced(a, "nhwc", dtype, at_end=True), 1, -1) for a in (x, np.moveaxis(want, -1, 1)))
        for plan in by_every_candidate(image, w.astype(dtype), data_format="NHWC", weight_format="OIHW"):
            out[...] = np.nan
            plan(image, out=out)
            np.testing.assert_array_equal(out, want, err_msg=f"{height}x{width} {plan.parameters}")


# The same in rows of strided images: two rows for a tile or not, one, two and more tiles in a row, ends of rows that meet the padding.
@pytest.mark.parametrize("dtype, channels", [("float32", 512), ("float64", 256)])
@pytest.mark.parametrize("width", [4, 5, 6, 7, 8, 13, 14, 15, 28, 29, 31])
@pytest.mark.parametrize("padding", [0, 1])
def test_rows_of_pixels_that_share_a_set(dtype, channels, width, padding):
    rng = np.random.default_rng(width)
    x = rng.integers(-4, 5, (1, channels, 5, 2 * width - 1 - padding))
    w = rng.integers(-3, 4, (40, channels, 1, 1))
    arguments = {"stride": 2, "padding": ((padding, padding), (padding, 0))}
    in_place = 0
    want = np.moveaxis(oracle.conv(x, w, **arguments), 1, -1)
    assert want.shape[2] == width
    image, out = (np.moveaxis(fenced(a, "nhwc", dtype, at_end=True), 1, -1) for a in (x, np.moveaxis(want, -1, 1)))
    for plan in by_every_candidate(image, w.astype(dtype), algorithm="direct", data_format="NHWC", weight_format="OIHW", **arguments):
        in_place += ",split=0" not in plan.parameters
        out[...] = np.nan
        plan(image, out=out)
        np.testing.assert_array_equal(out, want, err_msg=plan.parameters)
    assert in_place


# A call, unlike a plan, reads scale and bias where the caller holds them.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_scale_and_bias_at_the_end_of_a_page(data_format, dtype):
    rng = np.random.default_rng(11)
    for channels, outputs in itertools.product((5, 300), (1, 5, 9, 20, 27, 40)):
        x = rng.integers(-4, 5, (1, channels, 5, 11))
        w = rng.integers(-3, 4, (outputs, channels, 1, 1))
        scale, bias = (fenced(rng.integers(-3, 4, outputs), "C", dtype, at_end=True) for _ in range(2))
        for factors in ({"scale": scale}, {}):
            want, image = oracle.conv(x, w, bias, **factors), x.astype(dtype)
            if data_format == "NHWC":
                want, image = np.moveaxis(want, 1, -1), np.ascontiguousarray(np.moveaxis(image, 1, -1))
            y = nc.conv2d(image, w.astype(dtype), bias, data_format=data_format, weight_format="OIHW", **factors)
            np.testing.assert_array_equal(y, want, err_msg=f"{channels} {outputs}")


@pytest.mark.parametrize("gaps", ["between channels", "backwards"])
def test_channels_that_are_not_dense(gaps):
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, (1, 160, 7, 9)).astype("float32")
    x = x[:, ::2] if gaps == "between channels" else x[:, 159:79:-1]
    w = rng.integers(-3, 4, (37, 80, 1, 1)).astype("float32")
    want = oracle.conv(x, w)
    for plan in by_every_candidate(x, w):
        np.testing.assert_array_equal(plan(x), want, err_msg=plan.parameters)


def by_every_reading_of_weights(x, w, *, threads=2, **parameters):
    """Functional calls by all candidates that do not pack the weights beforehand."""
    descriptor = nc.plan_conv2d(x.shape, w, **parameters).descriptor + "_fresh"
    found = [c[1] for c in _npconv.candidates(descriptor, threads, "exhaustive") if c[0] == "im2col" and c[1].endswith("late=1")]
    assert found
    for candidate in found:
        force(descriptor, threads, "im2col", candidate)
        assert [row["parameters"] for row in _npconv.explain(descriptor, threads) if row["picked"]] == [candidate]
        yield candidate, nc.conv2d(x, w, num_threads=threads, **parameters)


# One term, one behind a full block, several blocks; channels that don't fill a block.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, outputs", [(1, 6), (7, 9), (64, 9), (131, 35), (257, 21), (300, 4), (600, 13)])
def test_weights_of_a_call(channels, outputs, dtype):
    rng = np.random.default_rng(channels)
    for (height, width), groups, at_end in itertools.product(PIXELS, (1, 2), (False, True)):
        x = rng.integers(-4, 5, (2, channels * groups, height, width))
        w = rng.integers(-3, 4, (outputs * groups, channels, 1, 1))
        want = oracle.conv(x, w, groups=groups)
        image, weights = fenced(x, "nchw", dtype, at_end=at_end), fenced(w, "C", dtype, at_end=at_end)
        for candidate, got in by_every_reading_of_weights(image, weights, groups=groups):
            np.testing.assert_array_equal(got, want, err_msg=f"{height}x{width} {groups} {candidate}")


LAYOUTS_OF_WEIGHTS = {
    "gaps between rows": lambda w: np.pad(w, [(0, 0), (0, 5), (0, 0), (0, 0)])[:, :-5],
    "rows backwards": lambda w: w[::-1].copy()[::-1],
    "every other term": lambda w: np.repeat(w, 2, axis=1)[:, ::2],
    "terms backwards": lambda w: w[:, ::-1].copy()[:, ::-1],
    "channels side by side": lambda w: np.asfortranarray(w),
    "one row for all": lambda w: np.broadcast_to(w[:1], w.shape),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS_OF_WEIGHTS)
def test_weights_of_a_call_in_any_layout(layout, groups):
    rng = np.random.default_rng(5)
    x = rng.integers(-4, 5, (1, 101 * groups, 9, 7)).astype("float32")
    w = LAYOUTS_OF_WEIGHTS[layout](rng.integers(-3, 4, (37 * groups, 101, 1, 1)).astype("float32"))
    want = oracle.conv(x, w, groups=groups)
    for candidate, got in by_every_reading_of_weights(x, w, groups=groups):
        np.testing.assert_array_equal(got, want, err_msg=candidate)


def test_weights_of_a_call_with_infinities():
    rng = np.random.default_rng(6)
    x = rng.integers(1, 5, (1, 99, 5, 7)).astype("float32")
    w = rng.integers(-3, 4, (33, 99, 1, 1)).astype("float32")
    w[2, 5], w[8, 98] = np.inf, np.nan
    want = oracle.conv(x, w)
    for candidate, got in by_every_reading_of_weights(x, w):
        np.testing.assert_array_equal(got, want, err_msg=candidate)


def test_epilogue_of_copied_pixels():
    rng = np.random.default_rng(4)
    x = rng.integers(-4, 5, (1, 96, 9, 11)).astype("float32")
    w = rng.integers(-3, 4, (30, 96, 1, 1)).astype("float32")
    r = rng.integers(-9, 9, (1, 30, 9, 11)).astype("float32")
    scale = rng.integers(1, 4, 30).astype("float32")
    want = oracle.conv(x, w, scale=scale, residual=r, activation="relu")
    for plan in by_every_candidate(x, w, scale=scale, residual=True, activation="relu"):
        out = r.copy()
        plan(x, residual=out, out=out)
        np.testing.assert_array_equal(out, want, err_msg=plan.parameters)


# Tiles that follow one another in one call: more than one chunk has of those whose sums wait (12 terms), all with one list, staged.
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels, outputs", [(12, 40), (24, 9), (64, 40)])
@pytest.mark.parametrize("activation", [None, "relu", ("clip", -20, 30), ("leaky_relu", 0.5)])
def test_epilogue_of_several_tiles(channels, outputs, activation, order):
    rng = np.random.default_rng(channels)
    x = rng.integers(-4, 5, (1, channels, 25, 24)).astype("float32")
    x.reshape(channels, -1)[0, [3, 200, 555]] = np.nan
    w = rng.integers(-3, 4, (outputs, channels, 1, 1)).astype("float32")
    bias, scale = (rng.integers(1, 4, outputs).astype("float32") for _ in range(2))
    residual = rng.integers(-9, 9, (1, outputs, 25, 24)).astype("float32")
    arguments = {"activation": activation, "data_format": order, "weight_format": "OIHW"}

    def in_order(a):
        return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if order == "NHWC" else a

    for kinds in ({}, {"scale": scale}, {"residual": residual}):
        want = in_order(oracle.conv(x, w, bias, activation=activation, **kinds))
        planned = {**kinds, "residual": "residual" in kinds}
        call = {"residual": in_order(residual)} if "residual" in kinds else {}
        for plan in by_every_candidate(in_order(x), w, bias, **arguments, **planned):
            np.testing.assert_array_equal(plan(in_order(x), **call), want, err_msg=f"{list(kinds)} {plan.parameters}")


# Rows so long that the first vector is a short one, where that aligns all others.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_that_begin_within_a_vector(dtype):
    rng = np.random.default_rng(7)
    x = rng.integers(-4, 5, (1, 24, 24, 50)).astype(dtype)
    w = rng.integers(-3, 4, (37, 24, 1, 1)).astype(dtype)
    want = oracle.conv(x, w)
    memory = np.full(want.size + 64, np.nan, dtype)
    begin = -memory.ctypes.data % 64 // memory.itemsize + 16 // memory.itemsize
    out = memory[begin : begin + want.size].reshape(want.shape)
    for plan in by_every_candidate(x, w):
        memory[:] = np.nan
        plan(x, out=out)
        np.testing.assert_array_equal(out, want, err_msg=plan.parameters)
        assert np.isnan(memory[:begin]).all() and np.isnan(memory[begin + want.size :]).all()


# Chunks of tiles that differ only in where they lie, with lanes = pixels, are one call where all blocks of channels are whole: one to many of
# them, tiles of two sizes, a last vector that is not whole, a tail, a row that begins within a vector; strips, panels and images.
ALIKE = [48, 95, 96, 97, 100, 144, 160, 196, 240, 300, 341, 480, 616, 1030]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, outputs, kernel", [(4, 8, 1), (32, 16, 1), (40, 24, 1), (90, 4, 1), (144, 24, 1), (3, 16, 3), (20, 8, 3)])
def test_chunks_that_are_alike(channels, outputs, kernel, dtype):
    rng = np.random.default_rng(channels * outputs)
    for width, within in itertools.product(ALIKE, (False, True)):
        x = rng.integers(-4, 5, (1, channels, 1, width)).astype(dtype)
        w = rng.integers(-3, 4, (outputs, channels, 1, kernel)).astype(dtype)
        bias = rng.integers(-3, 4, outputs).astype(dtype)
        padding = (0, kernel // 2)
        want = oracle.conv(x, w, bias, padding=padding, activation="relu")
        memory = np.empty(want.size + 64, dtype)
        begin = -memory.ctypes.data % 64 // memory.itemsize + (3 if within else 0)
        out = memory[begin : begin + want.size].reshape(want.shape)
        descriptor = nc.plan_conv2d(x.shape, w, bias, padding=padding, activation="relu").descriptor
        found = [(threads, *c) for threads in (1, 2) for c in _npconv.candidates(descriptor, threads, "exhaustive")]
        for threads, algorithm, parameters, _ in found:
            if algorithm not in ("im2col", "direct") or "tile=1" not in parameters:
                continue
            force(descriptor, threads, algorithm, parameters)
            plan = nc.plan_conv2d(x.shape, w, bias, padding=padding, activation="relu", num_threads=threads)
            memory[:] = np.nan
            plan(x, out=out)
            np.testing.assert_array_equal(out, want, err_msg=f"{width} {within} {plan.parameters}")
            assert np.isnan(memory[:begin]).all() and np.isnan(memory[begin + want.size :]).all()


# A result that is fetched for writing: of more than 64 terms, larger than four times L2 (of up to 2 MB; elsewhere the same without). Several
# blocks of channels, of which the last isn't whole.
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_result(dtype, order):
    rng = np.random.default_rng(8)
    outputs = 141 if dtype == "float32" else 75
    x = rng.integers(-4, 5, (1, 66, 128, 128)).astype(dtype)
    w = rng.integers(-3, 4, (outputs, 66, 1, 1)).astype(dtype)
    scale, bias = (rng.integers(-3, 4, outputs).astype(dtype) for _ in range(2))
    want = oracle.conv(x, w, bias, scale=scale, activation="relu")
    if order == "NHWC":
        x, want = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, want))
    out = np.empty(want.shape, dtype)
    for plan in by_every_candidate(x, w, bias, scale=scale, activation="relu", data_format=order, weight_format="OIHW"):
        out[...] = np.nan
        plan(x, out=out)
        np.testing.assert_array_equal(out, want, err_msg=plan.parameters)
