"""The wisdom file on bad days: file systems, locks and other processes that misbehave cost one warning."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from fake_extension import FakeExtension
from npconv import _wisdom_file, wisdom
from wisdom_files import entry, install, new_process, one_warning, sizes, wisdom_file, write_lines


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeExtension:
    return install(monkeypatch, tmp_path)


# What can be wrong with the file system


def test_things_that_are_no_files(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    file = wisdom_file()
    file.parent.mkdir()
    for make in (file.mkdir, lambda: os.mkfifo(file)):
        make()
        new_process(monkeypatch)
        begin = time.monotonic()
        with one_warning():
            assert wisdom.entries() == []
            assert not wisdom.save([entry(10)])
        assert time.monotonic() - begin < _wisdom_file.IO_SECONDS  # nobody waits for a pipe's other end
        file.rmdir() if file.is_dir() else file.unlink()


def test_file_that_is_too_large_is_not_read(fake: FakeExtension) -> None:
    file = write_lines(dict(entry(10)))
    os.truncate(file, _wisdom_file.MAX_FILE_BYTES + 1)
    with one_warning("too large"):
        assert wisdom.entries() == []


def test_folder_that_cannot_be_made(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with one_warning("not written|not read"):
        assert wisdom.entries() == []
        assert not wisdom.save([entry(10)])
        assert wisdom.forget() == 0


def test_hanging_file_system(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wisdom_file, "IO_SECONDS", 0.2)
    monkeypatch.setattr(_wisdom_file, "LOCK_SECONDS", 0.2)
    wisdom.save([entry(10)])
    new_process(monkeypatch)
    released = threading.Event()
    monkeypatch.setattr(_wisdom_file, "read", lambda path: released.wait(20) and None)
    start = time.monotonic()
    with one_warning("did not answer"):
        assert wisdom.entries() == []
        assert not wisdom.save([entry(11)])
    assert time.monotonic() - start < 5.0
    released.set()


def test_lock_that_is_never_released(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wisdom_file, "LOCK_SECONDS", 0.3)
    wisdom.save([entry(10)])
    with filelock.FileLock(str(wisdom_file()) + ".lock"), one_warning("not written"):
        start = time.monotonic()
        assert not wisdom.save([entry(11)])
        assert time.monotonic() - start >= 0.3
        start = time.monotonic()
        assert not wisdom.save([entry(12)])  # does not wait again
        assert time.monotonic() - start < 0.2
    assert wisdom.save([entry(13)])  # and what was skipped is not lost
    new_process(monkeypatch)
    assert sizes() == {10, 11, 12, 13}


def test_stale_temporary_files_are_removed(fake: FakeExtension) -> None:
    wisdom.save([entry(10)])
    file = wisdom_file()
    old, new = file.with_name(file.name + ".1-1.tmp"), file.with_name(file.name + ".2-2.tmp")
    for left in (old, new):
        left.write_text("half a li")
    os.utime(old, (0, 0))
    wisdom.save([entry(11)])
    assert not old.exists()
    assert new.exists()


# Processes of their own

SAVE = """
import sys, time
from npconv import wisdom
def entry(size):
    return {"descriptor": f"problem{size}", "isa": "avx2", "threads": 1, "algorithm": "im2col", "revision": 1,
            "parameters": "", "seconds": 1.0, "rigor": "measure", "time": 1.0}
"""


def start(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NPCONV_CACHE_DIR": str(folder)}
    environment.pop("NPCONV_WISDOM", None)
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", SAVE + code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(folder: Path) -> set[str]:
    """The problems in the only wisdom file of a folder, every line of which must be whole."""
    (file,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["descriptor"] for line in lines[1:]}


def test_eight_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    code = """
first = int(sys.argv[1])
for size in range(first, first + 20):
    assert wisdom.save([entry(size)])
"""
    processes = [start(code, tmp_path, str(1000 * n)) for n in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert stored(tmp_path) == {f"problem{1000 * n + size}" for n in range(8) for size in range(20)}


def test_killed_in_mid_write(tmp_path: Path) -> None:
    code = """
print("ready", flush=True)
for size in range(10**6):
    wisdom.save([entry(size)])
    print(size, flush=True)
"""
    chance, known = random.Random(1), set[str]()
    for _ in range(6):
        process = start(code, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1 + 0.1 * chance.random())
        process.send_signal(signal.SIGKILL)
        printed, _ = process.communicate(timeout=60)
        if list(tmp_path.glob("*.jsonl")):
            known |= {f"problem{size}" for size in printed.split()}
            assert stored(tmp_path) >= known
    assert known
    end = start("assert wisdom.save([entry(-1)])", tmp_path)
    _, errors = end.communicate(timeout=60)
    assert end.returncode == 0
    assert errors == ""
    assert stored(tmp_path) >= known | {"problem-1"}


def test_full_disk(tmp_path: Path) -> None:
    code = """
import resource, warnings
assert wisdom.save([entry(size) for size in range(100)])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for size in range(100, 103):
    assert not wisdom.save([entry(size)])
"""
    process = start(code, tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors.count("WisdomWarning") == 1
    assert "not written" in errors
    assert len(stored(tmp_path)) == 100
    assert not list(tmp_path.glob("*.tmp"))


def test_read_only_folder(tmp_path: Path) -> None:
    code = """
import ctypes, os
assert wisdom.save([entry(1)])
file = wisdom.path()
os.chmod(file, 0o444)
os.chmod(file.parent, 0o555)
# Even root must ask for permission once its capabilities are gone.
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
wisdom._state = wisdom._State()
wisdom.load()
for size in range(2, 5):
    assert not wisdom.save([entry(size)])
"""
    folder = tmp_path / "cache"
    process = start(code, folder)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors.count("WisdomWarning") == 1
    assert "not written" in errors
    assert stored(folder) == {"problem1"}


def test_importing_npconv_touches_neither_disk_nor_json(tmp_path: Path) -> None:
    code = """
import npconv
late = {"json", "platformdirs", "filelock", "typer", "rich", "hashlib"} & set(sys.modules)
assert not late, late
"""
    environment = {**os.environ, "NPCONV_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", "import sys" + code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()


HOSTILE = """
import json, os
import numpy as np
import npconv as nc
from npconv import _wisdom_file
ext = nc._npconv
key = ext.wisdom_key("ic16ih20oc16kh3pt1")
swaps = [("mb1", "mb9223372036854775807"), ("mb1", "mb" + "9" * 40), ("ic16", "ic0"), ("g1_", "g7_"), ("ih20", "ih-5"),
         ("kh3", "kh4000000000"), ("sh1", "sh0"), ("dh1", "dh9223372036854775807"), ("zeros", "nonsense"),
         ("ih20iw20", "ih2000000000iw2000000000"), ("fwd", "bwd_input"), ("f32", "f16"), ("_const", "_const_relu")]
problems = [key.replace(*swap) for swap in swaps] + ["x" * 500, "_" * 500, "fwd_", key * 3]
parameters = ["", "tile=1", "tile=-1", "m=4,tiles=99999999999999999999,split=0", "nan", "=", ",,,", "m" * 400]
names = [*ext.algorithms(), "nonsense"]
revision = lambda name: ext.algorithm_revision(name) if name in ext.algorithms() else 1
made = [(problem, name, "", ext.isa(), 1) for problem in problems for name in names]
made += [(key, name, text, isa, threads) for name in names for text in parameters
         for isa in (ext.isa(), "scalar", "nonsense") for threads in (1, 65536)]
entries = [{"descriptor": problem, "isa": isa, "threads": threads, "algorithm": name, "revision": revision(name),
            "parameters": text, "seconds": 1e-9, "rigor": "exhaustive", "time": 1e9}
           for problem, name, text, isa, threads in made]
file = nc.wisdom.path()
os.makedirs(file.parent, exist_ok=True)
header = _wisdom_file.dump(_wisdom_file.Content([], {}), ext.fingerprint())
file.write_bytes(header + b"".join(json.dumps(entry).encode() + bytes([10]) for entry in entries))
x, w = np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32)
plan = nc.plan_conv2d(x.shape, w, padding=1, num_threads=1)
print(len(entries), nc.wisdom.entries(), plan.algorithm != "reference", round(float(plan(x)[0, 0, 5, 5]), 3))
"""


def test_entries_that_make_no_sense_are_rejected_by_the_real_extension(tmp_path: Path) -> None:
    process = start(HOSTILE, tmp_path / "cache")
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    count, rest = printed.split(" ", 1)
    assert int(count) > 300
    assert rest == "[] True 144.0\n"
