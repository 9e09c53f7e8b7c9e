"""What was measured on this machine, kept from one process to the next.

The table lives in the extension; this module moves it from and to the disk. It is read once, when the process plans
its first convolution, and written after something was measured. Nothing that can be wrong with the file, the folder
or another process is allowed to matter: at worst there is one warning and nothing is remembered.

`NPCONV_CACHE_DIR` names another folder. `NPCONV_WISDOM=0` neither reads nor writes, `NPCONV_WISDOM=readonly` only
reads.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from npconv import _npconv, _wisdom_file
from npconv._wisdom_file import Content, Entry

__all__ = ["Entry", "ImportResult", "WisdomWarning", "entries", "export", "forget", "import_", "path"]

# A measured constant further from the built-in one than this is taken for damage.
_PLAUSIBLE_FACTOR = 100.0


class WisdomWarning(RuntimeWarning):
    """The wisdom file could not be read or written; results are not affected."""


class ImportResult(NamedTuple):
    """How many entries an import took over and how many it did not."""

    accepted: int
    rejected: int


class _State:
    """What this process knows about its wisdom file."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.loaded = False
        self.warned = False
        self.lock_seconds: float | None = None
        self.pending: list[Entry] = []
        self.pending_constants: dict[str, float] = {}
        self.measured_constants = False
        self.builtin_constants: dict[str, float] | None = None


_state = _State()


def _after_fork() -> None:
    # Another thread of the parent may have held the guard.
    _state.guard = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _warn(message: str) -> None:
    if not _state.warned:
        _state.warned = True
        warnings.warn(f"npconv: {message}", WisdomWarning, stacklevel=3)


def switch() -> str:
    """Return "on", "readonly" or "off", as NPCONV_WISDOM says."""
    value = os.environ.get("NPCONV_WISDOM", "").strip().lower()
    if value in ("", "1", "on", "true", "yes"):
        return "on"
    if value in ("0", "off", "false", "no"):
        return "off"
    if value != "readonly":
        _warn(f"NPCONV_WISDOM={value[:40]!r} is none of 0, 1 and readonly; taken for readonly")
    return "readonly"


def _folder() -> str | None:
    """Return the folder of the wisdom files, or None where the user has no place for caches."""
    named = os.environ.get("NPCONV_CACHE_DIR", "")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    import platformdirs

    try:
        folder = platformdirs.user_cache_dir("npconv")
    except RuntimeError:  # no home directory
        return None
    return folder if os.path.isabs(folder) else None


def path() -> Path | None:
    """Return the file with this machine's wisdom (which need not exist yet), or None if there is no place for it.

    >>> import npconv as nc
    >>> nc.wisdom.path().suffix
    '.jsonl'
    """
    folder = _folder()
    return None if folder is None else Path(folder) / _wisdom_file.file_name(_npconv.fingerprint())


def load() -> None:
    """Read the file into the table, once per process; what the extension calls at its first plan miss."""
    with _state.guard:
        if _state.loaded:
            return
        _state.loaded = True
        try:
            if switch() == "off":
                return
            file = path()
            if file is None:
                return
            data = _wisdom_file.bounded(lambda: _wisdom_file.read(str(file)), _wisdom_file.IO_SECONDS)
            if data is None:
                return
            content = _wisdom_file.parse(data, _npconv.fingerprint())
            _take_entries(content.entries)
            _take_constants(content.constants.get(_npconv.isa(), {}))
        except WisdomWarning:
            raise
        except Exception as error:
            _warn(f"the wisdom file was not read ({type(error).__name__}: {error})")
            return
        if content.problem is not None:
            _warn(f"the wisdom file {file} {content.problem}; what could not be used was ignored")


def _take_entries(found: list[Entry]) -> tuple[int, int]:
    """Put entries into the table; returns how many were accepted and rejected."""
    if not found:
        return (0, 0)
    try:
        accepted, rejected = _npconv.wisdom_update([dict(entry) for entry in found])
        return (int(accepted), int(rejected))
    except Exception:
        if len(found) == 1:
            return (0, 1)
    counts = [_take_entries([entry]) for entry in found]
    return (sum(count[0] for count in counts), sum(count[1] for count in counts))


def _take_constants(found: Mapping[str, float]) -> bool:
    """Use measured machine constants if all are there and every one is plausible."""
    if _state.builtin_constants is None:
        _state.builtin_constants = dict(_npconv.machine_constants())
    builtin = _state.builtin_constants
    if set(found) != set(builtin):
        return False
    for name, value in found.items():
        if not builtin[name] / _PLAUSIBLE_FACTOR < value < builtin[name] * _PLAUSIBLE_FACTOR:
            return False
    _npconv.set_machine_constants(dict(found))
    _state.measured_constants = True
    return True


def _is_current(entry: Entry) -> bool:
    """Whether this version of the library has the very algorithm that the entry was measured with."""
    try:
        return bool(_npconv.algorithm_revision(entry["algorithm"]) == entry["revision"])
    except Exception:
        return False


def _change_file(file: Path, change: Callable[[Content], Content]) -> None:
    """Rewrite the file under its lock."""
    fingerprint, wait = _npconv.fingerprint(), _state.lock_seconds
    # Whoever holds the lock for too long is likely to keep it: the attempt after a failure does not wait.
    _state.lock_seconds = 0.0
    limit = _wisdom_file.LOCK_SECONDS + _wisdom_file.IO_SECONDS
    _wisdom_file.bounded(lambda: _wisdom_file.update(str(file), fingerprint, change, wait), limit)
    _state.lock_seconds = None


def save(new: Iterable[Entry] = (), constants: Mapping[str, float] | None = None) -> bool:
    """Merge what was learned into the file; returns whether it is there now.

    What could not be written waits for the next attempt of this process.
    """
    with _state.guard:
        _state.pending = _wisdom_file.merge([*_state.pending, *new], _is_current)
        if constants:
            _state.pending_constants = dict(constants)
        try:
            if switch() != "on":
                return False
            file = path()
            if file is None:
                _warn("there is no folder for the wisdom file (NPCONV_CACHE_DIR names one); it was not written")
                return False
            pending, learned = list(_state.pending), dict(_state.pending_constants)

            def change(disk: Content) -> Content:
                merged = _wisdom_file.merge([*disk.entries, *pending], _is_current)
                return Content(merged, {**disk.constants, _npconv.isa(): learned} if learned else disk.constants)

            _change_file(file, change)
        except WisdomWarning:
            raise
        except Exception as error:
            _warn(f"the wisdom file was not written ({type(error).__name__}: {error})")
            return False
        _state.pending, _state.pending_constants = [], {}
        return True


def entries() -> list[Entry]:
    """Return what is known: the entries that this process would use.

    >>> import npconv as nc
    >>> isinstance(nc.wisdom.entries(), list)
    True
    """
    load()
    return cast(list[Entry], _npconv.wisdom_entries())


def export(file: str | os.PathLike[str] | None = None) -> str:
    """Return all entries and measured constants as text, and write them to a file if one is named.

    >>> import npconv as nc
    >>> nc.wisdom.export().startswith('{"format": "npconv-wisdom"')
    True
    """
    load()
    constants = {_npconv.isa(): dict(_npconv.machine_constants())} if _state.measured_constants else {}
    data = _wisdom_file.dump(Content(entries(), constants), _npconv.fingerprint())
    if file is not None:
        _wisdom_file.write(os.fspath(file), data)
    return data.decode()


def import_(source: str | os.PathLike[str]) -> ImportResult:
    """Merge exported wisdom, given as a file or as text, into the table and this machine's file.

    For a problem that is known already the higher rigor wins, then the newer entry. Entries of another machine, of
    other versions of an algorithm and malformed ones are rejected. A file that cannot be read raises OSError.

    >>> import npconv as nc
    >>> nc.wisdom.import_(nc.wisdom.export()).rejected
    0
    """
    load()
    if isinstance(source, str) and source.lstrip().startswith("{"):
        data = source.encode(errors="replace")
    else:
        found = _wisdom_file.read(os.fspath(source))
        if found is None:
            raise FileNotFoundError(f"there is no wisdom file {os.fspath(source)!r}")
        data = found
    content = _wisdom_file.parse(data, _npconv.fingerprint())
    accepted = [entry for entry in content.entries if _take_entries([entry])[0]]
    constants = content.constants.get(_npconv.isa(), {})
    constants = constants if _take_constants(constants) else {}
    if accepted or constants:
        save(accepted, constants)
    rejected = content.damaged + len(content.entries) - len(accepted)
    return ImportResult(len(accepted), rejected)


def forget(descriptor: str | None = None) -> int:
    """Forget what was measured for one problem, or everything; returns how many entries are gone.

    >>> import npconv as nc
    >>> nc.wisdom.forget("ic3ih8oc4kh3pt1")
    0
    """
    load()
    key = None if descriptor is None else _npconv.wisdom_key(descriptor)

    def concerned(entry: Entry) -> bool:
        return key is None or entry["descriptor"] == key

    gone = {_wisdom_file.key_of(entry) for entry in entries() if concerned(entry)}
    with _state.guard:
        _state.pending = [entry for entry in _state.pending if not concerned(entry)]
        if descriptor is None:
            _npconv.wisdom_clear()
            _state.pending_constants, _state.measured_constants = {}, False
            if _state.builtin_constants is not None:
                _npconv.set_machine_constants(_state.builtin_constants)
        else:
            _npconv.wisdom_forget(descriptor)
    gone |= _forget_on_disk(concerned, key is None)
    return len(gone)


def _forget_on_disk(concerned: Callable[[Entry], bool], constants_too: bool) -> set[_wisdom_file.Key]:
    """Remove entries from the file; returns the keys of those that stood in it."""
    gone: set[_wisdom_file.Key] = set()

    def change(disk: Content) -> Content:
        gone.update(_wisdom_file.key_of(entry) for entry in disk.entries if concerned(entry))
        kept = [entry for entry in disk.entries if not concerned(entry)]
        return Content(kept, {} if constants_too else disk.constants)

    try:
        file = path()
        if switch() == "on" and file is not None and file.exists():
            _change_file(file, change)
    except WisdomWarning:
        raise
    except Exception as error:
        _warn(f"the wisdom file was not written ({type(error).__name__}: {error})")
    return gone


def machine_is_measured() -> bool:
    """Whether estimates use constants that were measured on this machine."""
    return _state.measured_constants


def learn_constants(found: Mapping[str, float]) -> bool:
    """Use and remember measured machine constants."""
    return _take_constants(found) and save((), found)
