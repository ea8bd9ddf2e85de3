"""A repeated run beside its command: statuses, signals between and during executions, what is kept, and what
each execution inherits."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from tests.conftest import EMT
from tests.launch import (
    Counter,
    child_of,
    children,
    entering,
    finished,
    is_gone,
    only_record,
    program,
    records,
    started,
    state,
    until,
)
from tests.launch.test_terminal import BASH, on_terminal

REPEAT = (*EMT, "run", "-q", "-r", "5")
LOUD = (*EMT, "run", "-r", "5")


def exits(record: dict[str, object]) -> list[object]:
    executions = record["executions"]
    assert isinstance(executions, list)
    return [each["exit"]["code"] for each in executions]


def counted(path: pathlib.Path, then: str = "true") -> list[str]:
    """A command that adds a line to a file, and does something then."""
    return ["sh", "-c", f"echo x >> {path}; {then}"]


def lines(path: pathlib.Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def nothing_is_left(environment: dict[str, str]) -> bool:
    """Neither in the store nor in the temporary folder."""
    left = [entry.name for entry in pathlib.Path(environment["TMPDIR"]).glob("emt-*")]
    return not records(environment) and not left


# --- statuses ---------------------------------------------------------------------------------------


def test_the_first_failing_execution_is_the_last_one_and_its_status_is_emts(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    done = finished([*REPEAT, "--", *counted(file, f"[ $(wc -l < {file}) -lt 3 ] || exit 7")], environment)
    record = only_record(environment)
    assert done.returncode == 7
    assert exits(record) == [0, 0, 7]
    assert record["exit"] == {"code": 7, "signal": None}
    assert record["repeat"]["executions"] == 2
    assert not list(tmp_path.glob("emt-*"))


def test_with_ignore_failure_it_goes_on_and_the_status_is_still_told(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    command = counted(file, f"[ $(wc -l < {file}) -ne 2 ] || kill -SEGV $$")
    done = finished([*REPEAT, "--ignore-failure", "--", *command], environment)
    assert done.returncode == -signal.SIGSEGV
    assert exits(only_record(environment)) == [0, None, 0, 0, 0]


def test_a_command_that_a_signal_kills_ends_emt_by_that_signal(environment: dict[str, str]) -> None:
    done = finished([*REPEAT, "--", *program("die", "TERM")], environment)
    assert done.returncode == -signal.SIGTERM
    assert only_record(environment)["executions"][0]["exit"] == {"code": None, "signal": signal.SIGTERM}


def test_a_command_that_is_not_there_leaves_nothing_behind(environment: dict[str, str]) -> None:
    done = finished([*REPEAT, "--", "no-such-command"], environment)
    assert done.returncode == 127
    assert b"no-such-command: command not found" in done.stderr
    assert nothing_is_left(environment)


def test_a_command_that_vanishes_ends_it_and_what_was_measured_is_kept(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "once"
    script.write_text(f"#!/bin/sh\nrm {script}\n")
    script.chmod(0o755)
    done = finished([*LOUD, "--", str(script)], environment)
    assert done.returncode == 127
    assert b"after 1 of 5 executions" in done.stderr
    assert exits(only_record(environment)) == [0]


@pytest.mark.parametrize("option", [["-r", "0"], ["--cooldown", "nan"], ["--idle-before", "inf"]])
def test_options_that_cannot_be_are_refused_before_anything_starts(
    environment: dict[str, str], tmp_path: pathlib.Path, option: list[str]
) -> None:
    file = tmp_path / "count"
    done = finished([*REPEAT, *option, "--", *counted(file)], environment)
    assert done.returncode == 125
    assert option[0].encode().lstrip(b"-") in done.stderr
    assert lines(file) == 0


# --- warm-up and preparation ------------------------------------------------------------------------


def test_warm_ups_run_but_are_not_in_the_record(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    file, prepared = tmp_path / "count", tmp_path / "prepared"
    done = finished(
        [*REPEAT, "--warmup", "2", "--prepare", f"echo x >> {prepared}", "--", *counted(file)], environment
    )
    assert done.returncode == 0
    assert (lines(file), lines(prepared)) == (7, 7)
    assert len(only_record(environment)["executions"]) == 5


def test_a_warm_up_that_fails_is_the_end_with_its_status(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    done = finished([*REPEAT, "--warmup", "2", "--", *counted(file, "exit 9")], environment)
    assert done.returncode == 9
    assert b"nothing was measured" in done.stderr
    assert lines(file) == 1
    assert nothing_is_left(environment)


def test_a_preparation_that_fails_at_once_starts_nothing(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    done = finished([*REPEAT, "--prepare", "exit 4", "--", *counted(file)], environment)
    assert done.returncode == 125
    assert b"--prepare 'exit 4' failed with status 4" in done.stderr
    assert lines(file) == 0
    assert nothing_is_left(environment)


def test_a_preparation_that_fails_later_ends_it_and_says_so(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    prepare = f"[ ! -e {file} ] || [ $(wc -l < {file}) -lt 2 ]"
    done = finished([*LOUD, "--prepare", prepare, "--", *counted(file)], environment)
    assert done.returncode == 125
    assert b"after 2 of 5 executions: --prepare" in done.stderr
    assert exits(only_record(environment)) == [0, 0]


# --- signals ----------------------------------------------------------------------------------------


def worker_of(emt: int) -> int:
    return child_of(emt)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_ends_emt_reaches_the_command_once_and_is_the_end(
    environment: dict[str, str], tmp_path: pathlib.Path, number: int
) -> None:
    counter = Counter(tmp_path)
    with started([*REPEAT, "--", *counter.command()], env=environment) as emt:
        counter.wait_until_ready()
        os.kill(emt.pid, number)
        counter.wait_for(number)
        assert counter.fence(emt.pid) == {number: 1}
        counter.end()
        assert emt.wait(60) == -number
    assert exits(only_record(environment)) == [0]
    assert only_record(environment)["exit"] == {"code": None, "signal": number}


def test_other_signals_reach_the_command_and_end_nothing(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    command = [*EMT, "run", "-q", "-r", "1", "--warmup", "0", "--cooldown", "1", "--", *counter.command()]
    with started(command, env=environment) as emt:
        counter.wait_until_ready()
        for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGALRM):
            os.kill(emt.pid, number)
            counter.wait_for(number)
        assert sum(counter.fence(emt.pid).values()) == 3
        counter.end()
        assert emt.wait(60) == 0


def test_the_commands_own_signal_to_its_group_is_no_order_to_emt(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    command = counted(file, "trap '' TERM; kill -TERM 0; true")
    with started([*REPEAT, "--", *command], env=environment) as emt:
        assert emt.wait(60) == 0
    assert lines(file) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_pause_is_the_end_and_what_was_measured_is_kept(
    environment: dict[str, str], tmp_path: pathlib.Path, number: int
) -> None:
    file = tmp_path / "count"
    with started([*REPEAT, "--cooldown", "50", "--", *counted(file)], env=environment) as emt:
        until(lambda: lines(file) == 1 and not children(emt.pid), "the pause")
        os.kill(emt.pid, number)
        assert emt.wait(60) == -number
    assert exits(only_record(environment)) == [0]
    assert lines(file) == 1


def test_a_signal_that_emt_was_started_to_ignore_ends_no_pause(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    command = [*entering("ignore=HUP"), *EMT, "run", "-q", "-r", "2", "--cooldown", "1", "--", *counted(file)]
    with started(command, env=environment) as emt:
        until(lambda: lines(file) == 1 and not children(emt.pid), "the pause")
        os.kill(emt.pid, signal.SIGHUP)
        assert emt.wait(60) == 0
    assert lines(file) == 2


def test_a_signal_in_a_warm_ups_pause_measures_nothing(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    command = [*REPEAT, "--warmup", "1", "--cooldown", "50", "--", *counted(file)]
    with started(command, env=environment) as emt:
        until(lambda: lines(file) == 1 and not children(emt.pid), "the pause")
        os.kill(emt.pid, signal.SIGTERM)
        assert emt.wait(60) == -signal.SIGTERM
    assert lines(file) == 1
    assert nothing_is_left(environment)


def test_a_process_that_measures_and_is_killed_leaves_the_command_alone(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file, counter = tmp_path / "count", Counter(tmp_path)
    script = f"echo x >> {file}; [ $(wc -l < {file}) -lt 2 ] || exec {' '.join(counter.command())}"
    words = tmp_path / "words"
    command_line = [*LOUD, "--", "sh", "-c", script]
    with words.open("wb") as errors, started(command_line, env=environment, stderr=errors) as emt:
        counter.wait_until_ready()
        worker = worker_of(emt.pid)
        command = child_of(worker)
        os.kill(worker, signal.SIGKILL)
        assert emt.wait(60) == -signal.SIGKILL
        assert not is_gone(command)
        counter.end()
        until(lambda: is_gone(command), "the command's own end")
    said = words.read_bytes()
    assert b"was killed by SIGKILL (9); the command may still be running" in said
    assert b"after 1 of 5" in said
    assert b"Traceback" not in said
    assert exits(only_record(environment)) == [0]


# --- on a terminal ----------------------------------------------------------------------------------

terminals = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash for job control")


@terminals
def test_a_key_during_an_execution_reaches_the_command_once_and_is_the_end(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    with on_terminal([*REPEAT, "--", *counter.command()], environment, tmp_path) as terminal:
        counter.wait_until_ready()
        terminal.type("\x03")
        counter.wait_for(signal.SIGINT)
        assert counter.fence(terminal.leader.pid) == {signal.SIGINT: 1}
        counter.end()
        assert terminal.wait() == -signal.SIGINT
    assert exits(only_record(environment)) == [0]


@terminals
def test_a_key_in_a_pause_is_the_end(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    file = tmp_path / "count"
    command = [*LOUD, "--cooldown", "50", "--", *counted(file)]
    with on_terminal(command, environment, tmp_path) as terminal:
        terminal.wait_for("emt: execution 1 of 5")
        until(lambda: lines(file) == 1 and not children(terminal.leader.pid), "the pause")
        terminal.type("\x03")
        assert terminal.wait() == -signal.SIGINT
    assert exits(only_record(environment)) == [0]


@terminals
def test_a_key_during_the_preparation_ends_it_before_anything_is_measured(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    command = [*LOUD, "--prepare", "echo preparing; exec sleep 50", "--", *counted(file)]
    with on_terminal(command, environment, tmp_path) as terminal:
        terminal.wait_for("preparing")
        terminal.type("\x03")
        terminal.wait_for("nothing was measured")
        assert terminal.wait() == -signal.SIGINT
    assert lines(file) == 0
    assert nothing_is_left(environment)


@terminals
@pytest.mark.parametrize("where", ["execution", "pause"])
def test_a_repeated_run_can_be_stopped_and_goes_on(
    environment: dict[str, str], tmp_path: pathlib.Path, where: str
) -> None:
    file, counter = tmp_path / "count", Counter(tmp_path)
    before, after = ("", " ".join(counter.command())) if where == "execution" else ("--cooldown 2", "true")
    line = f"{' '.join(EMT)} run -q -r 2 {before} -- sh -c 'echo x >> {file}; {after}'"
    with on_terminal(BASH, environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        terminal.type(f"{line}; echo ended $?\n")
        if where == "execution":
            counter.wait_until_ready()
        else:
            until(lambda: lines(file) == 1, "the first execution")
        emt = child_of(terminal.leader.pid)
        if where == "pause":
            until(lambda: not children(emt), "the pause")
        terminal.type("\x1a")
        until(lambda: state(emt) == "T", "emt to stop")
        terminal.wait_for("Stopped")
        terminal.type("fg\n")
        if where == "execution":
            until(lambda: state(emt) != "T", "emt to go on")
            counter.end()
            until(lambda: lines(file) == 2, "the second execution")
            counter.wait_until_ready()
            counter.end()
        until(lambda: lines(file) == 2 and is_gone(emt), "the end")
    assert exits(only_record(environment)) == [0, 0]


# --- what is inherited ------------------------------------------------------------------------------


def test_all_executions_share_the_standard_input(environment: dict[str, str]) -> None:
    done = finished(
        [*EMT, "run", "-q", "-r", "3", "--", "sh", "-c", "read line; echo got $line"],
        environment,
        input=b"one\ntwo\nthree\n",
    )
    assert done.stdout == b"got one\ngot two\ngot three\n"


def test_an_execution_inherits_what_a_plain_run_does(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "facts.json"

    def facts(*before: str) -> dict[str, object]:
        with started([*before, *program("facts", path)], env=environment, stdin=subprocess.DEVNULL) as one:
            assert one.wait(60) == 0
        return {**json.loads(path.read_text()), "group": "each has its own"}

    assert facts(*EMT, "run", "-q", "-r", "1", "--warmup", "1", "--") == facts(*EMT, "run", "-q", "--")


def test_closed_descriptors_stay_closed_and_no_record_lands_on_them(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    looks = "import os, sys; sys.exit(sum(os.path.exists(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)))"
    words = [*entering("close=0", "close=1", "close=2"), *EMT, "run", "-r", "2", "--"]
    with started([*words, sys.executable, "-I", "-S", "-c", looks], env=environment) as emt:
        assert emt.wait(60) == 0
    assert exits(only_record(environment)) == [0, 0]
