"""Counter and Gauge: the only place where a wrap, a reset, a glitch or a gap is decided."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.meters import Counter, Gauge, Meter, meter

RANGE = 262_143_328_850


def channel(**fields) -> Channel:
    facts = {
        "id": "cpu0/package", "sensor": "test", "device": "cpu0", "domain": "package", "kind": "counter",
        "provenance": "measured", "source": "test", "unit": 1e-6, "range_raw": RANGE, "max_power_w": 500.0,
        "update_period_s": 1e-3,
    }  # fmt: skip
    return Channel(**{**facts, **fields})


def gauge_channel(**fields) -> Channel:
    return channel(kind="gauge", provenance="integrated", unit=1.0, range_raw=None, **fields)


def fed(books: Meter, readings: Iterable[tuple[float, float | None]]) -> Meter:
    """The meter after these readings; None is one that failed with EIO."""
    for t_s, value in readings:
        books.update(Gap(t_s, "EIO") if value is None else Reading(t_s, value))
    return books


def counted(*readings: tuple[float, float | None], **fields) -> Meter:
    return fed(Counter(channel(**fields)), readings)


def joules(watts: float, t_s: float, start_uj: int = 0) -> int:
    """What a counter with the usual range shows after `t_s` at these watts."""
    return (start_uj + round(watts * t_s * 1e6)) % RANGE


# --- Counter ----------------------------------------------------------------------------------------


def test_before_the_first_reading_energy_is_unknown_not_zero() -> None:
    assert Counter(channel()).energy_j is None
    assert counted((0.0, None)).energy_j is None


def test_energy_is_the_last_reading_minus_the_first() -> None:
    books = counted((0, 7_000_000), (1, 17_000_000), (2, 37_000_000))
    assert books.energy_j == 30.0
    assert books.max_power_w == pytest.approx(20.0)
    assert (books.readings, books.failed, books.wraps, books.resets, books.gaps) == (3, 0, 0, 0, [])


def test_a_repeated_value_is_a_repeat() -> None:
    assert counted((0, 5), (0.001, 5), (0.002, 5)).energy_j == 0.0


def test_a_wrap_between_two_readings_is_counted_once() -> None:
    books = counted((0, RANGE - 4_000_000), (1, 6_000_000), (2, 16_000_000))
    assert books.energy_j == 20.0
    assert (books.wraps, books.resets, books.gaps) == (1, 0, [])


def test_several_wraps_at_fast_ticks_are_all_counted() -> None:
    small = 1_000_000
    books = counted(*((n * 0.0005, n * 50_000 % small) for n in range(101)), range_raw=small)
    assert books.wraps == 5
    assert books.energy_j == pytest.approx(5.0)


def test_a_wrap_across_failed_reads_is_counted() -> None:
    books = counted((0, RANGE - 4_000_000), (1, None), (2, None), (3, 26_000_000))
    assert books.energy_j == 30.0
    assert (books.wraps, books.failed, books.gaps) == (1, 2, [])


def test_a_reset_becomes_a_gap_and_counting_goes_on() -> None:
    books = counted((0, 900_000_000), (1, 910_000_000), (2, 3_000_000), (3, 13_000_000), (4, 23_000_000))
    assert books.energy_j == 30.0
    assert (books.resets, books.wraps) == (1, 0)
    (gap,) = books.gaps
    assert (gap.start_s, gap.end_s) == (1, 2)
    assert "reset" in gap.reason


@pytest.mark.parametrize("garbage", [0, 5, RANGE - 1, RANGE * 7, 2**64, 900_000_000_000])
def test_one_garbage_value_loses_nothing(garbage: int) -> None:
    start = 100_000_000_000
    books = counted((0, start), (1, start + 10_000_000), (2, garbage), (3, start + 30_000_000))
    assert books.energy_j == 30.0
    assert (books.gaps, books.resets, books.wraps) == ([], 0, 0)


def test_a_small_step_back_is_no_wrap_and_loses_nothing() -> None:
    books = counted((0, 1_000_000), (1, 11_000_000), (2, 10_999_000), (3, 31_000_000))
    assert books.energy_j == 30.0
    assert (books.gaps, books.wraps) == ([], 0)


def test_a_garbage_value_at_the_end_is_a_gap_since_the_last_good_one() -> None:
    books = counted((0, 0), (1, 10_000_000), (2, 200_000_000_000))
    books.finish(2.5)
    assert books.energy_j == 10.0
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(1, 2.5)]


def test_a_garbage_value_at_the_start_is_a_gap_until_the_line_is_known() -> None:
    books = counted((0, 200_000_000_000), (1, 10_000_000), (2, 20_000_000), (3, 30_000_000))
    assert books.energy_j == 20.0
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(0, 1)]


def test_a_decrease_of_a_counter_of_unknown_range_is_a_reset() -> None:
    books = counted((0, 50), (1, 10_000_050), (2, 40), (3, 10_000_040), range_raw=None)
    assert (books.energy_j, books.resets, books.wraps) == (20.0, 1, 0)
    assert len(books.gaps) == 1


def test_failed_reads_that_recover_within_half_the_wrap_time_cost_nothing() -> None:
    books = counted((0, 0), (1, None), (2, None), (3, 30_000_000))
    books.finish(3)
    assert books.energy_j == 30.0
    assert (books.failed, books.gaps) == (2, [])


def test_failed_reads_at_the_start_are_a_gap_until_the_first_good_one() -> None:
    books = fed(Counter(channel(), start_s=100.0), [(100.0, None), (101.0, None), (102.0, 5), (103.0, 5)])
    (gap,) = books.gaps
    assert (gap.start_s, gap.end_s, gap.reason) == (0.0, 2.0, "EIO")


def test_failed_reads_at_the_end_are_a_gap_since_the_last_good_one() -> None:
    books = counted((0, 0), (1, 10_000_000), (2, None), (3, None))
    books.finish(3)
    assert [(gap.start_s, gap.end_s, gap.reason) for gap in books.gaps] == [(1, 3, "EIO")]
    assert books.observed().gap_s == 2


def test_a_counter_that_never_answers_is_a_gap_from_start_to_end() -> None:
    books = counted((0, None), (1, None))
    books.finish(5)
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(0, 5)]
    assert (books.observed().readings, books.observed().failed) == (0, 2)


def test_a_stretch_longer_than_half_the_wrap_time_is_a_gap() -> None:
    books = counted((0, 0), (1, 10_000_000))
    longest = books.longest_step_s
    assert longest == pytest.approx(RANGE * 1e-6 / 500 / 2)
    fed(books, [(2 + longest, 60_000_000), (3 + longest, 70_000_000)])
    assert books.energy_j == 20.0
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(1, 2 + longest)]


def test_an_unknown_range_has_no_longest_step() -> None:
    books = counted((0, 0), (1e6, 90_000_000), range_raw=None)
    assert books.longest_step_s is None
    assert (books.energy_j, books.gaps) == (90.0, [])


def test_a_time_stamp_that_came_late_is_no_reset() -> None:
    """100 W read every millisecond; one reading was stamped 20 ms after its value was taken."""
    times = [n * 0.001 for n in range(100)]
    readings = [(t_s, joules(100, t_s)) for t_s in times]
    late = [(t_s + (0.02 if n == 40 else 0), value) for n, (t_s, value) in enumerate(readings)]
    late = late[:41] + [(t_s, value) for t_s, value in late[41:] if t_s > late[40][0]]
    books = counted(*late)
    assert (books.resets, books.gaps) == (0, [])
    assert books.energy_j == pytest.approx(9.9)
    assert books.max_power_w <= 500


def test_many_faults_of_all_kinds_never_add_energy() -> None:
    watts, start = 80.0, 150_000_000_000
    readings: list[tuple[float, float | None]] = [(t, joules(watts, t, start)) for t in range(100)]
    for t, value in {10: None, 20: 0, 30: RANGE * 2, 40: 17, 41: None, 50: None, 51: 99, 70: 1 << 70}.items():
        readings[t] = (t, value)
    assert counted(*readings).energy_j == pytest.approx(watts * 99)


power = st.lists(
    st.tuples(st.floats(0.001, 120.0), st.integers(0, 500_000_000)), min_size=1, max_size=40
)  # seconds since the last reading, microwatts in that time


@given(power, st.integers(0, RANGE - 1))
def test_any_power_sampled_anyhow_across_wraps_gives_exact_joules(
    steps: list[tuple[float, int]], start: int
) -> None:
    t_s, total_uj = 0.0, 0
    books = Counter(channel())
    books.update(Reading(t_s, start))
    for elapsed_s, power_uw in steps:
        t_s += elapsed_s
        total_uj += math.floor(elapsed_s * power_uw)
        books.update(Reading(t_s, (start + total_uj) % RANGE))
    books.finish(t_s)
    assert books.gaps == []
    assert books.energy_j == total_uj * 1e-6
    assert books.wraps == (start + total_uj) // RANGE


@given(power, st.integers(0, RANGE - 1), st.data())
def test_reading_more_often_changes_nothing(steps: list[tuple[float, int]], start: int, data) -> None:
    often, seldom = Counter(channel()), Counter(channel())
    t_s, total_uj, skipped_s = 0.0, 0, 0.0
    often.update(Reading(t_s, start))
    seldom.update(Reading(t_s, start))
    for number, (elapsed_s, power_uw) in enumerate(steps):
        t_s += elapsed_s
        total_uj += math.floor(elapsed_s * power_uw)
        reading = Reading(t_s, (start + total_uj) % RANGE)
        often.update(reading)
        skipped_s += elapsed_s
        is_last = number == len(steps) - 1
        if is_last or skipped_s > 100 or data.draw(st.booleans()):
            seldom.update(reading)
            skipped_s = 0.0
    assert seldom.gaps == []
    assert seldom.energy_j == often.energy_j


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**70), st.floats()), max_size=30))
def test_no_readings_whatever_make_energy_negative_or_break_the_meter(values: list[float | None]) -> None:
    books = counted(*enumerate(values))
    books.finish(len(values))
    seen = books.observed()
    assert seen.energy_j >= 0
    assert seen.energy_j <= 500 * (len(values) + 1) * 1.1
    assert 0 <= seen.gap_s <= len(values)


# --- Gauge ------------------------------------------------------------------------------------------


def integrated(*readings: tuple[float, float | None]) -> Meter:
    return fed(Gauge(gauge_channel()), readings)


def test_a_gauge_is_integrated_by_trapezoid_over_the_real_time_stamps() -> None:
    books = integrated((0, 10), (1, 20), (1.5, 20), (3.5, 0))
    assert books.energy_j == pytest.approx(15 + 10 + 20)
    assert books.trapezoid_j == pytest.approx(5 + 0 + 20)
    assert (books.power_w, books.max_power_w) == (0, 20)


def test_one_reading_of_a_gauge_is_no_energy_yet() -> None:
    assert integrated((0, 10)).energy_j == 0.0
    assert Gauge(gauge_channel()).energy_j is None


@pytest.mark.parametrize("bad", [-1, -0.001, 501, math.nan, math.inf, -math.inf])
def test_a_gauge_that_cannot_be_right_is_a_failed_reading(bad: float) -> None:
    books = integrated((0, 10), (1, bad), (2, 10), (3, 10))
    assert books.failed == 1
    assert books.energy_j == pytest.approx(10)
    (gap,) = books.gaps
    assert (gap.start_s, gap.end_s) == (0, 2)
    assert "implausible" in gap.reason
    assert books.max_power_w == 10


def test_a_gauge_that_failed_tells_no_old_power() -> None:
    assert integrated((0, 10), (1, None)).power_w is None
    assert integrated((0, 10), (1, -3)).power_w is None
    assert integrated((0, 10), (1, None), (2, 12)).power_w == 12


def test_a_gauge_that_was_not_read_in_time_is_a_gap() -> None:
    books = integrated((0, 10), (1, 10), (9, 10), (10, 10))
    assert books.energy_j == pytest.approx(20)
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(1, 9)]


def test_a_gauge_gap_at_start_and_end_is_told() -> None:
    books = integrated((0, None), (1, 10), (2, 10), (3, None))
    books.finish(4)
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(0, 1), (2, 4)]
    assert books.energy_j == pytest.approx(10)


def test_the_unit_of_a_gauge_is_watts_per_step() -> None:
    books = fed(Gauge(channel(kind="gauge", unit=1e-3)), [(0, 25_000), (2, 25_000)])
    assert books.energy_j == pytest.approx(50)


@given(st.lists(st.tuples(st.floats(0.001, 4.0), st.floats(0, 500)), min_size=2, max_size=30))
def test_a_gauges_error_bound_holds_for_any_steps_between_readings(steps: list[tuple[float, float]]) -> None:
    """The truth lies between holding the earlier and holding the later value of each stretch."""
    t_s, readings = 0.0, []
    for elapsed_s, watts in steps:
        t_s += elapsed_s
        readings.append((t_s, watts))
    books = integrated(*readings)
    pairs = list(itertools.pairwise(readings))
    low = sum(min(a[1], b[1]) * (b[0] - a[0]) for a, b in pairs)
    high = sum(max(a[1], b[1]) * (b[0] - a[0]) for a, b in pairs)
    assert books.energy_j is not None
    assert books.energy_j - books.trapezoid_j == pytest.approx(low, abs=1e-6)
    assert books.energy_j + books.trapezoid_j == pytest.approx(high, abs=1e-6)


def test_the_meter_fits_the_kind() -> None:
    assert isinstance(meter(channel(), 0.0, 0.1), Counter)
    assert isinstance(meter(channel(kind="model"), 0.0, 0.1), Counter)
    slow = meter(gauge_channel(), 0.0, 10.0)
    assert isinstance(slow, Gauge)
    assert slow.longest_step_s == 30.0


def test_a_garbage_value_before_a_lost_stretch_is_forgotten_after_it() -> None:
    longest = RANGE * 1e-6 / 500 / 2
    books = counted((0, 0), (1, 10_000_000), (2, 200_000_000_000), (3 + longest, 70_000_000))
    books.finish(4 + longest)
    assert [(gap.start_s, gap.end_s) for gap in books.gaps] == [(1, 3 + longest)]
