"""How raw readings become cumulative joules: a meter for counters and one for gauges.

This is the only place where a wrap, a reset, a glitch or a gap is decided.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from math import inf

from emt_cli.model import Channel, Gap, GapSpan, Observed, Reading

_LATE_STAMP_S = 0.05
"""How much later than its value a time stamp may be: the reading thread can be preempted in between, and a
counter read every millisecond on a busy machine would else look like one that no device could have made."""
_READINGS_AROUND_THE_END = 16
"""At 1 kHz on a busy machine so many ticks can still come between the end and the word to stop."""


class Meter(ABC):
    """What both meters share: the last good reading, the faults, and the gaps that come of them.

    `start_s` is the monotonic time of the run's start; it may be set until `finish`, and gaps are counted
    from it. A reading that fails is only noted; the kind of meter decides at the next good one whether
    energy was lost. The first reading comes a moment before the start and the last one after the end:
    `finish` cuts off what lies outside, along the line between the two readings around the edge.
    """

    def __init__(self, channel: Channel, start_s: float = 0.0) -> None:
        self.channel = channel
        self.start_s = start_s
        self.power_w: float | None = None
        self.readings = self.failed = self.wraps = self.resets = 0
        self.max_power_w = self.trapezoid_j = self.edge_j = 0.0
        self._gaps: list[tuple[float, float, str]] = []
        self._end_s = inf
        self._last: Reading | None = None
        self._fault: Gap | None = None
        self._first: list[tuple[float, float]] = []
        self._latest: deque[tuple[float, float]] = deque(maxlen=_READINGS_AROUND_THE_END)
        """When the first two and the latest readings came, and the joules until then."""

    @property
    @abstractmethod
    def energy_j(self) -> float | None:
        """Joules since the first reading; None before it."""

    @property
    @abstractmethod
    def longest_step_s(self) -> float | None:
        """The longest time between two readings that loses nothing; None if there is none."""

    @property
    def gaps(self) -> list[GapSpan]:
        """The stretches whose energy is unknown, in seconds from the start of the run."""
        return [
            GapSpan(
                channel=self.channel.id,
                start_s=max(0.0, start_s - self.start_s),
                end_s=min(end_s, self._end_s) - self.start_s,
                reason=reason,
            )
            for start_s, end_s, reason in self._gaps
            if end_s > self.start_s and start_s < self._end_s
        ]

    @property
    def last_s(self) -> float:
        """When the last good reading was taken; the start before the first one."""
        return self.start_s if self._last is None else self._last.t_s

    def update(self, reading: Reading | Gap) -> None:
        if isinstance(reading, Gap):
            self.failed += 1
            self._fault = self._fault or reading
            return
        self.readings += 1
        if self._last is not None:
            self._advance(self._last, reading)
        else:
            if self._fault is not None:
                self._lose(self._fault.t_s, reading.t_s, self._fault.reason)
            self._last = reading
        self._fault = None
        mark = self.last_s, self.energy_j or 0.0
        self._latest.append(mark)
        if len(self._first) < 2:
            self._first.append(mark)

    def finish(self, end_s: float, *, between_steps: bool = False) -> None:
        """Close the books at the run's end: what was not read until then is a gap.

        `between_steps`: the first and the last reading of a counter came just after one of its steps. Those
        in between are as old as its update period, so that a line through them would bend at the edges; one
        from step to step does not.
        """
        self._end_s = end_s
        self._lose_the_rest(end_s)
        if self._first:
            if not any(gap_end_s <= self._first[0][0] for _, gap_end_s, _ in self._gaps):
                self._lose(self.start_s, self._first[0][0], "the first reading came late")
            marks = [*self._first, *(mark for mark in self._latest if mark[0] > self._first[-1][0])]
            if between_steps and self.channel.kind == "counter" and not self._gaps:
                marks = [marks[0], marks[-1]]
            inside_j = _joules_at(end_s, marks) - _joules_at(self.start_s, marks)
            self.edge_j = marks[-1][1] - inside_j

    def _lose_the_rest(self, end_s: float) -> None:
        if self._fault is not None:
            since = self._fault.t_s if self._last is None else self._last.t_s
            self._lose(since, end_s, self._fault.reason)

    def observed(self) -> Observed:
        return Observed(
            channel=self.channel.id,
            energy_j=(self.energy_j or 0.0) - self.edge_j,
            readings=self.readings,
            failed=self.failed,
            wraps=self.wraps,
            resets=self.resets,
            gap_s=sum(gap.end_s - gap.start_s for gap in self.gaps),
            max_power_w=self.max_power_w,
            trapezoid_j=self.trapezoid_j,
            edge_j=self.edge_j,
        )

    @abstractmethod
    def _advance(self, last: Reading, reading: Reading) -> None:
        """Account for the stretch between two good readings."""

    def _lose(self, start_s: float, end_s: float, reason: str) -> None:
        if end_s > start_s:
            self._gaps.append((start_s, end_s, reason))


def _joules_at(t_s: float, marks: Sequence[tuple[float, float]]) -> float:
    """Joules until a moment, on the line between the two readings around it; outside, of the nearest one."""
    before_s, before_j = marks[0]
    for mark_s, joules in marks:
        if mark_s >= t_s:
            share = (t_s - before_s) / (mark_s - before_s) if mark_s > before_s else 1.0
            return before_j + (joules - before_j) * max(0.0, share)
        before_s, before_j = mark_s, joules
    return before_j


class Counter(Meter):
    """Cumulative joules of a counter or model channel.

    Raw values stay integers until after the subtraction. A step that no device could have made is held
    back until later readings tell a glitch (the old line goes on: nothing lost) from a reset (a new line
    began and moves: the stretch is a gap). A failed reading costs nothing if a later one arrives within half
    the wrap time.
    """

    def __init__(self, channel: Channel, start_s: float = 0.0) -> None:
        super().__init__(channel, start_s)
        self._total: int | float = 0
        self._suspect: Reading | None = None
        self._longest_s = inf
        if channel.range_raw is not None:
            self._longest_s = channel.range_raw * channel.unit / channel.max_power_w / 2

    @property
    def energy_j(self) -> float | None:
        return None if self._last is None else self._total * self.channel.unit

    @property
    def longest_step_s(self) -> float | None:
        """Half the shortest time in which the counter can wrap."""
        return None if self._longest_s == inf else self._longest_s

    def _lose_the_rest(self, end_s: float) -> None:
        if self._suspect is not None and self._last is not None:
            self._lose(self._last.t_s, end_s, "implausible value")
        else:
            super()._lose_the_rest(end_s)

    def _advance(self, last: Reading, reading: Reading) -> None:
        if reading.t_s - last.t_s > self._longest_s:
            self._lose(last.t_s, reading.t_s, "not read within half the wrap time")
            self._last, self._suspect = reading, None
        elif self._accept(last, reading):
            self._suspect = None
        elif self._suspect is None:
            self._suspect = reading
        elif reading.value == self._suspect.value:
            return  # it stands still: garbage does, and a new line shows only when it moves
        elif self._accept(self._suspect, reading):
            self.resets += 1
            self._lose(last.t_s, self._suspect.t_s, "counter was reset")
            self._suspect = None
        else:
            self._suspect = reading

    def _accept(self, old: Reading, new: Reading) -> bool:
        """Add the steps from `old` to `new`, wrapped if need be; False if no device could have made them."""
        channel = self.channel
        step = new.value - old.value
        if has_wrapped := step < 0:
            if channel.range_raw is None or new.value > channel.range_raw:
                return False
            step += channel.range_raw
        refresh = channel.update_period_s or 1e-3
        elapsed = new.t_s - old.t_s
        joules = step * channel.unit
        if not 0 <= joules <= channel.max_power_w * (elapsed + refresh + _LATE_STAMP_S):
            return False
        self.wraps += has_wrapped
        self._total += step
        power_w = min(joules / max(elapsed, refresh), channel.max_power_w)
        self.max_power_w = max(self.max_power_w, power_w)
        self._last = new
        return True


class Gauge(Meter):
    """Cumulative joules of a gauge channel: the trapezoid over real time stamps, gaps left out.

    A value below zero or above what the device can draw is a failed reading.
    """

    def __init__(self, channel: Channel, start_s: float = 0.0, longest_step_s: float = 5.0) -> None:
        super().__init__(channel, start_s)
        self._longest_step_s = longest_step_s
        self._joules = 0.0

    @property
    def energy_j(self) -> float | None:
        return None if self._last is None else self._joules

    @property
    def longest_step_s(self) -> float | None:
        return self._longest_step_s

    def update(self, reading: Reading | Gap) -> None:
        if isinstance(reading, Reading):
            watts = reading.value * self.channel.unit
            if not 0 <= watts <= self.channel.max_power_w:
                reading = Gap(reading.t_s, f"implausible value: {reading.value}")
            else:
                self.power_w = watts
                self.max_power_w = max(self.max_power_w, watts)
        if isinstance(reading, Gap):
            self.power_w = None
        super().update(reading)

    def _advance(self, last: Reading, reading: Reading) -> None:
        before, now = last.value * self.channel.unit, reading.value * self.channel.unit
        elapsed = reading.t_s - last.t_s
        self._last = reading
        if self._fault is not None:
            self._lose(last.t_s, reading.t_s, self._fault.reason)
        elif elapsed > self._longest_step_s:
            self._lose(last.t_s, reading.t_s, "not read in time")
        else:
            self._joules += (before + now) / 2 * elapsed
            self.trapezoid_j += abs(now - before) / 2 * elapsed


def meter(channel: Channel, start_s: float, period_s: float) -> Meter:
    """The meter that fits a channel which is read every `period_s`."""
    if channel.kind == "gauge":
        return Gauge(channel, start_s, longest_step_s=max(5.0, 3 * period_s))
    return Counter(channel, start_s)
