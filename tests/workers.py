"""Processes that run matrix cases: one per ISA level, because NPCONV_ISA holds for a whole process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("matrix_worker.py")
PATIENCE = 300  # seconds for one message; only a hang takes that long


class Worker:
    def __init__(self, isa: str) -> None:
        environment = {**os.environ, "NPCONV_ISA": isa}
        self._process = subprocess.Popen([sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env=environment, bufsize=0)

    def ask(self, message: Any) -> Any:
        """The answer to one message, or a text that says how the process died."""
        assert self._process.stdin and self._process.stdout
        answer = b""
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            while not answer.endswith(b"\n"):
                if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                    return f"no answer within {PATIENCE} s"
                chunk = self._process.stdout.read(1 << 20)
                if not chunk:
                    return f"the worker process ended with code {self._process.wait()}"
                answer += chunk
        except BrokenPipeError:
            return f"the worker process ended with code {self._process.wait()}"
        return json.loads(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Workers:
    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    def ask(self, isa: str, message: Any) -> Any:
        worker = self._workers.get(isa)
        if worker is None:
            worker = self._workers[isa] = Worker(isa)
        answer = worker.ask(message)
        if isinstance(answer, str):  # dead or hung: the next case gets a new one
            worker.close()
            del self._workers[isa]
        return answer

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
