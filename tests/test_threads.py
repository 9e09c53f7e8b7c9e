"""Thread counts: who decides, and many Python threads at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from algorithms import bits, integers

import npconv as nc

SHOW = "import npconv as nc; print(nc.get_num_threads())"


def child(program, env, **more):
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], env=env, capture_output=True, text=True,
                            timeout=120, **more)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(autouse=True)
def untouched():
    before = nc.get_num_threads()
    yield
    nc.set_num_threads(None)
    assert nc.get_num_threads() == before


def test_block_beats_setting():
    nc.set_num_threads(3)
    assert nc.get_num_threads() == 3
    with nc.threads(2):
        assert nc.get_num_threads() == 2
        with nc.threads(5):
            assert nc.get_num_threads() == 5
        assert nc.get_num_threads() == 2
        nc.set_num_threads(4)
        assert nc.get_num_threads() == 2
    assert nc.get_num_threads() == 4


def test_a_block_ends_with_an_exception():
    before = nc.get_num_threads()
    with pytest.raises(KeyError), nc.threads(before + 1):
        raise KeyError
    assert nc.get_num_threads() == before


def test_a_block_is_its_own_threads():
    """`with nc.threads(n)` holds for the calling Python thread, set_num_threads for all."""
    nc.set_num_threads(3)
    with nc.threads(2), ThreadPoolExecutor(1) as pool:
        assert pool.submit(nc.get_num_threads).result() == 3
        assert nc.get_num_threads() == 2


@pytest.mark.parametrize("value", [1.5, "2", True])
def test_blocks_take_integers(value):
    with pytest.raises(TypeError):
        with nc.threads(value):
            pass


def test_environment(environment):
    cpus = len(os.sched_getaffinity(0))
    assert 1 <= int(child(SHOW, environment(NPCONV_NUM_THREADS=None, OMP_NUM_THREADS=None))) <= cpus
    assert child(SHOW, environment(NPCONV_NUM_THREADS="7", OMP_NUM_THREADS="3")) == "7"
    assert child(SHOW, environment(NPCONV_NUM_THREADS=None, OMP_NUM_THREADS="3")) == "3"
    assert child(SHOW, environment(NPCONV_NUM_THREADS=None, OMP_NUM_THREADS="3,2")) == "3"  # nested levels: the first counts
    assert child("import npconv as nc; nc.set_num_threads(5)\n" + SHOW, environment(NPCONV_NUM_THREADS="7")) == "5"
    assert child("import npconv as nc; nc.set_num_threads(5); nc.set_num_threads(None)\n" + SHOW,
                 environment(NPCONV_NUM_THREADS="7")) == "7"


def test_omp_num_threads_is_a_default_and_no_cap(environment):
    program = ("import numpy as np, npconv as nc\n"
               "x, w = np.ones((1, 32, 40, 40), 'f4'), np.ones((32, 32, 3, 3), 'f4')\n"
               "assert nc.conv2d(x, w, num_threads=3, algorithm='im2col')[0, 0, 0, 0] == 288\n"
               "with nc.threads(4): assert nc.get_num_threads() == 4\n")
    child(program, environment(OMP_NUM_THREADS="1", OMP_THREAD_LIMIT=None))


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5", ""])
def test_a_bad_environment_is_one_warning_at_most(environment, value):
    program = ("import warnings\n"
               "with warnings.catch_warnings(record=True) as seen:\n"
               "    warnings.simplefilter('always')\n"
               "    import numpy as np, npconv as nc\n"
               "    assert nc.conv1d(np.ones((1, 3)), np.ones((1, 1, 2))).tolist() == [[2.0, 2.0]]\n"
               "    nc.get_num_threads(); nc.get_num_threads()\n"
               "print(len(seen), nc.get_num_threads() >= 1)\n")
    count, positive = child(program, environment(NPCONV_NUM_THREADS=value)).splitlines()[-1].split()
    assert int(count) <= 1 and positive == "True"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks")
def test_affinity_is_respected(environment):
    one = str(min(os.sched_getaffinity(0)))
    program = f"import os; os.sched_setaffinity(0, {{{one}}})\n" + SHOW
    assert child(program, environment(NPCONV_NUM_THREADS=None, OMP_NUM_THREADS=None)) == "1"


def test_many_python_threads():
    """Sixteen threads, different problems, all sharing plan cache and workspace pool."""
    problems = ["k3", "k1", "k3_groups", "dw3", "line", "volume"]
    jobs = []
    for problem in problems:
        x, w, parameters = integers(problem)
        jobs.append((x, w, parameters, oracle.conv(x, w, **parameters)))
    barrier = threading.Barrier(16)

    def work(k):
        barrier.wait()
        for i in range(12):
            x, w, parameters, want = jobs[(k + i) % len(jobs)]
            conv = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}[w.ndim - 2]
            got = conv(x, w, algorithm="im2col", num_threads=1 + (k + i) % 4, **parameters)
            if not np.array_equal(got, want):
                return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_python_runs_while_a_call_computes():
    """The GIL is released: another thread gets on while one call that takes long is under way."""
    x, w = np.ones((1, 64, 300, 300), np.float32), np.ones((64, 64, 3, 3), np.float32)
    done = threading.Event()
    steps_during = []

    def work():
        try:
            for _ in range(3):
                nc.conv2d(x, w, padding=1, num_threads=1, algorithm="im2col")
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        steps_during.append(sum(range(1000)))
    thread.join()
    assert len(steps_during) > 50  # with the GIL held it would be one or two steps a call


def test_calls_at_once_give_the_bits_of_a_single_call():
    x, w, parameters = integers("k3_wide")
    x = x + np.float32(0.1)
    want = bits(nc.conv2d(x, w, num_threads=4, **parameters))
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(nc.conv2d, x, w, num_threads=4, **parameters) for _ in range(24)]:
            assert bits(future.result()) == want
