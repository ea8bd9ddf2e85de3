"""Replay: plays a file of readings as if a device gave them; for demonstrations, tests, and looking at an
old run with new eyes.

- Input: `samples.csv` of a run (with `run.json` beside it, which then names the channels' facts), the run's
  folder, or a hand-written JSON file
  `{"channels": [{"id": "cpu0/package", "kind": "counter", ...}], "readings": [[t_s, v0, ...], ...],
  "repeat": false}`; see `recording`.
- Time runs from the first `read`, which is the first row; `rewind` makes the next one the first.
- Between two rows a counter or model runs on a straight line, wraps included, and is a gap if either row
  lacks it; where it was reset, the old value holds. A gauge holds the earlier row's value.
- After the last row: its values once more, at its time, then the gap 'replay ended'; with `repeat`, the
  file starts over and counters count on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.recording import NAME, Recording, Value, load_recording


class Replay:
    """The sensor that plays a recording by `clock`."""

    name = NAME
    min_period_s = 1e-3

    def __init__(self, recording: Recording, clock: Callable[[], float] = time.monotonic) -> None:
        self.channels: Sequence[Channel] = recording.channels
        self._recording = recording
        self._clock = clock
        self._start_s: float | None = None
        self._row = 0
        self._latest_s = -math.inf
        self._gains = [_gain(channel, [row[n] for row in recording.values])
                       for n, channel in enumerate(recording.channels)]  # fmt: skip

    def read(self) -> list[Reading | Gap]:
        now_s = self._clock()
        if self._start_s is None:
            self._start_s = now_s
        times_s = self._recording.times_s
        length_s, into_s, laps = times_s[-1] - times_s[0], now_s - self._start_s, 0
        if into_s > length_s:
            if not self._recording.is_repeated:
                return self._last(self._start_s + length_s, now_s)
            laps = int(into_s // length_s)
            into_s %= length_s
        at_s = min(times_s[0] + into_s, times_s[-1])
        self._seek(at_s)
        self._latest_s = now_s
        return [self._reading(n, now_s, at_s, laps) for n in range(len(self.channels))]

    def rewind(self) -> None:
        self._start_s, self._row, self._latest_s = None, 0, -math.inf

    def _last(self, end_s: float, now_s: float) -> list[Reading | Gap]:
        """The values of the last row, unless they have been told: nothing before them is lost."""
        if self._latest_s >= end_s:
            return [Gap(now_s, "replay ended")] * len(self.channels)
        self._latest_s = end_s
        self._seek(self._recording.times_s[-1])
        return [self._reading(n, end_s, self._recording.times_s[-1], 0) for n in range(len(self.channels))]

    def close(self) -> None:
        """Nothing is held open."""

    def _seek(self, at_s: float) -> None:
        """Put `_row` on the last row that is not later than `at_s`."""
        times_s = self._recording.times_s
        if at_s < times_s[self._row]:
            self._row = 0
        while self._row + 1 < len(times_s) and times_s[self._row + 1] <= at_s:
            self._row += 1

    def _reading(self, n: int, now_s: float, at_s: float, laps: int) -> Reading | Gap:
        channel, times_s, values = self.channels[n], self._recording.times_s, self._recording.values
        value = values[self._row][n]
        if value is None:
            return Gap(now_s, "missing in the replayed file")
        if channel.kind == "gauge":
            return Reading(now_s, value)
        since_s = at_s - times_s[self._row]
        if since_s > 0:
            after = values[self._row + 1][n]
            if after is None:
                return Gap(now_s, "missing in the replayed file")
            share = since_s / (times_s[self._row + 1] - times_s[self._row])
            value += _part(_step(channel, value, after), share)
        value += laps * self._gains[n]
        return Reading(now_s, value % channel.range_raw if channel.range_raw else value)


def open_replay(path: str, clock: Callable[[], float] = time.monotonic) -> Replay:
    """The recording at `path`. Raises UsageError, naming file, row and fault, if it cannot be played."""
    return Replay(load_recording(path), clock)


def _step(channel: Channel, before: int | float, after: int | float) -> int | float:
    """What a counter counted from one row to the next; 0 where it went back without a range: a reset."""
    step = after - before
    if step >= 0:
        return step
    return step + channel.range_raw if channel.range_raw else 0


def _part(step: int | float, share: float) -> int | float:
    """A share of a step; whole steps stay whole, and never too many."""
    return math.floor(step * share) if isinstance(step, int) else step * share


def _gain(channel: Channel, column: Sequence[Value]) -> int | float:
    """What a counter counts in one playing of the file, where it never was reset; else 0: it starts over."""
    known = [value for value in column if value is not None]
    steps = list(pairwise(known))
    if channel.kind == "gauge" or any(new < old and not channel.range_raw for old, new in steps):
        return 0
    return sum(_step(channel, old, new) for old, new in steps)
