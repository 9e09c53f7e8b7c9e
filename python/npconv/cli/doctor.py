"""What `npconv doctor` looks at."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import numpy as np

import npconv as nc
from npconv import _npconv, wisdom


def openmp_runtimes(maps: str = "/proc/self/maps") -> list[str]:
    """Return the OpenMP libraries that this process has loaded."""
    try:
        with open(maps, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    return sorted(set(re.findall(r"(/\S*/lib(?:gomp|omp|iomp5)[^/\s]*\.so\S*)", text)))


def wisdom_state() -> dict[str, Any]:
    """Return where the wisdom is, whether it can be written, and how much there is."""
    file = wisdom.path()
    folder = None if file is None else file.parent
    while folder is not None and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    entries = wisdom.entries()
    per_level: dict[str, int] = {}
    for entry in entries:
        level = f"{entry['isa']}, {entry['threads']} threads"
        per_level[level] = per_level.get(level, 0) + 1
    return {
        "path": None if file is None else str(file),
        "switch": wisdom.switch(),
        "exists": file is not None and file.exists(),
        "bytes": file.stat().st_size if file is not None and file.exists() else 0,
        "writable": folder is not None and os.access(folder, os.W_OK | os.X_OK),
        "entries": len(entries),
        "per_level": per_level,
        "machine_measured": wisdom.machine_is_measured(),
    }


def computes_correctly() -> bool:
    """Whether a convolution gives the sums that NumPy gives, but for rounding."""
    x = np.arange(3 * 9 * 8, dtype=np.float32).reshape(1, 3, 9, 8) % 7 - 3
    w = np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3) % 5 - 2
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, w)
    return bool(np.allclose(nc.conv2d(x, w), expected, rtol=0.0, atol=1e-4 * np.abs(expected).max()))


def examine() -> dict[str, Any]:
    """Return everything `npconv doctor` reports."""
    threads = int(_npconv.get_num_threads())
    fingerprint = dict(_npconv.fingerprint())
    runtimes, state, right = openmp_runtimes(), wisdom_state(), computes_correctly()
    peaks = {
        f"{dtype}, {count} thread{'s' if count > 1 else ''}": float(_npconv.peak_flops(dtype, count, 0.2))
        for dtype in ("f32", "f64")
        for count in sorted({1, threads})
    }
    warnings = []
    if len(runtimes) > 1:
        warnings.append(
            f"{len(runtimes)} OpenMP runtimes are loaded at once: they keep thread pools of their own and may compete"
        )
    if state["switch"] == "on" and not state["writable"]:
        warnings.append("the wisdom file cannot be written: what is tuned is forgotten when the process ends")
    if not state["machine_measured"]:
        warnings.append("the machine's constants were never measured: `npconv tune` does it")
    return {
        "npconv": nc.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "machine": fingerprint,
        "isa": _npconv.isa(),
        "threads": threads,
        "runtime": dict(_npconv.runtime_info()),
        "peak_flops": peaks,
        "machine_constants": dict(_npconv.machine_constants()),
        "wisdom": state,
        "openmp_runtimes": runtimes,
        "computes_correctly": right,
        "warnings": warnings,
    }
