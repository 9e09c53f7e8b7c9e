"""Every candidate that the tuner may pick gives the right result: estimates alone would leave most of them untried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matrix
import numpy as np
import pytest

import npconv as nc
from npconv import _npconv, shapes

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


def test_exhaustive_candidates_are_more():
    for layer in shapes.resolve(["resnet50", "mobilenet_v2"]):
        for descriptor in (layer.descriptor, layer.descriptor.replace("_nchw_", "_nhwc_"), layer.descriptor.replace("_const", "_fresh")):
            usual, all_of_them = ({c[:2] for c in _npconv.candidates(descriptor, 2, rigor)} for rigor in ("measure", "exhaustive"))
            assert usual <= all_of_them, descriptor


# Wisdom knows nothing of epilogues: what a tuning with one measured must be among the candidates without. Lists that are cut.
@pytest.mark.parametrize("channels, size, outputs, threads", [(56, 58, 165, 4), (78, 52, 132, 4), (192, 54, 137, 2)])
def test_candidates_are_those_of_the_sum(channels, size, outputs, threads):
    w = np.zeros((outputs, channels, 1, 1), "float32")
    for rigor in ("measure", "exhaustive"):
        bare, fused = (
            {c[:2] for c in _npconv.candidates(nc.plan_conv2d((1, channels, size, size), w, **e).descriptor, threads, rigor)}
            for e in ({}, {"residual": True, "activation": "silu"})
        )
        assert bare == fused
