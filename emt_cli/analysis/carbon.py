"""Carbon: which grid feeds the machine, and how many grams of CO2e a run's energy comes to.

Apart from attribution because it can be asked again of any old run with another place, intensity or PUE.
Reads the tables of `data` and nothing else: no network, no environment.
"""

from __future__ import annotations

import math
from typing import Literal

from emt_cli import data
from emt_cli.analysis.equivalents import equivalents
from emt_cli.errors import NotFoundError, UsageError
from emt_cli.model import PLATFORM_DOMAINS, Carbon, Energy, Grid, Settings
from emt_cli.units import JOULES_PER_KWH

WORLD = "WORLD"
HIGHEST_INTENSITY_G_PER_KWH = 5000.0
"""No grid comes near (the worst national mean is 1306): beyond it the unit is wrong."""

_TABLE = "carbon_intensity_country"
_DATASETS = {
    "ember-2025-08": "Ember Yearly Electricity Data (August 2025)",
    "owid-2025-05": "Our World in Data Energy (May 2025)",
}


def find_grid(
    *,
    location: str | None,
    location_source: str,
    intensity: float | None,
    intensity_source: str,
    timezone: str,
) -> Grid:
    """The grid that feeds the machine, and how it was found.

    `location` is a country's code or name, or an aggregate (`WORLD`, `EU27`); `location_source` and
    `intensity_source` say where the two came from (flag, config, environment) and are passed through.
    Without a location the country of `timezone` is taken ('time zone'), else the world ('world average').
    An explicit `intensity` (gCO2e/kWh) replaces the table's; then nothing depends on the location, which
    may be any text, and where none is known its source is 'unknown'.
    Raises NotFoundError for an unknown location, UsageError for an intensity outside 0 < x <= 5000.
    """
    if intensity is not None:
        check_intensity(intensity)
        row = _row(location) if location else _row_of_timezone(timezone)
        return Grid(
            intensity_g_per_kwh=intensity,
            location=row["alpha2"] if row else location or "",
            location_name=row["name"] if row else location or "",
            location_source=location_source if location else "time zone" if row else "unknown",
            intensity_source=intensity_source,
            dataset="given by the user",
            scope="as given",
        )
    if location:
        row = _row(location)
        if row is None:
            raise _unknown(location)
        return _grid(row, location_source)
    row = _row_of_timezone(timezone)
    if row is not None:
        return _grid(row, "time zone")
    world = data.find(_TABLE, WORLD)
    assert world is not None, "the table has a row for the world; a test says so"
    return _grid(world, "world average")


def check_intensity(intensity: float) -> None:
    """Raises UsageError unless 0 < intensity <= 5000 gCO2e/kWh.

    Zero is refused: over its life cycle no source is free of emissions (wind is about 11 g/kWh).
    """
    if 0 < intensity <= HIGHEST_INTENSITY_G_PER_KWH:
        return
    if math.isnan(intensity) or intensity <= 0:
        hint = "life-cycle values are above 0: wind is about 11, the world's mean 473 gCO2e/kWh"
    else:
        hint = "the unit is gCO2e per kWh; the world's mean is 473"
    raise UsageError(
        f"a carbon intensity of {intensity:g} gCO2e/kWh cannot be: "
        f"it must be above 0 and at most {HIGHEST_INTENSITY_G_PER_KWH:g}",
        hint=hint,
    )


def account(energy: Energy, grid: Grid, settings: Settings) -> Carbon | None:
    """Grams of CO2e = joules / 3.6e6 x PUE x gCO2e/kWh, with the energy's bounds; None where it is unknown.

    With scope `tree` the attributed energy counts, with `machine` the machine's; there `--total platform`
    takes the whole node's where a sensor saw it, as does a machine that has nothing else.
    """
    basis, joules, low_j, high_j = headline(energy, settings)
    if joules is None:
        return None
    kwh = joules / JOULES_PER_KWH * settings.pue
    factor = settings.pue * grid.intensity_g_per_kwh / JOULES_PER_KWH
    co2e_g = joules * factor
    return Carbon(
        co2e_g=co2e_g,
        low_g=co2e_g if low_j is None else low_j * factor,
        high_g=co2e_g if high_j is None else high_j * factor,
        basis=basis,
        energy_j=joules,
        pue=settings.pue,
        pue_source=settings.pue_source,
        intensity_g_per_kwh=grid.intensity_g_per_kwh,
        location=grid.location,
        location_name=grid.location_name,
        location_source=grid.location_source,
        intensity_source=grid.intensity_source,
        dataset=grid.dataset,
        year=grid.year,
        scope=grid.scope,
        equivalents=equivalents(co2e_g, kwh, grid.intensity_g_per_kwh),
    )


Headline = tuple[Literal["attributed", "machine", "platform"], float | None, float | None, float | None]


def headline(energy: Energy, settings: Settings) -> Headline:
    """Whose joules count by the scope and total of the run, how many, and their bounds; None: unknown."""
    if settings.scope == "tree":
        return "attributed", energy.attributed_j, energy.low_j, energy.high_j
    wants_platform = settings.total == "platform" or energy.machine_j is None
    if wants_platform and energy.platform_j is not None:
        for channel in energy.channels:
            is_it = math.isclose(channel.machine_j, energy.platform_j, rel_tol=1e-9)
            if channel.domain in PLATFORM_DOMAINS and is_it:
                return "platform", energy.platform_j, channel.machine_low_j, channel.machine_high_j
        return "platform", energy.platform_j, None, None
    return "machine", energy.machine_j, energy.machine_low_j, energy.machine_high_j


def _grid(row: dict[str, str], location_source: str) -> Grid:
    source = row["source"]
    stand_in = source.removeprefix("proxy:") if source.startswith("proxy:") else ""
    if stand_in:
        neighbour = data.find(_TABLE, stand_in)
        source = neighbour["source"] if neighbour else source
    dataset = _DATASETS.get(source, source)
    return Grid(
        intensity_g_per_kwh=float(row["gco2e_per_kwh"]),
        location=row["alpha2"],
        location_name=row["name"],
        location_source=location_source,
        intensity_source="table",
        dataset=f"{dataset}, value of {stand_in}" if stand_in else dataset,
        year=int(row["year"]),
    )


def _row(location: str) -> dict[str, str] | None:
    """The row of a code or name, whatever its case and accents."""
    row = data.find(_TABLE, location.strip().upper())
    if row is not None:
        return row
    wanted = _plain(location)
    return next((row for row in data.rows(_TABLE) if wanted in map(_plain, _spellings(row))), None)


def _row_of_timezone(timezone: str) -> dict[str, str] | None:
    """The country of an IANA name, also as TZ spells it (`:Europe/Paris`); None for UTC and the like."""
    name = timezone.strip().lstrip(":").rpartition("zoneinfo/")[2]
    for prefix in ("posix/", "right/"):
        name = name.removeprefix(prefix)
    found = data.find("timezone_country", name)
    return None if found is None else data.find(_TABLE, found["country_alpha2"])


def _spellings(row: dict[str, str]) -> list[str]:
    return [row["alpha2"], row["alpha3"], row["name"], *filter(None, row["aliases"].split(";"))]


def _plain(text: str) -> str:
    """Lower case, no accents, no punctuation: `Côte d'Ivoire` and `cote divoire` are one."""
    import unicodedata

    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def _unknown(location: str) -> NotFoundError:
    """The error for a location that the tables do not hold, with up to three that are near."""
    import difflib

    rows = data.rows(_TABLE)
    near: list[str] = []
    # US-CA, aws:us-east-1: the tables end at countries, so the country in front is what can be had.
    country = location.replace(":", "-").replace("_", "-").split("-")[0].strip().upper()
    if country != location.strip().upper():
        near = [row["alpha2"] for row in rows if country in (row["alpha2"], row["alpha3"])]
    if not near:
        codes = {_plain(spelling): row["alpha2"] for row in rows for spelling in _spellings(row)}
        near = [codes[match] for match in difflib.get_close_matches(_plain(location), codes, n=6)]
    names = {row["alpha2"]: row["name"] for row in rows}
    chosen = list(dict.fromkeys(near))[:3]
    if not chosen:
        hint = "a country's code or name (FR, FRA, France), EU27 or WORLD"
    else:
        hint = "did you mean " + ", ".join(f"{code} ({names[code]})" for code in chosen) + "?"
    return NotFoundError(f"no carbon intensity is known for the location {location!r}", hint=hint)
