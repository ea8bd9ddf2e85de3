"""What the README says can be typed: its blocks run, in order, in a folder with what they mention."""

from __future__ import annotations

import os
import pathlib
import re
import stat
import subprocess
import sys

import pytest

from tests.capture import BLOCK, README, REPOSITORY

SH = re.compile(r"(?P<mark><!-- [^\n]* -->\n)?```sh\n(?P<lines>.*?)```", re.DOTALL)
NOT_OURS = ("pipx", "sudo", "echo 'z /sys", "python3 -m venv")
"""Lines that install or change the machine; the two commands that set up a clone are run by .ci/run."""


def blocks() -> list[str]:
    text = README.read_text()
    return [match["lines"] for match in SH.finditer(text) if not match["lines"].startswith(NOT_OURS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A project as the README supposes one: train.py, a Makefile, and `emt` on the path."""
    path = tmp_path_factory.mktemp("project")
    (path / "train.py").write_text("print(sum(range(100_000)))\n")
    (path / "infer.py").write_text("print(sum(range(100_000)))\n")
    (path / "Makefile").write_text("all:\n\t@true\ntest:\n\t@true\n")
    (path / "bin").mkdir()
    (path / "solve").write_text("#!/bin/sh\nexec sleep 0.05\n")
    (path / "solve").chmod(0o755)
    for name, words in (("emt", f'{sys.executable} -m emt_cli "$@"'), ("python", f'{sys.executable} "$@"')):
        script = path / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {words}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.splitlines()[0][:40])
def test_a_block_of_the_readme_runs_as_typed(block: str, folder: pathlib.Path) -> None:
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "TZ": "UTC",
    }
    done = subprocess.run(
        ["sh", "-euc", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_there_are_blocks_to_run() -> None:
    assert len(blocks()) >= 5


def test_the_capture_is_one_of_todays_summaries() -> None:
    match = BLOCK.search(README.read_text())
    assert match is not None
    shown = match["shown"]
    assert shown.startswith(f"$ {match['command']}\n")
    for label in ("energy", "machine", "power", "devices", "cpu", "CO2e", "like", "emt", "record"):
        assert re.search(rf"^  {label} ", shown, re.MULTILINE), label
    assert max(map(len, shown.splitlines())) <= 80


def test_the_files_that_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (REPOSITORY / target).exists(), target
