"""npconv.info: figures that were checked by hand or by brute force, and agreement with the extension."""

import itertools

import numpy as np
import pytest

import npconv as nc


@pytest.mark.parametrize(("kernel", "dilation", "expected"), [(3, 1, 3), (3, 2, 5), (3, 3, 7), (1, 9, 1)])
def test_effective_kernel_size(kernel, dilation, expected):
    assert nc.info.effective_kernel_size(kernel, dilation) == expected


def test_effective_kernel_size_of_axes():
    assert nc.info.effective_kernel_size((3, 1, 2), (1, 2, 3)) == (3, 1, 4)
    with pytest.raises(ValueError, match="dilation expects 1 or 2"):
        nc.info.effective_kernel_size((3, 3), (1, 2, 3))


@pytest.mark.parametrize(("size", "stride", "padding", "expected"), [(5, 1, 0, 3), (5, 1, 1, 5), (5, 2, 0, 2)])
def test_output_of_small_examples(size, stride, padding, expected):
    assert nc.info.conv_output_shape(size, 3, stride, padding) == (expected,)


def test_half_the_kernel_is_not_same_padding():
    # kernel_size // 2 on both sides: one too many for even kernels, too little for dilated ones
    for kernel in (2, 4, 6, 8):
        assert nc.info.conv_output_shape(10, kernel, padding=kernel // 2) == (11,)
        assert nc.info.conv_output_shape(10, kernel, padding="same") == (10,)
    assert nc.info.conv_output_shape(10, 3, padding=1, dilation=2) == (8,)
    assert nc.info.conv_output_shape(10, 3, padding=1, dilation=3) == (6,)
    assert nc.info.same_padding(10, 3, dilation=2) == ((2, 2),)
    assert nc.info.same_padding(10, 3, dilation=3) == ((3, 3),)


def test_full_padding_with_dilation():
    assert nc.info.conv_output_shape(10, 3, padding="full", dilation=2) == (14,)


@pytest.mark.parametrize(("lower", "expected"), [(False, ((1, 2),)), (True, ((2, 1),))])
def test_same_padding_of_even_kernels(lower, expected):
    assert nc.info.same_padding(10, 4, lower=lower) == expected


def _sees(layers, size=400):
    """Return (size, stride, start) of what an output sees, by marking inputs; outputs near the border are avoided."""
    seen = [{i} for i in range(size)]
    first = 0  # which position of the unpadded stack seen[0] is
    for kernel, stride, padding, dilation in layers:
        outputs = []
        # output i reads inputs i*stride - padding + tap*dilation; keep those with all inputs there
        i = -(-(padding + first) // stride)
        first_out = i
        while True:
            taps = [i * stride - padding + tap * dilation - first for tap in range(kernel)]
            if taps[-1] >= len(seen):
                break
            outputs.append(set().union(*(seen[tap] for tap in taps)))
            i += 1
        seen, first = outputs, first_out
    lows = [min(s) for s in seen]
    return max(seen[0]) - lows[0] + 1, lows[1] - lows[0], lows[0] - first * (lows[1] - lows[0])


@pytest.mark.parametrize(
    ("layers", "size"),
    [
        ([(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1)], 19),
        ([(3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)], 15),
        ([(3, 1, 0, 1), (3, 1, 0, 1), (3, 1, 0, 1)], 7),
        ([(5, 3, 1, 2), (1, 2, 0, 1), (2, 1, 3, 5)], 9 + 0 + 5 * 6),
    ],
)
def test_receptive_field(layers, size):
    field = nc.info.receptive_field(layers)
    assert field.size == size
    assert tuple(field) == _sees(layers)


def test_receptive_field_of_padding_and_mappings():
    assert nc.info.receptive_field([(3, 1, 1), (3, 1, 1)]).start == -2
    assert nc.info.receptive_field([{"kernel_size": 3, "dilation": 2, "padding": 2}]) == (5, 1, -2)
    assert nc.info.receptive_field([]) == (1, 1, 0)
    with pytest.raises(ValueError, match="kernel_size"):
        nc.info.receptive_field([{"kernel": 3}])
    with pytest.raises(ValueError, match="at least 1"):
        nc.info.receptive_field([(3, 0)])
    with pytest.raises(ValueError, match="at most"):
        nc.info.receptive_field([(3, 1, 1, 1, 1)])


def test_parameter_counts():
    assert nc.info.parameter_count(3, 64, 7) == 3 * 64 * 7 + 64  # one axis
    assert nc.info.parameter_count(3, 64, (7, 7)) == 9472
    assert nc.info.parameter_count(64, 128, (3, 3), bias=False) == 73_728
    assert nc.info.parameter_count(64, 128, (3, 3), groups=2, bias=False) == 36_864
    assert nc.info.parameter_count(64, 128, (3, 3)) == 73_856
    assert nc.info.parameter_count(64, 128, (3, 3), groups=2) == 36_992
    assert nc.info.parameter_count(256, 64, (1, 1), bias=False) == 16_384
    with pytest.raises(ValueError, match="must divide"):
        nc.info.parameter_count(64, 128, 3, groups=3)


def test_macs_and_flops():
    stem = (3, 64, 7, (224, 224), 2, 3)
    assert nc.info.macs(*stem) == 118_013_952
    assert nc.info.flops(*stem) == 236_027_904
    assert nc.info.macs(*stem, count_padding=False) == 116_214_528
    assert nc.info.macs(*stem, batch=3) == 3 * 118_013_952
    assert nc.info.macs(256, 64, 1, (56, 56)) == 51_380_224
    full, depthwise = (
        nc.info.macs(64, 1024, 3, (8, 8), padding=1),
        nc.info.macs(64, 64, 3, (8, 8), padding=1, groups=64),
    )
    assert full // depthwise == 1024


def test_macs_without_padding_by_counting():
    for kernel, size, stride, dilation, padding in itertools.product(
        (1, 2, 5), (1, 6, 9), (1, 2, 4), (1, 3), (0, 3, 9)
    ):
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            continue
        (outputs,) = nc.info.conv_output_shape(size, kernel, stride, padding, dilation)
        taps = sum(0 <= o * stride - padding + t * dilation < size for o in range(outputs) for t in range(kernel))
        got = nc.info.macs(1, 1, kernel, size, stride, padding, dilation, count_padding=False)
        assert got == taps


def test_memory():
    layer = nc.info.memory(3, 64, 7, (224, 224), stride=2, padding=3, batch=2, dtype="f8")
    assert layer.input == 2 * 3 * 224 * 224 * 8
    assert layer.weights == 9472 * 8
    assert layer.output == 2 * 64 * 112 * 112 * 8
    assert layer.total == layer.input + layer.weights + layer.output


@pytest.mark.parametrize(
    "padding",
    [0, 2, (1, 3), ((1, 0), (0, 4)), ((-1, 2), (0, -2)), "valid", "same", "same_upper", "same_lower", "full",
     ("causal", 1), ("same", (2, 0)), (2,)],
)  # fmt: skip
def test_output_shape_is_what_conv2d_gives(padding):
    for size, kernel, stride, dilation in itertools.product(
        [(7, 9), (12, 8)], [(1, 2), (3, 4)], [1, (2, 3)], [1, (2, 1)]
    ):
        y = nc.conv2d(np.ones((1, *size)), np.ones((1, 1, *kernel)), None, stride, padding, dilation)
        assert nc.info.conv_output_shape(size, kernel, stride, padding, dilation) == y.shape[1:]


@pytest.mark.parametrize(
    "bad",
    [
        {"padding": -1},
        {"padding": "some"},
        {"padding": (1, 2, 3)},
        {"padding": (1, 2, 3, 4)},
        {"padding": ((1, 2, 3), 0)},
        {"stride": 0},
        {"dilation": (1, 0)},
    ],
)
def test_bad_values_raise_here_and_in_conv2d(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        nc.info.conv_output_shape((5, 5), 3, **bad)
    with pytest.raises(ValueError, match=next(iter(bad))):
        nc.conv2d(np.ones((1, 5, 5)), np.ones((1, 1, 3, 3)), **bad)


def test_kernel_larger_than_input():
    with pytest.raises(ValueError, match=r"spans 5 .* 4"):
        nc.info.conv_output_shape(4, 3, dilation=2)


def test_flops_is_what_a_plan_says():
    plan = nc.plan_conv2d((2, 8, 9, 9), np.ones((6, 4, 3, 3), "f4"), stride=2, padding=1, groups=2)
    assert plan.flops == nc.info.flops(8, 6, 3, (9, 9), 2, 1, groups=2, batch=2)
