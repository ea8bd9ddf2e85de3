"""One property list of `powermetrics`: which parts of the chip it tells of, and their joules.

Apart from the sensor, which starts the program and adds these up, because all of it is pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emt_cli.units import SECONDS_PER_NANOSECOND

_LONGEST_INTERVAL_S = 3600.0


class Part(NamedTuple):
    """What one channel adds up: of its fields the first that is told."""

    channel: str
    domain: str
    max_w: float
    fields: tuple[tuple[str, float, bool], ...]
    """Name, its unit in joules or watts, and whether it is a power."""


APPLE_PARTS = (
    Part("cpu0/package", "package", 300.0, (("cpu_power", 1e-3, True), ("cpu_energy", 1e-3, False))),
    Part("cpu0/dram", "dram", 100.0, (("dram_power", 1e-3, True), ("dram_energy", 1e-3, False))),
    Part("gpu0", "gpu", 400.0, (("gpu_power", 1e-3, True), ("gpu_energy", 1e-3, False))),
    Part("accel0", "accelerator", 100.0, (("ane_power", 1e-3, True), ("ane_energy", 1e-3, False))),
)
INTEL_PARTS = (
    Part("cpu0/package", "package", 500.0, (("package_joules", 1.0, False), ("package_watts", 1.0, True))),
)


def parse(text: bytes) -> Mapping[str, Any] | None:
    """One property list; None where it is none, or tells neither a processor nor an interval."""
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        sample = plistlib.loads(text.strip(b"\0\r\n\t "))
    except (ExpatError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return None
    if not isinstance(sample, dict) or not isinstance(sample.get("processor"), dict):
        return None
    return sample if _number(sample.get("elapsed_ns")) else None


def energies(sample: Mapping[str, Any], parts: Sequence[Part]) -> list[float | None]:
    """Joules of one interval by part; None where the sample does not tell, or tells nonsense."""
    elapsed_s = (_number(sample["elapsed_ns"]) or 0.0) * SECONDS_PER_NANOSECOND
    processor = sample["processor"]
    found: list[float | None] = []
    for part in parts:
        told = (
            value * unit * (elapsed_s if is_power else 1.0)
            for name, unit, is_power in part.fields
            if (value := _number(processor.get(name))) is not None
        )
        joules = next(told, None)
        is_sound = (
            joules is not None and elapsed_s <= _LONGEST_INTERVAL_S and joules <= part.max_w * elapsed_s
        )
        found.append(joules if is_sound else None)
    return found


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:  # type: ignore[arg-type,operator]
        return None
    return float(value)  # type: ignore[arg-type]
