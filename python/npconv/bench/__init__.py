"""Measures layers in npconv and in other libraries, each in processes of its own.

>>> rows = run(["ic8ih8oc8kh3pt1"], threads=(1,), seconds=0.05)
>>> sorted(row["figure"] for row in rows)
['functional', 'planned', 'planned out=']
"""

from __future__ import annotations

from .report import by_kind, compare, load, render, save, summary
from .runner import Row, run

__all__ = ["Row", "by_kind", "compare", "load", "render", "run", "save", "summary"]
