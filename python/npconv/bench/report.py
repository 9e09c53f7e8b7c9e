"""What becomes of measured rows: files, tables, comparisons of two runs."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import _npconv

Row = dict[str, Any]

KINDS = ("functional", "planned", "steady")
OURS = ("functional", "planned", "planned out=")


def save(path: str | Path, rows: Sequence[Row]) -> None:
    """Writes rows and the machine they were measured on as JSON."""
    meta = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "npconv": _npconv.__version__,
        "isa": _npconv.isa(),
        "cpu": _npconv.fingerprint()["brand"],
        "python": platform.python_version(),
    }
    Path(path).write_text(json.dumps({"meta": meta, "rows": list(rows)}, indent=1) + "\n", encoding="utf-8")


def load(path: str | Path) -> list[Row]:
    """The rows of a file that save, or `npconv bench --output`, wrote."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    rows: list[Row] = content["rows"] if isinstance(content, dict) else content
    return rows


def short(descriptor: str) -> str:
    """A descriptor without the fields that are the usual ones: for tables.

    >>> short("fwd_f32_mb1_g1_ic64ih56iw56_oc64kh3kw3_sh1sw1_pt1pl1pb1pr1_dh1dw1_nchw_zeros_standard_const_bias_relu")
    'ic64ih56oc64kh3pt1'
    """
    problem = _npconv.parse_descriptor(descriptor)
    text = "" if problem["mb"] == 1 else f"mb{problem['mb']}"
    text += "" if problem["g"] == 1 else f"g{problem['g']}"
    nd = 3 if problem["input"][0] > 1 or problem["kernel"][0] > 1 else 2
    text += f"ic{problem['ic']}" + _axes(("id", "ih", "iw"), problem["input"], nd)
    text += f"oc{problem['oc']}" + _axes(("kd", "kh", "kw"), problem["kernel"], nd)
    for names, field, usual in ((("sd", "sh", "sw"), "stride", 1), (("dd", "dh", "dw"), "dilation", 1)):
        if any(value != usual for value in problem[field]):
            text += _axes(names, problem[field], nd)
    if problem["pad_begin"] == problem["pad_end"]:
        if any(problem["pad_begin"]):
            text += _axes(("pf", "pt", "pl"), problem["pad_begin"], nd)
    else:
        text += _axes(("pf", "pt", "pl"), problem["pad_begin"], nd, False) + _axes(
            ("pe", "pb", "pr"), problem["pad_end"], nd, False
        )
    extra = [problem[field] for field, usual in _USUAL if problem[field] != usual]
    modes = [mode for mode in problem["padding_mode"][3 - nd :] if mode != "zeros"]
    return "_".join([text, *extra, *dict.fromkeys(modes)])


_USUAL = (("dtype", "f32"), ("src_order", "nchw"), ("accuracy", "standard"))


def _axes(names: tuple[str, str, str], values: Sequence[int], nd: int, merge: bool = True) -> str:
    used = list(zip(names, values, strict=True))[3 - nd :]
    if merge and nd == 2 and used[0][1] == used[1][1]:
        used = used[:1]
    return "".join(f"{name}{value}" for name, value in used)


def summary(rows: Iterable[Row]) -> list[Row]:
    """One row per layer and thread count: our figures, the best of every peer's, and how they compare.

    Keys: descriptor, threads, detail, percent_of_peak (of "planned out="), error, then "functional", "planned" and
    "planned out=" in seconds, "<peer> functional|planned|steady" in seconds (the best figure of that kind or one that
    prepares less), and per kind "ratio <kind>" and "ratio_burst <kind>" against the best peer.
    """
    lines: dict[tuple[str, int], Row] = {}
    for row in rows:
        if "seconds" not in row:
            continue
        line = lines.setdefault(
            (row["descriptor"], row["threads"]), {"descriptor": row["descriptor"], "threads": row["threads"]}
        )
        if row["peer"] == "npconv":
            line[row["figure"]] = row["seconds"]
            if "ratio" in row:
                line[f"ratio {row['kind']}"] = row["ratio"]
                line[f"ratio_burst {row['kind']}"] = row["ratio_burst"]
            if row["kind"] == "steady":
                line.update({key: row[key] for key in ("detail", "error", "gflops", "percent_of_peak") if key in row})
        else:
            name = f"{row['peer']} {row['kind']}"
            line[name] = min(row["seconds"], line.get(name, row["seconds"]))
    return list(lines.values())


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first on the left, numbers on the right."""
    cells = [list(head), *map(list, body)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(head))]
    lines = []
    for line in cells:
        padded = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        padded[0] = line[0].ljust(widths[0])
        lines.append("| " + " | ".join(padded) + " |")
    rule = "|" + "|".join("-" * (width + 1) + ("-" if at == 0 else ":") for at, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def render(rows: Sequence[Row]) -> str:
    """Tables of a run, one per thread count, and a list of everything that was skipped or failed.

    Times are microseconds; a ratio above 1 means that npconv is faster than the best peer of that kind, its bracket
    compares the fastest bursts.
    """
    lines = summary(rows)
    peers = sorted({f"{row['peer']} {row['kind']}" for row in rows if "seconds" in row and row["peer"] != "npconv"})
    kinds = [kind for kind in KINDS if any(f"ratio {kind}" in line for line in lines)]
    head = ["layer", "algorithm", *OURS, "GFLOP/s", "% peak", "error", *peers, *(f"x {kind}" for kind in kinds)]
    parts = []
    for threads in sorted({line["threads"] for line in lines}):
        body = [_cells(line, peers, kinds) for line in lines if line["threads"] == threads]
        peak = max((row["peak"] for row in rows if row["threads"] == threads and "peak" in row), default=0.0)
        title = f"{threads} thread{'s' * (threads > 1)}, FMA peak {peak / 1e9:.0f} GFLOP/s; microseconds, median"
        handover = [row["handover"] / 1e9 for row in rows if row["threads"] == threads and "handover" in row]
        if handover:
            title += f"\none CPU rewrites what another wrote at {min(handover):.0f} to {max(handover):.0f} GB/s"
        parts.append(f"{title}\n\n{table(head, body)}")
    parts.append(f"By kind of layer: median (lowest); times a peer's speed\n\n{_kinds_table(rows)}")
    missing = missing_lines(rows)
    if missing:
        parts.append("Not measured:\n" + "\n".join(f"- {line}" for line in missing))
    return "\n\n".join(parts)


def _cells(line: Row, peers: Sequence[str], kinds: Sequence[str]) -> list[str]:
    cells = [short(line["descriptor"]), str(line.get("detail", ""))]
    cells += [_us(line, name) for name in OURS]
    cells += [_number(line, "gflops", ".0f"), _number(line, "percent_of_peak", ".0f"), _number(line, "error", ".0e")]
    cells += [_us(line, name) for name in peers]
    for kind in kinds:
        ratio, burst = _number(line, f"ratio {kind}", ".2f"), _number(line, f"ratio_burst {kind}", ".2f")
        cells.append(f"{ratio} ({burst})")
    return cells


def layer_kind(descriptor: str) -> str:
    """The rough kind of a layer, for summaries: 1x1, 3x3 with stride 1, depthwise, or other.

    >>> layer_kind("g32ic32ih112oc32kh3pt1")
    'depthwise'
    """
    problem = _npconv.parse_descriptor(descriptor)
    if problem["g"] > 1:
        return "depthwise" if problem["g"] == problem["ic"] else "grouped"
    unit = all(step == 1 for step in (*problem["stride"], *problem["dilation"]))
    if all(size == 1 for size in problem["kernel"]):
        return "1x1" if unit else "1x1 strided"
    if tuple(problem["kernel"]) == (1, 3, 3) and unit:
        return "3x3" if problem["ic"] // problem["g"] >= 64 else "3x3, few channels"
    return "other"


#: What stands against what when a peer is compared by kind of layer: our figure, the peer's kinds of figure.
_AGAINST = {
    "functional": ("functional",),
    "planned": ("planned", "steady"),
    "planned out=": ("planned", "steady"),
}


def by_kind(rows: Iterable[Row]) -> list[Row]:
    """Per thread count, kind of layer and peer: the peer's best time over ours.

    Keys: threads, kind, layers, percent_of_peak (median and lowest of "planned out="), peer, and for each of our
    figures (median, lowest) of the ratios; functional stands against functional, planned against prepared weights.
    """
    groups: dict[tuple[int, str], list[Row]] = {}
    rows = list(rows)
    for line in summary(rows):
        if OURS[-1] in line:
            groups.setdefault((line["threads"], layer_kind(line["descriptor"])), []).append(line)
    peers = sorted({row["peer"] for row in rows if row["peer"] != "npconv" and "seconds" in row})
    found = []
    for (threads, kind), lines in sorted(groups.items()):
        percents = [line["percent_of_peak"] for line in lines]
        head = {"threads": threads, "kind": kind, "layers": len(lines), "percent_of_peak": _middle_and_least(percents)}
        for peer in peers or [""]:
            ratios = {figure: _middle_and_least(_peer_ratios(lines, peer, figure)) for figure in OURS}
            found.append({**head, "peer": peer, **ratios})
    return found


def _peer_ratios(lines: Iterable[Row], peer: str, figure: str) -> list[float]:
    ratios = []
    for line in lines:
        times = [line[name] for name in (f"{peer} {kind}" for kind in _AGAINST[figure]) if name in line]
        if times:
            ratios.append(min(times) / line[figure])
    return ratios


def _middle_and_least(values: Sequence[float]) -> tuple[float, float] | None:
    return (statistics.median(values), min(values)) if values else None


def _kinds_table(rows: Sequence[Row]) -> str:
    body = []
    for group in by_kind(rows):
        cells = [
            group["kind"],
            str(group["threads"]),
            str(group["layers"]),
            "{:.0f} ({:.0f})".format(*group["percent_of_peak"]),
        ]
        pairs = [group[figure] for figure in OURS] if group["peer"] else []
        cells += [group["peer"], *("{:.2f} ({:.2f})".format(*pair) if pair else "-" for pair in pairs)]
        body.append(cells + ["-"] * (len(OURS) - len(pairs)))
    return table(["kind", "threads", "layers", "% peak", "peer", *OURS], body)


def missing_lines(rows: Iterable[Row]) -> list[str]:
    """What was skipped or failed and why; the same reason for many layers is one line."""
    reasons: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        for status in ("skipped", "failed"):
            if status in row:
                who = f"{row['peer']} {row.get('figure', '')}".strip()
                reasons.setdefault((who, status, row[status]), set()).add(row["descriptor"])
    lines = []
    for (who, status, reason), descriptors in reasons.items():
        where = "every layer" if descriptors == {""} else f"{len(descriptors)} layer{'s' * (len(descriptors) > 1)}"
        lines.append(f"{who}: {status} on {where}: {reason}")
    return lines


def _us(line: Mapping[str, Any], name: str) -> str:
    if name not in line:
        return "-"
    value = 1e6 * line[name]
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _number(line: Mapping[str, Any], name: str, form: str) -> str:
    return format(line[name], form) if name in line else "-"


def compare(before: Sequence[Row], after: Sequence[Row], tolerance: float = 0.05) -> list[Row]:
    """npconv's figures in two runs: descriptor, threads, figure, both times, `median` and `burst` (after / before).

    Each run's times count in units of the FMA peak measured in it, so that a slower clock is no regression.
    `regression` is set where median and fastest burst are both slower by more than `tolerance`. Worst first.
    """
    old = {_key(row): row for row in before if _is_ours(row)}
    lines = []
    for row in after:
        known = old.get(_key(row)) if _is_ours(row) else None
        if known is None:
            continue
        scale = row["peak"] / known["peak"] if "peak" in row and "peak" in known else 1.0
        median, burst = (scale * row[name] / known[name] for name in ("seconds", "burst"))
        lines.append(
            {
                "descriptor": row["descriptor"],
                "threads": row["threads"],
                "figure": row["figure"],
                "before": known["seconds"],
                "after": row["seconds"],
                "median": median,
                "burst": burst,
                "details": (known["detail"], row["detail"]),
                "regression": min(median, burst) > 1 + tolerance,
            }
        )
    return sorted(lines, key=lambda line: -min(line["median"], line["burst"]))


def _is_ours(row: Row) -> bool:
    return row["peer"] == "npconv" and "seconds" in row


def _key(row: Row) -> tuple[str, int, str]:
    return row["descriptor"], row["threads"], row["figure"]
