"""A stand-in for the extension whose candidates take exactly the time that a test says.

Only for the logic of the tuner and of the wisdom file; what the real extension measures is tested with the real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

CONSTANTS = {"fma_f32": 100e9, "l2_bytes": 1048576.0}
FIELDS = "fwd_f32_mb{mb}_g1_ic{ic}ih{ih}iw{ih}_oc{oc}kh{kh}kw{kh}_sh1sw1_pt0pl0pb0pr0_dh1dw1_nchw_zeros_standard_const"


class FakeExtension:
    """`times` maps (algorithm, parameters) to seconds, or to a function of how often it was timed."""

    def __init__(self) -> None:
        self.candidate_list: list[tuple[str, str, float]] = [("im2col", "nc=1", 2.0), ("im2col", "nc=2", 2.5)]
        self.times: dict[tuple[str, str], float | Callable[[int], float]] = {}
        self.errors: dict[tuple[str, str], float] = {}
        self.revisions = {"im2col": 1, "direct": 3, "winograd": 2, "fft": 1}
        self.table: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.runs: list[tuple[str, str, float]] = []
        self.measured_constants = 0
        self.constants = dict(CONSTANTS)
        self.now = 0.0
        self.level = "avx2"
        self.model = 1
        self.tuning = ("estimate", None)
        self.before_run: Callable[[], None] = lambda: None

    # The problem

    def parse_descriptor(self, text: str) -> dict[str, Any]:
        numbers = {name: int(value) for name, value in re.findall(r"(mb|ic|ih|oc|kh)(\d+)", text)}
        if not {"ic", "ih", "oc", "kh"} <= set(numbers):
            raise ValueError(f"not a descriptor: {text!r}")
        ic, ih, oc, kh = (numbers[name] for name in ("ic", "ih", "oc", "kh"))
        mb = numbers.get("mb", 1)
        oh = ih - kh + 1
        if oh < 1:
            raise ValueError("the kernel is larger than the image")
        return {
            "descriptor": FIELDS.format(mb=mb, ic=ic, ih=ih, oc=oc, kh=kh),
            "dtype": "f32",
            "mb": mb,
            "g": 1,
            "ic": ic,
            "oc": oc,
            "input": (1, ih, ih),
            "output": (1, oh, oh),
            "kernel": (1, kh, kh),
            "stride": (1, 1, 1),
            "dilation": (1, 1, 1),
            "flops": 2 * mb * ic * oc * oh * oh * kh * kh,
        }

    def wisdom_key(self, text: str) -> str:
        return str(self.parse_descriptor(text)["descriptor"])

    def candidates(self, descriptor: str, threads: int, rigor: str) -> list[tuple[str, str, float]]:
        assert rigor in ("measure", "exhaustive")
        return list(self.candidate_list)

    def algorithm_revision(self, name: str) -> int:
        if name not in self.revisions:
            raise ValueError(f"unknown algorithm {name!r}")
        return self.revisions[name]

    # Measuring

    def Measurement(self, descriptor: str, threads: int) -> FakeMeasurement:
        return FakeMeasurement(self)

    def peak_flops(self, dtype: str, threads: int, seconds: float) -> float:
        return 1e11

    def measure_machine_constants(self, seconds: float) -> dict[str, float]:
        self.measured_constants += 1
        return {"fma_f32": 120e9, "l2_bytes": 2097152.0}

    def machine_constants(self) -> dict[str, float]:
        return dict(self.constants)

    def set_machine_constants(self, constants: dict[str, float]) -> None:
        self.constants = dict(constants)

    # The machine

    def fingerprint(self) -> dict[str, Any]:
        return {
            "vendor": "fake",
            "model": self.model,
            "brand": "Fake CPU",
            "l1": 32768,
            "isa_features": ["avx2", "fma"],
        }

    def isa(self) -> str:
        return self.level

    def get_num_threads(self) -> int:
        return 2

    def get_tuning(self) -> tuple[str, float | None]:
        return self.tuning

    # The table

    def wisdom_entries(self) -> list[dict[str, Any]]:
        return [dict(entry) for entry in self.table.values()]

    def wisdom_update(self, entries: list[dict[str, Any]]) -> tuple[int, int]:
        accepted = 0
        for entry in entries:
            known = any((entry["algorithm"], entry["parameters"]) == found[:2] for found in self.candidate_list)
            if known and self.revisions.get(entry["algorithm"]) == entry["revision"]:
                accepted += 1
                key = (entry["descriptor"], entry["isa"], entry["threads"])
                before = self.table.get(key)
                if before is None or self._rank(entry) >= self._rank(before):
                    self.table[key] = dict(entry)
        return accepted, len(entries) - accepted

    @staticmethod
    def _rank(entry: dict[str, Any]) -> tuple[bool, float]:
        return (entry["rigor"] == "exhaustive", entry["time"])

    def wisdom_clear(self) -> None:
        self.table.clear()

    def wisdom_forget(self, descriptor: str) -> int:
        gone = [key for key in self.table if key[0] == self.wisdom_key(descriptor)]
        for key in gone:
            del self.table[key]
        return len(gone)


class FakeMeasurement:
    def __init__(self, extension: FakeExtension) -> None:
        self.extension = extension
        self.counts: dict[tuple[str, str], int] = {}

    def run(self, algorithm: str, parameters: str, seconds: float) -> float:
        self.extension.before_run()
        key = (algorithm, parameters)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.extension.runs.append((algorithm, parameters, seconds))
        value = self.extension.times.get(key, 1e-3)
        time = value(self.counts[key]) if callable(value) else value
        self.extension.now += max(seconds, 2 * time)
        return time

    def error(self, algorithm: str, parameters: str) -> tuple[float, float]:
        error = self.extension.errors.get((algorithm, parameters), 0.1)
        return (error, error)
