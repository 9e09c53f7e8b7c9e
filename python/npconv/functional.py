"""Convolutions of NumPy arrays, one call at a time, with the names and the argument order of torch.nn.functional.

Every function forwards to the extension in one call, which checks all arguments: ``ValueError`` for shapes and
values, ``TypeError`` for types, each naming the argument, what it was and what was expected.

The operation is cross-correlation, as in every neural-network library (``flip=True`` gives convolution). With
``x`` of shape (N, C, H, W) and ``weight`` of shape (O, C/groups, KH, KW)::

    y[n, o, i, j] = act(scale[o] * sum(weight[o, c, u, v] * x[n, c', i*stride + u*dilation - pad, ...])
                        + bias[o] + residual[n, o, i, j])

Arguments that all functions share:

stride, dilation
    One positive integer, or one for each spatial axis. Dilation counts from 1.
padding
    One integer; one for each axis; a pair (before, after) for each axis, where negative amounts crop; ``"valid"``
    (none), ``"same"`` = ``"same_upper"`` (output size ``ceil(H / stride)``, an odd total puts one more after),
    ``"same_lower"`` (one more before), ``"full"``, ``"causal"``; or a mix with one of these for each axis.
groups
    Input and output channels are split into this many independent convolutions.
padding_mode
    ``"zeros"`` (= ``"constant"``, the constant is ``padding_value``), ``"reflect"`` (the edge is not repeated),
    ``"symmetric"`` (it is), ``"replicate"`` (= ``"edge"``, ``"nearest"``) or ``"circular"`` (= ``"wrap"``); or one
    for each axis.
data_format
    ``"channels_first"`` or ``"channels_last"``: where ``x``, ``out`` and ``residual`` have their channel axis.
weight_format
    None: out, in/groups, spatial. Or the axes' letters in the array's order, such as ``"HWIO"``.
flip
    Reverse the kernel along every spatial axis.
scale, bias
    One value for each output channel.
activation
    None, a name, or a tuple of a name and its parameters: relu, relu6, leaky_relu, clip, silu, sigmoid, tanh,
    hardswish, gelu.
residual, residual_after
    An array of the output's shape and dtype that is added before the activation, or after it.
out
    The array to write the result to, of exactly its shape and dtype. It is also what the call returns.
dtype, acc_dtype
    Types of the result and of its sums; None means what NumPy's promotion of the arguments gives.
algorithm
    ``"auto"`` or one name; ``nc.explain`` lists them. A forced choice that does not fit raises.
accuracy
    ``"strict"``, ``"standard"`` or ``"fast"``: the error bound that the choice has to keep.
num_threads, workspace_limit
    For this call alone; None means the process's setting. The limit is in bytes.
"""

from __future__ import annotations

import numpy as np

from npconv._npconv import conv as _conv
from npconv._types import Activation, Array, ArrayLike, DTypeLike, Padding, PaddingMode, Size

__all__ = ["conv1d", "conv2d", "conv3d", "depthwise_conv2d", "pointwise_conv2d"]


def conv1d(
    x: ArrayLike,
    /,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: float = 0,
    data_format: str = "channels_first",
    weight_format: str | None = None,
    flip: bool = False,
    scale: ArrayLike | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    residual_after: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Array:
    """Cross-correlate signals of several channels with a bank of one-dimensional filters.

    Parameters
    ----------
    x : array_like, float32 or float64, shape (N, C, L) or (C, L)
        With ``data_format="channels_last"``: (N, L, C) or (L, C).
    weight : array_like, shape (O, C/groups, K)
        The filters.
    bias : array_like, shape (O,), optional
        Added to each output channel.
    stride, padding, dilation, groups, ... :
        See the text at the top of ``npconv.functional``.

    Returns
    -------
    numpy.ndarray
        Shape (N, O, OL), or (O, OL) for an ``x`` without a batch axis, with
        ``OL = (L + before + after - dilation*(K - 1) - 1) // stride + 1``.

    Raises
    ------
    ValueError
        Shapes or values that do not fit, among them a kernel longer than the padded signal.
    TypeError
        A dtype other than float32, float64 and what NumPy promotes to them; a parameter that is not an integer.

    Notes
    -----
    Names and order follow ``torch.nn.functional.conv1d``; the padding forms are those of PyTorch, NumPy and
    ONNX, see the text at the top of ``npconv.functional``.

    Examples
    --------
    Differences of neighbours but one. No kernel is reversed, so this is not what ``numpy.convolve`` gives:

    >>> import numpy as np, npconv as nc
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    >>> weight = np.array([[[1.0, 0.0, -1.0]]])
    >>> nc.conv1d(x, weight)
    array([[-2., -2., -2.]])
    >>> nc.conv1d(x, weight, flip=True)
    array([[2., 2., 2.]])
    >>> nc.conv1d(x, weight, padding="causal")
    array([[-1., -2., -2., -2., -2.]])
    """
    return _conv(
        1, x, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, out, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def conv2d(
    x: ArrayLike,
    /,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: float = 0,
    data_format: str = "channels_first",
    weight_format: str | None = None,
    flip: bool = False,
    scale: ArrayLike | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    residual_after: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Array:
    """Cross-correlate images of several channels with a bank of filters.

    Parameters
    ----------
    x : array_like, float32 or float64, shape (N, C, H, W) or (C, H, W)
        With ``data_format="channels_last"``: (N, H, W, C) or (H, W, C).
    weight : array_like, shape (O, C/groups, KH, KW)
        The filters.
    bias : array_like, shape (O,), optional
        Added to each output channel.
    stride, padding, dilation, groups, ... :
        See the text at the top of ``npconv.functional``.

    Returns
    -------
    numpy.ndarray
        Shape (N, O, OH, OW), or (O, OH, OW) for an ``x`` without a batch axis, with
        ``OH = (H + before + after - dilation*(KH - 1) - 1) // stride + 1`` and OW alike; the channel axis is the
        last one with ``data_format="channels_last"``.

    Raises
    ------
    ValueError
        Shapes or values that do not fit, among them a kernel larger than the padded image.
    TypeError
        A dtype other than float32, float64 and what NumPy promotes to them; a parameter that is not an integer.

    Notes
    -----
    Names and order follow ``torch.nn.functional.conv2d``. The algorithms are implicit GEMM (Chetlur et al. 2014,
    "cuDNN"), minimal filtering (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks"),
    overlap-save FFT and direct sums; each keeps the bound of its accuracy class.

    Examples
    --------
    The sum over 3x3 windows of an image, halved in size; outside the image are zeros:

    >>> import numpy as np, npconv as nc
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> weight = np.ones((1, 1, 3, 3), dtype=np.float32)
    >>> nc.conv2d(x, weight, stride=2, padding=1)
    array([[[10., 24.],
            [51., 90.]]], dtype=float32)
    >>> nc.conv2d(x, weight, bias=[-50.0], stride=2, padding=1, activation="relu").dtype
    dtype('float64')
    """
    return _conv(
        2, x, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, out, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def conv3d(
    x: ArrayLike,
    /,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: float = 0,
    data_format: str = "channels_first",
    weight_format: str | None = None,
    flip: bool = False,
    scale: ArrayLike | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    residual_after: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Array:
    """Cross-correlate volumes (or videos) of several channels with a bank of three-dimensional filters.

    Parameters
    ----------
    x : array_like, float32 or float64, shape (N, C, D, H, W) or (C, D, H, W)
        With ``data_format="channels_last"``: (N, D, H, W, C) or (D, H, W, C).
    weight : array_like, shape (O, C/groups, KD, KH, KW)
        The filters.
    bias : array_like, shape (O,), optional
        Added to each output channel.
    stride, padding, dilation, groups, ... :
        See the text at the top of ``npconv.functional``.

    Returns
    -------
    numpy.ndarray
        Shape (N, O, OD, OH, OW), or (O, OD, OH, OW) for an ``x`` without a batch axis; every axis by the formula
        of ``conv2d``.

    Raises
    ------
    ValueError
        Shapes or values that do not fit, among them a kernel larger than the padded volume.
    TypeError
        A dtype other than float32, float64 and what NumPy promotes to them; a parameter that is not an integer.

    Notes
    -----
    Names and order follow ``torch.nn.functional.conv3d``.

    Examples
    --------
    >>> import numpy as np, npconv as nc
    >>> video = np.ones((1, 3, 8, 16, 16), dtype=np.float32)
    >>> weight = np.full((4, 3, 3, 3, 3), 1 / 81, dtype=np.float32)
    >>> y = nc.conv3d(video, weight, stride=(1, 2, 2), padding="same", padding_mode="replicate")
    >>> y.shape
    (1, 4, 8, 8, 8)
    >>> bool(np.allclose(y, 1))
    True
    """
    return _conv(
        3, x, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, out, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def depthwise_conv2d(
    x: ArrayLike,
    /,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    padding_value: float = 0,
    data_format: str = "channels_first",
    weight_format: str | None = None,
    flip: bool = False,
    scale: ArrayLike | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    residual_after: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Array:
    """Filter each channel of an image on its own: ``conv2d`` with as many groups as ``x`` has channels.

    Parameters
    ----------
    x : array_like, float32 or float64, shape (N, C, H, W) or (C, H, W)
        With ``data_format="channels_last"``: (N, H, W, C) or (H, W, C).
    weight : array_like, shape (C*M, 1, KH, KW)
        M filters for each channel; output channel ``c*M + m`` is filter m of input channel c.
    bias : array_like, shape (C*M,), optional
        Added to each output channel.
    stride, padding, dilation, ... :
        See the text at the top of ``npconv.functional``.

    Returns
    -------
    numpy.ndarray
        Shape (N, C*M, OH, OW), or without N, as ``conv2d`` gives it.

    Raises
    ------
    ValueError
        Shapes or values that do not fit.
    TypeError
        A dtype other than float32, float64 and what NumPy promotes to them; a parameter that is not an integer.

    Notes
    -----
    Depthwise convolution with a channel multiplier as in Chollet 2017, "Xception", and Howard et al. 2017,
    "MobileNets". A Keras kernel (KH, KW, C, M) becomes this weight by ``transpose(2, 3, 0, 1).reshape(C*M, 1,
    KH, KW)``.

    Examples
    --------
    Both derivatives of each channel of a ramp:

    >>> import numpy as np, npconv as nc
    >>> x = np.stack([np.tile(np.arange(4.0), (4, 1)), np.full((4, 4), 7.0)])
    >>> across = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]]) / 2
    >>> weight = np.stack([across, across.T, across, across.T])[:, None]
    >>> nc.depthwise_conv2d(x, weight)[:, 0, 0]
    array([1., 0., 0., 0.])
    """
    x = np.asanyarray(x)
    axis = -1 if data_format in ("channels_last", "NHWC") else -3
    groups = x.shape[axis] if x.ndim >= 3 else 1
    return _conv(
        2, x, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, out, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def pointwise_conv2d(
    x: ArrayLike,
    /,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    groups: int = 1,
    *,
    data_format: str = "channels_first",
    scale: ArrayLike | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    residual_after: bool = False,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Array:
    """Mix the channels of each pixel: ``conv2d`` with a 1x1 kernel.

    Parameters
    ----------
    x : array_like, float32 or float64, shape (N, C, H, W) or (C, H, W)
        With ``data_format="channels_last"``: (N, H, W, C) or (H, W, C).
    weight : array_like, shape (O, C/groups) or (O, C/groups, 1, 1)
        The matrix.
    bias : array_like, shape (O,), optional
        Added to each output channel.
    stride, groups, ... :
        See the text at the top of ``npconv.functional``.

    Returns
    -------
    numpy.ndarray
        Shape (N, O, ceil(H/stride), ceil(W/stride)), or without N, as ``conv2d`` gives it.

    Raises
    ------
    ValueError
        Shapes or values that do not fit, among them a kernel that is not 1x1.
    TypeError
        A dtype other than float32, float64 and what NumPy promotes to them; a parameter that is not an integer.

    Notes
    -----
    "Network in Network" (Lin, Chen and Yan 2014). It is linear; only an ``activation`` makes it more than a
    matrix product.

    Examples
    --------
    Luminance of an RGB image:

    >>> import numpy as np, npconv as nc
    >>> image = np.array([[[255.0, 0.0]], [[255.0, 0.0]], [[255.0, 100.0]]])  # white, dark blue
    >>> nc.pointwise_conv2d(image, [[0.299, 0.587, 0.114]])
    array([[[255. ,  11.4]]])
    """
    weight = np.asanyarray(weight)
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    elif weight.ndim != 4 or weight.shape[2:] != (1, 1):
        raise ValueError(
            f"pointwise_conv2d: weight expects shape (out, in/groups) or (out, in/groups, 1, 1), got {weight.shape}"
        )
    return _conv(
        2, x, weight, bias, stride, 0, 1, groups, "zeros", 0, data_format, None, False, scale, activation,
        residual, residual_after, out, dtype, acc_dtype, algorithm, accuracy, num_threads, workspace_limit
    )  # fmt: skip
