"""How much subnormal numbers slow a call down: the promise is less than 2x.

    python bench/subnormals.py [--threads 1] [--rounds 15]

Processors handle subnormal operands in microcode, a hundred times slower. Every algorithm runs on ordinary data and on
three kinds of tiny data; the figure is the ratio of the medians, visits interleaved.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["NPCONV_WISDOM"] = "0"

import numpy as np

import npconv as nc
from npconv import _npconv
from npconv.bench.peers.worker import burst
from npconv.bench.report import table

#: name -> image shape, weight shape, padding, groups: one layer that each algorithm likes.
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int]] = {
    "1x1": ((1, 256, 14, 14), (256, 256, 1, 1), 0, 1),
    "3x3": ((1, 64, 28, 28), (64, 64, 3, 3), 1, 1),
    "depthwise 3x3": ((1, 192, 28, 28), (192, 1, 3, 3), 1, 192),
    "15x15, one channel": ((1, 1, 256, 256), (1, 1, 15, 15), 7, 1),
}
#: kind of data -> factor for the image, factor for the weights; products of the last kind are subnormal.
KINDS = {"image 1e-40": (1e-40, 1.0), "weights 1e-40": (1.0, 1e-40), "products 1e-40": (1e-20, 1e-20)}


def calls(name: str, algorithm: str, accuracy: str, threads: int) -> dict[str, Callable[[], Any]] | None:
    """The timed calls: ordinary data first, then one per kind. None where the algorithm refuses the layer."""
    x_shape, w_shape, padding, groups = LAYERS[name]
    generator = np.random.default_rng(3)
    x, w = generator.standard_normal(x_shape), generator.standard_normal(w_shape)
    found: dict[str, Callable[[], Any]] = {}
    for kind, (of_x, of_w) in {"ordinary": (1.0, 1.0), **KINDS}.items():
        image, weights = (x * of_x).astype(np.float32), (w * of_w).astype(np.float32)
        try:
            plan = nc.plan_conv2d(
                x_shape,
                weights,
                padding=padding,
                groups=groups,
                algorithm=algorithm,
                accuracy=accuracy,
                num_threads=threads,
            )
        except ValueError:
            return None
        found[kind] = functools.partial(plan, image, out=np.empty(plan.output_shape, np.float32))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    body, worst = [], 0.0
    for name in LAYERS:
        for algorithm in _npconv.algorithms():
            for accuracy in ("strict", "standard"):
                if algorithm == "reference":
                    continue
                todo = calls(name, algorithm, accuracy, options.threads)
                if todo is None:
                    continue
                times: dict[str, list[float]] = {kind: [] for kind in todo}
                for _ in range(options.rounds):
                    for kind, call in todo.items():
                        times[kind].append(burst(call, 0.004)[0])
                        time.sleep(0.001)
                medians = {kind: statistics.median(values) for kind, values in times.items()}
                ratios = [medians[kind] / medians["ordinary"] for kind in KINDS]
                worst = max(worst, *ratios)
                body.append(
                    [name, algorithm, accuracy, f"{1e6 * medians['ordinary']:.0f}", *(f"{r:.2f}" for r in ratios)]
                )
    print(table(["layer", "algorithm", "class", "ordinary us", *KINDS], body))
    print(f"worst {worst:.2f}x")
    return 1 if worst > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
