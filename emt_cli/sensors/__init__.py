"""The registry: which sensors there are, and how a run opens all that this machine has.

Each opener works in a thread of its own under one deadline, since a driver may hang; what cannot be
opened becomes a notice, never an error: a sensor that fails must not change what the command does. Then the
cover is closed: what no sensor measures is estimated, once, and what two sensors see counts once.
The only place that knows concrete sensors, and only by name: none is imported before it is opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Notice
from emt_cli.sensors.base import Machine, Sensor
from emt_cli.sensors.gathering import Gathered
from emt_cli.sensors.opening import Opening, Outcome, Source, attempt, open_source

if TYPE_CHECKING:
    from emt_cli.sensors.wishes import Wishes


CPU_DOMAINS = frozenset({"package", "cpu", "socket", "module"})
MEMORY_DOMAINS = frozenset({"dram", "socket", "module"})

BUILT_IN: tuple[Source, ...] = (
    Source("perf", "emt_cli.sensors.perf_power", "open_perf_power", covers=CPU_DOMAINS),
    Source("powercap", "emt_cli.sensors.powercap", "open_powercap", covers=CPU_DOMAINS),
    Source("nvml", "emt_cli.sensors.nvml", "open_nvml"),
    Source("amd", "emt_cli.sensors.amd", "open_amd"),
    Source("cray", "emt_cli.sensors.cray", "open_cray"),
    Source("drm", "emt_cli.sensors.hwmon", "open_drm"),
    Source("hwmon", "emt_cli.sensors.hwmon", "open_hwmon"),
    Source("battery", "emt_cli.sensors.battery", "open_battery"),
    Source("ipmi", "emt_cli.sensors.ipmi", "open_ipmi", is_opt_in=True),
    Source("apple", "emt_cli.sensors.apple", "open_apple", platform="darwin"),
    Source("powermetrics", "emt_cli.sensors.powermetrics", "open_powermetrics", platform="darwin"),
    Source("emi", "emt_cli.sensors.emi", "open_emi", platform="win32"),
)
CPU_MODEL = Source("cpu model", "emt_cli.sensors.model", "open_cpu")
RAM_MODEL = Source("memory model", "emt_cli.sensors.model", "open_ram")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a machine offers. `absent` pairs the name of each interface that is not here with the reason;
    `excluded` are the channels of sensors that were closed again, since the user wants none of theirs."""

    sensors: tuple[Sensor, ...]
    notices: tuple[Notice, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    excluded: tuple[Channel, ...] = ()


FindOutside = Callable[[Mapping[str, str]], Sequence[Source]]


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
    from emt_cli.sensors.wishes import Wishes

    wishes = wishes or Wishes()
    gathered = Gathered(limit_s)
    if replay is not None:
        from emt_cli.sensors.replay import open_replay

        gathered.sensors.append(open_replay(replay))
    else:
        here = [source for source in built_in if source.platform in ("", machine.platform)]
        sources = [*here, *(find_outside or _by_entry_points)(machine.environ)]
        gathered.left_out = [source.name for source in sources if source.name in wishes.exclude]
        wanted = [source for source in sources if _is_wanted(source, wishes, sources)]
        _open_all(wanted, machine, gathered, limit_s)
        _add_devices(machine, gathered, wishes)
        gathered.compare()
    gathered.choose(wishes)
    if replay is None:
        gathered.tell_refusals()
        gathered.tell_missing(wishes.opt_in)
        _cover(machine, gathered, wishes, cpu_model, ram_model)
    gathered.finish_choice(wishes)
    return Opened(
        sensors=tuple(gathered.sensors),
        notices=tuple(gathered.notices),
        absent=tuple(gathered.absent),
        excluded=tuple(gathered.excluded),
    )


def _is_wanted(source: Source, wishes: Wishes, sources: Sequence[Source]) -> bool:
    """Whether to open it at all: what the user excludes by the sensor's name is as if it were not here, and
    so is one that would stand before another one for the same domains that is asked for by name."""
    named = (*wishes.opt_in, *wishes.only)
    if source.is_opt_in and source.name not in named:
        return False
    rivals = {each.name for each in sources if source.covers and each.covers == source.covers}
    if source.name not in wishes.only and not rivals.isdisjoint(wishes.only):
        return False
    return source.name not in wishes.exclude


def _open_all(sources: Sequence[Source], machine: Machine, gathered: Gathered, limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    at_work = [Opening(source, machine) for source in sources]
    for opening in at_work:
        gathered.add(opening.source.name, opening.result(deadline_s), opening.source.covers)


def _add_devices(machine: Machine, gathered: Gathered, wishes: Wishes) -> None:
    if wishes.devices:
        from emt_cli.sensors.configured import open_devices

        gathered.add("devices", attempt(partial(open_devices, devices=wishes.devices), machine))


def _by_entry_points(environ: Mapping[str, str]) -> Sequence[Source]:
    from emt_cli.sensors.outside import find_outside

    return find_outside(environ)


def _cover(
    machine: Machine, gathered: Gathered, wishes: Wishes, cpu_model: Source, ram_model: Source
) -> None:
    """Put watts by hand, else a model, where no sensor measures: the CPU, and the memory unless the CPU's
    model includes it. A node's meter alone needs neither: it sees both, and what is measured goes first."""
    if gathered.has_only_the_node() and wishes.cpu_power is None:
        return
    has_memory = gathered.covers(MEMORY_DOMAINS)
    if not gathered.covers(CPU_DOMAINS):
        outcome = _cpu(machine, wishes, cpu_model)
        gathered.add(cpu_model.name, outcome)
        gathered.choose(wishes)
        if not isinstance(outcome, SensorError):
            if any(c.provenance == "estimated" and not c.dropped for c in outcome.channels):
                gathered.estimated("CPU energy" if has_memory else "CPU and memory energy")
            has_memory = has_memory or bool(getattr(outcome, "includes_memory", False))
    elif wishes.cpu_power is not None:
        gathered.watts_unused("--cpu-watts", CPU_DOMAINS)
    if not has_memory:
        gathered.add(ram_model.name, _ram(machine, wishes, ram_model))
        gathered.choose(wishes)
    elif wishes.ram_w_per_gb is not None:
        gathered.watts_unused("--ram-watts-per-gb", MEMORY_DOMAINS)
    gathered.note_estimated_devices()


def _cpu(machine: Machine, wishes: Wishes, model: Source) -> Outcome:
    if wishes.cpu_power is None:
        return open_source(model, machine)
    from emt_cli.sensors.configured import open_cpu

    return attempt(partial(open_cpu, power=wishes.cpu_power), machine)


def _ram(machine: Machine, wishes: Wishes, model: Source) -> Outcome:
    if wishes.ram_w_per_gb is None:
        return open_source(model, machine)
    from emt_cli.sensors.configured import open_ram

    return attempt(partial(open_ram, w_per_gb=wishes.ram_w_per_gb), machine)
