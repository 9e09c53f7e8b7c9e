"""torch: functional calls on NumPy arrays in both memory orders, and oneDNN with prepacked weights.

The steady figures are torch at its best: channels-last tensors with weights reordered for the very shape, and (2-D)
oneDNN's own blocked tensors on both sides, as inside a network that stays in that layout.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .problem import Array, Figure, Problem, Skip, channels_last


class Peer:
    def __init__(self, threads: int) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.version = f"torch {self.torch.__version__}"
        self.torch.set_num_threads(threads)
        self.torch.set_num_interop_threads(1)
        self.torch.set_float32_matmul_precision("highest")
        self.inference = self.torch.inference_mode()
        self.inference.__enter__()

    def figures(
        self, problem: Problem, x: Array, w: Array, b: Array, folder: Path
    ) -> Iterator[tuple[str, Figure | str]]:
        if not problem.zero_padding:
            raise Skip("zero padding only")
        pad, before = self._padding(problem)
        yield "functional", self._functional(problem, x, w, b, pad, before)
        yield "functional nhwc", self._functional_channels_last(problem, x, w, b, pad, before)
        if problem.dtype != "f32":
            yield "steady", "prepacked weights are f32 only"
            return
        yield "steady", self._packed(problem, x, w, b, pad, before)
        if problem.nd == 3 or before is not None:
            yield "steady blocked", "2-D with equal padding on both sides only"
        else:
            yield "steady blocked", self._blocked(problem, x, w, b, pad)

    def _padding(self, problem: Problem) -> tuple[list[int], Callable[[Any], Any] | None]:
        """The convolution's own padding, and a separate step where the two sides differ."""
        begin, end = problem.axes(problem.pad_begin), problem.axes(problem.pad_end)
        if begin == end:
            return begin, None
        sides = [side for axis in reversed(list(zip(begin, end, strict=True))) for side in axis]
        constant_pad = self.torch.nn.functional.pad
        return [0] * problem.nd, lambda tensor: constant_pad(tensor, sides)

    def _convolution(
        self, problem: Problem, w: Any, b: Any, pad: list[int], before: Callable[[Any], Any] | None
    ) -> Callable[[Any], Any]:
        call = getattr(self.torch.nn.functional, f"conv{problem.nd}d")
        stride, dilation, groups = problem.axes(problem.stride), problem.axes(problem.dilation), problem.g
        if before is None:
            return lambda tensor: call(tensor, w, b, stride, pad, dilation, groups)
        return lambda tensor: call(before(tensor), w, b, stride, pad, dilation, groups)

    def _functional(
        self, problem: Problem, x: Array, w: Array, b: Array, pad: list[int], before: Callable[[Any], Any] | None
    ) -> Figure:
        of = self.torch.from_numpy
        call = self._convolution(problem, of(w), of(b), pad, before)
        return Figure("functional", lambda: call(of(x)).numpy(), lambda y: np.asarray(y))

    def _functional_channels_last(
        self, problem: Problem, x: Array, w: Array, b: Array, pad: list[int], before: Callable[[Any], Any] | None
    ) -> Figure | str:
        if problem.nd == 1:
            return "torch has no channels-last order for 1-D"
        of, nd = self.torch.from_numpy, problem.nd
        order = self.torch.channels_last if nd == 2 else self.torch.channels_last_3d
        inward, outward = (0, nd + 1, *range(1, nd + 1)), (0, *range(2, nd + 2), 1)
        xh = channels_last(x)
        call = self._convolution(problem, of(w).contiguous(memory_format=order), of(b), pad, before)
        return Figure(
            "functional",
            lambda: call(of(xh).permute(inward)).permute(outward).numpy(),
            lambda y: np.moveaxis(np.asarray(y), -1, 1),
        )

    def _flat(self, problem: Problem, values: list[int], fill: int) -> list[int]:
        """1-D runs as 2-D with height 1 below: oneDNN's prepacked form has no 1-D."""
        return [fill, *values] if problem.nd == 1 else values

    def _packed(
        self, problem: Problem, x: Array, w: Array, b: Array, pad: list[int], before: Callable[[Any], Any] | None
    ) -> Figure | str:
        torch, of, lift = self.torch, self.torch.from_numpy, problem.nd == 1
        nd = 2 if lift else problem.nd
        order = torch.channels_last if nd == 2 else torch.channels_last_3d
        tensor = of(x).unsqueeze(2) if lift else of(x)
        weight = of(w).unsqueeze(2) if lift else of(w)
        tensor, bias = tensor.contiguous(memory_format=order), of(b)
        stride = self._flat(problem, problem.axes(problem.stride), 1)
        dilation = self._flat(problem, problem.axes(problem.dilation), 1)
        own = self._flat(problem, pad, 0)
        try:
            reorder = getattr(torch._C._nn, f"mkldnn_reorder_conv{nd}d_weight")
            shape = list((before(tensor) if before else tensor).shape)
            packed = reorder(weight.to_mkldnn(), own, stride, dilation, problem.g, shape)
            call = torch.ops.mkldnn._convolution_pointwise
        except (AttributeError, RuntimeError) as error:
            return f"no prepacked weights: {error}"

        def run() -> Any:
            source = before(tensor) if before else tensor
            return call(source, packed, bias, own, stride, dilation, problem.g, "none", [], "")

        def fetch(y: Any) -> Array:
            array: Array = y.numpy()
            return array[:, :, 0] if lift else array

        return Figure("steady", run, fetch)

    def _blocked(self, problem: Problem, x: Array, w: Array, b: Array, pad: list[int]) -> Figure | str:
        torch, of, lift = self.torch, self.torch.from_numpy, problem.nd == 1
        tensor = of(x).unsqueeze(2) if lift else of(x)
        weight = of(w).unsqueeze(2) if lift else of(w)
        stride = self._flat(problem, problem.axes(problem.stride), 1)
        dilation = self._flat(problem, problem.axes(problem.dilation), 1)
        own, shape = self._flat(problem, pad, 0), list(tensor.shape)
        try:
            reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed, bias = reorder(weight.to_mkldnn(), own, stride, dilation, problem.g, shape), of(b).to_mkldnn()
            # An identity 1x1 convolution leaves its result in the layout that oneDNN likes best.
            eye = reorder(torch.eye(problem.ic)[:, :, None, None].to_mkldnn(), [0, 0], [1, 1], [1, 1], 1, shape)
            blocked = torch.conv2d(tensor.to_mkldnn(), eye, torch.zeros(problem.ic).to_mkldnn())
        except (AttributeError, RuntimeError) as error:
            return f"no blocked tensors: {error}"

        def fetch(y: Any) -> Array:
            array: Array = y.to_dense().numpy()
            return array[:, :, 0] if lift else array

        return Figure("steady", lambda: torch.conv2d(blocked, packed, bias, stride, own, dilation, problem.g), fetch)
