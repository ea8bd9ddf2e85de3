"""How busy the CPUs are, as a clock: the seconds at full load that would cost what the real load cost.

Apart from the sensors that turn it into joules, the model and the user's own watts, because both must
follow the same busy time; it is no sensor itself. Joules are idle watts x seconds + dynamic watts x loaded
seconds.

Along a straight line loaded seconds are busy seconds / CPUs: a sum, the same however often it is read.
Along a curve they depend on how the load is spread over time, so a curve is applied to whole seconds
counted from the start, whatever the frequency: everything is read at least once a second, and a second that
lies between two readings has the mean load between them. A load that changes within a second is taken as
its mean; inside the second that is under way the figure is provisional.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emt_cli.proc_stat import counted_cpus, cpu_times
from emt_cli.sensors.base import Absent, File, Machine

Clock = Callable[[], float]

_WINDOW_S = 1.0
TICK_S = 0.01
"""The step of /proc/stat: USER_HZ is 100 on every architecture that emt runs on (proc(5))."""


class Loaded(NamedTuple):
    """At `t_s`: seconds since the start, and those of them at full load that cost the same."""

    t_s: float
    elapsed_s: float
    loaded_s: float


class LoadClock:
    """Counts loaded seconds from its opening, or from `rewind`, on.

    `curve`: the share of the dynamic power at 10, 20, ... 90 % load; empty for a straight line. Busy time is
    CPUs x T less idle, I/O wait and stolen time. Raises Absent where /proc/stat cannot be read or counts
    nothing.
    """

    def __init__(self, machine: Machine, clock: Clock = time.monotonic) -> None:
        try:
            self._stat: File = machine.keep("/proc/stat")
        except OSError as error:
            raise Absent(f"/proc/stat cannot be read: {error.strerror or error}") from error
        try:
            text = self._stat.read().decode("ascii", "replace")
            times = cpu_times(text)
        except (OSError, ValueError) as error:
            self._stat.close()
            raise Absent(f"/proc/stat cannot be read: {error}") from error
        if not any(times):
            self._stat.close()
            raise Absent("/proc/stat counts nothing here (some sandboxes fill it with zeros)")
        self.cpus = counted_cpus(text, machine.text)
        self.curve: Sequence[float] = ()
        self._clock = clock
        self.rewind()

    def rewind(self) -> None:
        """Begin anew: the next reading is the start."""
        self._start: tuple[float, list[int]] | None = None
        self._windows = _Windows(self.cpus)
        self._most_s = 0.0

    def now(self) -> float:
        return self._clock()

    def read(self) -> Loaded:
        """Raises OSError or ValueError where /proc/stat is not readable as CPU times."""
        now = self._clock()
        times = cpu_times(self._stat.read().decode("ascii", "replace"))
        if self._start is None:
            self._start = (now, times)
        elapsed_s = now - self._start[0]
        busy_s = self._busy_s(elapsed_s, [new - old for new, old in zip(times, self._start[1], strict=True)])
        if self.curve:
            loaded_s = min(max(self._windows.loaded_s(elapsed_s, busy_s, self.curve), 0.0), elapsed_s)
        else:
            loaded_s = busy_s / self.cpus
        # Ticks come in steps of 10 ms: two readings close together must not run backwards.
        self._most_s = max(self._most_s, loaded_s)
        return Loaded(now, elapsed_s, self._most_s)

    def close(self) -> None:
        self._stat.close()

    def _busy_s(self, elapsed_s: float, ticks: Sequence[int]) -> float:
        """CPU seconds of work in `elapsed_s` seconds, from the ticks of the eight columns.

        What is left of the CPUs' time when the unused is taken away is finer than the busy columns, which
        only sample. But where the columns do not add up to the CPUs' time (a CPU was switched off, the file
        shows a container's CPUs), the busy columns are what can be believed.
        """
        capacity_s = self.cpus * elapsed_s
        seconds = [count * TICK_S for count in ticks]
        unused_s = seconds[3] + seconds[4] + seconds[7]
        busy_s = sum(seconds) - unused_s
        if abs(sum(seconds) - capacity_s) <= 0.1 * capacity_s + 2 * self.cpus * TICK_S:
            busy_s = capacity_s - unused_s
        return min(max(busy_s, 0.0), capacity_s)


class _Windows:
    """The whole seconds since the start and the one that is under way, in busy CPU seconds."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._loaded_s = self._begin_s = self._last_s = self._last_busy_s = self._open_busy_s = 0.0

    def loaded_s(self, elapsed_s: float, busy_s: float, curve: Sequence[float]) -> float:
        """All loaded seconds until now, the second under way by its mean load so far."""
        end_s = self._begin_s + _WINDOW_S
        if elapsed_s < end_s:
            self._open_busy_s += busy_s - self._last_busy_s
        else:
            rate = (busy_s - self._last_busy_s) / (elapsed_s - self._last_s)
            full_s = self._open_busy_s + rate * (end_s - self._last_s)
            whole = int((elapsed_s - end_s) / _WINDOW_S)
            self._loaded_s += _WINDOW_S * share_at(full_s / _WINDOW_S / self._cpus, curve)
            self._loaded_s += whole * _WINDOW_S * share_at(rate / self._cpus, curve)
            self._begin_s = end_s + whole * _WINDOW_S
            self._open_busy_s = rate * (elapsed_s - self._begin_s)
        self._last_s, self._last_busy_s = elapsed_s, busy_s
        open_s = elapsed_s - self._begin_s
        if open_s <= 0:
            return self._loaded_s
        return self._loaded_s + open_s * share_at(self._open_busy_s / open_s / self._cpus, curve)


def share_at(load: float, curve: Sequence[float]) -> float:
    """The share of the dynamic power at a load, between the points of the curve along straight lines.

    The first and the last line go on beyond 0 and 1, where 10 ms ticks make a load look a little less than
    nothing or more than all: cut off there, the errors would no longer cancel out.
    """
    points = (0.0, *curve, 1.0)
    steps = len(points) - 1
    place = min(max(int(load * steps), 0), steps - 1)
    return points[place] + (load * steps - place) * (points[place + 1] - points[place])
