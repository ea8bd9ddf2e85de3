"""The list of faults in this package's docstring, and the tests that it promises."""

from __future__ import annotations

import pathlib
import re

import pytest

import tests.faults

TESTS = pathlib.Path(__file__).parents[1]
LINES = re.findall(r"^- (.+?): ((?:\S+\.py ?)+)$", tests.faults.__doc__ or "", re.MULTILINE)


def test_every_line_of_the_list_names_its_tests() -> None:
    assert len(LINES) == (tests.faults.__doc__ or "").count("\n- ")
    assert len(LINES) >= 26


@pytest.mark.parametrize("files", [files for _, files in LINES], ids=[fault for fault, _ in LINES])
def test_the_tests_are_there(files: str) -> None:
    for name in files.split():
        assert "\ndef test_" in (TESTS / name).read_text()


def test_every_file_of_faults_is_in_the_list() -> None:
    named = {name for _, files in LINES for name in files.split()}
    here = {f"faults/{path.name}" for path in TESTS.glob("faults/test_*.py")}
    assert here - named == {"faults/test_index.py"}
