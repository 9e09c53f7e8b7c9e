"""What `npconv bench` shows."""

from __future__ import annotations

from typing import Any

from npconv import _npconv
from npconv.bench import run
from npconv.cli import output
from npconv.cli.progress import Bar
from npconv.shapes import Layer

FIGURES = ("functional", "planned", "planned out=")


def measure(
    layers: list[Layer], peers: list[str], threads: list[int], seconds: float, python: str | None
) -> list[dict[str, Any]]:
    """Run the bench under a progress bar."""
    names = {layer.descriptor: layer.name for layer in layers}
    with Bar(len(layers) * len(threads)) as bar:

        def progress(done: int, total: int, rows: list[dict[str, Any]]) -> None:
            bar.update(done, names.get(rows[0]["descriptor"], "") if rows else "")

        bar.update(0, "starting")
        return run([layer.descriptor for layer in layers], peers, threads, seconds, progress, python=python)


def _best(rows: list[dict[str, Any]], peer: str) -> str:
    """Return a peer's fastest time among its figures, or why there is none."""
    timed = [row for row in rows if row["peer"] == peer and "seconds" in row]
    if timed:
        return output.number(min(row["seconds"] for row in timed) * 1e3, 3)
    reasons = [row.get("failed") or row.get("skipped") for row in rows if row["peer"] == peer]
    return str(reasons[0])[:40] if reasons else "-"


def _line(layer: Layer, threads: int, rows: list[dict[str, Any]], peers: list[str]) -> list[str]:
    ours = {row.get("figure"): row for row in rows if row["peer"] == "npconv"}
    cells = [layer.name, output.short_shape(_npconv.parse_descriptor(layer.descriptor)), str(threads)]
    planned = ours.get("planned", {})
    cells.append(str(planned.get("detail", "")))
    for figure in FIGURES:
        cells.append(output.number(1e3 * ours.get(figure, {}).get("seconds", float("nan")), 3))
    best = ours.get(FIGURES[-1], {})
    cells += [output.number(best.get("gflops"), 1), output.number(best.get("percent_of_peak"), 0)]
    for peer in peers:
        cells.append(_best(rows, peer))
    if peers:
        cells += [output.number(ours.get(figure, {}).get("ratio")) for figure in FIGURES]
    return cells


def show(layers: list[Layer], rows: list[dict[str, Any]]) -> None:
    """Print a line per layer and number of threads: times in ms, and how many times the best peer's speed."""
    missing = {row["peer"]: row["skipped"] for row in rows if not row["descriptor"] and "skipped" in row}
    peers = [p for p in dict.fromkeys(row["peer"] for row in rows) if p != "npconv" and p not in missing]
    columns = ["layer", "shape", "threads", "plan", *(f"{figure} ms" for figure in FIGURES), "GFLOP/s", "% of peak"]
    columns += [f"{peer} ms" for peer in peers]
    if peers:
        columns += [f"{figure}, ratio" for figure in FIGURES]
    lines = []
    for layer in layers:
        mine = [row for row in rows if row["descriptor"] == layer.descriptor]
        for threads in dict.fromkeys(row["threads"] for row in mine):
            lines.append(_line(layer, threads, [row for row in mine if row["threads"] == threads], peers))
    output.print_table(columns, lines, ("layer", "shape", "plan"))
    for peer, reason in missing.items():
        print(f"{peer} was left out: {reason}")
