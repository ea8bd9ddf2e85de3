"""While a command runs: somebody looks at what it has used so far, and may end it.

The samples come from the writer's thread into a queue, and a thread of its own looks at them, so that a look
that takes long, or falls over, holds up nothing and costs the run no sample. What a limit is, and what has
been used, is the judge's business; here are the clock, the patience and the signals.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import NamedTuple, Protocol

from emt_cli.errors import FAULTS
from emt_cli.model import DeviceUse, Notice, Run, Sample
from emt_cli.notices import notice

_MOST_BATCHES = 100
"""Batches of samples that wait to be looked at. Values are cumulative: to lose the oldest loses nothing."""

Devices = Callable[[], Sequence[DeviceUse]]
"""Who has used the GPUs so far."""
End = Callable[[bool], bool]
"""Ends the command, at once or politely, and says whether there was one left to end. Raises PermissionError
where it belongs to somebody else."""


class Look(NamedTuple):
    """What a look found: what is to be said now, and whether the command is to be ended."""

    news: Sequence[str] = ()
    ends: bool = False


class Judge(Protocol):
    """Whoever knows the limits. Called by the watch's thread, one call at a time.

    `due_s` is when it wants to look even if no sample has come, in seconds since the start.
    """

    @property
    def due_s(self) -> float: ...

    @property
    def grace_s(self) -> float:
        """How long the command may take to end before it is killed."""

    def begin(self, run: Run) -> None: ...

    def look(self, samples: Sequence[Sample], elapsed_s: float, devices: Devices) -> Look: ...


class _Subject(NamedTuple):
    """What is watched."""

    run: Run
    origin_s: float
    end: End
    devices: Devices


class Watch:
    """One run's watch. `see` returns at once; after `stop` it ends nothing any more."""

    def __init__(self, judge: Judge, say: Callable[[str], None]) -> None:
        self.ended_s: float | None = None
        """When the command was asked to end, in seconds since the start; None: never."""
        self._judge = judge
        self._say = say
        self._batches: deque[Sequence[Sample]] = deque(maxlen=_MOST_BATCHES)
        self._subject: _Subject | None = None
        self._begins = threading.Event()
        self._wakes = threading.Event()
        self._is_over = False
        self._fault = ""
        self._kill_s = inf
        """When patience ends, in seconds since the start."""

    def prepare(self) -> None:
        """Have the thread ready before the command starts. Raises RuntimeError where none can be had."""
        _in_thread(self._live, "emt-watch")

    def start(self, run: Run, origin_s: float, end: End, devices: Devices) -> None:
        """Begin to look at a run that has started at `origin_s`."""
        self._subject = _Subject(run, origin_s, end, devices)
        self._begins.set()

    def see(self, samples: Sequence[Sample]) -> None:
        """For the writer's thread."""
        self._batches.append(samples)
        self._wakes.set()

    def stop(self) -> None:
        self._is_over = True
        self._begins.set()
        self._wakes.set()

    def notices(self) -> list[Notice]:
        """Why it did not see the run through."""
        return [notice("watch_failed", reason=self._fault)] if self._fault else []

    def _live(self) -> None:
        self._begins.wait()
        subject = self._subject
        if subject is None:  # the command never started
            return
        try:
            self._judge.begin(subject.run)
            while not self._is_over:
                self._wait(subject.origin_s)
                if not self._is_over:
                    self._look(time.monotonic() - subject.origin_s, subject.end, subject.devices)
        except PermissionError:
            self._fault = "the command belongs to another user, and may not be stopped"
        except FAULTS as fault:  # the limits are looked at once more when the run is over
            self._fault = f"{type(fault).__name__}: {fault}"

    def _wait(self, origin_s: float) -> None:
        due_s = min(self._judge.due_s, self._kill_s)
        self._wakes.wait(None if due_s == inf else max(0.0, origin_s + due_s - time.monotonic()))
        self._wakes.clear()

    def _look(self, elapsed_s: float, end: End, devices: Devices) -> None:
        if elapsed_s >= self._kill_s:
            self._kill_s = inf
            end(True)
        samples: list[Sample] = []
        while self._batches:
            samples.extend(self._batches.popleft())
        news, ends = self._judge.look(samples, elapsed_s, devices)
        if ends and self.ended_s is None and end(False):
            self.ended_s = elapsed_s
            self._kill_s = elapsed_s + self._judge.grace_s
        if news:  # a terminal that does not take it must not hold up the end of patience
            with suppress(RuntimeError):  # no thread to be had: the record will say it
                _in_thread(lambda: [self._say(each) for each in news], "emt-say")


def _in_thread(work: Callable[[], object], name: str) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()
