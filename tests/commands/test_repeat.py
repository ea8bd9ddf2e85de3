"""`emt run -r` end to end: what the record, the summary and the reports say of many executions."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.machines.conftest import VALIDATOR, Measured, begin, measure, simulate
from tests.simulation import SimulatedMachine, Stat, Zone, constant, following_load, ramp

__all__ = ("begin", "measure", "simulate")

Emt = Callable[..., "subprocess.CompletedProcess[str]"]
CPUS = os.cpu_count() or 1


# --- joules -----------------------------------------------------------------------------------------


def test_joules_are_those_of_the_executions_and_not_of_the_pauses(
    simulate: Callable[..., SimulatedMachine], measure: Callable[..., Measured]
) -> None:
    """The power rises all the time, so that a pause that was counted would show in any execution."""
    machine = simulate(Zone(power=ramp(50.0, 20.0)), stat=Stat(cpus=4, neighbour_cpus=1.0))
    told = measure(machine, "-r", "3", "--cooldown", "0.7", command=["sh", "-c", "date +%s.%N; sleep 1"])
    executions = told.record["executions"]
    assert [round(each["duration_s"]) for each in executions] == [1, 1, 1]
    assert told.machine_j == pytest.approx(sum(each["machine_j"] for each in executions), rel=1e-9)
    assert told.duration_s == pytest.approx(sum(each["duration_s"] for each in executions), rel=1e-9)
    means_w = [each["machine_j"] / each["duration_s"] for each in executions]
    began_s = [float(line) for line in told.output.split()]
    for i in (1, 2):  # 20 W more a second, from the start of one to the start of the next
        expected_w = means_w[0] + 20.0 * (began_s[i] - began_s[0])
        assert means_w[i] == pytest.approx(expected_w, rel=0.005)


def test_a_constant_power_gives_its_joules_in_each_execution(
    simulate: Callable[..., SimulatedMachine], measure: Callable[..., Measured]
) -> None:
    machine = simulate(Zone(power=constant(40.0)), stat=Stat(cpus=4, neighbour_cpus=1.0))
    told = measure(machine, "-r", "3", "--cooldown", "0.3", "--only", "cpu", command=["sleep", "0.6"])
    for each in told.record["executions"]:
        assert each["machine_j"] == pytest.approx(40.0 * each["duration_s"], rel=0.005)
    assert told.machine_j == pytest.approx(40.0 * told.duration_s, rel=0.005)
    repeat = told.record["repeat"]
    assert repeat["machine_w"]["mean"] == pytest.approx(40.0, rel=0.005)
    assert repeat["executions"] == repeat["duration_s"]["n"] == 3
    assert repeat["duration_s"]["low"] < repeat["duration_s"]["mean"] < repeat["duration_s"]["high"]


def test_idle_before_tells_the_idle_power(
    simulate: Callable[..., SimulatedMachine], measure: Callable[..., Measured]
) -> None:
    stat = Stat(cpus=64, neighbour_cpus=0.5)
    machine = simulate(Zone(power=following_load(30.0, 4.0)), stat=stat)
    told = measure(machine, "-r", "2", "--idle-before", "1.5", command=["sleep", "0.2"])
    settings = told.record["settings"]
    assert settings["idle_w"]["cpu0/package"] == pytest.approx(30.0 + 4.0 * 0.5, rel=0.02)
    assert settings["idle_w_source"] == "measured before the run"
    assert len(told.record["executions"]) == 2
    assert "not_idle" not in told.codes


def test_idle_power_is_not_taken_from_a_busy_machine(
    simulate: Callable[..., SimulatedMachine], measure: Callable[..., Measured]
) -> None:
    machine = simulate(Zone(power=following_load(30.0, 4.0)), stat=Stat(cpus=4, neighbour_cpus=1.0))
    told = measure(machine, "-r", "2", "--idle-before", "1", command=["sleep", "0.2"])
    assert told.record["settings"]["idle_w"] == {}
    assert "25% busy" in told.warning("not_idle")["text"]


# --- what is kept -----------------------------------------------------------------------------------


def test_every_kind_of_output_holds_the_repeated_run(emt: Emt, tmp_path: pathlib.Path) -> None:
    outputs = [str(tmp_path / name) for name in ("run.json", "runs.csv", "folder/")]
    options = [word for path in outputs for word in ("-o", path)]
    done = emt("run", "-q", "-r", "3", "--no-store", *options, "--", "sleep", "0.05")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "store").exists()
    record = json.loads((tmp_path / "run.json").read_text())
    VALIDATOR.validate(record)
    assert json.loads((tmp_path / "folder" / "run.json").read_text())["repeat"] == record["repeat"]
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert rows[0]["executions"] == "3"
    assert float(rows[0]["duration_s"]) == pytest.approx(record["duration_s"] / 3)
    assert len(record["executions"]) == 3


def test_results_can_be_worked_out_again(emt: Emt, tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path / "folder")
    emt("run", "-q", "-r", "3", "-F", "100", "-o", folder, "--", "sleep", "0.1")
    stored, again = (
        json.loads(emt("report", folder, "--format", "json", *options).stdout)
        for options in ([], ["--recompute"])
    )
    for group in ("energy", "repeat", "executions", "carbon", "attribution"):
        assert _rounded(again[group]) == _rounded(stored[group]), group


def _rounded(value: Any) -> Any:
    """samples.csv has 12 digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


# --- what is told -----------------------------------------------------------------------------------


def test_the_summary_tells_one_execution_and_names_sums_as_sums(emt: Emt) -> None:
    done = emt("run", "-r", "4", "--", "sleep", "0.05")
    assert "4 executions, exit 0 in 0.2" in done.stderr
    labels = {line[:12].strip(): line[12:] for line in done.stderr.splitlines() if line.startswith("  ")}
    assert labels["repeats"].startswith("4 executions; mean ± 95 % interval")
    assert "an execution" in labels["energy"]
    assert labels["time"].startswith("5") and " ms ± " in labels["time"]
    assert "of the command" in labels["total"]
    assert labels["CO2e"].startswith("in all ")
    assert all(len(line) <= 80 for line in done.stderr.splitlines() if "record" not in line)
    assert "execution 1 of" not in done.stderr  # progress is for terminals


def test_one_execution_has_no_interval_and_says_so(emt: Emt) -> None:
    done = emt("run", "-r", "1", "--warmup", "1", "--", "sleep", "0.05")
    assert "1 execution: no interval can be told from one" in done.stderr


def test_an_outlier_is_named_with_what_helps(emt: Emt, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "count"
    script = f"echo x >> {file}; [ $(wc -l < {file}) -ne 6 ] || sleep 0.9; sleep 0.1"
    done = emt("run", "-r", "8", "--", "sh", "-c", script)
    assert "outliers" in done.stderr
    assert "6 (" in done.stderr.partition("outliers")[2]
    assert "--warmup" in done.stderr
    shown = emt("report", "--show", "executions").stdout
    row = next(line for line in shown.splitlines() if line.split()[:1] == ["6"])
    assert row.endswith("outlier")


def test_executions_that_failed_are_listed_and_not_in_the_mean(emt: Emt, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "count"
    script = f"echo x >> {file}; sleep 0.05; [ $(wc -l < {file}) -ne 2 ]"
    done = emt("run", "-r", "4", "--ignore-failure", "--", "sh", "-c", script)
    assert done.returncode == 1
    assert "4 executions, 1 of them failed and not counted" in done.stderr
    assert emt("report", "--get", "repeat.executions").stdout == "3\n"
    assert emt("report", "--get", "executions.1.exit.code").stdout == "1\n"


def test_the_report_shows_every_execution_in_a_table_and_in_markdown(emt: Emt) -> None:
    emt("run", "-q", "-r", "3", "--", "sleep", "0.05")
    table = emt("report", "--width", "80").stdout
    assert "One execution" in table
    assert re.findall(r"^ +([0-9])  .*W  0$", table, re.MULTILINE) == ["1", "2", "3"]
    assert max(map(len, table.splitlines())) <= 80
    assert "of the command over all executions" in table
    page = emt("report", "--format", "markdown").stdout
    assert "**One execution**" in page
    assert "| 3 |" in page


def test_a_long_table_is_cut_and_says_so(emt: Emt) -> None:
    emt("run", "-q", "-r", "30", "--no-store", "-o", "run.json", "--", "true")
    table = emt("report", "run.json", "--show", "executions").stdout
    assert "+5 more: emt report --format json" in table


def test_a_single_value_of_the_mean_can_be_asked_for(emt: Emt) -> None:
    emt("run", "-q", "-r", "3", "--", "sleep", "0.1")
    mean = float(emt("report", "--get", "repeat.duration_s.mean").stdout)
    assert mean == pytest.approx(0.1, abs=0.2)
    assert emt("report", "--get", "repeat.duration_s.n").stdout == "3\n"


def test_a_plain_run_has_no_repeat(emt: Emt) -> None:
    emt("run", "-q", "--", "true")
    done = emt("report", "--get", "repeat")
    assert done.returncode == 1
    assert "One execution" not in emt("report").stdout
