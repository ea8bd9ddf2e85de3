"""Quantities as people type them: `500J`, `1.5 kWh`, `2m30s`, `5%`; read into emt's own units.

This is `units` the other way round, and apart from it because reading fails and writing does not. A text
is never guessed at: without a unit, in the wrong case or with a decimal comma it is refused, and the error
says what to write. Everything that `units` prints can be read here, so a figure can be copied from a
report into a limit.

SI symbols are case sensitive, and here it matters: `mJ` and `MJ` are nine orders of magnitude apart.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import NamedTuple

from emt_cli.errors import UsageError
from emt_cli.units import (
    GRAMS_PER_TONNE,
    JOULES_PER_WATT_HOUR,
    PREFIXES,
    SECONDS_PER_DAY,
    SECONDS_PER_HOUR,
    SECONDS_PER_MINUTE,
    GramsCO2e,
    Joules,
    Seconds,
    Watts,
)

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_LONGEST_SHOWN = 40


class _Kind(NamedTuple):
    """A quantity: how a sentence calls it, its units (what one of each is in emt's own), an example."""

    name: str
    units: dict[str, float]
    example: str
    note: str = ""


def _prefixed(symbol: str, prefixes: tuple[str, ...], base: float = 1.0) -> dict[str, float]:
    return {prefix + symbol: PREFIXES[prefix] * base for prefix in prefixes}


_ENERGY = _Kind(
    "energy",
    _prefixed("J", ("µ", "m", "", "k", "M", "G"))
    | _prefixed("Wh", ("m", "", "k", "M"), JOULES_PER_WATT_HOUR),
    "5kJ",
)
_MASS = _Kind(
    "mass",
    _prefixed("g", ("µ", "m", "", "k")) | {"t": GRAMS_PER_TONNE},
    "2g",
    " (CO2e may follow)",
)
_POWER = _Kind("power", _prefixed("W", ("µ", "m", "", "k", "M")), "300W")
_DURATION = _Kind(
    "duration",
    _prefixed("s", ("µ", "m", ""))
    | dict.fromkeys(("min", "m"), SECONDS_PER_MINUTE)
    | {"h": SECONDS_PER_HOUR, "d": SECONDS_PER_DAY},
    "2m30s",
)
_SHARE = _Kind("share", {"%": 0.01}, "5%")
_KINDS = (_ENERGY, _MASS, _POWER, _DURATION, _SHARE)


def energy_j(text: str) -> Joules:
    """`500J`, `1.5 kWh`, `2e-3 MJ` as joules; raises UsageError with the list of units."""
    return Joules(_single(text, _ENERGY))


def mass_g(text: str) -> GramsCO2e:
    """`2g`, `0.3 kg`, `5 mgCO2e`, `1 t CO2eq` as grams; raises UsageError with the list of units."""
    without = re.sub(r"\s*CO[2₂]eq?\s*$", "", text, flags=re.IGNORECASE)
    return GramsCO2e(_single(without, _MASS, given=text))


def power_w(text: str) -> Watts:
    """`300W`, `1.2 kW` as watts; raises UsageError with the list of units."""
    return Watts(_single(text, _POWER))


def duration_s(text: str) -> Seconds:
    """`90s`, `1.5 min`, `2m30s`, `1 h 05 min` as seconds; raises UsageError with the list of units.

    The parts go from large to small, each unit once, and only the last may have a fraction.
    """
    rest = _bare(text, _DURATION)
    total, smallest = 0.0, float("inf")
    while rest:
        match = re.match(rf"({_NUMBER})\s*([^\s0-9.,+-]*)\s*", rest)
        if match is None:
            raise _refusal(text, _DURATION, f"{_shown(rest)} cannot be read")
        number, unit = match[1], match[2]
        rest = rest[match.end() :]
        if rest and not number.isdigit():
            raise _refusal(text, _DURATION, "only the last part may have a fraction")
        size = _size(unit, text, _DURATION)
        if size >= smallest:
            raise _refusal(text, _DURATION, "the parts must go from large to small, each once")
        smallest = size
        total += _scaled(number, size)
    return Seconds(_finite(total, text, _DURATION))


def share(text: str) -> float:
    """`5%` as 0.05; raises UsageError. A bare `0.05` is refused: it could be meant as either."""
    bare = text.strip()
    if re.fullmatch(_NUMBER, bare) and 0 < float(bare) < 1:
        hint = f"write {float(bare) * 100:g}%, or {bare}% if that was meant"
        raise _refusal(text, _SHARE, "the % is missing", hint=hint)
    return _single(text, _SHARE)


def _single(text: str, kind: _Kind, *, given: str | None = None) -> float:
    given = text if given is None else given
    match = re.match(rf"({_NUMBER})\s*(.*)", _bare(text, kind, given=given), re.DOTALL)
    if match is None:
        raise _refusal(given, kind, "it does not begin with a number")
    size = _size(match[2], given, kind)
    return _finite(_scaled(match[1], size), given, kind)


def _bare(text: str, kind: _Kind, *, given: str | None = None) -> str:
    """The text without the space around it, after the mistakes that have a reason of their own."""
    given = text if given is None else given
    text = text.strip()
    if not text:
        raise _refusal(given, kind, "it is empty")
    if "," in text:
        raise _refusal(given, kind, "a comma is not read as a decimal point", hint=_without_comma(text))
    if text[0] in "-\u2212":
        raise _refusal(given, kind, "it is negative")
    if text[0] == "+":
        raise _refusal(given, kind, "it has a sign; write the number alone")
    if re.match(r"(nan|inf(inity)?)(?![a-z])", text, re.IGNORECASE):
        raise _refusal(given, kind, "it is not a finite number")
    return text


def _without_comma(text: str) -> str:
    """What to write instead; where the comma may have stood between thousands, both readings."""
    if not text.isprintable() or not re.fullmatch(r"[0-9]*,[0-9][^.,]*", text):
        return "write the number with a point and no other mark"
    with_point = ("0" if text.startswith(",") else "") + text.replace(",", ".")
    if re.match(r"[1-9][0-9]{0,2},[0-9]{3}(?![0-9])", text):
        return f"write {_cut(with_point)} or {_cut(text.replace(',', ''))}, whichever was meant"
    return f"write {_cut(with_point)}"


def _size(unit: str, text: str, kind: _Kind) -> float:
    """What one of `unit` is in emt's own unit; u and the Greek letter (U+03BC) stand for the micro sign."""
    unit = unit.strip()
    exact = _with_micro_sign(unit, "u\u03bc")
    if exact in kind.units:
        return kind.units[exact]
    if not unit:
        raise _refusal(text, kind, "the unit is missing")
    folded = _with_micro_sign(unit, "uU\u03bc").casefold()
    alike = [each for each in kind.units if each.casefold() == folded]
    if alike:
        raise _refusal(text, kind, f"did you mean {' or '.join(alike)}?")
    elsewhere = next((other.name for other in _KINDS if exact in other.units), None)
    if elsewhere:
        raise _refusal(text, kind, f"{unit} is a unit of {elsewhere}")
    raise _refusal(text, kind, f"the unit {_shown(unit)} is not known")


def _with_micro_sign(unit: str, instead: str) -> str:
    return "µ" + unit[1:] if unit and unit[0] in instead else unit


def _scaled(number: str, size: float) -> float:
    """Small units divide, which is exact where a multiplication by 0.001 would not be."""
    return float(number) * size if size >= 1 else float(number) / round(1 / size)


def _finite(value: float, text: str, kind: _Kind) -> float:
    if not isfinite(value):
        raise _refusal(text, kind, "it is too large")
    return value


def _refusal(text: str, kind: _Kind, why: str, *, hint: str = "") -> UsageError:
    start = hint or f"write for example {kind.example}"
    return UsageError(
        f"{_shown(text)} is not a quantity of {kind.name}: {why}",
        hint=f"{start}; units: {', '.join(kind.units)}{kind.note}",
    )


def _shown(text: str) -> str:
    return repr(_cut(text)) if text.isprintable() else ascii(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
