"""Around the command: orphans, strangers, PID 1, and children that leave or stay behind."""

from __future__ import annotations

import csv
import os
import pathlib
import signal

import pytest

from tests.launch import (
    RUN,
    Counter,
    child_of,
    counting,
    entering,
    finished,
    is_gone,
    need,
    need_root,
    only_record,
    program,
    started,
    state,
    until,
)

NAMESPACE = ["unshare", "-p", "-f", "--mount-proc"]


@pytest.fixture
def namespace() -> list[str]:
    """In front of a command: it becomes PID 1 of a new PID namespace."""
    need_root()
    need([*NAMESPACE, "true"], "no PID namespace can be made here")
    return NAMESPACE


def test_orphans_are_reaped_while_the_command_runs(environment: dict[str, str]) -> None:
    done = finished([*RUN, "--", *program("orphans")], environment)
    assert done.returncode == 0
    assert only_record(environment)["exit"]["code"] == 0


def test_as_pid_1_emt_reaps_orphans_and_leaves_with_the_commands_status(
    environment: dict[str, str], namespace: list[str]
) -> None:
    line = '"$@" && exit 7'
    done = finished([*namespace, *RUN, "--", "sh", "-c", line, "sh", *program("orphans", 1)], environment)
    assert done.returncode == 7
    assert only_record(environment)["exit"]["code"] == 7


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_as_pid_1_emt_exits_with_128_and_the_signal_that_killed_the_command(
    environment: dict[str, str], namespace: list[str], name: str
) -> None:
    done = finished([*namespace, *RUN, "--", *program("die", name)], environment)
    assert done.returncode == 128 + getattr(signal, f"SIG{name}")
    assert only_record(environment)["exit"]["signal"] == getattr(signal, f"SIG{name}")


def test_as_pid_1_emt_passes_on_what_no_handler_would_let_in(
    environment: dict[str, str], namespace: list[str], tmp_path: pathlib.Path
) -> None:
    """`docker stop` sends SIGTERM to PID 1, which the kernel drops where it has its default action."""
    counter = Counter(tmp_path)
    with started([*namespace, *RUN, "--", *counter.command()], env=environment) as outer:
        counter.wait_until_ready()
        emt = child_of(outer.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP):
            os.kill(emt, number)
        child = child_of(emt)
        until(lambda: state(child) == "T", "the command to stop")  # emt cannot, and must not hang
        os.kill(emt, signal.SIGCONT)
        until(lambda: state(child) in "SR", "the command to go on")
        assert counter.fence(emt) == {signal.SIGTERM: 1, signal.SIGINT: 1, signal.SIGCONT: 1}
        counter.end()
        assert outer.wait(60) == 0


def test_children_of_the_shell_that_became_emt_are_neither_reaped_nor_counted(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """`helper & exec emt run ...`: emt finds children that it never started."""
    control = tmp_path / "control"
    os.mkfifo(control)
    burning = tmp_path / "burning"
    command = program("burdened", burning, control, *RUN, "--", *program("strangers"))
    with started(command, env=environment) as emt:
        write_end = until(lambda: _open_for_writing(control), "the helper to have used its CPU time")
        assert emt.wait(60) == 0
        helper = int(burning.read_text())
        assert not is_gone(helper)
        os.close(write_end)
        until(lambda: is_gone(helper), "the helper to end by itself")
    found = only_record(environment)
    assert found["exit"]["code"] == 0
    assert found["cpu_time"]["tree_s"] < 0.45
    table = pathlib.Path(environment["EMT_STORE"]) / found["id"] / "processes.csv"
    with table.open(newline="") as file:
        assert str(helper) not in {row["pid"] for row in csv.DictReader(file)}


def _open_for_writing(path: pathlib.Path) -> int:
    """0 while nobody reads it."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


def test_what_the_command_leaves_running_lives_on(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    daemon = "setsid " + " ".join(counter.command()) + " <&- >&- 2>&- & exit 7"
    done = finished([*RUN, "--", "sh", "-c", daemon], environment)
    assert done.returncode == 7
    counter.wait_until_ready()
    assert counter.counts() == {}
    counter.end()
    assert only_record(environment)["exit"]["code"] == 7


def test_a_command_that_leaves_a_daemon_ends_at_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    pid_file = tmp_path / "pid"
    line = f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 1000 <&- >&- 2>&-' &) & wait; exit 7"
    done = finished([*RUN, "--", "sh", "-c", line], environment)
    assert done.returncode == 7
    daemon = int(until(lambda: pid_file.exists() and pid_file.read_text(), "the daemon"))
    assert not is_gone(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_a_command_that_closes_everything_is_measured_to_its_end(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    line = f"exec <&- >&- 2>&-; ls /proc/$$/fd > {tmp_path / 'open'}; exit 9"
    done = finished([*RUN, "--", "sh", "-c", line], environment)
    assert (done.returncode, done.stdout, done.stderr) == (9, b"", b"")
    assert only_record(environment)["exit"]["code"] == 9


def test_wait_tree_passes_signals_on_to_those_that_are_left(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """After the command's end it is its descendants that a signal to emt is meant for."""
    counter = Counter(tmp_path)
    line = " ".join(counter.command()) + " & exit 7"
    with started([*RUN, "--wait-tree", "--", "sh", "-c", line], env=environment) as emt:
        counter.wait_until_ready()
        os.kill(emt.pid, signal.SIGUSR1)
        until(lambda: counter.counts()[signal.SIGUSR1], "the signal")
        assert counter.fence(emt.pid) == {signal.SIGUSR1: 1}
        counter.end()
        assert emt.wait(60) == 7


def test_emt_under_emt_is_measured_like_any_other_command(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with counting(tmp_path, environment, before=[*RUN, "--"]) as (outer, counter):
        os.kill(outer.pid, signal.SIGTERM)
        counter.wait_for(signal.SIGTERM)
        assert counter.fence(outer.pid) == {signal.SIGTERM: 1}
        counter.end()
        assert outer.wait(60) == 0


def test_a_folder_that_was_removed_is_no_reason_to_fail(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = finished(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *RUN, "--", "sh", "-c", "exit 7"], environment, cwd=gone
    )
    assert (done.returncode, done.stdout) == (7, b"")


def test_without_proc_the_command_runs_all_the_same(environment: dict[str, str]) -> None:
    need_root()
    need(["unshare", "-m", "sh", "-c", "umount -l /proc"], "no mount namespace can be made here")
    line = 'umount -l /proc; exec "$@"'
    done = finished(["unshare", "-m", "sh", "-c", line, "sh", *RUN, "--", "sh", "-c", "exit 7"], environment)
    assert (done.returncode, done.stdout) == (7, b"")
    assert b"Traceback" not in done.stderr


def test_the_command_starts_with_a_clean_slate_of_children(environment: dict[str, str]) -> None:
    """`wait -n` in a shell that emt became must not see emt's own: the command has no children yet."""
    done = finished([*entering(), *RUN, "--", "cat", "/proc/thread-self/children"], environment)
    assert (done.returncode, done.stdout) == (0, b"")
