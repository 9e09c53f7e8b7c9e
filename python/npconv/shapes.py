"""The lists of real networks' layers, and how the tuner's and the bench's arguments become problems.

A list is a text file: one descriptor string a line, optionally followed by whitespace and `# name of the layer`;
empty lines and lines that begin with `#` don't count. A layer that a network has several times stands there several
times, or once with `x<count>` at the end of its name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from npconv import _npconv

__all__ = ["Layer", "load", "networks", "resolve"]


@dataclass(frozen=True)
class Layer:
    """One problem: its canonical descriptor, what it is called, and how often it occurs."""

    descriptor: str
    name: str
    count: int = 1


def _folder() -> Path:
    """Return where the lists are: in the package, or in the source tree that the package was imported from."""
    packaged = Path(__file__).parent / "shapes"
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[2] / "bench" / "shapes"


def networks() -> list[str]:
    """Return the names of the built-in lists.

    >>> from npconv import shapes
    >>> "resnet50" in shapes.networks()
    True
    """
    return sorted(file.stem for file in _folder().glob("*.txt"))


def load(network: str, batch: int | None = None) -> list[Layer]:
    """Return the layers of a built-in network, each distinct problem once.

    >>> from npconv import shapes
    >>> shapes.load("vgg16")[0].descriptor
    'fwd_f32_mb1_g1_ic3ih224iw224_oc64kh3kw3_sh1sw1_pt1pl1pb1pr1_dh1dw1_nchw_zeros_standard_const_bias_relu'
    """
    if network not in networks():
        raise ValueError(_unknown(network))
    return _distinct(_read(_folder() / f"{network}.txt"), batch)


def resolve(
    problems: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], batch: int | None = None
) -> list[Layer]:
    """Turn names of networks, descriptor strings and files of them into distinct problems.

    `batch` replaces the batch size of all of them.

    >>> from npconv import shapes
    >>> [layer.name for layer in shapes.resolve("ic64ih56oc64kh3pt1", batch=2)]
    ['ic64ih56oc64kh3pt1']
    """
    items = [problems] if isinstance(problems, str | os.PathLike) else list(problems)
    found: list[Layer] = []
    for item in items:
        if not isinstance(item, str | os.PathLike):
            raise TypeError(f"expected a network's name, a descriptor string or a file, got {type(item).__name__}")
        found += _resolve_one(os.fspath(item))
    return _distinct(found, batch)


def _resolve_one(item: str) -> list[Layer]:
    if item in networks():
        return _read(_folder() / f"{item}.txt")
    if item.endswith(".txt") or os.sep in item:
        return _read(Path(item))
    try:
        return [Layer(str(_npconv.parse_descriptor(item)["descriptor"]), item)]
    except ValueError as error:
        if re.search(r"(?:^|_)ic\d", item):
            raise
        raise ValueError(f"{_unknown(item)}; it is no descriptor string either: {error}") from None


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, networks(), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"there is no built-in network {name!r}{hint}; there are {', '.join(networks())}"


def _read(file: Path) -> list[Layer]:
    layers = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        descriptor, _, comment = line.partition("#")
        if not descriptor.strip():
            continue
        try:
            canonical = str(_npconv.parse_descriptor(descriptor.strip())["descriptor"])
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from None
        name = comment.strip()
        repeated = re.search(r"\s*\bx(\d{1,4})$", name)
        count = max(1, int(repeated[1])) if repeated else 1
        name = name[: repeated.start()] if repeated else name
        layers.append(Layer(canonical, name or descriptor.strip(), count))
    return layers


def _distinct(layers: Iterable[Layer], batch: int | None) -> list[Layer]:
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    known: dict[str, Layer] = {}
    for layer in layers:
        text = layer.descriptor
        if batch is not None:
            text = str(_npconv.parse_descriptor(re.sub(r"(?<=_)mb\d+(?=_)", f"mb{batch}", text, count=1))["descriptor"])
        first = known.get(text)
        count = layer.count + (first.count if first else 0)
        known[text] = Layer(text, first.name if first else layer.name, count)
    return list(known.values())
