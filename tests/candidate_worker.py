"""Runs the candidates of every algorithm on the shapes of the matrix, in a process of one ISA level.

The argument is the rigor whose candidates they are. A candidate is forced as a measurement would choose it: by an entry of
the wisdom. Input, weights and output border on pages that may not be touched, at their ends or, where the weights hold an
infinity, at their beginnings. Prints a JSON object: how many candidates ran for each algorithm, and what failed; what is about
to run goes to stderr if the argument "trace" follows.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from typing import Any

import numpy as np
import oracle
from accuracy_classes import bounds
from buffers import fenced
from matrix import EXACT, SHAPES, Shape, empty
from matrix_worker import CONV, PLAN, problem, relabel

import npconv as nc
from npconv import _npconv

LAYOUTS = {order: (order, order in ("nhwc", "pixel_gaps")) for order in ("nchw", "plane_gaps", "channels_reversed", "nhwc", "pixel_gaps")}


def force(descriptor: str, threads: int, algorithm: str, parameters: str) -> None:
    entry = {"descriptor": _npconv.wisdom_key(descriptor), "isa": nc.isa(), "threads": threads, "algorithm": algorithm, "parameters": parameters,
             "revision": _npconv.algorithm_revision(algorithm), "seconds": 1e-6, "rigor": "exhaustive", "time": 0.0}
    _npconv.wisdom_clear()
    assert _npconv.wisdom_update([entry]) == (1, 0), entry


def describe(shape: Shape, x: np.ndarray, w: np.ndarray, data_format: str, fresh: bool) -> str:
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    return _npconv.describe(shape.nd, x.shape, x.dtype, w.shape, w.dtype, False, *(getattr(shape, n) for n in names), data_format,
                            None, False, None, False, False, "standard", fresh)


class Checker:
    def __init__(self, rigor: str, trace: bool) -> None:
        self.rigor, self.trace = rigor, trace
        self.ran: Counter[str] = Counter()
        self.failed: list[str] = []

    def shape(self, shape: Shape, dtype: str, layout: str) -> None:
        order, last = LAYOUTS[layout]
        p = problem(shape.name, "integers")
        broken = p.w.astype(dtype)  # one weight of the first output channel that meets the padding, where there is any
        broken[0, 0, *(0,) * shape.nd] = np.inf
        with np.errstate(invalid="ignore"):
            wants = [p.acc, oracle.conv(p.x, broken, **shape.parameters)]
        runs = []
        for weights, want, at_end in zip((p.w, broken), wants, (True, False)):
            x = relabel(fenced(p.x, order, dtype, at_end=at_end), last, shape.batched)
            out = relabel(fenced(want, "nhwc" if last else "nchw", dtype, at_end=at_end), last, shape.batched)
            runs.append((x, fenced(weights, "C", dtype, at_end=at_end), out, relabel(want, last, shape.batched)))
        x, w, *_ = runs[0]
        arguments = {**shape.parameters, "data_format": "channels_last" if last else "channels_first"}
        for fresh, threads in itertools.product((False, True), (1, 3)):
            descriptor = describe(shape, x, w, arguments["data_format"], fresh)
            found = _npconv.candidates(descriptor, threads, self.rigor)
            if len({c[:2] for c in found}) < len(found):
                self.failed.append(f"{descriptor} {threads}: a candidate twice")
            for algorithm, parameters, _ in found:
                force(descriptor, threads, algorithm, parameters)
                for image, weights, out, want in runs:
                    if self.trace:
                        print(descriptor, threads, algorithm, parameters, layout, file=sys.stderr, flush=True)
                    out[...] = np.nan
                    try:
                        self.call(shape, image, weights, {**arguments, "num_threads": threads}, out, fresh, algorithm, parameters)
                        text = self.compare(want, out, algorithm, p.size, dtype)
                    except Exception as error:
                        text = repr(error)
                    if text:
                        self.failed.append(f"{descriptor} {threads} {algorithm} {parameters} {layout}: {text}")
                self.ran[algorithm] += 1

    @staticmethod
    def call(shape: Shape, x: np.ndarray, w: np.ndarray, arguments: dict[str, Any], out: np.ndarray, fresh: bool, algorithm: str,
             parameters: str) -> None:
        if fresh:
            CONV[shape.nd](x, w, out=out, **arguments)
            return
        plan = PLAN[shape.nd](x.shape, w, **arguments)
        assert (plan.algorithm, plan.parameters) == (algorithm, parameters), f"{plan.algorithm} {plan.parameters} was chosen"
        plan(x, out=out)

    @staticmethod
    def compare(want: np.ndarray, got: np.ndarray, algorithm: str, size: float, dtype: str) -> str:
        finite = np.isfinite(want)
        if (np.isfinite(got) != finite).any() or (np.isnan(got) != np.isnan(want)).any():
            return "other elements are not finite"
        limit = 0.0 if algorithm in EXACT else bounds("standard", dtype)[0] * size
        error = np.abs(got[finite].astype(float) - want[finite]).max(initial=0.0)
        return f"error {error:.3g} above {limit:.3g}" if not error <= limit else ""


def main() -> None:
    check = Checker(sys.argv[1], "trace" in sys.argv)
    for name, shape in SHAPES.items():
        if empty(shape):
            continue
        for layout in LAYOUTS:
            if layout == "pixel_gaps" and shape.x[1 if shape.batched else 0] == 1:
                continue  # one channel with gaps is an order of its own, for which nothing was forced
            check.shape(shape, "float64" if len(name) % 3 == 0 else "float32", layout)
    json.dump({"ran": check.ran, "failed": check.failed[:20], "failures": len(check.failed)}, sys.stdout)


if __name__ == "__main__":
    main()
