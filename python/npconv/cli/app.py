"""The commands of `npconv`. Exit codes: 0 well, 1 something failed, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from npconv import _npconv, shapes, wisdom
from npconv.cli import output
from npconv.cli.output import FAILURE, INTERRUPTED, USAGE, fail

app = typer.Typer(
    name="npconv",
    help="Fast convolution for NumPy: tune it for this machine, measure it, ask why it chose what it chose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
wisdom_app = typer.Typer(help="What was measured on this machine.", no_args_is_help=True)
app.add_typer(wisdom_app, name="wisdom")

Problems = Annotated[
    list[str],
    typer.Argument(metavar="PROBLEM...", help="Names of networks, descriptor strings, files of descriptor strings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Threads = Annotated[str | None, typer.Option("--threads", help="Numbers of threads, such as 1,2.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Batch size instead of the problems' own.")]


def run() -> int:
    """Run the command that sys.argv names; returns the exit code."""
    try:
        app(prog_name="npconv")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILURE
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        print(_npconv.__version__)
        raise typer.Exit()


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _thread_counts(text: str | None) -> list[int]:
    if text is None:
        return [int(_npconv.get_num_threads())]
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"--threads expects numbers such as 1,2, got {text!r}", USAGE)
    if min(counts) < 1:
        fail(f"--threads expects numbers of at least 1, got {text!r}", USAGE)
    return list(dict.fromkeys(counts))


def _resolve(problems: list[str], batch: int | None = None) -> list[shapes.Layer]:
    try:
        return shapes.resolve(problems, batch)
    except (ValueError, OSError) as error:
        fail(str(error), USAGE)


@app.command()
def tune(
    problems: Problems,
    mode: Annotated[
        str, typer.Option(help="measure: a dozen candidates an algorithm; exhaustive: dozens.")
    ] = "measure",
    time_limit: Annotated[float | None, typer.Option(help="Seconds for everything.")] = None,
    batch: Batch = None,
    threads: Threads = None,
    again: Annotated[bool, typer.Option("--again", help="Measure what is known already, too.")] = False,
    json: Json = False,
) -> None:
    """Measure what is fastest here for each problem, and remember it."""
    from npconv.cli import tuning

    if mode not in ("measure", "exhaustive"):
        fail(f"--mode must be measure or exhaustive, got {mode!r}", USAGE)
    if time_limit is not None and not time_limit > 0:
        fail(f"--time-limit must be positive, got {time_limit}", USAGE)
    layers, counts = _resolve(problems, batch), _thread_counts(threads)
    outcome = tuning.tune(problems, len(layers) * len(counts), mode, time_limit, batch, counts, again)
    if json:
        output.print_json(outcome.as_dict())
    else:
        tuning.show(outcome)
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if any(row.status == "failed" for row in outcome.rows):
        raise typer.Exit(FAILURE)


@app.command()
def bench(
    problems: Problems,
    peers: Annotated[str, typer.Option(help="Other libraries to compare with, such as torch,ncnn.")] = "",
    threads: Threads = None,
    batch: Batch = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds for one layer and number of threads.")] = 1.0,
    python: Annotated[str | None, typer.Option(help="The Python that has the peers installed.")] = None,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write the rows as JSON to a file, too.")] = None,
    json: Json = False,
) -> None:
    """Measure npconv, and other libraries beside it, on the layers of networks."""
    from npconv.cli import benching

    layers, counts = _resolve(problems, batch), _thread_counts(threads)
    names = [name for name in peers.split(",") if name]
    try:
        rows = benching.measure(layers, names, counts, seconds, python)
        if out is not None:
            out.write_text(output.as_json(rows) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except ValueError as error:
        fail(str(error), USAGE)
    except (RuntimeError, OSError) as error:
        fail(str(error), FAILURE)
    if json:
        output.print_json(rows)
    else:
        benching.show(layers, rows)
    if any("failed" in row for row in rows):
        raise typer.Exit(FAILURE)


@app.command()
def explain(problems: Problems, batch: Batch = None, threads: Threads = None, json: Json = False) -> None:
    """Say for each algorithm why it refuses a problem, or how long it takes, and which one is picked."""
    wisdom.load()
    data = [
        {
            "name": layer.name,
            "descriptor": layer.descriptor,
            "threads": count,
            "algorithms": list(_npconv.explain(layer.descriptor, count)),
        }
        for layer in _resolve(problems, batch)
        for count in _thread_counts(threads)
    ]
    if json:
        output.print_json(data)
        return
    for problem in data:
        _show_explanation(problem)


def _show_explanation(problem: dict[str, Any]) -> None:
    rows = []
    for row in problem["algorithms"]:
        if row["refusal"]:
            rows.append((row["algorithm"], "", "", "", f"refuses: {row['refusal']}"))
        else:
            pick = f"picked ({row['source']})" if row["picked"] else ""
            times = (output.seconds(row["estimate"]), output.seconds(row["measured"]))
            rows.append((row["algorithm"], row["parameters"] or "", *times, pick))
    columns = ("algorithm", "parameters", "estimate", "measured", "")
    title = f"{problem['descriptor']}, {problem['threads']} thread(s)"
    output.print_table(columns, rows, ("algorithm", "parameters", ""), title)


@wisdom_app.command("list")
def wisdom_list(json: Json = False) -> None:
    """List what is remembered."""
    entries = sorted(wisdom.entries(), key=lambda entry: (entry["descriptor"], entry["threads"]))
    if json:
        output.print_json(entries)
        return
    columns = ("problem", "isa", "threads", "algorithm", "parameters", "time", "rigor")
    rows = [
        (
            entry["descriptor"],
            entry["isa"],
            str(entry["threads"]),
            entry["algorithm"],
            entry["parameters"],
            output.seconds(entry["seconds"]),
            entry["rigor"],
        )
        for entry in entries
    ]
    output.print_table(columns, rows, ("problem", "isa", "algorithm", "parameters", "rigor"))
    output.console(stderr=True).print(f"{len(entries)} entries in {wisdom.path()}")


@wisdom_app.command("export")
def wisdom_export(
    file: Annotated[Path | None, typer.Argument(help="Where to; stdout by default.")] = None, json: Json = False
) -> None:
    """Write what is remembered to a file or to stdout."""
    try:
        text = wisdom.export(file)
    except OSError as error:
        fail(f"{file} was not written: {error}", FAILURE)
    if json:
        output.print_json({"file": None if file is None else str(file), "entries": wisdom.entries()})
    elif file is None:
        sys.stdout.write(text)
    else:
        print(f"{len(wisdom.entries())} entries written to {file}")


@wisdom_app.command("import")
def wisdom_import(file: Annotated[Path, typer.Argument(help="A file that was exported.")], json: Json = False) -> None:
    """Take over what was exported; fails if nothing of it could be used."""
    try:
        result = wisdom.import_(file)
    except OSError as error:
        fail(f"{file} was not read: {error}", FAILURE)
    if json:
        output.print_json({"accepted": result.accepted, "rejected": result.rejected})
    else:
        print(f"{result.accepted} entries accepted, {result.rejected} rejected")
    if result.rejected and not result.accepted:
        raise typer.Exit(FAILURE)


@wisdom_app.command("forget")
def wisdom_forget(
    descriptors: Annotated[list[str] | None, typer.Argument(metavar="PROBLEM...", help="What to forget.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget everything.")] = False,
    json: Json = False,
) -> None:
    """Forget what was measured."""
    if everything == bool(descriptors):
        fail("wisdom forget: name problems, or give --all", USAGE)
    layers = _resolve(descriptors or [])
    gone = wisdom.forget() if everything else sum(wisdom.forget(layer.descriptor) for layer in layers)
    if json:
        output.print_json({"forgotten": gone})
    else:
        print(f"{gone} entries forgotten")


@wisdom_app.command("path")
def wisdom_path(json: Json = False) -> None:
    """Print where this machine's wisdom is kept."""
    file = wisdom.path()
    if json:
        output.print_json({"path": None if file is None else str(file), "exists": bool(file and file.exists())})
    elif file is None:
        fail("there is no folder for caches; NPCONV_CACHE_DIR names one", FAILURE)
    else:
        print(file)


@app.command()
def doctor(
    load: Annotated[
        str, typer.Option("--import", help="Modules to import first, such as torch, to see what they bring along.")
    ] = "",
    json: Json = False,
) -> None:
    """Look at the machine, the threads, the wisdom and the other libraries in the process."""
    from npconv.cli import doctor as examination

    for module in filter(None, load.split(",")):
        try:
            importlib.import_module(module)
        except Exception as error:
            fail(f"{module} can't be imported: {error}", FAILURE)
    facts = examination.examine()
    if json:
        output.print_json(facts)
    else:
        _show_facts(facts)
    if not facts["computes_correctly"]:
        raise typer.Exit(FAILURE)


def _show_facts(facts: dict[str, Any]) -> None:
    machine, state, runtime = facts["machine"], facts["wisdom"], facts["runtime"]
    peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s ({what})" for what, value in facts["peak_flops"].items())
    levels = ", ".join(f"{count} for {level}" for level, count in state["per_level"].items())
    caches = " / ".join(f"{machine[level] // 1024} KiB" for level in ("l1", "l2", "l3"))
    switch = "" if state["switch"] == "on" else f" (NPCONV_WISDOM: {state['switch']})"
    rows = [
        ("npconv", f"{facts['npconv']}, NumPy {facts['numpy']}, Python {facts['python']}"),
        ("machine", f"{machine['brand']} (caches {caches})"),
        ("ISA", f"{facts['isa']} (here: {', '.join(_npconv.isa_levels())})"),
        ("threads", f"{facts['threads']} (affinity {runtime['affinity']}, cgroup quota {runtime['cgroup_quota']})"),
        ("measured peak", peaks),
        ("wisdom", f"{state['path']}{'' if state['exists'] else ' (not there yet)'}{switch}"),
        ("entries", f"{state['entries']}{f' ({levels})' if levels else ''}"),
        ("machine constants", "measured" if state["machine_measured"] else "built in"),
        ("OpenMP runtimes", ", ".join(facts["openmp_runtimes"]) or "none"),
        ("self-check", "a convolution is right" if facts["computes_correctly"] else "A CONVOLUTION IS WRONG"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for warning in facts["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
