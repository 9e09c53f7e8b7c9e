"""The map in cpp/ARCHITECTURE.md, kept true: sizes, directions of includes, what kernels may touch, links, symbols."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "cpp").is_dir():
    pytest.skip("the sources are not beside the tests", allow_module_level=True)

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 600, 60
ROOMS = ["core", "isa", "threading", "strip", "gemm", "algorithms", "tuner", "dispatch", "bindings"]  # lower ones first
TOP = {
    "pyproject.toml", "CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
    ".ci", ".github", ".clang-format", ".clang-tidy", ".pre-commit-config.yaml", ".gitignore", ".gitattributes",
    "cpp", "python", "tests", "bench", "third_party",
}

CPP = sorted(p for suffix in ("cpp", "hpp", "inc") for p in (ROOT / "cpp").rglob(f"*.{suffix}"))
PYTHON = sorted(p for folder in ("python", "tests", "bench") for p in (ROOT / folder).rglob("*.py"))
TEXTS = [p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "cpp" / "ARCHITECTURE.md",
                     ROOT / "third_party" / "README.md", ROOT / "bench" / "README.md") if p.exists()]


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_kernel(path: Path) -> bool:
    return path.name.startswith("kernel") or (path.name.startswith("simd") and path.suffix == ".hpp")


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("path", CPP + PYTHON, ids=short)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) < MOST_LINES


def without_comments(text: str) -> str:
    """The same lines with comments and literals blanked."""
    pattern = r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''
    text = re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.M)


def cpp_functions(text: str) -> list[tuple[str, int, int]]:
    """(head, first line, last line) of every function that isn't inside another."""
    text = without_comments(text)
    found, stack, head = [], [], 0
    for at, char in enumerate(text):
        if char == ";" and (not stack or stack[-1][0] == "scope"):
            head = at + 1
        elif char == "{":
            before = text[head:at]
            outer = not stack or stack[-1][0] == "scope"
            kind = "inner"
            if outer and re.search(r"\b(namespace|class|struct|union|enum|extern)\b[^()=]*$", before):
                kind = "scope"
            elif outer and re.search(r"\)\s*(noexcept\s*)?:[^:].*[\w>]$", before, re.S):
                kind = "member"  # its braces belong to the head of a constructor
            elif outer and re.search(r"\)[^=;]*$", before):
                kind = "function"
            start = head + len(before) - len(before.lstrip())
            stack.append((kind, start, " ".join(before.split())))
            if kind == "scope":
                head = at + 1
        elif char == "}":
            kind, start, title = stack.pop()
            if kind == "function":
                found.append((title, text.count("\n", 0, start) + 1, text.count("\n", 0, at) + 1))
            if kind != "member" and (not stack or stack[-1][0] == "scope"):
                head = at + 1
    assert not stack, "the braces don't match"
    return found


@pytest.mark.parametrize("path", [p for p in CPP if not is_kernel(p) and p.suffix != ".inc"], ids=short)
def test_cpp_functions_are_short(path):
    long = [f"{last - first + 1} lines: {title}" for title, first, last in cpp_functions(path.read_text())
            if last - first + 1 >= MOST_LINES_OF_A_FUNCTION]
    assert not long


def test_the_scanner_finds_functions():
    text = "namespace a {\nstruct S {\n  S() : x_{1} {\n  }\n  int x_;\n};\nconst int t[] = {1, 2};\nint f(int a)\n{\n" \
           "  auto g = [](int) { return 1; };\n  if (a) { // }\n    return '}';\n  }\n  return 0;\n}\n}\n"
    assert [(first, last) for _, first, last in cpp_functions(text)] == [(3, 4), (8, 15)]


def python_functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of every function, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                lines -= (first.end_lineno or 0) - first.lineno + 1
            found.append((node.name, lines))
    return found


@pytest.mark.parametrize("path", PYTHON, ids=short)
def test_python_functions_are_short(path):
    assert not [f for f in python_functions(path) if f[1] >= MOST_LINES_OF_A_FUNCTION]


# ---------------------------------------------------------------- rooms


def includes(path: Path) -> tuple[list[str], list[str]]:
    """(quoted, angled) names, whatever #if they stand under."""
    text = path.read_text()
    return (re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M), re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.M))


def room(name: str) -> str:
    first = name.split("/")[0]
    return "core" if first == "npconv" else first  # public headers know nothing of the rooms


def room_of_file(path: Path) -> str:
    parts = path.relative_to(ROOT / "cpp").parts
    return parts[1] if parts[0] == "src" else "core" if parts[0] == "include" else parts[0]


def find(name: str, of: Path) -> Path | None:
    return next((p for p in (of.parent / name, ROOT / "cpp/src" / name, ROOT / "cpp/include" / name, ROOT / "cpp" / name)
                 if p.exists()), None)


@pytest.mark.parametrize("path", CPP, ids=short)
def test_includes_go_one_way(path):
    mine = room_of_file(path)
    assert mine in ROOMS or mine == "ops", f"{mine} is not a room of cpp/ARCHITECTURE.md"
    rank = ROOMS.index("algorithms" if mine == "ops" else mine)
    for name in includes(path)[0]:
        found = find(name, path)
        assert found, f'"{name}" does not exist'
        other = room_of_file(found)
        assert ROOMS.index("algorithms" if other == "ops" else other) <= rank, f"{mine} includes {name}"
        if path.is_relative_to(ROOT / "cpp/include"):
            assert found.is_relative_to(ROOT / "cpp/include"), f"a public header includes {name}"


@pytest.mark.parametrize("path", [p for p in CPP if room_of_file(p) == "algorithms"], ids=short)
def test_algorithms_do_not_know_each_other(path):
    parts = path.relative_to(ROOT / "cpp/src/algorithms").parts
    for name in includes(path)[0]:
        other = (find(name, path) or path).relative_to(ROOT / "cpp")
        if other.parts[:2] == ("src", "algorithms") and len(other.parts) > 3 and len(parts) > 1:
            assert other.parts[2] in (parts[0], "repair"), f"{parts[0]} includes {name}"


@pytest.mark.parametrize("path", CPP, ids=short)
def test_only_threading_knows_openmp(path):
    if room_of_file(path) != "threading":
        assert "omp.h" not in includes(path)[1]
        assert not re.search(r"#\s*pragma\s+omp", path.read_text())


@pytest.mark.parametrize("path", CPP, ids=short)
def test_only_bindings_know_python(path):
    if room_of_file(path) != "bindings":
        assert not [n for n in includes(path)[1] if "pybind11" in n or n == "Python.h" or "numpy" in n]


KERNELS = [p for p in CPP if p.name.startswith("kernel") and p.suffix == ".cpp"]
INTRINSICS = {"immintrin.h", "arm_neon.h", "arm_sve.h"}


def reachable(path: Path, seen: dict[Path, list[str]]) -> dict[Path, list[str]]:
    if path not in seen:
        quoted, seen[path] = includes(path)
        for name in quoted:
            found = find(name, path)
            assert found, f'{short(path)}: "{name}" does not exist'
            reachable(found, seen)
        if path.name == "this_isa.hpp":  # includes through a macro, one folder for each level
            for simd in sorted((ROOT / "cpp/src/isa").glob("*/simd.hpp")):
                reachable(simd, seen)
    return seen


@pytest.mark.parametrize("path", KERNELS, ids=short)
def test_kernels_reach_no_library_code(path):
    """An inline function of the STL compiled with AVX-512 flags may be the copy that the linker keeps for all CPUs."""
    for file, angled in reachable(path, {}).items():
        bad = set(angled) - {"cstddef", "cstdint"} - INTRINSICS
        assert not bad, f"{short(file)} includes {bad}"
    assert "NPCONV_THIS_ISA" in path.read_text()
    assert not re.search(r"\bstatic\s+(?!constexpr|const\b|inline|void|bool|int\b|float|double|std::)\w+\s+\w+\s*[({;=]",
                         without_comments(path.read_text()))


@pytest.mark.parametrize("path", CPP, ids=short)
def test_intrinsics_stay_with_the_isa(path):
    if room_of_file(path) != "isa" and not is_kernel(path):
        assert not (set(includes(path)[1]) & (INTRINSICS | {"xmmintrin.h", "emmintrin.h", "x86intrin.h"})) \
            or room_of_file(path) == "threading"  # which sets the flush-to-zero bits


def test_every_algorithm_has_its_row_and_folder():
    rows = re.findall(r"NPCONV_ALGORITHM\((\w+)\)", (ROOT / "cpp/src/algorithms/list.inc").read_text())
    folders = {p.name for p in (ROOT / "cpp/src/algorithms").iterdir() if p.is_dir()}
    assert set(rows) == folders - {"repair"}


# ---------------------------------------------------------------- the tree


def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"git ls-files: {listed.stderr.strip()}")
    return listed.stdout.splitlines()


def test_nothing_new_at_the_top():
    assert {name.split("/")[0] for name in tracked()} <= TOP


def test_no_binaries_are_tracked():
    assert not [name for name in tracked() if name.endswith((".so", ".o", ".a", ".whl", ".pyc"))]


@pytest.mark.parametrize("path", CPP + PYTHON + TEXTS, ids=short)
def test_no_unfinished_marks(path):
    marks = re.findall(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b", path.read_text())
    assert not marks


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", TEXTS, ids=short)
def test_links_lead_somewhere(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{short(path)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+\s+(.*)$", file.read_text(), re.M)
            assert anchor in {slug(h) for h in headings}, f"{short(path)} links to {target}"


@pytest.mark.parametrize("path", TEXTS, ids=short)
def test_named_files_exist(path):
    bases = [ROOT, path.parent, ROOT / "cpp", ROOT / "python", ROOT / "cpp/src", ROOT / "cpp/include", ROOT / "python/npconv", ROOT / "bench"]
    for name in re.findall(r"`([\w./]+/[\w.]+\.(?:cpp|hpp|inc|py|cmake|md|txt|toml|json))`", path.read_text()):
        assert any((base / name).exists() for base in bases), f"{short(path)} names {name}"


def test_the_map_is_short():
    architecture = ROOT / "cpp" / "ARCHITECTURE.md"
    assert len(architecture.read_text().splitlines()) <= 150


# ---------------------------------------------------------------- symbols


def build_folder() -> Path:
    # Installing from this folder leaves its objects in build/<wheel tag>; NPCONV_OBJECTS names another build.
    builds = [p for p in (ROOT / "build").glob("cp*") if any(p.rglob("*npconv_scalar.dir"))]
    build = os.environ.get("NPCONV_OBJECTS") or max(builds, key=lambda p: p.stat().st_mtime, default=None)
    if not build:
        pytest.skip("no objects: install from this folder, or name a build folder in NPCONV_OBJECTS")
    if not shutil.which("nm") or not shutil.which("objdump"):
        pytest.skip("binutils are missing")
    return Path(build)


def isa_objects() -> list[Path]:
    build = build_folder()
    levels = re.findall(r"NPCONV_ISA\((\w+)\)", (ROOT / "cpp/src/isa/list.inc").read_text())
    objects = [o for level in levels for o in sorted(build.rglob(f"*npconv_{level}.dir/**/*.o"))]
    assert len(objects) >= len(KERNELS), f"{build} holds no ISA objects"
    return objects


def test_isa_objects_have_no_weak_symbols():
    """A weak symbol exists once in the binary: the copy that wins may use instructions that the CPU lacks."""
    weak = []
    for path in isa_objects():
        listing = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        weak += [f"{path.name}: {line}" for line in listing.splitlines() if re.match(r"^[0-9a-f ]{16} [WwVvuU] ", line)
                 and not re.match(r"^ {16} U ", line)]
    assert not weak


def test_isa_objects_run_nothing_at_load_time():
    for path in isa_objects():
        sections = subprocess.run(["objdump", "-h", str(path)], capture_output=True, text=True, check=True).stdout
        assert not re.search(r"\.(init_array|ctors|preinit_array|tbss|tdata)\b", sections), path.name


def test_isa_objects_call_nothing_but_memory_functions():
    allowed = re.compile(r"^(memcpy|memset|memmove|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|fmaf?)$")
    for path in isa_objects():
        listing = subprocess.run(["nm", "-u", str(path)], capture_output=True, text=True, check=True).stdout
        names = [line.split()[-1] for line in listing.splitlines() if line.strip()]
        assert not [n for n in names if not allowed.match(n)], path.name


def test_objects_are_small():
    objects = list(build_folder().rglob("*.o"))
    assert len(objects) > len(isa_objects())
    assert {path.name: path.stat().st_size for path in objects if path.stat().st_size > 400 * 1024} == {}
