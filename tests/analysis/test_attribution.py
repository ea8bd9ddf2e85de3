"""Whose joules they are: the rules of sharing by CPU time."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emt_cli.analysis.attribution import CpuSplit, Gaps, Idle, Shared, split_by_cpu
from emt_cli.analysis.windows import Window, windows
from emt_cli.model import CpuTime, GapSpan, IdlePolicy, Sample, Settings
from tests.analysis.examples import energy_of, row_of, run_of, steady, steps, with_cpu, with_observed

POLICIES: tuple[IdlePolicy, ...] = ("busy", "reserved", "capacity", "none")


def window(
    joules: float | None,
    tree_s: float | None,
    machine_s: float | None,
    *,
    start_s: float = 0.0,
    duration_s: float = 1.0,
) -> Window:
    return Window(start_s, duration_s, (joules,), tree_s, machine_s)


def shared_out(
    *found: Window, idle_w: float | None = None, policy: IdlePolicy = "busy", cpus: int = 4, **facts: Any
) -> tuple[Shared, CpuSplit]:
    idle = Idle(power_w=[idle_w], policy=policy, logical_cpus=cpus, **facts)
    split = split_by_cpu(found, idle, 1, duration_s=sum(each.duration_s for each in found))
    return split.channels[0], split


def attributed(*found: Window, **facts: Any) -> float:
    shared, _ = shared_out(*found, **facts)
    assert shared.attributed_j is not None
    return shared.attributed_j


# --- by hand ----------------------------------------------------------------------------------------


def test_without_idle_power_the_share_of_busy_time_is_taken_of_everything() -> None:
    shared, _ = shared_out(window(100.0, 0.5, 2.0))
    assert shared.attributed_j == 25.0
    assert (shared.active_j, shared.idle_share_j, shared.idle_j) == (None, None, None)


@pytest.mark.parametrize(
    ("policy", "idle_share_j"),
    [("busy", 40 * 0.25), ("reserved", 40 * 0.5), ("capacity", 40 * 0.5 / 4), ("none", 0.0)],
)
def test_each_policy_by_hand(policy: IdlePolicy, idle_share_j: float) -> None:
    """100 J in a second, 40 W idle; the tree had 0.5 of 2.0 busy seconds of 4 CPUs, half of them reserved."""
    shared, _ = shared_out(window(100.0, 0.5, 2.0), idle_w=40.0, policy=policy, reserved_share=0.5)
    assert shared.active_j == pytest.approx(60 * 0.25)
    assert shared.idle_share_j == pytest.approx(idle_share_j)
    assert shared.attributed_j == pytest.approx(15 + idle_share_j)
    assert shared.idle_j == 40.0


def test_the_policy_is_reserved_where_cpus_are_reserved_and_busy_elsewhere() -> None:
    run = run_of(settings=Settings(reserved_cpus=2.0, idle_w={"cpu0/package": 4.0}))
    row = row_of(run)
    assert row.idle_share_j == pytest.approx(40 * 2 / 4)
    run = run_of(settings=Settings(reserved_cpus=2.0, idle_policy="busy", idle_w={"cpu0/package": 4.0}))
    assert row_of(run).idle_share_j == pytest.approx(40 * 0.5)


def test_more_reserved_cpus_than_there_are_bear_the_whole_idle_energy_and_no_more() -> None:
    run = run_of(settings=Settings(reserved_cpus=64.0, idle_w={"cpu0/package": 4.0}))
    assert row_of(run).idle_share_j == pytest.approx(40.0)


def test_a_reserved_but_unused_machine_bears_its_idle_share() -> None:
    assert attributed(window(40.0, 0.0, 0.0), idle_w=40.0, policy="reserved", reserved_share=0.5) == 20.0


@pytest.mark.parametrize("idle_w", [None, 0.0, 3.0, 8.0, 50.0])
def test_under_policy_busy_knowing_the_idle_power_changes_the_split_not_the_headline(
    idle_w: float | None,
) -> None:
    found = [window(10.0, 0.5, 2.0), window(30.0, 1.5, 2.0, start_s=1), window(8.0, 0.1, 0.6, start_s=2)]
    assert attributed(*found, idle_w=idle_w) == pytest.approx(10 / 4 + 30 * 3 / 4 + 8 / 6)


def test_an_idle_power_above_what_was_used_leaves_nothing_active_and_nothing_below_zero() -> None:
    for policy in POLICIES:
        shared, _ = shared_out(window(10.0, 0.5, 1.0), idle_w=40.0, policy=policy, reserved_share=0.5)
        assert shared.active_j == 0.0
        assert shared.idle_j == 10.0
        assert shared.attributed_j is not None and 0 <= shared.attributed_j <= 10.0
    assert attributed(window(10.0, 0.5, 1.0), idle_w=40.0, policy="reserved", reserved_share=0.5) == 5.0


def test_where_nobody_was_busy_all_of_it_is_idle() -> None:
    shared, _ = shared_out(window(40.0, 0.0, 0.0))
    assert shared.attributed_j == 0.0
    shared, _ = shared_out(window(40.0, 0.0, 0.0), idle_w=30.0)
    assert (shared.active_j, shared.idle_share_j, shared.attributed_j) == (0.0, 0.0, 0.0)


def test_idle_power_counts_only_while_the_channel_was_read() -> None:
    """Two seconds of which one is a gap: 50 J came in the other, 20 of them idle."""
    gaps = [Gaps([(0.5, 1.5)])]
    shared, _ = shared_out(
        window(25.0, 1.0, 1.0), window(25.0, 1.0, 1.0, start_s=1.0), idle_w=20.0, gaps=gaps
    )
    assert shared.idle_j == pytest.approx(20.0)
    assert shared.active_j == pytest.approx(30.0)


def test_a_gap_takes_its_idle_time_out_of_the_run() -> None:
    gap = GapSpan(channel="cpu0/package", start_s=2.0, end_s=6.5, reason="stopped")
    run = run_of(settings=Settings(idle_w={"cpu0/package": 4.0}, idle_policy="none"), gaps=(gap,))
    row = row_of(run)
    assert row.idle_j == pytest.approx(4.0 * 5.5)
    assert row.active_j == pytest.approx((100 - 22) * 0.5)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5)), max_size=20), st.lists(st.floats(0, 60)))
def test_the_lost_seconds_of_all_windows_are_those_of_all_gaps(
    pieces: list[tuple[float, float]], cuts: list[float]
) -> None:
    spans, at = [], 0.0
    for pause, length in pieces:
        spans.append((at + pause, at + pause + length))
        at += pause + length
    gaps = Gaps(spans)
    told = [gaps.lost_until(cut_s) for cut_s in sorted(cuts)]
    assert all(lost >= 0 for lost in told)
    total_s = sum(length for _, length in pieces)
    assert sum(told) + gaps.lost_until(at) == pytest.approx(total_s, abs=1e-6)


# --- excess -----------------------------------------------------------------------------------------


def test_what_exceeds_the_busy_time_of_a_window_is_carried_into_the_next() -> None:
    shared, split = shared_out(window(10.0, 1.5, 1.0), window(10.0, 0.2, 1.0, start_s=1.0))
    assert shared.attributed_j == pytest.approx(10.0 + 7.0)
    assert (split.carried_s, shared.clamped_j) == (0.0, 0.0)


def test_what_is_carried_to_the_end_is_shared_against_what_nobody_claimed_before() -> None:
    shared, split = shared_out(window(10.0, 0.2, 1.0), window(10.0, 1.5, 1.0, start_s=1.0))
    assert shared.attributed_j == pytest.approx(2.0 + 10.0 + 5.0)
    assert (split.carried_s, shared.clamped_j) == (0.0, 0.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_order_of_equal_windows_changes_nothing(policy: IdlePolicy) -> None:
    found = [window(10.0, tree_s, 1.0) for tree_s in (0.0, 1.6, 0.3, 1.4, 0.2)]
    facts: dict[str, Any] = {"idle_w": 4.0, "policy": policy, "reserved_share": 0.5}
    assert attributed(*found, **facts) == pytest.approx(attributed(*found[::-1], **facts))
    assert attributed(*found) == pytest.approx(10.0 * 3.5)


def test_only_what_exceeds_the_busy_time_of_the_whole_run_is_cut_and_recorded() -> None:
    shared, split = shared_out(window(10.0, 1.5, 1.0), window(10.0, 1.5, 1.0, start_s=1.0))
    assert shared.attributed_j == 20.0
    assert split.carried_s == pytest.approx(1.0)
    assert shared.clamped_j == pytest.approx(10.0)


def test_a_window_without_busy_time_passes_the_trees_seconds_on() -> None:
    shared, _ = shared_out(window(10.0, 0.3, 0.0), window(10.0, 0.2, 1.0, start_s=1.0))
    assert shared.attributed_j == pytest.approx(5.0)


def test_a_short_run_is_busy_at_least_as_long_as_its_tree() -> None:
    shared, split = shared_out(window(10.0, 0.05, 0.02, duration_s=0.1))
    assert shared.attributed_j == 10.0
    assert (split.carried_s, shared.clamped_j, split.cpu_machine_s) == (0.0, 0.0, 0.05)


def test_without_the_machines_cpu_time_the_share_is_that_of_all_cpus() -> None:
    shared, split = shared_out(window(100.0, 2.0, None), cpus=4)
    assert shared.attributed_j == pytest.approx(50.0)
    assert shared.rule == "capacity_share"
    assert split.cpu_machine_s is None


def test_without_the_trees_cpu_time_nothing_is_attributed_and_zero_is_not_claimed() -> None:
    shared, split = shared_out(window(100.0, None, 2.0), idle_w=5.0)
    assert shared.attributed_j is shared.active_j is shared.idle_share_j is None
    assert (shared.rule, split.cpu_tree_s) == ("unknown", None)


# --- invariants -------------------------------------------------------------------------------------

SECONDS = st.floats(0, 8)
WINDOWS = st.lists(
    st.tuples(st.floats(0, 500), SECONDS, SECONDS, st.floats(0.1, 5)).map(
        lambda each: window(each[0], each[1], each[2], duration_s=each[3])
    ),
    min_size=1,
    max_size=12,
)
IDLE_POWERS = st.none() | st.floats(0, 300)


@given(WINDOWS, IDLE_POWERS, st.sampled_from(POLICIES), st.floats(0, 1))
def test_the_parts_never_exceed_the_whole_and_are_never_negative(
    found: list[Window], idle_w: float | None, policy: IdlePolicy, reserved: float
) -> None:
    shared, split = shared_out(*found, idle_w=idle_w, policy=policy, reserved_share=reserved)
    machine_j = sum(each.energy_j[0] or 0.0 for each in found)
    assert shared.attributed_j is not None
    assert -1e-9 <= shared.attributed_j <= machine_j + 1e-9
    assert shared.clamped_j >= 0 and split.carried_s >= 0
    if idle_w is not None:
        assert shared.active_j is not None and shared.idle_share_j is not None and shared.idle_j is not None
        assert min(shared.active_j, shared.idle_share_j, shared.idle_j) >= 0
        assert shared.active_j + shared.idle_share_j == pytest.approx(shared.attributed_j)
        assert shared.idle_j <= machine_j + 1e-9


@given(WINDOWS, st.floats(0, 300))
def test_the_headline_of_policy_busy_is_the_same_whatever_the_idle_power(
    found: list[Window], idle_w: float
) -> None:
    assert attributed(*found, idle_w=idle_w) == pytest.approx(attributed(*found), abs=1e-6)


@example([(4.0, 0.0, 0.0, 0.0), (4.0, 1.0, 0.0, 0.0)], 1.0, "reserved", 0.0)
@given(
    st.lists(st.tuples(st.floats(0, 500), SECONDS, SECONDS, SECONDS), min_size=1, max_size=12),
    IDLE_POWERS,
    st.sampled_from(POLICIES),
    st.floats(0, 1),
)
def test_two_disjoint_trees_of_one_machine_never_get_more_than_the_machine_used(
    rows: list[tuple[float, float, float, float]], idle_w: float | None, policy: IdlePolicy, reserved: float
) -> None:
    if idle_w is not None:  # what is used at idle is used in every window
        idle_w = min(idle_w, *(joules / 3.0 for joules, *_ in rows))
    one = [window(joules, a, a + b + rest, duration_s=3.0) for joules, a, b, rest in rows]
    two = [window(joules, b, a + b + rest, duration_s=3.0) for joules, a, b, rest in rows]
    facts: dict[str, Any] = {"idle_w": idle_w, "policy": policy, "cpus": 8}
    both = attributed(*one, reserved_share=reserved, **facts) + attributed(
        *two, reserved_share=1 - reserved, **facts
    )
    assert both <= sum(joules for joules, *_ in rows) + 1e-6


@given(WINDOWS, st.floats(0.1, 10), IDLE_POWERS, st.sampled_from(POLICIES))
def test_twice_the_joules_are_twice_the_share(
    found: list[Window], factor: float, idle_w: float | None, policy: IdlePolicy
) -> None:
    larger = [each._replace(energy_j=((each.energy_j[0] or 0.0) * factor,)) for each in found]
    scaled_w = None if idle_w is None else idle_w * factor
    assert attributed(*larger, idle_w=scaled_w, policy=policy, reserved_share=0.3) == pytest.approx(
        factor * attributed(*found, idle_w=idle_w, policy=policy, reserved_share=0.3), abs=1e-6
    )


# --- whole runs -------------------------------------------------------------------------------------


def test_a_lone_tree_gets_everything() -> None:
    energy = energy_of(run_of(steady(20.0), tree=steady(1.7), machine=steady(1.7)))
    assert energy.attributed_j == pytest.approx(energy.machine_j)


def test_a_neighbour_that_draws_more_for_its_cpu_time_keeps_that_to_itself() -> None:
    """The tree works alone at 20 W; then for as long the neighbour, with four CPUs at 160 W."""
    power, machine, tree = steps((10, 20.0), (10, 160.0)), steps((10, 1.0), (10, 4.0)), steps((10, 1.0))
    energy = energy_of(run_of(power, tree=tree, machine=machine, duration_s=20.0))
    over_the_whole_run = 1800.0 * 10 / 50
    assert energy.attributed_j == pytest.approx(200.0)
    assert over_the_whole_run == pytest.approx(360.0)


def test_where_the_meter_and_the_samples_differ_the_meter_is_believed() -> None:
    run = run_of(steady(10.0), settings=Settings(idle_w={"cpu0/package": 2.0}))
    row = row_of(with_observed(run, energy_j=110.0))
    assert row.machine_j == 110.0
    assert row.attributed_j == pytest.approx(55.0)
    assert (row.active_j or 0) + (row.idle_share_j or 0) == pytest.approx(55.0)


def test_a_run_without_samples_is_shared_out_as_a_whole() -> None:
    run = run_of(steady(10.0), samples=())
    energy = energy_of(run)
    assert energy.machine_j == pytest.approx(100.0)
    assert energy.attributed_j == pytest.approx(50.0)


def test_a_tree_that_was_seen_only_at_the_end_gets_its_share_all_the_same() -> None:
    """perf refused, /proc hidden: rusage alone knows, and only when all is over."""
    run = with_cpu(run_of(tree=steady(0.0), machine=steady(1.0)), tree_s=4.0, series_s=0.0, winner="rusage")
    assert energy_of(run).attributed_j == pytest.approx(100 * 4 / 10)


def jiffies(total: float, phase: float) -> float:
    """CPU seconds as /proc tells them: whole clock ticks."""
    return int((total + phase * 0.01) * 100) / 100


def test_ticks_of_cpu_accounting_do_not_bias_the_share() -> None:
    """On average over 1,000 random runs in 10 ms steps the share is within half a percent of the truth."""
    dice = random.Random(20261121)
    ratios = []
    for _ in range(1000):
        length = dice.randint(2, 30)
        levels = [
            (dice.uniform(5, 100), dice.uniform(0.02, 1.0), dice.choice([0.0, dice.uniform(0, 3)]))
            for _ in range(length)
        ]
        phases = dice.random(), dice.random()
        joules = tree = machine = 0.0
        rows, exact = [Sample(0.0, (0.0,), (None,), 0.0, 0.0)], [Sample(0.0, (0.0,), (None,), 0.0, 0.0)]
        for n, (power_w, tree_rate, other_rate) in enumerate(levels, 1):
            joules, tree, machine = joules + power_w, tree + tree_rate, machine + tree_rate + other_rate
            exact.append(Sample(float(n), (joules,), (None,), tree, machine))
            rows.append(
                Sample(float(n), (joules,), (None,), jiffies(tree, phases[0]), jiffies(machine, phases[1]))
            )
        true_j, told_j = (attributed(*windows(each, CpuTime())) for each in (exact, rows))
        ratios.append(told_j / true_j)
    assert sum(ratios) / len(ratios) == pytest.approx(1.0, abs=0.005)
