"""Opened hwmon channels, and the one loop that reads them. A broken file is a Gap of its own channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import File

LEAST_PERIOD_S = 0.02
"""What a chip behind I2C or a card's firmware can be asked without being kept busy."""
_IDLE_PERIOD_S = 1.0
"""How often a sensor is read of which nothing counts."""

Feed = Sequence[File]
"""The files of one channel, to be multiplied: energy or power; or current and voltage (mA x mV = uW)."""


class Parts(NamedTuple):
    """What a sensor is made of: opened channels, and what could not be opened with the remedy."""

    channels: tuple[Channel, ...]
    feeds: tuple[Feed, ...]
    unreadable: tuple[str, ...]
    remedy: str


class Hwmon:
    """The channels of several chips. `unreadable` names what is there but cannot be read, and `remedy` says
    what to do about it."""

    def __init__(self, name: str, parts: Parts) -> None:
        self.name = name
        self.channels: Sequence[Channel] = parts.channels
        self.unreadable = parts.unreadable
        self.remedy = parts.remedy
        self.min_period_s = _period_s(self.channels)
        self._feeds = parts.feeds
        self._reads = tuple(_reader(feed) for feed in self._feeds)

    def read(self) -> list[Reading | Gap]:
        """Microjoules or microwatts of each channel."""
        readings: list[Reading | Gap] = []
        add, now = readings.append, monotonic
        for read in self._reads:
            try:
                value = read()
            except OSError as error:
                add(Gap(now(), error.strerror or str(error)))
            except ValueError as error:
                add(Gap(now(), str(error)))
            else:
                add(Reading(now(), value))
        return readings

    def close(self) -> None:
        for feed in self._feeds:
            for file in feed:
                file.close()


def value_of(feed: Feed) -> int:
    """What a channel tells now. Raises OSError, and ValueError with the reason, where it tells nothing."""
    return _reader(feed)()


def _reader(feed: Feed) -> Callable[[], int]:
    if len(feed) == 1:
        (file,) = feed
        return lambda: _number(file.read())

    def product() -> int:
        value = 1
        for file in feed:
            value *= _number(file.read())
        return value

    return product


def _number(text: bytes) -> int:
    """Raises ValueError, with the reason as its text."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"not a number: {text[:20]!r}" if text.strip() else "empty") from None
    if value < 0:
        raise ValueError(f"negative: {value}")
    return value


def _period_s(channels: Iterable[Channel]) -> float:
    """The shortest period of a channel that counts, within reason."""
    periods = [channel.update_period_s or LEAST_PERIOD_S for channel in channels if not channel.dropped]
    return min(max(min(periods, default=_IDLE_PERIOD_S), LEAST_PERIOD_S), _IDLE_PERIOD_S)
