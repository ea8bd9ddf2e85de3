"""Energy per unit of work: joules for an image, a token, a request, by the run's own scope.

Apart from `energy` because it needs nothing but totals: a repeated run's are sums, and so is its amount.
"""

from __future__ import annotations

from dataclasses import replace

from emt_cli.analysis.carbon import headline
from emt_cli.model import Run, Work


def worked(run: Run) -> Work | None:
    """The run's work with what a unit of it took: joules and their bounds, grams, units per second.

    Whose energy that is follows from the scope, as for carbon. What is not known of the run is not known of
    a unit either.
    """
    work = run.work
    if work is None or not work.amount > 0:
        return work
    joules = low_j = high_j = None
    if run.energy is not None:
        _, joules, low_j, high_j = headline(run.energy, run.settings)
    return replace(
        work,
        per_unit_j=_over(joules, work.amount),
        per_unit_low_j=_over(low_j, work.amount),
        per_unit_high_j=_over(high_j, work.amount),
        per_unit_co2e_g=None if run.carbon is None else run.carbon.co2e_g / work.amount,
        per_second=work.amount / run.duration_s if run.duration_s > 0 else None,
    )


def _over(value: float | None, amount: float) -> float | None:
    return None if value is None else value / amount
