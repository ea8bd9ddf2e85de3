"""The figures of a run that every target tells: the headline energy, its bounds, and what goes with it."""

from __future__ import annotations

from typing import NamedTuple

from emt_cli.analysis.carbon import Headline, headline
from emt_cli.model import Run
from emt_cli.reports.phrases import command_line, finite
from emt_cli.reports.words import clean, cut_middle

_LONGEST_TITLE = 120


class Figures(NamedTuple):
    """Joules, watts, seconds and grams; None: unknown. `basis` says whose energy the headline is."""

    basis: str
    energy_j: float | None
    low_j: float | None
    high_j: float | None
    attributed_j: float | None
    machine_j: float | None
    platform_j: float | None
    power_w: float | None
    co2e_g: float | None
    duration_s: float
    provenance: str


def figures(run: Run) -> Figures:
    """The figures of a run with results; none of them is NaN or infinite."""
    energy = run.energy
    told: Headline = headline(energy, run.settings) if energy else ("attributed", None, None, None)
    basis, total_j, low_j, high_j = told
    joules, duration_s = finite(total_j), finite(run.duration_s) or 0.0
    return Figures(
        basis=basis,
        energy_j=joules,
        low_j=finite(low_j),
        high_j=finite(high_j),
        attributed_j=finite(energy.attributed_j) if energy else None,
        machine_j=finite(energy.machine_j) if energy else None,
        platform_j=finite(energy.platform_j) if energy else None,
        power_w=joules / duration_s if joules is not None and duration_s > 0 else None,
        co2e_g=finite(run.carbon.co2e_g) if run.carbon else None,
        duration_s=duration_s,
        provenance=clean(energy.provenance) if energy else "",
    )


def title(run: Run) -> str:
    """What people call the run: its name, else its command; clean, on one line, never empty."""
    called = clean(run.name) or command_line(run.command) or "(no command)"
    return cut_middle(called, _LONGEST_TITLE)
