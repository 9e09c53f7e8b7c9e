"""The package itself: what an import loads, versions, names, settings, docstrings."""

import importlib.metadata
import inspect
import io
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

import npconv as nc
from npconv import _npconv

ROOT = pathlib.Path(__file__).resolve().parents[1]
INSTALLED = pathlib.Path(nc.__file__).parents[1].name == "site-packages"  # or run in place, after the preset `dev`


def run_python(code, **environment):
    """Run code in a fresh interpreter outside the source tree and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, cwd="/", timeout=120,
        env={**os.environ, "NPCONV_WISDOM": "0", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_numpy_and_the_extension_only():
    code = """
import sys, numpy
before = set(sys.modules)
import npconv
new = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"platformdirs", "filelock", "typer", "rich", "json", "scipy", "ctypes", "asyncio", "threadpoolctl"}
print(sorted(new & heavy), sorted(m for m in sys.modules if m.startswith("npconv") and "tune" in m or "wisdom" in m))
"""
    assert run_python(code) == "[] []"


def test_import_is_quick():
    # processor time: other programs may keep this one waiting
    code = "import numpy, time; t = time.process_time(); import npconv; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.1


def test_version_is_in_one_place():
    assert nc.__version__ == _npconv.__version__
    if INSTALLED:
        assert nc.__version__ == importlib.metadata.version("npconv")


def test_names():
    assert set(nc.__all__) <= set(dir(nc))
    assert all(hasattr(nc, name) for name in nc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'conv4d'"):
        _ = nc.conv4d


def test_installed_files():
    folder = pathlib.Path(nc.__file__).parent
    assert (folder / "py.typed").is_file()
    assert (folder / "_npconv.pyi").is_file()
    if INSTALLED:
        assert len(list((folder / "shapes").glob("*.txt"))) >= 10


def test_public_names_are_documented():
    assert [name for name in nc.__all__ if name != "__version__" and not inspect.getdoc(getattr(nc, name))] == []


def test_x_is_positional_only():
    for function in (nc.conv1d, nc.conv2d, nc.conv3d, nc.depthwise_conv2d, nc.pointwise_conv2d):
        parameters = list(inspect.signature(function).parameters.values())
        assert parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
        assert parameters[-1].kind is inspect.Parameter.KEYWORD_ONLY
    names = list(inspect.signature(nc.conv2d).parameters)
    assert names[:7] == ["x", "weight", "bias", "stride", "padding", "dilation", "groups"]
    assert list(inspect.signature(nc.conv1d).parameters) == list(inspect.signature(nc.conv3d).parameters) == names


def test_depthwise_takes_the_groups_from_x():
    rng = np.random.default_rng(1)
    x = rng.integers(-4, 5, (2, 3, 6, 7)).astype("f4")
    weight = rng.integers(-4, 5, (6, 1, 3, 3)).astype("f4")
    exact = {"padding": 1, "algorithm": "im2col"}
    expected = nc.conv2d(x, weight, groups=3, **exact)
    np.testing.assert_array_equal(nc.depthwise_conv2d(x, weight, **exact), expected)
    for name in ("channels_last", "NHWC"):
        last = nc.depthwise_conv2d(x.transpose(0, 2, 3, 1), weight, data_format=name, **exact)
        np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), expected)
    np.testing.assert_array_equal(nc.depthwise_conv2d(x[0], weight, **exact), expected[0])
    with pytest.raises(ValueError, match="conv2d"):
        nc.depthwise_conv2d(x[0, 0], weight)


def test_pointwise_takes_a_matrix():
    rng = np.random.default_rng(2)
    x = rng.integers(-4, 5, (2, 4, 5, 6)).astype("f8")
    weight = rng.integers(-4, 5, (3, 4)).astype("f8")
    expected = np.einsum("oc,nchw->nohw", weight, x)
    np.testing.assert_array_equal(nc.pointwise_conv2d(x, weight), expected)
    np.testing.assert_array_equal(nc.pointwise_conv2d(x, weight[..., None, None], stride=2), expected[:, :, ::2, ::2])
    with pytest.raises(ValueError, match="pointwise_conv2d: weight expects shape"):
        nc.pointwise_conv2d(x, np.ones((3, 4, 3, 3)))


def test_threads_is_for_one_python_thread_and_nests():
    outside = nc.get_num_threads()
    seen = []
    with nc.threads(3):
        assert nc.get_num_threads() == 3
        with nc.threads(1):
            assert nc.get_num_threads() == 1
        assert nc.get_num_threads() == 3
        other = threading.Thread(target=lambda: seen.append(nc.get_num_threads()))
        other.start()
        other.join()
    assert seen == [outside]
    assert nc.get_num_threads() == outside
    with pytest.raises(ValueError, match="0"), nc.threads(0):
        pass
    assert nc.get_num_threads() == outside


def test_threads_wins_over_set_num_threads():
    try:
        nc.set_num_threads(5)
        assert nc.get_num_threads() == 5
        with nc.threads(2):
            assert nc.get_num_threads() == 2
            nc.set_num_threads(4)
            assert nc.get_num_threads() == 2
        assert nc.get_num_threads() == 4
    finally:
        nc.set_num_threads(None)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NPCONV_NUM_THREADS": "3", "OMP_NUM_THREADS": "7"}, "3"),
        ({"OMP_NUM_THREADS": "7"}, "7"),
    ],
)
def test_threads_from_the_environment(environment, expected):
    clean = {"NPCONV_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    assert run_python("import npconv; print(npconv.get_num_threads())", **{**clean, **environment}) == expected


def test_settings_restore_what_was_before():
    assert nc.get_tuning()[0] == "estimate"
    before = nc.get_tuning()
    with nc.tuning("measure", time_limit=2.0):
        assert nc.get_tuning() == ("measure", 2.0)
        with nc.tuning("exhaustive"):
            assert nc.get_tuning()[0] == "exhaustive"
        assert nc.get_tuning() == ("measure", 2.0)
    assert nc.get_tuning() == before
    with pytest.raises(ValueError, match="exhaustive"):
        nc.tuning("guess")
    with nc.set_reproducible(True):
        assert nc.get_reproducible()
    assert not nc.get_reproducible()
    try:
        nc.set_reproducible(True)
        assert nc.get_reproducible()
    finally:
        nc.set_reproducible(False)


def test_workspace_limit_and_memory():
    before = nc.get_workspace_limit()
    try:
        nc.set_workspace_limit(1 << 20)
        assert nc.get_workspace_limit() == 1 << 20
    finally:
        nc.set_workspace_limit(before)
    assert all(isinstance(value, int) and value >= 0 for value in nc.memory_info().values())
    nc.clear_caches()


def test_show_runtime():
    text = io.StringIO()
    nc.show_runtime(text)
    assert text.getvalue().startswith(f"npconv {nc.__version__}, NumPy {np.__version__}")
    assert nc.isa() in text.getvalue()
    assert f" threads {nc.get_num_threads()} " in " ".join(text.getvalue().split())


def test_explain_of_arguments_and_of_a_descriptor():
    x, weight = np.ones((1, 8, 20, 20), "f4"), np.ones((8, 8, 3, 3), "f4")
    rows = nc.explain(x, weight, np.ones(8, "f4"), padding=1, activation="relu", num_threads=1)
    assert "_ic8ih20iw20_oc8kh3kw3_" in rows.descriptor
    assert rows.descriptor.endswith("_fresh_bias_relu")
    assert [row["algorithm"] for row in rows] == _npconv.algorithms()
    assert sum(row["picked"] for row in rows) == 1
    assert all((row["refusal"] is None) or not row["picked"] for row in rows)
    assert list(nc.explain(rows.descriptor, num_threads=1)) == list(rows)
    assert str(rows).count("\n") == len(rows) + 1
    with pytest.raises(TypeError, match="explain"):
        nc.explain(x)
    with pytest.raises(TypeError, match="explain"):
        nc.explain(rows.descriptor, weight)
    with pytest.raises(ValueError, match="nonsense"):
        nc.explain("nonsense")


def test_threadpoolctl_in_either_order():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    assert threadpoolctl.__version__
    check = "; print([m['version'] for m in threadpoolctl.threadpool_info() if m['internal_api'] == 'npconv'])"
    expected = repr([nc.__version__])
    assert run_python("import threadpoolctl, npconv" + check) == expected
    assert run_python("import npconv, threadpoolctl; npconv.register_threadpoolctl()" + check) == expected
    limits = """
import threadpoolctl, npconv
before = npconv.get_num_threads()
with threadpoolctl.threadpool_limits(1): print(npconv.get_num_threads())
print(npconv.get_num_threads() == before)
"""
    assert run_python(limits).split() == ["1", "True"]


def test_readme_names_the_commands():
    lines = (ROOT / "README.md").read_text().splitlines()[:40]
    assert any('pip install ".[cli]" && .venv/bin/npconv tune resnet50' in line for line in lines)
    assert any('pip install ".[test]" && .venv/bin/python -m pytest' in line for line in lines)
