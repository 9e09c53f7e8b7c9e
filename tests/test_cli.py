"""The command `npconv`: what it prints where, its exit codes, and that it works as a process."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npconv import _npconv, wisdom
from npconv.cli import doctor, output
from npconv.cli.app import run

SMALL, OTHER = "ic8ih12oc8kh3pt1", "ic16ih10oc8kh1"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def npconv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, with a wisdom folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NPCONV_WISDOM", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(wisdom, "_state", wisdom._State())
    _npconv.wisdom_clear()

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["npconv", *map(str, arguments)])
        code = run()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "NPCONV_CACHE_DIR": str(folder), **more}


def process(*arguments: str, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "npconv", *arguments]
    return subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=300, check=False, **more
    )


# tune


def test_tune_prints_a_table_and_writes_the_file(npconv: Command) -> None:
    code, out, err = npconv("tune", SMALL, OTHER, "--threads", "1", "--time-limit", "20")
    assert code == 0
    assert err == "" or "timings varied" in err  # on a busy machine
    lines = out.splitlines()
    for column in ("algorithm", "ms", "GFLOP/s", "% of peak", "vs im2col"):
        assert column in lines[0]
    assert lines[1].startswith(SMALL)
    assert "8x12x12 > 8, 3x3" in lines[1]
    assert lines[2].startswith(OTHER)
    assert lines[-1] == f"Wisdom file: {wisdom.path()}"
    file = wisdom.path()
    assert file is not None
    assert file.exists()
    assert "\x1b" not in out


def test_tune_json_is_all_of_stdout(npconv: Command) -> None:
    code, out, err = npconv("tune", SMALL, "--json", "--threads", "1", "--batch", "2")
    assert (code, err) == (0, "")
    report = json.loads(out)
    (row,) = report["rows"]
    assert row["status"] == "tuned"
    assert row["algorithm"] in _npconv.algorithms()
    assert "_mb2_" in row["descriptor"]
    for figure in ("seconds", "gflops", "peak_percent", "im2col_seconds", "speedup", "estimate_seconds"):
        assert row[figure] > 0
    assert report["wisdom_path"] == str(wisdom.path())
    assert report["saved"]
    assert not report["interrupted"]
    again = json.loads(npconv("tune", SMALL, "--json", "--threads", "1", "--batch", "2")[1])
    assert again["rows"][0]["status"] == "known"


def test_tune_says_when_nothing_is_written(npconv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPCONV_WISDOM", "0")
    code, out, _ = npconv("tune", SMALL, "--threads", "1")
    assert code == 0
    assert "nothing was written" in out


def test_tune_reads_files_of_problems(npconv: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(f"# mine\n{SMALL}  # first x2\n{OTHER}\n")
    code, out, _ = npconv("tune", file, "--threads", "1")
    assert code == 0
    assert "first x2" in out
    assert "All 3 layers" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["tune"], "Missing argument"),
        (["tune", "resnet5"], "did you mean resnet50"),
        (["tune", "ic8ih12oc8kh3pt"], "ic8ih12oc8kh3pt"),
        (["tune", "none.txt"], "none.txt"),
        (["tune", SMALL, "--mode", "estimate"], "--mode"),
        (["tune", SMALL, "--time-limit", "0"], "--time-limit"),
        (["tune", SMALL, "--threads", "1,x"], "--threads"),
        (["tune", SMALL, "--threads", "0"], "--threads"),
        (["tune", SMALL, "--batch", "0"], "--batch"),
        (["tune", SMALL, "--nonsense"], "--nonsense"),
        (["explain", "nonsense"], "no built-in network"),
        (["bench", "nonsense"], "no built-in network"),
        (["bench", SMALL, "--peers", "nonsense"], "nonsense"),
        (["wisdom", "forget"], "--all"),
        (["wisdom", "forget", SMALL, "--all"], "--all"),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(npconv: Command, arguments: list[str], text: str) -> None:
    code, out, err = npconv(*arguments)
    assert (code, out) == (2, "")
    assert text in err


def test_problem_that_fails_is_a_failure(npconv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def measurement(descriptor: str, threads: int) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("npconv.tuner._npconv", Wrapped(Measurement=measurement))
    code, out, _ = npconv("tune", SMALL, "--threads", "1")
    assert code == 1
    assert "failed, MemoryError: no room" in out


class Wrapped:
    """The extension with some functions replaced."""

    def __init__(self, **replaced: Any) -> None:
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(_npconv, name)


# explain, wisdom


def test_explain(npconv: Command) -> None:
    code, out, err = npconv("explain", SMALL, "--threads", "1", "--json")
    (problem,) = json.loads(out)
    assert (code, err) == (0, "")
    assert problem["threads"] == 1
    assert {row["algorithm"] for row in problem["algorithms"]} == set(_npconv.algorithms())
    (picked,) = [row for row in problem["algorithms"] if row["picked"]]
    assert picked["estimate"] > 0
    assert picked["source"] == "estimate"
    npconv("tune", SMALL, "--threads", "1")
    code, out, err = npconv("explain", SMALL, "--threads", "1")
    assert (code, err) == (0, "")
    assert "picked (wisdom)" in out
    assert sum("picked" in line for line in out.splitlines()) == 1


def test_wisdom_commands(npconv: Command, tmp_path: Path) -> None:
    code, out, _ = npconv("wisdom", "path")
    assert code == 0
    assert out.strip() == str(wisdom.path())
    assert json.loads(npconv("wisdom", "path", "--json")[1]) == {"path": out.strip(), "exists": False}
    assert json.loads(npconv("wisdom", "list", "--json")[1]) == []
    npconv("tune", SMALL, OTHER, "--threads", "1")
    assert len(json.loads(npconv("wisdom", "list", "--json")[1])) == 2
    code, out, _ = npconv("wisdom", "list")
    assert code == 0
    assert _npconv.wisdom_key(SMALL) in out
    file = tmp_path / "exported"
    assert npconv("wisdom", "export", file)[0] == 0
    assert npconv("wisdom", "export")[1] == file.read_text()
    assert len(json.loads(npconv("wisdom", "export", "--json")[1])["entries"]) == 2
    assert npconv("wisdom", "forget", SMALL)[1] == "1 entries forgotten\n"
    assert json.loads(npconv("wisdom", "forget", "--all", "--json")[1]) == {"forgotten": 1}
    assert json.loads(npconv("wisdom", "import", file, "--json")[1]) == {"accepted": 2, "rejected": 0}
    assert npconv("wisdom", "import", file)[:2] == (0, "2 entries accepted, 0 rejected\n")
    file.write_text("nonsense\n")
    assert npconv("wisdom", "import", file)[:2] == (1, "0 entries accepted, 1 rejected\n")
    code, out, err = npconv("wisdom", "import", tmp_path / "none")
    assert (code, out) == (1, "")
    assert "none" in err
    code, out, err = npconv("wisdom", "export", tmp_path / "none" / "file")
    assert (code, out) == (1, "")
    assert "was not written" in err


# doctor


def test_doctor(npconv: Command) -> None:
    code, out, err = npconv("doctor", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert facts["computes_correctly"]
    assert facts["isa"] == _npconv.isa()
    assert facts["wisdom"]["path"] == str(wisdom.path())
    assert all(value > 1e6 for value in facts["peak_flops"].values())
    assert any("never measured" in warning for warning in facts["warnings"])
    code, out, err = npconv("doctor")
    assert code == 0
    assert "measured peak" in out
    assert "OpenMP runtimes" in out
    assert "never measured" in err
    code, out, err = npconv("doctor", "--import", "no_such_module")
    assert (code, out) == (1, "")
    assert "no_such_module" in err


def test_doctor_sees_several_openmp_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0\n"
        "7f01-7f02 r--p 00000000 08:01 1  /usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0\n"
        "7f02-7f03 r-xp 00000000 08:01 2  /venv/site-packages/torch.libs/libgomp-a34b3233.so.1\n"
        "7f03-7f04 r-xp 00000000 08:01 3  /venv/lib/libiomp5.so\n"
        "7f04-7f05 r-xp 00000000 08:01 4  /usr/lib/libm.so.6\n"
        "7f05-7f06 rw-p 00000000 00:00 0  [heap]\n"
    )
    found = doctor.openmp_runtimes(str(maps))
    assert [Path(name).name for name in found] == ["libgomp.so.1.0.0", "libiomp5.so", "libgomp-a34b3233.so.1"]
    monkeypatch.setattr(doctor, "openmp_runtimes", lambda: found)
    assert any("3 OpenMP runtimes" in warning for warning in doctor.examine()["warnings"])


def test_doctor_fails_where_convolution_is_wrong(npconv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "computes_correctly", lambda: False)
    code, out, _ = npconv("doctor")
    assert code == 1
    assert "A CONVOLUTION IS WRONG" in out


# bench


def test_bench(npconv: Command, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    code, out, _ = npconv("bench", SMALL, "--threads", "1", "--seconds", "0.05", "--json", "-o", file)
    rows = json.loads(out)
    assert code == 0
    assert rows == json.loads(file.read_text())
    figures = {row["figure"]: row for row in rows if row["peer"] == "npconv"}
    assert set(figures) == {"functional", "planned", "planned out="}
    assert all(row["seconds"] > 0 and row["percent_of_peak"] > 0 for row in figures.values())
    code, out, _ = npconv("bench", SMALL, "--threads", "1", "--seconds", "0.05")
    assert code == 0
    assert "planned out= ms" in out.splitlines()[0]
    assert out.splitlines()[1].startswith(SMALL)


# As a process


def test_module_is_the_command(tmp_path: Path) -> None:
    done = process("--version", folder=tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, _npconv.__version__, "")
    assert process("nonsense", folder=tmp_path).returncode == 2


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.modules['typer'] = None; runpy.run_module('npconv', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'npconv: the command line needs typer: pip install "npconv[cli]"\n'


def test_damaged_file_is_one_line_on_stderr(tmp_path: Path) -> None:
    file = Path(process("wisdom", "path", folder=tmp_path).stdout.strip())
    file.write_text("nonsense")
    done = process("wisdom", "list", "--json", folder=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == []
    assert done.stderr.startswith("warning: npconv: the wisdom file")
    assert done.stderr.count("\n") == 1


def test_progress_bar_on_a_terminal_only(tmp_path: Path) -> None:
    mine, its = pty.openpty()
    command = [sys.executable, "-m", "npconv", "tune", SMALL, "--threads", "1", "--json"]
    env = environment(tmp_path, TERM="xterm")
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=its, text=True) as running:
        os.close(its)
        screen = b""
        while True:
            try:
                part = os.read(mine, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            screen += part
        assert running.stdout is not None
        assert json.loads(running.stdout.read())["rows"]
    os.close(mine)
    assert running.returncode == 0
    assert b"\x1b[" in screen
    assert SMALL.encode() in screen


def test_interrupt_keeps_what_is_known(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "npconv", "tune", "resnet50", "--threads", "1"]
    with subprocess.Popen(
        command,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as running:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any(
            '"descriptor"' in file.read_text() for file in tmp_path.glob("*.jsonl")
        ):
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Interrupted. What stands above is kept." in out
    assert "Traceback" not in err
    (file,) = tmp_path.glob("*.jsonl")
    entries = [json.loads(line) for line in file.read_text().splitlines() if '"descriptor"' in line]
    assert entries
    listed = json.loads(process("wisdom", "list", "--json", folder=tmp_path).stdout)
    assert len(listed) == len(entries)


def test_output_has_no_infinities() -> None:
    assert json.loads(output.as_json({"a": [float("inf"), float("nan"), 1.5], 1: Path("x")})) == {
        "a": [None, None, 1.5],
        "1": "x",
    }
