"""The tick loops: one thread for each sensor and one for CPU time, all on the same absolute deadlines.

The session steps every loop through its stages: `start` (a first reading to warm caches and drivers),
`prime` (the reading at the start edge), `go` (ticks), `stop` (the reading at the end edge). A sensor that
blocks holds up its own loop alone. What a tick brings is a raw part; `Collector` puts the parts of one
tick together into a `Sample`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple, Protocol

from emt_cli.errors import FAULTS
from emt_cli.measure.devices import DeviceShares, IsOfTree
from emt_cli.measure.systems import CpuAccount
from emt_cli.model import Gap, Reading, Sample
from emt_cli.sensors.base import Rewinds, Sensor, SharesDevices, WaitsForSteps
from emt_cli.sensors.meters import Meter, meter

_MOST_PARTS = 20_000
"""Parts that wait for the journal; beyond that the oldest are lost, and counted."""
_CPU_PERIOD_S = 0.1
"""CPU accounting comes in 10 ms steps: reading it more often tells nothing."""
_USAGE_PERIOD_S = 1.0
_STALE_S = 0.02
"""A reading at the start edge that is older than this at the start is taken again."""
_LONGEST_FOR_STEPS_S = 60.0
"""At the end of a longer run nobody waits for a counter's step: 0.1 s is less than 0.2 % of it."""
FIRST_TICK, LAST_TICK = -1, 2**62


class Clock(Protocol):
    """Time and the wish to stop. `wait` returns True as soon as somebody wants the loop to stop."""

    def now(self) -> float: ...

    def wait(self, until_s: float) -> bool: ...

    def stop(self) -> None: ...


class RealClock:
    """The monotonic clock; a lock is the cheapest thing that both sleeps exactly and can be woken."""

    def __init__(self) -> None:
        self._stopped = threading.Lock()
        self._stopped.acquire()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, until_s: float) -> bool:
        return self._stopped.acquire(timeout=max(0.0, until_s - time.monotonic()))

    def stop(self) -> None:
        self._stopped.release()


class Part(NamedTuple):
    """What one loop read at one tick. Joules and watts belong to the channels from `offset` on."""

    tick: int
    t_s: float
    offset: int
    energy_j: tuple[float | None, ...]
    power_w: tuple[float | None, ...]
    cpu_tree_s: float | None = None
    cpu_machine_s: float | None = None


@dataclass(slots=True)
class Ticks:
    """How many base periods a loop was woken for, and how many it slept through."""

    done: int = 0
    late: int = 0


class Loop(ABC):
    """The stages and deadlines that sensors and CPU time share; `_read` says what a tick does."""

    def __init__(self, name: str, base_s: float, useful_s: float, clock: Clock) -> None:
        self.name = name
        self.ticks = Ticks()
        self.lost = 0
        self.parts: deque[Part] = deque()
        self.is_warm = threading.Event()
        self.is_primed = threading.Event()
        self.is_done = threading.Event()
        self._clock = clock
        self._base_s = base_s
        self._stride = max(1, ceil(useful_s / base_s - 1e-9))
        self._origin_s = 0.0
        self._prime = threading.Event()
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"emt-{name}", daemon=True)

    def start(self) -> None:
        """Warm up; `is_warm` tells when that is done."""
        self._thread.start()

    def prime(self) -> None:
        """Read the start edge; `is_primed` tells when that is done."""
        self._prime.set()

    def go(self, origin_s: float) -> None:
        """Tick from here on: tick k is due at origin + k x period."""
        self._origin_s = origin_s
        self._go.set()

    def stop(self) -> None:
        """Read the end edge and be done; `is_done` tells when."""
        self._clock.stop()

    def _live(self) -> None:
        self._warm_up()
        self.is_warm.set()
        self._prime.wait()
        self._read(FIRST_TICK)
        self.is_primed.set()
        while not self._go.wait(_STALE_S):  # another sensor holds up the start: what was read is no edge
            self._begin_anew()
            self._read(FIRST_TICK)
        self.run()
        self._read(LAST_TICK)
        self.is_done.set()

    def run(self) -> None:
        """Tick until the clock says stop."""
        base_s, stride, clock = self._base_s, self._stride, self._clock
        tick = 0
        while True:
            tick += stride
            missed = int((clock.now() - self._origin_s) / base_s) - tick
            if missed > 0:  # late ticks are counted, never replayed
                skipped = ceil(missed / stride) * stride
                self.ticks.late += skipped
                tick += skipped
            if self._wait(self._origin_s + tick * base_s):
                return
            self._read(tick)
            self.ticks.done += stride

    def _wait(self, until_s: float) -> bool:
        return self._clock.wait(until_s)

    def _warm_up(self) -> None:  # noqa: B027 - not every loop has such a cost
        """Pay what only the first reading costs."""

    def _begin_anew(self) -> None:
        """Forget the reading at the start edge."""
        self.parts.clear()

    @abstractmethod
    def _read(self, tick: int) -> None:
        """Do what a tick is for and put a part of it."""

    def _put(self, part: Part) -> None:
        if len(self.parts) >= _MOST_PARTS:
            self.parts.popleft()
            self.lost += 1
        self.parts.append(part)


class SensorLoop(Loop):
    """Reads one sensor into its channels' meters; also who used its devices, where it can tell."""

    def __init__(
        self, sensor: Sensor, offset: int, base_s: float, clock: Clock, is_of_tree: IsOfTree
    ) -> None:
        super().__init__(sensor.name, base_s, sensor.min_period_s, clock)
        self.sensor = sensor
        self.meters = self._new_meters()
        counted = {c.device for c in sensor.channels if not c.dropped}
        devices = counted if isinstance(sensor, SharesDevices) else set()
        self.shares = DeviceShares(is_of_tree, devices, sees_others=getattr(sensor, "sees_others", True))
        self._offset = offset
        self._wakeup_s = min(
            (m.longest_step_s / 2 for m in self.meters if m.longest_step_s is not None), default=inf
        )
        self._next_usage_s = 0.0
        self._steps: Sequence[Reading | Gap] = ()
        """What was read at the start edge just after a step; empty where the sensor does not wait for any."""
        self._ends_at_step = False

    def _new_meters(self) -> list[Meter]:
        period_s = self._base_s * self._stride
        return [meter(channel, 0.0, period_s) for channel in self.sensor.channels]

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self.meters = self._new_meters()

    def finish(self, end_s: float) -> None:
        """After `is_done`, or instead of waiting for it: what was not read until `end_s` is a gap."""
        is_stuck = not self.is_done.is_set()
        for each in self.meters:
            each.start_s = self._origin_s
            if is_stuck:
                each.update(Gap(each.last_s, "the last reading did not come in time"))
            each.finish(end_s, between_steps=bool(self._steps) and self._ends_at_step and not is_stuck)

    def _wait(self, until_s: float) -> bool:
        """Wait for the tick, but look at a counter that could wrap meanwhile."""
        while until_s - self._clock.now() > self._wakeup_s:
            if self._clock.wait(self._clock.now() + self._wakeup_s):
                return True
            self._update()
        return self._clock.wait(until_s)

    def _warm_up(self) -> None:
        with suppress(*FAULTS):  # it will show again at the first reading that counts
            self.sensor.read()

    def _update(self, tick: int = 0) -> float:
        """Read into the meters. Returns the time for which the readings stand."""
        begun_s = self._clock.now()
        try:
            readings = self._at_edge(tick) if tick in (FIRST_TICK, LAST_TICK) else self.sensor.read()
        except FAULTS as fault:
            return self._fail(f"{type(fault).__name__}: {fault}")
        for each, reading in zip(self.meters, readings, strict=True):
            each.update(reading)
        if not readings or (tick == LAST_TICK and self._ends_at_step):
            return begun_s
        return readings[-1].t_s

    def _at_edge(self, tick: int) -> Sequence[Reading | Gap]:
        """The readings at an edge: just after a counter's step, where the sensor can wait for it.

        A start edge that is taken again has seen its step: what has not moved since keeps its time.
        """
        sensor = self.sensor
        if not isinstance(sensor, WaitsForSteps):
            return sensor.read()
        if tick == LAST_TICK:
            self._ends_at_step = self._clock.now() - self._origin_s <= _LONGEST_FOR_STEPS_S
            return sensor.read_edge() if self._ends_at_step else sensor.read()
        if self._steps:
            self._steps = [_unmoved(*pair) for pair in zip(self._steps, sensor.read(), strict=True)]
        else:
            self._steps = sensor.read_edge()
        return self._steps

    def _fail(self, reason: str) -> float:
        now = self._clock.now()
        for each in self.meters:
            each.update(Gap(now, reason))
        return now

    def _read(self, tick: int) -> None:
        if tick == FIRST_TICK and isinstance(self.sensor, Rewinds):
            self.sensor.rewind()
        t_s = self._update(tick)
        if t_s >= self._next_usage_s or tick == LAST_TICK:
            self._next_usage_s = t_s + getattr(self.sensor, "usage_period_s", _USAGE_PERIOD_S)
            if self.shares.devices and isinstance(self.sensor, SharesDevices):
                self.shares.add(self.sensor.usage(), is_first=tick == FIRST_TICK)
        energy_j = tuple([each.energy_j for each in self.meters])
        power_w = tuple([each.power_w for each in self.meters])
        self._put(Part(tick, t_s, self._offset, energy_j, power_w))


def _unmoved(before: Reading | Gap, now: Reading | Gap) -> Reading | Gap:
    """The earlier of two readings of the same value: it is nearer to the step that brought it."""
    is_same = isinstance(before, Reading) and isinstance(now, Reading) and before.value == now.value
    return before if is_same else now


class CpuLoop(Loop):
    """Reads the CPU time of the tree and of the machine, at most ten times a second."""

    def __init__(self, cpu: CpuAccount, base_s: float, clock: Clock) -> None:
        super().__init__("cpu", base_s, _CPU_PERIOD_S, clock)
        self._cpu = cpu

    def _read(self, tick: int) -> None:
        reading = self._cpu.begin() if tick == FIRST_TICK else self._cpu.read(is_last=tick == LAST_TICK)
        self._put(Part(tick, reading.t_s, 0, (), (), reading.tree_s, reading.machine_s))


class Collector:
    """Puts the parts of one tick together. `take` hands out the samples of the ticks that are over."""

    def __init__(self, loops: Sequence[Loop], width: int) -> None:
        self._loops = loops
        self._width = width
        self._open: dict[int, list[Part]] = {}
        self.first: Sample | None = None
        self.last: Sample | None = None

    def take(self, up_to_tick: int, origin_s: float) -> list[Sample]:
        """The samples of all ticks up to that one; a part that comes late is a sample of its own."""
        for loop in self._loops:
            for _ in range(len(loop.parts)):
                part = loop.parts.popleft()
                self._open.setdefault(part.tick, []).append(part)
        ready = sorted(tick for tick in self._open if tick <= up_to_tick)
        samples = []
        for tick in ready:
            self.last = self._sample(self._open.pop(tick), origin_s)
            self.first = self.first or self.last
            samples.append(self.last)
        return samples

    def _sample(self, parts: list[Part], origin_s: float) -> Sample:
        energy_j: list[float | None] = [None] * self._width
        power_w: list[float | None] = [None] * self._width
        tree_s = machine_s = None
        for part in parts:
            energy_j[part.offset : part.offset + len(part.energy_j)] = part.energy_j
            power_w[part.offset : part.offset + len(part.power_w)] = part.power_w
            tree_s = part.cpu_tree_s if part.cpu_tree_s is not None else tree_s
            machine_s = part.cpu_machine_s if part.cpu_machine_s is not None else machine_s
        before_s = 0.0 if self.last is None else self.last.t_s
        # In microseconds, as samples.csv has it: what is worked out now and from the file is the same.
        t_s = max(before_s, round(max(part.t_s for part in parts) - origin_s, 6))
        return Sample(t_s, tuple(energy_j), tuple(power_w), tree_s, machine_s)
