"""The tables on a terminal: what they say, and that nothing of a record gets out of its place."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from emt_cli.model import Phase, Run
from emt_cli.reports import text
from emt_cli.reports.words import cells
from tests.reports import conftest


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_every_run_fits_every_width_and_encoding(any_run: Run, width: int, encoding: str) -> None:
    page = text.render(any_run, width=width, encoding=encoding)
    page.encode(encoding)
    assert page.endswith("\n") and not page.startswith("\n")
    for line in page.splitlines():
        assert line.isprintable() and line == line.rstrip()
        assert cells(line) <= max(width, 32)  # below 32 columns the numbers stay whole


def test_the_measured_run_is_told_in_full() -> None:
    page = text.render(conftest.measured())
    for expected in (
        "python train.py --epochs 3",
        "exit 0 in 12.3 s · 2025-01-02 10:11:12 UTC",
        "node17, Intel(R) Xeon(R) Gold 6248",
        "Energy  1.819 kJ ± 0.091 of the command, measured",
        "in cpu0/package",
        "rest of the machine",
        "python train.py --worker 0",
        "an allocation, not a",
        "44.2 g/kWh life-cycle (table: ember, 2024)",
        "lighting a 10 W LED bulb for 17 s (ADEME)",
        "driving 0.03 m in an average car (EPA)",
        "the driver does not tell processes apart",
        "idle policy busy",
        "20250102T101112Z-node17-4242",
        "█",
    ):
        assert expected in page


@pytest.mark.parametrize("width", [40, 80, 120])
def test_numbers_are_never_cut(width: int) -> None:
    page = text.render(conftest.measured(), width=width)
    assert "…" not in page
    assert "1.150 kJ" in page and "2.96 kJ" in page


def test_notes_stand_in_the_table_where_there_is_room_and_below_it_where_not() -> None:
    assert re.search(r"gpu0 .* measured +edge interpolated", text.render(conftest.measured(), width=120))
    assert re.search(r"^  gpu0  edge interpolated$", text.render(conftest.measured()), re.M)


@pytest.mark.parametrize("section", sorted(text.SECTIONS))
def test_show_leaves_the_other_sections_out(section: str) -> None:
    titles = {
        "energy": "\nEnergy  ",
        "executions": "\nOne execution\n",
        "phases": "\nPhases\n",
        "processes": "\nProcesses  ",
        "curve": "\nPower  ",
        "carbon": "\nCO2e  ",
        "warnings": "\nWarnings\n",
    }
    run = replace(conftest.repeated(), phases=(Phase(name="load", count=2, duration_s=1.0, cpu_s=0.5),))
    page = text.render(run, show=frozenset({section}))
    assert {name for name, title in titles.items() if title in page} == {section}


def test_states_are_marked() -> None:
    assert "RECOVERED" in text.render(conftest.recovered())
    assert "RUNNING" in text.render(conftest.bare())
    assert "killed by SIGKILL (9)" in text.render(conftest.killed())
    assert "slurm job 1234" in text.render(conftest.killed())


def test_unknown_energy_is_said_and_never_zero() -> None:
    page = text.render(conftest.bare())
    assert "Energy  unknown" in page
    assert not re.search(r"\b0(\.0+)? J", page)


def test_markup_in_names_is_shown_and_not_obeyed() -> None:
    page = text.render(conftest.hostile(), color=True)
    assert "[bold red]x[/] red" in page


def test_colour_is_there_only_when_asked_for_and_is_only_colour() -> None:
    assert "\x1b" not in text.render(conftest.hostile())
    page = text.render(conftest.hostile(), color=True)
    assert set(re.findall(r"\x1b.*?[a-zA-Z]", page)) <= set(re.findall(r"\x1b\[[0-9;]*m", page))
    assert re.sub(r"\x1b\[[0-9;]*m", "", page).replace("\n", "").isprintable()


def test_neither_the_environment_nor_a_terminal_decides_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [text.render(conftest.measured(), color=color, width=100) for color in (False, True)]
    for name, value in (("COLUMNS", "33"), ("TERM", "dumb"), ("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    assert [text.render(conftest.measured(), color=color, width=100) for color in (False, True)] == looks


def test_ascii_tables_stay_aligned() -> None:
    page = text.render(conftest.measured(), encoding="ascii", show=frozenset({"energy"}))
    machine = {match.end() for match in re.finditer(r"^.*(812|91\.0|500) J", page, re.M)}
    starts = {page.rfind("\n", 0, end) for end in machine}
    assert len({end - page.rfind("\n", 0, end) for end in machine}) == 1 and len(starts) == 7


def test_a_process_that_lives_on_is_marked() -> None:
    run = conftest.estimated()
    left = tuple(replace(process, is_left_running=True) for process in run.processes)
    assert "pytest -q (left running)" in text.render(replace(run, processes=left))


# --- several runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 120])
def test_several_runs_have_a_row_each(width: int) -> None:
    runs = [make() for make in conftest.ALL.values()]
    page = text.render_runs(runs, width=width)
    assert len(page.splitlines()) == 2 + len(runs)
    assert all(cells(line) <= width and line.isprintable() for line in page.splitlines())
    assert "unit tests" in page and "41.3 J" in page


def test_the_row_of_a_run_tells_how_it_ended() -> None:
    page = text.render_runs([make() for make in conftest.ALL.values()], width=120)
    for expected in ("SIGKILL", "recovered", "running", "estimated", "20250102T111112Z"):
        assert expected in page


def test_no_runs_at_all_is_a_table_without_rows() -> None:
    assert text.render_runs([]).count("\n") == 2
