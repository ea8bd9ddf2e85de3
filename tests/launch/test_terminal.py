"""On a real pseudo-terminal: job control, Ctrl-C, hang-ups, and shells in front of emt and behind it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.launch import (
    LIMIT_S,
    RUN,
    Counter,
    child_of,
    entering,
    is_gone,
    members_of_session,
    only_record,
    program,
    state,
    until,
)

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash for job control")


class Terminal:
    """A pseudo-terminal and the process that leads its session."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], cwd: pathlib.Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 132, 0, 0))
        self._text = b""
        self.leader = subprocess.Popen(
            [*entering("session", "terminal"), *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "dumb", "PS1": "PROMPT ", "HISTFILE": ""},
            cwd=cwd,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next match in what is shown, from behind the last one on."""
        deadline_s = time.monotonic() + LIMIT_S
        while not (match := re.search(pattern, self._text.decode("utf-8", "replace"))):
            assert time.monotonic() < deadline_s, f"waited in vain for {pattern!r} in {self._text!r}"
            self._read(0.1)
        self._text = self._text.decode("utf-8", "replace")[match.end() :].encode()
        return match

    def _read(self, limit_s: float) -> None:
        if select.select([self._master], [], [], limit_s)[0]:
            with contextlib.suppress(OSError):  # EIO: nobody has it open any more
                self._text += os.read(self._master, 65536)

    def wait(self) -> int:
        """The leader's status; what it shows meanwhile is read, so that it cannot block."""
        deadline_s = time.monotonic() + LIMIT_S
        while (status := self.leader.poll()) is None:
            assert time.monotonic() < deadline_s, f"waited in vain for the leader's end: {self._text!r}"
            self._read(0.02)
        return status

    def hang_up(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def close(self) -> None:
        for pid in members_of_session(self.leader.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.leader.wait(LIMIT_S)
        self.hang_up()


@contextlib.contextmanager
def on_terminal(
    command: Sequence[str], environment: dict[str, str], folder: pathlib.Path
) -> Iterator[Terminal]:
    terminal = Terminal(command, environment, folder)
    try:
        yield terminal
    finally:
        terminal.close()


BASH = ["bash", "--norc", "--noprofile", "--noediting", "-i"]


def test_the_terminal_is_the_commands_as_it_was(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    def facts(before: Sequence[str]) -> dict[str, Any]:
        path = tmp_path / "facts.json"
        with on_terminal([*before, *program("facts", path)], environment, tmp_path) as terminal:
            assert terminal.wait() == 0
        found = dict(json.loads(path.read_text()))
        descriptors = {fd: (flags, is_tty) for fd, (_, flags, is_tty) in found["descriptors"].items()}
        settings, is_foreground, _ = found["terminal"]
        assert all(descriptors[fd][1] for fd in "012")
        assert is_foreground
        return {"descriptors": descriptors, "settings": settings, "status": found["status"]}

    assert facts([*RUN, "--"]) == facts([])


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_a_key_that_signals_reaches_the_command_once(
    environment: dict[str, str], tmp_path: pathlib.Path, key: str, number: int
) -> None:
    counter = Counter(tmp_path)
    with on_terminal([*RUN, "--", *counter.command()], environment, tmp_path) as terminal:
        counter.wait_until_ready()
        terminal.type(key)
        counter.wait_for(number)
        assert counter.fence(terminal.leader.pid) == {number: 1}
        counter.end()
        assert terminal.wait() == 0
    assert only_record(environment)["exit"]["code"] == 0


def test_an_interrupt_that_kills_the_command_kills_emt(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    line = f"for i in 1 2 3; do {shlex.join(RUN)} -- sleep 1000; echo round; done; echo over=$?"
    with on_terminal(BASH, environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        terminal.type(line + "\n")
        emt = child_of(terminal.leader.pid)
        until(lambda: _program_of(child_of(emt)) == "sleep", "the command to start")
        terminal.type("\x03")
        terminal.wait_for("PROMPT ")  # bash leaves its loop only where it sees a death by SIGINT
        terminal.type("echo left=$?\n")
        terminal.wait_for(r"left=130\r")
    assert only_record(environment)["exit"]["signal"] == signal.SIGINT


def _program_of(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_new_window_size_reaches_the_command_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    with on_terminal([*RUN, "--", *counter.command()], environment, tmp_path) as terminal:
        counter.wait_until_ready()
        fcntl.ioctl(terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        counter.wait_for(signal.SIGWINCH)
        assert counter.fence(terminal.leader.pid) == {signal.SIGWINCH: 1}


def test_ctrl_z_stops_both_and_fg_goes_on_with_both(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    with on_terminal(BASH, environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        terminal.type(shlex.join([*RUN, "--", *counter.command()]) + "\n")
        counter.wait_until_ready()
        emt = child_of(terminal.leader.pid)
        child = child_of(emt)
        for times in (1, 2, 3):
            terminal.type("\x1a")
            terminal.wait_for("Stopped")
            terminal.wait_for("PROMPT ")
            assert (state(emt), state(child)) == ("T", "T")
            terminal.type("fg\n")
            until(lambda: state(child) in "SR" and state(emt) in "SR", "both to go on")
            assert counter.fence(emt)[signal.SIGCONT] == times
        terminal.type("\x03")
        counter.wait_for(signal.SIGINT)
        assert counter.fence(emt) == {signal.SIGCONT: 3, signal.SIGINT: 1}
        counter.end()
        terminal.wait_for("PROMPT ")
        terminal.type("echo status=$?\n")
        terminal.wait_for(r"status=0\r")
    assert only_record(environment)["exit"]["code"] == 0


def test_a_command_in_the_background_that_reads_stops_until_it_is_brought_forward(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with on_terminal(BASH, environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        line = shlex.join([*RUN, "--", "sh", "-c", 'read word; echo "got $word"; exit 4'])
        terminal.type(f"{line} &\n")
        emt = child_of(terminal.leader.pid)
        until(lambda: state(emt) == "T", "emt to stop with the command")
        terminal.type("fg\n")
        until(lambda: state(emt) in "SR", "emt to go on")
        terminal.type("hello\n")
        terminal.wait_for(r"got hello\r")
        terminal.wait_for("PROMPT ")
        terminal.type("echo status=$?\n")
        terminal.wait_for(r"status=4\r")


def test_an_interactive_shell_under_emt_keeps_its_own_jobs(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with on_terminal([*RUN, "--", *BASH], environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        terminal.type("sleep 1000\n")
        shell = child_of(terminal.leader.pid)
        sleeper = child_of(shell)
        until(lambda: _program_of(sleeper) == "sleep", "the job to start")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("PROMPT ")
        assert state(terminal.leader.pid) in "SR"
        terminal.type("kill %1; fg\n")
        terminal.wait_for("PROMPT ")
        until(lambda: is_gone(sleeper), "the job to end")
        terminal.type("exit 3\n")
        assert terminal.wait() == 3


def test_a_terminal_that_hangs_up_tells_the_command_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """`xterm -e emt run ...`: only the session's leader gets the kernel's SIGHUP, and here that is emt."""

    def arrived(before: Sequence[str], folder: pathlib.Path) -> int:
        folder.mkdir()
        counter = Counter(folder)
        with on_terminal([*before, *counter.command()], environment, tmp_path) as terminal:
            counter.wait_until_ready()
            terminal.hang_up()
            counter.wait_for(signal.SIGHUP)
            count = counter.fence(terminal.leader.pid)[signal.SIGHUP]
            counter.end()
            assert terminal.leader.wait(LIMIT_S) == 0
        return count

    assert arrived([*RUN, "--"], tmp_path / "wrapped") == arrived([], tmp_path / "bare") == 1
    assert only_record(environment)["exit"]["code"] == 0


def test_a_hang_up_that_kills_the_command_kills_emt(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with on_terminal([*RUN, "--", "sleep", "1000"], environment, tmp_path) as terminal:
        until(lambda: _program_of(child_of(terminal.leader.pid)) == "sleep", "the command to start")
        terminal.hang_up()
        assert terminal.leader.wait(LIMIT_S) == -signal.SIGHUP
    assert only_record(environment)["exit"]["signal"] == signal.SIGHUP


def test_the_summary_of_a_background_run_does_not_stop_it(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """With `stty tostop` whoever writes from the background is stopped; emt's last words are no reason."""
    with on_terminal(BASH, environment, tmp_path) as terminal:
        terminal.wait_for("PROMPT ")
        terminal.type("stty tostop\n")
        terminal.wait_for("PROMPT ")
        terminal.type(shlex.join([*RUN[:-1], "--", "true"]) + " & wait; echo over=$?\n")
        terminal.wait_for("energy")
        terminal.wait_for(r"over=0\r")
