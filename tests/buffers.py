"""Arrays inside larger buffers: NaN around what is read, guard bytes around what is written, pages that nobody may touch."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

GUARD = 67  # elements on either side; odd, so that the array's address is aligned to its item size only


def element_strides(layout: str, shape: tuple[int, ...]) -> list[int]:
    """Strides in elements of a logical (N, C, *spatial) array."""
    n, c, *spatial = shape
    dense, run = [0] * len(spatial), 1
    for axis in reversed(range(len(spatial))):
        dense[axis] = run
        run *= max(spatial[axis], 1)
    if layout == "nchw":
        return [max(c, 1) * run, run, *dense]
    if layout == "nhwc":
        return [max(c, 1) * run, 1, *(max(c, 1) * d for d in dense)]
    if layout == "plane_gaps":  # rows are dense, the strides between planes and images are free
        return [max(c, 1) * (run + 7) + 13, run + 7, *dense]
    if layout == "channels_reversed":  # the first channel is the last in memory
        return [max(c, 1) * run, -run, *dense]
    if layout == "pixel_gaps":  # channels are dense, the stride between pixels is free
        pixel = max(c, 1) + 3
        return [pixel * run + 5, 1, *(pixel * d for d in dense)]
    assert layout == "scattered", layout
    strides, run = [0] * len(shape), 2
    for position, axis in enumerate(np.random.default_rng(sum(shape)).permutation(len(shape))):
        strides[axis] = run if position % 2 else -run
        run = run * max(shape[axis], 1) + 3
    return strides


class Buffer:
    """A flat buffer full of `fill` with one strided array somewhere in its middle."""

    def __init__(self, shape: tuple[int, ...], strides: list[int], dtype: object, fill: float) -> None:
        reach = [(s - 1) * t if s else 0 for s, t in zip(shape, strides)]
        below, above = -sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
        self.flat = np.full(GUARD + below + above + 1 + GUARD, fill, dtype=dtype)
        start = self.flat[GUARD + below:]
        self.array = np.lib.stride_tricks.as_strided(start, shape, [t * start.itemsize for t in strides])
        self._before = self.flat.copy()
        self._first = GUARD + below
        self._strides = strides

    def changed_outside(self) -> bool:
        """Whether any byte that doesn't belong to the array differs from what was there at first."""
        now = self.flat.copy()
        start = now[self._first:]
        inside = np.lib.stride_tricks.as_strided(start, self.array.shape, [t * now.itemsize for t in self._strides])
        original = np.lib.stride_tricks.as_strided(self._before[self._first:], inside.shape, inside.strides)
        inside[...] = original
        return now.tobytes() != self._before.tobytes()


def surrounded(values: np.ndarray, layout: str, dtype: object) -> np.ndarray:
    """A read-only copy of a logical (N, C, *spatial) array in `layout`, in a buffer that is NaN everywhere else."""
    buffer = Buffer(values.shape, element_strides(layout, values.shape), dtype, np.nan)
    buffer.array[...] = values
    buffer.array.flags.writeable = False
    return buffer.array


def fenced(values: np.ndarray, layout: str, dtype: object, *, at_end: bool) -> np.ndarray:
    """A copy of an array in `layout` whose last element ends, or first begins, where a page begins that may not be touched.

    A load or store beyond that side of it ends the process (on Linux, where pages can be protected from Python). NaN fills
    what else there is. Arrays that are not (N, C, *spatial): "C".
    """
    item, page = np.dtype(dtype).itemsize, mmap.PAGESIZE
    strides = [t // values.itemsize for t in np.empty(values.shape, values.dtype).strides] if layout == "C" \
        else element_strides(layout, values.shape)
    reach = [(s - 1) * t for s, t in zip(values.shape, strides)]
    below, size = -sum(r for r in reach if r < 0), (1 + sum(map(abs, reach))) * item
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    everything = np.frombuffer(memory, dtype)
    everything[...] = np.nan
    start = ((pages + 1) * page - size if at_end else page) // item
    array = np.lib.stride_tricks.as_strided(everything[start + below:], values.shape, [t * item for t in strides])
    array[...] = values
    protect = getattr(ctypes.CDLL(None, use_errno=True), "mprotect", None)
    if protect is not None:
        for side in (everything.ctypes.data, everything.ctypes.data + (pages + 1) * page):
            assert protect(ctypes.c_void_p(side), ctypes.c_size_t(page), 0) == 0, ctypes.get_errno()
    return array
