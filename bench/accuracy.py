"""The accuracy table: every algorithm's worst error against both statements of its class.

    python bench/accuracy.py [resnet18 ...] [--candidates] [--limit 0.3]

Statement 1, any finite data: |error| <= c * S, S = max of conv(|x|, |w|) + |bias| (winograd and fft with sparse data: max |x| times
the largest sum of |w|; none of the data sets below is sparse).
Statement 2, N(0, 1) data over the shape lists: |error| <= t * max|y|.

Errors are against a float64 convolution. The data sets are N(0, 1), a constant image, an image of 1e4 + N(0, 1) under
zero-sum filters, an image with one spike of 1e6, and signs that are the same in all channels, whose roundings add up. A figure
is error / bound: at most 1 is a kept promise.
`--candidates` adds the errors of every candidate that the tuner may try, on N(0, 1) data, as the tuner sees them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ["NPCONV_WISDOM"] = "0"

import numpy as np

import npconv as nc
from npconv import _npconv, shapes
from npconv.bench.peers.problem import Problem
from npconv.bench.reference import convolve
from npconv.bench.report import short, table

#: The README's promise for f32: class -> (c, t).
CLASSES = {"strict": (4e-6, 1e-6), "standard": (1e-5, 1e-5), "fast": (1e-3, 1e-3)}
Worst = dict[tuple[str, str, str], tuple[float, str]]  # (algorithm, class, statement) -> (error / bound, where)


def data_sets(problem: Problem) -> Iterator[tuple[str, Any, Any, Any]]:
    generator = np.random.default_rng(7)
    x = generator.standard_normal(problem.x_shape).astype(np.float32)
    w = generator.standard_normal(problem.weight_shape)
    w /= np.sqrt(w[0].size)
    b = (0.1 * generator.standard_normal(problem.oc)).astype(np.float32)
    zero_sum = w - w.mean(axis=tuple(range(1, w.ndim)), keepdims=True)
    spike = x.copy()
    spike[(0, 0, *(size // 2 for size in spike.shape[2:]))] = 1e6
    yield "normal", x, w.astype(np.float32), b
    yield "constant", np.ones_like(x), w.astype(np.float32), b
    yield "offset", (x + 1e4).astype(np.float32), zero_sum.astype(np.float32), b
    yield "spike", spike, w.astype(np.float32), b
    alike = [np.broadcast_to(np.sign(a[:, :1]) / 3, a.shape).astype(np.float32) for a in (x, w)]
    yield "alike", *alike, b


def arguments(problem: Problem) -> dict[str, Any]:
    pads = zip(problem.axes(problem.pad_begin), problem.axes(problem.pad_end), strict=True)
    return {
        "stride": tuple(problem.axes(problem.stride)),
        "padding": tuple(pads),
        "dilation": tuple(problem.axes(problem.dilation)),
        "groups": problem.g,
        "padding_mode": tuple(problem.axes(problem.padding_modes)),
    }


def note(worst: Worst, key: tuple[str, str, str], figure: float, where: str) -> None:
    if figure > worst.get(key, (-1.0, ""))[0]:
        worst[key] = figure, where


def check(problem: Problem, worst: Worst, only_normal: bool) -> None:
    conv = getattr(nc, f"conv{problem.nd}d")
    where = short(problem.descriptor)
    for name, x, w, b in data_sets(problem):
        if only_normal and name != "normal":
            continue
        exact = convolve(problem, x, w, b)
        scale = convolve(problem, np.abs(x), np.abs(w), np.abs(b)).max()
        for accuracy, (c, t) in CLASSES.items():
            for algorithm in _npconv.algorithms():
                if algorithm == "reference":
                    continue
                try:
                    y = conv(x, w, b, **arguments(problem), algorithm=algorithm, accuracy=accuracy, num_threads=1)
                except ValueError:  # the algorithm refuses this shape or this class
                    continue
                error = float(np.abs(y - exact).max())
                note(worst, (algorithm, accuracy, "any"), error / scale / c, f"{name}, {where}")
                if name == "normal":
                    note(worst, (algorithm, accuracy, "normal"), error / float(np.abs(exact).max()) / t, where)


def check_candidates(descriptor: str, worst: Worst) -> None:
    for accuracy in CLASSES:
        text = descriptor.replace("_standard_", f"_{accuracy}_")
        measurement = _npconv.Measurement(text, 1)
        for algorithm, parameters, _ in _npconv.candidates(text, 1, "measure"):
            to_c, to_t = measurement.error(algorithm, parameters)
            where = f"{parameters}, {short(descriptor)}"
            note(worst, (algorithm, accuracy, "candidates any"), to_c, where)
            note(worst, (algorithm, accuracy, "candidates normal"), to_t, where)


def show(worst: Worst, first: str, second: str) -> None:
    head = ["algorithm", "class", "error / (c S)", "error / (t max|y|)", "worst of the first", "worst of the second"]
    body = []
    for algorithm in _npconv.algorithms():
        for accuracy in CLASSES:
            pair = [worst.get((algorithm, accuracy, statement)) for statement in (first, second)]
            if any(pair):
                cells = [f"{one[0]:.2f}" if one else "-" for one in pair]
                body.append([algorithm, accuracy, *cells, *(one[1] if one else "-" for one in pair)])
    print(table(head, body))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=shapes.networks())
    parser.add_argument("--limit", type=float, default=0.3, help="GMAC above which only N(0, 1) data is tried")
    parser.add_argument("--candidates", action="store_true")
    options = parser.parse_args()
    layers = shapes.resolve(options.networks)
    worst: Worst = {}
    for index, layer in enumerate(layers):
        problem = Problem.of(_npconv.parse_descriptor(layer.descriptor))
        check(problem, worst, problem.flops > 2e9 * options.limit)
        if options.candidates:
            check_candidates(layer.descriptor, worst)
        if sys.stderr.isatty():
            print(f"\r{index + 1}/{len(layers)} ", end="", file=sys.stderr, flush=True)
    print(f"{len(layers)} layers, ISA {_npconv.isa()}")
    show(worst, "any", "normal")
    if options.candidates:
        print("\nEvery candidate")
        show(worst, "candidates any", "candidates normal")
    return 1 if any(figure > 1 for figure, _ in worst.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
