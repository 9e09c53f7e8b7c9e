"""Runs matrix cases in a process of one ISA level: reads a JSON list of cases a line, answers with a JSON list.

An answer is null where all was well, the reason of a rightful refusal as ["refused", reason], else ["failed", text].
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import oracle
from accuracy_classes import bounds
from buffers import Buffer, element_strides, surrounded
from matrix import EXACT, PROMISED, SHAPES, Case, Shape

import npconv as nc
from npconv import _npconv

CONV = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
PLAN = {1: nc.plan_conv1d, 2: nc.plan_conv2d, 3: nc.plan_conv3d}
POISON = -7.25e30
TEMPTING = 256  # outputs from which on max|y| says something about N(0, 1) data

# name: bias, scale, residual ("" | before | after), activation
EPILOGUES: dict[str, tuple[bool, bool, str, Any]] = {
    "none": (False, False, "", None),
    "bias": (True, False, "", None),
    "scale": (False, True, "", None),
    "scale_bias": (True, True, "", None),
    "relu": (False, False, "", "relu"),
    "bias_relu6": (True, False, "", "relu6"),
    "leaky_relu": (False, False, "", ("leaky_relu", 0.25)),
    "bias_clip": (True, False, "", ("clip", -7.0, 9.0)),
    "residual": (False, False, "before", None),
    "bias_residual_relu": (True, False, "before", "relu"),
    "scale_bias_relu_residual_after": (True, True, "after", "relu"),
    "silu": (False, True, "", "silu"),
    "sigmoid_residual_after": (False, True, "after", "sigmoid"),
    "bias_tanh": (True, True, "", "tanh"),
    "hardswish": (False, True, "", "hardswish"),
    "bias_gelu": (True, True, "", "gelu"),
    "gelu_tanh": (False, True, "", ("gelu", "tanh")),
}
SMOOTH = ("silu", "sigmoid_residual_after", "bias_tanh", "hardswish", "bias_gelu", "gelu_tanh")
SLOPE = 1.13  # no activation is steeper than this (gelu, silu and hardswish are the steep ones; hardswish has 1.5)
STEEPEST = {"hardswish": 1.5}


class Problem:
    """Data of one shape: the same for all cases, and the oracle's sum computed once."""

    def __init__(self, shape: Shape, data: str) -> None:
        rng = np.random.default_rng([len(shape.name), *shape.x, *shape.w])
        if data == "integers":
            self.x = rng.integers(-4, 5, shape.x).astype(float)
            self.w = rng.integers(-3, 4, shape.w).astype(float)
            self.bias = rng.integers(-8, 9, shape.w[0]).astype(float)
            self.scale = rng.choice([-2.0, -1.0, 0.5, 1.0, 2.0], shape.w[0])
        else:
            self.x, self.w = (rng.standard_normal(s).astype(np.float32).astype(float) for s in (shape.x, shape.w))
            self.bias = rng.standard_normal(shape.w[0]).astype(np.float32).astype(float)
            self.scale = rng.uniform(0.5, 1.5, shape.w[0]).astype(np.float32).astype(float)
        self.acc = oracle.conv(self.x, self.w, **shape.parameters)
        self.residual = rng.integers(-9, 10, self.acc.shape).astype(float)
        self.size = oracle.magnitude(self.x, self.w, **shape.parameters)
        spread = float(self.acc.std()) if self.acc.size else 1.0
        # for smooth activations: a power of two that brings the sums to where they are curved
        self.smooth_scale = np.sign(self.scale) * 2.0 ** -round(np.log2(max(spread, 1e-3) / 3))


@lru_cache(maxsize=64)
def problem(shape: str, data: str) -> Problem:
    return Problem(SHAPES[shape], data)


@lru_cache(maxsize=64)
def epilogue(shape: str, data: str, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Arguments in float64 and the exact result."""
    p = problem(shape, data)
    bias, scale, residual, activation = EPILOGUES[name]
    arguments: dict[str, Any] = {"activation": activation}
    if bias:
        arguments["bias"] = p.bias
    if scale:
        arguments["scale"] = p.smooth_scale if name in SMOOTH else p.scale
    if residual:
        arguments["residual"] = p.residual
        arguments["residual_after"] = residual == "after"
    return arguments, oracle.epilogue(p.acc, **arguments)


def image_layout(case: Case) -> tuple[str, bool]:
    """Memory layout of x and whether data_format is channels_last."""
    return {"nchw": ("nchw", False), "nhwc": ("nhwc", True), "nchw_as_last": ("nchw", True),
            "nhwc_as_first": ("nhwc", False), "plane_gaps": ("plane_gaps", False), "pixel_gaps": ("pixel_gaps", True),
            "scattered": ("scattered", False)}[case.layout]


def relabel(array: np.ndarray, last: bool, batched: bool) -> np.ndarray:
    """The (N, C, *S) array as the caller passes it."""
    array = np.moveaxis(array, 1, -1) if last else array
    return array if batched else array[0]


@lru_cache(maxsize=256)
def image(shape: str, data: str, dtype: str, layout: str, last: bool) -> np.ndarray:
    return relabel(surrounded(problem(shape, data).x, layout, dtype), last, SHAPES[shape].batched)


@lru_cache(maxsize=256)
def weights(shape: str, data: str, dtype: str, how: str) -> tuple[np.ndarray, dict[str, Any]]:
    w, nd = problem(shape, data).w, SHAPES[shape].nd
    if how == "letters":  # HWIO and its likes
        order = (*range(2, nd + 2), 1, 0)
        arguments = {"weight_format": oracle.SPATIAL_LETTERS[nd] + "IO"}
        return surrounded(w, "nchw", dtype).astype(dtype).transpose(order).copy(), arguments
    if how == "flip":
        return w[(slice(None), slice(None)) + (slice(None, None, -1),) * nd].astype(dtype), {"flip": True}
    return surrounded(w, "scattered" if how == "scattered" else "nchw", dtype), {}


def destination(case: Case, shape: Shape, logical: tuple[int, ...], last: bool) -> Buffer | None:
    if case.out == "new":
        return None
    layout = {"dense": "nhwc" if last else "nchw", "crossed": "nchw" if last else "nhwc", "scattered": "scattered"}[case.out]
    return Buffer(logical, element_strides(layout, logical), case.dtype, POISON)


def refusal(case: Case, shape: Shape, x: np.ndarray, w: np.ndarray, arguments: dict[str, Any]) -> str | None:
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    x_shape = x.shape
    if case.call == "plan" and shape.batched and x.shape[0] == 0:
        x_shape = (1, *x.shape[1:])  # a plan serves any batch; one for no image at all is made as for one
    descriptor = _npconv.describe(
        shape.nd, x_shape, np.dtype(case.dtype), w.shape, np.dtype(case.dtype), "bias" in arguments,
        *(getattr(shape, n) for n in names), arguments["data_format"], arguments.get("weight_format"), "scale" in arguments,
        arguments["activation"], "residual" in arguments, arguments.get("residual_after", False), case.accuracy,
        case.call == "fresh")
    row = next(r for r in _npconv.explain(descriptor, case.threads) if r["algorithm"] == case.algorithm)
    return row["refusal"]


def call(case: Case, shape: Shape, x: np.ndarray, w: np.ndarray, arguments: dict[str, Any],
         out: np.ndarray | None) -> np.ndarray:
    common = {**shape.parameters, **arguments, "algorithm": case.algorithm, "accuracy": case.accuracy}
    if case.call == "fresh":
        return CONV[shape.nd](x, w, out=out, num_threads=case.threads, **common)
    residual = common.pop("residual", None)
    plan = PLAN[shape.nd](x.shape, w, residual=residual is not None, num_threads=case.threads, **common)
    return plan(x, out=out, residual=residual)


def tolerance(case: Case, p: Problem, arguments: dict[str, Any], want: np.ndarray) -> float:
    """Largest error allowed: the class's bound through scale and activation, and the rounding of the epilogue itself."""
    eps = float(np.finfo(case.dtype).eps)
    size = float(np.abs(want).max(initial=1.0))
    if case.data == "integers" and case.algorithm in EXACT:
        return 0.0 if case.epilogue not in SMOOTH else 16 * eps * size
    c, t = bounds(case.accuracy, case.dtype)
    largest = float(np.abs(p.acc).max(initial=0.0))
    acc = t * largest if case.data == "normal" and p.acc.size >= TEMPTING else c * p.size
    slope = STEEPEST.get(case.epilogue, SLOPE if case.epilogue in SMOOTH else 1.0)
    scale = float(np.abs(arguments.get("scale", 1.0)).max(initial=0.0))
    return acc * scale * slope + 16 * eps * max(size, scale * largest)


def check(case: Case) -> list[str] | None:
    shape, p = SHAPES[case.shape], problem(case.shape, case.data)
    layout, last = image_layout(case)
    x = image(case.shape, case.data, case.dtype, layout, last)
    w, arguments = weights(case.shape, case.data, case.dtype, case.weights)
    values, want = epilogue(case.shape, case.data, case.epilogue)
    arguments = {**arguments, **values, "data_format": "channels_last" if last else "channels_first"}
    for name in ("bias", "scale"):
        if name in arguments:
            arguments[name] = arguments[name].astype(case.dtype)
    if "residual" in arguments:
        arguments["residual"] = relabel(surrounded(p.residual, layout, case.dtype), last, shape.batched)
    buffer = destination(case, shape, want.shape, last)
    out = None if buffer is None else relabel(buffer.array, last, shape.batched)
    reason = refusal(case, shape, x, w, arguments)
    if reason is not None:
        if PROMISED.get(case.algorithm, lambda s: False)(shape):
            return ["failed", f"refuses what it promises to take: {reason}"]
        return refused(case, shape, x, w, arguments, buffer, out, reason)
    got = call(case, shape, x, w, arguments, out)
    return judge(case, p, arguments, want, got, out, buffer, last)


def refused(case: Case, shape: Shape, x: np.ndarray, w: np.ndarray, arguments: dict[str, Any], buffer: Buffer | None,
            out: np.ndarray | None, reason: str) -> list[str]:
    try:
        call(case, shape, x, w, arguments, out)
    except ValueError as error:
        if reason not in str(error) or case.algorithm not in str(error):
            return ["failed", f"{error} lacks the algorithm's name or explain's reason: {reason}"]
        if buffer is not None and not (buffer.array == np.array(POISON, dtype=case.dtype)).all():
            return ["failed", "a refused call wrote to out"]
        return ["refused", reason]
    return ["failed", f"explain says that it refuses ({reason}), yet the forced call ran"]


def judge(case: Case, p: Problem, arguments: dict[str, Any], want: np.ndarray, got: np.ndarray, out: np.ndarray | None,
          buffer: Buffer | None, last: bool) -> list[str] | None:
    want = relabel(want, last, SHAPES[case.shape].batched)
    if out is not None and got is not out:
        return ["failed", "the result is not the array passed as out"]
    if got.dtype != np.dtype(case.dtype) or got.shape != want.shape:
        return ["failed", f"got {got.dtype} {got.shape}, expected {case.dtype} {want.shape}"]
    if out is None and not got.flags.c_contiguous:
        return ["failed", "a new output is not C-contiguous"]
    if buffer is not None and buffer.changed_outside():
        return ["failed", "wrote outside out"]
    limit = tolerance(case, p, arguments, want)
    if limit == 0:
        wrong = got != want.astype(case.dtype)
    else:
        wrong = ~(np.abs(got.astype(float) - want) <= limit)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        worst = float(np.abs(got.astype(float) - want).max())
        return ["failed", f"{int(wrong.sum())} of {wrong.size} wrong, first at {at}: {got[at]!r} instead of {want[at]!r}; "
                          f"largest error {worst:.3g}, allowed {limit:.3g}"]
    return None


def answer(fields: dict[str, Any]) -> list[str] | None:
    try:
        return check(Case(**fields))
    except Exception:
        return ["failed", traceback.format_exc()]


def main() -> None:
    warnings.simplefilter("error")
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints, prints to stderr
    for line in sys.stdin:
        channel.write(json.dumps([answer(fields) for fields in json.loads(line)]) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
