"""Plans: the bits of the functions, any batch size, out and residual, copies, threads; and a bounded plan cache."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from algorithms import PROBLEMS, bits, conv, data, integers, plan

import npconv as nc
from npconv import _npconv


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return request.param


def test_planned_is_functional(problem):
    x, w, parameters = data(problem)
    with nc.set_reproducible(True):  # else the choice may know that a call has to pack its weights
        planned = plan(x.shape, w, **parameters)
        want = conv(x, w, **parameters)
    assert bits(planned(x)) == bits(want)
    assert planned.output_shape == want.shape and planned.x_shape == x.shape


def test_any_batch_size(problem):
    x, w, parameters = integers(problem)
    planned = plan((1, *x.shape[1:]), w, **parameters)
    want = oracle.conv(x, w, **parameters)
    if planned.algorithm not in ("winograd", "fft"):
        np.testing.assert_array_equal(planned(x), want)
    whole = planned(x)
    for k in range(len(x) + 1):
        assert bits(planned(x[:k])) == bits(whole[:k])
    many = np.concatenate([x] * 5)
    assert bits(planned(many)) == bits(np.concatenate([whole] * 5))


def test_out_and_residual(problem):
    x, w, parameters = data(problem)
    bias = np.linspace(-1, 1, len(w)).astype(np.float32)
    r = np.random.default_rng(1).standard_normal(plan(x.shape, w, **parameters).output_shape).astype(np.float32)
    for after in (False, True):
        planned = plan(x.shape, w, bias, residual=True, residual_after=after, activation="relu", **parameters)
        want = planned(x, residual=r)
        out = np.full_like(want, np.nan)
        assert planned(x, out=out, residual=r) is out and bits(out) == bits(want)
        same = r.copy()
        assert planned(x, out=same, residual=same) is same and bits(same) == bits(want)
        exact = oracle.conv(x, w, bias, residual=r, residual_after=after, activation="relu", **parameters)
        np.testing.assert_allclose(want, exact, rtol=0, atol=1e-5 * oracle.magnitude(x, w, **parameters))


def test_a_residual_is_passed_when_planned():
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    with pytest.raises(ValueError, match="residual"):
        nc.plan_conv2d(x.shape, w, residual=True)(x)
    with pytest.raises(ValueError, match="residual"):
        nc.plan_conv2d(x.shape, w)(x, residual=np.ones((1, 3, 3, 3), np.float32))


def test_calls_are_checked():
    planned = nc.plan_conv2d((2, 3, 8, 9), np.ones((4, 3, 3, 3), np.float32))
    for shape in [(2, 3, 9, 9), (2, 4, 8, 9), (3, 8), (3, 8, 9), (1, 2, 3, 8, 9)]:
        with pytest.raises(ValueError, match="x"):
            planned(np.ones(shape, np.float32))
    x = np.ones((2, 3, 8, 9), np.float32)
    with pytest.raises(ValueError, match="out"):
        planned(x, out=np.empty((1, 4, 6, 7), np.float32))
    with pytest.raises(TypeError, match="out"):
        planned(x, out=np.empty((2, 4, 6, 7), np.float64))
    with pytest.raises(ValueError, match="num_threads"):
        planned(x, num_threads=0)
    with pytest.raises(TypeError):
        planned(np.ma.masked_array(x))
    with pytest.raises(TypeError):
        planned(x.astype(complex))


def test_unbatched_plans():
    rng = np.random.default_rng(2)
    x, w = rng.integers(-4, 5, (3, 8, 9)).astype(np.float32), rng.integers(-3, 4, (4, 3, 3, 3)).astype(np.float32)
    planned = nc.plan_conv2d(x.shape, w, algorithm="im2col")
    np.testing.assert_array_equal(planned(x), oracle.conv(x, w))


def test_later_writes_do_not_reach_a_plan():
    for algorithm in [row["algorithm"] for row in nc.explain("ic8ih12oc8kh3pt1") if row["refusal"] is None]:
        rng = np.random.default_rng(3)
        x = rng.standard_normal((1, 8, 12, 12)).astype(np.float32)
        w, bias, scale = (rng.standard_normal(s).astype(np.float32) for s in ((8, 8, 3, 3), 8, 8))
        planned = nc.plan_conv2d(x.shape, w, bias, padding=1, scale=scale, algorithm=algorithm)
        want = bits(planned(x))
        w[...], bias[...], scale[...] = np.nan, np.nan, np.nan
        assert bits(planned(x)) == want, algorithm


def test_pickles_and_copies(problem):
    x, w, parameters = data(problem)
    bias = np.linspace(-1, 1, len(w)).astype(np.float32)
    planned = plan(x.shape, w, bias, scale=bias + 2, activation=("clip", -3.0, 4.0), num_threads=1, **parameters)
    want = bits(planned(x))
    for other in (pickle.loads(pickle.dumps(planned)), copy.deepcopy(planned), copy.copy(planned)):
        assert other.descriptor == planned.descriptor and other.x_shape == planned.x_shape
        assert other.algorithm == planned.algorithm
        assert bits(other(x)) == want


def test_pickles_keep_every_argument():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 9, 10, 4)).astype(np.float32)
    w = rng.standard_normal((2, 3, 2, 6)).astype(np.float32)
    planned = nc.plan_conv2d(
        x.shape, w, stride=(2, 1), padding=((1, 0), (2, 3)), dilation=(1, 2), groups=2, padding_mode=("constant", "circular"),
        padding_value=1.5, data_format="channels_last", weight_format="HWIO", flip=True, activation="gelu", residual=True,
        residual_after=True, algorithm="im2col", accuracy="strict", num_threads=2)
    r = rng.standard_normal(planned.output_shape).astype(np.float32)
    again = pickle.loads(pickle.dumps(planned))
    assert bits(again(x, residual=r)) == bits(planned(x, residual=r))
    assert again.descriptor == planned.descriptor and again.algorithm == "im2col"


def test_attributes():
    planned = nc.plan_conv2d((1, 64, 56, 56), np.ones((64, 64, 3, 3), np.float32), padding=1)
    assert planned.flops == 2 * 64 * 64 * 9 * 56 * 56
    assert planned.algorithm in _npconv.algorithms() and planned.isa == nc.isa()
    assert planned.workspace_bytes >= 0 and planned.packed_bytes >= 0
    assert _npconv.parse_descriptor(planned.descriptor)["descriptor"] == planned.descriptor
    for name in ("algorithm", "isa", "descriptor", "flops", "x_shape"):
        with pytest.raises(AttributeError):
            setattr(planned, name, None)


def test_one_plan_from_several_threads(problem):
    """Different images through one plan at once, each with its own result."""
    x, w, parameters = data(problem)
    planned = plan(x.shape, w, **parameters)
    images = [x * np.float32(k + 1) for k in range(6)]
    want = [bits(planned(image)) for image in images]
    barrier = threading.Barrier(6)

    def work(k):
        barrier.wait()
        return [bits(planned(images[k], num_threads=1 + (k + i) % 3)) == want[k] for i in range(8)]

    with ThreadPoolExecutor(6) as pool:
        assert all(all(result) for result in pool.map(work, range(6)))


def test_plans_are_made_and_dropped_from_several_threads():
    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            c, h, k = (int(v) for v in rng.integers([1, 3, 1], [9, 12, 4]))
            x, w = rng.integers(-4, 5, (1, c, h, h)).astype(np.float32), rng.integers(-3, 4, (4, c, k, k)).astype(np.float32)
            got = nc.conv2d(x, w, padding=1, algorithm="im2col")
            if not np.array_equal(got, oracle.conv(x, w, padding=1)):
                return False
            if rng.integers(8) == 0:
                nc.clear_caches()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


# ---------------------------------------------------------------- memory stays flat


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def wander(shapes: int, seed: int) -> np.ndarray:
    """Resident bytes after each of ten equal parts of a walk through random shapes."""
    rng = random.Random(seed)
    seen = []
    for n in range(shapes):
        c, o, h, w, k = rng.randint(1, 24), rng.randint(1, 24), rng.randint(7, 40), rng.randint(7, 40), rng.randint(1, 5)
        x, weight = np.ones((1, c, h, w), np.float32), np.ones((o, c, k, k), np.float32)
        nc.conv2d(x, weight, padding=rng.randint(0, 3), stride=rng.randint(1, 2), num_threads=1 + n % 2)
        if n % 8 == 0:
            nc.plan_conv2d(x.shape, weight, activation="relu")(x)
        if (n + 1) % (shapes // 10) == 0:
            gc.collect()
            seen.append(resident())
    return np.array(seen, dtype=float)


@pytest.mark.parametrize("shapes", [1000, pytest.param(10_000, marks=pytest.mark.full)])
def test_random_shapes_leave_the_resident_memory_flat(shapes):
    nc.clear_caches()
    wander(600, seed=0)  # fills the cache and the workspace pool
    seen = wander(shapes, seed=1)
    parts = np.arange(1, 11) * shapes / 10
    slope = np.polyfit(parts, seen, 1)[0]
    info = _npconv.plan_cache_info()
    print(f"\n{shapes} random shapes: resident {seen[0] / 2**20:.1f} -> {seen[-1] / 2**20:.1f} MiB, "
          f"{slope:.0f} bytes a shape; plan cache {info}")
    assert seen[-1] - seen[0] < 4 << 20
    size, capacity = info["size"], info["capacity"]
    assert 0 < size <= capacity


def test_images_in_place_lease_no_copy_of_themselves():
    """The copy that replaces an image of far channels is made piece by piece."""
    plan = nc.plan_conv1d((1, 16, 100_000), np.zeros((32, 16, 1), np.float32), algorithm="im2col", num_threads=2)
    assert "copy=0" in plan.parameters
    assert plan.workspace_bytes < 1 << 20


def test_clear_caches_empties_the_plan_cache():
    nc.conv2d(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)))
    assert _npconv.plan_cache_info()["size"] > 0
    nc.clear_caches()
    assert _npconv.plan_cache_info()["size"] == 0


def test_the_plan_cache_is_used():
    nc.clear_caches()
    x, w = np.ones((1, 3, 9, 9), np.float32), np.ones((4, 3, 3, 3), np.float32)
    nc.conv2d(x, w)
    before = _npconv.plan_cache_info()
    for _ in range(5):
        nc.conv2d(x * 2, w + 1)
    after = _npconv.plan_cache_info()
    assert after["misses"] == before["misses"] and after["hits"] == before["hits"] + 5
    nc.conv2d(x, w, padding=1)
    assert _npconv.plan_cache_info()["misses"] == after["misses"] + 1


def test_workspace_is_bounded():
    """Between calls the pool keeps no more than the limit says, and clear_caches keeps nothing."""
    x, w = np.ones((1, 64, 60, 60), np.float32), np.ones((64, 64, 3, 3), np.float32)
    nc.conv2d(x, w, padding=1)
    nc.clear_caches()
    assert isinstance(nc.memory_info(), dict)
    limit = nc.get_workspace_limit()
    try:
        nc.set_workspace_limit(1 << 20)
        assert nc.get_workspace_limit() == 1 << 20
        got = nc.conv2d(x, w, padding=1, algorithm="im2col")
        np.testing.assert_array_equal(got, oracle.conv(x, w, padding=1))
    finally:
        nc.set_workspace_limit(limit)


def test_arguments_of_a_call_by_position_and_by_name():
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    planned = nc.plan_conv2d(x.shape, w, residual=True)
    r, out = np.full(planned.output_shape, 2, np.float32), np.empty(planned.output_shape, np.float32)
    expected = planned(x, residual=r)
    name = "".join(["o", "ut"])  # not the interned string
    calls = [
        ((x, out, r), {}),
        ((), {"x": x, "out": out, "residual": r}),
        ((x,), {name: out, "residual": r, "num_threads": 1}),
        ((x, out, r, 2), {}),
    ]
    for arguments, named in calls:
        out.fill(np.nan)
        assert planned(*arguments, **named) is out
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(planned(x, None, r, None), expected)
    np.testing.assert_array_equal(planned.__call__(x, residual=r), expected)


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, "argument x is missing"),
        ((), {"out": None}, "argument x is missing"),
        ((1, None, None, None, None), {}, "at most 4 arguments, got 5"),
        ((1,), {"x": 1}, "'x' is given twice"),
        ((1, None), {"out": None}, "'out' is given twice"),
        ((1,), {"output": None}, "unexpected argument 'output', expected x, out, residual or num_threads"),
        ((1,), {"\ud800": None}, "unexpected argument"),
        ((1,), {1: None}, "must be strings"),
    ],
)
@pytest.mark.parametrize("called", [False, True])  # by tp_call, and from then on by the vectorcall protocol
def test_wrong_arguments_of_a_call(arguments, named, message, called):
    planned = nc.plan_conv2d((1, 2, 5, 5), np.ones((3, 2, 3, 3), np.float32))
    if called:
        planned(np.ones((1, 2, 5, 5), np.float32))
    with pytest.raises(TypeError, match=message):
        planned(*arguments, **named)


def test_class_that_cannot_be_changed():
    with pytest.raises(TypeError, match="immutable"):  # calls don't look __call__ up
        _npconv.Plan.__call__ = lambda *_: None


def test_plan_that_was_not_initialised():
    empty, x = _npconv.Plan.__new__(_npconv.Plan), np.ones((1, 2, 5, 5), np.float32)
    for use in (lambda: empty(x), lambda: empty.__call__(x), lambda: repr(empty), lambda: empty.descriptor, lambda: pickle.dumps(empty)):
        with pytest.raises(TypeError, match="__init__"):
            use()
    with pytest.raises(TypeError):
        _npconv.Plan.__call__(x, x)


def test_errors_within_a_call_keep_their_types():
    planned = nc.plan_conv2d((1, 2, 5, 5), np.ones((3, 2, 3, 3), np.float32))
    x = np.ones((1, 2, 5, 5), np.float32)
    with pytest.raises(ValueError, match="out has shape"):
        planned(x, out=np.empty((1, 3, 9, 9), np.float32))
    with pytest.raises(ValueError, match="num_threads must be between"):
        planned(x, num_threads=-1)
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        planned(x, out=[1])
    with pytest.raises(ValueError, match="the plan was made for x of shape"):
        planned(x[0])

    class Odd:
        def __array__(self, *_, **__):
            raise KeyError("from the argument")

    with pytest.raises(KeyError, match="from the argument"):
        planned(Odd())
