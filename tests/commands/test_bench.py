"""`emt bench` end to end: the right ranking on machines whose power is known, and all that can go wrong."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import EMT
from tests.launch import children, records, started, until
from tests.launch.test_terminal import on_terminal
from tests.machines.conftest import VALIDATOR, simulate
from tests.simulation import SimulatedMachine, Stat, Zone, constant

__all__ = ("simulate",)

Emt = Callable[..., "subprocess.CompletedProcess[str]"]
Bench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bench(
    simulate: Callable[..., SimulatedMachine], environment: dict[str, str], tmp_path: pathlib.Path
) -> Bench:
    """`bench("-r", "5", "true", "false")` on a machine that draws 40 W whatever happens: energy is time."""
    machine = simulate(Zone(power=constant(40.0)), stat=Stat(cpus=4, neighbour_cpus=1.0))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.simulated_emt", machine.root, "bench", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


# --- the ranking ------------------------------------------------------------------------------------


def test_commands_of_known_energy_are_ranked_with_their_difference(bench: Bench) -> None:
    done = bench(
        *("--scope", "machine", "--only", "cpu", "-r", "5", "--format", "json"),
        *("sleep 0.4", "sleep 0.2", "sleep 0.3"),
    )
    told = document(done)
    assert done.returncode == 0
    assert [each["place"] for each in told["commands"]] == [3, 1, 2]
    assert [each["verdict"] for each in told["commands"]] == ["more", "best", "more"]
    slow, fast = told["commands"][0], told["commands"][1]
    assert fast["energy_j"]["mean"] == pytest.approx(40.0 * fast["time_s"]["mean"], rel=0.005)
    expected = slow["time_s"]["mean"] / fast["time_s"]["mean"] - 1
    assert slow["relative"] == pytest.approx(expected, rel=0.05)
    assert slow["relative_low"] <= slow["relative"] <= slow["relative_high"]
    assert slow["relative_low"] > 0
    assert slow["method"] in ("paired t", "paired trimmed t")
    assert slow["power_w"]["mean"] == pytest.approx(40.0, rel=0.005)
    assert [len(each["executions"]) for each in told["commands"]] == [5, 5, 5]


def test_the_same_command_twice_has_no_better_one(bench: Bench) -> None:
    """By its level 3 of 100 such verdicts are wrong: that three in a row are is no chance any more."""
    for _ in range(3):
        done = bench("--scope", "machine", "--only", "cpu", "-r", "6", "sleep 0.3", "sleep 0.3")
        if "no significant difference" in done.stdout:
            break
    assert "lowest mean" in done.stdout
    assert "no significant difference" in done.stdout


def test_the_table_fits_and_names_its_method(bench: Bench) -> None:
    done = bench("--scope", "machine", "--width", "80", "-r", "3", "sleep 0.1", "sleep 0.3")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("energy", "against the best", "verdict", "time", "power", "CO2e", "energy x time"):
        assert word in done.stdout
    assert "Student's t" in done.stdout
    assert "Holm's correction over 1 pair" in " ".join(done.stdout.split())
    assert "of the machine" in done.stdout


def test_commands_take_turns_and_every_other_round_is_reversed(bench: Bench, tmp_path: pathlib.Path) -> None:
    bench("-r", "3", "--warmup", "1", "--shell", *(f"echo {name} >> order" for name in "ABC"))
    assert (tmp_path / "order").read_text().split() == list("CBAABCCBAABC")


def test_joules_per_unit_of_work_are_told(bench: Bench) -> None:
    done = bench(
        *("--scope", "machine", "--only", "cpu", "-r", "3", "--units", "10:images", "--format", "json"),
        "sleep 0.2",
    )
    only = document(done)["commands"][0]
    assert only["unit"] == "images"
    assert only["per_unit_j"] == pytest.approx(only["energy_j"]["mean"] / 10)


# --- parameters and names ---------------------------------------------------------------------------


def test_parameters_are_filled_in_and_tagged(bench: Bench, environment: dict[str, str]) -> None:
    done = bench(
        *("-r", "2", "-P", "a=1,2", "-P", "b=x,y", "--format", "json"),
        *("echo {a} {b}", "echo {a} {{a}} '${b}'", "true"),
    )
    told = document(done)["commands"]
    assert [each["command"] for each in told] == [
        *("echo 1 x", "echo 1 y", "echo 2 x", "echo 2 y"),
        *("echo 1 {a} '${b}'", "echo 2 {a} '${b}'", "true"),
    ]
    assert told[1]["parameters"] == {"a": "1", "b": "y"}
    found = {record["id"]: record for record in records(environment)}
    tags = found[told[1]["run"]]["tags"]
    assert (tags["param.a"], tags["param.b"]) == ("1", "y")
    assert len({record["tags"]["bench"] for record in found.values()}) == 1
    for record in found.values():
        VALIDATOR.validate(record)
        assert len(record["executions"]) == 2


def test_ranges_of_parameters(bench: Bench) -> None:
    done = bench("-r", "1", "-P", "n=2..16*2", "-P", "m=1..5+2", "--format", "json", "echo {n}", "echo {m}")
    said = [each["command"].split()[1] for each in document(done)["commands"]]
    assert said == ["2", "4", "8", "16", "1", "3", "5"]


def test_names_stand_for_commands(bench: Bench) -> None:
    options = ("-r", "1", "-P", "n=1,2", "-n", "first", "-n", "second {n}", "--format", "json")
    told = document(bench(*options, "echo {n}", "true {n}"))["commands"]
    assert [each["name"] for each in told] == ["first n=1", "first n=2", "second 1", "second 2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["echo {threads}"], "{threads} has no values"),
        (["-P", "n=1", "true"], "-P n: no command uses {n}"),
        (["-P", "n", "echo {n}"], "a parameter is NAME=VALUE"),
        (["-P", "n=1,,2", "echo {n}"], "a value is empty"),
        (["-P", "n=1", "-P", "n=2", "echo {n}"], "-P n is given twice"),
        (["-P", "n=5..1", "echo {n}"], "that range has no end"),
        (["-P", "n=1..9*1", "echo {n}"], "that range has no end"),
        (["-P", "n=1..300", "echo {n}"], "at most 200"),
        (["-n", "a", "-n", "b", "true"], "2 names for 1 command"),
        (["echo 'open"], "No closing quotation"),
        ([""], "an empty command"),
        (["-o", "table.txt", "true"], "the suffix says the format"),
        (["-r", "0", "true"], "-r"),
        (["--cooldown", "nan", "true"], "--cooldown"),
        (["--units", "ten", "true"], "--units"),
        (["-t", "x", "true"], "KEY=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    emt: Emt, environment: dict[str, str], arguments: list[str], said: str
) -> None:
    done = emt("bench", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not records(environment)


# --- formats and files ------------------------------------------------------------------------------


def test_every_format_and_file_holds_the_same_ranking(bench: Bench, tmp_path: pathlib.Path) -> None:
    files = [word for name in ("b.json", "b.csv", "b.md") for word in ("-o", name)]
    done = bench("--scope", "machine", "-r", "3", "--format", "csv", *files, "sleep 0.3", "sleep 0.1")
    assert done.stdout == (tmp_path / "b.csv").read_text()
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["command"] for row in rows] == ["sleep 0.1", "sleep 0.3"]
    assert [row["verdict"] for row in rows] == ["best", "more"]
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["format"] == "emt-bench"
    assert float(rows[0]["energy_j_mean"]) == pytest.approx(told["commands"][1]["energy_j"]["mean"])
    page = (tmp_path / "b.md").read_text()
    assert page.index("| sleep 0.1 |") < page.index("| sleep 0.3 |")
    again = bench("-r", "1", "-o", "b.json", "true")
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_without_the_store_nothing_is_kept(bench: Bench, environment: dict[str, str]) -> None:
    done = bench("-r", "2", "--no-store", "true")
    assert done.returncode == 0
    assert "emt compare" not in done.stdout
    assert not records(environment)
    assert not list(pathlib.Path(environment["TMPDIR"]).glob("emt-*"))


# --- output and failures ----------------------------------------------------------------------------


def test_commands_write_nowhere_unless_asked_and_then_to_standard_error(bench: Bench) -> None:
    options = ("-r", "2", "--shell", "-n", "one", "echo said; echo wrong >&2; cat")
    silent = bench(*options)
    assert "said" not in silent.stdout
    assert silent.stderr == ""
    shown = bench("--show-output", *options)
    assert "said" not in shown.stdout
    assert shown.stderr == "said\nwrong\n" * 2
    assert "method" in shown.stdout


def test_a_failure_is_the_end_and_whole_rounds_are_kept(
    bench: Bench, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    fails = "echo x >> count; test $(wc -l < count) -lt 3"
    done = bench("-r", "5", "--shell", "--format", "json", "sleep 0.1", fails)
    assert done.returncode == 1
    assert "exit 1 in" in done.stderr
    assert "--show-output" in done.stderr
    assert document(done)["rounds"] == 2
    assert [len(record["executions"]) for record in records(environment)] == [2, 2]


def test_a_failure_in_the_first_round_keeps_nothing(bench: Bench, environment: dict[str, str]) -> None:
    done = bench("-r", "5", "true", "false")
    assert (done.returncode, done.stdout) == (1, "")
    assert not records(environment)
    assert not list(pathlib.Path(environment["TMPDIR"]).glob("emt-*"))


def test_with_ignore_failure_rounds_with_one_are_not_compared(bench: Bench, tmp_path: pathlib.Path) -> None:
    fails = "echo x >> count; test $(wc -l < count) -ne 2"
    done = bench("-r", "4", "--shell", "--ignore-failure", "sleep 0.1", fails)
    assert done.returncode == 0
    assert "1 of 4 executions (not counted)" in " ".join(done.stdout.split())


def test_a_command_that_is_not_there_says_so(bench: Bench, environment: dict[str, str]) -> None:
    done = bench("-r", "2", "true", "no-such-command")
    assert done.returncode == 127
    assert "no-such-command: command not found" in done.stderr
    assert not records(environment)


def test_a_signal_in_a_pause_ends_it_with_the_whole_rounds_kept(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    line = f"sh -c 'echo x >> {file}'"
    words = [*EMT, "bench", "--cooldown", "1.5", "-r", "9", line, line]
    with started(words, env=environment, stdout=subprocess.PIPE) as emt:
        until(lambda: file.exists() and len(file.read_text()) == 6 and not children(emt.pid), "the pause")
        os.kill(emt.pid, signal.SIGTERM)
        assert emt.wait(60) == -signal.SIGTERM
        assert emt.stdout is not None
        assert b"1 round," in emt.stdout.read()
    assert [len(record["executions"]) for record in records(environment)] == [1, 1]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash for job control")
def test_a_key_during_an_execution_ends_the_benchmark(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    words = [*EMT, "bench", f"sh -c 'echo x >> {file}; sleep 60'", "true"]
    with on_terminal(words, environment, tmp_path) as terminal:
        terminal.wait_for("emt: round 1 of 10, command 1 of 2")
        until(file.exists, "the first execution")
        terminal.type("\x03")
        assert terminal.wait() == -signal.SIGINT
    assert not records(environment)
