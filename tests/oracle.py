"""Convolution from its definition, in float64 NumPy.

Every other test leans on this file, so it never imports npconv and shares nothing with the C++ reference:
paddings, index maps, kernel flips and activations are written down here a second time.
It is vectorised over channels and positions: one shifted view of the padded image per kernel tap.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

MODES = {
    "zeros": "constant", "constant": "constant", "reflect": "reflect", "symmetric": "symmetric",
    "replicate": "replicate", "edge": "replicate", "nearest": "replicate", "circular": "circular", "wrap": "circular",
}
SPATIAL_LETTERS = {1: "W", 2: "HW", 3: "DHW"}


# ---------------------------------------------------------------- parameters


def per_axis(value: Any, nd: int) -> tuple[int, ...]:
    """An int, a sequence of one or a sequence of nd ints, as nd ints."""
    if np.ndim(value) == 0:
        return (int(value),) * nd
    values = tuple(int(v) for v in value)
    if len(values) == 1:
        values = values * nd
    assert len(values) == nd, values
    return values


def effective(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) + 1


def axis_padding(spec: Any, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding (before, after) of one axis from an int, a pair or a name."""
    reach = dilation * (kernel - 1)
    if isinstance(spec, str):
        if spec == "valid":
            return 0, 0
        if spec == "full":
            return reach, reach
        if spec == "causal":
            return reach, 0
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        less, more = total // 2, total - total // 2
        return {"same": (less, more), "same_upper": (less, more), "same_lower": (more, less)}[spec]
    if np.ndim(spec) == 1:
        before, after = spec
        return int(before), int(after)
    return int(spec), int(spec)


def paddings(padding: Any, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
             dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    nd = len(sizes)
    if isinstance(padding, str) or np.ndim(padding) == 0 and not isinstance(padding, (tuple, list)):
        specs = [padding] * nd
    else:
        specs = list(padding)
        if len(specs) == 1:
            specs = specs * nd
    assert len(specs) == nd, padding
    return [axis_padding(p, *rest) for p, *rest in zip(specs, sizes, kernel, stride, dilation)]


# ---------------------------------------------------------------- borders


def source_index(i: int, size: int, mode: str) -> int:
    """Which element of an axis of `size` stands at position i; -1 is the padding constant."""
    if 0 <= i < size:
        return i
    mode = MODES[mode]
    if mode == "constant":
        return -1
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "circular":
        return i % size
    if mode == "reflect":
        if size == 1:
            return 0
        i %= 2 * size - 2
        return i if i < size else 2 * size - 2 - i
    i %= 2 * size  # symmetric
    return i if i < size else 2 * size - 1 - i


def pad_axis(x: np.ndarray, axis: int, before: int, after: int, mode: str, value: float) -> np.ndarray:
    """x with one axis extended (or cropped, where the amounts are negative)."""
    size = x.shape[axis]
    index = np.array([source_index(i, size, mode) for i in range(-before, size + after)], dtype=np.intp)
    shape = list(x.shape)
    shape[axis] = len(index)
    padded = np.full(shape, value, dtype=x.dtype)
    inside = index >= 0
    if inside.any():
        where: list[Any] = [slice(None)] * x.ndim
        where[axis] = inside
        padded[tuple(where)] = np.take(x, index[inside], axis=axis)
    return padded


# ---------------------------------------------------------------- the sum


def correlate(x: np.ndarray, w: np.ndarray, stride: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> np.ndarray:
    """The plain sum over channels and taps: x (N, C, *S) already padded, w (O, C/g, *K)."""
    kernel = w.shape[2:]
    out = tuple((s - effective(k, d)) // t + 1 for s, k, d, t in zip(x.shape[2:], kernel, dilation, stride))
    assert all(o >= 1 for o in out), (x.shape, w.shape)
    n, oc = x.shape[0], w.shape[0]
    icg, ocg = w.shape[1], oc // groups
    positions = math.prod(out)
    # Sums over many taps in extended precision, where there is one: the tests measure float64 results against them.
    total = np.zeros((n, groups, ocg, positions), dtype=np.longdouble)
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride))
        shifted = x[(slice(None), slice(None), *window)].reshape(n, groups, icg, positions)
        weights = w[(slice(None), slice(None), *tap)].reshape(groups, ocg, icg)
        if icg == 1:
            total += weights[None] * shifted
        else:
            total += np.matmul(weights[None], shifted)
    return total.reshape(n, oc, *out).astype(np.result_type(x, w))


def activate(v: np.ndarray, activation: Any) -> np.ndarray:
    """torch's activations; NaN passes through each of them."""
    if activation is None:
        return v
    name, *parameters = (activation,) if isinstance(activation, str) else activation
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return _activate(v, name, parameters)


def _activate(v: np.ndarray, name: str, parameters: list[Any]) -> np.ndarray:
    if name == "relu":
        return np.maximum(v, 0)
    if name == "relu6":
        return np.clip(v, 0, 6)
    if name == "leaky_relu":
        slope = parameters[0] if parameters else 0.01
        return np.where(v > 0, v, v * slope)
    if name == "prelu":
        slope = np.asarray(parameters[0], dtype=v.dtype).reshape((-1,) + (1,) * (v.ndim - 2))
        return np.where(v > 0, v, v * slope)
    if name == "clip":
        return np.clip(v, parameters[0], parameters[1])
    if name == "elu":
        alpha = parameters[0] if parameters else 1.0
        return np.where(v > 0, v, alpha * np.expm1(np.minimum(v, 0)))
    if name == "silu":
        return v * _sigmoid(v)
    if name == "sigmoid":
        return _sigmoid(v)
    if name == "tanh":
        return np.tanh(v)
    if name == "gelu":
        if parameters and parameters[0] == "tanh":
            return 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        # erfc keeps the relative accuracy of the left tail, where 1 + erf would cancel
        return 0.5 * v * np.vectorize(math.erfc, otypes=[np.float64])(-v / math.sqrt(2))
    if name == "hardswish":
        return v * np.clip(v + 3, 0, 6) / 6
    if name == "hardsigmoid":
        return np.clip(v + 3, 0, 6) / 6
    if name == "softplus":
        return np.logaddexp(v, 0)
    if name == "mish":
        return v * np.tanh(np.logaddexp(v, 0))
    raise AssertionError(f"the oracle knows no activation {name!r}")


def _sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def epilogue(acc: np.ndarray, bias: Any = None, scale: Any = None, activation: Any = None, residual: Any = None,
             residual_after: bool = False) -> np.ndarray:
    """act(scale * acc + bias + residual) for acc (N, O, *S); or the residual after act."""
    def channels(v: Any) -> np.ndarray:
        return np.asarray(v, dtype=acc.dtype).reshape((-1,) + (1,) * (acc.ndim - 2))

    y = acc if scale is None else acc * channels(scale)
    if bias is not None:
        y = y + channels(bias)
    if residual is not None and not residual_after:
        y = y + np.asarray(residual, dtype=acc.dtype)
    y = activate(y, activation)
    if residual is not None and residual_after:
        y = y + np.asarray(residual, dtype=acc.dtype)
    return y


# ---------------------------------------------------------------- the public function


def weights_to_oihw(weight: np.ndarray, weight_format: str | None, nd: int) -> np.ndarray:
    if weight_format is None:
        return weight
    letters = "OI" + SPATIAL_LETTERS[nd]
    assert sorted(letters) == sorted(weight_format), weight_format
    return weight.transpose([weight_format.index(c) for c in letters])


def conv(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, *,
         padding_mode: Any = "zeros", padding_value: float = 0, data_format: str = "channels_first",
         weight_format: str | None = None, flip: bool = False, scale: Any = None, activation: Any = None,
         residual: Any = None, residual_after: bool = False, compute: Any = np.float64) -> np.ndarray:
    """What nc.conv1d, conv2d and conv3d return, in `compute` precision, whatever dtype comes in."""
    x, weight = np.asarray(x, dtype=compute), np.asarray(weight, dtype=compute)
    nd = weight.ndim - 2
    last = data_format == "channels_last"
    residual = None if residual is None else np.asarray(residual, dtype=compute)
    batched = x.ndim == nd + 2
    if not batched:
        x = x[None]
        residual = None if residual is None else residual[None]
    if last:
        x = np.moveaxis(x, -1, 1)
        residual = None if residual is None else np.moveaxis(residual, -1, 1)
    weight = weights_to_oihw(weight, weight_format, nd)
    if flip:
        weight = weight[(slice(None), slice(None)) + (slice(None, None, -1),) * nd]
    stride, dilation = per_axis(stride, nd), per_axis(dilation, nd)
    modes = (padding_mode,) * nd if isinstance(padding_mode, str) else tuple(padding_mode)
    pads = paddings(padding, x.shape[2:], weight.shape[2:], stride, dilation)
    for axis, ((before, after), mode) in enumerate(zip(pads, modes), start=2):
        x = pad_axis(x, axis, before, after, mode, padding_value)
    with np.errstate(invalid="ignore", over="ignore"):
        y = epilogue(correlate(x, weight, stride, dilation, groups), bias, scale, activation, residual, residual_after)
    if last:
        y = np.moveaxis(y, 1, -1)
    return y if batched else y[0]


def magnitude(x: Any, weight: Any, bias: Any = None, padding_value: float = 0, **parameters: Any) -> float:
    """S of the accuracy classes: the largest value of conv(|x|, |w|) + |bias|."""
    bias = None if bias is None else np.abs(bias)
    y = conv(np.abs(x), np.abs(weight), bias, padding_value=abs(padding_value), **parameters)
    return float(y.max()) if y.size else 0.0
