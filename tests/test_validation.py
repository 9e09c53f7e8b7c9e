"""What is accepted, what is refused, and that a refusal says what, got and expected."""

from __future__ import annotations

import math
import sys

import numpy as np
import oracle
import pytest

import npconv as nc
from npconv import _npconv

CONV = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
F32 = np.float32


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype=dtype)


X, W = ones(1, 6, 8, 9), ones(4, 6, 3, 3)
# What arguments mean doesn't depend on the algorithm; the matrix goes through those.
PLAIN = {"algorithm": "reference"}


def refuses(kind, function, *parts, name=None, **keywords):
    """Calls and checks the message: the function's name in front, then every part somewhere."""
    with pytest.raises(kind) as caught:
        function(**keywords) if not isinstance(function, tuple) else function[0](*function[1:], **keywords)
    text = str(caught.value)
    if name:
        assert text.startswith(name + ":"), text
    for part in parts:
        assert str(part) in text, f"{part!r} is missing in: {text}"
    return text


def conv2d(x=X, weight=W, *parts, kind=ValueError, **keywords):
    return refuses(kind, (nc.conv2d, x, weight), *parts, name="conv2d", **keywords)


# ---------------------------------------------------------------- values and shapes


@pytest.mark.parametrize("argument", ["stride", "dilation"])
@pytest.mark.parametrize("value", [0, -1, (1, 0), (-2, 1), np.int64(0)])
def test_steps_are_positive(argument, value):
    bad = min(np.ravel(value))
    conv2d(X, W, argument, bad, **{argument: value})


@pytest.mark.parametrize("value", [-1, (-1, 0), (2, -3)])
def test_flat_padding_is_not_negative(value):
    conv2d(X, W, "padding", min(np.ravel(value)), padding=value)


@pytest.mark.parametrize("argument", ["stride", "dilation", "padding"])
@pytest.mark.parametrize("value", [(), (1, 1, 1), (1, 1, 1, 1)])
def test_sequences_have_one_entry_or_one_per_axis(argument, value):
    conv2d(X, W, argument, "2", **{argument: value})


@pytest.mark.parametrize("value", [(1, 2), [1, 2]])
def test_a_pair_is_ambiguous_in_one_dimension(value):
    text = refuses(ValueError, (nc.conv1d, ones(1, 1, 5), ones(1, 1, 3)), "padding", name="conv1d", padding=value)
    assert "1" in text and "2" in text


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_kernel_larger_than_padded_input(nd):
    x, w = ones(1, 1, *(9,) * (nd - 1), 4), ones(1, 1, *(1,) * (nd - 1), 3)
    text = refuses(ValueError, (CONV[nd], x, w), "kernel", name=f"conv{nd}d", dilation=3, padding=(*(0,) * (nd - 1), 1))
    assert "7" in text and "6" in text, text  # 3*(3-1)+1 against 4+2


def test_channel_mismatch_shows_both_shapes_and_groups():
    text = conv2d(ones(1, 32, 56, 56), ones(64, 64, 3, 3), "weight", "64", "32", "(1, 32, 56, 56)", "(64, 64, 3, 3)", "groups")
    assert "input channels" in text
    conv2d(ones(1, 32, 9, 9), ones(64, 32, 3, 3), "groups", "32", "16", groups=2)


@pytest.mark.parametrize("groups", [0, -1])
def test_groups_are_positive(groups):
    conv2d(X, W, "groups", groups, groups=groups)


def test_groups_divide_the_channels():
    conv2d(ones(1, 6, 8, 8), ones(4, 1, 3, 3), "groups", "4", "6", groups=4)  # inputs
    conv2d(ones(1, 6, 8, 8), ones(4, 2, 3, 3), "groups", "3", "4", groups=3)  # outputs


@pytest.mark.parametrize("argument", ["bias", "scale"])
@pytest.mark.parametrize("shape", [(), (3,), (5,), (4, 1), (1, 4), (0,)])
def test_channel_vectors_have_one_value_per_output_channel(argument, shape):
    conv2d(X, W, argument, "4", shape, **{argument: ones(*shape)})


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_ranks(nd):
    conv, name = CONV[nd], f"conv{nd}d"
    w = ones(4, 6, *(3,) * nd)
    for rank in {0, 1, nd, nd + 3} - {nd + 1, nd + 2}:
        refuses(ValueError, (conv, ones(*(6,) * rank), w), "x", nd + 1, nd + 2, name=name)
    for rank in (0, 1, nd + 1, nd + 3):
        refuses(ValueError, (conv, ones(1, 6, *(8,) * nd), ones(*(6,) * rank)), "weight", nd + 2, name=name)


def test_two_matrices_are_pointed_to_correlate():
    conv2d(ones(8, 8), ones(3, 3), "nc.correlate")


@pytest.mark.parametrize("axis", [0, 1])
def test_kernel_axes_are_not_empty(axis):
    kernel = [3, 3]
    kernel[axis] = 0
    conv2d(X, ones(4, 6, *kernel), "weight", "0", (4, 6, *kernel))


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
def test_nothing_to_repeat_on_an_empty_axis(mode):
    conv2d(ones(1, 6, 0, 9), W, "padding_mode", mode, padding=2, padding_mode=mode)


@pytest.mark.parametrize(("mode", "most"), [("reflect", 7), ("symmetric", 8), ("circular", 8)])
def test_padding_is_limited_by_the_image(mode, most):
    x, w = np.arange(8.0).reshape(1, 1, 8), ones(1, 1, 2, dtype=float)
    got = nc.conv1d(x, w, padding=most, padding_mode=mode, **PLAIN)
    np.testing.assert_array_equal(got, oracle.conv(x, w, padding=most, padding_mode=mode))
    refuses(ValueError, (nc.conv1d, x, w), "padding", mode, most + 1, "8", name="conv1d", padding=((0, most + 1),),
            padding_mode=mode)


# ---------------------------------------------------------------- types of parameters


@pytest.mark.parametrize("argument", ["stride", "dilation", "padding", "groups"])
@pytest.mark.parametrize("value", [1.0, 1.5, True, np.float32(1), np.bool_(True), None, (1, 1.0), (True, 1), 1j, b"1"])
def test_integers_are_integers(argument, value):
    conv2d(X, W, argument, kind=TypeError, **{argument: value})


@pytest.mark.parametrize("argument", ["stride", "dilation", "groups"])
def test_steps_are_not_texts(argument):
    conv2d(X, W, argument, kind=TypeError, **{argument: "same"})


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_numpy_integers_are_integers(kind):
    got = nc.conv2d(X, W, stride=kind(2), padding=(kind(1), kind(1)), dilation=np.array([1, 2], dtype=kind), groups=kind(1))
    want = oracle.conv(X, W, stride=2, padding=1, dilation=(1, 2))
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("argument", "value", "accepted"), [
    ("padding", "smae", ["valid", "same", "same_upper", "same_lower", "full", "causal"]),
    ("padding", ("same", "half"), ["valid", "same", "full", "causal"]),
    ("padding_mode", "zero", ["zeros", "constant", "reflect", "symmetric", "replicate", "circular"]),
    ("padding_mode", ("reflect", "mirror"), ["zeros", "reflect", "circular"]),
    ("algorithm", "fastest", ["auto", *_npconv.algorithms()]),
    ("accuracy", "exact", ["strict", "standard", "fast"]),
    ("data_format", "NWHC", ["channels_first", "channels_last"]),
    ("activation", "rellu", ["relu", "relu6", "leaky_relu", "clip", "silu", "sigmoid", "tanh", "hardswish", "gelu"]),
    ("activation", ("gelu", "erf"), ["none", "tanh"]),
])
def test_unknown_names_list_the_known(argument, value, accepted):
    bad = value if isinstance(value, str) else value[1]
    conv2d(X, W, argument, bad, *accepted, **{argument: value})


@pytest.mark.parametrize("value", ["OIW", "OIHWD", "OIHH", "NCHW", ""])
def test_weight_formats_fit_the_rank(value):
    conv2d(X, W, "weight_format", value, weight_format=value)


@pytest.mark.parametrize("argument", ["padding_mode", "algorithm", "accuracy", "data_format", "weight_format", "activation"])
def test_names_are_texts(argument):
    for value in (3, b"x") if argument != "activation" else (3, b"x", (), (1.0,)):
        conv2d(X, W, argument, kind=TypeError, **{argument: value})


@pytest.mark.parametrize("value", [("clip",), ("clip", 0.0), ("clip", 0.0, 1.0, 2.0), ("relu", 1.0), ("leaky_relu", 0.1, 0.2)])
def test_activations_have_their_number_of_parameters(value):
    conv2d(X, W, "activation", activation=value)


def test_the_lower_limit_is_below_the_upper():
    conv2d(X, W, "activation", "2", "1", activation=("clip", 2.0, 1.0))


@pytest.mark.parametrize("algorithm", ["winograd", "fft", "depthwise"])
def test_a_forced_algorithm_says_why_it_cannot(algorithm):
    """None of them takes a dilated 3x3 over mixed channels; no other algorithm may step in silently."""
    arguments = {"dilation": 2, "padding": 2}
    row = next(r for r in nc.explain(X, W, **arguments) if r["algorithm"] == algorithm)
    assert row["refusal"]
    conv2d(X, W, "algorithm", algorithm, row["refusal"], algorithm=algorithm, **arguments)


# ---------------------------------------------------------------- arrays and their types


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.int64, np.uint8, np.float16, np.longdouble, np.complex64,
                                   np.complex128, object, "U3", "S2", "M8[s]"])
def test_other_dtypes_are_named(dtype):
    x, w = np.zeros(X.shape, dtype=dtype), np.zeros(W.shape, dtype=dtype)
    conv2d(x, w, "float32", "float64", kind=TypeError)


@pytest.mark.parametrize(("x", "w", "result"), [
    ("f4", "f4", "f4"), ("f8", "f8", "f8"), ("f4", "f8", "f8"), ("f8", "f4", "f8"), ("i4", "f4", "f8"), ("i2", "f4", "f4"),
    ("f4", "u1", "f4"), ("i8", "f4", "f8"), ("f2", "f4", "f4"), (">f4", "f4", "f4"), ("f4", ">f8", "f8"),
])
def test_dtypes_promote_as_in_numpy(x, w, result):
    rng = np.random.default_rng(0)
    image, kernel = rng.integers(0, 5, X.shape).astype(x), rng.integers(0, 5, W.shape).astype(w)
    got = nc.conv2d(image, kernel, padding=1, **PLAIN)
    assert got.dtype == np.dtype(result) and got.dtype.isnative
    np.testing.assert_array_equal(got, oracle.conv(image, kernel, padding=1))


def test_bias_takes_part_in_promotion():
    assert nc.conv2d(X, W, ones(4, dtype=np.float64)).dtype == np.float64


def test_dtype_is_the_results():
    got = nc.conv2d(X.astype(np.float64), W.astype(np.float64), dtype=np.float32)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, oracle.conv(X, W))
    assert nc.conv2d(X, W, dtype="float64").dtype == np.float64
    for bad in (np.int32, np.float16, complex, bool):
        conv2d(X, W, "dtype", "float32", "float64", kind=TypeError, dtype=bad)


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "residual"])
def test_masks_are_not_ignored(argument):
    arrays = {"x": X, "weight": W, "bias": ones(4), "residual": ones(1, 4, 6, 7)}
    arrays[argument] = np.ma.masked_array(arrays[argument], mask=False)
    conv2d(arrays.pop("x"), arrays.pop("weight"), argument, "mask", kind=TypeError, **arrays)


def test_sums_in_another_type_have_no_kernel():
    """A valid request, so it is neither a TypeError nor served in silence with less."""
    conv2d(X, W, "acc_dtype", "float64", kind=NotImplementedError, acc_dtype=np.float64)
    np.testing.assert_array_equal(nc.conv2d(X, W, acc_dtype=np.float32), nc.conv2d(X, W))


def test_lists_are_arrays():
    got = nc.conv1d([[1, 2, 3.0]], [[[1, 1.0]]])
    assert got.tolist() == [[3, 5]] and got.dtype == np.float64


def test_subclasses_are_not_preserved():
    class Mine(np.ndarray):
        pass

    assert type(nc.conv2d(X.view(Mine), W)) is np.ndarray


# ---------------------------------------------------------------- out and residual


def test_out_has_the_exact_shape():
    for shape in [(1, 4, 6, 8), (4, 6, 7), (2, 4, 6, 7), (1, 4, 42)]:
        conv2d(X, W, "out", shape, (1, 4, 6, 7), out=np.empty(shape, F32))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_out_has_the_exact_dtype(dtype):
    conv2d(X, W, "out", "float32", kind=TypeError, out=np.empty((1, 4, 6, 7), dtype))


@pytest.mark.parametrize("value", [1, "y", [[0.0]], (1, 4, 6, 7)])
def test_out_is_an_array(value):
    conv2d(X, W, "out", kind=TypeError, out=value)


def test_out_is_writable():
    out = np.empty((1, 4, 6, 7), F32)
    out.flags.writeable = False
    conv2d(X, W, "out", "read-only", out=out)


def test_out_does_not_overlap_itself():
    out = np.lib.stride_tricks.as_strided(np.zeros(100, F32), (1, 4, 6, 7), (4, 4, 4, 4))
    conv2d(X, W, "out", "share memory", out=out)
    conv2d(X, W, "out", out=np.broadcast_to(np.zeros(1, F32), (1, 4, 6, 7)))


def test_a_failed_call_leaves_out_alone():
    out = np.full((1, 4, 6, 7), 5, F32)
    conv2d(X, W, "bias", out=out, bias=ones(3))
    assert (out == 5).all()


def test_residual_has_the_results_shape():
    for shape in [(1, 4, 6, 8), (4, 6, 7), (4,), (1, 4, 1, 1)]:
        conv2d(X, W, "residual", shape, (1, 4, 6, 7), residual=ones(*shape))


@pytest.mark.parametrize("value", [0, -1])
def test_at_least_one_thread(value):
    conv2d(X, W, "num_threads", value, num_threads=value)
    with pytest.raises(ValueError, match=str(value)):
        nc.set_num_threads(value)


@pytest.mark.parametrize("value", [1.0, "2", True])
def test_threads_are_counted_in_integers(value):
    conv2d(X, W, "num_threads", kind=TypeError, num_threads=value)


def test_workspace_limit_is_not_negative():
    conv2d(X, W, "workspace_limit", "-1", workspace_limit=-1)


# ---------------------------------------------------------------- accepted forms


@pytest.mark.parametrize(("nd", "given", "pairs"), [
    (1, 2, [(2, 2)]), (1, (2,), [(2, 2)]), (1, [2], [(2, 2)]), (1, ((1, 2),), [(1, 2)]), (1, ((-1, 0),), [(-1, 0)]),
    (2, 1, [(1, 1)] * 2), (2, (1,), [(1, 1)] * 2), (2, (1, 2), [(1, 1), (2, 2)]), (2, np.array([1, 2]), [(1, 1), (2, 2)]),
    (2, ((1, 2), (0, 3)), [(1, 2), (0, 3)]), (2, ((-1, 1), (2, -2)), [(-1, 1), (2, -2)]),
    (2, np.array([[1, 2], [0, 3]]), [(1, 2), (0, 3)]), (2, [[1, 2], [0, 3]], [(1, 2), (0, 3)]),
    (2, ("causal", 1), [(2, 0), (1, 1)]), (2, ("same", (0, 3)), [(1, 1), (0, 3)]), (2, ("full", "valid"), [(2, 2), (0, 0)]),
    (2, "valid", [(0, 0)] * 2), (2, "full", [(2, 2)] * 2), (1, "causal", [(2, 0)]), (3, "same", [(1, 1)] * 3),
    (3, (0, 1, 2), [(0, 0), (1, 1), (2, 2)]), (3, ((0, 1), 2, "full"), [(0, 1), (2, 2), (2, 2)]),
])
def test_padding_forms(nd, given, pairs):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, (1, 2, *(5, 6, 7)[:nd])).astype(F32), rng.integers(-3, 4, (3, 2, *(3,) * nd)).astype(F32)
    want = oracle.conv(x, w, padding=pairs)
    np.testing.assert_array_equal(CONV[nd](x, w, padding=given, **PLAIN), want)


@pytest.mark.parametrize("h", [7, 8, 9])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_same_splits_as_documented(h, k):
    rng = np.random.default_rng(h * k)
    x, w = rng.integers(-9, 10, (1, 1, h)).astype(float), rng.integers(-9, 10, (1, 1, k)).astype(float)
    for s in (1, 2, 3):
        for d in (1, 2):
            for name in ("same", "same_upper", "same_lower"):
                got = nc.conv1d(x, w, stride=s, dilation=d, padding=name, **PLAIN)
                assert got.shape[2] == math.ceil(h / s)
                np.testing.assert_array_equal(got, oracle.conv(x, w, stride=s, dilation=d, padding=name))


@pytest.mark.parametrize("mode", [*oracle.MODES, ("reflect", "wrap"), ("zeros", "edge"), ["symmetric", "constant"]])
@pytest.mark.parametrize("padding", [2, "same", "full", ((1, 2), (2, 0))])
def test_padding_modes_apply_to_every_form(mode, padding):
    rng = np.random.default_rng(1)
    x, w = rng.integers(-4, 5, (2, 2, 5, 6)).astype(F32), rng.integers(-3, 4, (3, 2, 3, 3)).astype(F32)
    arguments = {"padding": padding, "padding_mode": mode}
    np.testing.assert_array_equal(nc.conv2d(x, w, **PLAIN, **arguments), oracle.conv(x, w, **arguments))


@pytest.mark.parametrize("value", [0, 2.5, -1, np.float32(3), np.int64(4)])
def test_padding_value(value):
    rng = np.random.default_rng(2)
    x, w = rng.integers(-4, 5, (1, 3, 5, 6)).astype(F32), rng.integers(-3, 4, (4, 3, 3, 3)).astype(F32)
    arguments = {"padding": 2, "padding_mode": "constant", "padding_value": value}
    np.testing.assert_array_equal(nc.conv2d(x, w, **PLAIN, **arguments), oracle.conv(x, w, **arguments))


def test_padding_value_is_a_number():
    conv2d(X, W, "padding_value", kind=TypeError, padding=1, padding_value="0")


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_unbatched_in_unbatched_out(nd):
    x, w = ones(6, *(5,) * nd), ones(4, 6, *(3,) * nd)
    assert CONV[nd](x, w).shape == (4, *(3,) * nd)
    x = ones(*(5,) * nd, 6)
    assert CONV[nd](x, w, data_format="channels_last").shape == (*(3,) * nd, 4)


@pytest.mark.parametrize(("nd", "letters"), [(1, "OIW"), (1, "WIO"), (2, "HWIO"), (2, "OHWI"), (2, "IOHW"), (3, "DHWIO")])
def test_weight_formats(nd, letters):
    rng = np.random.default_rng(3)
    x, w = rng.integers(-4, 5, (2, 4, *(5, 6, 7)[:nd])).astype(F32), rng.integers(-3, 4, (3, 4, *(2, 3, 1)[:nd])).astype(F32)
    standard = "OI" + oracle.SPATIAL_LETTERS[nd]
    moved = w.transpose([standard.index(c) for c in letters])
    np.testing.assert_array_equal(CONV[nd](x, moved, weight_format=letters, **PLAIN), oracle.conv(x, w))
    np.testing.assert_array_equal(CONV[nd](x, moved.copy(), weight_format=letters, **PLAIN), oracle.conv(x, w))


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("padding", ["same", "same_lower", "full", 1])
def test_flip_is_true_convolution(kernel, padding):
    rng = np.random.default_rng(4)
    x, w = rng.integers(-4, 5, (1, 1, 9)).astype(float), rng.integers(-3, 4, (1, 1, kernel)).astype(float)
    got = nc.conv1d(x, w, padding=padding, flip=True, **PLAIN)
    np.testing.assert_array_equal(got, oracle.conv(x, w[..., ::-1], padding=padding))
    if padding == "full":
        np.testing.assert_array_equal(got[0, 0], np.convolve(x[0, 0], w[0, 0]))


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_channel_multiplier_order(multiplier):
    """Output channel c*M + m reads input channel c."""
    x = np.arange(1.0, 6).reshape(1, 5, 1, 1)
    w = 10.0 ** np.arange(multiplier)
    got = nc.conv2d(x, np.tile(w, 5).reshape(-1, 1, 1, 1), groups=5)
    np.testing.assert_array_equal(got.ravel(), (np.arange(1.0, 6)[:, None] * w).ravel())


# ---------------------------------------------------------------- nothing there


@pytest.mark.parametrize(("x", "w", "padding", "shape"), [
    ((0, 3, 8, 8), (5, 3, 3, 3), 1, (0, 5, 8, 8)),
    ((2, 3, 8, 8), (0, 3, 3, 3), 1, (2, 0, 8, 8)),
    ((2, 0, 8, 8), (5, 0, 3, 3), 0, (2, 5, 6, 6)),
    ((1, 3, 0, 5), (5, 3, 3, 3), 2, (1, 5, 2, 7)),
    ((1, 3, 4, 5), (5, 3, 3, 3), ((-4, 3), (1, 1)), (1, 5, 1, 5)),
])
def test_zero_sizes(x, w, padding, shape):
    rng = np.random.default_rng(5)
    x, w = rng.integers(-4, 5, x).astype(F32), rng.integers(-3, 4, w).astype(F32)
    bias = np.arange(1, 1 + len(w), dtype=F32)
    for arguments in ({}, {"bias": bias}, {"bias": -bias, "activation": "relu"}, {"scale": bias, "bias": bias}):
        got = nc.conv2d(x, w, padding=padding, **arguments)  # auto: most algorithms refuse to compute nothing
        assert got.shape == shape
        np.testing.assert_array_equal(got, oracle.conv(x, w, padding=padding, **arguments))
        plan = nc.plan_conv2d(x.shape, w, padding=padding, **arguments)
        np.testing.assert_array_equal(plan(x), got)


def test_groups_without_channels():
    got = nc.conv2d(np.zeros((1, 0, 4, 4), F32), np.zeros((6, 0, 3, 3), F32), groups=3)
    assert got.shape == (1, 6, 2, 2) and not got.any()


# ---------------------------------------------------------------- absurd and very large sizes


@pytest.mark.parametrize("arguments", [
    {"padding": 2**40}, {"padding": 2**61}, {"padding": 2**62}, {"padding": 2**63 - 1}, {"padding": 2**63},
    {"padding": 2**70}, {"padding": ((2**62, 2**62), (0, 0))}, {"padding": ((-(2**63), 0), (0, 0))},
    {"padding": ((-(2**62), -(2**62)), (0, 0))}, {"dilation": 2**62}, {"dilation": 2**63}, {"stride": 2**63},
    {"stride": -(2**63)}, {"padding": "full", "dilation": 2**61}, {"padding": "same", "dilation": 2**62},
    {"groups": 2**62}, {"groups": 2**64}, {"padding": 2**31},
], ids=str)
def test_absurd_sizes_are_errors(arguments):
    """In 64 bits, before anything is allocated: never a crash, never a wrapped size."""
    with pytest.raises((ValueError, MemoryError)) as caught:
        nc.conv2d(X, W, **arguments)
    if caught.type is ValueError:
        assert str(caught.value).startswith("conv2d: ")


def test_output_over_the_address_space_is_a_value_error():
    text = conv2d(ones(1, 1, 1, 1), ones(1, 1, 1, 1), padding=2**40)
    assert str(2**41 + 1) in text or "large" in text


def test_images_that_do_not_fit_in_memory():
    """Zero strides make an image of 2^50 bytes, or of 2^60; the output would be as large."""
    with pytest.raises(MemoryError):
        nc.conv2d(np.broadcast_to(F32(1), (1, 1, 2**24, 2**24)), ones(1, 1, 1, 1))
    with pytest.raises((MemoryError, ValueError)):
        nc.conv2d(np.broadcast_to(F32(1), (1, 1, 2**29, 2**29)), ones(1, 1, 1, 1))


def test_very_large_steps_reach_nothing():
    got = nc.conv2d(X, W, stride=2**62)
    assert got.shape == (1, 4, 1, 1) and (got == 54).all()
    got = nc.conv2d(X, ones(4, 6, 1, 1), dilation=2**62)
    np.testing.assert_array_equal(got, np.full((1, 4, 8, 9), 6))
    got = nc.conv2d(X, W, padding=2**16, dilation=2**16)  # nothing but the middle tap meets the image
    np.testing.assert_array_equal(got, np.full((1, 4, 8, 9), 6))


def _algorithms(*arguments, **keywords):
    return ["auto", *(r["algorithm"] for r in nc.explain(*arguments, **keywords) if r["refusal"] is None)]


@pytest.mark.parametrize("exponent", [8, 20, 28, 29])
def test_very_large_dilations_within_the_padding(exponent):
    """Whatever the offsets of the outer taps are, they meet padding."""
    rng = np.random.default_rng(3)
    x, w = rng.integers(-4, 5, (1, 64, 14, 14)).astype(np.float32), rng.integers(-3, 4, (64, 64, 3, 3)).astype(np.float32)
    got = nc.conv2d(x, w, padding=(2**exponent, 1), dilation=(2**exponent, 1))
    np.testing.assert_array_equal(got, nc.conv2d(x, w[:, :, 1:2], padding=(0, 1), algorithm="reference"))


def test_more_than_2_to_the_31_elements_by_zero_strides():
    x = np.broadcast_to(np.arange(1, 65537, dtype=F32), (1, 2, 65536, 65536))
    w = np.arange(1, 9, dtype=F32).reshape(1, 2, 2, 2)
    rows = np.arange(0, 65535, 8191)
    want = np.broadcast_to(np.array([16.0 * (c + 1) + 20.0 * (c + 2) for c in rows]), (1, 1, 9, 9)).astype(F32)
    for algorithm in _algorithms(x, w, stride=8191):
        np.testing.assert_array_equal(nc.conv2d(x, w, stride=8191, algorithm=algorithm), want, err_msg=algorithm)


@pytest.fixture(scope="module")
def sparse_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sparse") / "image.bin"
    path.touch()
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files")
def test_a_plane_of_more_than_2_to_the_31_elements(sparse_file):
    x = np.memmap(sparse_file, dtype=F32, mode="w+", shape=(1, 1, 48000, 50000))
    x[0, 0, [0, 23999, 47998]] = 1
    x[0, 0, 47998, [0, 24998, 49996]] = [5, 6, 7]
    x.flags.writeable = False
    w = np.zeros((1, 1, 3, 3), F32)
    w[0, 0, 1] = [10, 1, 100]
    arguments = {"stride": (23999, 24998), "padding": 1}
    want = np.array([[101, 111, 111], [101, 111, 111], [105, 116, 117]], F32).reshape(1, 1, 3, 3)
    for algorithm in ("auto", "reference", "im2col", "direct"):
        np.testing.assert_array_equal(nc.conv2d(x, w, algorithm=algorithm, **arguments), want, err_msg=algorithm)


@pytest.mark.parametrize(("size", "padding"), [(2**31, 0), (2**31 - 1, 1), (2**33, 0)])
def test_longer_axes_are_a_clear_error(size, padding):
    x = np.broadcast_to(F32(1), (1, 1, size))
    refuses(ValueError, (nc.conv1d, x, ones(1, 1, 3)), "x", size + 2 * padding, 2**31 - 1, name="conv1d", stride=2**28,
            padding=padding)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files")
@pytest.mark.parametrize("last", [False, True])
def test_channels_and_images_beyond_2_to_the_31(sparse_file, last):
    """Offsets between planes and between images overflow 32 bits, not the planes themselves."""
    x = np.memmap(sparse_file, dtype=F32, mode="w+", shape=(3, 2, 20000, 20000))
    if last:
        x = x.reshape(3, 20000, 20000, 2)
    image = np.moveaxis(x, -1, 1) if last else x
    image[:, :, 19999, 19999] = np.arange(1, 7).reshape(3, 2)
    w = np.zeros((2, 2, 3, 3), F32)
    w[0, :, 1, 1], w[1, :, 0, 0] = 1, 100
    arguments = {"stride": 19999, "padding": 1, "data_format": "channels_last" if last else "channels_first"}
    want = np.zeros((3, 2, 2, 2), F32)
    want[:, 0, 1, 1] = [3, 7, 11]
    for algorithm in _algorithms(x, w, **arguments):
        got = nc.conv2d(x, w, algorithm=algorithm, **arguments)
        np.testing.assert_array_equal(np.moveaxis(got, -1, 1) if last else got, want, err_msg=algorithm)
