"""A forked child inherits a thread pool whose threads are gone; its calls must work and not hang."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

HEAD = """
import os, sys, signal, warnings
import numpy as np
import npconv as nc
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns about forking a process that has threads
rng = np.random.default_rng(0)
x = rng.integers(-4, 5, (2, 32, 40, 41)).astype("f4")
w = rng.integers(-3, 4, (32, 32, 3, 3)).astype("f4")

def work(threads=2):
    return nc.conv2d(x, w, padding=1, num_threads=threads, algorithm="im2col")
"""

OS_FORK = HEAD + """
want = work()
for generation in range(3):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        same = all((work(t) == want).all() for t in (1, 2, 3, 4) for _ in range(3))
        os._exit(0 if same else 7)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert (work() == want).all()
print("ok")
"""

FORK_OF_A_FORK = HEAD + """
want = work()
pid = os.fork()
if pid == 0:
    signal.alarm(90)
    assert (work() == want).all()
    inner = os.fork()
    if inner == 0:
        os._exit(0 if (work(4) == want).all() else 7)
    _, status = os.waitpid(inner, 0)
    os._exit(0 if status == 0 and (work() == want).all() else 8)
_, status = os.waitpid(pid, 0)
assert status == 0, status
print("ok")
"""

BEFORE_FIRST_USE = HEAD + """
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    os._exit(0 if work().shape == (2, 32, 40, 41) else 7)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert work().any()
print("ok")
"""

POOL = HEAD + """
import multiprocessing

def job(k):
    return float(work(1 + k % 3).sum())

if __name__ == "__main__":
    want = float(work().sum())
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(job, range(12)) == [want] * 12
    print("ok")
"""

WHILE_OTHERS_COMPUTE = HEAD + """
import threading
want = work()
stop = threading.Event()
def busy():
    while not stop.is_set():
        work()
threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
for t in threads: t.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        inner = nc.conv2d(x, w, algorithm="im2col")  # a new plan: the cache's locks have to be free
        os._exit(0 if (work() == want).all() and (inner == want[:, :, 1:-1, 1:-1]).all() else 7)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
for t in threads: t.join()
print("ok")
"""

PLANS = HEAD + """
plan = nc.plan_conv2d(x.shape, w, padding=1, num_threads=2)
want = plan(x)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    os._exit(0 if plan(x).tobytes() == want.tobytes() else 7)
_, status = os.waitpid(pid, 0)
assert status == 0, status
print("ok")
"""


@pytest.mark.parametrize("program", [OS_FORK, FORK_OF_A_FORK, BEFORE_FIRST_USE, POOL, WHILE_OTHERS_COMPUTE, PLANS],
                         ids=["os_fork", "fork_of_a_fork", "before_first_use", "pool", "while_others_compute", "plans"])
def test_children_compute(program, environment, tmp_path):
    """In a subprocess with a time limit: a hang is a failure and doesn't take the test run with it."""
    file = tmp_path / "program.py"
    file.write_text(program)
    result = subprocess.run([sys.executable, str(file)], env=environment(), capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "ok"
