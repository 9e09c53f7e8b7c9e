"""Problems of ordinary size for each algorithm, shared by the tests that go through all algorithms."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import oracle

import npconv as nc
from npconv import _npconv

ALL = tuple(_npconv.algorithms())
CONV = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
PLAN = {1: nc.plan_conv1d, 2: nc.plan_conv2d, 3: nc.plan_conv3d}

# name: (x, w, parameters)
PROBLEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "k3": ((3, 16, 19, 22), (20, 16, 3, 3), {"padding": 1}),
    "k3_wide": ((2, 40, 29, 31), (33, 40, 3, 3), {"padding": 1}),
    "k3_stride2": ((2, 19, 21, 24), (22, 19, 3, 3), {"padding": 1, "stride": 2}),
    "k1": ((3, 37, 13, 12), (29, 37, 1, 1), {}),
    "k5_stride2": ((2, 9, 21, 20), (18, 9, 5, 5), {"padding": 2, "stride": 2}),
    "k3_groups": ((2, 12, 14, 15), (18, 4, 3, 3), {"padding": 1, "groups": 3}),
    "image_k17": ((3, 1, 70, 66), (1, 1, 17, 17), {"padding": 8}),
    "dw3": ((3, 35, 17, 18), (35, 1, 3, 3), {"padding": 1, "groups": 35}),
    "dw5_stride2": ((2, 21, 19, 18), (21, 1, 5, 5), {"padding": 2, "stride": 2, "groups": 21}),
    "dw9_multiplier2": ((2, 9, 24, 26), (18, 1, 9, 9), {"padding": 4, "groups": 9}),
    "line": ((3, 12, 90), (20, 12, 7), {"padding": "causal", "dilation": 2}),
    "volume_stride2": ((2, 5, 7, 10, 9), (9, 5, 3, 3, 3), {"padding": 1, "stride": 2}),
    "volume": ((2, 5, 7, 9, 8), (9, 5, 3, 3, 3), {"padding": 1}),
}


def refusal(algorithm: str, problem: str, accuracy: str = "standard", dtype: Any = np.float32) -> str | None:
    x, w, parameters = PROBLEMS[problem]
    rows = nc.explain(np.empty(x, dtype), np.empty(w, dtype), accuracy=accuracy, **parameters)
    return next(row["refusal"] for row in rows if row["algorithm"] == algorithm)


def accepted(accuracy: str = "standard", dtype: Any = np.float32) -> list[tuple[str, str]]:
    """All (algorithm, problem) that go together."""
    return [(a, p) for p in PROBLEMS for a in ALL if refusal(a, p, accuracy, dtype) is None]


def data(problem: str, dtype: Any = np.float32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """N(0, 1) image and weights."""
    x, w, parameters = PROBLEMS[problem]
    rng = np.random.default_rng(seed)
    return rng.standard_normal(x).astype(dtype), rng.standard_normal(w).astype(dtype), parameters


def integers(problem: str, dtype: Any = np.float32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    x, w, parameters = PROBLEMS[problem]
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, x).astype(dtype), rng.integers(-3, 4, w).astype(dtype), parameters


def conv(x: np.ndarray, w: Any, *bias: Any, **arguments: Any) -> np.ndarray:
    return CONV[np.ndim(w) - 2](x, w, *bias, **arguments)


def plan(x_shape: tuple[int, ...], w: Any, *bias: Any, **arguments: Any) -> Any:
    return PLAN[np.ndim(w) - 2](x_shape, w, *bias, **arguments)


def bits(a: np.ndarray) -> str:
    """A digest: equal if all bits are; short, because pytest takes minutes to show how two long texts differ."""
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def whole_bits(a: np.ndarray) -> str:
    """Of results that are integers but for the rounding of a transform. Another memory order is another problem, for
    which a transform may choose another tile."""
    near = np.rint(a)
    assert np.abs(a - near).max(initial=0) < 0.05
    return bits(near + np.zeros((), a.dtype))  # no negative zeros


__all__ = ["ALL", "CONV", "PLAN", "PROBLEMS", "accepted", "bits", "conv", "data", "integers", "oracle", "plan", "refusal", "whole_bits"]
