"""Which channels a total adds up: cover, never sum.

Sensors overlap. A channel counts if it is a component, is no mirror, and no other counted component
contains it. Whole-node channels are the platform and stand beside the components; they count only where
the user asks for them or where nothing else exists.
"""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.model import Channel, Total


def counted(channels: Sequence[Channel], total: Total = "components") -> frozenset[str]:
    """The ids of the channels whose joules make up `machine_j`; no two of them overlap."""
    usable = [channel for channel in channels if not channel.dropped]
    components = _outermost([channel for channel in usable if not channel.is_platform], channels)
    platform = platform_channel(channels)
    if platform is not None and (total == "platform" or not components):
        return frozenset({platform.id})
    return frozenset(channel.id for channel in components)


def platform_channel(channels: Sequence[Channel]) -> Channel | None:
    """The channel that sees most of the node: an outermost one, a node meter before psys before a battery."""
    usable = [channel for channel in channels if channel.is_platform and not channel.dropped]
    platforms = _outermost(usable, channels)
    rank = {"node": 0, "psys": 1, "battery": 2}
    return min(platforms, key=lambda channel: (rank[channel.domain], channel.id), default=None)


def is_measured(channels: Sequence[Channel], total: Total = "components") -> bool:
    """Whether what is counted is measured: every counted channel by a counter or by integrating power.

    A memory that is estimated from its size is let pass, since most machines have no counter for it; it
    alone does not make a measurement.
    """
    ids = counted(channels, total)
    needed = [each for each in channels if each.id in ids and not _is_estimated_memory(each)]
    return bool(needed) and all(each.provenance in ("measured", "integrated") for each in needed)


def _is_estimated_memory(channel: Channel) -> bool:
    return channel.domain == "dram" and channel.provenance == "estimated"


def _outermost(candidates: Sequence[Channel], channels: Sequence[Channel]) -> list[Channel]:
    """The candidates that are not inside another candidate, at any depth."""
    within = {channel.id: channel.within for channel in channels}
    wanted = {channel.id for channel in candidates}

    def is_inside(channel: Channel) -> bool:
        outer = channel.within
        for _ in within:  # bounded: an untrusted record may hold a circle
            if outer is None or outer in wanted:
                break
            outer = within.get(outer)
        return outer in wanted

    return [channel for channel in candidates if not is_inside(channel)]
