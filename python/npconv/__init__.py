"""npconv: fast convolution for NumPy on CPUs.

>>> import numpy as np
>>> import npconv as nc
>>> nc.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
array([[[[4., 4.],
         [4., 4.]]]])

The functions are in ``npconv.functional``, plans and ``explain`` in ``npconv.plan``, settings in
``npconv.runtime``, sizes and costs in ``npconv.info``, tuning in ``npconv.tuner`` and ``npconv.wisdom``.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from npconv import _npconv, info
from npconv._npconv import __version__
from npconv.functional import conv1d, conv2d, conv3d, depthwise_conv2d, pointwise_conv2d
from npconv.plan import Plan, explain, plan_conv1d, plan_conv2d, plan_conv3d
from npconv.runtime import (
    clear_caches,
    get_num_threads,
    get_reproducible,
    get_tuning,
    get_workspace_limit,
    isa,
    memory_info,
    register_threadpoolctl,
    set_num_threads,
    set_reproducible,
    set_workspace_limit,
    show_runtime,
    threads,
    tuning,
)

if TYPE_CHECKING:
    from npconv import shapes, wisdom
    from npconv.tuner import tune

__all__ = [
    "Plan",
    "__version__",
    "clear_caches",
    "conv1d",
    "conv2d",
    "conv3d",
    "depthwise_conv2d",
    "explain",
    "get_num_threads",
    "get_reproducible",
    "get_tuning",
    "get_workspace_limit",
    "info",
    "isa",
    "memory_info",
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
    "pointwise_conv2d",
    "register_threadpoolctl",
    "set_num_threads",
    "set_reproducible",
    "set_workspace_limit",
    "shapes",
    "show_runtime",
    "threads",
    "tune",
    "tuning",
    "wisdom",
]


def __getattr__(name: str) -> Any:
    # The tuner and the cache bring json, platformdirs and filelock along: loaded when first used.
    if name == "tune":
        return importlib.import_module("npconv.tuner").tune
    if name in ("shapes", "wisdom"):
        return importlib.import_module(f"npconv.{name}")
    raise AttributeError(f"module 'npconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load_wisdom() -> None:
    importlib.import_module("npconv.wisdom").load()


def _tune_missing(descriptor: str, num_threads: int, rigor: str) -> None:
    importlib.import_module("npconv.tuner").tune_missing(descriptor, num_threads, rigor)


_npconv.set_wisdom_loader(_load_wisdom)
_npconv.set_tuner(_tune_missing)

if "threadpoolctl" in sys.modules:
    register_threadpoolctl()
