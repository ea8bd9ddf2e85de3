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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from emt_cli.errors import EmtError, SensorError
from emt_cli.model import Channel, Notice
from emt_cli.sensors.base import Absent, Denied, Machine, Sensor

if TYPE_CHECKING:
    from emt_cli.sensors.wishes import Wishes


class Source(NamedTuple):
    """Where an opener is found: `function(machine) -> Sensor` in `module`.

    `is_opt_in`: slow or costly, and opened only where the user asks for it by name.
    """

    name: str
    module: str
    function: str
    is_outside: bool = False
    is_opt_in: bool = False


BUILT_IN: tuple[Source, ...] = (
    Source("powercap", "emt_cli.sensors.powercap", "open_powercap"),
    Source("nvml", "emt_cli.sensors.nvml", "open_nvml"),
)
CPU_MODEL = Source("cpu model", "emt_cli.sensors.model", "open_cpu")
RAM_MODEL = Source("memory model", "emt_cli.sensors.model", "open_ram")

_CPU_DOMAINS = frozenset({"package", "cpu", "module"})
_MEMORY_DOMAINS = frozenset({"dram", "module"})
_NO_COUNTER = (
    "on bare-metal Linux the RAPL counters would be read; a virtual machine, a container and WSL2 have none "
    "as a rule"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a machine offers. `absent` pairs the name of each interface that is not here with the reason;
    `excluded` are the channels of sensors that were closed again, since the user wants none of theirs."""

    sensors: tuple[Sensor, ...]
    notices: tuple[Notice, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    excluded: tuple[Channel, ...] = ()


FindOutside = Callable[[Mapping[str, str]], Sequence[Source]]
Outcome = Sensor | SensorError


def open_available(
    machine: Machine,
    *,
    replay: str | None = None,
    wishes: Wishes | None = None,
    limit_s: float = 5.0,
    built_in: Sequence[Source] = BUILT_IN,
    find_outside: FindOutside | None = None,
    cpu_model: Source = CPU_MODEL,
    ram_model: Source = RAM_MODEL,
) -> Opened:
    """Every sensor of this machine that is wanted; with `replay`, the sensor that plays that file.

    All openers together have `limit_s`. Raises UsageError for a bad replay file or a choice of nothing, and
    nothing else. `find_outside` finds other packages' sensors; by default through entry points.
    """
    from emt_cli.sensors.overlaps import drop_overlaps
    from emt_cli.sensors.wishes import Wishes

    wishes = wishes or Wishes()
    gathered = _Gathered(limit_s)
    if replay is not None:
        from emt_cli.sensors.replay import open_replay

        gathered.sensors.append(open_replay(replay))
    else:
        sources = [*built_in, *(find_outside or _by_entry_points)(machine.environ)]
        _open_all([source for source in sources if _is_wanted(source, wishes)], machine, gathered, limit_s)
        _add_devices(machine, gathered, wishes)
        drop_overlaps(gathered.sensors)
    gathered.choose(wishes)
    if replay is None:
        _cover(machine, gathered, wishes, cpu_model, ram_model)
    gathered.finish_choice(wishes)
    return Opened(
        sensors=tuple(gathered.sensors),
        notices=tuple(gathered.notices),
        absent=tuple(gathered.absent),
        excluded=tuple(gathered.excluded),
    )


def _is_wanted(source: Source, wishes: Wishes) -> bool:
    """Whether to open it at all: what the user excludes by the sensor's name is as if it were not here."""
    if source.is_opt_in and source.name not in (*wishes.opt_in, *wishes.only):
        return False
    return source.name not in wishes.exclude


def _open_all(sources: Sequence[Source], machine: Machine, gathered: _Gathered, limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    at_work = [Opening(source, machine) for source in sources]
    for opening in at_work:
        gathered.add(opening.source.name, opening.result(deadline_s))


def _add_devices(machine: Machine, gathered: _Gathered, wishes: Wishes) -> None:
    if wishes.devices:
        from emt_cli.sensors.configured import open_devices

        gathered.add("devices", _attempt(partial(open_devices, devices=wishes.devices), machine))


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

    def opened(machine: Machine) -> Sensor:
        sensor: Sensor = getattr(importlib.import_module(source.module), source.function)(machine)
        if not isinstance(sensor, Sensor):
            raise Denied(f"{source.module}:{source.function} gave no sensor but a {type(sensor).__name__}")
        if source.is_outside:
            from emt_cli.sensors.outside import Guarded

            return Guarded(sensor)
        return sensor

    return _attempt(opened, machine, source.module)


def _attempt(opener: Callable[[Machine], Sensor], machine: Machine, module: str = "emt") -> Outcome:
    try:
        return opener(machine)
    except SensorError as refusal:
        return refusal
    except (Exception, SystemExit) as error:  # noqa: BLE001 - drivers' and other packages' code: named, not lost
        return Denied(
            f"broken: {type(error).__name__}: {error}",
            hint=f"a fault of {module}, not of this machine; please report it there",
        )


class _Gathered:
    """What the openers brought, sorted into sensors, notices and absences."""

    def __init__(self, limit_s: float) -> None:
        self.sensors: list[Sensor] = []
        self.notices: list[Notice] = []
        self.absent: list[tuple[str, str]] = []
        self.remedies: dict[str, str] = {}
        self.excluded: list[Channel] = []
        self._unwanted: list[Channel] = []
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

    def choose(self, wishes: Wishes) -> None:
        """Take out the channels that the user does not want."""
        if wishes.only or wishes.exclude:
            from emt_cli.sensors.choice import choose

            self._unwanted += choose(self.sensors, wishes)

    def finish_choice(self, wishes: Wishes) -> None:
        """Close the sensors of which nothing is wanted. Raises UsageError for a choice of nothing."""
        if not (wishes.only or wishes.exclude):
            return
        from emt_cli.sensors.choice import check_only, unknown_words

        channels = [channel for sensor in self.sensors for channel in sensor.channels]
        unwanted = {channel.id for channel in self._unwanted}
        for sensor in [s for s in self.sensors if unwanted.issuperset(c.id for c in s.channels)]:
            self.sensors.remove(sensor)
            self.excluded += sensor.channels
            sensor.close()
        try:
            check_only(wishes, channels)
        except EmtError:
            for sensor in self.sensors:
                sensor.close()
            raise
        names = [name for name, _ in self.absent]
        for word in unknown_words(wishes.exclude, channels, names):
            self._note("nothing_excluded", name=word)

    def covers(self, domains: frozenset[str]) -> bool:
        """Whether a channel stands for one of these domains: one that counts, or that is not wanted."""
        channels = [c for s in self.sensors for c in s.channels if not c.dropped]
        return any(channel.domain in domains for channel in [*channels, *self._unwanted])

    def estimated(self, what: str) -> None:
        remedy = self.remedies.get("powercap") or _NO_COUNTER
        self._note("estimated", what=what, remedy=remedy)

    def _note(self, code: str, **facts: object) -> None:
        from emt_cli.notices import notice

        self.notices.append(notice(code, **facts))


def _cover(
    machine: Machine, gathered: _Gathered, wishes: Wishes, cpu_model: Source, ram_model: Source
) -> None:
    """Put watts by hand, else a model, where no sensor measures: the CPU, and the memory unless the CPU's
    model includes it."""
    has_memory = gathered.covers(_MEMORY_DOMAINS)
    if not gathered.covers(_CPU_DOMAINS):
        outcome = _cpu(machine, wishes, cpu_model)
        gathered.add(cpu_model.name, outcome)
        gathered.choose(wishes)
        if not isinstance(outcome, SensorError):
            if any(c.provenance == "estimated" and not c.dropped for c in outcome.channels):
                gathered.estimated("CPU energy" if has_memory else "CPU and memory energy")
            has_memory = has_memory or bool(getattr(outcome, "includes_memory", False))
    if not has_memory:
        gathered.add(ram_model.name, _ram(machine, wishes, ram_model))
        gathered.choose(wishes)


def _cpu(machine: Machine, wishes: Wishes, model: Source) -> Outcome:
    if wishes.cpu_power is None:
        return _open(model, machine)
    from emt_cli.sensors.configured import open_cpu

    return _attempt(partial(open_cpu, power=wishes.cpu_power), machine)


def _ram(machine: Machine, wishes: Wishes, model: Source) -> Outcome:
    if wishes.ram_w_per_gb is None:
        return _open(model, machine)
    from emt_cli.sensors.configured import open_ram

    return _attempt(partial(open_ram, w_per_gb=wishes.ram_w_per_gb), machine)
