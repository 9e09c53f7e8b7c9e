"""The command `npconv`; it needs the extra `cli` (typer and rich)."""

from __future__ import annotations

import sys
import warnings
from typing import NoReturn, TextIO

__all__ = ["main"]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        from npconv.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("typer", "rich"):
            raise
        print(f'npconv: the command line needs {error.name}: pip install "npconv[cli]"', file=sys.stderr)
        sys.exit(2)
    warnings.showwarning = _show_warning
    sys.exit(run())
