"""Settings of the process and of the machine: threads, ISA, memory, tuning mode, reproducible mode."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from npconv import _npconv
from npconv._npconv import (
    clear_caches,
    get_num_threads,
    get_reproducible,
    get_workspace_limit,
    isa,
    memory_info,
    set_num_threads,
    set_workspace_limit,
)

__all__ = [
    "clear_caches",
    "get_num_threads",
    "get_reproducible",
    "get_tuning",
    "get_workspace_limit",
    "isa",
    "memory_info",
    "register_threadpoolctl",
    "set_num_threads",
    "set_reproducible",
    "set_workspace_limit",
    "show_runtime",
    "threads",
    "tuning",
]


class threads:
    """Limit the number of threads inside a ``with`` block, for the calling Python thread alone.

    Of the ways to say the number, the first given wins: the argument ``num_threads=`` of a call, this block,
    ``set_num_threads``, the environment variables ``NPCONV_NUM_THREADS`` and ``OMP_NUM_THREADS``, and at last the
    CPUs that the process may use (affinity mask and cgroup quota). Blocks nest.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        n is less than 1.

    Examples
    --------
    >>> import npconv as nc
    >>> with nc.threads(1):
    ...     nc.get_num_threads()
    1
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._previous: list[int | None] = []

    def __enter__(self) -> None:
        self._previous.append(_npconv.set_thread_num_threads(self._n))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _npconv.set_thread_num_threads(self._previous.pop())


class set_reproducible:
    """Make the choice of algorithm depend on shape, ISA and accuracy class alone; also a context manager.

    Then the same program gives the same bits on every machine of one ISA, whatever was tuned and however many
    threads there are. Holds for the whole process; ``NPCONV_REPRODUCIBLE=1`` sets the start value.

    Parameters
    ----------
    on : bool
        True or False.

    Examples
    --------
    >>> import npconv as nc
    >>> with nc.set_reproducible(True):
    ...     nc.get_reproducible()
    True
    >>> nc.get_reproducible()
    False
    """

    def __init__(self, on: bool) -> None:
        self._previous = get_reproducible()
        _npconv.set_reproducible(on)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _npconv.set_reproducible(self._previous)


class tuning:
    """Set what happens when a shape is met for the first time; also a context manager.

    Holds for the whole process; ``NPCONV_TUNE`` sets the start value.

    Parameters
    ----------
    mode : str
        ``"estimate"``: never measure, use what was measured before and the cost model otherwise. ``"measure"``,
        ``"exhaustive"``: measure the candidates, unless that was done before with the same thoroughness.
    time_limit : float, optional
        Seconds that the measuring of one shape may take.

    Raises
    ------
    ValueError
        An unknown mode, or a limit that is not positive.

    Examples
    --------
    >>> import npconv as nc
    >>> with nc.tuning("measure", time_limit=0.5):
    ...     nc.get_tuning()
    ('measure', 0.5)
    >>> nc.get_tuning()
    ('estimate', None)
    """

    def __init__(self, mode: str, time_limit: float | None = None) -> None:
        self._previous = get_tuning()
        _npconv.set_tuning(mode, time_limit)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _npconv.set_tuning(*self._previous)


def get_tuning() -> tuple[str, float | None]:
    """Return the tuning mode and the time limit in seconds, as ``tuning`` set them."""
    return _npconv.get_tuning()


def show_runtime(file: TextIO | None = None) -> None:
    """Print versions, instruction set, threads, memory limits and the environment variables that are set.

    Parameters
    ----------
    file : text file, optional
        Where to print; None means standard output.

    Examples
    --------
    >>> import npconv as nc
    >>> nc.show_runtime()  # doctest: +ELLIPSIS
    npconv ...
    """
    out = sys.stdout if file is None else file
    print(f"npconv {_npconv.__version__}, NumPy {np.__version__}, Python {sys.version.split()[0]}", file=out)
    rows: dict[str, Any] = {key: value for key, value in _npconv.runtime_info().items() if key != "version"}
    mode, limit = get_tuning()
    rows["tuning"] = mode if limit is None else f"{mode}, at most {limit} s for a shape"
    rows.update({f"memory {key}": value for key, value in memory_info().items()})
    rows.update(sorted((k, v) for k, v in os.environ.items() if k.startswith(("NPCONV_", "OMP_"))))
    width = max(len(key) for key in rows)
    for key, value in rows.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        print(f"  {key:<{width}}  {text}", file=out)


def register_threadpoolctl() -> None:
    """Tell threadpoolctl about npconv, so that ``threadpool_limits`` and ``threadpool_info`` include it.

    ``import npconv`` does this by itself if threadpoolctl has been imported before.

    Raises
    ------
    ImportError
        threadpoolctl is not installed.

    Examples
    --------
    >>> import npconv as nc, threadpoolctl
    >>> nc.register_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(1, user_api="npconv"):
    ...     nc.get_num_threads()
    1
    """
    import threadpoolctl

    class NpconvController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "npconv"
        internal_api = "npconv"
        filename_prefixes = ("_npconv",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return _npconv.__version__

    threadpoolctl.register(NpconvController)
