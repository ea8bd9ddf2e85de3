"""A look at a sensor: what a read costs, how often values change, and that none can hold the others up."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.probing import probe, probe_all


class Clock:
    """A clock that only sleeping and reading move on."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


class Stepping:
    """A sensor whose values follow functions of time; a read takes `cost_s`."""

    name = "stepping"

    def __init__(
        self,
        clock: Clock,
        *values: Callable[[float], float | Gap],
        cost_s: float = 1e-5,
        period_s: float | None = None,
    ) -> None:
        self.clock, self.values, self.cost_s = clock, values, cost_s
        self.min_period_s = 1e-3
        self.reads = 0
        self.channels: Sequence[Channel] = [
            Channel(
                id=f"cpu{number}/package",
                sensor=self.name,
                device=f"cpu{number}",
                domain="package",
                kind="counter",
                provenance="measured",
                source="",
                update_period_s=period_s,
            )
            for number in range(len(values))
        ]

    def read(self) -> list[Reading | Gap]:
        self.reads += 1
        self.clock.now_s += self.cost_s
        now_s = self.clock.now_s
        told = (value(now_s) for value in self.values)
        return [each if isinstance(each, Gap) else Reading(now_s, each) for each in told]

    def close(self) -> None:
        pass


def every(period_s: float, step: int = 7) -> Callable[[float], int]:
    """A counter that moves on at every multiple of a period."""
    return lambda t_s: math.floor(t_s / period_s) * step


@pytest.mark.parametrize("period_s", [0.001, 0.0025, 0.01, 0.1])
def test_the_update_period_is_measured(period_s: float) -> None:
    clock = Clock()
    [look] = probe(Stepping(clock, every(period_s)), clock=clock, sleep=clock.sleep).looks
    assert look.update_period_s == pytest.approx(period_s, rel=0.1)
    assert not look.is_upper_bound
    assert look.steps == pytest.approx(0.5 / period_s, abs=1.5)


def test_a_value_that_changes_at_every_reading_gives_only_a_bound() -> None:
    clock = Clock()
    [look] = probe(Stepping(clock, every(1e-6)), clock=clock, sleep=clock.sleep).looks
    assert look.is_upper_bound
    assert look.update_period_s is not None and 1e-6 < look.update_period_s < 1e-3


@pytest.mark.parametrize("steps", [0, 1])
def test_a_value_that_changed_less_than_twice_has_no_period(steps: int) -> None:
    clock = Clock()
    sensor = Stepping(clock, lambda t_s: int(steps and t_s > 100.25))
    [look] = probe(sensor, clock=clock, sleep=clock.sleep).looks
    assert (look.steps, look.update_period_s) == (steps, None)


def test_a_reader_that_is_held_up_does_not_change_the_period() -> None:
    clock = Clock()
    naps = itertools.count()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds if next(naps) % 50 else 0.02)

    [look] = probe(Stepping(clock, every(0.002)), clock=clock, sleep=sleep).looks
    assert look.update_period_s == pytest.approx(0.002, rel=0.15)


def test_the_cost_of_a_read_is_the_usual_one() -> None:
    clock = Clock()
    sensor = Stepping(clock, every(0.01), cost_s=3e-4)
    told = probe(sensor, clock=clock, sleep=clock.sleep)
    assert told.read_cost_s == pytest.approx(3e-4)
    assert told.reads == sensor.reads


@pytest.mark.parametrize("cost_s", [1e-5, 1e-3, 0.05])
def test_a_look_leaves_most_of_the_time_to_others(cost_s: float) -> None:
    clock = Clock()
    told = probe(Stepping(clock, every(0.01), cost_s=cost_s), clock=clock, sleep=clock.sleep)
    assert told.reads * cost_s <= 0.26 * told.took_s + 2 * cost_s
    assert told.took_s == pytest.approx(0.5, abs=0.1)


def test_a_slow_sensor_is_read_twice_and_no_more() -> None:
    clock = Clock()
    sensor = Stepping(clock, every(0.01), cost_s=2.0)
    assert probe(sensor, 0.5, clock=clock, sleep=clock.sleep).reads == 2


def test_the_stated_period_sets_the_pace() -> None:
    reads = []
    for period_s in (1.0, 0.05, 0.001):
        clock = Clock()
        sensor = Stepping(clock, every(period_s), period_s=period_s)
        sensor.min_period_s = 1.0
        reads.append(probe(sensor, clock=clock, sleep=clock.sleep).reads)
    assert reads == sorted(reads) and len(set(reads)) == 3
    assert reads[0] < 50


def test_power_is_taken_from_the_moments_of_steps() -> None:
    """Between first and last reading a counter of 0.1 s would be off by a quarter."""
    clock = Clock()
    [look] = probe(Stepping(clock, every(0.1, step=10)), 0.35, clock=clock, sleep=clock.sleep).looks
    first, last = look.readings[0], look.readings[-1]
    assert isinstance(first, Reading) and isinstance(last, Reading)
    rate = (last.value - first.value) / (last.t_s - first.t_s)
    assert rate == pytest.approx(100.0, rel=0.02)


def test_a_failed_reading_is_told_and_its_neighbour_is_untouched() -> None:
    clock = Clock()

    def failing(t_s: float) -> float | Gap:
        return Gap(t_s, "EIO") if t_s > 100.2 else every(0.01)(t_s)

    broken, sound = probe(Stepping(clock, failing, every(0.01)), clock=clock, sleep=clock.sleep).looks
    assert broken.fault == "EIO" and isinstance(broken.readings[-1], Gap)
    assert sound.fault == "" and sound.update_period_s == pytest.approx(0.01, rel=0.1)


def test_a_sensor_that_hangs_comes_without_looks_and_the_others_are_looked_at() -> None:
    release = threading.Event()

    class Hanging(Stepping):
        name = "hanging"

        def read(self) -> list[Reading | Gap]:
            release.wait(60)
            return super().read()

    clock = Clock()  # real time for probe_all; the readings' own times don't matter here
    sensors = [Hanging(clock, every(0.01)), Stepping(clock, every(0.01))]
    began_s = time.monotonic()
    hanging, sound = probe_all(sensors, 0.05, patience_s=4.0)
    assert time.monotonic() - began_s < 30
    release.set()
    assert (hanging.looks, hanging.sensor) == ((), "hanging")
    assert len(sound.looks) == 1


def test_many_sensors_share_the_time() -> None:
    clock = Clock()
    sensors = [Stepping(clock, every(0.01)) for _ in range(8)]
    probes = probe_all(sensors, 0.5, total_s=0.4)
    assert all(each.looks for each in probes)
    assert sum(each.took_s for each in probes) < 10
