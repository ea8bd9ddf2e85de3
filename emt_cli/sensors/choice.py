"""Which of the sensors' channels the user wants: `--only cpu,gpu0`, `--exclude dram`.

A name is a channel's id, its device (`gpu0`), all devices of a kind (`gpu`), its domain (`dram`) or its
sensor (`powercap`). Choosing takes channels out of every total; it is applied after the overlaps, and what
was taken away is not estimated instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from emt_cli.errors import UsageError
from emt_cli.model import Channel
from emt_cli.sensors.base import Sensor
from emt_cli.sensors.wishes import Wishes

_SYNONYMS = {"memory": "dram", "ram": "dram", "mem": "dram"}


def names_of(channel: Channel) -> frozenset[str]:
    """Every word by which a channel can be chosen."""
    device = channel.device
    return frozenset((channel.id, device, device.rstrip("0123456789"), channel.domain, channel.sensor))


def choose(sensors: Sequence[Sensor], wishes: Wishes) -> list[Channel]:
    """Drop the channels that are not wanted, with what they contain; returns those that counted before."""
    taken: list[Channel] = []
    excluded = _containing([c for s in sensors for c in s.channels], wishes.exclude)
    for sensor in sensors:
        channels = []
        for channel in sensor.channels:
            reason = "excluded" if channel.id in excluded else _reason_against(channel, wishes)
            if reason and not channel.dropped:
                taken.append(channel)
                channel = replace(channel, dropped=reason)  # noqa: PLW2901
            channels.append(channel)
        sensor.channels = tuple(channels)
    return taken


def _containing(channels: Sequence[Channel], words: Iterable[str]) -> frozenset[str]:
    """The ids of the channels that one of the words names, and of all that lies within them."""
    found = {channel.id for channel in channels if _is_named(channel, words)}
    while True:
        more = {channel.id for channel in channels if channel.within in found} - found
        if not more:
            return frozenset(found)
        found |= more


def _reason_against(channel: Channel, wishes: Wishes) -> str:
    if wishes.only and not _is_named(channel, wishes.only):
        return f"not among {','.join(wishes.only)}"
    return ""


def _is_named(channel: Channel, words: Iterable[str]) -> bool:
    names = names_of(channel)
    return any(word in names or _SYNONYMS.get(word) in names for word in words)


def unknown_words(words: Iterable[str], channels: Iterable[Channel], sensors: Iterable[str]) -> list[str]:
    """The words that name no channel and no sensor."""
    known = frozenset(sensors).union(*map(names_of, channels))
    return [word for word in words if word not in known and _SYNONYMS.get(word) not in known]


def check_only(wishes: Wishes, channels: Sequence[Channel]) -> None:
    """Raises UsageError where `--only` names nothing that is here: nothing would be measured of it."""
    unknown = unknown_words(wishes.only, channels, ())
    if unknown:
        known = sorted({channel.id for channel in channels} | {channel.device for channel in channels})
        raise UsageError(
            f"--only {','.join(wishes.only)}: there is no {' or '.join(unknown)} here",
            hint=f"choose from: {', '.join(known) or 'nothing is here'}; emt sensors lists them",
        )
