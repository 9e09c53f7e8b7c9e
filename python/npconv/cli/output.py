"""What the commands print: JSON or tables on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


def fail(message: str, code: int) -> NoReturn:
    """Say on stderr what went wrong and end the command."""
    print(f"npconv: {message}", file=sys.stderr)
    raise typer.Exit(code)


def console(stderr: bool = False) -> Console:
    """Return a console; tables that no terminal shows are as wide as they need to be."""
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or "COLUMNS" in os.environ else 240
    return Console(file=stream, width=wide, highlight=False, markup=False, emoji=False)


def _plain(value: Any) -> Any:
    """Return what JSON can say: no infinities and no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def as_json(data: Any) -> str:
    """Return data as indented JSON."""
    return json.dumps(_plain(data), indent=2, allow_nan=False, default=str)


def print_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    print(as_json(data))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = (), title: str | None = None
) -> None:
    """Print a table; the columns named in `left` hold text, the others numbers."""
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        text = column in left
        table.add_column(column, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, or a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
    """Return a time with a unit that leaves about three digits.

    >>> seconds(0.00123), seconds(4.5e-6), seconds(None)
    ('1.230 ms', '4.50 us', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    if value >= 1.0:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3f} ms" if value >= 1e-4 else f"{value * 1e6:.2f} us"


def short_shape(problem: Mapping[str, Any]) -> str:
    """Return a problem's sizes in the few characters that a table has for them.

    >>> short_shape(dict(mb=1, g=1, ic=64, oc=128, input=(1, 56, 56), kernel=(1, 3, 3), stride=(1, 2, 2),
    ...                  dilation=(1, 1, 1)))
    '64x56x56 > 128, 3x3 /2'
    """
    flat = problem["input"][0] == 1 and problem["kernel"][0] == 1

    def sizes(values: Sequence[int]) -> str:
        return "x".join(str(value) for value in (values[1:] if flat else values))

    text = f"{problem['ic']}x{sizes(problem['input'])} > {problem['oc']}, {sizes(problem['kernel'])}"
    if max(problem["stride"]) > 1:
        text += f" /{max(problem['stride'])}"
    if max(problem["dilation"]) > 1:
        text += f" d{max(problem['dilation'])}"
    if problem["g"] > 1:
        text += f" g{problem['g']}"
    return text if problem["mb"] == 1 else f"{problem['mb']}x{text}"
