"""Everyday comparisons: what so much CO2e, or so much energy, amounts to.

Apart from `carbon` because nothing here changes a result: a comparison is chosen for being easy to
picture, and every one carries the source of its factor.
"""

from __future__ import annotations

import math

from emt_cli import data
from emt_cli.model import Equivalent
from emt_cli.units import significant

_SMALLEST, _LARGEST = 0.1, 1000.0
"""Amounts outside this stretch are not shown: nobody pictures 0.0004 flights or 2,000,000 e-mails."""

_FAR = 1.0
"""A second comparison that lies more than so many decades off its best stretch is left out."""

_TIME = (
    ("ns", 1e-9 / 3600),
    ("µs", 1e-6 / 3600),
    ("ms", 1e-3 / 3600),
    ("s", 1 / 3600),
    ("min", 1 / 60),
    ("h", 1.0),
    ("days", 24.0),
    ("years", 8766.0),
)
_DISTANCE = (("mm", 1e-6), ("m", 1e-3), ("km", 1.0))
_SCALES = {"time": _TIME, "distance": _DISTANCE}
"""For units that people scale: the names, and their size in the table's unit (hours, km)."""


def equivalents(
    co2e_g: float, kwh: float | None, intensity: float | None, count: int = 2
) -> tuple[Equivalent, ...]:
    """Up to `count` comparisons for `co2e_g` grams, easiest to picture first, each of another kind.

    `kwh` is the energy behind the grams (overhead included) and `intensity` its gCO2e/kWh; one of them is
    enough. Comparisons with energy (a kettle) need it; the others (a car) do not. Nothing for no CO2e, or
    where no comparison falls between 0.1 and 1000 of its unit. The same input gives the same answer.
    """
    if not math.isfinite(co2e_g) or co2e_g <= 0:
        return ()
    if kwh is None and intensity:
        kwh = co2e_g / intensity
    ranked: list[tuple[float, int, str, Equivalent]] = []
    for order, row in enumerate(data.rows("equivalence")):
        units = _units(row, co2e_g, kwh)
        found = _equivalent(row, units) if units is not None else None
        if found is not None and units is not None:
            ranked.append((_awkwardness(row, units), order, row["group"], found))
    ranked.sort(key=lambda entry: entry[:2])
    chosen: dict[str, Equivalent] = {}
    for awkwardness, _, group, found in ranked:
        if not chosen or awkwardness <= _FAR:
            chosen.setdefault(group, found)
    return tuple(chosen.values())[:count]


def _units(row: dict[str, str], co2e_g: float, kwh: float | None) -> float | None:
    """How many of the row's units; by energy where the row is about energy, so that the grid cancels out."""
    if row["kwh_per_unit"]:
        return kwh / float(row["kwh_per_unit"]) if kwh else None
    return co2e_g / 1000 / float(row["kg_co2e_per_unit"])


def _equivalent(row: dict[str, str], units: float) -> Equivalent | None:
    amount, unit = units, row["unit"]
    scale = _SCALES.get(row["scale"])
    if scale is not None:
        unit, size = next((step for step in reversed(scale) if units >= step[1] * 0.995), scale[0])
        amount = units / size
    if not _SMALLEST <= amount <= _LARGEST:
        return None
    shown = f"{significant(amount, 2)} {unit}" if scale is not None else significant(amount, 2)
    return Equivalent(
        id=row["id"],
        text=row["text"].format(n=shown),
        amount=amount,
        unit=unit,
        source=row["source"],
    )


def _awkwardness(row: dict[str, str], units: float) -> float:
    """0 inside the stretch in which the comparison is easy to picture; outside, decades away from it."""
    low, high = float(row["best_from"]), float(row["best_to"])
    return max(0.0, math.log10(low / units), math.log10(units / high))
