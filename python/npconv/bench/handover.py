"""How fast one core gets at what another one wrote: the machine's state that two-thread figures depend on most.

A virtual machine's cores share a last-level cache at one minute and not at the next, depending on where the host runs
them. The bench prints this figure so that two runs can be told apart.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

SIZE = 8 << 20
ROUNDS = 9


def handover() -> float | None:
    """Bytes a second at which one CPU rewrites what another has just written; None with a single CPU."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    before = os.sched_getaffinity(0)
    cpus = sorted(before)[:2]
    if len(cpus) < 2:
        return None
    buffer = np.zeros(SIZE, np.uint8)
    seconds = []
    try:
        for turn in range(2 * ROUNDS):
            os.sched_setaffinity(0, {cpus[turn % 2]})
            start = time.perf_counter()
            buffer.fill(turn)
            seconds.append(time.perf_counter() - start)
    finally:
        os.sched_setaffinity(0, before)
    return SIZE / statistics.median(seconds[2:])
