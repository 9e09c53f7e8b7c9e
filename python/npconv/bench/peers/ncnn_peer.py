"""ncnn: a network of one layer, from NumPy to NumPy and from matrix to matrix."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .problem import Array, Figure, Problem, Skip

#: ncnn's parameter ids of (kernel, dilation, stride, padding before, padding after), width first.
_IDS = (("1", "2", "3", "4", "15"), ("11", "12", "13", "14", "16"), ("21", "22", "23", "24", "17"))
_MAGIC = 7767517


class Peer:
    def __init__(self, threads: int) -> None:
        self.ncnn: Any = importlib.import_module("ncnn")
        self.version = f"ncnn {self.ncnn.__version__}"
        self.threads = threads

    def figures(
        self, problem: Problem, x: Array, w: Array, b: Array, folder: Path
    ) -> Iterator[tuple[str, Figure | str]]:
        if problem.mb != 1:
            raise Skip("no batches")
        if problem.dtype != "f32" or not problem.zero_padding:
            raise Skip("f32 with zero padding only")
        net = self._network(problem, w, b, folder)
        ncnn, image = self.ncnn, x[0]
        resident = ncnn.Mat(image).clone()

        def extract(source: Any) -> Any:
            extractor = net.create_extractor()
            extractor.input("x", source)
            return extractor.extract("y")[1]

        yield (
            "planned",
            Figure("planned", lambda: np.array(extract(ncnn.Mat(image))), lambda y: self._shaped(problem, y)),
        )
        yield "steady", Figure("steady", lambda: extract(resident), lambda y: self._shaped(problem, np.array(y)))

    @staticmethod
    def _shaped(problem: Problem, y: Array) -> Array:
        return y.reshape(problem.mb, problem.oc, *problem.axes(problem.output))

    def _network(self, problem: Problem, w: Array, b: Array, folder: Path) -> Any:
        kind = "Convolution" + ("DepthWise" if problem.g > 1 else "") + {1: "1D", 2: "", 3: "3D"}[problem.nd]
        fields = [f"0={problem.oc}", "5=1", f"6={w.size}"] + ([f"7={problem.g}"] if problem.g > 1 else [])
        values = (problem.kernel, problem.dilation, problem.stride, problem.pad_begin, problem.pad_end)
        for axis in range(problem.nd):
            fields += [f"{name}={value[2 - axis]}" for name, value in zip(_IDS[axis], values, strict=True)]
        stem = folder / f"ncnn{os.getpid()}"
        param, model = stem.with_suffix(".param"), stem.with_suffix(".bin")
        param.write_text(f"{_MAGIC}\n2 2\nInput x 0 1 x\n{kind} y 1 1 x y {' '.join(fields)}\n", encoding="ascii")
        model.write_bytes(b"\0\0\0\0" + np.ascontiguousarray(w).tobytes() + b.tobytes())
        net = self.ncnn.Net()
        net.opt.num_threads = self.threads
        net.opt.use_vulkan_compute = False
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
            if hasattr(net.opt, f"use_{name}"):
                setattr(net.opt, f"use_{name}", False)
        if net.load_param(str(param)) != 0 or net.load_model(str(model)) != 0:
            raise Skip(f"{kind} can't be loaded")
        return net
