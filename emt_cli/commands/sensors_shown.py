"""How `emt sensors` says what it saw: as a table, as a JSON document, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from emt_cli import units
from emt_cli.model import Channel
from emt_cli.reports.words import clean

if TYPE_CHECKING:
    from emt_cli.commands.stdout import Terminal
    from emt_cli.sensors import Opened

_NARROW, _WIDE = 60, 110
_DEEPEST = 4
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_KINDS: dict[str, Literal["name", "number"]] = {
    "channel": "name",
    "now": "number",
    "step": "number",
    "every": "number",
    "one read": "number",
    "total": "name",
    "source": "name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A channel, whether it is part of the total, and what a look at it told.

    `fault` says why a reading failed, `unknown` why there is no power although all went well.
    """

    channel: Channel
    is_counted: bool
    power_w: float | None = None
    fault: str = ""
    unknown: str = ""
    period_s: float | None = None
    is_upper_bound: bool = False
    read_cost_s: float | None = None


# --- the table --------------------------------------------------------------------------------------


def as_table(seen: Sequence[Seen], opened: Opened, to: Terminal) -> str:
    """The channels, each below the one that contains it, then what was left out and why."""
    from emt_cli.reports.columns import Column
    from emt_cli.reports.text import render_table

    heads = ["channel", "now", "total"]
    if to.width >= _NARROW:
        heads[2:2] = ["step", "every", "provenance"]
    if to.width >= _WIDE:
        heads[1:1] = ["sensor", "domain"]
        heads += ["one read", "source"]
    shown = [*_nested(seen), *((Seen(channel=each, is_counted=False), 0) for each in opened.excluded)]
    excluded = {each.id for each in opened.excluded}
    rows = [_cells(each, depth, is_excluded=each.channel.id in excluded) for each, depth in shown]
    return render_table(
        [Column(head, _KINDS.get(head, "text")) for head in heads],
        [[cells[head] for head in heads] for cells in rows],
        styles=["" if each.is_counted else "dim" for each, _ in shown],
        facts=list(_facts(seen, opened)),
        **to._asdict(),
    )


def _nested(seen: Sequence[Seen]) -> list[tuple[Seen, int]]:
    """What is seen with its depth, each below the channel that contains it. Channels that another package
    has put inside each other come last."""
    inside: dict[str | None, list[Seen]] = {}
    ids = {each.channel.id for each in seen}
    for each in seen:
        outer = each.channel.within
        inside.setdefault(outer if outer in ids else None, []).append(each)
    found: list[tuple[Seen, int]] = []

    def walk(outer: str | None, depth: int) -> None:
        for each in inside.get(outer, ()):
            found.append((each, depth))
            if depth < len(seen):
                walk(each.channel.id, depth + 1)

    walk(None, 0)
    return found + [(each, 0) for each in seen if each not in [known for known, _ in found]]


def _cells(seen: Seen, depth: int, *, is_excluded: bool) -> dict[str, str]:
    channel = seen.channel
    cells = {
        "channel": channel.id,
        "sensor": channel.sensor,
        "domain": channel.domain,
        "now": "-" if seen.power_w is None else units.power(seen.power_w),
        "step": "-" if channel.resolution_j is None else units.energy(channel.resolution_j),
        "every": _period(seen),
        "provenance": channel.provenance,
        "total": "excluded" if is_excluded else "counted" if seen.is_counted else place(channel),
        "one read": "-" if seen.read_cost_s is None else span(seen.read_cost_s),
        "source": channel.source,
    }
    cells = {head: clean(cell) for head, cell in cells.items()}
    return cells | {"channel": "  " * min(depth, _DEEPEST) + cells["channel"]}


def place(channel: Channel) -> str:
    """In a word or two, why a channel is in no total; a dropped one's reason stands below the table."""
    if channel.dropped:
        return "dropped"
    return f"in {channel.within}" if channel.within else "whole node" if channel.is_platform else "overlap"


def _period(seen: Seen) -> str:
    if seen.period_s is None:
        return "-"
    return f"<{span(seen.period_s)}" if seen.is_upper_bound else span(seen.period_s)


def span(seconds: float) -> str:
    """`35 µs`, `1.0 ms`, `0.25 s`: two digits are all that such a time has."""
    factor, unit = next((each for each in _TIMES if seconds >= each[0] * 0.995), _TIMES[-1])
    rounded = float(f"{seconds / factor:.2g}")  # 0.999 ms is 1.0 ms, not 1.00
    return f"{units.significant(rounded, 2)} {unit}"


def _facts(seen: Sequence[Seen], opened: Opened) -> Iterator[tuple[str, str]]:
    """Below the table: the price of reading, what was dropped or failed and why, warnings with remedies,
    and what is not on this machine."""
    if seen:
        yield "", ""
    costs = {each.channel.sensor: each.read_cost_s for each in seen if each.read_cost_s is not None}
    if costs:
        yield "one read", ", ".join(f"{clean(name)} {span(cost)}" for name, cost in costs.items())
    for each in seen:
        channel = each.channel
        said = [f"dropped: {channel.dropped}"] if channel.dropped else []
        said += (
            [f"{'not read' if each.power_w is None else 'a reading failed'}: {each.fault}"]
            if each.fault
            else []
        )
        said += [each.unknown] if each.unknown and not channel.dropped else []
        said += [channel.note] if channel.note else []
        if said:
            yield clean(channel.id), clean("; ".join(said))
    told: set[str] = set()
    for notice in opened.notices:
        yield "warning", clean(notice.text)
        if notice.hint and notice.hint not in told:
            told.add(notice.hint)
            yield "", f"-> {clean(notice.hint)}"
    if opened.absent:
        names = ", ".join(name for name, _ in opened.absent)
        yield "not here", clean(f"{names} (--format json says why)")


# --- for programs -----------------------------------------------------------------------------------


def as_document(seen: Sequence[Seen], opened: Opened) -> dict[str, object]:
    """All of it; channels have the names that they have in a record."""
    return {
        "channels": [_row(each) for each in seen],
        "excluded": [_row(Seen(channel=each, is_counted=False)) for each in opened.excluded],
        "warnings": [{"code": each.code, "text": each.text, "hint": each.hint} for each in opened.notices],
        "absent": [{"sensor": name, "reason": reason} for name, reason in opened.absent],
    }


def as_csv(seen: Sequence[Seen], opened: Opened) -> str:
    """A line for each channel, those of excluded sensors last; unknown is empty."""
    import csv
    import io

    rows = [_row(each) for each in seen]
    rows += [_row(Seen(channel=each, is_counted=False)) for each in opened.excluded]
    heads = list(rows[0] if rows else _row(Seen(channel=_NOTHING, is_counted=False)))
    to = io.StringIO()
    table = csv.writer(to, lineterminator="\n")
    table.writerow(heads)
    table.writerows(["" if cell is None else _plain(cell) for cell in row.values()] for row in rows)
    return to.getvalue()


_NOTHING = Channel(id="", sensor="", device="", domain="", kind="gauge", provenance="estimated", source="")
"""Its row gives the header where there is no channel at all."""


def _plain(cell: object) -> str:
    return str(cell).lower() if isinstance(cell, bool) else clean(cell)


def _row(seen: Seen) -> dict[str, object]:
    """A channel with the names that it has in a record, its power now, and what was measured of the sensor:
    `update_period_s` is what the sensor states, `read_cost_s` is one read of all its channels."""
    channel = seen.channel
    return {
        "id": channel.id,
        "sensor": channel.sensor,
        "device": channel.device,
        "domain": channel.domain,
        "kind": channel.kind,
        "within": channel.within,
        "counted": seen.is_counted,
        "dropped": channel.dropped or None,
        "checks": channel.checks or None,
        "provenance": channel.provenance,
        "source": channel.source,
        "resolution_j": channel.resolution_j,
        "update_period_s": channel.update_period_s,
        "measured_update_period_s": seen.period_s,
        "measured_update_period_is_upper_bound": seen.is_upper_bound if seen.period_s is not None else None,
        "read_cost_s": seen.read_cost_s,
        "accuracy": channel.accuracy,
        "power_w": seen.power_w,
        "fault": seen.fault or seen.unknown or None,
        "note": channel.note or None,
    }
