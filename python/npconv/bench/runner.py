"""The measurement itself: layer by layer, peers and figures visited round robin."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from sys import executable
from typing import Any

import numpy as np

from .. import _npconv
from .handover import handover
from .peers import PEERS
from .peers.problem import Problem
from .reference import convolve
from .workers import Unavailable, WorkerProcess, machine_cpu_seconds

Row = dict[str, Any]
Progress = Callable[[int, int, list[Row]], None]

#: A round counts as disturbed when processes outside the measurement used more than this share of the machine.
DISTURBED = 0.12
BURST = 0.008
RECOVERY = 0.1  # pause after a disturbed round: whatever disturbed it may be gone then
PEAK_BURST = 0.01
LEAST_ROUNDS, MOST_ROUNDS = 5, 25


@dataclass
class _Entry:
    """One figure of one worker for the present layer, and its bursts as (seconds per call, disturbed)."""

    worker: WorkerProcess
    name: str
    facts: dict[str, Any]
    bursts: list[tuple[float, bool]] = field(default_factory=list)

    def times(self) -> list[float]:
        clean = [seconds for seconds, disturbed in self.bursts if not disturbed]
        return clean if len(clean) >= max(3, len(self.bursts) // 3) else [seconds for seconds, _ in self.bursts]


def run(
    descriptors: Iterable[str],
    peers: Sequence[str] = (),
    threads: Sequence[int] = (1, 2),
    seconds: float = 1.0,
    progress: Progress | None = None,
    *,
    python: str | Mapping[str, str] | None = None,
) -> list[Row]:
    """Measure npconv, and the peers named, on some layers.

    Every (peer, thread count) is a process of its own. `seconds` is how long a layer's bursts may take for one
    thread count and all peers together (never fewer than five rounds; up to twice as many where other processes
    disturb). `progress(done, total, rows)` is called after each layer and thread count with that part's rows.
    `python` is the peers' interpreter, one for all or one by peer name; npconv always runs under this one.

    Returns one row per layer, thread count, peer and figure:

    descriptor, threads, peer, figure
        what was measured. npconv's figures are "functional", "planned" and "planned out=".
    kind
        "functional", "planned" or "steady"; figures are compared within a kind and with stricter ones.
    seconds, burst, rounds, disturbed
        median over the rounds, fastest round, number of rounds, and how many of them other processes disturbed
        (those are left out of the median while enough others remain).
    error
        largest difference from a float64 reference, relative to the largest value.
    gflops, peak, percent_of_peak
        of the direct algorithm; the FMA peak measured in this run, in FLOP/s.
    handover
        with two and more threads: bytes a second at which one CPU rewrites what another wrote, measured beside it.
    detail
        algorithm and parameters, for npconv.
    best_peer, ratio, ratio_burst
        npconv's rows: the fastest comparable peer, and its time over ours, median to median and burst to burst.
    skipped or failed
        instead of all these: why there is no figure. A peer that can't be started has one such row per thread
        count, with an empty descriptor.
    """
    problems = [Problem.of(_npconv.parse_descriptor(text)) for text in descriptors]
    chosen = ["npconv", *(peer for peer in peers if peer != "npconv")]
    for peer in chosen:
        if peer not in PEERS:
            raise ValueError(f"unknown peer {peer!r}: expected some of {', '.join(p for p in PEERS if p != 'npconv')}")
    with tempfile.TemporaryDirectory(prefix="npconv-bench-", dir=_memory_folder()) as folder:
        session = _Session(Path(folder), threads, seconds)
        try:
            session.start(chosen, python)
            for index, problem in enumerate(problems):
                session.prepare(problem)
                for at, count in enumerate(threads):
                    rows = session.measure(problem, count)
                    if progress is not None:
                        progress(index * len(threads) + at + 1, len(problems) * len(threads), rows)
        finally:
            session.stop()
    return session.rows


def _memory_folder() -> str | None:
    """Where the arrays are handed over: in memory where there is such a folder."""
    shared = "/dev/shm"
    return shared if os.access(shared, os.W_OK) else None


class _Session:
    def __init__(self, folder: Path, threads: Sequence[int], seconds: float) -> None:
        self.folder, self.threads, self.seconds = folder, threads, seconds
        self.workers: list[WorkerProcess] = []
        self.rows: list[Row] = []
        self.peaks: dict[tuple[int, str], float] = {}

    def start(self, chosen: Sequence[str], python: str | Mapping[str, str] | None) -> None:
        for threads in self.threads:
            for peer in chosen:
                where = python if isinstance(python, str) else (python or {}).get(peer)
                interpreter = executable if peer == "npconv" or where is None else where
                worker = WorkerProcess(peer, threads, self.folder, interpreter)
                try:
                    worker.start()
                except Unavailable as reason:
                    self.rows.append({"descriptor": "", "threads": threads, "peer": peer, "skipped": str(reason)})
                    if peer == "npconv":
                        raise RuntimeError(f"npconv's own worker can't start: {reason}") from None
                else:
                    self.workers.append(worker)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()

    def prepare(self, problem: Problem) -> None:
        """Writes the arrays of a layer and their exact result where the workers find them."""
        generator = np.random.default_rng(1)
        dtype = problem.numpy_dtype
        w = generator.standard_normal(problem.weight_shape)
        arrays = {
            "x": generator.standard_normal(problem.x_shape).astype(dtype),
            "w": (w / np.sqrt(max(1, w[0].size))).astype(dtype),
            "b": (0.1 * generator.standard_normal(problem.oc)).astype(dtype),
        }
        for name, array in (*arrays.items(), ("y", convolve(problem, **arrays))):
            np.save(self.folder / f"{name}.npy", array)

    def measure(self, problem: Problem, threads: int) -> list[Row]:
        """The rows of one layer at one thread count; they are added to self.rows too."""
        active = [worker for worker in self.workers if worker.threads == threads]
        rows: list[Row] = []
        entries: list[_Entry] = []
        for worker in active:
            entries += self._build(worker, problem, rows)
        self._rounds(problem, threads, active, entries)
        between = handover() if threads > 1 else None
        for entry in entries:
            rows.append(self._row(problem, entry))
            if between is not None and entry.bursts:
                rows[-1]["handover"] = between
        for worker in active:
            self._free(worker)
        self.rows += rows
        self._percentages(problem.dtype, threads)
        _ratios(rows)
        return rows

    def _build(self, worker: WorkerProcess, problem: Problem, rows: list[Row]) -> list[_Entry]:
        head = {"descriptor": problem.descriptor, "threads": worker.threads, "peer": worker.peer}
        try:
            answer = worker.ask("build", asdict(problem), str(self.folder))
        except (RuntimeError, Unavailable) as error:
            rows.append({**head, "figure": "", "failed": str(error)})
            return []
        entries = []
        for name, facts in answer.items():
            if "seconds" in facts:
                entries.append(_Entry(worker, name, facts))
            else:
                rows.append({**head, "figure": name, **facts})
        return entries

    def _rounds(self, problem: Problem, threads: int, active: list[WorkerProcess], entries: list[_Entry]) -> None:
        if not entries:
            return
        for worker in self.workers:
            worker.wait_quiet()
        each = sum(2 * max(BURST, entry.facts["seconds"]) for entry in entries)
        wanted = int(min(MOST_ROUNDS, max(LEAST_ROUNDS, self.seconds / each)))
        clean, first = 0, time.perf_counter()
        for visited in range(2 * wanted):
            if clean == wanted or (visited >= wanted and time.perf_counter() - first > 2 * self.seconds):
                break
            before, own, start = machine_cpu_seconds(), self._own(), time.perf_counter()
            values = [self._burst(entry) for entry in entries]
            self._peak(threads, problem.dtype, active)
            busy = machine_cpu_seconds() - before - (self._own() - own)
            disturbed = busy > DISTURBED * (os.cpu_count() or 1) * (time.perf_counter() - start)
            for entry, value in zip(entries, values, strict=True):
                if value is not None:
                    entry.bursts.append((value, disturbed))
            clean += not disturbed
            if disturbed and visited >= wanted:
                time.sleep(RECOVERY)

    def _own(self) -> float:
        return sum(os.times()[:2]) + sum(worker.cpu_seconds() for worker in self.workers)

    def _burst(self, entry: _Entry) -> float | None:
        try:
            value = float(entry.worker.ask("burst", entry.name, BURST)[0])
        except (RuntimeError, Unavailable) as error:
            entry.facts["failed"] = str(error)
            return None
        entry.worker.wait_quiet()
        return value

    def _peak(self, threads: int, dtype: str, active: list[WorkerProcess]) -> None:
        worker = next(worker for worker in active if worker.peer == "npconv")
        value = float(worker.ask("peak", dtype, PEAK_BURST))
        worker.wait_quiet()
        self.peaks[threads, dtype] = max(value, self.peaks.get((threads, dtype), 0.0))

    def _free(self, worker: WorkerProcess) -> None:
        with contextlib.suppress(RuntimeError, Unavailable):  # a restarted worker holds nothing
            worker.ask("free")

    def _row(self, problem: Problem, entry: _Entry) -> Row:
        head = {
            "descriptor": problem.descriptor,
            "threads": entry.worker.threads,
            "peer": entry.worker.peer,
            "figure": entry.name,
        }
        if not entry.bursts:
            return {**head, "failed": entry.facts["failed"]}
        median = statistics.median(entry.times())
        return {
            **head,
            "version": entry.worker.version,
            "kind": entry.facts["kind"],
            "detail": entry.facts["detail"],
            "seconds": median,
            "burst": min(seconds for seconds, _ in entry.bursts),
            "rounds": len(entry.bursts),
            "disturbed": sum(disturbed for _, disturbed in entry.bursts),
            "error": entry.facts["error"],
            "gflops": problem.flops / median / 1e9,
            "dtype": problem.dtype,
        }

    def _percentages(self, dtype: str, threads: int) -> None:
        """Percentages of the fastest peak of the whole run so far: the same scale for every layer."""
        peak = self.peaks.get((threads, dtype))
        for row in self.rows:
            if peak and "gflops" in row and row["threads"] == threads and row["dtype"] == dtype:
                row["peak"], row["percent_of_peak"] = peak, 100e9 * row["gflops"] / peak


#: Which kinds of a peer's figures a figure of ours is compared with: at least as much is prepared there.
_COMPARABLE = {
    "functional": ("functional",),
    "planned": ("functional", "planned"),
    "steady": ("functional", "planned", "steady"),
}


def _ratios(rows: list[Row]) -> None:
    timed = [row for row in rows if "seconds" in row]
    for ours in timed:
        if ours["peer"] != "npconv":
            continue
        others = [row for row in timed if row["peer"] != "npconv" and row["kind"] in _COMPARABLE[ours["kind"]]]
        if others:
            best = min(others, key=lambda row: float(row["seconds"]))
            ours["best_peer"] = f"{best['peer']} {best['figure']}"
            ours["ratio"] = best["seconds"] / ours["seconds"]
            ours["ratio_burst"] = min(row["burst"] for row in others) / ours["burst"]
