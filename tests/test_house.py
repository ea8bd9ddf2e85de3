"""The rules of the house, read from the code: who imports whom, what importing does, what is swallowed."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "emt_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "units", "values", "model", "notices", "data"}
"""Values, words and tables: everybody may use them."""

MAY_IMPORT = {
    "units": set(),
    "errors": set(),
    "values": set(),
    "model": {"units", "values"},
    "notices": {"model"},
    "data": {"errors", "units", "data"},
    "quantities": {"errors", "units"},
    "perf_event": set(),
    "proc_stat": set(),
    "sensors": GROUND | {"sensors", "perf_event", "proc_stat"},
    "measure": GROUND | {"measure", "sensors.base", "sensors.meters", "perf_event", "proc_stat"},
    "analysis": GROUND | {"analysis"},
    "reports": GROUND | {"reports", "analysis"},
    "config": GROUND | {"config"},
    "host": GROUND | {"", "proc_stat"},
    "doctor": GROUND | {"doctor", "sensors", "host", "perf_event"},
    "store": GROUND | {"store"},
    "drafting": GROUND | {"config", "host", "analysis", "sensors", "store"},
    "api": GROUND | {"measure", "sensors", "analysis", "config", "drafting", "store"},
    "integrations": GROUND | {"api", "store", "analysis", "integrations", "sensors.base"},
    "exporters": GROUND | {"exporters", "api", "store", "analysis", "reports"},
}
"""Rooms that are not named here (commands, __main__) may import everything; nobody imports commands."""

ONLY_HERE = {
    "typer": {"commands"},
    "rich": {"commands", "reports/text.py"},
    "pynvml": {"sensors/nvml"},
    "pyrsmi": {"sensors/amd"},
}


def name_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: pathlib.Path) -> Iterator[str]:
    """Full names of what a module imports, also inside functions, but not for type checkers only."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_down(path: pathlib.Path) -> None:
    room = name_of(path).removesuffix(".py").split("/")[0]
    if room not in MAY_IMPORT:
        return
    for full in imports(path):
        if not full.startswith("emt_cli"):
            continue
        inner = full.removeprefix("emt_cli").removeprefix(".")
        allowed = MAY_IMPORT[room]
        assert inner in ("", "__version__") or any(
            inner == each or inner.startswith(each + ".") for each in allowed if each
        ), f"{name_of(path)} imports {full}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_stay_in_their_rooms(path: pathlib.Path) -> None:
    for full in imports(path):
        rooms = ONLY_HERE.get(full.split(".")[0])
        assert rooms is None or any(name_of(path).startswith(room) for room in rooms), full


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_broad_except_swallows(path: pathlib.Path) -> None:
    """Except where another package's code is called, and what it raised is kept by name."""
    allowed = {"sensors/opening.py", "sensors/guarded.py"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            is_broad = caught == "everything" or "Exception" in caught.replace("_ClickException", "")
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert not is_broad or raises or name_of(path) in allowed, f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_lives_in_it(path: pathlib.Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), name_of(path)


def test_importing_any_module_opens_no_file_starts_no_thread_and_reads_no_variable() -> None:
    """Files of Python itself and extension modules aside."""
    script = """
import os, sys, threading
opened, read = [], []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
import emt_cli, pathlib, importlib
real = type(os.environ).__getitem__
type(os.environ).__getitem__ = lambda self, key: (read.append(key), real(self, key))[1]
names = sys.argv[1:]
libraries = ("typer", "rich", "psutil", "ctypes", "json", "csv", "tomllib", "tempfile", "datetime", "pwd",
             "resource", "difflib", "statistics", "shutil", "threading", "importlib.metadata")
for each in libraries:
    importlib.import_module(each)
opened.clear(); read.clear()
for name in names:
    importlib.import_module(name)
ours = [str(path) for path in opened if not str(path).endswith((".py", ".pyc", ".so", "__pycache__"))
        and not str(path).isdigit() and ".pyc." not in str(path)]
assert not ours, ours
assert not read, read
assert threading.active_count() == 1
"""
    names = [
        "emt_cli." + name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in MODULES
        if name_of(path) not in ("__init__.py", "__main__.py")
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_warning_code_is_raised_somewhere() -> None:
    from emt_cli.notices import CODES

    code = "\n".join(path.read_text() for path in MODULES if path.name != "notices.py")
    assert [each for each in sorted(CODES) if f'"{each}"' not in code] == []
