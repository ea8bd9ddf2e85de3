"""What a step of a GitHub workflow leaves behind, as GitHub's runner reads it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from emt_cli.exporters import github
from emt_cli.model import Notice
from tests.reports import conftest

COMMAND = re.compile(r"::(?P<kind>notice|warning) title=(?P<title>[^:,\r\n]*)::(?P<text>[^\r\n]*)")


def read(text: str) -> list[tuple[str, str, str]]:
    """The workflow commands; every line is one, and is read back as the runner reads it."""
    found = []
    for line in text.splitlines():
        match = COMMAND.fullmatch(line)
        assert match, line
        found.append((match["kind"], _plain(match["title"]), _plain(match["text"])))
    return found


def _plain(text: str) -> str:
    for escaped, letter in (("%3A", ":"), ("%2C", ","), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(escaped, letter)
    return text


def test_the_energy_is_a_notice() -> None:
    [first, *_] = read(github.commands(conftest.measured()))
    assert first[:2] == ("notice", "Energy")
    assert "1.819 kJ ± 0.091" in first[2]
    assert "measured" in first[2]
    assert "22.3 mg CO2e" in first[2]


def test_a_failed_command_is_told_with_its_joules() -> None:
    assert "end: 1" in read(github.commands(conftest.estimated()))[0][2]


def test_warnings_are_annotations_and_those_of_every_runner_are_notices() -> None:
    told = read(github.commands(conftest.estimated()))
    kinds = {title: kind for kind, title, _ in told}
    assert kinds["emt estimated"] == "notice"
    assert kinds["emt stolen_time"] == "warning"
    assert any("allow perf" in text for _, _, text in told)


def test_no_more_annotations_than_github_shows() -> None:
    notices = tuple(Notice(code="coverage", text=f"number {at}") for at in range(40))
    told = read(github.commands(replace(conftest.measured(), notices=notices)))
    assert sum(kind == "warning" for kind, _, _ in told) <= 10


def test_a_line_break_in_a_record_is_no_command_of_its_own() -> None:
    notices = (Notice(code="x\n::error::y", text="50 % done\n::add-mask::secret\r\n::error::z"),)
    run = replace(conftest.measured(), name="a\n::stop-commands::b", notices=notices)
    told = read(github.commands(run))
    assert len(told) == 2
    assert told[1][2].startswith("50 % done ")


def test_outputs_are_numbers_a_line_each() -> None:
    lines = dict(line.split("=", 1) for line in github.outputs(conftest.estimated()).splitlines())
    assert float(lines["energy_j"]) == 41.3
    assert float(lines["co2e_g"]) == 0.00051
    assert lines["provenance"] == "estimated"


def test_what_is_unknown_is_no_output() -> None:
    assert github.outputs(conftest.bare()) == "duration_s=0.0\n"


def test_the_summary_is_a_table_whose_cells_stay_their_own() -> None:
    run = replace(conftest.measured(), command=("sh", "-c", "echo `id` | <b>x</b>"))
    text = github.summary(run)
    assert text.startswith("### `` sh -c 'echo `id` | <b>x</b>' ``\n")
    assert "| device | command |" in text
    assert text.endswith("\n\n")


@pytest.mark.parametrize("name", conftest.ALL)
def test_any_record_keeps_to_the_protocol(name: str) -> None:
    run = conftest.ALL[name]()
    assert read(github.commands(run))
    for line in github.outputs(run).splitlines():
        assert re.fullmatch(r"[a-z0-9_]+=[a-z0-9.+-]+", line)
    assert github.summary(run)
