"""A run's quantities per execution: joules, seconds, watts and grams, as one is compared or held to a limit.

`comparison` and `limits` both decide by these, so that a run means the same to both: a repeated run by the
mean of the executions that succeeded with its confidence interval, a plain run by its value with its own
uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from emt_cli.analysis.executions import of_interest
from emt_cli.analysis.statistics import summary
from emt_cli.model import Execution, Run, Scope
from emt_cli.units import JOULES_PER_KWH
from emt_cli.values import Value

Metric = Literal["energy", "time", "power", "co2e"]
METRICS: tuple[Metric, ...] = get_args(Metric)
UNITS: dict[Metric, str] = {"energy": "J", "time": "s", "power": "W", "co2e": "g"}


class Figure(Value):
    """One quantity of one run. `values` are its executions'; `low` to `high` is the 95 % interval of their
    mean or, of one value, the measurement's uncertainty. None: not known."""

    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Figure:
        """The same in another unit, or per unit of work."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        values = tuple(each * factor for each in self.values)
        return Figure(values=values, mean=self.mean * factor, low=low, high=high)


def figure(run: Run, metric: Metric, scope: Scope) -> Figure | None:
    """That quantity per execution; None where any execution does not know it.

    Energy and power are the tree's or the machine's by `scope`. Power is the mean over an execution: a peak
    would depend on how often it was looked. CO2e is that energy at the record's own intensity and PUE.
    """
    if metric == "time":
        seconds = durations_s(run)
        return of_values(seconds, seconds[0], seconds[0])
    joules = _energy(run, scope)
    if joules is None or metric == "energy":
        return joules
    if metric == "co2e":
        factor = grams_per_joule(run)
        return None if factor is None else joules.times(factor)
    seconds = durations_s(run)
    if min(seconds) <= 0:
        return None
    if len(seconds) == 1:
        return joules.times(1 / seconds[0])
    watts = [each_j / each_s for each_j, each_s in zip(joules.values, seconds, strict=True)]
    return of_values(watts, None, None)


def of_values(values: Sequence[float], low: float | None, high: float | None) -> Figure:
    """The executions' values as a figure; `low` and `high` are those of a single one."""
    if len(values) == 1:
        return Figure(values=tuple(values), mean=values[0], low=low, high=high)
    found = summary(values)
    return Figure(values=tuple(values), mean=found.mean, low=found.low, high=found.high)


def executions_of(run: Run) -> list[Execution]:
    """The executions that tell what one uses: those that succeeded, or all where none did."""
    return [run.executions[index] for index in of_interest(run.executions)]


def durations_s(run: Run) -> list[float]:
    """Of each of those executions; of a plain run the only one."""
    return [each.duration_s for each in executions_of(run)] or [run.duration_s]


def grams_per_joule(run: Run) -> float | None:
    """Intensity x PUE; None where nothing tells which grid fed the machine."""
    if run.carbon is not None:
        return run.carbon.pue * run.carbon.intensity_g_per_kwh / JOULES_PER_KWH
    if run.grid is not None:
        return run.settings.pue * run.grid.intensity_g_per_kwh / JOULES_PER_KWH
    return None


def _energy(run: Run, scope: Scope) -> Figure | None:
    if run.executions:
        chosen = executions_of(run)
        known = [each.attributed_j if scope == "tree" else each.machine_j for each in chosen]
        values = [each for each in known if each is not None]
        if len(values) < len(known):
            return None
        bounds = (chosen[0].low_j, chosen[0].high_j) if scope == "tree" else (None, None)
        return of_values(values, *bounds)
    if run.energy is None:
        return None
    energy = run.energy
    if scope == "tree":
        return _single(energy.attributed_j, energy.low_j, energy.high_j)
    return _single(energy.machine_j, energy.machine_low_j, energy.machine_high_j)


def _single(value: float | None, low: float | None, high: float | None) -> Figure | None:
    return None if value is None else of_values([value], low, high)
