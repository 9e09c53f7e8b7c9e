"""The worker process: one peer at one thread count, driven through a pipe."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from .problem import Driver, Figure, Problem, Skip

WARM_UP = 0.003


def burst(run: Callable[[], Any], seconds: float) -> tuple[float, int]:
    """Seconds per call over about `seconds` of back-to-back calls, after a warm-up; and the number of calls."""
    clock = time.perf_counter
    start, calls = clock(), 0
    while calls == 0 or clock() - start < WARM_UP:
        run()
        calls += 1
    calls = max(1, int(seconds * calls / (clock() - start)))
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls, calls


class Worker:
    def __init__(self, driver: Driver) -> None:
        self.driver: Any = driver
        self.ready: dict[str, Figure] = {}

    def build(self, fields: dict[str, Any], folder: str) -> dict[str, dict[str, Any]]:
        """Prepares every figure of a problem and checks its result; the arrays lie in `folder`."""
        self.ready = {}
        problem, at = Problem(**fields), Path(folder)
        x, w, b = (np.load(at / f"{name}.npy") for name in "xwb")
        expected = np.load(at / "y.npy", mmap_mode="r")
        answer: dict[str, dict[str, Any]] = {}
        try:
            for name, figure in self.driver.figures(problem, x, w, b, at):
                answer[name] = {"skipped": figure} if isinstance(figure, str) else self._check(name, figure, expected)
        except Skip as reason:
            answer[""] = {"skipped": str(reason)}
        return answer

    def _check(self, name: str, figure: Figure, expected: Any) -> dict[str, Any]:
        try:
            y = figure.fetch(figure.run())
            if y.shape != expected.shape:
                return {"failed": f"result has shape {y.shape}, expected {expected.shape}"}
            error = float(np.abs(y - expected).max() / np.abs(expected).max())
            start = time.perf_counter()
            figure.run()
            seconds = time.perf_counter() - start
        except Exception as problem:  # whatever a peer throws is its failure, not the harness's
            return {"failed": repr(problem)[:300]}
        self.ready[name] = figure
        return {"kind": figure.kind, "error": error, "seconds": seconds, "detail": figure.detail}

    def answer(self, message: tuple[Any, ...]) -> Any:
        match message:
            case ("build", fields, folder):
                return self.build(fields, folder)
            case ("burst", name, seconds):
                return burst(self.ready[name].run, seconds)
            case ("peak", dtype, seconds):
                return self.driver.peak(dtype, seconds)
            case ("free",):
                self.ready = {}
                return None
        raise ValueError(f"unknown message {message!r}")


def serve(peer: str, threads: int, connection: Connection) -> None:
    try:
        module = importlib.import_module(f".{peer}_peer", __package__)
        driver = module.Peer(threads)
    except Exception as error:  # not installed, or installed and broken: both are for the report
        connection.send(("missing", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", driver.version))
    worker = Worker(driver)
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("done", worker.answer(message)))
        except Exception as error:
            connection.send(("failed", repr(error)[:300]))


def main() -> None:
    peer, threads, pipe, cpus = sys.argv[1:5]
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    serve(peer, int(threads), Connection(int(pipe)))
