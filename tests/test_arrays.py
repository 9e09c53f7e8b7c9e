"""Arrays as NumPy users have them: any strides, read-only, memmaps, foreign byte order, and out= over the inputs."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from algorithms import PROBLEMS, accepted, bits, conv, integers, plan, whole_bits

import npconv as nc

F32 = np.float32
PAIRS = accepted()


def strided(x: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """x in a NaN-filled array where axis i has step steps[i], negative ones reversed."""
    whole = np.full([n * abs(s) for n, s in zip(x.shape, steps)], np.nan, x.dtype)
    view = whole[tuple(slice(None, None, abs(s)) if s > 0 else slice(None, None, -abs(s)) for s in steps)]
    view[...] = x
    return view


def readonly(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    packed = np.zeros(x.shape, dtype=[("tag", "u1"), ("value", x.dtype), ("more", "u1", 2)])
    packed["value"] = x
    assert not packed["value"].flags.aligned
    return packed["value"]


def shifted_bytes(x):
    """Dense, but at an address that is no multiple of the item size."""
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    raw[:] = np.ascontiguousarray(x).view(np.uint8).ravel()
    return np.frombuffer(raw, dtype=x.dtype).reshape(x.shape)


FORMS = {
    "fortran": np.asfortranarray,
    "readonly": readonly,
    "big_endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big_endian_strided": lambda x: strided(x.astype(x.dtype.newbyteorder(">")), (1,) * (x.ndim - 1) + (-2,)),
    "unaligned": unaligned,
    "shifted_bytes": shifted_bytes,
    "negative": lambda x: strided(x, (-1,) * x.ndim),
    "negative_rows": lambda x: strided(x, (1,) * (x.ndim - 1) + (-1,)),
    "negative_channels": lambda x: strided(x, (1, -1) + (1,) * (x.ndim - 2)),
    "steps": lambda x: strided(x, (2, 3) + (1,) * (x.ndim - 3) + (2,)),
    "row_steps": lambda x: strided(x, (1,) * (x.ndim - 2) + (3, 1)),
    "channels_last_memory": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "float64_values": lambda x: x.astype(np.float64),
    "integers": lambda x: x.astype(np.int16),
    "lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_any_form_of_x(algorithm, problem, form):
    x, w, parameters = integers(problem)
    given = FORMS[form](x)
    before = bits(np.asarray(given))
    got = conv(given, w, algorithm=algorithm, dtype=F32, **parameters)
    assert whole_bits(got) == whole_bits(conv(x, w, algorithm=algorithm, **parameters))
    assert bits(np.asarray(given)) == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("problem", ["k3", "k1", "dw3", "image_k17", "line", "volume"])
def test_any_form_of_the_other_arrays(problem, form):
    x, w, parameters = integers(problem)
    rng = np.random.default_rng(1)
    bias, scale = (rng.integers(-4, 5, len(w)).astype(F32) for _ in range(2))
    r = rng.integers(-4, 5, oracle.conv(x, w, **parameters).shape).astype(F32)
    make = FORMS[form]

    def vector(v):  # the forms need two axes
        return np.asarray(make(np.ascontiguousarray(v[None, None, None]).astype(F32)))[0, 0, 0]

    want = conv(x, w, bias, scale=scale, residual=r, algorithm="im2col", **parameters)
    exact = oracle.conv(x, w, bias, scale=scale, residual=r, **parameters)
    np.testing.assert_array_equal(want, exact)
    got = conv(x, make(w), vector(bias), scale=vector(scale), residual=np.asarray(make(r)).astype(F32)
               if form in ("float64_values", "integers", "lists") else make(r), algorithm="im2col", dtype=F32, **parameters)
    assert whole_bits(got) == whole_bits(want)
    planned = plan(x.shape, make(w), vector(bias), dtype=F32, algorithm="im2col", **parameters)
    np.testing.assert_array_equal(planned(x), oracle.conv(x, w, bias, **parameters))


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_zero_strides(algorithm, problem):
    x, w, parameters = integers(problem)
    for axis in range(x.ndim):
        thin = x.take([0], axis=axis)
        flat = np.broadcast_to(thin, x.shape)
        got = conv(flat, w, algorithm=algorithm, **parameters)
        assert whole_bits(got) == whole_bits(conv(flat.copy(), w, algorithm=algorithm, **parameters)), axis
    one = np.broadcast_to(F32(2), w.shape)
    got = conv(x, one, algorithm=algorithm, **parameters)
    assert whole_bits(got) == whole_bits(conv(x, one.copy(), algorithm=algorithm, **parameters))


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_overlapping_views(algorithm, problem):
    """A sliding window over a line: neighbouring rows, planes and images share their elements."""
    x, w, parameters = integers(problem)
    line = np.random.default_rng(2).integers(-4, 5, 3 * sum(x.shape)).astype(F32)
    strides = [4 * s for s in (3, 1, 2, 1, 1)[:x.ndim]]
    view = np.lib.stride_tricks.as_strided(line, x.shape, strides, writeable=False)
    got = conv(view, w, algorithm=algorithm, **parameters)
    assert whole_bits(got) == whole_bits(conv(view.copy(), w, algorithm=algorithm, **parameters))


def test_memmaps(tmp_path):
    x, w, parameters = integers("k3")
    files = {}
    for name, array in (("x", x), ("w", w)):
        array.tofile(tmp_path / name)
        files[name] = np.memmap(tmp_path / name, dtype=F32, mode="r", shape=array.shape)
    want = oracle.conv(x, w, **parameters)
    np.testing.assert_array_equal(conv(files["x"], files["w"], algorithm="im2col", **parameters), want)
    out = np.memmap(tmp_path / "y", dtype=F32, mode="w+", shape=want.shape)
    assert conv(files["x"], files["w"], algorithm="im2col", out=out, **parameters) is out
    out.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "y", F32).reshape(want.shape), want)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("form", ["fortran", "negative", "steps", "row_steps", "channels_last_memory", "unaligned", "views"])
def test_any_form_of_out(problem, form):
    x, w, parameters = integers(problem)
    want = conv(x, w, **parameters)
    blank = np.full_like(want, 7)
    out = blank if form == "views" else FORMS[form](blank)
    out = out[...] if form == "views" else out
    assert conv(x, w, out=out, **parameters) is out
    assert whole_bits(out) == whole_bits(want)
    planned = plan(x.shape, w, **parameters)
    want = planned(x)
    out[...] = 3
    assert planned(x, out=out) is out and whole_bits(out) == whole_bits(want)


@pytest.mark.parametrize("algorithm", [a for a, p in PAIRS if p == "k3"])
def test_out_over_x(algorithm):
    rng = np.random.default_rng(3)
    for offset in (0, 1, 37, -5):
        memory = rng.integers(-4, 5, 2 * 16 * 12 * 12 + 100).astype(F32)
        x = memory[50:50 + 2 * 16 * 144].reshape(2, 16, 12, 12)
        w = rng.integers(-3, 4, (16, 16, 3, 3)).astype(F32)
        want = bits(conv(x.copy(), w, padding=1, algorithm=algorithm))
        out = memory[50 + offset:50 + offset + 2 * 16 * 144].reshape(2, 16, 12, 12)
        conv(x, w, padding=1, algorithm=algorithm, out=out)
        assert bits(out) == want, offset


def test_depthwise_with_far_rows_in_two_columns_of_tasks():
    """The last, narrow task keeps more rows than the wide ones, for which they are too long."""
    rng = np.random.default_rng(4)
    x, w = rng.integers(-4, 5, (1, 420, 84, 60)).astype(F32), rng.integers(-3, 4, (60, 1, 3, 3)).astype(F32)
    arguments = {"padding": (0, 1), "dilation": (200, 1), "groups": 60, "data_format": "channels_last"}
    want = nc.conv2d(x, w, algorithm="im2col", **arguments)
    np.testing.assert_array_equal(nc.conv2d(x, w, algorithm="depthwise", **arguments), want)


@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (1, 16, 9, 9), (2, 40, 40, 40)])
def test_outputs_begin_on_a_cache_line(shape):
    """NumPy's own arrays don't, which costs some kernels half their speed."""
    x, w = np.ones(shape, F32), np.ones((8, shape[1], 1, 1), F32)
    for dtype in (F32, np.float64):
        for y in (nc.conv2d(x, w, dtype=dtype), nc.plan_conv2d(x.shape, w, dtype=dtype)(x)):
            assert y.ctypes.data % 64 == 0
            assert y.flags.c_contiguous and y.flags.writeable and y.dtype == dtype


def test_out_over_the_other_inputs():
    rng = np.random.default_rng(4)
    x = rng.integers(-4, 5, (1, 5, 5, 5)).astype(F32)
    w = rng.integers(-3, 4, (5, 5, 1, 5)).astype(F32)
    want = oracle.conv(x, w, padding=(0, 2))
    memory = w.copy()
    got = nc.conv2d(x, memory, padding=(0, 2), out=memory.reshape(1, 5, 5, 5), algorithm="im2col")
    np.testing.assert_array_equal(got, want)
    line = np.arange(25, dtype=F32)
    kernel = np.ones((5, 1, 1, 1), F32)
    image = np.ones((1, 1, 1, 5), F32)
    exact = oracle.conv(image, kernel, line[:5])
    np.testing.assert_array_equal(nc.conv2d(image, kernel, line[:5], out=line.reshape(1, 5, 1, 5)), exact)
    line = np.arange(25, dtype=F32)
    exact = oracle.conv(image, kernel, scale=line[20:])
    np.testing.assert_array_equal(nc.conv2d(image, kernel, scale=line[20:], out=line.reshape(1, 5, 1, 5)), exact)


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_out_over_the_residual(algorithm, problem):
    """The very array is added in place; any other overlap goes through a temporary."""
    x, w, parameters = integers(problem)
    shape = oracle.conv(x, w, **parameters).shape
    size = int(np.prod(shape))
    memory = np.random.default_rng(5).integers(-4, 5, size + 20).astype(F32)
    for offset in (0, 1, -1, 9):
        mine = memory.copy()
        r = mine[10:10 + size].reshape(shape)
        out = mine[10 + offset:10 + offset + size].reshape(shape)
        want = bits(conv(x, w, residual=r.copy(), activation="relu", algorithm=algorithm, **parameters))
        conv(x, w, residual=r, activation="relu", out=out, algorithm=algorithm, **parameters)
        assert bits(out) == want, offset
    mine = memory.copy()
    r = mine[10:10 + size].reshape(shape)
    backwards = r[tuple(slice(None, None, -1) for _ in shape)]
    want = bits(conv(x, w, residual=r.copy(), algorithm=algorithm, **parameters))
    conv(x, w, residual=r, out=backwards, algorithm=algorithm, **parameters)
    assert bits(backwards) == want


def test_inputs_are_never_written():
    for algorithm, problem in PAIRS:
        x, w, parameters = integers(problem)
        bias = np.ones(len(w), F32)
        before = [bits(a) for a in (x, w, bias)]
        conv(x, w, bias, algorithm=algorithm, **parameters)
        assert [bits(a) for a in (x, w, bias)] == before, (algorithm, problem)


def test_arrays_are_released():
    """No reference to x, weight or out survives the call."""
    import sys

    x, w = np.ones((1, 2, 6, 6), F32), np.ones((3, 2, 3, 3), F32)
    out = np.empty((1, 3, 4, 4), F32)
    nc.conv2d(x, w, out=out)
    counts = [sys.getrefcount(a) for a in (x, w, out)]
    for _ in range(10):
        nc.conv2d(x, w, out=out)
        with pytest.raises(ValueError):
            nc.conv2d(x, w, np.ones(7, F32), out=out)
    assert [sys.getrefcount(a) for a in (x, w, out)] == counts


@pytest.mark.parametrize("shared", ["weight", "bias", "scale"])
@pytest.mark.parametrize("algorithm", ["im2col", "direct"])
def test_out_may_overlap_what_belongs_to_channels(shared, algorithm):
    rng = np.random.default_rng(3)
    memory = np.zeros(96 * 25, np.float32)  # the output's; in it lies what is read for the last channels when those of the first are written
    given = {"weight": (96, 8, 1, 1), "bias": (96,), "scale": (96,)}
    arrays = {name: rng.integers(-3, 4, shape).astype(np.float32) for name, shape in given.items()}
    x = rng.integers(-4, 5, (1, 8, 5, 5)).astype(np.float32)
    want = nc.conv2d(x, **arrays)
    place = memory[: arrays[shared].size].reshape(given[shared])
    place[...] = arrays[shared]
    out = memory.reshape(want.shape)
    assert nc.conv2d(x, **{**arrays, shared: place}, algorithm=algorithm, out=out, num_threads=1) is out
    np.testing.assert_array_equal(out, want)
