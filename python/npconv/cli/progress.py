"""A progress bar on stderr, where stderr is a terminal; nothing where it isn't."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from npconv.cli.output import console


class Bar:
    """A context manager that shows how much is done and what is going on."""

    def __init__(self, total: int) -> None:
        screen = console(stderr=True)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, done: int, text: str) -> None:
        """Say how much is done and what comes now."""
        self._progress.update(self._task, completed=done, description=text)
