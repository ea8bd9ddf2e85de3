"""Looking at opened sensors for a moment: what they read, what one read costs, how often values change.

For `emt sensors` and `emt doctor` alone; a run asks none of this. Sensors are looked at one after the other,
since two at once would pay for each other, and each in a thread: one that blocks is left behind.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from emt_cli.model import Gap, Reading
from emt_cli.sensors.base import Sensor
from emt_cli.values import Value

_LOOK_S = 0.5
_TOTAL_S = 2.0
_PATIENCE_S = 4.0
_LEAST_PATIENCE_S = 0.1
_SHORTEST_PAUSE_S = 2e-4
_LONGEST_PAUSE_S = 0.02
_PAUSES_PER_STEP = 5
"""So many readings for each step that the sensor promises: enough to tell when it came."""
_PAUSES_PER_READ = 3
"""A look takes a quarter of one core at most."""
_SURELY_SLOWER = 1.5
"""A value that changes at nearly every reading tells only that it changes at least so often."""


class Look(Value):
    """What one channel told.

    `readings` are those to take its power from: where steps were seen, from the one just after the first
    step to the one just after the last. `update_period_s` is None where it changed less than twice; with
    `is_upper_bound` it changes at least so often. `fault` is the reason of the last reading that failed.
    """

    readings: tuple[Reading | Gap, ...]
    steps: int = 0
    update_period_s: float | None = None
    is_upper_bound: bool = False
    fault: str = ""


class Probe(Value):
    """What a look at one sensor brought; `looks` are in the order of its channels, empty where it is stuck.

    `read_cost_s` is the median time of one read of all its channels.
    """

    sensor: str
    looks: tuple[Look, ...] = ()
    reads: int = 0
    read_cost_s: float | None = None
    took_s: float = 0.0


def probe(
    sensor: Sensor,
    seconds: float = _LOOK_S,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Probe:
    """Read a sensor for so many seconds, twice at least."""
    watches = [_Watch() for _ in sensor.channels]
    pause_s = _pause_s(sensor)
    began_s = clock()
    starts: list[float] = []
    costs: list[float] = []
    while True:
        starts.append(clock())
        readings = sensor.read()
        costs.append(clock() - starts[-1])
        for watch, reading in zip(watches, readings, strict=True):
            watch.see(reading)
        left_s = began_s + seconds - clock()
        if left_s <= 0 and len(costs) > 1:
            break
        sleep(max(min(max(pause_s, _PAUSES_PER_READ * costs[-1]), left_s), _SHORTEST_PAUSE_S))
    between_s = statistics.median(after - before for before, after in pairwise(starts))
    return Probe(
        sensor=sensor.name,
        looks=tuple(watch.look(between_s) for watch in watches),
        reads=len(costs),
        read_cost_s=statistics.median(costs),
        took_s=clock() - began_s,
    )


def probe_all(
    sensors: Sequence[Sensor],
    seconds: float = _LOOK_S,
    *,
    total_s: float = _TOTAL_S,
    patience_s: float = _PATIENCE_S,
) -> list[Probe]:
    """A look at each sensor, shorter where there are many: `total_s` together, and about `patience_s` longer
    where some block; the first one that does may use half of that. It then comes without looks."""
    each_s = min(seconds, total_s / max(len(sensors), 1))
    probes = []
    for sensor in sensors:
        began_s = time.monotonic()
        probes.append(_within(sensor, each_s, each_s + patience_s / 2))  # the next one gets some, too
        patience_s -= max(time.monotonic() - began_s - each_s, 0.0)
        patience_s = max(patience_s, _LEAST_PATIENCE_S)
    return probes


def _within(sensor: Sensor, seconds: float, limit_s: float) -> Probe:
    found: list[Probe] = []
    thread = threading.Thread(
        target=lambda: found.append(probe(sensor, seconds)), name=f"emt-look-{sensor.name}", daemon=True
    )
    thread.start()
    thread.join(limit_s)
    return found[0] if found else Probe(sensor=sensor.name, took_s=limit_s)


def _pause_s(sensor: Sensor) -> float:
    """Time between two readings that tells the steps apart that the sensor promises."""
    stated = [each.update_period_s for each in sensor.channels if each.update_period_s is not None]
    step_s = min([*stated, sensor.min_period_s])
    return min(max(step_s / _PAUSES_PER_STEP, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)


class _Watch:
    """Watches one channel's value change."""

    def __init__(self) -> None:
        self._readings: list[Reading | Gap] = []
        self._good: Reading | None = None
        self._steps: list[Reading] = []
        self._at: list[int] = []
        """Where among the readings the steps are."""
        self._fault = ""

    def see(self, reading: Reading | Gap) -> None:
        self._readings.append(reading)
        if isinstance(reading, Gap):
            self._fault = reading.reason
            return
        if self._good is not None and reading.value != self._good.value:
            self._steps.append(reading)
            self._at.append(len(self._readings) - 1)
        self._good = reading

    def look(self, between_s: float) -> Look:
        readings = self._readings
        if len(self._steps) > 1 and isinstance(readings[-1], Reading):
            readings = readings[self._at[0] : self._at[-1] + 1]
        period_s, is_bound = self._period(between_s)
        return Look(
            readings=tuple(readings),
            steps=len(self._steps),
            update_period_s=period_s,
            is_upper_bound=is_bound,
            fault=self._fault,
        )

    def _period(self, between_s: float) -> tuple[float | None, bool]:
        """The usual distance of two steps, and whether the readings were too far apart to tell.

        Around the median, since a single distance is off by up to the time between two readings, and a
        reader that was held up makes some twice as long.
        """
        distances = [after.t_s - before.t_s for before, after in pairwise(self._steps)]
        if not distances:
            return None, False
        median = statistics.median(distances)
        if median < _SURELY_SLOWER * between_s:
            return max(median, between_s), True
        usual = [each for each in distances if 0.5 * median <= each <= 1.5 * median]
        return statistics.fmean(usual), False
