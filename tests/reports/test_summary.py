"""The plain summary after a run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from emt_cli.model import CpuTime, Equivalent, Exit, Run
from emt_cli.reports import summary
from emt_cli.reports.words import cells
from tests.reports import conftest

STORED = "~/.local/state/emt/runs/20250102T101112Z-node17-4242"


def said(run: Run, **options: object) -> dict[str, str]:
    """The labelled lines, what goes on below joined to them."""
    found: dict[str, str] = {}
    label = ""
    for line in summary.lines(run, stored=STORED, **options)[1:]:  # type: ignore[arg-type]
        label = line[2:12].strip() or label
        found[label] = f"{found.get(label, '')} {line[12:].strip()}".strip()
    return found


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_run_is_told_within_the_width(any_run: Run, width: int, verbose: bool, encoding: str) -> None:
    lines = summary.lines(any_run, stored=None, width=width, verbose=verbose, encoding=encoding)
    assert lines[0].startswith("emt: ")
    assert all(cells(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    for line in lines:
        line.encode(encoding)


def test_the_usual_run_takes_a_dozen_lines() -> None:
    assert 8 <= len(summary.lines(conftest.measured(), stored=STORED)) <= 14


def test_the_measured_run_tells_everything_at_a_glance() -> None:
    lines = summary.lines(conftest.measured(), stored=STORED)
    facts = said(conftest.measured())
    assert lines[0].startswith("emt: python train.py") and lines[0].endswith("exit 0 in 12.3 s")
    assert facts["energy"] == "1.819 kJ ± 0.091 of the command, measured"
    assert facts["machine"] == "2.956 kJ ± 0.026, whole node 3.41 kJ"
    assert facts["power"] == "mean 147 W command, 240 W machine"
    assert (
        facts["devices"].startswith("cpu0 301 J + dram 33.4 J · cpu1") and "gpu0 1.15 kJ" in facts["devices"]
    )
    assert facts["cpu"] == "118 CPU s of the tree in 14 processes"
    assert facts["CO2e"] == "22.3 mg ± 1.1 at FR 44.2 g/kWh, 2024 (location: time zone)"
    assert facts["like"] == "lighting a 10 W LED bulb for 17 s"
    assert facts["emt"].startswith("0.12 CPU s in all, 0.050 CPU s while the command ran (610 mJ)")
    assert facts["record"] == STORED and facts["next"] == "emt report"


def test_an_interval_that_leans_is_told_by_its_ends_and_an_estimate_says_so() -> None:
    assert said(conftest.estimated())["energy"] == "41.3 J (20.1 to 42.0 J) of the command, estimated"


def test_a_sum_of_measured_and_estimated_parts_tells_both_shares() -> None:
    run = conftest.measured()
    assert run.energy is not None
    mixed = replace(run.energy, provenance="estimated", by_provenance={"measured": 97.0, "estimated": 3.0})
    assert said(replace(run, energy=mixed))["energy"].endswith("measured 97 %, estimated 3 %")


def test_with_machine_scope_the_machine_is_the_headline() -> None:
    facts = said(conftest.killed())
    assert facts["energy"] == "2.956 kJ ± 0.026 of the machine, measured"
    assert facts["command"].startswith("1.819 kJ ± 0.091 of that")
    assert facts["devices"].startswith("cpu0 812 J")


def test_a_signal_is_named() -> None:
    assert summary.lines(conftest.killed(), stored=None)[0].endswith("killed by SIGKILL (9) after 12.3 s")
    odd = replace(conftest.killed(), exit=Exit(signal=123))
    assert "killed by signal 123" in summary.lines(odd, stored=None)[0]


def test_what_is_unknown_is_absent_and_never_zero() -> None:
    lines = summary.lines(conftest.bare(), stored=None)
    assert [line[2:12].strip() for line in lines[1:]] == ["energy"]
    assert "unknown" in lines[1]
    assert "0 J" not in "".join(lines)


def test_a_recovered_run_says_that_its_end_was_not_seen() -> None:
    assert "recovered, end not seen" in summary.lines(conftest.recovered(), stored=None)[0]


def test_at_most_four_warnings_are_told_and_the_rest_is_counted() -> None:
    run = conftest.estimated()
    text = "\n".join(summary.lines(run, stored=None))
    assert text.count("\n  warning   ") == 4
    assert f"+{len(run.notices) - 4} more: emt report" in text


def test_a_remedy_stands_below_its_warning_word_for_word() -> None:
    text = "\n".join(summary.lines(conftest.estimated(), stored=None))
    assert "-> allow perf: sudo sysctl kernel.perf_event_paranoid=2" in text


def test_a_narrow_terminal_gets_more_lines_and_not_fewer_words() -> None:
    narrow = said(conftest.estimated(), width=40)
    assert narrow.pop("exit 1 in") == "12.3 s"  # in the first line where there is room
    assert narrow == {**said(conftest.estimated()), "warning": narrow["warning"]}
    assert "are less certain -> measure on a host" in narrow["warning"]


def test_a_path_is_never_cut() -> None:
    path = "/very" * 30
    lines = summary.lines(conftest.measured(), stored=path)
    assert any(line.endswith(path) for line in lines)


def test_many_devices_are_told_by_kind() -> None:
    run = conftest.measured()
    assert run.energy is not None
    gpus = tuple(conftest.channel_energy(f"gpu{n}", "gpu", 100.0, 50.0) for n in range(8))
    assert said(replace(run, energy=replace(run.energy, channels=gpus)))["devices"] == "8 gpu 400 J"


def test_the_count_of_processes_includes_those_that_no_table_row_has() -> None:
    run = replace(conftest.measured(), cpu_time=CpuTime(tree_s=1.5, processes_seen=230))
    assert said(run)["cpu"] == "1.50 CPU s of the tree in 230 processes"


def test_like_is_not_said_twice() -> None:
    run = conftest.measured()
    assert run.carbon is not None
    same = (Equivalent(id="x", text="like a kettle", amount=1, unit="", source=""),)
    assert said(replace(run, carbon=replace(run.carbon, equivalents=same)))["like"] == "a kettle"


def test_v_tells_channels_rule_and_witnesses() -> None:
    text = "\n".join(summary.lines(conftest.measured(), stored=None, verbose=True))
    assert "in cpu0/package" in text and "mirror of cpu0/package" in text and "whole node" in text
    assert "idle policy busy" in text and "perf 118 s" in text and "124 ticks" in text


def test_the_summary_brings_in_nothing_heavy() -> None:
    code = "import sys, emt_cli.reports.summary; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not {"rich", "typer", "json", "csv", "shlex", "textwrap"} & set(loaded.split())
