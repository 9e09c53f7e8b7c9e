"""How much slower the estimate's choice is than the best candidate, over the built-in shapes.

    python bench/regret.py [resnet50 ...] [--threads 1 2] [--rounds 6] [--json out.json]

All candidates that are not hopeless are timed in interleaved rounds. "Best" is picked on one half of the rounds and
timed on the other (and the other way round), so that the winner of a noisy race does not count as better than it is.
Regret = the choice's time / the best one's time - 1. Wisdom is neither read nor written.

Arguments that end in .json are results of earlier runs and are added to the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ["NPCONV_WISDOM"] = "0"

import numpy as np

from npconv import _npconv, shapes
from npconv.bench.report import short, table

Candidate = tuple[str, str]  # algorithm, parameters
SCREENING = 1.4  # candidates slower than this times the fastest first visit are dropped


def chosen(descriptor: str, threads: int) -> Candidate:
    pick = next(row for row in _npconv.explain(descriptor, threads) if row["picked"])
    return pick["algorithm"], pick["parameters"] or ""


def regret(descriptor: str, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    measurement = _npconv.Measurement(descriptor, threads)
    pick = chosen(descriptor, threads)
    candidates = [(name, parameters) for name, parameters, _ in _npconv.candidates(descriptor, threads, "measure")]
    first = {one: measurement.run(*one, seconds) for one in dict.fromkeys([pick, *candidates])}
    limit = SCREENING * min(first.values())
    racing = [one for one, time in first.items() if time <= limit or one == pick]
    times: dict[Candidate, list[float]] = {one: [] for one in racing}
    for _ in range(rounds):
        for one in racing:
            times[one].append(measurement.run(*one, seconds))
    halves = [{one: statistics.median(t[half::2]) for one, t in times.items()} for half in (0, 1)]
    # Too inexact for its class: a tuner may not choose it either.
    exact = {one: one == pick or measurement.error(*one)[0] <= 1 for one in _leaders(halves)}
    regrets, best = [], pick
    for picked_on, timed_on in (halves, halves[::-1]):
        best = min((one for one in picked_on if exact.get(one, False)), key=picked_on.__getitem__, default=pick)
        regrets.append(timed_on[pick] / timed_on[best] - 1)
    return {
        "descriptor": descriptor,
        "threads": threads,
        "regret": statistics.mean(regrets),
        "pick": " ".join(pick).strip(),
        "best": " ".join(best).strip(),
        "seconds": statistics.median(times[pick]),
        "raced": len(racing),
        "candidates": len(candidates),
    }


def _leaders(halves: list[dict[Candidate, float]]) -> set[Candidate]:
    """The few candidates that could be best in either half."""
    return {one for half in halves for one in sorted(half, key=half.__getitem__)[:3]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=shapes.networks())
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=6, help="at least 2; half of them pick, half of them time")
    parser.add_argument("--seconds", type=float, default=0.01, help="for one visit of one candidate")
    parser.add_argument("--worst", type=int, default=15, help="how many of the worst layers to show")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    earlier = [name for name in options.networks if name.endswith(".json")]
    rows = [row for name in earlier for row in json.loads(Path(name).read_text(encoding="utf-8"))]
    layers = shapes.resolve([name for name in options.networks if name not in earlier])
    for threads in options.threads:
        for index, layer in enumerate(layers):
            rows.append(regret(layer.descriptor, threads, max(2, options.rounds), options.seconds))
            if sys.stderr.isatty():
                print(f"\r{threads} threads: {index + 1}/{len(layers)} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    body = []
    for threads in options.threads:
        values = [row["regret"] for row in rows if row["threads"] == threads]
        if not values:
            continue
        figures = (np.median(values), np.percentile(values, 95), max(values))
        body.append([str(threads), str(len(values)), *(f"{100 * value:.1f} %" for value in figures)])
    print(table(["threads", "layers", "median regret", "P95", "worst"], body))
    worst = sorted(rows, key=lambda row: -row["regret"])[: options.worst]
    head = ["layer", "threads", "regret", "us", "estimate's choice", "best"]
    print()
    print(table(head, [_line(row) for row in worst]))
    return 0


def _line(row: dict[str, Any]) -> list[str]:
    figures = [str(row["threads"]), f"{100 * row['regret']:.0f} %", f"{1e6 * row['seconds']:.0f}"]
    return [short(row["descriptor"]), *figures, row["pick"], row["best"]]


if __name__ == "__main__":
    sys.exit(main())
