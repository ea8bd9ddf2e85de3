"""What programs import: `Meter`, the energy of this very process from one line of it to another.

    from emt_cli import Meter

    with Meter() as meter:
        work()
    print(meter.energy.attributed_j)

The same sensors, settings and analysis as `emt run`. A meter never gets in the way of the program that it is
in: what goes wrong is a `reason` beside energies that are None. After a fork the child's copy is inert.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from emt_cli.errors import FAULTS, EmtError, RecordError
from emt_cli.measure.spent import spent_s
from emt_cli.values import Value

if TYPE_CHECKING:
    from types import TracebackType

    from emt_cli.analysis.stretches import Division
    from emt_cli.measure.inside import Inside
    from emt_cli.model import PhaseSpan, Provenance, Run
    from emt_cli.sensors.base import Machine


__all__ = ("Meter", "MeterEnergy", "MeterWindow", "spent_s")


class MeterEnergy(Value):
    """Joules of a meter, or of a window of it: this process and its descendants (`attributed_j`, between
    `low_j` and `high_j`), and all that the machine used meanwhile. None: not known, `reason` says why.

    A window has no `machine_j`. `is_coarse`: it is so short that its own power was never seen.
    """

    attributed_j: float | None = None
    machine_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    provenance: Provenance = "estimated"
    duration_s: float = 0.0
    reason: str = ""
    is_coarse: bool = False


class MeterWindow:
    """A stretch of a meter: its times on the monotonic clock, and its CPU seconds (this process and the
    children that were waited for in it). Its energy is known once the meter was stopped."""

    def __init__(self, meter: Meter, name: str) -> None:
        self.name = name
        self.start_s = self.end_s = time.monotonic()
        self.cpu_s = 0.0
        self.is_closed = False
        self._meter = meter

    @property
    def energy(self) -> MeterEnergy:
        return self._meter.energies([(self.start_s, self.end_s, self.cpu_s)])[0]


class Meter:
    """Measures from `start` to `stop`, or over a `with` block, once. `machine` is for tests."""

    def __init__(self, *, name: str = "", machine: Machine | None = None) -> None:
        self.run: Run | None = None
        """The complete record, once it was stopped."""
        self.windows: list[MeterWindow] = []
        self._name = name
        self._machine = machine
        self._inside: Inside | None = None
        self._division: Division | None = None
        self._origin_s = 0.0
        self._pid: int | None = None
        self._reason = "the meter has not been started"

    def start(self) -> Meter:
        """Begin; sensors are opened here, which takes some 0.1 s. A second start does nothing."""
        if self._pid is not None:
            return self
        self._pid = os.getpid()
        self._reason = "the meter has not been stopped yet"
        try:
            self._inside = self._opened()
            self._inside.start()
        except (EmtError, *FAULTS) as error:
            self._fail(error)
        return self

    def stop(self) -> Run | None:
        """End, and return the record; None where nothing could be measured. A second stop does nothing."""
        inside, self._inside = self._inside, None
        if inside is None:
            return self.run
        if os.getpid() != self._pid:
            self._reason = "this process was forked from the one that measures"
            return None
        try:
            from emt_cli.analysis import complete

            self._origin_s = inside.origin_s
            run = inside.stop()
            self.run = complete(replace(run, spans=self._spans(run.duration_s)))
        except (EmtError, *FAULTS) as error:
            self._fail(error)
        return self.run

    @property
    def energy(self) -> MeterEnergy:
        """What was used, once the meter was stopped."""
        run = self.run
        if run is None or run.energy is None:
            return MeterEnergy(reason=self._reason)
        energy = run.energy
        return MeterEnergy(
            attributed_j=energy.attributed_j,
            machine_j=energy.machine_j,
            low_j=energy.low_j,
            high_j=energy.high_j,
            provenance=energy.provenance,
            duration_s=run.duration_s,
            reason=_why_unknown(run),
        )

    @contextmanager
    def window(self, name: str = "") -> Iterator[MeterWindow]:
        """Measure a stretch inside; windows may overlap, each is counted by itself."""
        window = MeterWindow(self, name)
        self.windows.append(window)
        before_s = spent_s()
        try:
            yield window
        finally:
            window.cpu_s = spent_s() - before_s
            window.end_s = time.monotonic()
            window.is_closed = True

    def save(self, path: str, *, force: bool = False) -> str:
        """Write the record as `emt run -o` does, to a folder, a .json or a .csv file, which `emt report`
        and `emt compare` read. Windows with a name are its phases. Returns where it went.

        Raises OutputError or UsageError; RecordError where there is nothing to write.
        """
        from emt_cli.store.outputs import facts_of, plan

        if self.run is None:
            raise RecordError(f"there is nothing to save: {self._reason}")
        (output,) = plan([path], facts_of(self.run), force=force)
        output.check()
        return str(output.write(self.run, None))

    def _spans(self, duration_s: float) -> tuple[PhaseSpan, ...]:
        """The windows that have a name and are closed, on the run's time line."""
        from emt_cli.model import PhaseSpan

        return tuple(
            PhaseSpan(
                name=window.name,
                start_s=max(0.0, window.start_s - self._origin_s),
                end_s=min(duration_s, window.end_s - self._origin_s),
                cpu_s=window.cpu_s,
            )
            for window in self.windows
            if window.name and window.is_closed and window.end_s > self._origin_s
        )

    def energies(self, stretches: Sequence[tuple[float, float, float]]) -> list[MeterEnergy]:
        """Joules of stretches (start and end on the monotonic clock, CPU seconds) that are parts of a whole:
        all together they get no more than the meter's own figure. See `analysis.stretches` for the rule."""
        run = self.run
        if run is None or run.energy is None:
            return [MeterEnergy(duration_s=end - start, reason=self._reason) for start, end, _ in stretches]
        from emt_cli.analysis.stretches import Division, Stretch

        self._division = self._division or Division(run)
        begun_s, provenance, reason = self._origin_s, run.energy.provenance, _why_unknown(run)
        parts = [Stretch(start - begun_s, end - begun_s, cpu) for start, end, cpu in stretches]
        return [
            MeterEnergy(
                attributed_j=share.energy_j,
                low_j=share.low_j,
                high_j=share.high_j,
                provenance=provenance,
                duration_s=part.end_s - part.start_s,
                reason=reason,
                is_coarse=share.is_coarse,
            )
            for part, share in zip(parts, self._division.among(parts), strict=True)
        ]

    def __enter__(self) -> Meter:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _opened(self) -> Inside:
        from emt_cli.config import keys, load_here
        from emt_cli.drafting import draft, wishes_of
        from emt_cli.measure.inside import Inside
        from emt_cli.sensors import open_available
        from emt_cli.sensors.base import Machine

        config, machine = load_here({}), self._machine or Machine()
        home = os.path.expanduser("~")
        run = draft(tuple(sys.argv), config, machine, home=home, name=self._name)
        opened = open_available(machine, replay=config[keys.REPLAY], wishes=wishes_of(config))
        frequency_hz = config[keys.FREQUENCY]
        try:
            return Inside(run, machine, opened.sensors, notices=opened.notices, frequency_hz=frequency_hz)
        except FAULTS:
            for sensor in opened.sensors:
                sensor.close()
            raise

    def _fail(self, error: Exception) -> None:
        self._inside = None
        hint = getattr(error, "hint", "")
        self._reason = f"{error}; {hint}" if hint else str(error) or type(error).__name__


def _why_unknown(run: Run) -> str:
    """Why there are no joules in a record; empty where there are."""
    if run.energy is None or run.energy.attributed_j is not None:
        return ""
    told = [f"{each.text}; {each.hint}" if each.hint else each.text for each in run.notices]
    return told[0] if told else "no sensor could be read; see: emt doctor"
