"""Sizes and costs of convolutions, from their shapes alone.

A size, kernel, stride or dilation is one integer for a single axis, or a sequence with one integer for each axis.
Channels are totals over all groups; dilation counts from 1; a multiply-accumulate (MAC) is two floating-point
operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import NamedTuple, SupportsIndex, cast, overload

import numpy as np

from npconv._types import DTypeLike, Padding, Size

__all__ = [
    "Memory",
    "ReceptiveField",
    "conv_output_shape",
    "effective_kernel_size",
    "flops",
    "macs",
    "memory",
    "parameter_count",
    "receptive_field",
    "same_padding",
]


class ReceptiveField(NamedTuple):
    """What one output of a stack of layers sees, along one axis: output i sees inputs start + i*stride and on."""

    size: int
    stride: int
    start: int


class Memory(NamedTuple):
    """Bytes of a layer's arrays."""

    input: int
    weights: int
    output: int
    total: int


@overload
def effective_kernel_size(kernel_size: SupportsIndex, dilation: SupportsIndex = 1) -> int: ...
@overload
def effective_kernel_size(kernel_size: Sequence[SupportsIndex], dilation: Size = 1) -> tuple[int, ...]: ...
def effective_kernel_size(kernel_size: Size, dilation: Size = 1) -> int | tuple[int, ...]:
    """Return how many inputs a dilated kernel spans: ``dilation * (kernel_size - 1) + 1``.

    Raises
    ------
    ValueError
        A value is less than 1, or the sequences differ in length.

    Examples
    --------
    >>> import npconv as nc
    >>> [nc.info.effective_kernel_size(3, dilation) for dilation in (1, 2, 3)]
    [3, 5, 7]
    >>> nc.info.effective_kernel_size((3, 5), dilation=2)
    (5, 9)
    """
    if not isinstance(kernel_size, Sequence):
        return _extent(*_each("kernel_size", kernel_size, 1), *_each("dilation", dilation, 1))
    kernel = _each("kernel_size", kernel_size, len(kernel_size))
    return tuple(map(_extent, kernel, _each("dilation", dilation, len(kernel))))


def same_padding(
    input_size: Size, kernel_size: Size, stride: Size = 1, dilation: Size = 1, *, lower: bool = False
) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of each axis that gives ``ceil(input_size / stride)`` outputs.

    Parameters
    ----------
    input_size, kernel_size, stride, dilation : int or sequence of int
        Of each spatial axis.
    lower : bool
        Where an odd total puts the extra element: after (``padding="same"``), or before (``"same_lower"``).

    Raises
    ------
    ValueError
        Values out of range, or sequences that differ in length.

    Notes
    -----
    The rule of TensorFlow, JAX and ONNX (SAME_UPPER, SAME_LOWER). The often quoted ``kernel_size // 2`` holds for
    odd kernels without dilation and stride only.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.same_padding((7, 8), 3, stride=2)
    ((1, 1), (0, 1))
    >>> nc.info.same_padding(10, 4)
    ((1, 2),)
    """
    axes = _axes(input_size, kernel_size, stride, dilation)
    return tuple(_same(*axis, lower=lower) for axis in axes)


def conv_output_shape(
    input_size: Size, kernel_size: Size, stride: Size = 1, padding: Padding = 0, dilation: Size = 1
) -> tuple[int, ...]:
    """Return the spatial shape that a convolution gives.

    Parameters
    ----------
    input_size, kernel_size, stride, dilation : int or sequence of int
        Of each spatial axis.
    padding : int, str or sequence
        Every form that ``conv2d`` takes.

    Returns
    -------
    tuple of int
        ``(input + before + after - dilation*(kernel - 1) - 1) // stride + 1`` of each axis.

    Raises
    ------
    ValueError
        Values out of range, sequences that differ in length, or a kernel that is larger than the padded input.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.conv_output_shape((224, 224), 7, stride=2, padding=3)
    (112, 112)
    >>> nc.info.conv_output_shape(10, 4, padding="same")
    (10,)
    """
    axes = _axes(input_size, kernel_size, stride, dilation)
    return tuple(_output(axis, pads) for axis, pads in zip(axes, _pads(padding, axes), strict=True))


def receptive_field(layers: Iterable[Sequence[SupportsIndex] | Mapping[str, SupportsIndex]]) -> ReceptiveField:
    """Return what one output of a stack of layers sees of the input, along one axis.

    Parameters
    ----------
    layers : iterable
        From first to last, each as (kernel_size, stride, padding, dilation), where all but the first may be left
        out (1, 0, 1), or as a mapping with these keys. ``padding`` is the amount before.

    Returns
    -------
    ReceptiveField
        ``size``: how many inputs an output sees; ``stride``: by how many the next output's are further on;
        ``start``: index of the first input that output 0 sees, negative where that lies in the padding.

    Raises
    ------
    ValueError
        A value out of range, or an unknown key.

    Notes
    -----
    ``size`` grows by ``dilation * (kernel_size - 1)`` times the product of the strides of the layers *before*
    (Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks").

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.receptive_field([(7, 2, 3), (3, 2, 1), (3, 1, 1)])
    ReceptiveField(size=19, stride=4, start=-9)
    >>> nc.info.receptive_field({"kernel_size": 3, "dilation": d} for d in (1, 2, 4)).size
    15
    """
    size, stride, start = 1, 1, 0
    for layer in layers:
        kernel, own_stride, padding, dilation = _layer(layer)
        size += (_extent(kernel, dilation) - 1) * stride
        start -= padding * stride
        stride *= own_stride
    return ReceptiveField(size, stride, start)


def parameter_count(in_channels: int, out_channels: int, kernel_size: Size, groups: int = 1, bias: bool = True) -> int:
    """Return how many numbers a layer learns.

    Raises
    ------
    ValueError
        Values out of range, or channels that ``groups`` does not divide.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.parameter_count(3, 64, (7, 7))
    9472
    >>> nc.info.parameter_count(64, 128, (3, 3), groups=2, bias=False)
    36864
    """
    per_output = _group_channels(in_channels, out_channels, groups) * math.prod(_many("kernel_size", kernel_size))
    return out_channels * (per_output + bool(bias))


def macs(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    input_size: Size,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    batch: int = 1,
    *,
    count_padding: bool = True,
) -> int:
    """Return the multiply-accumulates of a direct convolution, without those of the bias.

    Parameters
    ----------
    in_channels, out_channels, groups, batch : int
        Totals over all groups.
    kernel_size, input_size, stride, dilation : int or sequence of int
        Of each spatial axis; ``input_size`` says how many axes there are.
    padding : int, str or sequence
        Every form that ``conv2d`` takes.
    count_padding : bool
        Whether products with padding count. They do in the usual figures, and in GFLOP/s.

    Raises
    ------
    ValueError
        Values out of range, or a kernel that is larger than the padded input.

    Examples
    --------
    The first layer of a ResNet:

    >>> import npconv as nc
    >>> nc.info.macs(3, 64, 7, (224, 224), stride=2, padding=3)
    118013952
    >>> nc.info.macs(3, 64, 7, (224, 224), stride=2, padding=3, count_padding=False)
    116214528
    """
    axes = _axes(input_size, kernel_size, stride, dilation)
    taps = 1
    for axis, pads in zip(axes, _pads(padding, axes), strict=True):
        taps *= _output(axis, pads) * axis[1] if count_padding else _inner_taps(axis, pads)
    (images,) = _each("batch", batch, 1, least=0)
    return images * out_channels * _group_channels(in_channels, out_channels, groups) * taps


def flops(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    input_size: Size,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    batch: int = 1,
    *,
    count_padding: bool = True,
) -> int:
    """Return the floating-point operations of a direct convolution: two for each of ``macs``.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.flops(3, 64, 7, (224, 224), stride=2, padding=3)
    236027904
    """
    return 2 * macs(
        in_channels, out_channels, kernel_size, input_size, stride, padding, dilation, groups, batch,
        count_padding=count_padding
    )  # fmt: skip


def memory(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    input_size: Size,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    batch: int = 1,
    *,
    bias: bool = True,
    dtype: DTypeLike = np.float32,
) -> Memory:
    """Return the bytes of a layer's input, weights (with bias) and output; no algorithm's workspace is in it.

    Parameters are those of ``macs``.

    Raises
    ------
    ValueError
        As ``macs``.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.info.memory(3, 64, 7, (224, 224), stride=2, padding=3)
    Memory(input=602112, weights=37888, output=3211264, total=3851264)
    """
    axes = _axes(input_size, kernel_size, stride, dilation)
    kernel = [axis[1] for axis in axes]
    outputs = [_output(axis, pads) for axis, pads in zip(axes, _pads(padding, axes), strict=True)]
    (images,) = _each("batch", batch, 1, least=0)
    counts = (
        images * in_channels * math.prod(axis[0] for axis in axes),
        parameter_count(in_channels, out_channels, kernel, groups, bias),
        images * out_channels * math.prod(outputs),
    )
    source, weights, result = (count * np.dtype(dtype).itemsize for count in counts)
    return Memory(source, weights, result, source + weights + result)


# One axis: size of the input, kernel, stride, dilation.
_Axis = tuple[int, int, int, int]


def _each(name: str, value: Size, count: int, least: int = 1) -> tuple[int, ...]:
    """Return one checked integer for each of `count` axes."""
    values = tuple(map(index, value)) if isinstance(value, Sequence) else (index(value),)
    if len(values) not in (1, count):
        raise ValueError(f"{name} expects 1 or {count} integers, got {value}")
    if min(values, default=least) < least:
        raise ValueError(f"{name} expects integers of at least {least}, got {value}")
    return values * count if len(values) == 1 else values


def _many(name: str, value: Size) -> tuple[int, ...]:
    return _each(name, value, len(value) if isinstance(value, Sequence) else 1)


def _axes(input_size: Size, kernel_size: Size, stride: Size, dilation: Size) -> list[_Axis]:
    sizes = [len(value) for value in (input_size, kernel_size) if isinstance(value, Sequence)]
    count = max(sizes, default=1)
    return list(
        zip(
            _each("input_size", input_size, count, least=0),
            _each("kernel_size", kernel_size, count),
            _each("stride", stride, count),
            _each("dilation", dilation, count),
            strict=True,
        )
    )


def _extent(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) + 1


def _same(size: int, kernel: int, stride: int, dilation: int, *, lower: bool = False) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + _extent(kernel, dilation) - size, 0)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def _pads(padding: Padding, axes: list[_Axis]) -> list[tuple[int, int]]:
    """Return (before, after) of each axis."""
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        forms = list(padding)
        if len(forms) == 1:
            forms *= len(axes)
        if len(forms) != len(axes):
            raise ValueError(f"padding expects 1 or {len(axes)} elements, one for each axis, got {padding}")
        return [_axis_pads(form, axis) for form, axis in zip(forms, axes, strict=True)]
    return [_axis_pads(padding, axis) for axis in axes]


def _axis_pads(form: SupportsIndex | str | Sequence[SupportsIndex], axis: _Axis) -> tuple[int, int]:
    span = _extent(axis[1], axis[3]) - 1
    if isinstance(form, str):
        named = {
            "valid": (0, 0),
            "same": _same(*axis),
            "same_upper": _same(*axis),
            "same_lower": _same(*axis, lower=True),
            "full": (span, span),
            "causal": (span, 0),
        }
        if form not in named:
            raise ValueError(f"padding expects an amount or one of {', '.join(named)}, got {form!r}")
        return named[form]
    if isinstance(form, Sequence):
        pair = [index(amount) for amount in cast(Sequence[SupportsIndex], form)]
        if len(pair) != 2:
            raise ValueError(f"padding of an axis expects a pair (before, after), got {form}")
        return pair[0], pair[1]
    amount = index(form)
    if amount < 0:
        raise ValueError(f"padding expects amounts of at least 0 (pairs may crop), got {amount}")
    return amount, amount


def _output(axis: _Axis, pads: tuple[int, int]) -> int:
    size, kernel, stride, dilation = axis
    padded, extent = size + sum(pads), _extent(kernel, dilation)
    if padded < extent:
        raise ValueError(f"kernel spans {extent} elements, more than the padded input's {padded}")
    return (padded - extent) // stride + 1


def _inner_taps(axis: _Axis, pads: tuple[int, int]) -> int:
    """Count pairs of an output and a kernel tap that read the input itself."""
    size, kernel, stride, dilation = axis
    outputs, count = _output(axis, pads), 0
    for tap in range(kernel):
        first = tap * dilation - pads[0]  # what output 0 reads
        low = max(0, -(first // stride))  # first // stride rounds down, so this is the first index >= 0
        high = min(outputs, (size - 1 - first) // stride + 1)
        count += max(0, high - low)
    return count


def _group_channels(in_channels: int, out_channels: int, groups: int) -> int:
    (count,) = _each("groups", groups, 1)
    if min(in_channels, out_channels) < 0 or in_channels % count or out_channels % count:
        raise ValueError(f"groups = {count} must divide in_channels = {in_channels} and out_channels = {out_channels}")
    return in_channels // count


def _layer(layer: Sequence[SupportsIndex] | Mapping[str, SupportsIndex]) -> tuple[int, int, int, int]:
    names = ("kernel_size", "stride", "padding", "dilation")
    values: dict[str, SupportsIndex] = {"stride": 1, "padding": 0, "dilation": 1}
    given = dict(layer) if isinstance(layer, Mapping) else dict(zip(names, layer, strict=False))
    if len(given) != len(layer) or not given.keys() <= set(names) or "kernel_size" not in given:
        raise ValueError(f"a layer expects kernel_size and at most stride, padding, dilation; got {layer}")
    values.update(given)
    kernel, stride, padding, dilation = (index(values[name]) for name in names)
    if min(kernel, stride, dilation) < 1:
        raise ValueError(f"kernel_size, stride and dilation of a layer must be at least 1, got {layer}")
    return kernel, stride, padding, dilation
