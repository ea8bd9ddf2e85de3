"""Units: the names of the quantities, the only conversion factors, and how people see a number.

Inside emt energy is joules, power watts, time seconds and mass grams, always. This module is the one
place where another unit may appear.
"""

from __future__ import annotations

import math
from typing import NewType

Joules = NewType("Joules", float)
Watts = NewType("Watts", float)
Seconds = NewType("Seconds", float)
GramsCO2e = NewType("GramsCO2e", float)

JOULES_PER_KWH = 3.6e6
JOULES_PER_WATT_HOUR = 3.6e3
JOULES_PER_MICROJOULE = 1e-6
JOULES_PER_MILLIJOULE = 1e-3
WATTS_PER_MILLIWATT = 1e-3
WATTS_PER_MICROWATT = 1e-6
AMPERES_PER_MICROAMPERE = 1e-6
VOLTS_PER_MICROVOLT = 1e-6
SECONDS_PER_MICROSECOND = 1e-6
SECONDS_PER_NANOSECOND = 1e-9
SECONDS_PER_MINUTE = 60.0
SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
GRAMS_PER_TONNE = 1e6
PREFIXES = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
"""What an SI prefix multiplies by."""

_ENERGY = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_POWER = ((1e6, "MW"), (1e3, "kW"), (1.0, "W"), (1e-3, "mW"), (1e-6, "µW"))
_MASS = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"), (1e-9, "ng"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_PLUS_MINUS = "±"


def energy(value_j: float, half_width_j: float | None = None) -> str:
    """`41.3 J`, or `41.3 J ± 2.1` with the half-width; the digits shown never exceed it."""
    return _with_half_width(value_j, half_width_j, _ENERGY)


def power(value_w: float, half_width_w: float | None = None) -> str:
    """`12.4 W`, or `12.4 W ± 0.3`."""
    return _with_half_width(value_w, half_width_w, _POWER)


def power_range(low_w: float, high_w: float) -> str:
    """`2.10 to 2.45 W`."""
    return _range(low_w, high_w, _POWER)


def mass(value_g: float, half_width_g: float | None = None) -> str:
    """`3.21 g`, from nanograms to tonnes; never `0.0000 g`."""
    return _with_half_width(value_g, half_width_g, _MASS)


def size(value_bytes: float) -> str:
    """`3.2 MiB`."""
    return _with_half_width(value_bytes, None, _BYTES)


def energy_range(low_j: float, high_j: float) -> str:
    """`20.1 to 42.0 J`: an interval that is not symmetric, both ends in the unit of the larger one."""
    return _range(low_j, high_j, _ENERGY)


def mass_range(low_g: float, high_g: float) -> str:
    """`2.60 to 5.50 mg`."""
    return _range(low_g, high_g, _MASS)


def duration(value_s: float) -> str:
    """`0.123 s`, `12.3 s`, `4 min 05 s`, `3 h 12 min`."""
    if value_s < 60:
        return f"{value_s:.3f} s" if value_s < 10 else f"{value_s:.1f} s"
    whole = round(value_s)
    hours, minutes, seconds = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def seconds(value_s: float, half_width_s: float | None = None) -> str:
    """`1.234 s ± 0.012`: a time that others are compared with, in one unit from milliseconds up."""
    return _with_half_width(value_s, half_width_s, _SECONDS)


def seconds_range(low_s: float, high_s: float) -> str:
    """`1.21 to 1.25 s`."""
    return _range(low_s, high_s, _SECONDS)


def significant(value: float, digits: int) -> str:
    """`value` with so many significant digits, without an exponent and without padding beyond them."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:.{max(places, 0)}f}"


def _with_half_width(value: float, half_width: float | None, scale: tuple[tuple[float, str], ...]) -> str:
    factor, unit = _scale(value, scale)
    if half_width is None:
        return f"{significant(value / factor, 3)} {unit}"
    if half_width <= 0:
        return f"{significant(value / factor, 3)} {unit} {_PLUS_MINUS} 0"
    half = half_width / factor
    places = 1 - math.floor(math.log10(half))
    if half >= 100 or places < 0:
        return f"{round(value / factor):d} {unit} {_PLUS_MINUS} {round(half):d}"
    places = min(places, 3)
    return f"{value / factor:.{places}f} {unit} {_PLUS_MINUS} {half:.{places}f}"


def _range(low: float, high: float, scale: tuple[tuple[float, str], ...]) -> str:
    factor, unit = _scale(max(abs(low), abs(high)), scale)
    return f"{significant(low / factor, 3)} to {significant(high / factor, 3)} {unit}"


def _scale(value: float, scale: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    magnitude = abs(value)
    if magnitude == 0 or not math.isfinite(magnitude):
        return next(step for step in scale if step[0] == 1.0)
    for factor, unit in scale:
        if magnitude >= factor * 0.9995:
            return factor, unit
    return scale[-1]
