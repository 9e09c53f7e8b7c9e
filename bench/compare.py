"""Compares two result files of bench/run.py: a table of regressions, exit code 1 if there are any.

    python bench/compare.py before.json after.json [--tolerance 0.05] [--all]

A figure has regressed when both its median and its fastest burst are slower by more than the tolerance, after both
runs have been scaled to the same FMA peak.
"""

from __future__ import annotations

import argparse
import sys

from npconv import bench
from npconv.bench.report import short, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--all", action="store_true", help="every figure, not only the regressions")
    options = parser.parse_args()
    lines = bench.compare(bench.load(options.before), bench.load(options.after), options.tolerance)
    if not lines:
        print("the two files have no figure in common")
        return 2
    worse = [line for line in lines if line["regression"]]
    shown = lines if options.all else worse
    if shown:
        head = ["layer", "threads", "figure", "before us", "after us", "median", "burst", "algorithm"]
        body = []
        for line in shown:
            old, new = line["details"]
            times = [f"{1e6 * line[name]:.1f}" for name in ("before", "after")]
            ratios = [f"{line[name]:.2f}" for name in ("median", "burst")]
            change = new if old == new else f"{old} -> {new}"
            body.append([short(line["descriptor"]), str(line["threads"]), line["figure"], *times, *ratios, change])
        print(table(head, body))
    print(f"{len(worse)} of {len(lines)} figures regressed by more than {options.tolerance:.0%}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
