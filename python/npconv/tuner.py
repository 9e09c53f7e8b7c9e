"""Measures the candidates of problems on this machine and remembers the winners.

The loop is here, the timing of one candidate is the extension's (`Measurement`). Candidates of one problem are timed
in turns, so that whatever else the machine does hits all of them; clear losers leave after each turn. The finalists
run two more rounds of several turns, and the cost model's own choice is replaced only by a candidate that was at least
5 % faster in both. A candidate's result is checked before it may win.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import Any, Literal, NamedTuple

from npconv import _npconv, shapes, wisdom
from npconv._wisdom_file import Entry

__all__ = ["Progress", "TuneReport", "TuneRow", "tune", "tune_missing"]

Mode = Literal["measure", "exhaustive"]

GAIN = 0.95  # a challenger must need at most this share of the incumbent's time
SCREEN_LOSER = (2.0, 1.3)  # who needs more than this times the best time after the first, second turn is out
HOPELESS_ESTIMATE = {"measure": 6.0, "exhaustive": 30.0}
BUDGET_SECONDS = {"measure": 2.0, "exhaustive": 12.0}  # for one problem
SLOT_SECONDS = (0.002, 0.1)  # bounds of one timing of one candidate
SLOT_CALLS = 50  # no more calls of one candidate in one turn, unless they are very short
FINALISTS = 4
PEAK_SECONDS = 0.2
CONSTANTS_SECONDS = 2.0
SETTLED = 1.05  # the second best turn of a round needs at most this times the best one
NOISY = 1.1  # the two rounds' times of a winner differ by more than this factor


@dataclass(frozen=True)
class TuneRow:
    """What tuning one problem for one number of threads has found.

    `seconds`, `estimate_seconds` (the cost model's own choice) and `im2col_seconds` were timed in the same rounds.
    """

    name: str
    descriptor: str
    threads: int
    count: int = 1
    status: Literal["tuned", "known", "out of time", "failed"] = "tuned"
    algorithm: str | None = None
    parameters: str | None = None
    seconds: float | None = None
    gflops: float | None = None
    peak_percent: float | None = None
    estimate_algorithm: str | None = None
    estimate_seconds: float | None = None
    im2col_seconds: float | None = None
    speedup: float | None = None
    gain: float | None = None
    noise: float | None = None
    candidates: int = 0
    rejected: tuple[str, ...] = ()
    tuning_seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class TuneReport:
    """The rows of one call of `tune`, and what holds for all of them."""

    rows: list[TuneRow]
    mode: str
    isa: str
    peak_flops: dict[str, float]
    seconds: float
    wisdom_path: str | None
    saved: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {**asdict(self), "saved_seconds_per_pass": self.saved_seconds, "payback_passes": self.payback_passes}

    @property
    def saved_seconds(self) -> float:
        """How much faster one pass over all layers is than with the cost model's choices."""
        return sum(
            row.count * (row.estimate_seconds - row.seconds)
            for row in self.rows
            if row.seconds is not None and row.estimate_seconds is not None
        )

    @property
    def payback_passes(self) -> float | None:
        """After how many passes over all layers the time spent on tuning is won back; None if never."""
        spent = sum(row.tuning_seconds for row in self.rows)
        return spent / self.saved_seconds if self.saved_seconds > 0 else None

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            if row.seconds is None:
                lines.append(f"{row.name:<40} {row.status} {row.message}".rstrip())
            else:
                times = f"{row.seconds * 1e3:.3f} ms, {row.speedup or math.nan:.2f}x im2col"
                lines.append(f"{row.name:<40} {row.algorithm}({row.parameters}) {times}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Progress:
    """What the callback of `tune` gets: the row is there when a problem is done."""

    done: int
    total: int
    name: str
    threads: int
    stage: str
    row: TuneRow | None = None


class _OutOfTime(Exception):
    """The time limit ended a problem before it was decided."""


class _Clock:
    """The time limit of a whole call and the share of it that one problem may use."""

    def __init__(self, limit: float | None, problems: int) -> None:
        self.start = time.monotonic()
        self.end = math.inf if limit is None else self.start + limit
        self.left = problems

    def check(self) -> None:
        if time.monotonic() >= self.end:
            raise _OutOfTime

    def share(self, wanted: float) -> float:
        """Return the seconds that the next problem may use."""
        rest = max(0.0, self.end - time.monotonic()) / max(1, self.left)
        self.left -= 1
        return min(wanted, rest)


@dataclass
class _Candidate:
    algorithm: str
    parameters: str
    estimate: float
    times: list[float] = field(default_factory=list)
    right: bool | None = None
    finals: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def best(self) -> float:
        return min(self.times)

    def round_seconds(self, which: int) -> float:
        """Return the best turn of a final round: each is a median already, and others only ever add time."""
        return min(self.finals[which])

    @property
    def seconds(self) -> float:
        return 0.5 * (self.round_seconds(0) + self.round_seconds(1))

    def __str__(self) -> str:
        return f"{self.algorithm}({self.parameters})" if self.parameters else self.algorithm


class _Race:
    """The interleaved timing of one problem's candidates."""

    def __init__(self, measurement: Any, candidates: list[_Candidate], clock: _Clock, step: Callable[[str], None]):
        self.measurement = measurement
        self.candidates = candidates
        self.clock = clock
        self.step = step
        self.rejected: list[str] = []

    def time(self, candidate: _Candidate, slot: float) -> float:
        self.clock.check()
        seconds = float(self.measurement.run(candidate.algorithm, candidate.parameters, slot))
        return seconds if seconds > 0 else math.inf

    def screen(self, budget: float, kept: Sequence[_Candidate]) -> list[_Candidate]:
        """Time all candidates in turns and return the finalists; `kept` always are."""
        field_ = list(self.candidates)
        for turn, loser in enumerate(SCREEN_LOSER):
            self.step(f"turn {turn + 1}: {len(field_)} candidates")
            slot = _slot(budget / len(SCREEN_LOSER) / len(field_), self.candidates[0].estimate)
            for candidate in field_ if turn % 2 == 0 else reversed(field_):
                candidate.times.append(self.time(candidate, slot))
            # A wrong result may be a fast one: it must not push the others out.
            while field_ and not self.right(leader := min(field_, key=lambda candidate: candidate.best)):
                field_.remove(leader)
            for candidate in field_:
                # A bad time that the cost model finds unlikely may be somebody else's doing.
                if candidate.best > loser * leader.best and candidate.estimate <= loser * leader.estimate:
                    candidate.times.append(self.time(candidate, slot))
            field_ = [c for c in field_ if c.best <= loser * leader.best or c in kept]
            if not field_:
                break
        ranked = sorted(field_, key=lambda candidate: candidate.best)
        finalists = ranked[:FINALISTS]
        baseline = [c for c in self.candidates if c.algorithm == "im2col" and c.times]
        for candidate in [*kept, *sorted(baseline, key=lambda c: c.best)[:1]]:
            if candidate not in finalists:
                finalists.append(candidate)
        return finalists

    def final(self, finalists: list[_Candidate], budget: float) -> None:
        """Time the finalists in two rounds of a few turns, more of them while the times don't settle."""
        turn_seconds = sum(max(2.0 * c.best, SLOT_SECONDS[0]) for c in finalists)
        turns = 3 if 6.0 * turn_seconds <= budget else 1
        slot = _slot(budget / (2 * turns * len(finalists)), min(c.best for c in finalists))
        for which in (0, 1):
            self.step(f"final round {which + 1}: {len(finalists)} candidates")
            turn = 0
            while turn < turns or (1 < turns and turn < 3 * turns and not _settled(finalists, which)):
                for candidate in finalists if turn % 2 == 0 else reversed(finalists):
                    candidate.finals[which].append(self.time(candidate, slot))
                turn += 1

    def winner(self, finalists: list[_Candidate], incumbent: _Candidate) -> _Candidate | None:
        """Return whom to remember: who beat the incumbent twice and is right, else the incumbent, else who is right."""

        def beats(candidate: _Candidate) -> bool:
            return all(candidate.round_seconds(n) <= GAIN * incumbent.round_seconds(n) for n in (0, 1))

        ranked = sorted(finalists, key=lambda candidate: candidate.seconds)
        challengers = [candidate for candidate in ranked if candidate is not incumbent and beats(candidate)]
        others = [candidate for candidate in ranked if candidate not in challengers and candidate is not incumbent]
        for candidate in [*challengers, incumbent, *others]:
            self.step("check")
            if self.right(candidate):
                return candidate
        return None

    def right(self, candidate: _Candidate) -> bool:
        """Whether the candidate's result keeps the bound of the problem's accuracy class."""
        if candidate.right is None:
            error = float(self.measurement.error(candidate.algorithm, candidate.parameters)[0])
            candidate.right = error <= 1.0
            if not candidate.right:
                self.rejected.append(f"{candidate}: error {error:.3g} times the bound of its accuracy class")
        return candidate.right


def _settled(finalists: list[_Candidate], which: int) -> bool:
    """Whether the best two candidates of a round have each shown their best time twice."""
    best = sorted(finalists, key=lambda candidate: candidate.round_seconds(which))[:2]
    shown = [sorted(candidate.finals[which])[:2] for candidate in best]
    return all(second <= SETTLED * first for first, second in shown)


def _slot(share: float, call: float) -> float:
    """Return how long to time one candidate: its share of the budget, but for short calls no more than helps."""
    enough = max(5.0 * SLOT_SECONDS[0], SLOT_CALLS * call)
    return min(max(min(share, enough), SLOT_SECONDS[0]), SLOT_SECONDS[1])


def _known(key: str, threads: int, mode: str) -> Entry | None:
    """Return what was measured before with at least this rigor."""
    for entry in wisdom.entries():
        same = entry["descriptor"] == key and entry["threads"] == threads and entry["isa"] == _npconv.isa()
        if same and (entry["rigor"] == mode or entry["rigor"] == "exhaustive"):
            return entry
    return None


def _hopeful(candidates: list[_Candidate], mode: str, budget: float) -> list[_Candidate]:
    """Leave out what the cost model deems many times slower, and what there is no time for.

    The best of every algorithm stays if it isn't hopeless, and im2col's best in any case.
    """
    limit = HOPELESS_ESTIMATE[mode] * candidates[0].estimate
    kept: list[_Candidate] = []
    algorithms, spent = set[str](), 0.0
    for candidate in candidates:
        first = candidate.algorithm not in algorithms
        algorithms.add(candidate.algorithm)
        affordable = first or len(kept) < FINALISTS or spent + candidate.estimate <= budget / 4.0
        if (candidate.estimate <= limit and affordable) or (first and candidate.algorithm == "im2col"):
            kept.append(candidate)
            spent += candidate.estimate
    return kept


class _Found(NamedTuple):
    """The outcome of one problem's race."""

    winner: _Candidate | None
    incumbent: _Candidate
    baseline: _Candidate | None
    rejected: list[str]
    candidates: int


def _race(descriptor: str, threads: int, mode: str, clock: _Clock, step: Callable[[str], None]) -> _Found:
    """Measure the candidates of one problem."""
    found = [_Candidate(*candidate) for candidate in _npconv.candidates(descriptor, threads, mode)]
    if not found:
        raise ValueError("no algorithm accepts this problem")
    budget = clock.share(BUDGET_SECONDS[mode])
    candidates = _hopeful(found, mode, budget)
    incumbent = candidates[0]
    kept = [incumbent]
    before = _known(_npconv.wisdom_key(descriptor), threads, "measure")
    if before is not None:  # what won with less rigor, or earlier, is sure of a place in the final
        kept += [c for c in found if (c.algorithm, c.parameters) == (before["algorithm"], before["parameters"])]
        candidates += [c for c in kept if c not in candidates]
    race = _Race(_npconv.Measurement(descriptor, threads), candidates, clock, step)
    finalists = race.screen(0.4 * budget, kept)
    race.final(finalists, 0.6 * budget)
    winner = race.winner(finalists, incumbent)
    baseline = next((c for c in finalists if c.algorithm == "im2col"), None)
    return _Found(winner, incumbent, baseline, race.rejected, len(candidates))


def _compare(descriptor: str, threads: int, known: Entry, clock: _Clock, step: Callable[[str], None]) -> _Found:
    """Time what is known already beside the cost model's choice and im2col's best, for the report only."""
    found = [_Candidate(*candidate) for candidate in _npconv.candidates(descriptor, threads, known["rigor"])]
    winner = next((c for c in found if (c.algorithm, c.parameters) == (known["algorithm"], known["parameters"])), None)
    if winner is None:
        raise ValueError(f"{known['algorithm']}({known['parameters']}) is no candidate any more")
    baseline = next((c for c in found if c.algorithm == "im2col"), None)
    contenders = [winner]
    for candidate in (found[0], baseline):
        if candidate is not None and candidate not in contenders:
            contenders.append(candidate)
    clock.share(0.0)
    race = _Race(_npconv.Measurement(descriptor, threads), contenders, clock, step)
    for candidate in contenders:
        candidate.times.append(race.time(candidate, SLOT_SECONDS[0]))
    race.final(contenders, 0.2)
    return _Found(winner, found[0], baseline, [], 0)


def _remember(descriptor: str, threads: int, mode: str, winner: _Candidate) -> bool:
    """Put the winner into the table and into the file; returns whether the file has it."""
    entry = Entry(
        descriptor=_npconv.wisdom_key(descriptor),
        isa=_npconv.isa(),
        threads=threads,
        algorithm=winner.algorithm,
        revision=_npconv.algorithm_revision(winner.algorithm),
        parameters=winner.parameters,
        seconds=winner.seconds,
        rigor=mode,
        time=time.time(),
    )
    _npconv.wisdom_update([dict(entry)])
    return wisdom.save([entry])


def _peak_name(dtype: str, threads: int) -> str:
    return f"{dtype}, {threads} thread{'s' if threads > 1 else ''}"


class _Session:
    """One call of `tune`: the problems, the clock and what was measured so far."""

    def __init__(self, mode: str, limit: float | None, problems: int, progress: Callable[[Progress], None] | None):
        self.mode = mode
        self.clock = _Clock(limit, problems)
        self.total = problems
        self.progress = progress
        self.rows: list[TuneRow] = []
        self.peaks: dict[str, float] = {}
        self.saved = True

    def peak(self, dtype: str, threads: int) -> float:
        """Return the best peak of this run so far; it is measured again beside every problem."""
        key = _peak_name(dtype, threads)
        seconds = PEAK_SECONDS if key not in self.peaks else PEAK_SECONDS / 10.0
        measured = float(_npconv.peak_flops(dtype, threads, seconds))
        self.peaks[key] = max(measured, self.peaks.get(key, 0.0))
        return self.peaks[key]

    def final_rows(self) -> list[TuneRow]:
        """Return the rows with percentages of one and the same peak."""

        def final(row: TuneRow) -> TuneRow:
            if row.gflops is None:
                return row
            dtype = str(_npconv.parse_descriptor(row.descriptor)["dtype"])
            return replace(row, peak_percent=1e11 * row.gflops / self.peaks[_peak_name(dtype, row.threads)])

        return [final(row) for row in self.rows]

    def tell(self, name: str, threads: int, stage: str, row: TuneRow | None = None) -> None:
        if self.progress is not None:
            self.progress(Progress(len(self.rows), self.total, name, threads, stage, row))

    def problem(self, layer: shapes.Layer, threads: int, again: bool) -> None:
        """Tune one problem and add its row."""
        start = time.monotonic()

        def step(stage: str) -> None:
            self.tell(layer.name, threads, stage)

        def plain(status: Literal["out of time", "failed"], message: str = "") -> TuneRow:
            return TuneRow(layer.name, layer.descriptor, threads, layer.count, status, message=message)

        try:
            self.clock.check()
            known = None if again else _known(_npconv.wisdom_key(layer.descriptor), threads, self.mode)
            if known is None:
                found = _race(layer.descriptor, threads, self.mode, self.clock, step)
            else:
                found = _compare(layer.descriptor, threads, known, self.clock, step)
            if found.winner is None:
                row = plain("failed", "no candidate's result was within its bound: " + "; ".join(found.rejected))
            else:
                if known is None:
                    self.saved = _remember(layer.descriptor, threads, self.mode, found.winner) and self.saved
                row = self.row(layer, threads, found, known is not None, time.monotonic() - start)
        except _OutOfTime:
            row = plain("out of time")
        except (ValueError, RuntimeError, MemoryError) as error:
            row = plain("failed", f"{type(error).__name__}: {error}")
        self.rows.append(row)
        self.tell(layer.name, threads, row.status, row)

    def row(self, layer: shapes.Layer, threads: int, found: _Found, known: bool, spent: float) -> TuneRow:
        winner = found.winner
        assert winner is not None
        problem = _npconv.parse_descriptor(layer.descriptor)
        flops = float(problem["flops"]) / winner.seconds
        baseline = found.baseline.seconds if found.baseline else None
        rounds = sorted(winner.round_seconds(which) for which in (0, 1))
        return TuneRow(
            name=layer.name,
            descriptor=layer.descriptor,
            threads=threads,
            count=layer.count,
            status="known" if known else "tuned",
            algorithm=winner.algorithm,
            parameters=winner.parameters,
            seconds=winner.seconds,
            gflops=flops / 1e9,
            peak_percent=100.0 * flops / self.peak(str(problem["dtype"]), threads),
            estimate_algorithm=str(found.incumbent),
            estimate_seconds=found.incumbent.seconds,
            im2col_seconds=baseline,
            speedup=baseline / winner.seconds if baseline else None,
            gain=found.incumbent.seconds / winner.seconds,
            noise=rounds[1] / rounds[0],
            candidates=found.candidates,
            rejected=tuple(found.rejected),
            tuning_seconds=spent,
        )


_measuring = threading.Lock()


def _after_fork() -> None:
    # Another thread of the parent may have been measuring.
    global _measuring
    _measuring = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _measure_machine(limit: float | None, again: bool) -> None:
    """Measure the constants that estimates are made of, unless this machine's are known."""
    wisdom.load()
    if again or not wisdom.machine_is_measured():
        seconds = CONSTANTS_SECONDS if limit is None else min(CONSTANTS_SECONDS, limit / 10.0)
        wisdom.learn_constants(_npconv.measure_machine_constants(seconds))


def _thread_counts(num_threads: int | Iterable[int] | None) -> list[int]:
    if num_threads is None:
        return [int(_npconv.get_num_threads())]
    counts = [num_threads] if isinstance(num_threads, int) else list(num_threads)
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"num_threads must be at least 1, got {count!r}")
    return list(dict.fromkeys(counts))


def tune(
    problems: str | PathLike[str] | Iterable[str | PathLike[str]],
    *,
    mode: Mode = "measure",
    time_limit: float | None = None,
    batch: int | None = None,
    num_threads: int | Iterable[int] | None = None,
    again: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> TuneReport:
    """Measure which algorithm is fastest here for each problem, and use and remember it from now on.

    Parameters
    ----------
    problems
        Descriptor strings, names of built-in networks (`npconv.shapes.networks()`), files with descriptor strings.
    mode
        "measure" tries a dozen candidates per algorithm, "exhaustive" several dozen.
    time_limit
        Seconds for the whole call; problems that it leaves no time for keep what they had.
    batch
        Replaces the batch size of every problem.
    num_threads
        The number of threads of the calls to tune for, or several; as many as a call would use by default.
    again
        Measure even what is known already. The result replaces one of the same or lower rigor.
    progress
        Called with a `Progress` before and after every step. What it raises ends the tuning.

    What was measured is written after every problem, so an interrupt (Ctrl-C) loses only the problem it hits.

    >>> import npconv as nc
    >>> report = nc.tune("ic16ih14oc16kh3pt1", num_threads=1)
    >>> report.rows[0].status in ("tuned", "known")
    True
    """
    if mode not in BUDGET_SECONDS:
        raise ValueError(f"mode must be 'measure' or 'exhaustive', got {mode!r}")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be positive, got {time_limit!r}")
    layers = shapes.resolve(problems, batch)
    counts = _thread_counts(num_threads)
    session = _Session(mode, time_limit, len(layers) * len(counts), progress)
    with _measuring:
        session.tell("this machine", counts[0], "constants")
        _measure_machine(time_limit, again)
        for threads in counts:
            for layer in layers:
                session.problem(layer, threads, again)
    file = wisdom.path()
    return TuneReport(
        rows=session.final_rows(),
        mode=mode,
        isa=_npconv.isa(),
        peak_flops=session.peaks,
        seconds=time.monotonic() - session.clock.start,
        wisdom_path=None if file is None else str(file),
        saved=session.saved,
    )


def tune_missing(descriptor: str, num_threads: int, rigor: str) -> None:
    """Tune one problem because a call needs it now; what the extension calls in the modes that measure."""
    with _measuring:
        if _known(_npconv.wisdom_key(descriptor), num_threads, rigor) is not None:
            return  # another thread was faster
        _, limit = _npconv.get_tuning()
        try:
            found = _race(descriptor, num_threads, rigor, _Clock(limit, 1), lambda stage: None)
        except _OutOfTime:
            return
        if found.winner is not None:
            _remember(descriptor, num_threads, rigor, found.winner)
