"""Every candidate that the tuner may pick gives the right result: estimates alone would leave most of them untried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matrix
import pytest

from npconv import _npconv

PROGRAM = Path(__file__).with_name("candidate_worker.py")


@pytest.mark.parametrize("isa", matrix.ISAS)
@pytest.mark.parametrize("rigor", ["measure", pytest.param("exhaustive", marks=pytest.mark.full)])
def test_every_candidate(rigor, isa, environment):
    if isa not in _npconv.isa_levels():
        pytest.skip(f"this CPU lacks {isa}")
    command, settings = [sys.executable, str(PROGRAM), rigor], environment(NPCONV_ISA=isa, NPCONV_WISDOM="0")
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=900)
    if done.returncode < 0:  # killed, as a load outside an array would: which candidate was it?
        done = subprocess.run([*command, "trace"], env=settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-1000:]}"
    answer = json.loads(done.stdout)
    assert answer["failures"] == 0, "\n".join(answer["failed"])
    assert set(answer["ran"]) == set(matrix.ALGORITHMS) - {"reference"}
    assert min(answer["ran"].values()) > 50
