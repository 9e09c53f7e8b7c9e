"""A convolution as plain numbers, and what a peer offers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Axes = tuple[int, int, int]
T = TypeVar("T")


class Skip(Exception):
    """The peer can't compute this problem; the text says why."""


@dataclass(frozen=True)
class Problem:
    """Sizes are (depth, height, width) as in the descriptor; dilation counts from 1; ic and oc are totals."""

    descriptor: str
    dtype: str
    mb: int
    g: int
    ic: int
    oc: int
    input: Axes
    output: Axes
    kernel: Axes
    stride: Axes
    dilation: Axes
    pad_begin: Axes
    pad_end: Axes
    padding_modes: tuple[str, str, str]
    channels_last: bool
    accuracy: str
    flops: float

    @classmethod
    def of(cls, parsed: Mapping[str, Any]) -> Problem:
        """From what npconv's parse_descriptor returns."""
        if parsed["direction"] != "fwd":
            raise ValueError(f"only forward convolutions can be measured, got {parsed['descriptor']}")
        fields: dict[str, Any] = {"channels_last": parsed["src_order"] == "nhwc"}
        for name in ("input", "output", "kernel", "stride", "dilation", "pad_begin", "pad_end"):
            fields[name] = tuple(parsed[name])
        for name in ("descriptor", "dtype", "mb", "g", "ic", "oc", "accuracy", "flops"):
            fields[name] = parsed[name]
        fields["padding_modes"] = tuple(parsed["padding_mode"])
        if min(fields["pad_begin"] + fields["pad_end"]) < 0:
            raise ValueError(f"negative padding can't be measured, got {parsed['descriptor']}")
        return cls(**fields)

    @property
    def nd(self) -> int:
        """Spatial axes of the arrays: 1 for maps of height 1 that are wider, 3 where there is a depth."""
        if self.input[0] > 1 or self.kernel[0] > 1:
            return 3
        return 1 if self.input[1] == 1 and self.kernel[1] == 1 and self.input[2] > 1 else 2

    @property
    def numpy_dtype(self) -> type:
        return np.float64 if self.dtype == "f64" else np.float32

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.mb, self.ic, *self.axes(self.input))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.oc, self.ic // self.g, *self.axes(self.kernel))

    @property
    def zero_padding(self) -> bool:
        return all(mode == "zeros" for mode in self.axes(self.padding_modes))

    def axes(self, values: tuple[T, T, T]) -> list[T]:
        """The last nd of three per-axis values."""
        return list(values[3 - self.nd :])


@dataclass(frozen=True)
class Figure:
    """One way of calling a peer.

    kind: 'functional' (NumPy in and out, weights as they come), 'planned' (NumPy in and out, weights prepared) or
    'steady' (weights prepared and no new output array, or tensors that stay inside the framework).
    fetch turns run()'s result into an array in N, C, spatial order; it isn't timed.
    """

    kind: str
    run: Callable[[], Any]
    fetch: Callable[[Any], Array]
    detail: str = ""


class Driver(Protocol):
    """What a module's Peer provides."""

    version: str

    def figures(
        self, problem: Problem, x: Array, w: Array, b: Array, folder: Path
    ) -> Iterator[tuple[str, Figure | str]]:
        """Yields (name, figure), or (name, reason) for a figure that this problem doesn't have. May raise Skip."""
        ...


def channels_last(array: Array) -> Array:
    """A copy with the channels innermost."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))
