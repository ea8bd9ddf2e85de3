"""Two sensors that count the same registers, compared over a short stretch before the run.

The earlier sensor of the registry is preferred only if it is right: one that stands still, or counts
otherwise than the later one, is put last, and nothing of it counts. It stands apart from `overlaps`, which
goes by what channels say of themselves and reads nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import NamedTuple

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Sensor

MOST_APART = 0.25
"""Relative. Each counter may be a refresh (1 ms) late at either edge: 10 % of STRETCH_S for the two."""
STRETCH_S = 0.022
ENOUGH_J = 0.005
"""80 steps of the coarsest register (61 uJ); 0.25 W over the stretch."""
_FAST_S = 0.002
"""Only counters that are refreshed so often tell anything within the stretch."""

Readings = Sequence[Reading | Gap]


class Disagreement(NamedTuple):
    """A sensor that is not believed, the one that is, and the channel that they differ about most: `share` of
    the larger figure."""

    sensor: Sensor
    believed: Sensor
    channel: Channel
    share: float


class _Pair(NamedTuple):
    """The places of one register among the channels of the preferred and of the other sensor."""

    preferred: int
    other: int


def cross_check(
    sensors: list[Sensor], *, limit_s: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> list[Disagreement]:
    """Compare all sensors that count the same. One that is not believed is moved to the end of the list,
    and its channels are dropped.

    Takes no time where no two count the same, else STRETCH_S for each two. A read may hang for ever: what is
    not known within `limit_s` is taken to agree.
    """
    couples = [couple for couple in combinations(sensors, 2) if _pairs(*couple)]
    found: list[Disagreement] = []
    if couples:
        work = partial(_find, couples, found, sleep)
        thread = threading.Thread(target=work, name="emt-cross-check", daemon=True)
        thread.start()
        thread.join(limit_s)
    found = list(found)
    for sensor, believed, _, _ in found:
        sensors[:] = [*(each for each in sensors if each is not sensor), sensor]
        reason = f"does not agree with {believed.name}"
        sensor.channels = tuple(
            each if each.dropped else replace(each, dropped=reason) for each in sensor.channels
        )
    return found


def _find(
    couples: Sequence[tuple[Sensor, Sensor]], found: list[Disagreement], sleep: Callable[[float], None]
) -> None:
    """Add the disagreements that are there twice; a sensor that is not believed is compared no more."""
    for preferred, other in couples:
        if any(each.sensor is sensor for each in found for sensor in (preferred, other)):
            continue
        if _compare(preferred, other, sleep) is None:
            continue
        worst = _compare(preferred, other, sleep)
        if worst is not None:
            found.append(Disagreement(preferred, other, *worst))


def _pairs(preferred: Sensor, other: Sensor) -> list[_Pair]:
    """The components that both count fast enough; parts of others and the platform tell nothing more."""
    own, others = _fast_components(preferred.channels), _fast_components(other.channels)
    return [_Pair(at, others[id]) for id, at in own.items() if id in others]


def _fast_components(channels: Sequence[Channel]) -> dict[str, int]:
    components = {channel.id for channel in channels if not channel.is_platform}
    return {
        channel.id: at
        for at, channel in enumerate(channels)
        if channel.kind == "counter"
        and not channel.dropped
        and channel.id in components
        and channel.within not in components
        and channel.update_period_s is not None
        and channel.update_period_s <= _FAST_S
    }


def _compare(
    preferred: Sensor, other: Sensor, sleep: Callable[[float], None]
) -> tuple[Channel, float] | None:
    """The preferred one's channel that differs most, and by how much; None where all agree or nothing can be
    told.

    The preferred sensor is read before and after the other one at both edges: whatever holds up this thread
    in between, what the other one counted lies between the preferred one's shorter and longer stretch.
    """
    pairs = _pairs(preferred, other)
    first = [preferred.read(), other.read(), preferred.read()]
    sleep(STRETCH_S)
    last = [preferred.read(), other.read(), preferred.read()]
    share, worst = max((_share_apart(preferred, other, pair, first, last), pair) for pair in pairs)
    return (preferred.channels[worst.preferred], share) if share > MOST_APART else None


def _share_apart(
    preferred: Sensor, other: Sensor, pair: _Pair, first: Sequence[Readings], last: Sequence[Readings]
) -> float:
    """How far the other one's joules lie outside of the preferred one's two stretches, relative.

    A sensor that hardly moves proves nothing against another; one that cannot be read counts nothing.
    """
    own, foreign = preferred.channels[pair.preferred], other.channels[pair.other]
    truth_j = _joules(foreign, first[1][pair.other], last[1][pair.other]) or 0.0
    if truth_j < ENOUGH_J:
        return 0.0
    least_j = _joules(own, first[2][pair.preferred], last[0][pair.preferred]) or 0.0
    most_j = _joules(own, first[0][pair.preferred], last[2][pair.preferred]) or 0.0
    return max(0.0, least_j - truth_j, truth_j - most_j) / max(truth_j, most_j)


def _joules(channel: Channel, before: Reading | Gap, after: Reading | Gap) -> float | None:
    """Joules between two readings, over a wrap if need be; None where one of them failed."""
    if isinstance(before, Gap) or isinstance(after, Gap):
        return None
    steps = after.value - before.value
    if steps < 0 and channel.range_raw is not None:
        steps += channel.range_raw
    return steps * channel.unit
