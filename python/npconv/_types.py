"""Types that several modules of the Python surface share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
ArrayLike: TypeAlias = npt.ArrayLike
DTypeLike: TypeAlias = npt.DTypeLike
Shape: TypeAlias = Sequence[SupportsIndex]

# One integer for all axes, or one for each.
Size: TypeAlias = SupportsIndex | Sequence[SupportsIndex]

# An amount, a name, amounts or names per axis, or (before, after) pairs per axis.
Padding: TypeAlias = SupportsIndex | str | Sequence[SupportsIndex | str | Sequence[SupportsIndex]]

# A mode for all axes, or one for each.
PaddingMode: TypeAlias = str | Sequence[str]

# None, a name, or (name, parameter, ...).
Activation: TypeAlias = str | tuple[Any, ...] | None
