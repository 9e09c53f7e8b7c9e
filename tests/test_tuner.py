"""The tuner: how it decides (with exact, made-up times), and that what it finds is used (with the real extension)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_extension import FakeExtension
from npconv import shapes, tuner, wisdom

PROBLEM = "ic8ih10oc8kh3"
A, B, C = ("im2col", "nc=1"), ("direct", "rows=2"), ("winograd", "tile=4")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeExtension:
    extension = FakeExtension()
    for module in (tuner, wisdom, shapes):
        monkeypatch.setattr(module, "_npconv", extension)
    monkeypatch.setattr(wisdom, "_state", wisdom._State())
    monkeypatch.setattr(
        tuner, "time", SimpleNamespace(monotonic=lambda: extension.now, time=lambda: 1000 + extension.now)
    )
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NPCONV_WISDOM", raising=False)
    extension.candidate_list = [(*A, 1e-3), (*B, 1.1e-3), (*C, 1.2e-3)]
    return extension


def on_disk(extension: FakeExtension) -> list[dict[str, Any]]:
    """The entries that the next process would read."""
    file = wisdom.path()
    if file is None or not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if '"descriptor"' in line]


def test_fastest_is_used_and_written(fake: FakeExtension) -> None:
    fake.times = {A: 1e-3, B: 0.5e-3, C: 0.7e-3}
    row = tuner.tune(PROBLEM).rows[0]
    assert (row.status, row.algorithm, row.parameters, row.seconds) == ("tuned", *B, 0.5e-3)
    assert row.estimate_seconds == row.im2col_seconds == 1e-3
    assert row.speedup == row.gain == pytest.approx(2.0)
    flops = fake.parse_descriptor(PROBLEM)["flops"]
    assert row.gflops == pytest.approx(flops / 0.5e-3 / 1e9)
    assert row.peak_percent == pytest.approx(100 * flops / 0.5e-3 / 1e11)
    (entry,) = on_disk(fake)
    assert entry == fake.wisdom_entries()[0]
    expected = {"algorithm": "direct", "parameters": "rows=2", "isa": "avx2", "threads": 2, "revision": 3}
    assert entry.items() >= {**expected, "rigor": "measure", "seconds": 0.5e-3}.items()


@pytest.mark.parametrize(("share", "winner"), [(0.96, "im2col"), (0.94, "direct")])
def test_estimate_stays_unless_five_percent_are_gained(fake: FakeExtension, share: float, winner: str) -> None:
    fake.times = {A: 1e-3, B: share * 1e-3, C: 2e-3}
    assert tuner.tune(PROBLEM).rows[0].algorithm == winner


def test_one_good_round_is_not_enough(fake: FakeExtension) -> None:
    # Timed twice in the turns, then three times in each final round: fast in all but the last round.
    fake.times = {A: 1e-3, B: lambda count: 0.5e-3 if count <= 5 else 0.97e-3, C: 2e-3}
    row = tuner.tune(PROBLEM).rows[0]
    assert row.algorithm == "im2col"
    fake.times[B] = lambda count: 0.5e-3 if count <= 5 else 0.9e-3
    assert tuner.tune(PROBLEM, again=True).rows[0].algorithm == "direct"


def test_wrong_result_never_wins(fake: FakeExtension) -> None:
    fake.times, fake.errors = {A: 1e-3, B: 0.1e-3, C: 0.5e-3}, {B: 1.5}
    row = tuner.tune(PROBLEM).rows[0]
    assert row.algorithm == "winograd"
    assert "direct(rows=2): error 1.5 times" in row.rejected[0]
    fake.errors = {B: float("nan"), C: float("inf")}
    assert tuner.tune(PROBLEM, again=True).rows[0].algorithm == "im2col"
    fake.errors = {A: 2.0, B: 2.0}
    assert tuner.tune(PROBLEM, again=True).rows[0].algorithm == "winograd"


def test_nothing_right_is_a_failure_and_not_remembered(fake: FakeExtension) -> None:
    fake.errors = {A: 2.0, B: 2.0, C: 2.0}
    row = tuner.tune(PROBLEM).rows[0]
    assert row.status == "failed"
    assert len(row.rejected) == 0
    assert "error 2 times" in row.message
    assert fake.table == {}
    assert on_disk(fake) == []


def test_losers_leave_early_and_others_take_turns(fake: FakeExtension) -> None:
    fake.candidate_list = [(*A, 1e-3), (*B, 1e-3), (*C, 5e-3)]
    fake.times = {A: 1e-3, B: 0.9e-3, C: 5e-3}
    tuner.tune(PROBLEM)
    timed = [run[:2] for run in fake.runs]
    assert timed.count(C) == 1
    assert timed[:5] == [A, B, C, B, A]
    assert timed.count(A) == timed.count(B) == 8
    final = timed[5:]
    assert all({final[at], final[at + 1]} == {A, B} for at in range(0, len(final), 2))
    assert all(0 < seconds <= 0.2 for _, _, seconds in fake.runs)


def test_disturbed_turns_are_repeated(fake: FakeExtension) -> None:
    # The first turn is, which the cost model finds unlikely, and the first two of the final.
    disturbed = {1, 4, 5}
    fake.times = {A: 1e-3, B: lambda count: 5e-3 if count in disturbed else 0.9e-3, C: 1e-2}
    row = tuner.tune(PROBLEM).rows[0]
    assert (row.algorithm, row.seconds) == ("direct", 0.9e-3)
    assert row.noise == 1.0
    fake.runs.clear()
    fake.times[B] = lambda count: 0.9e-3 * 1.1**count
    tuner.tune(PROBLEM, again=True)
    assert [run[:2] for run in fake.runs].count(B) == 2 + 2 * 9


def test_hopeless_estimates_are_not_timed_but_im2col_always_is(fake: FakeExtension) -> None:
    fake.candidate_list = [(*B, 1e-3), (*C, 7e-3), (*A, 8e-3)]
    fake.times = {A: 1e-3, B: 1e-3, C: 1e-3}
    assert tuner.tune(PROBLEM).rows[0].im2col_seconds == 1e-3
    assert C not in [run[:2] for run in fake.runs]
    tuner.tune(PROBLEM, mode="exhaustive")
    assert C in [run[:2] for run in fake.runs]


def test_many_slow_candidates_do_not_take_for_ever(fake: FakeExtension) -> None:
    fake.candidate_list = [("im2col", f"nc={n}", 0.3 + 0.001 * n) for n in range(60)]
    fake.times = {("im2col", f"nc={n}"): 0.3 for n in range(60)}
    tuner.tune(PROBLEM)
    assert len({run[:2] for run in fake.runs}) <= 5
    assert fake.now < 30.0


def test_time_limit_keeps_what_is_done(fake: FakeExtension) -> None:
    fake.times = {A: 1.0, B: 0.2, C: 1.0}
    problems = [f"ic8ih{n}oc8kh3" for n in range(10, 20)]
    report = tuner.tune(problems, time_limit=20.0)
    assert fake.now < 25.0
    status = [row.status for row in report.rows]
    assert status == sorted(status, reverse=True)
    assert {"tuned", "out of time"} == set(status)
    assert len(on_disk(fake)) == len(fake.table) == status.count("tuned")
    assert tuner.tune(problems[-1:], time_limit=1e-3).rows[0].status == "out of time"


def test_interrupt_keeps_what_is_done(fake: FakeExtension) -> None:
    done: list[tuner.TuneRow] = []

    def before_run() -> None:
        if len(done) == 2:
            raise KeyboardInterrupt

    def progress(step: tuner.Progress) -> None:
        if step.row is not None:
            done.append(step.row)

    fake.before_run = before_run
    problems = [f"ic8ih{n}oc8kh3" for n in range(10, 20)]
    with pytest.raises(KeyboardInterrupt):
        tuner.tune(problems, progress=progress)
    assert len(done) == len(on_disk(fake)) == len(fake.table) == 2
    fake.before_run = lambda: None
    status = [row.status for row in tuner.tune(problems).rows]
    assert status == ["known"] * 2 + ["tuned"] * 8


def test_what_is_known_is_not_measured_again(fake: FakeExtension) -> None:
    fake.times = {A: 1e-3, B: 0.5e-3, C: 0.7e-3}
    tuner.tune(PROBLEM)
    before = on_disk(fake)
    fake.times[B] = 3e-3
    row = tuner.tune(PROBLEM).rows[0]
    assert (row.status, row.algorithm, row.seconds) == ("known", "direct", 3e-3)
    assert row.speedup == pytest.approx(1 / 3)
    assert on_disk(fake) == before


def test_more_rigor_measures_again_and_less_does_not(fake: FakeExtension) -> None:
    assert tuner.tune(PROBLEM).rows[0].status == "tuned"
    assert tuner.tune(PROBLEM, mode="exhaustive").rows[0].status == "tuned"
    assert tuner.tune(PROBLEM).rows[0].status == "known"
    assert [entry["rigor"] for entry in on_disk(fake)] == ["exhaustive"]
    assert tuner.tune(PROBLEM, num_threads=1).rows[0].status == "tuned"
    fake.level = "avx512"
    assert tuner.tune(PROBLEM).rows[0].status == "tuned"
    assert len(on_disk(fake)) == 3


def test_an_earlier_winner_is_in_the_final(fake: FakeExtension) -> None:
    fake.times = {A: 1e-3, B: 1e-4, C: 2e-3}
    tuner.tune(PROBLEM)
    fake.candidate_list = [(*A, 1e-3), (*C, 1.2e-3), (*B, 1.0)]
    fake.times[B] = lambda count: 4e-3 if count <= 2 else 1e-4
    assert tuner.tune(PROBLEM, mode="exhaustive").rows[0].algorithm == "direct"


def test_batch_and_threads(fake: FakeExtension) -> None:
    report = tuner.tune([PROBLEM, PROBLEM], batch=16, num_threads=[1, 2, 1])
    assert [(row.threads, row.count) for row in report.rows] == [(1, 2), (2, 2)]
    assert all("_mb16_" in row.descriptor for row in report.rows)
    assert {(entry["threads"], "_mb16_" in entry["descriptor"]) for entry in on_disk(fake)} == {(1, True), (2, True)}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mode": "estimate"}, "mode must be"),
        ({"time_limit": 0}, "time_limit must be positive"),
        ({"time_limit": float("nan")}, "time_limit must be positive"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
        ({"num_threads": [1, True]}, "num_threads must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_wrong_arguments(fake: FakeExtension, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tuner.tune(PROBLEM, **arguments)
    assert fake.runs == []


def test_a_problem_that_fails_does_not_stop_the_others(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = fake.Measurement

    def measurement(descriptor: str, threads: int) -> Any:
        if "ih11" in descriptor:
            raise MemoryError("no room")
        return measure(descriptor, threads)

    monkeypatch.setattr(fake, "Measurement", measurement)
    report = tuner.tune(["ic8ih10oc8kh3", "ic8ih11oc8kh3", "ic8ih12oc8kh3"])
    assert [row.status for row in report.rows] == ["tuned", "failed", "tuned"]
    assert report.rows[1].message == "MemoryError: no room"


def test_machine_constants_are_measured_once(fake: FakeExtension) -> None:
    tuner.tune(PROBLEM)
    tuner.tune(PROBLEM)
    assert fake.measured_constants == 1
    assert fake.constants["fma_f32"] == 120e9
    tuner.tune(PROBLEM, again=True)
    assert fake.measured_constants == 2


def test_report(fake: FakeExtension) -> None:
    fake.times = {A: 1e-3, B: 0.5e-3, C: 0.7e-3}
    report = tuner.tune([PROBLEM] * 3)
    assert report.saved
    assert report.wisdom_path == str(wisdom.path())
    assert report.saved_seconds == pytest.approx(3 * 0.5e-3)
    assert report.payback_passes == pytest.approx(report.rows[0].tuning_seconds / 1.5e-3)
    assert json.loads(json.dumps(report.as_dict()))["rows"][0]["algorithm"] == "direct"
    assert "direct(rows=2) 0.500 ms, 2.00x im2col" in str(report)


def test_percentages_are_of_the_best_peak_of_the_run(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([50e9, 100e9, 80e9])
    monkeypatch.setattr(fake, "peak_flops", lambda dtype, threads, seconds: next(peaks))
    report = tuner.tune([f"ic8ih{n}oc8kh3" for n in (10, 11, 12)])
    assert report.peak_flops == {"f32, 2 threads": 100e9}
    for row in report.rows:
        assert row.gflops is not None
        assert row.peak_percent == pytest.approx(row.gflops)


def test_lazy_tuning_remembers(fake: FakeExtension) -> None:
    fake.times = {A: 1e-3, B: 0.5e-3, C: 0.7e-3}
    tuner.tune_missing(PROBLEM, 2, "measure")
    assert [entry["algorithm"] for entry in on_disk(fake)] == ["direct"]
    runs = len(fake.runs)
    tuner.tune_missing(PROBLEM, 2, "measure")
    assert len(fake.runs) == runs
    tuner.tune_missing(PROBLEM, 2, "exhaustive")
    assert len(fake.runs) > runs
    fake.tuning = ("measure", 1e-4)
    tuner.tune_missing("ic8ih99oc8kh3", 2, "measure")
    assert len(on_disk(fake)) == 1


# Shape lists


def test_every_built_in_list_is_readable() -> None:
    assert {"resnet18", "resnet50", "vgg16", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "unet"} <= set(
        shapes.networks()
    )
    for network in shapes.networks():
        layers = shapes.load(network)
        assert layers
        assert len({layer.descriptor for layer in layers}) == len(layers)
    assert sum(layer.count for layer in shapes.load("resnet50")) == 53
    assert sum(layer.count for layer in shapes.load("vgg16")) == 13


def test_files_and_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# a comment\n\nic3ih8oc4kh3pt1  # first x2\nic3ih8oc4kh3pt1\nic4ih8oc4kh1 # last\n")
    assert [(layer.name, layer.count) for layer in shapes.resolve(file)] == [("first", 3), ("last", 1)]
    file.write_text("ic3ih8oc4kh3pt1\nnonsense\n")
    with pytest.raises(ValueError, match=r"mine\.txt, line 2"):
        shapes.resolve([str(file)])
    with pytest.raises(ValueError, match="did you mean resnet50"):
        shapes.resolve("resnet5")
    with pytest.raises(FileNotFoundError):
        shapes.resolve(tmp_path / "none.txt")
    with pytest.raises(TypeError, match="got int"):
        shapes.resolve([1])  # type: ignore[list-item]


# With the real extension, one process after the other


def run_python(code: str, cache: Path, **environment: str) -> str:
    """Run code in a process of its own, with warnings as errors, and return what it prints."""
    env = {**os.environ, "NPCONV_CACHE_DIR": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EXPLAIN = """
import npconv as nc, json, numpy as np
nc.conv2d(np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32), padding=1, num_threads=1)
rows = nc._npconv.explain("ic16ih20oc16kh3pt1", 1)
print(json.dumps([row for row in rows if row["picked"]]))
"""


def test_next_process_uses_what_was_tuned(tmp_path: Path) -> None:
    before = json.loads(run_python(EXPLAIN, tmp_path))
    assert [row["source"] for row in before] == ["estimate"]
    tune = """
import npconv as nc
row = nc.tune("ic16ih20oc16kh3pt1", num_threads=1).rows[0]
print(row.algorithm, row.parameters)
"""
    algorithm, parameters = run_python(tune, tmp_path).strip().split(" ", 1)
    (picked,) = json.loads(run_python(EXPLAIN, tmp_path))
    assert (picked["source"], picked["algorithm"], picked["parameters"]) == ("wisdom", algorithm, parameters)
    assert picked["measured"] > 0
    (picked,) = json.loads(run_python(EXPLAIN, tmp_path, NPCONV_WISDOM="0"))
    assert picked["source"] == "estimate"


def test_tuning_takes_effect_at_once_and_can_be_forgotten(tmp_path: Path) -> None:
    code = """
import npconv as nc, numpy as np
d = "ic16ih20oc16kh3pt1"
source = lambda: next(row["source"] for row in nc._npconv.explain(d, 1) if row["picked"])
before = source()
nc.tune(d, num_threads=1)
tuned = source()
print(before, tuned, nc.wisdom.forget(d), source())
"""
    assert run_python(code, tmp_path).split() == ["estimate", "wisdom", "1", "estimate"]


def test_measure_mode_tunes_at_the_first_call(tmp_path: Path) -> None:
    code = """
import npconv as nc, numpy as np
x, w = np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32)
with nc.tuning("measure", time_limit=5.0):
    y = nc.conv2d(x, w, num_threads=1)
print(len(nc.wisdom.entries()), float(y[0, 0, 5, 5]))
"""
    assert run_python(code, tmp_path).split() == ["1", "144.0"]
    assert run_python("import npconv as nc; print(len(nc.wisdom.entries()))", tmp_path).split() == ["1"]


def test_threads_that_meet_the_same_new_problem_measure_it_once(tmp_path: Path) -> None:
    code = """
import threading
import numpy as np
import npconv as nc
from npconv import tuner
x, w = np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32)
races, race, results = [], tuner._race, []
tuner._race = lambda *arguments: races.append(1) or race(*arguments)
def work():
    results.append(float(nc.conv2d(x, w, num_threads=1)[0, 0, 5, 5]))
with nc.tuning("measure", time_limit=5.0):
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(len(races), len(nc.wisdom.entries()), [round(result, 3) for result in results])
"""
    assert run_python(code, tmp_path).strip() == "1 1 [144.0, 144.0, 144.0, 144.0]"


def test_child_of_a_process_that_measures_can_measure(tmp_path: Path) -> None:
    code = """
import os, warnings
from npconv import tuner, wisdom
warnings.simplefilter("ignore")  # Python's own, about forking with threads
tuner._measuring.acquire()
wisdom._state.guard.acquire()
child = os.fork()
if child == 0:
    row = tuner.tune("ic8ih12oc8kh3pt1", num_threads=1).rows[0]
    os._exit(0 if row.status == "tuned" else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(code, tmp_path).strip() == "0"
