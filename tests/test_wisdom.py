"""What is remembered, and that nothing which can stand in the wisdom file hurts: at most one warning."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_extension import CONSTANTS, FakeExtension
from npconv import _wisdom_file, wisdom
from wisdom_files import entry, install, new_process, one_warning, sizes, wisdom_file, write_lines

PROBLEM = "ic8ih10oc8kh3"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeExtension:
    return install(monkeypatch, tmp_path)


# The good case


def test_saved_entries_and_constants_are_read_by_the_next_process(
    fake: FakeExtension, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wisdom.entries() == []
    assert wisdom.save([entry(10), entry(11)])
    assert wisdom.learn_constants({"fma_f32": 90e9, "l2_bytes": 2e6})
    new_process(monkeypatch)
    assert sizes() == {10, 11}
    assert wisdom.machine_is_measured()
    assert fake.constants == {"fma_f32": 90e9, "l2_bytes": 2e6}
    assert wisdom.entries()[0] == entry(10)
    assert sorted(file.suffix for file in wisdom_file().parent.iterdir()) == [".jsonl", ".lock"]


def test_constants_belong_to_an_isa_level(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.learn_constants({"fma_f32": 90e9, "l2_bytes": 2e6})
    new_process(monkeypatch)
    fake.level = "avx512"
    wisdom.load()
    assert not wisdom.machine_is_measured()
    wisdom.learn_constants({"fma_f32": 180e9, "l2_bytes": 2e6})
    new_process(monkeypatch)
    fake.level = "avx2"
    wisdom.load()
    assert fake.constants["fma_f32"] == 90e9


def test_a_line_is_readable_json(fake: FakeExtension) -> None:
    wisdom.save([entry()])
    header, line = map(json.loads, wisdom_file().read_text().splitlines())
    assert header["fingerprint"]["vendor"] == "fake"
    assert header["machine"] == "Fake CPU"
    assert line == entry()


def test_merging(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(rigor="exhaustive", seconds=1.0, time=1.0)])
    wisdom.save([entry(rigor="measure", seconds=2.0, time=2.0)])
    new_process(monkeypatch)
    assert [found["seconds"] for found in wisdom.entries()] == [1.0]
    wisdom.save([entry(rigor="exhaustive", seconds=3.0, time=3.0), entry(threads=1), entry(isa="avx512")])
    new_process(monkeypatch)
    assert sorted(found["seconds"] for found in wisdom.entries()) == [1e-3, 1e-3, 3.0]


def test_entries_of_other_versions_stay_in_the_file_until_replaced(
    fake: FakeExtension, monkeypatch: pytest.MonkeyPatch
) -> None:
    wisdom.save([entry(10, revision=7, rigor="exhaustive"), entry(11, algorithm="future")])
    new_process(monkeypatch)
    assert wisdom.entries() == []
    wisdom.save([entry(10, time=1.0)])
    kept = _wisdom_file.parse(wisdom_file().read_bytes(), fake.fingerprint()).entries
    assert {(found["algorithm"], found["revision"]) for found in kept} == {("im2col", 1), ("future", 1)}


def test_forget(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(10), entry(10, threads=1), entry(11)])
    wisdom.learn_constants({"fma_f32": 90e9, "l2_bytes": 2e6})
    new_process(monkeypatch)
    assert wisdom.forget(PROBLEM) == 2
    assert sizes() == {11}
    new_process(monkeypatch)
    assert sizes() == {11}
    assert wisdom.forget() == 1
    assert wisdom.entries() == []
    assert not wisdom.machine_is_measured()
    assert fake.constants == CONSTANTS
    new_process(monkeypatch)
    assert wisdom.entries() == []
    assert not wisdom.machine_is_measured()


def test_export_and_import(fake: FakeExtension, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(10), entry(11)])
    new_process(monkeypatch)
    file = tmp_path / "exported.jsonl"
    text = wisdom.export(file)
    assert file.read_text() == text
    wisdom.forget()
    assert wisdom.import_(file) == (2, 0)
    new_process(monkeypatch)
    assert sizes() == {10, 11}
    wisdom.forget()
    bad = json.dumps(entry(12, revision=9)) + "\nnonsense\n" + json.dumps(entry(13, parameters="nc=9999")) + "\n"
    assert wisdom.import_(text + bad) == (2, 3)
    new_process(monkeypatch)
    assert sizes() == {10, 11}
    with pytest.raises(FileNotFoundError):
        wisdom.import_(tmp_path / "none")
    with pytest.raises(OSError, match="not a regular file"):
        wisdom.import_(tmp_path)
    fake.model = 2
    assert wisdom.import_(text) == (0, 2)


# Switches and folders


def test_off_neither_reads_nor_writes(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(10)])
    before = wisdom_file().read_bytes()
    for value in ("0", "off"):
        monkeypatch.setenv("NPCONV_WISDOM", value)
        new_process(monkeypatch)
        assert wisdom.entries() == []
        assert not wisdom.save([entry(11)])
        assert wisdom.forget() == 0
        assert wisdom_file().read_bytes() == before


def test_readonly_reads_only(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(10)])
    before = wisdom_file().read_bytes()
    monkeypatch.setenv("NPCONV_WISDOM", "readonly")
    new_process(monkeypatch)
    assert sizes() == {10}
    assert not wisdom.save([entry(11)])
    assert wisdom.forget() == 1
    assert wisdom_file().read_bytes() == before


def test_unknown_switch_warns_once_and_writes_nothing(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPCONV_WISDOM", "maybe")
    with one_warning("maybe"):
        wisdom.load()
        assert not wisdom.save([entry(10)])
    assert not wisdom_file().exists()


def test_default_folder_is_the_users_cache(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPCONV_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert wisdom_file().parent == Path("/some/where/npconv")


def test_no_home_means_no_file(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NPCONV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown_user(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown_user)
    assert wisdom.path() is None
    assert wisdom.entries() == []
    with one_warning("NPCONV_CACHE_DIR"):
        assert not wisdom.save([entry(10)])
        assert not wisdom.save([entry(11)])
    assert list(tmp_path.iterdir()) == []


# What can stand in the file

HOSTILE = {
    "huge threads": {"threads": 10**9},
    "negative threads": {"threads": -1},
    "zero threads": {"threads": 0},
    "true threads": {"threads": True},
    "float threads": {"threads": 2.0},
    "NaN": {"seconds": float("nan")},
    "infinity": {"seconds": float("inf")},
    "negative time": {"seconds": -1.0},
    "zero time": {"seconds": 0.0},
    "time as text": {"seconds": "1"},
    "huge integer": {"seconds": 10**400},
    "huge revision": {"revision": 2**63},
    "text revision": {"revision": "1"},
    "unknown rigor": {"rigor": "estimate"},
    "list rigor": {"rigor": ["measure"]},
    "null algorithm": {"algorithm": None},
    "list algorithm": {"algorithm": ["im2col"]},
    "long parameters": {"parameters": "nc=1" * 1000},
    "control characters": {"parameters": "nc=1\n\0"},
    "not ASCII": {"parameters": "nc=\u0661"},
    "null stamp": {"time": None},
    "NaN stamp": {"time": float("nan")},
    "empty descriptor": {"descriptor": ""},
    "number descriptor": {"descriptor": 12},
    "dictionary descriptor": {"descriptor": {"ic": 1}},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_values_never_reach_the_table(fake: FakeExtension, change: dict[str, Any]) -> None:
    write_lines({**entry(10), **change}, dict(entry(11)))
    with one_warning("1 damaged"):
        assert sizes() == {11}


@pytest.mark.parametrize(
    "line",
    [
        "[" * 4000,
        '{"a":' * 800,
        "null",
        "1",
        '"text"',
        "[]",
        "{}",
        "\x00" * 100,
        "1" * 4090,
        "x" * 10_000_000,
        "\udcff",
        json.dumps(entry(13)) + " " * 5000,
    ],
    ids=[
        "deep list",
        "deep dictionary",
        "null",
        "number",
        "text",
        "list",
        "empty",
        "zeros",
        "digits",
        "long",
        "not UTF-8",
        "padded",
    ],
)
def test_damaged_lines_are_left_out(fake: FakeExtension, line: str) -> None:
    file = write_lines(dict(entry(10)))
    file.write_bytes(file.read_bytes() + line.encode(errors="surrogateescape") + b"\n" + json.dumps(entry(11)).encode())
    with one_warning("1 damaged"):
        assert sizes() == {10, 11}
    assert wisdom.save([entry(12)])
    assert _wisdom_file.parse(file.read_bytes(), fake.fingerprint()).damaged == 0
    assert line.encode(errors="surrogateescape") in file.with_name(file.name + ".damaged").read_bytes()


@pytest.mark.parametrize(
    "constants",
    [
        {"fma_f32": float("nan"), "l2_bytes": 1e6},
        {"fma_f32": -1.0, "l2_bytes": 1e6},
        {"fma_f32": 1e29, "l2_bytes": 1e6},
        {"fma_f32": 0.0, "l2_bytes": 1e6},
        {"fma_f32": 90e9},
        {"fma_f32": 90e9, "l2_bytes": 1e6, "more": 1.0},
        {"fma_f32": "fast", "l2_bytes": 1e6},
        {"fma_f32": [1.0], "l2_bytes": 1e6},
        [],
        None,
    ],
)
@pytest.mark.filterwarnings("ignore::npconv.wisdom.WisdomWarning")
def test_hostile_constants_are_not_used(fake: FakeExtension, constants: Any) -> None:
    write_lines({"isa": "avx2", "constants": constants}, dict(entry(10)))
    assert sizes() == {10}
    assert fake.constants == CONSTANTS
    assert not wisdom.machine_is_measured()


def test_time_in_the_future_does_not_win_for_ever(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(dict(entry(10, time=9e11, seconds=1.0)))
    wisdom.save([entry(10, time=time.time() + 1, seconds=2.0)])
    new_process(monkeypatch)
    assert [found["seconds"] for found in wisdom.entries()] == [2.0]


def test_file_of_another_machine_is_not_used_and_not_lost(fake: FakeExtension) -> None:
    file = write_lines(dict(entry(10)), fingerprint={"vendor": "other", "brand": "Other CPU"})
    foreign = file.read_bytes()
    with one_warning("another machine"):
        assert wisdom.entries() == []
    assert wisdom.save([entry(11)])
    assert file.with_name(file.name + ".damaged").read_bytes() == foreign


def test_machines_have_files_of_their_own(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    wisdom.save([entry(10)])
    fake.model = 2
    new_process(monkeypatch)
    assert wisdom.entries() == []
    wisdom.save([entry(11)])
    fake.model = 1
    new_process(monkeypatch)
    assert sizes() == {10}


def test_every_truncation_is_survived(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_lines(dict(entry(10)), dict(entry(11)))
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        new_process(monkeypatch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert sizes() <= {10, 11}
        assert len(caught) <= 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_survived(fake: FakeExtension, data: st.DataObject) -> None:
    file = write_lines(dict(entry(10)), {"isa": "avx2", "constants": {"fma_f32": 90e9, "l2_bytes": 2e6}})
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        content += b"\n"
    file.write_bytes(content)
    wisdom._state = wisdom._State()
    fake.wisdom_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for found in wisdom.entries():
            assert 1e-10 <= found["seconds"] <= 1e6
            assert found["revision"] == 1
        assert wisdom.save([entry(12)])
    assert len(caught) <= 1


def test_an_extension_that_raises_is_survived(fake: FakeExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    update = fake.wisdom_update

    def picky(entries: list[dict[str, Any]]) -> tuple[int, int]:
        if any("ih11" in found["descriptor"] for found in entries):
            raise ValueError("no such problem")
        return update(entries)

    monkeypatch.setattr(fake, "wisdom_update", picky)
    write_lines(dict(entry(10)), dict(entry(11)), dict(entry(12)))
    assert sizes() == {10, 12}
