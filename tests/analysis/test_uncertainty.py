"""How sure a number is: every term widens the interval, and the truth lies inside."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.analysis.attribution import CpuSplit, Idle, Shared, split_by_cpu
from emt_cli.analysis.uncertainty import Interval, MachineBounds, half_width, of_cpu_share, of_machine
from emt_cli.analysis.windows import Window, windows
from emt_cli.model import ChannelEnergy, CpuTime, Observed, Run, Settings
from tests.analysis.examples import (
    OfTime,
    channel,
    energy_of,
    row_of,
    run_of,
    steady,
    steps,
    with_cpu,
    with_observed,
)

PLAIN: dict[str, Any] = {"tree": steady(0.5), "machine": steady(1.0), "duration_s": 100.0, "cpus": 4}


def run(**facts: Any) -> Run:
    return run_of(steady(10.0), **{**PLAIN, **facts})


def width(row: ChannelEnergy) -> float:
    assert row.low_j is not None and row.high_j is not None
    return row.high_j - row.low_j


def sides(row: ChannelEnergy) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    assert row.low_j is not None and row.high_j is not None and row.attributed_j is not None
    return row.attributed_j - row.low_j, row.high_j - row.attributed_j


def with_channel(run: Run, **facts: Any) -> Run:
    return replace(run, channels=tuple(replace(each, **facts) for each in run.channels))


KNOWN_IDLE = Settings(idle_w={"cpu0/package": 2.0})
"""With it the interval holds no doubt about idle power."""


# --- the machine ------------------------------------------------------------------------------------


def bounds(energy_j: float = 100.0, duration_s: float = 10.0, **facts: Any) -> MachineBounds:
    of_channel = {
        name: facts.pop(name)
        for name in list(facts)
        if name not in ("gap_s", "max_power_w", "trapezoid_j", "edge_j")
    }
    observed = Observed(channel="cpu0/package", energy_j=energy_j, readings=9, **facts)
    return of_machine(channel(**of_channel), observed, energy_j, energy_j / duration_s, duration_s)


def test_a_perfect_counter_leaves_no_doubt() -> None:
    assert bounds().interval == (100.0, 100.0)


def test_either_side_is_one_update_period_at_the_largest_power_seen() -> None:
    assert bounds(update_period_s=0.1, max_power_w=30.0).interval == (97.0, 103.0)


def test_either_side_is_one_counter_step() -> None:
    assert bounds(resolution_j=0.5).interval == (99.5, 100.5)


def test_the_makers_accuracy_and_the_trapezoid_and_the_cut_edges_widen_both_sides() -> None:
    assert bounds(accuracy=0.05).interval == (95.0, 105.0)
    assert bounds(trapezoid_j=2.0).interval == (98.0, 102.0)
    assert bounds(edge_j=3.0).interval == (97.0, 103.0)


def test_terms_add_linearly() -> None:
    all_of_them = bounds(
        accuracy=0.05, trapezoid_j=2.0, resolution_j=0.5, update_period_s=0.1, max_power_w=30.0
    )
    assert all_of_them.interval == pytest.approx((100 - 5 - 2 - 0.5 - 3, 100 + 5 + 2 + 0.5 + 3))


def test_gaps_widen_only_the_upper_bound_by_the_largest_power_seen() -> None:
    assert bounds(gap_s=2.0, max_power_w=30.0).interval == (100.0, 160.0)


def test_a_gap_of_a_channel_whose_power_was_never_seen_may_hold_all_that_the_device_can_draw() -> None:
    found = bounds(0.0, gap_s=10.0, max_power_w=0.0, duration_s=10.0)
    assert found.interval == (0.0, 10.0 * channel().max_power_w)


def test_a_model_lies_between_its_bounds_whatever_its_point() -> None:
    facts: dict[str, Any] = {"kind": "model", "low_w": 4.0, "high_w": 25.0}
    assert bounds(**facts).interval == (40.0, 250.0)
    assert bounds(30.0, **facts).interval == (30.0, 250.0)
    assert bounds(300.0, **facts).interval == (40.0, 300.0)
    assert bounds(gap_s=5.0, **facts).interval == (40.0, 250.0)


def test_a_run_shorter_than_an_update_that_saw_none_is_not_known_to_have_used_nothing() -> None:
    found = bounds(0.0, update_period_s=0.1, duration_s=0.05, id="gpu0").interval
    assert found.low == 0.0
    assert found.high >= 0.05 * 700


@settings(max_examples=300)
@given(st.floats(0, 1), st.floats(0.05, 12), st.floats(1, 500))
def test_a_steady_counter_that_moves_in_steps_is_enclosed_at_any_phase_and_length(
    phase: float, length: float, power_w: float
) -> None:
    """`length` in update periods: what was read is a whole number of updates."""
    period_s = 0.1
    first = int(phase)
    seen_j = (int(length + phase) - first) * period_s * power_w
    found = bounds(seen_j, length * period_s, update_period_s=period_s).interval
    assert found.low - 1e-9 <= length * period_s * power_w <= found.high + 1e-9


# --- the share --------------------------------------------------------------------------------------


def test_with_known_idle_power_only_the_clock_ticks_are_left_of_a_perfect_machine() -> None:
    """Two ticks for each of four CPUs in 100 busy seconds."""
    row = row_of(run(settings=KNOWN_IDLE))
    assert sides(row) == pytest.approx((500 * 0.08 / 100, 500 * (100 / 99.92 - 1)))


def test_unknown_idle_power_lets_the_tree_bear_as_little_as_its_part_of_all_cpu_time() -> None:
    row = row_of(run())
    assert row.attributed_j == pytest.approx(500.0)
    ticks_j = 500 * 0.08 / 100
    assert sides(row) == pytest.approx((500 - 1000 * 50 / 400 + ticks_j, ticks_j), rel=0.002)


def test_the_doubt_about_idle_power_is_taken_window_by_window() -> None:
    """The tree works in the dear half of the run: its least part is of those joules."""
    power, tree = steps((50, 5.0), (50, 15.0)), steps((50, 0.0), (50, 1.0))
    row = row_of(run_of(power, **{**PLAIN, "tree": tree}))
    assert row.low_j == pytest.approx(750 * 50 / 200, rel=0.01)


def test_unknown_idle_power_on_reserved_cpus_reaches_up_to_their_part_of_everything() -> None:
    row = row_of(run(tree=steady(0.1), settings=Settings(reserved_cpus=2.0)))
    assert row.attributed_j == pytest.approx(100.0)
    assert row.low_j == pytest.approx(1000 * 0.1 / 4, rel=0.02)
    assert row.high_j == pytest.approx(1000 * 2 / 4, rel=0.02)


def test_unknown_idle_power_that_is_nobodys_may_be_all_there_was() -> None:
    assert row_of(run(settings=Settings(idle_policy="none"))).low_j == 0.0


def test_a_channel_that_knows_its_idle_power_has_a_narrower_interval_beside_one_that_does_not() -> None:
    both = run_of(
        {"cpu0/package": steady(10.0), "ram": steady(3.0)},
        **PLAIN,
        channels=[channel(), channel("ram", domain="dram", idle_w=3.0)],
    )
    package, ram = row_of(both), row_of(both, "ram")
    assert ram.active_j == pytest.approx(0.0)
    assert ram.idle_share_j == ram.attributed_j == pytest.approx(150.0)
    assert width(ram) < 0.01 * 150.0
    assert package.low_j == pytest.approx(125.0, rel=0.01)


TERMS: dict[str, Any] = {
    "update period": lambda run: with_channel(run, update_period_s=0.1),
    "counter step": lambda run: with_channel(run, resolution_j=1.0),
    "accuracy": lambda run: with_channel(run, accuracy=0.05),
    "trapezoid": lambda run: with_observed(run, trapezoid_j=5.0),
    "cut edges": lambda run: with_observed(run, edge_j=1.0),
    "gap": lambda run: with_observed(run, gap_s=2.0),
    "clock ticks of more CPUs": lambda run: with_cpu(run, logical_cpus=16),
    "clock ticks of the tree": lambda run: with_cpu(run, winner="proc"),
    "idle power unknown": lambda run: replace(run, settings=Settings()),
    "idle power shared by another policy": lambda run: replace(
        run, settings=replace(KNOWN_IDLE, idle_policy="reserved", reserved_cpus=1.0)
    ),
    "model bounds": lambda run: with_channel(run, kind="model", low_w=2.0, high_w=30.0),
    "tree out of sight": lambda run: with_cpu(run, blind_spot="hidden", coverage=None),
    "machine's CPU time unknown": lambda run: replace(
        with_cpu(run, machine_s=None), samples=[row._replace(cpu_machine_s=None) for row in run.samples]
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_every_term_widens_the_interval(name: str) -> None:
    plain = run(settings=KNOWN_IDLE)
    assert width(row_of(TERMS[name](plain))) > width(row_of(plain)) + 0.01


def test_gaps_leave_the_lower_bound_of_the_share_alone() -> None:
    plain = run(settings=KNOWN_IDLE)
    before, after = sides(row_of(plain)), sides(row_of(with_observed(plain, gap_s=2.0)))
    assert after[0] == pytest.approx(before[0])
    assert after[1] == pytest.approx(before[1] + 2.0 * 10.0 * 0.5)


def test_what_may_be_misplaced_counts_with_the_trees_largest_share() -> None:
    """The tree works in the last ten seconds alone: a lost edge may have been all its own."""
    late = run(tree=steps((90, 0.0), (10, 1.0)), settings=KNOWN_IDLE)
    before, after = sides(row_of(late)), sides(row_of(with_channel(late, update_period_s=0.1)))
    assert after[0] - before[0] == pytest.approx(1.0, rel=0.01)


def test_a_part_of_the_tree_out_of_sight_may_have_used_everything() -> None:
    row = row_of(with_cpu(run(), blind_spot="hidden", coverage=None))
    assert row.high_j == row.machine_high_j
    seen_by_perf = row_of(with_cpu(run(), blind_spot="hidden", coverage=1.0))
    assert seen_by_perf.high_j is not None and seen_by_perf.high_j < 510


ADDITIVE = (
    "update period",
    "counter step",
    "accuracy",
    "trapezoid",
    "cut edges",
    "gap",
    "clock ticks of the tree",
)


@pytest.mark.parametrize("one", ADDITIVE)
@pytest.mark.parametrize("two", ADDITIVE)
def test_two_terms_together_are_never_narrower_than_their_sum(one: str, two: str) -> None:
    plain = run(settings=KNOWN_IDLE)
    zero, first, second, both = (
        sides(row_of(each))
        for each in (plain, TERMS[one](plain), TERMS[two](plain), TERMS[one](TERMS[two](plain)))
    )
    if one != two:
        for place in (0, 1):
            assert both[place] >= first[place] + second[place] - zero[place] - 1e-9


# --- always -----------------------------------------------------------------------------------------

JOULES = st.floats(0, 1e6)
SECONDS = st.floats(0, 1e4)


@st.composite
def shares(draw: st.DrawFn) -> tuple[MachineBounds, Shared, CpuSplit, CpuTime]:
    energy_j = draw(JOULES)
    machine = MachineBounds(
        energy_j=energy_j,
        below_j=draw(st.floats(0, 1)) * energy_j,
        above_j=draw(JOULES),
        local_j=draw(JOULES),
        gaps_j=draw(JOULES),
    )
    shared = Shared("cpu_share", energy_j, draw(st.floats(0, 1)) * energy_j)
    shared.idle_j = draw(st.none() | st.floats(0, 1).map(lambda part: part * energy_j))
    shared.least_j, shared.most_j = draw(JOULES), draw(JOULES)
    shared.idle_shift_j = draw(st.floats(-1e6, 1e6))
    split = CpuSplit(1)
    split.cpu_tree_s, split.cpu_machine_s = draw(SECONDS), draw(st.none() | SECONDS)
    split.peak_share = draw(st.floats(0, 1))
    cpu = CpuTime(
        winner=draw(st.sampled_from(["perf", "proc", ""])),
        logical_cpus=draw(st.integers(1, 256)),
        blind_spot=draw(st.sampled_from(["", "hidden"])),
    )
    return machine, shared, split, cpu


@given(shares())
def test_the_interval_encloses_the_value_and_stays_within_what_there_was(
    given_: tuple[MachineBounds, Shared, CpuSplit, CpuTime],
) -> None:
    machine, shared, split, cpu = given_
    found = of_cpu_share(machine, shared, split, cpu)
    assert found is not None and shared.attributed_j is not None
    assert 0.0 <= found.low <= shared.attributed_j <= found.high < inf
    assert found.high <= machine.interval.high + 1e-6
    assert machine.interval.low <= machine.energy_j <= machine.interval.high


def test_of_an_unknown_share_there_is_no_interval() -> None:
    split = CpuSplit(1)
    split.cpu_tree_s = None
    assert of_cpu_share(MachineBounds(energy_j=1.0), Shared("unknown", 1.0, None), split, CpuTime()) is None
    assert half_width(None, None) is None


def test_a_half_width_is_told_only_where_the_interval_is_near_symmetric() -> None:
    assert half_width(10.0, Interval(8.0, 12.0)) == 2.0
    assert half_width(10.0, Interval(8.0, 12.5)) == 2.5
    assert half_width(10.0, Interval(2.0, 12.0)) is None
    assert half_width(10.0, Interval(10.0, 10.0)) == 0.0


def test_the_bounds_of_a_total_are_the_sums_of_the_bounds() -> None:
    both = run_of({"cpu0/package": steady(10.0), "cpu0/dram": steady(3.0)}, **PLAIN)
    energy = energy_of(both)
    rows = energy.channels
    assert energy.low_j == pytest.approx(sum(row.low_j or 0 for row in rows))
    assert energy.high_j == pytest.approx(sum(row.high_j or 0 for row in rows))
    assert energy.machine_low_j == pytest.approx(sum(row.machine_low_j for row in rows))


# --- against the truth ------------------------------------------------------------------------------


def stepped(total: OfTime, period_s: float, phase_s: float, unit: float = 0.0) -> OfTime:
    """What a counter shows that moves once per period, in whole units."""

    def shown(t_s: float) -> float:
        value = total((t_s + phase_s) // period_s * period_s - phase_s)
        return value // unit * unit if unit else value

    return shown


def ticking(total: OfTime, phase_s: float) -> OfTime:
    """CPU seconds as /proc tells them."""
    return lambda t_s: (total(t_s) + phase_s) // 0.01 * 0.01


def since(start_s: float, total: OfTime) -> OfTime:
    return lambda t_s: total(t_s + start_s) - total(start_s)


@dataclass(frozen=True)
class Simulation:
    """A machine of random load as it was, and the run that a coarse counter and 10 ms ticks tell of it."""

    joules: OfTime
    tree: OfTime
    machine: OfTime
    told: Run

    def true_share_j(self) -> float:
        """The rule's own figure, without any error of reading, over the same windows."""
        cuts = [each.start_s for each in windows(self.told.samples, self.told.cpu_time)]
        exact = [
            Window(
                a,
                b - a,
                (self.joules(b) - self.joules(a),),
                self.tree(b) - self.tree(a),
                self.machine(b) - self.machine(a),
            )
            for a, b in pairwise([*cuts, self.told.duration_s])
        ]
        idle = Idle(power_w=[8.0], policy="busy", logical_cpus=self.told.cpu_time.logical_cpus)
        shared = split_by_cpu(exact, idle, 1, duration_s=self.told.duration_s).channels[0]
        assert shared.attributed_j is not None
        return shared.attributed_j


def simulated(dice: random.Random, period_s: float) -> Simulation:
    cpus, length_s = dice.choice([2, 8, 32]), dice.uniform(0.1, dice.choice([1.0, 15.0]))
    levels: list[tuple[float, float, float, float]] = []
    while sum(level[0] for level in levels) < length_s:
        tree, others = dice.uniform(0, 1) * cpus / 2, dice.choice([0.0, dice.uniform(0, 1) * cpus / 2])
        power_w = 10 + 8 * (tree + others) * dice.uniform(0.7, 1.3)
        levels.append((dice.choice([0.05, 0.4, 3.0, 10.0]), power_w, tree, tree + others))
    levels.insert(0, (9.0, dice.uniform(10, levels[0][1]), 0.0, dice.uniform(0, 1)))
    power, tree_s, machine_s = (steps(*((each[0], each[n]) for each in levels)) for n in (1, 2, 3))
    counter = stepped(power, period_s, dice.random() * period_s, 6.1e-5)
    told = run_of(
        since(9.0, counter),
        tree=since(9.0, tree_s),
        machine=since(9.0, ticking(machine_s, dice.random() * 0.01)),
        duration_s=length_s,
        cpus=cpus,
        channels=[channel(update_period_s=period_s, resolution_j=6.1e-5)],
        settings=Settings(idle_w={"cpu0/package": 8.0}),
    )
    return Simulation(since(9.0, power), since(9.0, tree_s), since(9.0, machine_s), told)


@pytest.mark.parametrize("period_s", [0.001, 0.1, 0.5])
def test_the_truth_lies_inside_the_interval(period_s: float) -> None:
    dice = random.Random(f"emt {period_s}")
    runs = 334
    machine_inside = share_inside = 0
    for _ in range(runs):
        simulation = simulated(dice, period_s)
        told = row_of(simulation.told)
        assert told.low_j is not None and told.high_j is not None
        machine_j = simulation.joules(simulation.told.duration_s)
        machine_inside += told.machine_low_j - 1e-9 <= machine_j <= told.machine_high_j + 1e-9
        share_inside += told.low_j - 1e-9 <= simulation.true_share_j() <= told.high_j + 1e-9
    assert machine_inside >= 0.99 * runs
    assert share_inside >= 0.99 * runs
