"""Whether two runs may be compared: in what their hosts, sensors and rules of sharing out differ.

Apart from `comparison` because it looks at facts, never at figures. A difference of the hosts or of the
method forbids a verdict, since it would be the difference that is measured; anything else is only told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from emt_cli.analysis.cover import counted
from emt_cli.model import DEVICE_DOMAINS, Channel, Host, Run, Scope
from emt_cli.values import Value

Weight = Literal["host", "method", "note"]
"""`host`: another machine, may be waived by who wants to compare machines. `method`: the figures do not
mean the same. `note`: worth knowing."""

_IDENTITIES = re.compile(r"(GPU|MIG)-[0-9a-f-]+|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]|driver .*")
"""What tells one board from its twin in a channel's source: UUID, PCI address; and its driver."""


class Unlike(Value):
    """One thing in which two runs differ: `what` it is, and how each of them has it (empty: not known)."""

    weight: Weight
    what: str
    a: str
    b: str


def differences(a: Run, b: Run, scope: Scope) -> tuple[Unlike, ...]:
    """Everything in which the two differ and that bears on their figures, the weightiest first."""
    found = [*_hosts(a.host, b.host), *_sensors(a, b), *_rules(a, b, scope), *_places(a, b)]
    if a.command != b.command:
        found.append(Unlike(weight="note", what="command", a=" ".join(a.command), b=" ".join(b.command)))
    order = ("host", "method", "note")
    return tuple(sorted(found, key=lambda one: order.index(one.weight)))


# --- hosts ------------------------------------------------------------------------------------------


def _hosts(a: Host, b: Host) -> Iterator[Unlike]:
    yield from _text("host", "CPU", a.cpu_model, b.cpu_model)
    yield from _text("host", "number of CPUs", str(a.cpu_count), str(b.cpu_count))
    yield from _text("host", "architecture", a.architecture, b.architecture)
    if (
        a.architecture and b.architecture
    ):  # otherwise an empty word says that nothing is known, not bare metal
        yield from _text("host", "hypervisor", a.hypervisor or "none", b.hypervisor or "none")
        yield from _text("note", "container", a.container or "none", b.container or "none")
    yield from _text("host", "governor", a.governor, b.governor)
    yield from _text("note", "node", a.node, b.node)
    yield from _text("note", "kernel", a.kernel, b.kernel)
    yield from _text("note", "emt", a.emt_version, b.emt_version)


def _text(weight: Weight, what: str, a: str, b: str) -> Iterator[Unlike]:
    """Nothing where they agree; where only one of them is known, a note if it would have mattered."""
    if a != b and ((a and b) or weight != "note"):
        yield Unlike(weight=weight if a and b else "note", what=what, a=a, b=b)


# --- sensors ----------------------------------------------------------------------------------------


def counted_channels(run: Run) -> list[Channel]:
    """The channels whose joules the totals are made of; none where the record does not tell (a summary)."""
    if run.energy is not None and run.energy.channels:
        ids = {row.id for row in run.energy.channels if row.is_counted}
    else:
        ids = set(counted(run.channels, run.settings.total))
    return [channel for channel in run.channels if channel.id in ids]


def _sensors(a: Run, b: Run) -> Iterator[Unlike]:
    """The counted channels must be the same ones, read in the same way.

    Two sensors of one counter (powercap and the perf PMU) read the same joules, so that their name is only
    a note; another kind, provenance, model or board is not the same quantity.
    """
    ours, theirs = counted_channels(a), counted_channels(b)
    if not ours or not theirs:
        words = [run.energy.provenance if run.energy is not None else "" for run in (a, b)]
        yield from _text("method", "provenance", *words)
        if ours or theirs:
            yield Unlike(weight="note", what="sensors", a=_names(ours), b=_names(theirs))
        return
    if {_identity(one) for one in ours} != {_identity(one) for one in theirs}:
        yield Unlike(weight="method", what="sensors", a=_told(ours, theirs), b=_told(theirs, ours))
    elif (names := _readers(ours)) != _readers(theirs):
        yield Unlike(weight="note", what="reader of the same counters", a=names, b=_readers(theirs))


def _identity(channel: Channel) -> tuple[str, ...]:
    """What must agree for two channels to tell the same quantity."""
    return channel.id, channel.kind, channel.provenance, _basis(channel)


def _basis(channel: Channel) -> str:
    """The model or the board behind a channel; nothing where the counter's id says it all."""
    if channel.kind == "model" or channel.provenance == "configured":
        return channel.source
    if channel.domain in DEVICE_DOMAINS:
        parts = [_IDENTITIES.sub("", part).strip() for part in re.split(r"[,;]", channel.source)]
        return ", ".join(part for part in parts if part)
    return ""


def _told(ours: list[Channel], theirs: list[Channel]) -> str:
    """Only the channels in which they differ, with what differs."""
    known = {_identity(one) for one in theirs}
    return ", ".join(_name(one) for one in ours if _identity(one) not in known) or "no more than that"


def _names(channels: list[Channel]) -> str:
    return ", ".join(_name(one) for one in channels)


def _name(channel: Channel) -> str:
    basis = _basis(channel)
    return f"{channel.id} ({channel.sensor}, {channel.provenance}{basis and ', ' + basis})"


def _readers(channels: list[Channel]) -> str:
    return ", ".join(sorted({channel.sensor for channel in channels}))


# --- rules and places -------------------------------------------------------------------------------


def _rules(a: Run, b: Run, scope: Scope) -> Iterator[Unlike]:
    """How energy was shared out; of the whole machine's nothing is."""
    if scope == "machine" or a.attribution is None or b.attribution is None:
        return
    first, second = a.attribution, b.attribution
    yield from _text("method", "idle policy", first.idle_policy, second.idle_policy)
    yield from _text("note", "rule of sharing", first.rule, second.rule)
    if first.idle_policy == second.idle_policy == "reserved":
        shares = [f"{each.reserved_share or 0:.0%} of the CPUs" for each in (first, second)]
        yield from _text("note", "reservation", *shares)


def _places(a: Run, b: Run) -> Iterator[Unlike]:
    yield from _text("note", "place and intensity", _place(a), _place(b))


def _place(run: Run) -> str:
    where = run.carbon or run.grid
    if where is None:
        return ""
    pue = run.carbon.pue if run.carbon is not None else run.settings.pue
    return f"{where.location or 'unknown'} at {where.intensity_g_per_kwh:g} g/kWh" + (
        f" x PUE {pue:g}" if pue != 1 else ""
    )
