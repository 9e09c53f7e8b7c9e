"""The wisdom file: its format, what is believed of it, and how it is written.

One file belongs to one machine. It holds JSON lines: a header with the machine's fingerprint, perhaps one line per ISA
level with measured machine constants, and one line per entry. Whatever stands in the file, reading it yields only
values of the right type and size; whether an entry makes sense to this version of the library is decided by the
extension.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypedDict, TypeVar

__all__ = [
    "Content",
    "Entry",
    "Key",
    "bounded",
    "dump",
    "file_name",
    "key_of",
    "merge",
    "parse",
    "read",
    "update",
    "write",
]

FORMAT = "npconv-wisdom"
SCHEMA = 1
MAX_FILE_BYTES = 32 << 20
MAX_LINE_BYTES = 4096
MAX_ENTRIES = 4096  # reading more would be felt at a first call
LOCK_SECONDS = 5.0
IO_SECONDS = 5.0
STALE_TEMPORARY_SECONDS = 600.0
RIGORS = {"measure": 1, "exhaustive": 2}

T = TypeVar("T")
Key = tuple[str, str, int]


class Entry(TypedDict):
    """What was measured for one problem on this machine."""

    descriptor: str
    isa: str
    threads: int
    algorithm: str
    revision: int
    parameters: str
    seconds: float
    rigor: str
    time: float


class Content(NamedTuple):
    """What a wisdom file says, and how much of it could not be used."""

    entries: list[Entry]
    constants: dict[str, dict[str, float]]  # of the machine, by ISA level
    damaged: int = 0
    problem: str | None = None


def fingerprint_key(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a fingerprint that decides whether two machines are the same."""
    import json

    kept = {name: value for name, value in fingerprint.items() if name != "brand"}
    same: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True))
    return same


def file_name(fingerprint: Mapping[str, Any]) -> str:
    """Return the name of the file for a machine.

    >>> file_name({"vendor": "A", "model": 1}) == file_name({"model": 1, "vendor": "A", "brand": "any"})
    True
    """
    import hashlib
    import json

    text = json.dumps(fingerprint_key(fingerprint), sort_keys=True)
    return f"wisdom-v{SCHEMA}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"


def _text(value: object, limit: int) -> str | None:
    if isinstance(value, str) and len(value) <= limit and value.isascii() and (value.isprintable() or not value):
        return value
    return None


def _integer(value: object, low: int, high: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    return None


def _number(value: object, low: float, high: float) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    return None


def check_entry(raw: object, now: float) -> Entry | None:
    """Return a well-formed entry, or None. A time in the future counts as now, or it would win for ever."""
    if not isinstance(raw, dict):
        return None
    descriptor, isa = _text(raw.get("descriptor"), 512), _text(raw.get("isa"), 32)
    algorithm, parameters = _text(raw.get("algorithm"), 64), _text(raw.get("parameters"), 512)
    threads, revision = _integer(raw.get("threads"), 1, 65_536), _integer(raw.get("revision"), 0, 2**31 - 1)
    seconds, stamp = _number(raw.get("seconds"), 1e-10, 1e6), _number(raw.get("time"), 0.0, 1e12)
    rigor = raw.get("rigor")
    if not descriptor or not isa or not algorithm or parameters is None or threads is None or revision is None:
        return None
    if seconds is None or stamp is None or not isinstance(rigor, str) or rigor not in RIGORS:
        return None
    return Entry(
        descriptor=descriptor,
        isa=isa,
        threads=threads,
        algorithm=algorithm,
        revision=revision,
        parameters=parameters,
        seconds=seconds,
        rigor=rigor,
        time=min(stamp, now),
    )


def _check_constants(raw: object) -> tuple[str, dict[str, float]] | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("constants"), dict):
        return None
    isa, constants = _text(raw.get("isa"), 32), {}
    for name, value in raw["constants"].items():
        number = _number(value, -1e30, 1e30)
        if _text(name, 64) is None or number is None or not math.isfinite(number):
            return None
        constants[name] = number
    return (isa, constants) if isa else None


def key_of(entry: Entry) -> Key:
    """Return what an entry is about; two entries with the same key compete."""
    return (entry["descriptor"], entry["isa"], entry["threads"])


def merge(entries: Iterable[Entry], current: Callable[[Entry], bool] = lambda entry: True) -> list[Entry]:
    """Keep one entry per key: one that is `current`, then the higher rigor, then the newer.

    >>> old = Entry(descriptor="d", isa="avx2", threads=1, algorithm="im2col", revision=1, parameters="",
    ...             seconds=1.0, rigor="exhaustive", time=1.0)
    >>> [kept["rigor"] for kept in merge([old, {**old, "rigor": "measure", "time": 2.0}])]
    ['exhaustive']
    """

    def rank(entry: Entry) -> tuple[bool, int, float]:
        return (current(entry), RIGORS[entry["rigor"]], entry["time"])

    best: dict[Key, Entry] = {}
    for entry in entries:
        known = best.get(key_of(entry))
        if known is None or rank(entry) >= rank(known):
            best[key_of(entry)] = entry
    kept = list(best.values())
    if len(kept) > MAX_ENTRIES:
        kept = sorted(kept, key=lambda entry: entry["time"])[-MAX_ENTRIES:]
    return kept


def _decode(line: bytes) -> object:
    import json

    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def parse(data: bytes, fingerprint: Mapping[str, Any]) -> Content:
    """Read the bytes of a wisdom file; everything malformed is counted and left out."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    header = _decode(lines[0]) if lines else None
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("schema") != SCHEMA:
        return Content([], {}, len(lines), "has no valid header")
    if header.get("fingerprint") != fingerprint_key(fingerprint):
        return Content([], {}, len(lines) - 1, "was written on another machine")
    entries: list[Entry] = []
    constants: dict[str, dict[str, float]] = {}
    damaged, now = 0, time.time()
    for line in lines[1:]:
        raw = _decode(line)
        found = _check_constants(raw)
        entry = check_entry(raw, now)
        if found is not None:
            constants[found[0]] = found[1]
        elif entry is not None:
            entries.append(entry)
        else:
            damaged += 1
    return Content(entries, constants, damaged, f"has {damaged} damaged line(s)" if damaged else None)


def dump(content: Content, fingerprint: Mapping[str, Any]) -> bytes:
    """Return the bytes of a wisdom file."""
    import json

    header = {
        "format": FORMAT,
        "schema": SCHEMA,
        "machine": str(fingerprint.get("brand", "")),
        "fingerprint": fingerprint_key(fingerprint),
    }
    lines: list[Mapping[str, Any]] = [header]
    lines += [{"isa": isa, "constants": found} for isa, found in sorted(content.constants.items())]
    entries = sorted(content.entries, key=key_of)
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in [*lines, *entries]).encode()


def bounded(function: Callable[[], T], seconds: float) -> T:
    """Call a function that touches the disk, and stop waiting for it after a while.

    A network file system that hangs would otherwise take the caller with it.

    >>> bounded(lambda: 1 + 1, 5.0)
    2
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="npconv-wisdom", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads to be had, or the interpreter is shutting down
        return function()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"the file system did not answer within {seconds:g} s")
    return done[0]


def read(path: str) -> bytes | None:
    """Return the bytes of a regular file of acceptable size, or None where there is none."""
    import stat

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(f"{path} is too large to be a wisdom file ({status.st_size} bytes)")
        with open(handle, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES)
    finally:
        os.close(handle)


def write(path: str, data: bytes) -> None:
    """Put bytes into a file so that a reader sees either the old ones or the new ones."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _remove_stale_temporaries(path: str) -> None:
    """Remove what processes that were killed while writing have left behind."""
    folder, name = os.path.split(path)
    for found in os.scandir(folder):
        if found.name.startswith(name + ".") and found.name.endswith(".tmp"):
            try:
                if time.time() - found.stat().st_mtime > STALE_TEMPORARY_SECONDS:
                    os.unlink(found.path)
            except OSError:
                continue


def update(
    path: str,
    fingerprint: Mapping[str, Any],
    change: Callable[[Content], Content],
    lock_seconds: float | None = None,
) -> Content:
    """Read the file, change what it says and write it, all under the file's lock.

    A file that is not ours to trust (no header, another machine) is moved aside, never overwritten.
    """
    import filelock

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    wait = LOCK_SECONDS if lock_seconds is None else lock_seconds
    with filelock.FileLock(path + ".lock").acquire(timeout=wait, poll_interval=0.01):
        data = read(path)
        before = Content([], {}) if data is None else parse(data, fingerprint)
        if before.damaged:
            write(path + ".damaged", data or b"")
        after = change(before)
        write(path, dump(after, fingerprint))
        _remove_stale_temporaries(path)
    return after
