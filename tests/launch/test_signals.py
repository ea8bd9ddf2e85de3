"""Signals on their way to the command: each arrives, each arrives once, and a complete record is kept."""

from __future__ import annotations

import collections
import os
import pathlib
import signal
import subprocess

import pytest

from emt_cli.measure import signals
from tests.launch import (
    FENCE,
    RUN,
    child_of,
    counting,
    entering,
    is_gone,
    only_record,
    program,
    records,
    started,
    state,
    until,
)

FORWARDED = [
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGWINCH, signal.SIGALRM, signal.SIGPIPE, signal.SIGURG, signal.SIGIO, signal.SIGABRT),
    *(signal.SIGRTMIN, signal.SIGRTMAX, signal.SIGCONT),
]


def test_a_signal_sent_to_emt_reaches_the_command_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        for number in FORWARDED:
            os.kill(emt.pid, number)
            counter.wait_for(number)
        assert counter.fence(emt.pid) == collections.Counter(map(int, FORWARDED))
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["exit"] == {"code": 0, "signal": None}


def test_signals_that_were_blocked_or_ignored_at_entry_are_still_passed_on(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    before = entering("ignore=TERM", "ignore=CHLD", "block=USR1")
    with counting(tmp_path, environment, before=before) as (emt, counter):
        os.kill(emt.pid, signal.SIGTERM)
        counter.wait_for(signal.SIGTERM)
        os.kill(emt.pid, signal.SIGUSR1)  # the command has it blocked, as it would without emt
        assert counter.fence(emt.pid) == {signal.SIGTERM: 1}
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["state"] == "complete"


def test_a_burst_of_real_time_signals_arrives_in_full(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        for _ in range(20):
            os.kill(emt.pid, signal.SIGRTMIN)
        assert counter.fence(emt.pid) == {signal.SIGRTMIN: 20}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_whole_group_arrives_and_the_record_is_complete(
    environment: dict[str, str], tmp_path: pathlib.Path, number: int
) -> None:
    """From outside it cannot be told apart from one to emt alone: once or twice, as the README says."""
    with counting(tmp_path, environment) as (emt, counter):
        if number == signal.SIGKILL:
            child = child_of(emt.pid)
            os.killpg(emt.pid, number)
            assert emt.wait(60) == -number
            until(lambda: is_gone(child), "the command's death")
            return
        os.killpg(emt.pid, number)
        counter.wait_for(number)
        assert counter.fence(emt.pid)[number] in (1, 2)
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["exit"]["code"] == 0


def test_a_group_signal_that_kills_the_command_leaves_a_complete_record(environment: dict[str, str]) -> None:
    with started(
        [*RUN, "--", "sh", "-c", "echo up; sleep 1000"], env=environment, stdout=subprocess.PIPE
    ) as emt:
        assert emt.stdout is not None
        emt.stdout.readline()
        os.killpg(emt.pid, signal.SIGTERM)
        assert emt.wait(60) == -signal.SIGTERM
    assert only_record(environment)["exit"]["signal"] == signal.SIGTERM


@pytest.mark.parametrize("who", ["group", "grandchild"])
def test_a_group_signal_from_inside_the_tree_is_not_passed_on_again(
    environment: dict[str, str], tmp_path: pathlib.Path, who: str
) -> None:
    with counting(tmp_path, environment, who) as (emt, counter):
        counter.wait_for(signal.SIGTERM)
        assert counter.fence(emt.pid) == {signal.SIGTERM: 1}
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["exit"]["code"] == 0


def test_a_command_that_kills_its_own_group_dies_and_is_recorded(environment: dict[str, str]) -> None:
    with started([*RUN, "--", "sh", "-c", "sleep 1000 & kill 0"], env=environment) as emt:
        assert emt.wait(60) == -signal.SIGTERM
    assert only_record(environment)["exit"]["signal"] == signal.SIGTERM


def test_what_the_command_sends_to_its_parent_is_not_sent_back(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment, "parent") as (emt, counter):
        assert counter.fence(emt.pid) == {}
        assert emt.poll() is None


def test_a_command_in_a_session_of_its_own_still_gets_what_emt_gets(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment, "setsid") as (emt, counter):
        os.killpg(emt.pid, signal.SIGTERM)
        counter.wait_for(signal.SIGTERM)
        assert counter.fence(emt.pid) == {signal.SIGTERM: 1}


# --- timeout(1) -------------------------------------------------------------------------------------


def test_timeout_ends_the_command_and_the_record_is_complete(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Both at once, since each takes the time that it is given."""
    killed_store = {**environment, "EMT_STORE": str(tmp_path / "killed")}
    slow = ["--", "sh", "-c", 'echo $$ > "$0"; exec sleep 1000']
    with (
        started(["timeout", "3", *RUN, *slow, str(tmp_path / "ended.pid")], env=environment) as ended,
        started(
            ["timeout", "-s", "KILL", "3", *RUN, *slow, str(tmp_path / "k.pid")], env=killed_store
        ) as killed,
    ):
        assert ended.wait(60) == 124
        assert killed.wait(60) in (-signal.SIGKILL, 137)
    assert only_record(environment)["exit"]["signal"] == signal.SIGTERM
    until(lambda: is_gone(int((tmp_path / "k.pid").read_text())), "the killed command to be gone")
    assert [record["state"] for record in records(killed_store)] == ["running"]


# --- stopping and going on --------------------------------------------------------------------------


def test_a_stop_sent_to_emt_stops_both_and_both_go_on(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        child = child_of(emt.pid)
        for times in (1, 2, 3):
            os.kill(emt.pid, signal.SIGTSTP)
            assert until(lambda: _stopped_by(emt.pid), "emt to stop") == signal.SIGTSTP
            until(lambda: state(child) == "T", "the command to stop")
            os.kill(emt.pid, signal.SIGCONT)
            until(lambda: state(emt.pid) in "SR", "emt to go on")
            until(lambda: state(child) in "SR", "the command to go on")
            assert counter.fence(emt.pid) == {signal.SIGCONT: times}
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["state"] == "complete"


def test_a_whole_group_that_is_stopped_and_continued_goes_on_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        child = child_of(emt.pid)
        for times in (1, 2, 3):
            os.killpg(emt.pid, signal.SIGTSTP)
            until(lambda: state(emt.pid) == "T" and state(child) == "T", "both to stop")
            os.killpg(emt.pid, signal.SIGCONT)
            until(lambda: state(child) in "SR", "the command to go on")
            assert counter.fence(emt.pid) == {signal.SIGCONT: times}


def test_a_third_party_may_stop_and_continue_the_command_alone(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        child = child_of(emt.pid)
        os.kill(child, signal.SIGSTOP)
        until(lambda: state(child) == "T", "the command to stop")
        os.kill(emt.pid, FENCE)  # emt is awake: it passes this on, and it waits there
        until(lambda: _is_pending(child, FENCE), "the fence to wait for the command")
        assert state(emt.pid) in "SR"
        os.kill(child, signal.SIGCONT)
        counter.wait_for(FENCE)
        counter.end()
        assert emt.wait(60) == 0
    assert only_record(environment)["state"] == "complete"


def _stopped_by(pid: int) -> int:
    event = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
    return 0 if event is None else event.si_status


def _is_pending(pid: int, number: int) -> bool:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def test_emt_stopped_by_a_third_party_stops_nobody_else(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        child = child_of(emt.pid)
        os.kill(emt.pid, signal.SIGSTOP)
        until(lambda: state(emt.pid) == "T", "emt to stop")
        os.kill(child, signal.SIGUSR1)
        counter.wait_for(signal.SIGUSR1)
        os.kill(emt.pid, signal.SIGCONT)
        counter.fence(emt.pid)
        counter.end()
        assert emt.wait(60) == 0


def test_a_command_stopped_at_its_end_is_not_taken_for_lost() -> None:
    """The child may die between two looks: a zombie has no stops to tell of, and that is no error."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert signals._take_stop(pid) is None
    os.waitpid(pid, 0)


# --- before the command has started -----------------------------------------------------------------


@pytest.fixture
def slow_start(environment: dict[str, str], tmp_path: pathlib.Path) -> dict[str, str]:
    """An installed sensor package whose opening waits until `go` is opened: the child is held meanwhile."""
    package = tmp_path / "packages"
    info = package / "slow_sensor-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-sensor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[emt.sensors]\nslow = slow_sensor:open_slow\n")
    (package / "slow_sensor.py").write_text(
        "from emt_cli.sensors.base import Absent\n"
        "def open_slow(machine):\n"
        f"    open({str(tmp_path / 'opening')!r}, 'w').close()\n"
        f"    open({str(tmp_path / 'go')!r}).close()\n"
        "    raise Absent('not here')\n"
    )
    os.mkfifo(tmp_path / "go")
    return {**environment, "PYTHONPATH": f"{package}:{environment['PYTHONPATH']}"}


def test_a_signal_before_the_release_reaches_the_command_after_it(
    slow_start: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with started([*RUN, "--", "sleep", "1000"], env=slow_start) as emt:
        until((tmp_path / "opening").exists, "the sensors to be opened")
        os.kill(emt.pid, signal.SIGTERM)
        (tmp_path / "go").open("w").close()
        assert emt.wait(60) == -signal.SIGTERM
    assert only_record(slow_start)["exit"]["signal"] == signal.SIGTERM


def test_a_group_signal_before_the_release_finds_the_command_too(
    slow_start: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with started([*RUN, "--", *program("die", "KILL")], env=slow_start) as emt:
        until((tmp_path / "opening").exists, "the sensors to be opened")
        os.killpg(emt.pid, signal.SIGINT)
        (tmp_path / "go").open("w").close()
        assert emt.wait(60) == -signal.SIGINT
    assert only_record(slow_start)["exit"]["signal"] == signal.SIGINT


def test_a_held_command_that_is_killed_ends_the_run_as_killed(
    slow_start: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with started([*RUN, "--", "sleep", "1000"], env=slow_start) as emt:
        until((tmp_path / "opening").exists, "the sensors to be opened")
        child = child_of(emt.pid)
        os.kill(child, signal.SIGKILL)
        until(lambda: state(child) == "Z", "the held child's death")
        (tmp_path / "go").open("w").close()
        assert emt.wait(60) == -signal.SIGKILL
    assert only_record(slow_start)["exit"]["signal"] == signal.SIGKILL


def test_emt_killed_before_the_release_leaves_nothing_that_runs(
    slow_start: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with started([*RUN, "--", "touch", str(tmp_path / "started")], env=slow_start) as emt:
        until((tmp_path / "opening").exists, "the sensors to be opened")
        child = child_of(emt.pid)
        emt.kill()
        emt.wait(60)
        until(lambda: is_gone(child), "the held child to leave")
    assert not (tmp_path / "started").exists()


def test_emt_killed_later_leaves_the_command_running(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment) as (emt, counter):
        child = child_of(emt.pid)
        emt.kill()
        assert emt.wait(60) == -signal.SIGKILL
        os.kill(child, signal.SIGUSR1)
        counter.wait_for(signal.SIGUSR1)
        assert counter.counts() == {signal.SIGUSR1: 1}
        counter.end()
        until(lambda: is_gone(child), "the command to end by itself")
    assert [record["state"] for record in records(environment)] == ["running"]
