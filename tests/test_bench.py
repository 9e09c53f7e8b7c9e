"""The harness: rows, reasons, comparison, worker processes, scripts. No test depends on how fast anything is."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npconv import _npconv, bench
from npconv.bench.peers import PEERS
from npconv.bench.peers.problem import Problem
from npconv.bench.peers.worker import burst
from npconv.bench.reference import convolve
from npconv.bench.report import missing_lines, short, table
from npconv.bench.workers import Unavailable, WorkerProcess

SCRIPTS = Path(__file__).parents[1] / "bench"
TINY = "ic8ih9oc8kh3pt1"
LAYERS = [
    TINY,
    "mb2_g4_ic8ih9iw7_oc12kh3_sh2_pt1",
    "g8_ic8ih9_oc8kh5_pt2",
    "ic8ih1iw50_oc6kh1kw3_pt0pl4pb0pr0_dh1dw2",
    "ic4id5ih6iw7_oc6kd3kh3kw3_pf1pt1pl1pe1pb1pr1",
    "ic8ih9_oc8kh3_pt1_reflect",
    "ic8ih9_oc8kh3_pt1_nhwc",
    "ic3ih1_oc4kh1",
]


@pytest.fixture(scope="module")
def rows() -> list[bench.Row]:
    return bench.run(LAYERS, threads=(1,), seconds=0.01) + bench.run(LAYERS[:2], threads=(2,), seconds=0.01)


def test_three_correct_figures_a_layer(rows):
    assert len(rows) == 3 * (len(LAYERS) + 2)
    for row in rows:
        assert row["peer"] == "npconv"
        assert row["error"] < 1e-5
        assert 0 < row["burst"] <= row["seconds"]
        assert 5 <= row["rounds"] <= 50
        assert 0 < row["percent_of_peak"] == pytest.approx(100e9 * row["gflops"] / row["peak"])
        assert ("handover" in row) == (row["threads"] > 1 and len(os.sched_getaffinity(0)) > 1)
    kinds = {row["figure"]: row["kind"] for row in rows}
    assert kinds == {"functional": "functional", "planned": "planned", "planned out=": "steady"}


def test_rows_survive_a_file(rows, tmp_path):
    bench.save(tmp_path / "rows.json", rows)
    assert bench.load(tmp_path / "rows.json") == rows
    (tmp_path / "plain.json").write_text(json.dumps(rows))
    assert bench.load(tmp_path / "plain.json") == rows


def test_progress_sees_every_layer_and_thread_count():
    seen = []
    rows = bench.run([TINY, LAYERS[1]], threads=(1,), seconds=0.01, progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(1, 2), (2, 2)]
    assert [row for step in seen for row in step[2]] == rows


def test_missing_peer_is_reported_not_silent():
    rows = bench.run(
        [TINY], ["torch", "ncnn"], threads=(1,), seconds=0.01, python={"torch": "/nowhere/python", "ncnn": "/bin/false"}
    )
    skipped = {row["peer"]: row["skipped"] for row in rows if "skipped" in row}
    assert "No such file" in skipped["torch"]
    assert "exit code 1" in skipped["ncnn"]
    text = bench.render(rows)
    assert "torch: skipped on every layer: /nowhere/python" in text
    assert sum("seconds" in row for row in rows) == 3


@pytest.mark.parametrize(
    "bad, message", [({"peers": ["mkl"]}, "unknown peer 'mkl'"), ({"descriptors": ["ic8"]}, "ic8")]
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        bench.run(**{"descriptors": [TINY], "threads": (1,), **bad})


def test_only_forward_problems():
    parsed = dict(_npconv.parse_descriptor(TINY), direction="bwd_input")
    with pytest.raises(ValueError, match="only forward"):
        Problem.of(parsed)


@pytest.mark.parametrize("peer", sorted(set(PEERS) - {"npconv"}))
def test_peer_agrees_with_the_reference(peer):
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed")
    rows = bench.run(LAYERS, [peer], threads=(1,), seconds=0.01)
    timed = [row for row in rows if row["peer"] == peer and "seconds" in row]
    assert timed
    assert not [row for row in rows if "failed" in row]
    assert max(row["error"] for row in timed) < 1e-5


@pytest.mark.parametrize("text", LAYERS)
def test_reference_is_the_definition(text):
    problem = Problem.of(_npconv.parse_descriptor(text))
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(shape) for shape in (problem.x_shape, problem.weight_shape))
    b = generator.standard_normal(problem.oc)
    y = convolve(problem, x, w, b)
    mode = "constant" if problem.zero_padding else "reflect"
    pads = zip(problem.axes(problem.pad_begin), problem.axes(problem.pad_end), strict=True)
    padded = np.pad(x, [(0, 0), (0, 0), *pads], mode=mode)
    stride, dilation = problem.axes(problem.stride), problem.axes(problem.dilation)
    icg, ocg = problem.ic // problem.g, problem.oc // problem.g
    for index in generator.integers(0, y.shape, (40, y.ndim)):
        n, o, *at = (int(i) for i in index)
        window = tuple(
            slice(i * s, i * s + d * (k - 1) + 1, d)
            for i, s, d, k in zip(at, stride, dilation, w.shape[2:], strict=True)
        )
        channels = slice(o // ocg * icg, (o // ocg + 1) * icg)
        assert y[(n, o, *at)] == pytest.approx(np.sum(padded[(n, channels, *window)] * w[o]) + b[o])


def test_a_killed_worker_is_replaced(tmp_path):
    worker = WorkerProcess("npconv", 1, tmp_path)
    try:
        worker.start()
        assert worker.version.startswith("npconv ")
        assert worker.ask("peak", "f32", 0.01) > 0
        assert worker.wait_quiet() < 0.3
        assert worker.cpu_seconds() >= 0
        with pytest.raises(RuntimeError, match="unknown message"):
            worker.ask("nonsense")
        process = worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="died"):
            worker.ask("peak", "f32", 0.01)
        assert worker.ask("peak", "f32", 0.01) > 0
    finally:
        worker.stop()


def test_binding_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    from npconv.bench import workers

    assert "OMP_PROC_BIND" not in workers._environment("torch", 1)
    assert workers._environment("torch", 2)["OMP_PROC_BIND"] == "true"
    assert workers._environment("torch", 2)["OMP_NUM_THREADS"] == "2"
    assert len(workers._all_cpus().split(",")) == os.cpu_count()


def test_burst_counts_calls():
    calls = []
    seconds, counted = burst(lambda: calls.append(1), 0.001)
    assert 0 < seconds < 0.001
    assert len(calls) > counted >= 1


def test_comparison_needs_median_and_burst(rows):
    def scaled(median: float, fastest: float, peak: float) -> list[bench.Row]:
        after = copy.deepcopy(rows)
        for row in after:
            row["seconds"] *= median
            row["burst"] *= fastest
            row["peak"] *= peak
        return after

    assert not any(line["regression"] for line in bench.compare(rows, rows))
    assert not any(line["regression"] for line in bench.compare(rows, scaled(1.5, 1.0, 1.0)))
    assert all(line["regression"] for line in bench.compare(rows, scaled(1.5, 1.2, 1.0)))
    assert not any(line["regression"] for line in bench.compare(rows, scaled(1.5, 1.5, 1 / 1.5)))


def test_compare_script(rows, tmp_path):
    slow = copy.deepcopy(rows)
    slow[0]["seconds"] *= 3
    slow[0]["burst"] *= 3
    bench.save(tmp_path / "a.json", rows)
    bench.save(tmp_path / "b.json", slow)

    def script(*files: str) -> subprocess.CompletedProcess[str]:
        paths = [str(tmp_path / name) for name in files]
        return subprocess.run(
            [sys.executable, str(SCRIPTS / "compare.py"), *paths], capture_output=True, text=True, check=False
        )

    assert script("a.json", "a.json").returncode == 0
    worse = script("a.json", "b.json")
    assert worse.returncode == 1, worse.stderr
    assert f"1 of {len(rows)} figures regressed" in worse.stdout
    assert short(rows[0]["descriptor"]) in worse.stdout


def test_ratios_compare_like_with_like():
    from npconv.bench.runner import _ratios

    def row(peer: str, figure: str, kind: str, seconds: float) -> bench.Row:
        return {
            "descriptor": TINY,
            "threads": 1,
            "peer": peer,
            "figure": figure,
            "kind": kind,
            "seconds": seconds,
            "burst": seconds,
        }

    rows = [row("npconv", "functional", "functional", 2.0), row("npconv", "planned out=", "steady", 1.0)]
    rows.append(row("npconv", "planned", "planned", 1.2))
    rows += [row("torch", "functional", "functional", 4.0), row("torch", "steady", "steady", 1.5)]
    _ratios(rows)
    assert (rows[0]["best_peer"], rows[0]["ratio"]) == ("torch functional", 2.0)
    assert (rows[1]["best_peer"], rows[1]["ratio"]) == ("torch steady", 1.5)
    (line,) = bench.summary(rows)
    assert line["ratio steady"] == 1.5
    assert line["torch functional"] == 4.0
    rows[0]["percent_of_peak"] = rows[1]["percent_of_peak"] = 80.0
    (group,) = bench.by_kind(rows)
    assert (group["kind"], group["layers"], group["peer"]) == ("3x3, few channels", 1, "torch")
    assert group["functional"] == (2.0, 2.0)
    assert group["planned out="] == (1.5, 1.5)


def test_tables():
    assert table(["a", "b"], [["x", "1"], ["yy", "22"]]).splitlines() == [
        "| a  |  b |",
        "|----|---:|",
        "| x  |  1 |",
        "| yy | 22 |",
    ]
    reasons = [{"descriptor": d, "threads": 1, "peer": "ncnn", "figure": "", "skipped": "no batches"} for d in "ab"]
    assert missing_lines(reasons) == ["ncnn: skipped on 2 layers: no batches"]
    assert short(_npconv.parse_descriptor(LAYERS[3])["descriptor"]) == "ic8ih1iw50oc6kh1kw3dh1dw2pt0pl4pb0pr0"


@pytest.mark.parametrize(
    "command, expected",
    [
        (["run.py", TINY, "--threads", "1", "--seconds", "0.01"], "FMA peak"),
        (["regret.py", TINY, "--threads", "1", "--rounds", "2", "--seconds", "0.001"], "median regret"),
        (["accuracy.py", TINY, "--candidates"], "error / (c S)"),
        (["memory.py", "--shapes", "40"], "bytes a shape"),
    ],
)
def test_scripts_run(command, expected):
    script = [sys.executable, str(SCRIPTS / command[0]), *command[1:]]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert expected in result.stdout
