"""The exact result: a float64 convolution in NumPy, one matrix product per kernel tap."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .peers.problem import Problem

_NUMPY_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


def convolve(problem: Problem, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """conv(x, w) + b in float64; arrays in N, C, spatial and O, I, spatial order."""
    nd, g = problem.nd, problem.g
    begin, end = problem.axes(problem.pad_begin), problem.axes(problem.pad_end)
    padded = x.astype(np.float64)
    for at, mode in enumerate(problem.axes(problem.padding_modes)):
        widths = [(0, 0)] * (nd + 2)
        widths[at + 2] = begin[at], end[at]
        padded = np.pad(padded, widths, mode=_NUMPY_MODES[mode])  # type: ignore[call-overload]
    output, stride = problem.axes(problem.output), problem.axes(problem.stride)
    dilation = problem.axes(problem.dilation)
    points = int(np.prod(output))
    icg, ocg = problem.ic // g, problem.oc // g
    weight = w.astype(np.float64).reshape(g, ocg, icg, -1)
    total = np.zeros((problem.mb, g, ocg, points))
    for tap, place in enumerate(product(*(range(k) for k in problem.axes(problem.kernel)))):
        where = tuple(
            slice(place[i] * dilation[i], place[i] * dilation[i] + (output[i] - 1) * stride[i] + 1, stride[i])
            for i in range(nd)
        )
        part = padded[(slice(None), slice(None), *where)].reshape(problem.mb, g, icg, points)
        total += weight[..., tap] * part if icg == 1 else weight[..., tap] @ part
    result = total.reshape(problem.mb, problem.oc, points) + b.astype(np.float64)[:, None]
    return result.reshape(problem.mb, problem.oc, *output)
