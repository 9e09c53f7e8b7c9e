"""Planned convolutions, whose algorithm is chosen and whose weights are packed once, and ``explain``."""

from __future__ import annotations

from typing import Any

import numpy as np

from npconv._npconv import Plan, describe, get_num_threads, parse_descriptor
from npconv._npconv import explain as _explain
from npconv._types import Activation, Array, ArrayLike, DTypeLike, Padding, PaddingMode, Shape, Size

__all__ = ["Explanation", "Plan", "explain", "plan_conv1d", "plan_conv2d", "plan_conv3d"]


def plan_conv1d(
    x_shape: Shape,
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
    residual: bool = False,
    residual_after: bool = False,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Plan:
    """Plan ``conv1d`` for signals of one shape.

    See ``plan_conv2d``; ``x_shape`` is (N, C, L) or (C, L).

    Examples
    --------
    >>> import numpy as np, npconv as nc
    >>> plan = nc.plan_conv1d((1, 1, 6), np.array([[[0.5, 0.5]]]), stride=2)
    >>> plan(np.arange(6.0).reshape(1, 1, 6))
    array([[[0.5, 2.5, 4.5]]])
    """
    return Plan(
        1, x_shape, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def plan_conv2d(
    x_shape: Shape,
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
    residual: bool = False,
    residual_after: bool = False,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Plan:
    """Plan ``conv2d`` for images of one shape: choose the algorithm and pack the weights, once.

    Calling the plan, ``plan(x, out=None, residual=None, num_threads=None)``, gives what ``conv2d`` gives and saves
    the choice and the packing at every call. Any batch size may be passed: ``x_shape[0]`` is what the choice is
    made for, and ``plan(x[:k])`` has the same bits as ``plan(x)[:k]``. A plan may be used from several threads at
    once, can be pickled and copied, and owns copies of ``weight``, ``bias`` and ``scale``.

    Parameters
    ----------
    x_shape : sequence of int
        (N, C, H, W) or (C, H, W); with ``data_format="channels_last"`` (N, H, W, C) or (H, W, C).
    weight, bias, ... :
        As in ``conv2d``. The type of ``x`` is taken to be ``dtype``, or what ``weight`` and ``bias`` promote to.
    residual : bool
        Whether calls will pass a residual.
    num_threads : int, optional
        The number that the choice is made for, and the default of the calls.

    Returns
    -------
    Plan
        With the attributes ``algorithm``, ``isa``, ``parameters``, ``descriptor``, ``x_shape``, ``output_shape``,
        ``workspace_bytes`` and ``packed_bytes`` (bytes), and ``flops`` (2 per multiply-add of the direct sum).

    Raises
    ------
    ValueError, TypeError
        As ``conv2d``.

    Examples
    --------
    >>> import numpy as np, npconv as nc
    >>> weight = np.ones((2, 3, 3, 3), dtype=np.float32)
    >>> plan = nc.plan_conv2d((1, 3, 8, 8), weight, padding="same", activation="relu")
    >>> plan.output_shape
    (1, 2, 8, 8)
    >>> plan.flops
    6912.0
    >>> x = np.ones((4, 3, 8, 8), dtype=np.float32)
    >>> y = plan(x)
    >>> y.shape, y[3, 1, 4, 4].round(3), y[3, 1, 0, 0].round(3)
    ((4, 2, 8, 8), np.float32(27.0), np.float32(12.0))
    """
    return Plan(
        2, x_shape, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


def plan_conv3d(
    x_shape: Shape,
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
    residual: bool = False,
    residual_after: bool = False,
    dtype: DTypeLike | None = None,
    acc_dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    num_threads: int | None = None,
    workspace_limit: int | None = None,
) -> Plan:
    """Plan ``conv3d`` for volumes of one shape.

    See ``plan_conv2d``; ``x_shape`` is (N, C, D, H, W) or (C, D, H, W).

    Examples
    --------
    >>> import numpy as np, npconv as nc
    >>> plan = nc.plan_conv3d((1, 1, 4, 4, 4), np.ones((1, 1, 2, 2, 2)), stride=2)
    >>> plan(np.ones((1, 1, 4, 4, 4))).sum()
    np.float64(64.0)
    """
    return Plan(
        3, x_shape, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value, data_format,
        weight_format, flip, scale, activation, residual, residual_after, dtype, acc_dtype, algorithm,
        accuracy, num_threads, workspace_limit
    )  # fmt: skip


class Explanation(list[dict[str, Any]]):
    """What ``explain`` found: one dictionary for each algorithm, printed as a table.

    The keys are ``algorithm``, ``refusal`` (why it cannot serve, or None), ``parameters``, ``estimate`` and
    ``measured`` (seconds, or None), ``picked`` and ``source`` (where the choice comes from).
    """

    def __init__(self, descriptor: str, num_threads: int, rows: list[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.descriptor = descriptor
        self.num_threads = num_threads

    def __repr__(self) -> str:
        threads = f"{self.num_threads} thread" + ("s" if self.num_threads != 1 else "")
        lines = [f"{self.descriptor}, {threads}", f"  {'algorithm':<12} {'estimate':>12} {'measured':>12}  parameters"]
        for row in self:
            mark = "*" if row["picked"] else " "
            cells = f"{mark} {row['algorithm']:<12} {_time(row['estimate']):>12} {_time(row['measured']):>12}"
            if row["refusal"] is not None:
                lines.append(f"{cells}  refuses: {row['refusal']}")
            else:
                note = f" (picked by {row['source']})" if row["picked"] else ""
                lines.append(f"{cells}  {row['parameters'] or '-'}{note}")
        return "\n".join(lines)

    __str__ = __repr__


def explain(
    x: ArrayLike,
    /,
    weight: ArrayLike | None = None,
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
) -> Explanation:
    """Tell which algorithm a convolution gets, and why none of the others.

    Nothing is computed or measured: estimates come from the cost model, measured times from earlier tuning.

    Parameters
    ----------
    x : str or array_like
        A descriptor string, such as ``"fwd_f32_ic64ih56_oc64kh3_pt1"``, or the image.
    weight, bias, ... :
        With an image: the same arguments as ``conv2d``; the rank of ``weight`` tells 1-D, 2-D and 3-D apart.
        Those that cannot change the choice (``out``, ``padding_value``, ``flip`` and the like) are ignored.
    num_threads : int, optional
        The number of threads to choose for; None means ``get_num_threads()``.

    Returns
    -------
    Explanation
        A list with one dictionary for each algorithm, printed as a table.

    Raises
    ------
    ValueError
        A descriptor that does not parse, or arguments that ``conv2d`` would not take.

    Examples
    --------
    >>> import npconv as nc
    >>> rows = nc.explain("fwd_f32_mb1_ic8ih28_oc8kh5_pt2")
    >>> next(row["refusal"] is None for row in rows if row["algorithm"] == "winograd")
    False
    >>> sum(row["picked"] for row in rows)
    1
    """
    threads = get_num_threads() if num_threads is None else num_threads
    if isinstance(x, str):
        if weight is not None:
            raise TypeError("explain: a descriptor string stands alone, but weight was passed too")
        descriptor = parse_descriptor(x)["descriptor"]
        return Explanation(descriptor, threads, _explain(descriptor, threads))
    if weight is None:
        raise TypeError(
            f"explain: expected a descriptor string, or x and weight; got x of type {type(x).__name__} alone"
        )
    arrays = [np.asanyarray(a) for a in (x, weight, bias, scale) if a is not None]
    image, kernel = arrays[:2]
    kind = np.dtype(dtype) if dtype is not None else np.result_type(*arrays)
    descriptor = describe(
        kernel.ndim - 2, image.shape, kind, kernel.shape, kind, bias is not None, stride, padding, dilation, groups,
        padding_mode, data_format, weight_format, scale is not None, activation, residual is not None,
        residual_after, accuracy, True
    )  # fmt: skip
    return Explanation(descriptor, threads, _explain(descriptor, threads))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3f} {unit}"
    return f"{seconds * 1e6:.1f} µs"
