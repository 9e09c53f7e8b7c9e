"""What all tests share: the `full` marker, scratch caches, and one worker process per ISA level."""

from __future__ import annotations

import os
import tempfile

# Before npconv is first imported: no test reads or writes the user's own wisdom.
os.environ["NPCONV_CACHE_DIR"] = tempfile.mkdtemp(prefix="npconv-tests-")
for _name in ("NPCONV_WISDOM", "NPCONV_TUNE", "NPCONV_ISA", "NPCONV_NUM_THREADS", "NPCONV_REPRODUCIBLE", "NPCONV_VERBOSE"):
    os.environ.pop(_name, None)

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from workers import Workers  # noqa: E402

# Derandomised, because a red run has to be red again; no deadline, because timing is no reason to fail.
hypothesis.settings.register_profile(
    "npconv", derandomize=True, deadline=None, database=None, max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture])
hypothesis.settings.load_profile("npconv")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: the long version of a test; runs with `-m full` only")


@pytest.fixture(scope="session")
def workers():
    """One process per ISA level, started when first asked for."""
    pool = Workers()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def environment():
    """Makes an environment for a child process: this one's, with the given variables set, or dropped where None."""
    def make(**variables):
        env = {**os.environ, **{name: value for name, value in variables.items() if value is not None}}
        return {name: value for name, value in env.items() if variables.get(name, "") is not None}
    return make
