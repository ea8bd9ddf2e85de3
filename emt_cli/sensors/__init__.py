"""The registry: which sensors there are, and how a run opens all that this machine has.

Each opener works in a thread of its own under one deadline, since a driver may hang; what cannot be
opened becomes a notice, never an error: a sensor that fails must not change what the command does. Then the
cover is closed: what no sensor measures is estimated, once, and what two sensors see counts once.
The only place that knows concrete sensors, and only by name: none is imported before it is opened.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from emt_cli.errors import SensorError
from emt_cli.model import Notice
from emt_cli.sensors.base import Absent, Denied, Machine, Sensor


class Source(NamedTuple):
    """Where an opener is found: `function(machine) -> Sensor` in `module`."""

    name: str
    module: str
    function: str
    is_outside: bool = False


BUILT_IN: tuple[Source, ...] = (
    Source("powercap", "emt_cli.sensors.powercap", "open_powercap"),
    Source("nvml", "emt_cli.sensors.nvml", "open_nvml"),
)
CPU_MODEL = Source("cpu model", "emt_cli.sensors.model", "open_cpu")
RAM_MODEL = Source("memory model", "emt_cli.sensors.model", "open_ram")

_CPU_DOMAINS = frozenset({"package", "cpu", "module"})
_MEMORY_DOMAINS = frozenset({"dram", "module"})
_INSIDE_A_MODULE = frozenset({"package", "core", "uncore", "cpu", "dram"})
_NO_COUNTER = (
    "on bare-metal Linux the RAPL counters would be read; a virtual machine, a container and WSL2 have none "
    "as a rule"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a machine offers. `absent` pairs the name of each interface that is not here with the reason."""

    sensors: tuple[Sensor, ...]
    notices: tuple[Notice, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()


FindOutside = Callable[[Mapping[str, str]], Sequence[Source]]
Outcome = Sensor | SensorError


def open_available(
    machine: Machine,
    *,
    replay: str | None = None,
    limit_s: float = 5.0,
    built_in: Sequence[Source] = BUILT_IN,
    find_outside: FindOutside | None = None,
    cpu_model: Source = CPU_MODEL,
    ram_model: Source = RAM_MODEL,
) -> Opened:
    """Every sensor of this machine; with `replay`, the sensor that plays that file and no other.

    All openers together have `limit_s`. Raises UsageError for a bad replay file, and nothing else.
    `find_outside` finds other packages' sensors; by default through entry points.
    """
    if replay is not None:
        from emt_cli.sensors.replay import open_replay

        return Opened(sensors=(open_replay(replay),))
    deadline_s = time.monotonic() + limit_s
    at_work = [Opening(source, machine) for source in built_in]
    at_work += [Opening(source, machine) for source in (find_outside or _by_entry_points)(machine.environ)]
    gathered = _Gathered(limit_s)
    for opening in at_work:
        gathered.add(opening.source.name, opening.result(deadline_s))
    _overlaps(gathered.sensors)
    _cover(machine, gathered, cpu_model, ram_model)
    return Opened(
        sensors=tuple(gathered.sensors), notices=tuple(gathered.notices), absent=tuple(gathered.absent)
    )


def _by_entry_points(environ: Mapping[str, str]) -> Sequence[Source]:
    from emt_cli.sensors.outside import find_outside

    return find_outside(environ)


class Opening:
    """One opener at work in a daemon thread. A sensor that comes after it was given up closes itself."""

    def __init__(self, source: Source, machine: Machine) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._is_given_up = False
        self._thread = threading.Thread(
            target=self._work, args=(machine,), name=f"emt-open-{source.name}", daemon=True
        )
        self._thread.start()

    def result(self, deadline_s: float) -> Outcome | None:
        """The sensor, or why there is none; None if neither came by the deadline."""
        self._thread.join(max(deadline_s - time.monotonic(), 0.0))
        with self._lock:
            self._is_given_up = self._outcome is None
            return self._outcome

    def _work(self, machine: Machine) -> None:
        outcome = _open(self.source, machine)
        with self._lock:
            self._outcome = outcome
            is_late = self._is_given_up
        if is_late and not isinstance(outcome, SensorError):
            outcome.close()


def _open(source: Source, machine: Machine) -> Outcome:
    """Open one sensor. Whatever goes wrong in there comes back as a refusal with its text."""
    try:
        sensor = getattr(importlib.import_module(source.module), source.function)(machine)
        if not isinstance(sensor, Sensor):
            return Denied(f"{source.module}:{source.function} gave no sensor but a {type(sensor).__name__}")
        if source.is_outside:
            from emt_cli.sensors.outside import Guarded

            return Guarded(sensor)
        return sensor
    except SensorError as refusal:
        return refusal
    except (Exception, SystemExit) as error:  # noqa: BLE001 - drivers' and other packages' code: named, not lost
        return Denied(
            f"broken: {type(error).__name__}: {error}",
            hint=f"a fault of {source.module}, not of this machine; please report it there",
        )


class _Gathered:
    """What the openers brought, sorted into sensors, notices and absences."""

    def __init__(self, limit_s: float) -> None:
        self.sensors: list[Sensor] = []
        self.notices: list[Notice] = []
        self.absent: list[tuple[str, str]] = []
        self.remedies: dict[str, str] = {}
        self._limit_s = limit_s

    def add(self, name: str, outcome: Outcome | None) -> None:
        if outcome is None:
            self.remedies[name] = f"{name} did not answer in time: check its driver (dmesg)"
            self._note("sensor_stuck", sensor=name, limit_s=self._limit_s)
        elif isinstance(outcome, Absent):
            self.absent.append((name, str(outcome)))
        elif isinstance(outcome, SensorError):
            self.remedies[name] = outcome.hint
            self._note("sensor_denied", sensor=name, reason=str(outcome), remedy=outcome.hint)
        else:
            self.sensors.append(outcome)
            locked = getattr(outcome, "unreadable", ())
            if locked:
                remedy = getattr(outcome, "remedy", "") or "emt sensors shows what is read"
                self.remedies[name] = remedy
                self._note(
                    "sensor_denied",
                    sensor=name,
                    reason=f"left out, cannot be read: {', '.join(locked)}",
                    remedy=remedy,
                )

    def covers(self, domains: frozenset[str]) -> bool:
        """Whether a channel that counts stands for one of these domains."""
        return any(c.domain in domains and not c.dropped for s in self.sensors for c in s.channels)

    def estimated(self, what: str) -> None:
        remedy = self.remedies.get("powercap") or _NO_COUNTER
        self._note("estimated", what=what, remedy=remedy)

    def _note(self, code: str, **facts: object) -> None:
        from emt_cli.notices import notice

        self.notices.append(notice(code, **facts))


def _overlaps(sensors: list[Sensor]) -> None:
    """Drop what another sensor already counts, by giving sensors changed copies of their channels.

    The same id from two sensors is the same thing seen twice: the first keeps it. A module (Grace Hopper)
    counts its CPU and memory itself.
    """
    module = next((c for s in sensors for c in s.channels if c.domain == "module" and not c.dropped), None)
    taken: dict[str, str] = {}
    for sensor in sensors:
        channels = []
        for channel in sensor.channels:
            if channel.id in taken:
                reason = channel.dropped or f"{taken[channel.id]} reads the same"
                channel = replace(channel, id=_free_id(channel.id, taken), dropped=reason)  # noqa: PLW2901
            elif module is not None and channel.domain in _INSIDE_A_MODULE and not channel.dropped:
                channel = replace(channel, dropped=f"inside {module.device} module")  # noqa: PLW2901
            taken[channel.id] = sensor.name
            channels.append(channel)
        if channels != list(sensor.channels):
            sensor.channels = tuple(channels)


def _free_id(wanted: str, taken: Mapping[str, str]) -> str:
    number = 2
    while f"{wanted}.{number}" in taken:
        number += 1
    return f"{wanted}.{number}"


def _cover(machine: Machine, gathered: _Gathered, cpu_model: Source, ram_model: Source) -> None:
    """Estimate what no sensor measures: the CPU, and the memory unless the CPU's model includes it."""
    has_memory = gathered.covers(_MEMORY_DOMAINS)
    if not gathered.covers(_CPU_DOMAINS):
        outcome = _open(cpu_model, machine)
        gathered.add(cpu_model.name, outcome)
        if not isinstance(outcome, SensorError):
            gathered.estimated("CPU energy" if has_memory else "CPU and memory energy")
            has_memory = has_memory or bool(getattr(outcome, "includes_memory", False))
    if not has_memory:
        gathered.add(ram_model.name, _open(ram_model, machine))
