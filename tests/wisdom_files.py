"""What the tests of the wisdom file share: entries, files with chosen lines, and the stand-in extension."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fake_extension import CONSTANTS, FakeExtension
from npconv import _wisdom_file, wisdom
from npconv._wisdom_file import Entry


def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeExtension:
    """Put the stand-in under the wisdom module, with a folder of its own, as in a new process."""
    extension = FakeExtension()
    extension.candidate_list += [("direct", "rows=2", 1.0)]
    monkeypatch.setattr(wisdom, "_npconv", extension)
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NPCONV_WISDOM", raising=False)
    new_process(monkeypatch)
    return extension


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process knows about the file, as a new one would."""
    monkeypatch.setattr(wisdom, "_state", wisdom._State())
    wisdom._npconv.wisdom_clear()
    wisdom._npconv.set_machine_constants(CONSTANTS)


def entry(size: int = 10, **changes: Any) -> Entry:
    descriptor = FakeExtension().wisdom_key(f"ic8ih{size}oc8kh3")
    made: dict[str, Any] = {
        "descriptor": descriptor,
        "isa": "avx2",
        "threads": 2,
        "algorithm": "im2col",
        "revision": 1,
        "parameters": "nc=1",
        "seconds": 1e-3,
        "rigor": "measure",
        "time": 1e9,
    }
    return Entry(**{**made, **changes})  # type: ignore[typeddict-item]


def wisdom_file() -> Path:
    file = wisdom.path()
    assert file is not None
    return file


def write_lines(*lines: str | dict[str, Any], fingerprint: dict[str, Any] | None = None) -> Path:
    """Write a file with a good header and these lines."""
    own = fingerprint or wisdom._npconv.fingerprint()
    text = _wisdom_file.dump(_wisdom_file.Content([], {}), own).decode()
    text += "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    file = wisdom_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@contextmanager
def one_warning(match: str = "") -> Iterator[None]:
    """Expects exactly one warning from the block."""
    with pytest.warns(wisdom.WisdomWarning, match=match) as caught:
        yield
    assert len(caught) == 1


def sizes() -> set[int]:
    """The problems that are known."""
    return {int(found["descriptor"].split("ih")[1].split("iw")[0]) for found in wisdom.entries()}
