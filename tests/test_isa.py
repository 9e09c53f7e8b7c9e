"""ISA levels: what is there, lowering by NPCONV_ISA, refusing more than the CPU has, and a CPU without AVX."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npconv as nc
from npconv import _npconv

LEVELS = _npconv.all_isa_levels()
AVAILABLE = _npconv.isa_levels()

PROGRAM = """
import sys
import numpy as np
import npconv as nc
rng = np.random.default_rng(0)
x = rng.integers(-4, 5, (1, 5, 9, 11))
w = rng.integers(-3, 4, (7, 5, 3, 3))
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
want = sum(np.einsum("nchw,oc->nohw", padded[:, :, i:i + 9, j:j + 11], w[:, :, i, j]) for i in range(3) for j in range(3))
for dtype in ("f4", "f8"):
    got = nc.conv2d(x.astype(dtype), w.astype(dtype), padding=1, algorithm="im2col", activation="relu")
    assert (got == np.maximum(want, 0)).all()
    for algorithm in ("direct", "winograd", "auto"):
        got = nc.conv2d(x.astype("f4"), w.astype("f4"), padding=1, algorithm=algorithm)
        assert abs(got - want).max() < 1e-2, algorithm
x, w = np.ones((1, 6, 30, 30), "f4"), np.ones((6, 1, 11, 11), "f4")
for algorithm in ("depthwise", "fft"):
    assert abs(nc.conv2d(x, w, groups=6, algorithm=algorithm, activation="gelu") - 121).max() < 1e-2, algorithm
assert nc.plan_conv2d(x.shape, w, groups=6).isa == nc.isa()
print(nc.isa())
"""


def run(env, program=PROGRAM, command=()):
    return subprocess.run([*command, sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=600)


def test_levels():
    assert LEVELS[0] == "scalar" and AVAILABLE[0] == "scalar"
    assert [level for level in LEVELS if level in AVAILABLE] == AVAILABLE
    assert nc.isa() == AVAILABLE[-1]  # conftest removes NPCONV_ISA


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_detection_agrees_with_the_kernel():
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    needs = {"scalar": set(), "avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
    assert AVAILABLE == [level for level in LEVELS if needs[level] <= flags]


@pytest.mark.parametrize("level", LEVELS)
def test_lowering(environment, level):
    if level not in AVAILABLE:
        pytest.skip(f"this CPU lacks {level}")
    result = run(environment(NPCONV_ISA=level))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == level


@pytest.mark.parametrize("level", ["neon", "AVX-1024", "sse", "avx512 "])
def test_an_unknown_level_raises(environment, level):
    """At import or at first use; never a silent fallback."""
    result = run(environment(NPCONV_ISA=level))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert re.match(r"(ImportError|ValueError|RuntimeError): ", last), last
    assert "NPCONV_ISA" in last and level.strip() in last and "scalar" in last


def test_more_than_the_cpu_has_raises(environment):
    """Seen from an emulated CPU that lacks AVX."""
    result = run(emulated(environment, NPCONV_ISA="avx2"), command=emulator())
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "NPCONV_ISA" in last and "avx2" in last, last


def emulator():
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if not qemu:
        pytest.skip("qemu-x86_64 is missing")
    return [qemu, "-cpu", "Nehalem"]


def emulated(environment, **variables):
    # NumPy's own kernels dispatch in the same way; one thread, because emulated threads are slow
    return environment(NPCONV_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1", **variables)


def test_a_cpu_without_avx_computes(environment):
    probe = run(emulated(environment), "import numpy; numpy.ones(3).sum()", emulator())
    if probe.returncode:
        pytest.skip(f"NumPy itself doesn't run there: {probe.stderr.strip().splitlines()[-1:]}")
    result = run(emulated(environment), command=emulator())
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "scalar"


def test_levels_agree(environment):
    """Integers: the same bits on every level."""
    program = ("import hashlib, numpy as np, npconv as nc\nrng = np.random.default_rng(1)\nh = hashlib.sha256()\n"
               "for k, g in ((3, 1), (5, 2), (1, 1), (3, 8)):\n"
               "    x = rng.integers(-4, 5, (2, 8, 17, 19)).astype('f4')\n"
               "    w = rng.integers(-3, 4, (24, 8 // g, k, k)).astype('f4')\n"
               "    for a in ('im2col', 'direct'):\n"
               "        h.update(nc.conv2d(x, w, groups=g, padding='same', algorithm=a).tobytes())\nprint(h.hexdigest())\n")
    seen = {level: run(environment(NPCONV_ISA=level), program) for level in AVAILABLE}
    assert all(r.returncode == 0 for r in seen.values()), [r.stderr for r in seen.values()]
    assert len({r.stdout for r in seen.values()}) == 1


def test_show_runtime_names_the_level(capsys):
    nc.show_runtime()
    text = capsys.readouterr().out
    assert nc.isa() in text and np.__version__ is not None


def test_constants_until_the_machine_is_measured():
    done = subprocess.run(
        [sys.executable, "-c", "from npconv import _npconv as n; print(*n.machine_constants().items(), sep='\\n')"],
        capture_output=True, text=True, check=True, env={**os.environ, "NPCONV_WISDOM": "0"},
    )  # fmt: skip
    found = dict(ast.literal_eval(line) for line in done.stdout.splitlines())
    assert found["l2_bandwidth"] >= found["l3_bandwidth"] >= found["dram_bandwidth"]
    assert found["dram_total"] >= found["dram_bandwidth"]
    assert found["fma_f32"] == 2 * found["fma_f64"]


def test_copies_faster_than_any_stream_beside_arithmetic_do_not_count():
    code = """
from npconv import _npconv as n
n.set_machine_constants(dict(n.machine_constants(), l2_bandwidth=256e9, l3_bandwidth=127e9, dram_bandwidth=44e9, dram_total=5e10))
print(*n.machine_constants().items(), sep='\\n')
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "NPCONV_WISDOM": "0"}
    )
    found = dict(ast.literal_eval(line) for line in done.stdout.splitlines())
    assert found["l2_bandwidth"] == 100e9
    assert found["l3_bandwidth"] == found["dram_bandwidth"] == 40e9
    assert found["dram_total"] == 5e10
