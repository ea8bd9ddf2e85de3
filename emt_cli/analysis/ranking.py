"""Several commands measured in rounds, ranked by their energy: which is the best, and which really differ.

Every command is executed once a round, the order turning round with every round (A B C, C B A, ...), so that
drift hits all alike and two executions of one round make a pair (see `difference`). All pairs of commands are
compared, by the paired t test on log ratios, and judged together by Holm's method (1979): at most one ranking
in twenty of equal commands finds a difference anywhere. Apart from `comparison`, which compares runs with a
first one: here the data say which is the best, so every pair could have been reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, NamedTuple

from emt_cli.analysis.comparison import resolution_j
from emt_cli.analysis.difference import LEVEL, difference, holm
from emt_cli.analysis.executions import of_interest, spread
from emt_cli.analysis.figures import grams_per_joule
from emt_cli.model import Execution, Run, Scope, Spread
from emt_cli.values import Value

Verdict = Literal["best", "more", "same", "unresolved", "few", "zero", "unknown"]
"""best: no other uses less. more: significantly more than the best. same: no significant difference.
unresolved: below what the counters resolve. few: one round tells nothing. zero: an execution that used no
joules has no ratio. unknown: there is no energy."""


class Ranked(Value):
    """One command's place. Everything is of one execution; None: not known.

    `relative` (0.03: 3 % more than the best) lies within `low` to `high`, the interval at the level that its
    verdict came by: it excludes 0 where the verdict is a difference, and only there. `p` is Holm's.
    """

    index: int
    """Which command, counted from 0 in the order in which they were given."""
    verdict: Verdict
    time_s: Spread
    energy_j: Spread | None = None
    power_w: Spread | None = None
    edp_js: Spread | None = None
    """Energy-delay product (Gonzalez & Horowitz 1996): joules times seconds."""
    co2e_g: float | None = None
    per_unit_j: float | None = None
    unit: str = ""
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    method: str = "none"


def rank(runs: Sequence[Run], scope: Scope) -> tuple[Ranked, ...]:
    """The commands from the least energy to the most; those without an energy by time, at the end.

    `runs` are repeated runs, execution i of each being of round i.
    """
    entries = [_entry(index, run, scope) for index, run in enumerate(runs)]
    ordered = sorted(entries, key=lambda each: (_mean(each.energy_j), each.time_s.mean, each.index))
    best = ordered[0]
    if best.energy_j is None:
        return tuple(ordered)
    judged = _judged(runs, scope)
    told = [_told(each, best, runs, scope, judged) for each in ordered[1:]]
    return (replace(best, verdict="best"), *told)


def rounds_of(run: Run) -> int:
    return len(run.executions)


def _mean(spread: Spread | None) -> float:
    return float("inf") if spread is None else spread.mean


def _entry(index: int, run: Run, scope: Scope) -> Ranked:
    """One command by itself, over its executions of interest."""
    chosen = [run.executions[at] for at in of_interest(run.executions)]
    joules = [_joules(each, scope) for each in chosen]
    times_s = [each.duration_s for each in chosen]
    energy_j = spread(joules)
    pairs = list(zip(joules, times_s, strict=True))
    watts = [None if each_j is None or each_s <= 0 else each_j / each_s for each_j, each_s in pairs]
    factor = grams_per_joule(run)
    work = run.work
    amount = 0.0 if work is None else work.amount / max(1, len(run.executions))
    time_s = spread(times_s)
    assert time_s is not None, "every execution has a duration"
    return Ranked(
        index=index,
        verdict="unknown",
        time_s=time_s,
        energy_j=energy_j,
        power_w=spread(watts),
        edp_js=spread([None if each_j is None else each_j * each_s for each_j, each_s in pairs]),
        co2e_g=None if factor is None or energy_j is None else energy_j.mean * factor,
        per_unit_j=energy_j.mean / amount if energy_j is not None and amount > 0 else None,
        unit="" if work is None else work.unit,
    )


def _joules(execution: Execution, scope: Scope) -> float | None:
    return execution.machine_j if scope == "machine" else execution.attributed_j


# --- pairs ------------------------------------------------------------------------------------------

Pair = tuple[int, int]


class _Judged(NamedTuple):
    """What Holm's method made of a pair: its p, and the level at which it was judged."""

    p: float
    level: float


def _judged(runs: Sequence[Run], scope: Scope) -> dict[Pair, _Judged]:
    """Every two commands that can be compared, judged together.

    The interval at such a level excludes 0 where the verdict is a difference, and only there.
    """
    samples = {pair: _samples(runs, pair, scope) for pair in combinations(range(len(runs)), 2)}
    first = {
        pair: difference(*both, pairs=True).p for pair, both in samples.items() if _can_be_compared(*both)
    }
    p_values = [1.0 if p is None else p for p in first.values()]
    raised = holm(p_values)
    return {
        pair: _Judged(most, LEVEL * p / most if p > 0 and 0 < most < 1 else LEVEL / len(p_values))
        for pair, p, most in zip(first, p_values, raised, strict=True)
    }


def _samples(runs: Sequence[Run], pair: Pair, scope: Scope) -> tuple[list[float], list[float]]:
    """The joules of both in the rounds that tell something of both."""
    one, other = (runs[at].executions for at in pair)
    wanted = sorted({*of_interest(one)} & {*of_interest(other)})
    both = [(_joules(one[at], scope), _joules(other[at], scope)) for at in wanted]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return [a for a, _ in known], [b for _, b in known]


def _can_be_compared(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) >= 2 and min(*a, *b) > 0


def _told(
    entry: Ranked, best: Ranked, runs: Sequence[Run], scope: Scope, judged: dict[Pair, _Judged]
) -> Ranked:
    """A command compared with the best one."""
    if entry.energy_j is None or best.energy_j is None:
        return entry
    of_best, of_entry = _samples(runs, (best.index, entry.index), scope)
    told = judged.get((min(entry.index, best.index), max(entry.index, best.index)))
    if told is None:
        is_zero = bool(of_best) and min(*of_best, *of_entry) <= 0
        relative = entry.energy_j.mean / best.energy_j.mean - 1 if best.energy_j.mean > 0 else None
        return replace(entry, verdict="zero" if is_zero else "few", relative=relative)
    found = difference(of_best, of_entry, pairs=True, level=told.level)
    resolution = max(resolution_j(runs[entry.index]), resolution_j(runs[best.index]))
    verdict: Verdict = "same"
    if abs(entry.energy_j.mean - best.energy_j.mean) <= resolution:
        verdict = "unresolved"
    elif told.p <= LEVEL and found.relative > 0:
        verdict = "more"
    return replace(
        entry,
        verdict=verdict,
        relative=found.relative,
        low=found.low,
        high=found.high,
        p=told.p,
        method=found.method,
    )
