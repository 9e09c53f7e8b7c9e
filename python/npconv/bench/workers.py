"""The parent's side of the worker processes: starting them, asking them, waiting until they are quiet."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .peers import PEERS

_HERE = Path(__file__).parent
_START = "import sys; sys.path.append({folder!r}); from peers.worker import main; main()"
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")


class Unavailable(Exception):
    """The peer can't be used: not installed, broken, or its process died."""


def _environment(peer: str, threads: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _BINDING}
    environment.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1")
    if PEERS[peer] and threads > 1:
        environment["OMP_PROC_BIND"] = "true"
    package = str(_HERE.parents[1])
    if peer == "npconv":  # the very copy that this process uses
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
    return environment


def _all_cpus() -> str:
    """The CPUs a worker may use, as text; a parent that a bound OpenMP narrowed to one must not pass that on."""
    if not hasattr(os, "sched_getaffinity"):
        return ""
    bound = any(name in os.environ for name in _BINDING)
    cpus = range(os.cpu_count() or 1) if bound else sorted(os.sched_getaffinity(0))
    return ",".join(str(cpu) for cpu in cpus)


class WorkerProcess:
    """One peer at one thread count."""

    def __init__(self, peer: str, threads: int, folder: Path, python: str = sys.executable) -> None:
        if peer not in PEERS:
            raise ValueError(f"unknown peer {peer!r}: expected one of {', '.join(PEERS)}")
        self.peer, self.threads, self.python, self.folder = peer, threads, python, folder
        self.version = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self, timeout: float = 120) -> None:
        """Starts or restarts the process; raises Unavailable with the reason."""
        self.stop()
        ours, theirs = Pipe()
        code = _START.format(folder=str(_HERE))
        command = [self.python, "-c", code, self.peer, str(self.threads), str(theirs.fileno()), _all_cpus()]
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    env=_environment(self.peer, self.threads),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            except OSError as error:
                raise Unavailable(f"{self.python}: {error.strerror}") from None
            finally:
                theirs.close()
        self._connection = ours
        status, text = self._receive(timeout)
        if status != "ready":
            self.stop()
            raise Unavailable(text)
        self.version = text

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            try:
                self._process.wait(2)  # a closed pipe ends the worker's loop
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def ask(self, *message: Any, timeout: float = 120) -> Any:
        """The worker's answer. RuntimeError: the request failed; Unavailable: the process is gone (and restarted)."""
        if self._connection is None:
            raise Unavailable("not running")
        try:
            self._connection.send(message)
            status, answer = self._receive(timeout)
        except (OSError, Unavailable) as error:
            self.start()
            raise Unavailable(f"the worker died: {error}") from None
        if status != "done":
            raise RuntimeError(answer)
        return answer

    def _receive(self, timeout: float) -> tuple[str, Any]:
        assert self._connection is not None
        assert self._process is not None
        try:
            if self._connection.poll(timeout):
                status, answer = self._connection.recv()
                return status, answer
        except (EOFError, ConnectionResetError):
            code = self._process.wait()
            raise Unavailable(f"exit code {code}; {self._last_words()}") from None
        self._process.kill()
        raise Unavailable(f"no answer within {timeout:.0f} s")

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.peer}{self.threads}.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "nothing on stderr"

    def wait_quiet(self, limit: float = 0.4) -> float:
        """Waits until no thread of the process runs; returns the seconds that took.

        Thread pools spin for milliseconds after a call, and on a machine with few cores that halves the next peer's
        speed.
        """
        start, quiet = time.perf_counter(), 0
        while quiet < 2 and time.perf_counter() - start < limit:
            quiet = 0 if self._running() else quiet + 1
            time.sleep(0.001)
        return time.perf_counter() - start

    def _running(self) -> bool:
        if self._process is None:
            return False
        tasks = Path(f"/proc/{self._process.pid}/task")
        try:
            return any(_state(task / "stat") == "R" for task in tasks.iterdir())
        except OSError:
            return False

    def cpu_seconds(self) -> float:
        """Processor time that the process has used so far."""
        if self._process is None:
            return 0.0
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _state(stat: Path) -> str:
    return stat.read_text().rsplit(")", 1)[1].split()[0]


def machine_cpu_seconds() -> float:
    """Processor time that the whole machine has used so far; 0 where it can't be read."""
    try:
        fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    except OSError:
        return 0.0
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting for a disk
