"""A run divided among stretches of it: what each gets, and that the parts never exceed the whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis import complete
from emt_cli.analysis.stretches import Division, Share, Stretch
from emt_cli.model import CpuTime, DeviceUse, Run
from tests.analysis.examples import gpu_run, run_of, steady, steps


def divided(run: Run, *stretches: Stretch) -> tuple[Share, ...]:
    return Division(complete(run)).among(stretches)


def joules(run: Run, *stretches: Stretch) -> list[float]:
    return [share.energy_j or 0.0 for share in divided(run, *stretches)]


def attributed(run: Run) -> float:
    energy = complete(run).energy
    assert energy is not None and energy.attributed_j is not None
    return energy.attributed_j


def test_stretches_of_one_window_share_by_their_cpu_seconds() -> None:
    run = run_of(duration_s=1.0)
    assert joules(run, Stretch(0.0, 0.1, 0.1), Stretch(0.1, 0.9, 0.3)) == pytest.approx([1.0, 3.0])
    assert attributed(run) == pytest.approx(5.0)


def test_a_stretch_that_waits_costs_nothing() -> None:
    assert joules(run_of(), Stretch(2.0, 8.0, 0.0)) == [0.0]


def test_a_stretch_over_all_the_run_gets_all_of_it() -> None:
    run = run_of(duration_s=10.0)
    assert joules(run, Stretch(0.0, 10.0, 5.0)) == pytest.approx([attributed(run)])


def test_the_same_cpu_second_costs_more_where_the_machine_drew_more() -> None:
    run = run_of(steps((5.0, 10.0), (5.0, 30.0)), duration_s=10.0)
    first, second = joules(run, Stretch(1.2, 1.6, 0.2), Stretch(8.2, 8.6, 0.2))
    assert second == pytest.approx(3 * first)


def test_cpu_seconds_of_a_long_stretch_fall_where_the_tree_was_busy() -> None:
    """All its work was done in the second half, when a joule bought twice as much."""
    run = run_of(
        steps((5.0, 20.0), (5.0, 10.0)), tree=steps((5.0, 0.0), (5.0, 1.0)), machine=steady(1.0), cpus=2
    )
    assert joules(run, Stretch(0.0, 10.0, 5.0)) == pytest.approx([50.0])


def test_stretches_side_by_side_share_what_there_is() -> None:
    """Workers: four CPU seconds in two seconds of time."""
    run = run_of(tree=steady(2.0), machine=steady(2.0), duration_s=2.0)
    assert joules(run, *[Stretch(0.0, 2.0, 1.0)] * 4) == pytest.approx([5.0] * 4)


def test_clocks_that_claim_more_than_the_tree_used_are_cut_back_to_it() -> None:
    run = run_of(duration_s=1.0)
    assert sum(joules(run, *[Stretch(0.0, 1.0, 0.4)] * 3)) == pytest.approx(attributed(run))


def test_a_device_goes_by_the_time_that_a_stretch_took_of_it() -> None:
    """100 J over ten seconds; the stretch hardly uses a CPU."""
    run = gpu_run(DeviceUse(device="gpu0", tree_busy_s=1.0, total_busy_s=1.0, tree_pids=(7,)))
    assert joules(run, Stretch(2.0, 4.5, 0.0)) == pytest.approx([25.0])


def test_somebody_elses_part_of_a_device_is_nobodys_here() -> None:
    run = gpu_run(
        DeviceUse(device="gpu0", tree_busy_s=1.0, total_busy_s=4.0, tree_pids=(7,), other_pids=(8,))
    )
    assert joules(run, Stretch(0.0, 10.0, 5.0)) == pytest.approx([attributed(run)])
    assert joules(run, Stretch(0.0, 4.0, 0.0)) == pytest.approx([10.0])


def test_two_stretches_at_once_share_a_device() -> None:
    run = gpu_run(DeviceUse(device="gpu0", tree_pids=(7,)))
    assert joules(run, *[Stretch(0.0, 10.0, 0.0)] * 2) == pytest.approx([50.0, 50.0])


def test_the_interval_is_that_of_the_run_in_proportion() -> None:
    run = complete(run_of())
    assert run.energy is not None and run.energy.low_j is not None and run.energy.high_j is not None
    share = Division(run).among([Stretch(0.0, 10.0, 5.0)])[0]
    assert (share.low_j, share.high_j) == pytest.approx((run.energy.low_j, run.energy.high_j))


def test_what_is_shorter_than_half_a_tick_is_coarse() -> None:
    short, long = divided(run_of(), Stretch(1.0, 1.04, 0.04), Stretch(1.0, 1.06, 0.04))
    assert (short.is_coarse, long.is_coarse) == (True, False)


def test_a_run_without_joules_has_none_to_share_out() -> None:
    run = run_of(tree=None)
    assert divided(run, Stretch(0.0, 1.0, 1.0))[0].energy_j is None
    assert Division(run_of()).among([Stretch(0.0, 1.0, 1.0)])[0].energy_j is None


def test_a_run_without_samples_is_one_window() -> None:
    run = run_of(samples=(), cpu_time=CpuTime(tree_s=5.0, machine_s=10.0, logical_cpus=4))
    assert joules(run, Stretch(0.0, 2.0, 2.5)) == pytest.approx([attributed(run) / 2])


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 5)), max_size=12),
    st.lists(st.floats(0.1, 100), min_size=1, max_size=10),
)
def test_parts_are_never_more_than_the_whole(
    raw: list[tuple[float, float, float]], powers: list[float]
) -> None:
    run = run_of(steps(*[(1.0, power) for power in powers]), duration_s=10.0)
    stretches = [Stretch(min(a, b), max(a, b), cpu_s) for a, b, cpu_s in raw]
    parts = joules(run, *stretches)
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= attributed(run) * (1 + 1e-9)


@given(st.lists(st.floats(0.01, 9.99), max_size=20, unique=True))
def test_stretches_that_leave_nothing_out_add_up_to_the_whole(cuts: list[float]) -> None:
    run = run_of(steps((3.0, 5.0), (7.0, 40.0)), duration_s=10.0)
    edges = [0.0, *sorted(cuts), 10.0]
    tiles = [Stretch(a, b, 0.5 * (b - a)) for a, b in pairwise(edges)]
    assert sum(joules(run, *tiles)) == pytest.approx(attributed(run))
