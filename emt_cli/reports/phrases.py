"""The facts of a run as phrases: how it ended, joules with their interval, each device's part.

Summary, tables and Markdown say the same thing in the same words because they take them from here.
Standard library only: the summary is on the path of every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from emt_cli import units
from emt_cli.model import Channel, ChannelEnergy, Energy, Exit, Run
from emt_cli.reports.words import clean, cut

_LONGEST_NAME = 20

# --- what ran ---------------------------------------------------------------------------------------


def command_line(command: Sequence[str]) -> str:
    """The command as one would type it, clean, on one line."""
    return clean(" ".join(_quoted(word) for word in command))


def _quoted(word: str) -> str:
    if word and all(letter.isalnum() or letter in "@%+=:,./-_~" for letter in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def ending(run: Run) -> str:
    """`exit 0 in 12.3 s`, `killed by SIGKILL (9) after 12.3 s`, `still running`; of a repeated run after how
    many executions: `10 executions, exit 0 in 12.3 s`."""
    count = len(run.executions)
    return f"{count} execution{'' if count == 1 else 's'}, {_ending(run)}" if count else _ending(run)


def _ending(run: Run) -> str:
    took = units.duration(run.duration_s) if finite(run.duration_s) is not None else ""
    if run.state == "running":
        return f"not finished after {took}" if run.duration_s > 0 else "not finished"
    if run.exit.signal is not None:
        return f"killed by {signal_name(run.exit.signal)} after {took}"
    if run.exit.code is not None:
        return f"exit {run.exit.code} in {took}"
    return f"recovered, end not seen after {took}"


def outcome(run: Run) -> str:
    """The same in one word: `0`, `SIGKILL`, `recovered`, `running`."""
    if run.state == "complete" and run.exit.signal is not None:
        return signal_name(run.exit.signal).partition(" (")[0]
    if run.state == "complete" and run.exit.code is not None:
        return str(run.exit.code)
    return clean(run.state)


def started(run: Run) -> str:
    """`2025-01-02 10:11:12 UTC`; what is no such date as it stands."""
    text = clean(run.started_at)[:40]
    return f"{text[:19].replace('T', ' ')} UTC" if text.endswith("Z") and "T" in text else text


def signal_name(number: int) -> str:
    """`SIGKILL (9)`; a number without a name as it is."""
    import signal

    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def has_failed(ended: Exit) -> bool:
    return bool(ended.code) or ended.signal is not None


# --- numbers ----------------------------------------------------------------------------------------


def finite(value: float | None) -> float | None:
    """None also for what is no number: a damaged record must not stop a report."""
    return value if value is not None and math.isfinite(value) else None


def half_width(value: float, half: float | None, low: float | None, high: float | None) -> float | None:
    """The half-width given, or that of an interval that lies within a tenth of symmetric; else None."""
    if finite(half) is not None:
        return half
    if finite(low) is None or finite(high) is None or low is None or high is None:
        return None
    below, above = value - low, high - value
    widest = max(below, above)
    return widest if min(below, above) > 0 and abs(above - below) <= widest / 10 else None


def energy_with_bounds(
    value_j: float | None, half_j: float | None, low_j: float | None, high_j: float | None
) -> str:
    """`41.3 J ± 2.1`, or `41.3 J (20.1 to 42.0 J)` where the interval leans to one side; empty if unknown."""
    value = finite(value_j)
    if value is None:
        return ""
    half = half_width(value, half_j, low_j, high_j)
    if half is not None:
        return units.energy(value, half)
    bounds = _interval(low_j, high_j)
    return f"{units.energy(value)} ({units.energy_range(*bounds)})" if bounds else units.energy(value)


def energy_and_bounds(
    value_j: float | None, half_j: float | None, low_j: float | None, high_j: float | None
) -> tuple[str, str]:
    """The same in two columns: (`41.3 J`, `± 2.1`) or (`41.3 J`, `20.1 to 42.0 J`)."""
    said = energy_with_bounds(value_j, half_j, low_j, high_j)
    if " ± " in said:
        value, half = said.split(" ± ")
        return value, f"± {half}"
    value, _, bounds = said.partition(" (")
    return value, bounds.rstrip(")")


def mass_with_bounds(value_g: float, low_g: float | None, high_g: float | None) -> str:
    """`22.3 mg ± 1.1`, `510 µg (255 to 920 µg)`."""
    half, bounds = half_width(value_g, None, low_g, high_g), _interval(low_g, high_g)
    if half is not None:
        return units.mass(value_g, half)
    return f"{units.mass(value_g)} ({units.mass_range(*bounds)})" if bounds else units.mass(value_g)


def _interval(low: float | None, high: float | None) -> tuple[float, float] | None:
    low, high = finite(low), finite(high)
    return None if low is None or high is None or high <= low else (low, high)


def cpu_seconds(value_s: float) -> str:
    """`118`, `11.8`, `0.12`: CPU seconds, as many digits as they are worth."""
    return units.significant(value_s, 3 if value_s >= 1 else 2)


def provenance(energy: Energy) -> str:
    """`measured`, or what the sum is made of: `measured 97 %, estimated 3 %`."""
    parts = {name: joules for name, joules in energy.by_provenance.items() if joules > 0}
    whole = sum(parts.values())
    shares = {name: joules / whole for name, joules in parts.items() if joules / whole >= 0.005}
    if len(shares) < 2 or not math.isfinite(whole):
        return clean(energy.provenance)
    return ", ".join(f"{clean(name)} {share:.0%}".replace("%", " %") for name, share in shares.items())


# --- devices ----------------------------------------------------------------------------------------


def device_energies(run: Run) -> list[tuple[str, str]]:
    """(`cpu0`, `30.1 J + dram 4.1 J`): the headline joules of each device, its second domains named."""
    if run.energy is None:
        return []
    parts: dict[str, list[str]] = {}
    for channel in run.energy.channels:
        joules = finite(channel.machine_j if run.settings.scope == "machine" else channel.attributed_j)
        if channel.is_counted and joules is not None:
            said = parts.setdefault(cut(clean(channel.device), _LONGEST_NAME), [])
            said.append(f"{clean(channel.domain)} {units.energy(joules)}" if said else units.energy(joules))
    return [(device, " + ".join(said)) for device, said in parts.items()]


def device_kinds(run: Run) -> list[tuple[str, str]]:
    """(`8 gpu`, `1.20 kJ`): the same for machines with more devices than a line has room for."""
    if run.energy is None:
        return []
    sums: dict[str, tuple[set[str], float]] = {}
    for channel in run.energy.channels:
        joules = finite(channel.machine_j if run.settings.scope == "machine" else channel.attributed_j)
        if channel.is_counted and joules is not None:
            devices, before = sums.get(
                kind := cut(clean(channel.device), _LONGEST_NAME).rstrip("0123456789"), (set(), 0.0)
            )
            sums[kind] = (devices | {channel.device}, before + joules)
    return [(f"{len(devices)} {kind}", units.energy(joules)) for kind, (devices, joules) in sums.items()]


def placement(energy: ChannelEnergy, channel: Channel | None) -> str:
    """Why a channel is in no total: `in cpu0/package`, `whole node`, or the registry's reason; else empty."""
    if energy.is_counted:
        return ""
    if channel is not None and channel.dropped:
        return clean(channel.dropped)
    if channel is not None and channel.within:
        return f"in {clean(channel.within)}"
    return "whole node" if channel is not None and channel.is_platform else "not counted"
