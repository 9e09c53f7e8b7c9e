"""One plan, one set of bits: for every thread count, every run, every split of the batch and every memory order."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from algorithms import PROBLEMS, accepted, bits, conv, data, plan

import npconv as nc

PAIRS = accepted()
STRICT = [pair for pair in accepted("strict") if pair[0] in ("winograd", "fft")]


def make(algorithm, problem, accuracy="standard", dtype=np.float32, **more):
    x, w, parameters = data(problem, dtype)
    bias = np.linspace(-1, 1, len(w)).astype(dtype)
    arguments = {"bias": bias, "activation": "silu", "algorithm": algorithm, "accuracy": accuracy, **parameters, **more}
    return x, plan(x.shape, w, **arguments), w, arguments


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_runs(algorithm, problem, dtype):
    x, planned, _, _ = make(algorithm, problem, dtype=dtype)
    want = bits(planned(x, num_threads=1))
    for threads in (1, 2, 3, 4, 7):
        for _ in range(2):
            assert bits(planned(x, num_threads=threads)) == want, threads


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_splits_of_the_batch(algorithm, problem):
    x, planned, _, _ = make(algorithm, problem)
    want = planned(x)
    for k in range(1, len(x) + 1):
        for threads in (1, 2, 3):
            assert bits(planned(x[:k], num_threads=threads)) == bits(want[:k]), (k, threads)
    for k in range(len(x)):
        assert bits(planned(x[k:k + 1], num_threads=2)) == bits(want[k:k + 1]), k
    twice = planned(np.concatenate([x, x]), num_threads=4)
    assert bits(twice[:len(x)]) == bits(want) and bits(twice[len(x):]) == bits(want)


@pytest.mark.parametrize(("algorithm", "problem"), STRICT)
def test_the_strict_transforms(algorithm, problem):
    x, planned, _, _ = make(algorithm, problem, "strict")
    want = bits(planned(x, num_threads=1))
    for threads in (2, 3, 4):
        assert bits(planned(x, num_threads=threads)) == want
    assert bits(planned(x[1:2], num_threads=2)) == bits(planned(x)[1:2])


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_memory_orders(algorithm, problem):
    """The memory order of image and output changes loads and stores, never the arithmetic."""
    x, planned, _, _ = make(algorithm, problem)
    want = planned(x)
    last = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)  # channels-last memory under the same labels
    assert bits(planned(last)) == bits(want)
    gaps = np.empty((*x.shape[:-1], x.shape[-1] * 2), x.dtype)[..., ::2]
    gaps[...] = x
    assert bits(planned(gaps)) == bits(want)
    apart = np.repeat(x, 2, axis=1)[:, ::2]  # nchw, but its channels don't follow one another closely
    assert bits(planned(apart)) == bits(want)
    out = np.moveaxis(np.empty((*want.shape[:1], *want.shape[2:], want.shape[1]), want.dtype), -1, 1)
    for image in (x, last, gaps, apart):
        for threads in (1, 3):
            planned(image, out=out, num_threads=threads)
            assert bits(out) == bits(want)


@pytest.mark.parametrize(("algorithm", "problem"), PAIRS)
def test_functional_and_planned(algorithm, problem):
    with nc.set_reproducible(True):  # else the parameters may know that a call has to pack its weights
        x, planned, w, arguments = make(algorithm, problem, num_threads=2)
        assert bits(conv(x, w, **arguments)) == bits(planned(x))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_reproducible_mode_does_not_know_the_threads(problem):
    """The choice itself depends on shape, ISA and accuracy class alone: not on threads, batch size or fresh weights."""
    x, w, parameters = data(problem)
    with nc.set_reproducible(True):
        assert nc.get_reproducible()
        want = conv(x, w, num_threads=1, **parameters)
        for threads in (1, 2, 3, 4):
            assert bits(conv(x, w, num_threads=threads, **parameters)) == bits(want)
            assert bits(plan(x.shape, w, num_threads=threads, **parameters)(x)) == bits(want)
        for k in range(1, len(x)):
            assert bits(conv(x[:k], w, **parameters)) == bits(want[:k])
    assert not nc.get_reproducible()


PROGRAM = """
import hashlib, numpy as np, npconv as nc
assert nc.get_reproducible()
rng = np.random.default_rng(3)
h = hashlib.sha256()
for shape, weight in (((2, 24, 20, 21), (30, 24, 3, 3)), ((1, 1, 90, 80), (1, 1, 19, 19)), ((1, 64, 9, 9), (64, 64, 1, 1))):
    x, w = rng.standard_normal(shape).astype("f4"), rng.standard_normal(weight).astype("f4")
    h.update(nc.conv2d(x, w, padding="same").tobytes())
print(h.hexdigest())
"""


def test_reproducible_mode_across_processes(environment):
    seen = set()
    for threads in ("1", "2", "4"):
        env = environment(NPCONV_REPRODUCIBLE="1", NPCONV_NUM_THREADS=threads)
        seen.add(subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True,
                                timeout=120).stdout)
    assert len(seen) == 1
