"""A kernel for unit tests: processes that are forked, burn, end and are waited for at a word.

`installed()` puts it behind `emt_cli.measure.linux` and the waiting functions of `os`. `between` is called
before every look that emt takes, so that the world can change in the middle of a pass.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from emt_cli.measure import linux

ME = 1
TICK_S = 0.01


@dataclass(slots=True)
class Task:
    pid: int
    parent: int
    born_s: float
    cpu_s: float = 0.0
    reaped_s: float = 0.0
    is_dead: bool = False
    ignores_children: bool = False
    """It says so in /proc (SIG_IGN)."""
    drops_children: bool = False
    """It does not say so (SA_NOCLDWAIT)."""
    is_subreaper: bool = False

    @property
    def total_s(self) -> float:
        return self.cpu_s + self.reaped_s


@dataclass(slots=True)
class Kernel:
    """PIDs are reused as soon as they are free, the lowest first, to provoke confusion."""

    tasks: dict[int, Task] = field(default_factory=dict)
    spent_s: float = 0.0
    """By everybody but emt and `strangers`."""
    lost_s: float = 0.0
    """What went away with children that nobody waited for."""
    strangers: set[int] = field(default_factory=set)
    now_s: float = 0.0
    between: Callable[[int], None] = lambda _: None
    """What happens before the look at a PID."""

    def fork(self, parent: int) -> int:
        pid = next(pid for pid in range(2, 10_000) if pid not in self.tasks)
        self.now_s += 1.0
        self.tasks[pid] = Task(pid, parent, self.now_s)
        return pid

    def burn(self, pid: int, seconds: float) -> None:
        self.tasks[pid].cpu_s += seconds
        if not self._is_strange(pid):
            self.spent_s += seconds

    def end(self, pid: int) -> None:
        task = self.tasks[pid]
        task.is_dead = True
        for child in self.children(pid):
            self.tasks[child].parent = self._reaper(pid)
        parent = self.tasks.get(task.parent)
        if parent is not None and (parent.ignores_children or parent.drops_children):
            self.lost_s += task.total_s
            del self.tasks[pid]

    def wait(self, parent: int, pid: int) -> None:
        """`parent` waits for a dead child of its own."""
        task = self.tasks.pop(pid)
        assert task.is_dead
        assert task.parent == parent
        if parent in self.tasks:
            self.tasks[parent].reaped_s += task.total_s

    def children(self, pid: int) -> list[int]:
        return [task.pid for task in self.tasks.values() if task.parent == pid]

    def _reaper(self, pid: int) -> int:
        """Who gets the children of a process that ends: the nearest subreaper above, emt being the last."""
        above = self.tasks[pid].parent
        while above in self.tasks and (self.tasks[above].is_dead or not self.tasks[above].is_subreaper):
            above = self.tasks[above].parent
        return above if above in self.tasks else ME

    def _is_strange(self, pid: int) -> bool:
        return pid in self.strangers

    # --- what emt sees ------------------------------------------------------------------------------

    def stat(self, pid: int) -> linux.ProcessStat | None:
        self.between(pid)
        task = self.tasks.get(pid)
        if task is None:
            return None
        state = "Z" if task.is_dead else "S"
        return linux.ProcessStat(
            pid,
            f"p{pid}",
            state,
            task.parent,
            _in_ticks(task.cpu_s),
            _in_ticks(task.reaped_s),
            1,
            task.born_s,
        )

    def clock(self, pid: int) -> float:
        self.between(pid)
        if pid not in self.tasks:
            raise ProcessLookupError
        return self.tasks[pid].cpu_s

    def listed(self, pid: int, threads: int = 1) -> list[int]:
        self.between(pid)
        return self.children(pid)

    def ended_child(self) -> SimpleNamespace | None:
        if not self.children(ME):
            raise ChildProcessError
        dead = [pid for pid in self.children(ME) if self.tasks[pid].is_dead]
        return SimpleNamespace(si_pid=dead[0]) if dead else None

    def wait4(self, pid: int) -> tuple[int, int, SimpleNamespace]:
        usage = SimpleNamespace(ru_utime=self.tasks[pid].total_s, ru_stime=0.0)
        self.wait(ME, pid)
        return pid, 0, usage


def _in_ticks(seconds: float) -> float:
    return math.floor(seconds / TICK_S + 1e-6) * TICK_S


@contextmanager
def installed() -> Iterator[Kernel]:
    kernel = Kernel()

    def ignores(pid: int) -> bool:
        return pid in kernel.tasks and kernel.tasks[pid].ignores_children

    replaced: list[tuple[object, str, Any]] = [
        (os, "getpid", lambda: ME),
        (os, "waitid", lambda *_: kernel.ended_child()),
        (os, "wait4", lambda pid, _: kernel.wait4(pid)),
        (linux, "process_stat", kernel.stat),
        (linux, "cpu_clock_s", kernel.clock),
        (linux, "children", kernel.listed),
        (linux, "command_line", lambda pid, limit: f"command {pid}"),
        (linux, "ignores_sigchld", ignores),
        (linux, "has_children_files", lambda: True),
        (linux, "processes_are_visible", lambda: True),
        (linux, "spare_descriptors", lambda: 0),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for place, name, value in replaced:
            patch.setattr(place, name, value)
        yield kernel
