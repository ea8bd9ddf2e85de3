"""How a run is cut into windows: independently of the sampling frequency, and without losing anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.analysis.windows import FEWEST_STEPS, Window, windows
from emt_cli.model import CpuTime, LateCpu, Sample
from tests.analysis.examples import (
    HALF_A_CPU,
    ONE_CPU,
    TEN_WATTS,
    OfTime,
    energy_of,
    run_of,
    samples,
    steady,
    steps,
    times,
)

FREQUENCIES = (0.1, 1.0, 3.0, 7.0, 10.0, 100.0, 1000.0)


def cut(
    joules: OfTime = TEN_WATTS,
    tree: OfTime | None = HALF_A_CPU,
    machine: OfTime | None = ONE_CPU,
    *,
    duration_s: float = 10.0,
    frequency_hz: float = 10.0,
    cpu_every: int = 1,
    cpu: CpuTime | None = None,
) -> list[Window]:
    rows = samples([joules], tree, machine, times(duration_s, frequency_hz), cpu_every)
    return list(windows(rows, cpu or CpuTime()))


def lengths(found: list[Window]) -> list[float]:
    return [round(window.duration_s, 6) for window in found]


def joules_of(found: list[Window], channel: int = 0) -> float:
    return sum(window.energy_j[channel] or 0.0 for window in found)


def tree_of(found: list[Window]) -> float:
    assert all(window.cpu_tree_s is not None for window in found)
    return sum(window.cpu_tree_s or 0.0 for window in found)


# --- how long ---------------------------------------------------------------------------------------


def test_a_busy_run_is_cut_at_its_whole_seconds() -> None:
    assert lengths(cut(duration_s=5.0)) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("duration_s", [0.002, 0.3, 0.99, 1.0, 1.9])
def test_a_short_run_is_one_window(duration_s: float) -> None:
    assert lengths(cut(duration_s=duration_s)) == [duration_s]


def test_a_last_stretch_that_is_too_short_joins_the_window_before() -> None:
    assert lengths(cut(duration_s=3.4)) == [1, 1, 1.4]


def test_the_samples_of_one_instant_make_no_window() -> None:
    row = Sample(0.0, (0.0,), (None,), 0.0, 0.0)
    assert list(windows([], CpuTime())) == list(windows([row], CpuTime())) == []
    assert list(windows([row, row], CpuTime())) == []


def test_a_window_lasts_until_the_machine_has_spent_fifty_clock_ticks() -> None:
    found = cut(machine=steady(0.1), tree=steady(0.05), duration_s=20.0)
    assert lengths(found) == [5, 5, 5, 5]
    assert all((window.cpu_machine_s or 0) >= FEWEST_STEPS * 0.01 - 1e-9 for window in found)


def test_an_idle_machine_is_one_long_window() -> None:
    assert lengths(cut(machine=steady(0.0), tree=steady(0.0), duration_s=60.0)) == [60]


@pytest.mark.parametrize("frequency_hz", [1.0, 10.0, 100.0, 1000.0])
def test_every_frequency_from_one_hertz_on_cuts_at_the_same_instants(frequency_hz: float) -> None:
    load = steps((3, 1.0), (4, 0.3), (20, 2.0))
    assert lengths(cut(machine=load, frequency_hz=frequency_hz, duration_s=15.5)) == lengths(
        cut(machine=load, frequency_hz=10.0, duration_s=15.5)
    )


def test_ticks_that_come_a_little_early_or_late_do_not_lengthen_the_windows() -> None:
    moments = [0.0, *(n + (0.009 if n % 2 else -0.0004) for n in range(1, 20)), 20.0]
    found = list(windows(samples([steady(10.0)], steady(1.0), steady(2.0), moments), CpuTime()))
    assert len(found) == 20


# --- nothing is lost --------------------------------------------------------------------------------


@st.composite
def any_rows(draw: st.DrawFn) -> list[Sample]:
    """Any journal: rising or not, with readings missing anywhere."""
    moments = sorted(draw(st.lists(st.floats(0, 60), max_size=60)))
    energies = [0.0, 0.0]
    tree_s = machine_s = 0.0
    rows = []
    for t_s in moments:
        energies = [each + draw(st.floats(0, 100)) for each in energies]
        tree_s += draw(st.floats(0, 2))
        machine_s += draw(st.floats(0, 3))
        rows.append(
            Sample(
                t_s,
                tuple(draw(st.sampled_from([each, None])) for each in energies),
                (None, None),
                draw(st.sampled_from([tree_s, None])),
                draw(st.sampled_from([machine_s, None])),
            )
        )
    return rows


def newest(values: list[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


@given(any_rows())
def test_the_windows_of_any_journal_add_up_to_what_was_read_last(rows: list[Sample]) -> None:
    found = list(windows(rows, CpuTime()))
    if not found:
        return
    for place in (0, 1):
        last, first = newest([row.energy_j[place] for row in rows]), rows[0].energy_j[place] or 0.0
        if last is None:
            assert all(window.energy_j[place] is None for window in found)
        else:
            assert joules_of(found, place) == pytest.approx(last - first, abs=1e-6)
    last_s = newest([row.cpu_tree_s for row in rows])
    if last_s is not None:
        told = sum(window.cpu_tree_s or 0.0 for window in found)
        assert told == pytest.approx(last_s - (rows[0].cpu_tree_s or 0.0), abs=1e-6)
    assert sum(window.duration_s for window in found) == pytest.approx(rows[-1].t_s - rows[0].t_s)
    ends = [window.start_s + window.duration_s for window in found[:-1]]
    assert ends == pytest.approx([window.start_s for window in found[1:]])


@given(any_rows())
def test_no_window_runs_backwards_or_is_shorter_than_a_second_if_there_are_two(rows: list[Sample]) -> None:
    found = list(windows(rows, CpuTime()))
    assert all((window.cpu_tree_s or 0.0) >= 0 and (window.cpu_machine_s or 0.0) >= 0 for window in found)
    assert all(joules is None or joules >= -1e-9 for window in found for joules in window.energy_j)
    if len(found) > 1:
        assert min(window.duration_s for window in found) >= 0.97


@pytest.mark.parametrize("frequency_hz", FREQUENCIES)
@pytest.mark.parametrize("duration_s", [0.25, 1.5, 30.0])
def test_the_sums_are_the_same_at_every_frequency(frequency_hz: float, duration_s: float) -> None:
    power, load = steps((7, 20.0), (11, 55.0), (100, 8.0)), steps((9, 2.0), (100, 0.7))
    found = cut(power, steps((5, 1.0), (100, 0.5)), load, frequency_hz=frequency_hz, duration_s=duration_s)
    assert joules_of(found) == pytest.approx(power(duration_s))
    assert tree_of(found) == pytest.approx(steps((5, 1.0), (100, 0.5))(duration_s))
    assert sum(window.cpu_machine_s or 0 for window in found) == pytest.approx(load(duration_s))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(4, 9), st.floats(5, 200)), min_size=1, max_size=4),
    st.floats(0.1, 2.0),
    st.floats(0.0, 2.0),
)
def test_attributed_joules_depend_on_the_frequency_by_less_than_half_a_percent(
    levels: list[tuple[int, float]], tree: float, others: float
) -> None:
    power = steps(*levels, (1000, 50.0))
    results = [
        energy_of(
            run_of(
                power,
                tree=steady(tree),
                machine=steady(tree + others),
                duration_s=30.0,
                frequency_hz=frequency_hz,
                cpu_every=max(1, int(frequency_hz / 10)),
            )
        ).attributed_j
        for frequency_hz in (0.1, 1.0, 10.0, 100.0)
    ]
    assert results == pytest.approx([results[0]] * 4, rel=0.005)


@pytest.mark.parametrize("frequency_hz", [1.0, 10.0, 100.0, 1000.0])
def test_a_neighbours_bursts_cost_the_tree_the_same_at_every_frequency(frequency_hz: float) -> None:
    bursts = steps(*[(2.0, 1.0), (1.0, 8.0)] * 10)
    power = steps(*[(2.0, 20.0), (1.0, 100.0)] * 10)
    facts = {"tree": steady(0.9), "machine": bursts, "duration_s": 30.0}
    at_ten = energy_of(run_of(power, frequency_hz=10.0, **facts)).attributed_j
    assert energy_of(run_of(power, frequency_hz=frequency_hz, **facts)).attributed_j == pytest.approx(
        at_ten, rel=0.005
    )


# --- readings that are missing ----------------------------------------------------------------------


def test_a_boundary_lies_where_cpu_time_was_read() -> None:
    found = cut(frequency_hz=10.0, cpu_every=7, duration_s=10.5)
    assert lengths(found) == [1.4, 0.7, 1.4, 0.7, 1.4, 0.7, 1.4, 0.7, 2.1] or len(found) > 4
    ends = [window.start_s + window.duration_s for window in found[:-1]]
    assert all(round(end * 10) % 7 == 0 for end in ends)
    assert tree_of(found) == pytest.approx(5.25)


def test_a_boundary_lies_where_a_slower_sensor_was_read_too() -> None:
    rows = samples([steady(10.0), steady(30.0)], steady(1.0), steady(2.0), times(12.0, 10.0))
    slow = [
        row._replace(energy_j=(row.energy_j[0], row.energy_j[1] if n % 15 == 0 else None))
        for n, row in enumerate(rows)
    ]
    found = list(windows(slow, CpuTime()))
    assert [window.energy_j[1] for window in found] == pytest.approx([30.0 * w.duration_s for w in found])
    assert joules_of(found, 1) == pytest.approx(360.0)


def test_a_sensor_that_hangs_for_good_does_not_stop_the_cutting() -> None:
    rows = samples([steady(10.0), steady(30.0)], steady(1.0), steady(2.0), times(60.0, 10.0))
    stuck = [
        row._replace(energy_j=(row.energy_j[0], row.energy_j[1] if n < 50 else None))
        for n, row in enumerate(rows)
    ]
    found = list(windows(stuck, CpuTime()))
    assert max(lengths(found)) <= 7
    assert joules_of(found, 0) == pytest.approx(600.0)
    assert joules_of(found, 1) == pytest.approx(30.0 * 4.9)


def test_a_channel_counts_from_its_first_reading_on() -> None:
    rows = samples([steady(10.0)], steady(1.0), steady(2.0), times(4.0, 10.0))
    late = [row._replace(energy_j=(None if row.t_s < 1.5 else row.energy_j[0] - 15.0,)) for row in rows]  # type: ignore[operator]
    assert joules_of(list(windows(late, CpuTime()))) == pytest.approx(25.0)


def test_a_channel_that_was_never_read_has_no_joules() -> None:
    rows = [
        row._replace(energy_j=(None,))
        for row in samples([steady(1.0)], steady(1.0), steady(2.0), times(3.0, 10.0))
    ]
    assert [window.energy_j for window in windows(rows, CpuTime())] == [(None,)] * 3


def test_a_last_sample_without_cpu_time_still_brings_its_joules() -> None:
    rows = samples([steady(10.0)], steady(1.0), steady(2.0), times(3.0, 10.0))
    rows[-1] = rows[-1]._replace(cpu_tree_s=None, cpu_machine_s=None)
    assert joules_of(list(windows(rows, CpuTime()))) == pytest.approx(30.0)


def test_without_cpu_columns_a_run_is_one_window_with_what_is_known_of_it_as_a_whole() -> None:
    (window,) = cut(tree=None, machine=None, cpu=CpuTime(tree_s=3.0, machine_s=8.0))
    assert (window.cpu_tree_s, window.cpu_machine_s) == (3.0, 8.0)
    assert window.energy_j == pytest.approx((100.0,))


def test_without_any_cpu_time_nothing_is_made_up() -> None:
    (window,) = cut(tree=None, machine=None)
    assert (window.cpu_tree_s, window.cpu_machine_s) == (None, None)


def test_a_tree_that_only_rusage_saw_is_one_window() -> None:
    (window,) = cut(tree=steady(0.0), machine=steady(1.0), cpu=CpuTime(tree_s=4.0, series_s=0.0))
    assert (window.cpu_tree_s, window.cpu_machine_s) == (4.0, 10.0)


def test_a_machine_clock_that_steps_back_is_not_believed() -> None:
    rows = samples([steady(10.0)], steady(0.2), steady(1.0), times(6.0, 10.0))
    rows = [
        row._replace(cpu_machine_s=row.cpu_machine_s - (0.3 if 30 <= n < 33 else 0.0))
        for n, row in enumerate(rows)
    ]  # type: ignore[operator]
    found = list(windows(rows, CpuTime()))
    assert sum(window.cpu_machine_s or 0.0 for window in found) == pytest.approx(6.0)
    assert all((window.cpu_machine_s or 0.0) >= 0.0 for window in found)


# --- CPU time of the tree ---------------------------------------------------------------------------


def test_the_series_is_stretched_to_what_the_best_witness_knew() -> None:
    found = cut(tree=steady(0.5), cpu=CpuTime(tree_s=6.0, series_s=5.0))
    assert tree_of(found) == pytest.approx(6.0)
    assert [window.cpu_tree_s for window in found] == pytest.approx([0.6] * 10)


def orphan(learnt_s: float) -> list[float | None]:
    """CPU seconds by window: a steady 0.1, and an orphan that spent 6 s evenly from 2 s to 8 s."""

    def tree(t_s: float) -> float:
        return 0.1 * t_s + (6.0 if t_s >= learnt_s else 0.0)

    late = (LateCpu(start_s=2.0, end_s=8.0, cpu_s=6.0),)
    cpu = CpuTime(tree_s=7.0, series_s=7.0, late=late)
    return [window.cpu_tree_s for window in cut(tree=tree, machine=steady(2.0), cpu=cpu)]


def test_cpu_time_that_was_learnt_late_is_spread_over_its_process_life() -> None:
    assert orphan(8.0) == pytest.approx([0.1, 0.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.1, 0.1])


def test_until_the_next_pass_has_learnt_it_the_last_window_of_late_cpu_time_waits() -> None:
    assert orphan(8.4) == pytest.approx([0.1, 0.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.0, 1.2, 0.1])


@given(
    st.lists(st.tuples(st.floats(-1, 30), st.floats(-1, 30), st.floats(0, 50), st.floats(0, 3)), max_size=10),
    st.floats(0, 100),
)
def test_late_cpu_time_neither_runs_backwards_nor_adds_any(
    lives: list[tuple[float, float, float, float]], other_s: float
) -> None:
    late = tuple(LateCpu(start_s=a, end_s=b, cpu_s=cpu_s) for a, b, cpu_s, _ in lives)

    def tree(t_s: float) -> float:
        learnt = sum(cpu_s for _, end_s, cpu_s, pause_s in lives if t_s >= end_s + pause_s)
        return other_s * t_s / 30.0 + learnt

    total_s = tree(30.0)
    found = cut(
        tree=tree,
        machine=steady(9.0),
        duration_s=30.0,
        cpu=CpuTime(tree_s=total_s, series_s=total_s, late=late),
    )
    assert all((window.cpu_tree_s or 0.0) >= 0.0 for window in found)
    first_s = min(
        total_s,
        sum(
            each.cpu_s * max(0.0, min(1.0, -each.start_s / (each.end_s - each.start_s)))
            for each in late
            if each.end_s > 0 > each.start_s
        ),
    )
    assert tree_of(found) <= total_s + 1e-6
    if not first_s and tree(0.0) == 0:
        assert tree_of(found) == pytest.approx(total_s, abs=1e-6)
