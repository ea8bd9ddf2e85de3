"""Launching and signals, proved with the real command: real processes, real signals, real terminals.

What the tests share stands here: starting a command in the background and never leaving it behind, waiting
with a deadline instead of sleeping, a child that counts its signals, and the records in a store.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from tests.conftest import EMT

RUN = (*EMT, "run", "-q")
FENCE = signal.SIGRTMIN + 3
"""Sent last: when it has arrived, what was sent before it has arrived too, or never will."""
LIMIT_S = 60.0
_PROGRAMS = pathlib.Path(__file__).with_name("programs.py")

Result = TypeVar("Result")


def program(name: str, *arguments: object) -> list[str]:
    """The command line of one of `programs`."""
    return [sys.executable, "-I", "-S", str(_PROGRAMS), name, *map(str, arguments)]


def entering(*words: str) -> list[str]:
    """`entering("ignore=HUP")` before a command: it is started so."""
    return [*program("enter"), *words, "--"]


def until(look: Callable[[], Result], what: str) -> Result:
    """What `look` returns, as soon as it is true. Fails, naming `what`, after `LIMIT_S`."""
    deadline_s = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.005)
    return found


def finished(
    command: Sequence[str | bytes], environment: dict[str, str], **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """A command that was waited for, with what it wrote."""
    return subprocess.run(
        command, env=environment, capture_output=True, timeout=LIMIT_S, check=False, **options
    )


@contextlib.contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the background, in a process group of its own; whatever it leaves there is killed."""
    session = options.pop("session", False)
    words = ["session" if session else "group"]
    with subprocess.Popen([*entering(*words), *command], **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                process.kill()


class Counter:
    """The `count` program: how often each signal has reached it. Ends when `end` is called."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = folder / "signals"
        self._control = folder / "control"
        self._write_end: int | None = None
        os.mkfifo(self._control)

    def command(self, *words: str) -> list[str]:
        return program("count", self._file, self._control, *words)

    def wait_until_ready(self) -> None:
        """Its handlers stand as soon as it listens."""
        self._write_end = until(self._open, "the counting child")

    def _open(self) -> int | None:
        try:
            return os.open(self._control, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def end(self) -> None:
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None

    def counts(self) -> collections.Counter[int]:
        return collections.Counter(self._file.read_bytes() if self._file.exists() else b"")

    def wait_for(self, number: int) -> None:
        until(lambda: self.counts()[number], f"signal {number} to arrive")

    def fence(self, emt: int) -> collections.Counter[int]:
        """All that has arrived when a last signal, sent through emt, is there; without it."""
        before = self.counts()[FENCE]
        os.kill(emt, FENCE)
        until(lambda: self.counts()[FENCE] > before, "the fence")
        counts = self.counts()
        del counts[FENCE]
        return counts


@contextlib.contextmanager
def counting(
    folder: pathlib.Path, environment: dict[str, str], *words: str, before: Sequence[str] = (), **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Counter]]:
    """`emt run` of a ready counting child, and the counter."""
    counter = Counter(folder)
    with started([*before, *RUN, "--", *counter.command(*words)], env=environment, **options) as emt:
        counter.wait_until_ready()
        try:
            yield emt, counter
        finally:
            counter.end()


def children(pid: int) -> list[int]:
    """The children of a process' first thread."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def members_of_session(leader: int) -> list[int]:
    """Whoever is in the session, its leader too if that lives."""
    pids = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _session_of(pid) == leader]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def child_of(pid: int) -> int:
    """The first child, as soon as there is one."""
    return until(lambda: children(pid), f"a child of {pid}")[0]


def state(pid: int) -> str:
    """The letter of proc(5): R, S, D, T (stopped), Z; empty if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Whether it has ended; reaping an orphan is init's business."""
    return state(pid) in ("", "Z", "X")


def records(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Every run.json of the store."""
    files = sorted(pathlib.Path(environment["EMT_STORE"]).glob("*/run.json"))
    return [json.loads(file.read_text()) for file in files]


def only_record(environment: dict[str, str]) -> dict[str, Any]:
    """The one complete record of the store."""
    found = records(environment)
    assert len(found) == 1
    assert found[0]["state"] == "complete"
    return found[0]


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def need(command: Sequence[str], why: str) -> None:
    """Skip where this machine cannot do it; a root on a CI runner can."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        return
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"{why}: {done.stderr.decode()}")
    pytest.skip(why)
