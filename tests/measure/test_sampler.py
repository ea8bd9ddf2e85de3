"""The tick loops on a fake clock: a thousand seconds of sampling, exact and instant."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from emt_cli.measure.sampler import FIRST_TICK, LAST_TICK, Collector, Part, RealClock, SensorLoop
from emt_cli.model import Channel, Gap, GpuUse, Reading


class FakeClock:
    """Time that passes only by waiting. Each wait may oversleep by what `oversleep` says."""

    def __init__(self, stops_at_s: float, oversleep: Callable[[int], float] = lambda wait: 0.0) -> None:
        self.t_s = 0.0
        self.waits = 0
        self._stops_at_s = stops_at_s
        self._oversleep = oversleep

    def now(self) -> float:
        return self.t_s

    def wait(self, until_s: float) -> bool:
        self.waits += 1
        self.t_s = min(max(self.t_s, until_s) + self._oversleep(self.waits), self._stops_at_s)
        return self.t_s >= self._stops_at_s

    def stop(self) -> None:
        self._stops_at_s = self.t_s


def channel(**facts: object) -> Channel:
    defaults = {
        "id": "cpu0/package",
        "sensor": "fake",
        "device": "cpu0",
        "domain": "package",
        "kind": "counter",
        "provenance": "measured",
        "source": "a fake",
        "unit": 1e-6,
    }
    return Channel(**{**defaults, **facts})  # type: ignore[arg-type]


class FakeSensor:
    """Reads a power function of the clock; a counter wraps where the channel says so."""

    name = "fake"

    def __init__(
        self,
        clock: FakeClock,
        watts: float,
        *,
        min_period_s: float = 1e-3,
        reads_cost_s: float = 0.0,
        **facts: object,
    ) -> None:
        self.clock = clock
        self.watts = watts
        self.channels: Sequence[Channel] = [channel(**facts)]
        self.min_period_s = min_period_s
        self.reads = 0
        self._cost_s = reads_cost_s

    def read(self) -> list[Reading | Gap]:
        self.reads += 1
        self.clock.t_s += self._cost_s
        now = self.clock.now()
        if self.channels[0].kind == "gauge":
            return [Reading(now, self.watts)]
        raw = round(self.watts * now / self.channels[0].unit)
        return [Reading(now, raw % (self.channels[0].range_raw or 2**63))]

    def close(self) -> None:
        pass


def sampled(sensor: FakeSensor, hertz: float) -> SensorLoop:
    """A loop that has run from its first to its last reading in this very thread."""
    loop = SensorLoop(sensor, 0, 1 / hertz, sensor.clock, lambda pid: False)
    loop._read(FIRST_TICK)
    loop.run()
    loop._read(LAST_TICK)
    loop.is_done.set()
    loop.finish(sensor.clock.now())
    return loop


@pytest.mark.parametrize("hertz", [0.1, 1, 10, 100, 1000])
def test_a_thousand_seconds_give_the_same_joules_at_any_frequency(hertz: float) -> None:
    loop = sampled(FakeSensor(FakeClock(1000.0), 42.0), hertz)
    assert loop.meters[0].energy_j == pytest.approx(42_000, rel=1e-9)
    assert loop.ticks.late == 0
    assert loop.ticks.done == pytest.approx(1000 * hertz, abs=1)


def test_a_counter_that_wraps_every_twenty_seconds_is_read_in_time_at_one_tick_in_ten_seconds() -> None:
    sensor = FakeSensor(FakeClock(1000.0), 90.0, range_raw=int(1800e6), max_power_w=100.0)
    loop = sampled(sensor, 0.1)
    assert loop.meters[0].energy_j == pytest.approx(90_000, rel=1e-9)
    assert loop.meters[0].wraps == 50
    assert sensor.reads > 2 * 100, "the loop must look more often than the user's ticks"
    assert len(loop.parts) == pytest.approx(100, abs=2), "but rows come at the user's rate"


def test_late_ticks_are_counted_and_never_replayed() -> None:
    sleepy = FakeClock(100.0, oversleep=lambda wait: 5.0 if wait == 10 else 0.0)
    loop = sampled(FakeSensor(sleepy, 10.0), 10)
    assert loop.ticks.late in (49, 50)
    assert loop.ticks.done + loop.ticks.late == pytest.approx(1000, abs=1)
    assert loop.meters[0].energy_j == pytest.approx(1000, rel=1e-9)
    ticks = [part.tick for part in loop.parts]
    assert ticks == sorted(set(ticks))


def test_deadlines_are_absolute_so_that_slow_reads_do_not_add_up() -> None:
    loop = sampled(FakeSensor(FakeClock(100.0), 10.0, reads_cost_s=0.04), 10)
    assert loop.ticks.done == pytest.approx(1000, abs=2)


def test_a_sensor_is_not_read_faster_than_it_can_tell_anything_new() -> None:
    sensor = FakeSensor(FakeClock(10.0), 10.0, min_period_s=0.05)
    loop = sampled(sensor, 1000)
    assert sensor.reads == pytest.approx(10 / 0.05, abs=3)
    assert all(part.tick % 50 == 0 for part in loop.parts if 0 < part.tick < LAST_TICK)


def test_a_gauge_read_every_ten_seconds_has_no_gaps() -> None:
    loop = sampled(FakeSensor(FakeClock(1000.0), 7.0, kind="gauge", unit=1.0), 0.1)
    assert loop.meters[0].energy_j == pytest.approx(7000)
    assert loop.meters[0].gaps == []


def test_parts_beyond_what_the_journal_can_take_are_lost_and_counted_but_energy_is_not() -> None:
    loop = sampled(FakeSensor(FakeClock(100.0), 5.0), 1000)
    assert loop.lost > 70_000
    assert len(loop.parts) == 20_000
    assert loop.meters[0].energy_j == pytest.approx(500)


def test_a_sensor_that_fails_in_a_way_it_should_not_ends_as_a_gap() -> None:
    class Broken(FakeSensor):
        def read(self) -> list[Reading | Gap]:
            if self.reads == 50:
                raise RuntimeError("plugin fault")
            return super().read()

    loop = sampled(Broken(FakeClock(10.0), 20.0), 10)
    meter = loop.meters[0]
    assert meter.energy_j == pytest.approx(98, rel=0.05)
    assert [gap.reason for gap in meter.gaps] == ["RuntimeError: plugin fault"]
    assert meter.gaps[0].end_s == pytest.approx(10.0)


def test_the_devices_users_are_asked_once_a_second_and_what_was_before_the_start_is_nobodys() -> None:
    class Shared(FakeSensor):
        asked = 0

        def usage(self) -> list[GpuUse]:
            self.asked += 1
            return [
                GpuUse(device="gpu0", pid=1, busy_s=0.5 if self.asked > 1 else 99.0),
                GpuUse(device="gpu0", pid=2, busy_s=0.25 if self.asked > 1 else 99.0),
            ]

    sensor = Shared(FakeClock(10.0), 20.0, device="gpu0", domain="gpu")
    loop = SensorLoop(sensor, 0, 0.1, sensor.clock, lambda pid: pid == 1)
    loop._read(FIRST_TICK)
    loop.run()
    loop._read(LAST_TICK)
    (use,) = loop.shares.uses()
    times = sensor.asked - 1
    assert times in (10, 11)
    assert (use.tree_pids, use.other_pids) == ((1,), (2,))
    assert use.tree_busy_s == pytest.approx(0.5 * times)
    assert use.total_busy_s == pytest.approx(0.75 * times)


def test_a_device_that_nobody_used_is_told_apart_from_one_that_cannot_tell() -> None:
    class Unused(FakeSensor):
        def usage(self) -> list[GpuUse]:
            return []

    silent = sampled(FakeSensor(FakeClock(2.0), 1.0, device="gpu0", domain="gpu"), 10)
    unused = sampled(Unused(FakeClock(2.0), 1.0, device="gpu0", domain="gpu"), 10)
    assert silent.shares.uses() == ()
    (use,) = unused.shares.uses()
    assert (use.device, use.tree_pids, use.other_pids) == ("gpu0", (), ())


class Parts:
    """A stand-in for a loop of which only the parts matter."""

    def __init__(self, *parts: Part) -> None:
        from collections import deque

        self.parts = deque(parts)


def part(tick: int, t_s: float, offset: int, joules: float) -> Part:
    return Part(tick, t_s, offset, (joules,), (None,))


def test_what_two_sensors_read_at_one_tick_is_one_sample() -> None:
    loops = [
        Parts(Part(0, 1.0, 0, (), (), 0.5, 0.75)),
        Parts(part(0, 1.001, 0, 10.0)),
        Parts(part(0, 1.002, 1, 20.0)),
    ]
    (sample,) = Collector(loops, 2).take(0, 1.0)  # type: ignore[arg-type]
    assert sample.energy_j == (10.0, 20.0)
    assert (sample.cpu_tree_s, sample.cpu_machine_s) == (0.5, 0.75)
    assert sample.t_s == pytest.approx(0.002)


def test_a_part_that_comes_after_its_tick_is_a_sample_of_its_own_and_time_never_runs_back() -> None:
    fast, slow = Parts(part(0, 0.0, 0, 0.0), part(1, 0.1, 0, 1.0)), Parts(part(0, 0.0, 1, 0.0))
    collector = Collector([fast, slow], 2)  # type: ignore[list-item]
    assert [sample.t_s for sample in collector.take(1, 0.0)] == [0.0, 0.1]
    slow.parts.append(part(1, 0.09, 1, 5.0))
    (late,) = collector.take(2, 0.0)
    assert late.energy_j == (None, 5.0)
    assert late.t_s == 0.1
    assert collector.last is late


def test_ticks_that_are_not_over_wait() -> None:
    loop = Parts(part(0, 0.0, 0, 0.0), part(5, 0.5, 0, 1.0))
    collector = Collector([loop], 1)  # type: ignore[list-item]
    assert len(collector.take(4, 0.0)) == 1
    assert collector.take(4, 0.0) == []
    assert len(collector.take(5, 0.0)) == 1


def test_the_real_clock_wakes_at_once_when_it_is_stopped() -> None:
    clock = RealClock()
    woken = threading.Event()

    def sleep() -> None:
        if clock.wait(clock.now() + 3600):
            woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    clock.stop()
    thread.join(10)
    assert woken.is_set()
