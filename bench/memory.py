"""Resident memory over many random shapes: the plan and workspace caches have a ceiling.

    python bench/memory.py [--shapes 10000] [--json]

Calls npconv on random shapes, no two alike, and prints the resident size at ten points, beside it what malloc has
handed out and not got back (glibc only), and the slope of both over the second half of the calls. A cache without a
bound shows as kilobytes a call in both; pages that the allocator keeps between blocks of odd sizes only in the first.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["NPCONV_WISDOM"] = "0"

import numpy as np

import npconv as nc


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def allocated() -> int:
    """Bytes in blocks that malloc has handed out, mapped ones among them; 0 where the C library does not say."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return 0
    function.restype = MallInfo
    info = function()
    return int(info.uordblks + info.hblkhd)


def call(generator: Any) -> None:
    """One random convolution, 1-D to 3-D, grouped or not, functional or planned."""
    nd = int(generator.integers(1, 4))
    groups = int(generator.choice([1, 1, 2, 4]))
    ic, oc = (groups * int(generator.integers(1, 13)) for _ in range(2))
    kernel = [int(k) for k in generator.integers(1, 6, nd)]
    size = [int(generator.integers(k, {1: 400, 2: 40, 3: 12}[nd])) for k in kernel]
    x = generator.random((int(generator.integers(1, 4)), ic, *size), np.float32)
    w = generator.random((oc, ic // groups, *kernel), np.float32)
    options: dict[str, Any] = {
        "stride": int(generator.integers(1, 3)),
        "padding": int(generator.integers(0, 2)),
        "groups": groups,
    }
    if generator.random() < 0.5:
        getattr(nc, f"conv{nd}d")(x, w, **options)
    else:
        getattr(nc, f"plan_conv{nd}d")(x.shape, w, **options)(x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator = np.random.default_rng(11)
    sizes = np.empty((options.shapes, 2))
    for index in range(options.shapes):
        call(generator)
        sizes[index] = resident(), allocated()
    half = options.shapes // 2
    slopes = [float(slope) for slope in np.polyfit(np.arange(half), sizes[-half:], 1)[0]]
    points = [(int(at), *map(float, sizes[at])) for at in np.linspace(0, options.shapes - 1, 11).astype(int)]
    if options.json:
        print(json.dumps({"shapes": options.shapes, "slopes_bytes_per_shape": slopes, "points": points}))
    else:
        for at, resident_size, allocated_size in points:
            print(f"{at + 1:7d} shapes  {resident_size / 2**20:8.1f} MiB resident  {allocated_size / 2**20:8.1f} MiB allocated")
        print(f"slopes over the last {half} shapes: {slopes[0]:.0f} and {slopes[1]:.0f} bytes a shape")
        print(f"caches: {nc.memory_info()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
