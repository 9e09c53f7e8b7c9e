"""npconv itself: functional calls, a plan with new output arrays, a plan that writes into a given one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .problem import Array, Figure, Problem, channels_last


def on_a_line(x: Array) -> Array:
    """A copy that begins on a cache line, as an earlier layer's output does; NumPy's begin 16 bytes behind."""
    memory = np.empty(x.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    copy = memory[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


class Peer:
    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.nc: Any = importlib.import_module("npconv")
        self.core: Any = importlib.import_module("npconv._npconv")
        self.version = f"npconv {self.nc.__version__} ({self.core.isa()})"
        self.nc.set_num_threads(threads)

    def peak(self, dtype: str, seconds: float) -> float:
        """FLOP/s of nothing but fused multiply-adds, measured now."""
        return float(self.core.peak_flops(dtype, self.threads, seconds))

    def figures(
        self, problem: Problem, x: Array, w: Array, b: Array, folder: Path
    ) -> Iterator[tuple[str, Figure | str]]:
        conv = getattr(self.nc, f"conv{problem.nd}d")
        plan_conv = getattr(self.nc, f"plan_conv{problem.nd}d")
        pairs = list(zip(problem.axes(problem.pad_begin), problem.axes(problem.pad_end), strict=True))
        arguments: dict[str, Any] = {
            "stride": tuple(problem.axes(problem.stride)),
            "padding": tuple(pairs),
            "dilation": tuple(problem.axes(problem.dilation)),
            "groups": problem.g,
            "padding_mode": tuple(problem.axes(problem.padding_modes)),
            "accuracy": problem.accuracy,
        }
        if problem.channels_last:
            x = channels_last(x)
            arguments["data_format"] = "channels_last"

        def fetch(y: Array) -> Array:
            return np.moveaxis(y, -1, 1) if problem.channels_last else y

        plan = plan_conv(x.shape, w, b, **arguments)
        detail = f"{plan.algorithm} {plan.parameters}".strip()
        ready, out = on_a_line(x), plan(x)
        fresh = problem.descriptor.replace("_const_", "_fresh_")
        pick = next(row for row in self.core.explain(fresh, self.threads) if row["picked"])
        picked = f"{pick['algorithm']} {pick['parameters']}".strip()
        yield "functional", Figure("functional", lambda: conv(x, w, b, **arguments), fetch, picked)
        yield "planned", Figure("planned", lambda: plan(x), fetch, detail)
        yield "planned out=", Figure("steady", lambda: plan(ready, out=out), fetch, detail)
