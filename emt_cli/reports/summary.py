"""The short plain summary that `emt run` leaves on stderr.

It stands apart from the tables because it is on the path of every run: standard library only, no rich,
no colour, ten lines or so of at most 80 columns. What is unknown has no line; only an unknown energy is
said aloud. A path is never cut: one that cannot be copied is of no use.
"""

from __future__ import annotations

from collections.abc import Iterator

from emt_cli import units
from emt_cli.model import Carbon, Energy, Run
from emt_cli.reports.facts import battery, own_cost, warning_texts, work
from emt_cli.reports.phrases import (
    command_line,
    cpu_seconds,
    device_energies,
    device_kinds,
    ending,
    energy_with_bounds,
    finite,
    mass_with_bounds,
    placement,
    provenance,
)
from emt_cli.reports.words import can_draw, cells, clean, cut, cut_middle, encodable, wrap

_LABEL = 12
_MOST_WARNINGS = 4
_LONGEST_WARNING = 5
"""Lines: the reason stands at the end, often behind a long path."""
_NARROWEST = 30
_SUMS = frozenset({"devices", "cpu", "CO2e", "battery"})
"""What is told of all executions together."""


def lines(
    run: Run, *, stored: str | None, width: int = 80, verbose: bool = False, encoding: str = "utf-8"
) -> list[str]:
    """What to print after a run whose `energy` and `carbon` are filled in.

    `stored` is the path to show for the record, None if it was not kept. `encoding` is that of the stream
    the lines go to: what it cannot say is replaced by its plain form.
    """
    width = max(width, _NARROWEST) - (0 if can_draw(encoding) else 2)  # room for `+-`
    said = _headline(run, width)
    facts = [*(_repeats(run) or _energy(run)), *_usage(run, width), *_carbon(run)]
    facts += [("emt", own)] if (own := own_cost(run)) else []
    facts += _details(run) if verbose else []
    for label, text in facts:
        is_sum = run.repeat is not None and label in _SUMS
        said += _entry(label, f"in all {text}" if is_sum else text, width)
    said += _warnings(run, width)
    said += _record(stored, width)
    return [encodable(line, encoding) for line in said]


def _headline(run: Run, width: int) -> list[str]:
    end = ending(run)
    command = clean(run.name) or command_line(run.command) or "(no command)"
    room = width - len("emt: ") - 3 - cells(end)
    if room >= 20:
        return [f"emt: {cut_middle(command, room)}   {end}"]
    return [f"emt: {cut_middle(command, width - 5)}", *(f"  {line}" for line in wrap(end, width - 2, 2))]


def _entry(label: str, text: str, width: int, lines: int = 2) -> list[str]:
    """A labelled line; what does not fit goes on below, aligned, and is cut after a few lines."""
    first, *rest = wrap(text, width - _LABEL, lines if width >= 70 else 5)
    return [f"  {label:<{_LABEL - 2}}{first}", *(" " * _LABEL + line for line in rest)]


def _energy(run: Run) -> Iterator[tuple[str, str]]:
    energy = run.energy
    if energy is None or (finite(energy.attributed_j) is None and finite(energy.machine_j) is None):
        yield "energy", "unknown: nothing could be read to know it from (emt doctor)"
        return
    command = energy_with_bounds(energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j)
    machine = energy_with_bounds(energy.machine_j, None, energy.machine_low_j, energy.machine_high_j)
    if run.settings.scope == "machine" or not command:
        yield "energy", f"{machine} of the machine, {provenance(energy)}"
        if command:
            yield "command", f"{command} of that{_platform(energy)}"
        return
    yield "energy", f"{command} of the command, {provenance(energy)}"
    if machine:
        yield "machine", f"{machine}{_platform(energy)}"


def _repeats(run: Run) -> list[tuple[str, str]]:
    """One execution first, what all of them used after it; empty for a plain run."""
    energy = run.energy
    if run.repeat is None or energy is None or _chosen_joules(run, energy) is None:
        return []
    from emt_cli.reports.repeats import repeat_facts, total_text

    (label, said), *rest = repeat_facts(run)
    total = f"{total_text(run)}{_platform(energy)}"
    return [(label, f"{said}, {provenance(energy)}"), *rest, ("total", total)]


def _chosen_joules(run: Run, energy: Energy) -> float | None:
    known = finite(energy.attributed_j)
    return finite(energy.machine_j) if run.settings.scope == "machine" or known is None else known


def _platform(energy: Energy) -> str:
    """The whole-node sensor's word behind the devices' own."""
    platform = finite(energy.platform_j)
    return "" if platform is None else f", whole node {units.energy(platform)}"


def _usage(run: Run, width: int) -> Iterator[tuple[str, str]]:
    if run.repeat is None and (power := _mean_power(run)):
        yield "power", power
    for devices in (device_energies(run), device_kinds(run)):
        said = " · ".join(f"{device} {joules}" for device, joules in devices)
        if cells(said) <= width - _LABEL:
            break
    if said:
        yield "devices", said
    if done := work(run):
        yield "work", done
    if taken := battery(run):
        yield "battery", taken
    if (cpu := finite(run.cpu_time.tree_s)) is not None:
        count = max(run.cpu_time.processes_seen, len(run.processes))
        among = f" in {count} process{'' if count == 1 else 'es'}" if count else ""
        yield "cpu", f"{cpu_seconds(cpu)} CPU s of the tree{among}"


def _mean_power(run: Run) -> str:
    energy, seconds = run.energy, finite(run.duration_s)
    if energy is None or not seconds or seconds < 0:
        return ""
    pairs = ((energy.attributed_j, "command"), (energy.machine_j, "machine"))
    watts = [f"{units.power(joules / seconds)} {who}" for joules, who in pairs if joules and finite(joules)]
    return "mean " + ", ".join(watts) if watts else ""


def _carbon(run: Run) -> Iterator[tuple[str, str]]:
    carbon = run.carbon
    if carbon is None or finite(carbon.co2e_g) is None:
        return
    yield "CO2e", f"{mass_with_bounds(carbon.co2e_g, carbon.low_g, carbon.high_g)} at {_factor(carbon)}"
    if carbon.equivalents:
        yield "like", clean(carbon.equivalents[0].text).removeprefix("like ")


def _factor(carbon: Carbon) -> str:
    """`FR 44.2 g/kWh, 2024 (location: time zone)`."""
    year = f", {carbon.year}" if carbon.year is not None else ""
    pue = f" x PUE {carbon.pue:g}" if carbon.pue != 1 else ""
    source = f" (location: {clean(carbon.location_source)})" if carbon.location_source else ""
    intensity = units.significant(carbon.intensity_g_per_kwh, 3)
    return f"{cut(clean(carbon.location), 20)} {intensity} g/kWh{year}{pue}{source}"


def _details(run: Run) -> Iterator[tuple[str, str]]:
    """What -v adds: every channel, the rule, the witnesses, the sampling."""
    by_id = {channel.id: channel for channel in run.channels}
    for channel in run.energy.channels if run.energy is not None else ():
        place = placement(channel, by_id.get(channel.id))
        said = units.energy(channel.machine_j) if finite(channel.machine_j) is not None else "unknown"
        yield "channel", f"{clean(channel.id)} {said}, {clean(channel.provenance)}{place and ', ' + place}"
    if run.attribution is not None:
        rule = run.attribution
        yield "shared by", clean(f"{rule.rule}; idle policy {rule.idle_policy}, power {rule.idle_source}")
    if not run.settings.idle_w and run.settings.idle_w_source.startswith("calibration"):
        yield "idle", clean(run.settings.idle_w_source)
    if run.cpu_time.witnesses:
        witnesses = ", ".join(f"{n} {cpu_seconds(s)} s" for n, s in run.cpu_time.witnesses.items())
        yield "cpu seen", clean(f"by {run.cpu_time.winner}; {witnesses}")
    yield (
        "sampling",
        f"{run.sampling.frequency_hz:g} Hz, {run.sampling.ticks} ticks, {run.sampling.late} late",
    )


def _warnings(run: Run, width: int) -> list[str]:
    said: list[str] = []
    for happened, remedy in warning_texts(run)[:_MOST_WARNINGS]:
        said += _entry("warning", happened, width, _LONGEST_WARNING)
        said += [f"{'':<{_LABEL}}{line}" for line in _remedy(remedy, width)]
    if (more := len(run.notices) - _MOST_WARNINGS) > 0:
        said += _entry("", f"+{more} more: emt report", width)
    return said


def _remedy(hint: str, width: int) -> list[str]:
    return [
        ("-> " if index == 0 else "   ") + line
        for index, line in enumerate(wrap(hint, width - _LABEL - 3, 3 if width >= 70 else 6))
        if line
    ]


def _record(stored: str | None, width: int) -> list[str]:
    if stored is None:
        return []
    path = clean(stored)
    line = f"  {'record':<{_LABEL - 2}}{path}"
    follow = "next: emt report"
    if cells(line) + 3 + len(follow) <= width:
        return [f"{line}   {follow}"]
    return [line, *_entry("next", "emt report", width)]
