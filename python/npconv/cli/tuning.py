"""What `npconv tune` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from npconv import _npconv, tuner, wisdom
from npconv.cli import output
from npconv.cli.progress import Bar
from npconv.tuner import NOISY, Progress, TuneReport, TuneRow


@dataclass(frozen=True)
class Outcome:
    """The report, or the rows that an interrupt left."""

    rows: list[TuneRow]
    report: TuneReport | None

    @property
    def interrupted(self) -> bool:
        """Whether the user ended the tuning."""
        return self.report is None

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        if self.report is None:
            return {"rows": [asdict(row) for row in self.rows], "interrupted": True, "wisdom_path": str(wisdom.path())}
        return {**self.report.as_dict(), "interrupted": False}


def tune(
    problems: list[str],
    total: int,
    mode: str,
    time_limit: float | None,
    batch: int | None,
    threads: list[int],
    again: bool,
) -> Outcome:
    """Tune under a progress bar; an interrupt keeps what is known."""
    rows: list[TuneRow] = []
    with Bar(total) as bar:

        def progress(step: Progress) -> None:
            if step.row is not None:
                rows.append(step.row)
            bar.update(step.done, f"{step.name} ({step.threads} threads): {step.stage}")

        try:
            report = tuner.tune(
                problems,
                mode="exhaustive" if mode == "exhaustive" else "measure",
                time_limit=time_limit,
                batch=batch,
                num_threads=threads,
                again=again,
                progress=progress,
            )
        except KeyboardInterrupt:
            return Outcome(rows, None)
    return Outcome(report.rows, report)


def _notes(row: TuneRow) -> str:
    notes: list[str] = [] if row.status == "tuned" else [row.status]
    if row.noise is not None and row.noise > NOISY:
        notes.append("noisy")
    if row.message:
        notes.append(row.message)
    notes += row.rejected
    return ", ".join(notes)


def _cells(row: TuneRow) -> tuple[str, ...]:
    shape = output.short_shape(_npconv.parse_descriptor(row.descriptor))
    name = row.name if row.count == 1 else f"{row.name} x{row.count}"
    if row.seconds is None:
        return (name, shape, str(row.threads), "-", "-", "-", "-", "-", "-", "-", _notes(row))
    return (
        name,
        shape,
        str(row.threads),
        row.algorithm or "",
        row.parameters or "",
        output.number(row.seconds * 1e3, 3),
        output.number(row.gflops, 1),
        output.number(row.peak_percent, 0),
        output.number(row.speedup),
        output.number(row.gain),
        _notes(row),
    )


COLUMNS = (
    "layer",
    "shape",
    "threads",
    "algorithm",
    "parameters",
    "ms",
    "GFLOP/s",
    "% of peak",
    "vs im2col",
    "vs estimate",
    "",
)


def show(outcome: Outcome) -> None:
    """Print the table of layers, the sums, and where the wisdom was written."""
    text = ("layer", "shape", "algorithm", "parameters", "")
    output.print_table(COLUMNS, [_cells(row) for row in outcome.rows], text)
    for line in _sums(outcome.rows):
        print(line)
    report = outcome.report
    if report is None:
        print("Interrupted. What stands above is kept.")
    else:
        peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s ({what})" for what, value in report.peak_flops.items())
        print(f"ISA {report.isa}, measured peak {peaks}; the tuning took {report.seconds:.1f} s.")
        if report.payback_passes is not None:
            print(f"It pays back after {report.payback_passes:.0f} passes over all layers.")
    print(_where(report is None or report.saved))
    if any(row.noise is not None and row.noise > NOISY for row in outcome.rows):
        output.console(stderr=True).print("Some timings varied a lot: on a quiet machine, tune these again (--again).")


def _sums(rows: list[TuneRow]) -> list[str]:
    lines = []
    for threads in dict.fromkeys(row.threads for row in rows):
        timed = [row for row in rows if row.threads == threads and row.seconds is not None]
        total = sum(row.count * (row.seconds or 0.0) for row in timed)
        known = [row for row in timed if row.im2col_seconds is not None]
        mine = sum(row.count * (row.seconds or 0.0) for row in known)
        baseline = sum(row.count * (row.im2col_seconds or 0.0) for row in known)
        if timed:
            layers = sum(row.count for row in timed)
            speedup = f", {baseline / mine:.2f} times im2col's speed" if known else ""
            lines.append(f"All {layers} layers with {threads} thread(s): {total * 1e3:.2f} ms{speedup}.")
    return lines


def _where(saved: bool) -> str:
    if wisdom.switch() != "on":
        return f"NPCONV_WISDOM={wisdom.switch()}: nothing was written."
    if not saved:
        return "The wisdom file could not be written: what was found holds for this process only."
    return f"Wisdom file: {wisdom.path()}"
