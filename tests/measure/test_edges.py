"""The edges of a run, read just after a step of the counter: exact joules from one that moves ten times a
second, on a fake clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.measure.sampler import FIRST_TICK, LAST_TICK, SensorLoop
from emt_cli.model import Channel, Gap, Reading
from tests.measure.test_sampler import FakeClock, channel

STEP_S = 0.1


class Stepping:
    """A counter that moves every tenth of a second, `phase_s` after it; `read_edge` waits for that."""

    name = "stepping"
    min_period_s = 0.05

    def __init__(self, clock: FakeClock, watts: float = 300.0, phase_s: float = 0.0) -> None:
        self.clock, self.watts, self.phase_s = clock, watts, phase_s
        self.channels: Sequence[Channel] = [channel(unit=1e-3, update_period_s=STEP_S)]
        self.edges = 0

    def read(self) -> list[Reading | Gap]:
        steps = (self.clock.t_s - self.phase_s) / STEP_S + 1e-9
        return [Reading(self.clock.t_s, round(self.watts * int(steps) * STEP_S * 1000))]

    def read_edge(self) -> list[Reading | Gap]:
        self.edges += 1
        before = self.read()
        while self.read()[0][1] == before[0][1]:
            self.clock.t_s += 0.001
        return self.read()

    def close(self) -> None:
        pass


def measured(sensor: Stepping, duration_s: float, held_up_s: float = 0.0) -> SensorLoop:
    """A run whose start edge is followed by a wait for other sensors, as the session goes through it."""
    clock = sensor.clock
    loop = SensorLoop(sensor, 0, 0.1, clock, lambda pid: False)
    loop._read(FIRST_TICK)
    while held_up_s > 0:
        clock.t_s += 0.02
        held_up_s -= 0.02
        loop._begin_anew()
        loop._read(FIRST_TICK)
    start_s = clock.t_s
    loop._origin_s = start_s
    clock._stops_at_s = start_s + duration_s
    loop.run()
    loop._read(LAST_TICK)
    loop.is_done.set()
    loop.finish(start_s + duration_s)
    return loop


@pytest.mark.parametrize("begins_s", [10.0, 10.03, 10.07, 10.099])
def test_a_run_of_three_steps_and_a_half_is_right_to_two_percent(begins_s: float) -> None:
    """A plain reading at both edges is off by half a step: 14 %."""
    clock = FakeClock(1e9)
    clock.t_s = begins_s
    loop = measured(Stepping(clock), 0.35)
    assert loop.meters[0].observed().energy_j == pytest.approx(105.0, rel=0.02)


@given(
    st.floats(10.0, 10.1), st.floats(0.05, 3.0), st.sampled_from([0.0, 0.05, 0.17]), st.floats(0.0, STEP_S)
)
def test_no_run_at_steady_power_is_off_by_more_than_the_polling(
    begins_s: float, duration_s: float, held_up_s: float, phase_s: float
) -> None:
    clock = FakeClock(1e9)
    clock.t_s = begins_s
    loop = measured(Stepping(clock, phase_s=phase_s), duration_s, held_up_s)
    # What holds up the start is polled every 20 ms, the edges every millisecond.
    slack_s = 0.022 if held_up_s else 0.003
    assert loop.meters[0].observed().energy_j == pytest.approx(300 * duration_s, abs=300 * slack_s)


def test_a_start_that_is_held_up_waits_for_one_step_only() -> None:
    clock = FakeClock(1e9)
    clock.t_s = 10.05
    sensor = Stepping(clock)
    measured(sensor, 0.3, held_up_s=0.5)
    assert sensor.edges == 2, "one at the start, one at the end"


def test_nobody_waits_at_the_end_of_a_long_run() -> None:
    clock = FakeClock(1e9)
    clock.t_s = 10.05
    sensor = Stepping(clock)
    loop = measured(sensor, 61.03)
    assert sensor.edges == 1
    assert loop.meters[0].observed().energy_j == pytest.approx(300 * 61.03, abs=300 * STEP_S)


def test_the_row_of_the_end_stands_at_the_end_not_at_the_step_after_it() -> None:
    clock = FakeClock(1e9)
    clock.t_s = 10.05
    loop = measured(Stepping(clock), 0.32)
    assert loop.parts[-1].t_s == pytest.approx(loop._origin_s + 0.32)


def test_a_sensor_whose_wait_fails_ends_as_a_gap() -> None:
    class Broken(Stepping):
        def read_edge(self) -> list[Reading | Gap]:
            if self.edges:
                raise OSError("lost")
            return super().read_edge()

    clock = FakeClock(1e9)
    clock.t_s = 10.05
    loop = measured(Broken(clock), 1.0)
    (gap,) = loop.meters[0].gaps
    assert gap.reason == "OSError: lost"
