"""Limits that a run keeps or does not: joules, grams, watts, seconds, and a baseline with a tolerance.

Pure: nothing here parses a command line or prints. What is not known never passes, since a gate that opens
when it cannot see is none.
"""

from __future__ import annotations

from typing import Literal

from emt_cli.analysis.comparison import compare
from emt_cli.analysis.figures import UNITS, Figure, Metric, figure
from emt_cli.analysis.verdicts import Compared
from emt_cli.model import Run, Scope
from emt_cli.values import Value

Outcome = Literal["passed", "within uncertainty", "exceeded", "unknown", "not ended"]
"""within uncertainty: above what a baseline allows, but not by more than chance or the sensors can explain,
which passes. unknown: no figure, not ended: the record breaks off; neither passes."""


class Limits(Value):
    """The most that a run may use; None: no limit. Power is the mean over an execution."""

    max_energy_j: float | None = None
    max_co2e_g: float | None = None
    max_power_w: float | None = None
    max_time_s: float | None = None

    def each(self) -> dict[Metric, float]:
        """The limits that were set."""
        limits: dict[Metric, float | None] = {
            "energy": self.max_energy_j,
            "co2e": self.max_co2e_g,
            "power": self.max_power_w,
            "time": self.max_time_s,
        }
        return {metric: limit for metric, limit in limits.items() if limit is not None}


class Check(Value):
    """One limit and what became of it: `name` is a metric's, or `baseline`. `limit` is in `unit`, as is
    `found`; of a baseline it is what the tolerance allows, and `compared` tells the rest."""

    name: str
    unit: str
    limit: float
    found: Figure | None
    outcome: Outcome
    compared: Compared | None = None

    @property
    def is_passed(self) -> bool:
        return self.outcome in ("passed", "within uncertainty")


def check(run: Run, limits: Limits, *, scope: Scope) -> tuple[Check, ...]:
    """Every limit that was set. Of a repeated run the mean of its executions decides; of any run its value,
    not the ends of its interval: those say how near it was.

    A run whose record breaks off used at least what it tells: it can exceed a limit but not keep one.
    """
    found = []
    for metric, limit in limits.each().items():
        value = figure(run, metric, scope)
        outcome: Outcome = "passed"
        if value is None:
            outcome = "unknown"
        elif not value.mean <= limit:
            outcome = "exceeded"
        elif run.state != "complete":
            outcome = "not ended"
        found.append(Check(name=metric, unit=UNITS[metric], limit=limit, found=value, outcome=outcome))
    return tuple(found)


def check_baseline(run: Run, baseline: Run, tolerance: float, *, scope: Scope) -> Check:
    """The run's energy against a baseline's, per unit of work where both tell the same one.

    Exceeded if it is more than `tolerance` (0.05: 5 %) above, and the difference is beyond what chance and
    uncertainty explain: for repeated runs a significant one, with one or two executions on a side outside the
    interval of `difference`, for plain runs intervals that do not overlap. Whether the two can be compared at
    all is to be asked before (`comparable`).
    """
    (comparison,) = compare(baseline, run, scope=scope, across_hosts=True)
    row = comparison.energy
    limit = 0.0 if row.a is None else row.a.mean * (1 + tolerance)
    return Check(
        name="baseline",
        unit=row.unit,
        limit=limit,
        found=row.b,
        outcome=_against(run, row, limit),
        compared=row,
    )


def _against(run: Run, row: Compared, limit: float) -> Outcome:
    if row.a is None or row.b is None:
        return "unknown"
    if row.b.mean <= limit:
        return "passed" if run.state == "complete" else "not ended"
    return "exceeded" if row.is_beyond or _is_zero_apart(row) else "within uncertainty"


def _is_zero_apart(row: Compared) -> bool:
    """Where a side is 0, which has no ratio: whether their intervals are apart."""
    if row.verdict != "zero" or row.a is None or row.b is None:
        return False
    return row.a.high is not None and row.b.low is not None and row.a.high < row.b.low
