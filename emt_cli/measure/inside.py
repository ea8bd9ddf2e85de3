"""A run that is this process itself, from `start` to `stop`: nothing is launched, nobody is waited for.

The loops and meters are those of `session`; what stands apart is that there is no command, and that all
samples stay in memory: thinned when they are many, which changes no total, since energy is cumulative.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from emt_cli.measure.own_time import own_time
from emt_cli.measure.sampler import Collector, CpuLoop, Loop, RealClock, SensorLoop
from emt_cli.measure.writer import Writer
from emt_cli.model import Channel, Notice, Process, Run, Sample, Sampling
from emt_cli.sensors.base import Machine, Sensor, StartsProcesses

_EDGE_LIMIT_S = 1.0
"""How long the first and the last readings may take before they become gaps."""
_LONGEST_TICK_S = 1.0
_MOST_SAMPLES = 20_000
"""Samples kept in memory, some 10 MB; half an hour at 10 Hz before every second one is dropped."""


class Inside:
    """One measurement. `start` and `stop` once each, from the same process; `start` raises RuntimeError where
    the system gives no threads."""

    def __init__(
        self,
        draft: Run,
        machine: Machine,
        sensors: Sequence[Sensor],
        *,
        notices: Sequence[Notice] = (),
        frequency_hz: float = 10.0,
    ) -> None:
        base_s = min(1.0 / frequency_hz, _LONGEST_TICK_S)
        helpers = frozenset(
            pid for sensor in sensors if isinstance(sensor, StartsProcesses) for pid in sensor.process_ids
        )
        self.origin_s = 0.0
        """When it started, on the monotonic clock."""
        self._suspended_s = 0.0
        self._own = own_time(machine, helpers, base_s)
        self._sensors: list[SensorLoop] = []
        channels: list[Channel] = []
        for sensor in sensors:
            self._sensors.append(SensorLoop(sensor, len(channels), base_s, RealClock(), self._own.has))
            channels.extend(sensor.channels)
        self._loops: list[Loop] = [CpuLoop(self._own.account, base_s, RealClock()), *self._sensors]
        self._kept = Kept(_MOST_SAMPLES)
        self._writer = Writer(self._kept, Collector(self._loops, len(channels)), base_s)
        self._draft = replace(draft, channels=tuple(channels), notices=(*draft.notices, *notices))
        self._frequency_hz = frequency_hz

    def start(self) -> None:
        """Returns when the first readings are taken, or a second has passed twice."""
        try:
            for loop in self._loops:
                loop.start()
        except RuntimeError:  # no thread to be had: send those home that were
            for loop in self._loops:
                loop.prime()
                loop.go(time.monotonic())
                loop.stop()
            raise
        _await([loop.is_warm for loop in self._loops])
        for loop in self._loops:
            loop.prime()
        _await([loop.is_primed for loop in self._loops if loop.is_warm.is_set()])
        self._suspended_s = self._own.suspended_s()
        self.origin_s = time.monotonic()
        for loop in self._loops:
            loop.go(self.origin_s)
        self._writer.start(self.origin_s, lambda: ())

    def stop(self) -> Run:
        """The raw record until now. Threads that are stuck in a driver are left behind.

        `paused_s` is not told: a reading that comes late here means that the program held the interpreter.
        """
        end_s = time.monotonic()
        for loop in self._loops:
            loop.stop()
        _await([loop.is_done for loop in self._loops])
        cpu_time = self._own.finish()
        for loop in self._sensors:
            loop.finish(end_s)
        self._writer.stop()
        self._writer.is_done.wait(_EDGE_LIMIT_S)
        meters = [each for loop in self._sensors for each in loop.meters]
        run = replace(
            self._draft,
            state="complete",
            duration_s=end_s - self.origin_s,
            cpu_time=cpu_time,
            devices=tuple(use for loop in self._sensors for use in loop.shares.uses()),
            observed=tuple(each.observed() for each in meters),
            gaps=tuple(gap for each in meters for gap in each.gaps),
            suspended_s=max(0.0, self._own.suspended_s() - self._suspended_s),
            samples=self._kept.samples(self._writer.edges),
            notices=(*self._draft.notices, *self._writer.notices),
            sampling=self._sampling(),
        )
        self._close()
        return run

    def _sampling(self) -> Sampling:
        ticks = max((loop.ticks for loop in self._loops), key=lambda each: each.done + each.late)
        return Sampling(
            frequency_hz=self._frequency_hz,
            ticks=ticks.done,
            late=ticks.late,
            lost_rows=sum(loop.lost for loop in self._loops),
        )

    def _close(self) -> None:
        """What a stuck thread may still be reading stays open."""
        if self._loops[0].is_done.is_set():
            self._own.close()
        for loop in self._sensors:
            if loop.is_done.is_set():
                loop.sensor.close()


class Kept:
    """The observer that keeps samples: at most `most`, evenly over the time, and the first one always."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: list[Sample] = []
        self._stride = 1
        self._count = 0

    def begin(self, run: Run) -> None:
        """Nothing is to be prepared."""

    def append(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if self._count % self._stride == 0:
                self._rows.append(sample)
            self._count += 1
            if len(self._rows) > self._most:
                del self._rows[1::2]
                self._stride *= 2

    def write_processes(self, processes: Sequence[Process]) -> None:
        """Nobody asks for the processes of a program that measures itself."""

    def samples(self, edges: Sequence[Sample]) -> list[Sample]:
        """All that are kept, and the last one, whether or not its turn had come."""
        rows = list(self._rows)
        last_s = rows[-1].t_s if rows else -1.0
        return [*rows, *(edge for edge in edges if edge.t_s > last_s)]


def _await(events: Sequence[threading.Event]) -> None:
    """Wait for all of them, but no longer than the limit together."""
    until_s = time.monotonic() + _EDGE_LIMIT_S
    for event in events:
        event.wait(max(0.0, until_s - time.monotonic()))
