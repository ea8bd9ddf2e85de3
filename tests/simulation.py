"""A simulated machine: a folder of sysfs and proc files whose energy counters and `/proc/stat` are computed
at the moment of each read from CLOCK_MONOTONIC, so that joules are exact on however loaded a box.

`SimulatedMachine(folder, zones=[...])` writes the files, and `machine.json` with the power functions;
`simulated(root)` reads that back in any process, so that a whole `emt run` can be put on it
(`python -m tests.simulated_emt ROOT run -- ...`). `/proc` files that the simulation does not have are the
real ones. All watts are of one zone alone: what a package draws does not add up from its sub-zones.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emt_cli.sensors.base import File, KeptFile, Machine

POWERCAP = "/sys/class/powercap"
INTEL_RANGE_UJ = 262_143_328_850
POWER_EVENTS = {"energy-cores": 1, "energy-pkg": 2, "energy-ram": 3, "energy-gpu": 4, "energy-psys": 5}
"""What the perf `power` PMU can count, and its numbers (arch/x86/events/rapl.c)."""
TICKS_PER_S = 100
_DESCRIPTION = "machine.json"


# --- power functions --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Power:
    """Watts over time: `base_w + ramp_w_per_s * t`, until the ramp ends, plus what the load adds.

    The load adds `per_cpu_w * busy ** exponent`, busy being the number of busy CPUs of the machine's
    `/proc/stat`. Where that is the real one, an exponent other than 1 is integrated from read to read.
    """

    base_w: float = 0.0
    ramp_w_per_s: float = 0.0
    ramp_ends_s: float = math.inf
    per_cpu_w: float = 0.0
    exponent: float = 1.0

    def fixed_j(self, t_s: float) -> float:
        """Joules from the machine's start to `t_s`, without the load."""
        ramp_s = min(t_s, self.ramp_ends_s)
        held_j = self.ramp_w_per_s * ramp_s * (t_s - ramp_s)
        return self.base_w * t_s + self.ramp_w_per_s * ramp_s**2 / 2 + held_j


def constant(watts: float) -> Power:
    return Power(base_w=watts)


def ramp(start_w: float, w_per_s: float, ends_s: float = math.inf) -> Power:
    return Power(base_w=start_w, ramp_w_per_s=w_per_s, ramp_ends_s=ends_s)


def following_load(idle_w: float, per_cpu_w: float, exponent: float = 1.0) -> Power:
    return Power(base_w=idle_w, per_cpu_w=per_cpu_w, exponent=exponent)


# --- faults and files -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one file, by count of its reads in a process (from 0, `last_read` included) or
    by seconds since the machine's start; both must hold.

    `kind`: EIO, EINVAL, ENODEV (vanished), text, empty, garbage (`value` instead), backwards (`value` uJ
    less), block (`value` seconds, then the true value). EACCES is a refusal to open, whenever.
    """

    kind: str
    first_read: int = 0
    last_read: float = math.inf
    from_s: float = -math.inf
    until_s: float = math.inf
    value: float = 0

    def holds(self, read: int, t_s: float) -> bool:
        return self.first_read <= read <= self.last_read and self.from_s <= t_s < self.until_s


@dataclass(frozen=True, kw_only=True)
class Zone:
    """A powercap zone. `resets_at_s`: the counter begins again at 0 there. `mirror_of`: another zone's
    folder whose counter it repeats. `update_period_s` 0: fresh at every read."""

    folder: str = "intel-rapl:0"
    name: str = "package-0"
    power: Power = Power(base_w=10.0)
    range_uj: int | None = INTEL_RANGE_UJ
    start_uj: int = 0
    max_power_uw: int | None = None
    update_period_s: float = 0.0
    resets_at_s: tuple[float, ...] = ()
    mirror_of: str = ""
    faults: tuple[Fault, ...] = ()

    @property
    def path(self) -> str:
        return f"{POWERCAP}/{self.folder}/energy_uj"


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Any other file that follows a power function: hwmon, batteries, Cray counters.

    `form` is how it is written, with `{uj}`, `{j}`, `{uw}`, `{mw}`, `{w}`, `{ma}`, `{ua}` (at `volts`) and
    `{us}` (microseconds since the machine's start): energies are counted from `start_j` on and wrap at
    `range_j`; powers are those of the moment. `update_period_s` 0: fresh at every read.
    """

    path: str
    power: Power = Power(base_w=10.0)
    form: str = "{uj}"
    volts: float = 1.0
    start_j: float = 0.0
    range_j: float | None = None
    update_period_s: float = 0.0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PowerEvent:
    """A counter of the perf `power` PMU on one CPU: it counts what its signal uses, from its opening on.

    `config` is its number (energy-pkg is 2), `scale_j` what a step means. `fault` is what opening it raises.
    """

    config: int = 2
    cpu: int = 0
    power: Power = Power(base_w=10.0)
    scale_j: float = 2.0**-32
    pmu: int = 23
    fault: str = ""


def power_pmu(
    packages: Mapping[int, int],
    *,
    events: Sequence[str] = ("energy-pkg",),
    dies: Mapping[int, int] | None = None,
    pmu: int = 23,
) -> dict[str, str]:
    """The files of the perf `power` PMU, for `SimulatedMachine(files=...)`: `packages` tells the package of
    every CPU of the mask, `dies` its die, `events` what is described in joules."""
    folder = "/sys/bus/event_source/devices/power"
    files = {
        f"{folder}/type": f"{pmu}\n",
        f"{folder}/cpumask": ",".join(map(str, packages)) + "\n",
        f"{folder}/format/event": "config:0-7\n",
    }
    for cpu, package in packages.items():
        topology = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{topology}/physical_package_id"] = f"{package}\n"
        files[f"{topology}/die_id"] = f"{(dies or {}).get(cpu, 0)}\n"
    for name in events:
        files[f"{folder}/events/{name}"] = f"event=0x{POWER_EVENTS[name]:02x}\n"
        files[f"{folder}/events/{name}.scale"] = "2.3283064365386962890625e-10\n"
        files[f"{folder}/events/{name}.unit"] = "Joules\n"
    return files


@dataclass(frozen=True, kw_only=True)
class Stat:
    """A scripted `/proc/stat`: so many CPUs, and how many of them are busy, stolen or waiting for I/O.

    `follows_real`: what the real machine's CPUs did since the start comes on top, so that the commands
    under test are seen; the scripted machine should then have as many more CPUs.
    """

    cpus: int = 4
    neighbour_cpus: float = 0.0
    steal_cpus: float = 0.0
    iowait_cpus: float = 0.0
    follows_real: bool = False


@dataclass(frozen=True, kw_only=True)
class _Description:
    """What `machine.json` holds. `real_idle_s`: the real machine's idle CPU seconds at the start."""

    epoch_s: float
    real_idle_s: float
    zones: tuple[Zone, ...]
    stat: Stat | None
    signals: tuple[Signal, ...] = ()
    events: tuple[PowerEvent, ...] = ()
    faults: dict[str, tuple[Fault, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, root: str) -> _Description:
        raw: dict[str, Any] = json.loads(Path(root, _DESCRIPTION).read_text())
        return cls(
            epoch_s=raw["epoch_s"],
            real_idle_s=raw["real_idle_s"],
            zones=tuple(Zone(**_values(zone)) for zone in raw["zones"]),
            signals=tuple(Signal(**_values(signal)) for signal in raw["signals"]),
            events=tuple(PowerEvent(**_values(event)) for event in raw["events"]),
            stat=None if raw["stat"] is None else Stat(**raw["stat"]),
            faults={path: _faults(faults) for path, faults in raw["faults"].items()},
        )


def _values(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of a described part, its power and faults made whole."""
    faults = {"faults": _faults(raw["faults"])} if "faults" in raw else {}
    return {**raw, "power": Power(**raw["power"]), **faults}


def _faults(raw: list[dict[str, Any]]) -> tuple[Fault, ...]:
    return tuple(Fault(**fault) for fault in raw)


def _real_idle_s() -> float:
    """CPU seconds in which the real machine had nothing to do or was not there: idle, iowait, steal.

    What they leave of the CPUs' time is the best that is to be had of its load: on a tickless kernel the
    idle columns are exact, while the busy ones are sampled by the tick and miss what sleeps in between.
    """
    words = Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()
    return sum(int(words[column]) for column in (4, 5, 8)) / os.sysconf("SC_CLK_TCK")


# --- what the machine shows at a moment -------------------------------------------------------------


class World:
    """The machine of a description as seen from this process at the time of `clock`."""

    def __init__(self, description: _Description, clock: Callable[[], float] = time.monotonic) -> None:
        self.description = description
        self.clock = clock
        self._zones = {zone.folder: zone for zone in description.zones}
        self._integrals: dict[str, tuple[float, float, float]] = {}
        self._real_busy_s = 0.0

    def now_s(self) -> float:
        """Seconds since the machine's start."""
        return self.clock() - self.description.epoch_s

    def busy_s(self, t_s: float) -> float:
        """Busy CPU seconds of the machine since its start; the real part is that of this moment."""
        stat = self.description.stat
        scripted = stat.neighbour_cpus * t_s if stat is not None else 0.0
        if stat is not None and not stat.follows_real:
            return scripted
        idle_s = _real_idle_s() - self.description.real_idle_s
        busy_s = (os.cpu_count() or 1) * t_s - idle_s
        self._real_busy_s = max(self._real_busy_s, busy_s)  # idle time comes in steps: no counter runs back
        return scripted + self._real_busy_s

    def zone_j(self, folder: str, t_s: float) -> float:
        """Joules that the zone used since the machine's start."""
        return self.joules(folder, self._zones[folder].power, t_s)

    def joules(self, name: str, power: Power, t_s: float) -> float:
        """Joules by a power function since the machine's start; `name` keeps apart what is integrated."""
        if not power.per_cpu_w:
            return power.fixed_j(t_s)
        if power.exponent == 1.0:
            return power.fixed_j(t_s) + power.per_cpu_w * self.busy_s(t_s)
        return power.fixed_j(t_s) + self._integrated_j(name, power, t_s)

    def watts(self, power: Power, t_s: float) -> float:
        """Power at a moment. Raises ValueError where it follows the real load, which has no moment."""
        stat = self.description.stat
        if power.per_cpu_w and (stat is None or stat.follows_real):
            raise ValueError("the power at a moment of a real load is not known")
        busy = stat.neighbour_cpus if stat is not None else 0.0
        ramp_w = power.ramp_w_per_s * min(t_s, power.ramp_ends_s)
        return power.base_w + ramp_w + power.per_cpu_w * busy**power.exponent

    def signal_text(self, signal: Signal, t_s: float) -> bytes:
        """What a signal's file shows: refreshed, wrapped, in its own words."""
        if signal.update_period_s:
            t_s = math.floor(t_s / signal.update_period_s) * signal.update_period_s
        words: dict[str, int] = {"us": round(t_s * 1e6)}
        if any(f"{{{word}}}" in signal.form for word in ("uj", "j")):
            counted_j = signal.start_j + self.joules(signal.path, signal.power, t_s)
            if signal.range_j:
                counted_j %= signal.range_j
            words |= {"uj": round(counted_j * 1e6), "j": math.floor(counted_j)}
        else:
            watts = self.watts(signal.power, t_s)
            scales = {"uw": 1e6, "mw": 1e3, "w": 1.0, "ma": 1e3 / signal.volts, "ua": 1e6 / signal.volts}
            words |= {word: round(watts * scale) for word, scale in scales.items()}
        return (signal.form.format(**words) + "\n").encode()

    def _integrated_j(self, folder: str, power: Power, t_s: float) -> float:
        stat = self.description.stat
        if stat is not None and not stat.follows_real:
            return power.per_cpu_w * stat.neighbour_cpus**power.exponent * t_s
        busy_s = self.busy_s(t_s)
        before_s, before_busy_s, joules = self._integrals.get(folder, (0.0, 0.0, 0.0))
        if t_s > before_s:
            mean = max(busy_s - before_busy_s, 0.0) / (t_s - before_s)
            joules += power.per_cpu_w * mean**power.exponent * (t_s - before_s)
            self._integrals[folder] = (t_s, busy_s, joules)
        return joules

    def counter_uj(self, folder: str, t_s: float) -> int:
        """What `energy_uj` shows: refreshed, reset, wrapped."""
        zone = self._zones[folder]
        if zone.mirror_of:
            return self.counter_uj(zone.mirror_of, t_s)
        if zone.update_period_s:
            t_s = math.floor(t_s / zone.update_period_s) * zone.update_period_s
        counted_uj = zone.start_uj + round(self.zone_j(folder, t_s) * 1e6)
        past = [at_s for at_s in zone.resets_at_s if at_s <= t_s]
        if past:
            counted_uj -= zone.start_uj + round(self.zone_j(folder, max(past)) * 1e6)
        return counted_uj % zone.range_uj if zone.range_uj else counted_uj

    def proc_stat(self, t_s: float) -> bytes:
        stat = self.description.stat
        if stat is None:
            return Path("/proc/stat").read_bytes()
        busy = self.busy_s(t_s) / stat.cpus
        steal, iowait = stat.steal_cpus * t_s / stat.cpus, stat.iowait_cpus * t_s / stat.cpus
        idle = max(t_s - busy - steal - iowait, 0.0)
        columns_s = (busy, idle, iowait, steal)
        share = [int(seconds * TICKS_PER_S) for seconds in columns_s]
        # The kernel adds nanoseconds up over all CPUs and cuts the sum to ticks once.
        lines = [_stat_line("cpu", [int(seconds * stat.cpus * TICKS_PER_S) for seconds in columns_s])]
        lines += [_stat_line(f"cpu{number}", share) for number in range(stat.cpus)]
        return ("\n".join([*lines, "ctxt 1", "btime 1700000000", "processes 1", ""])).encode()


def _stat_line(name: str, ticks: Sequence[int]) -> str:
    busy, idle, iowait, steal = ticks
    return f"{name} {busy} 0 0 {idle} {iowait} 0 0 {steal} 0 0"


class SimulatedFile:
    """A kept file whose content is computed at each read, faults first."""

    def __init__(self, world: World, content: Callable[[float], bytes], faults: Sequence[Fault]) -> None:
        self._world = world
        self._content = content
        self._faults = faults
        self._count = 0
        self._is_closed = False

    def read(self) -> bytes:
        if self._is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        count, self._count = self._count, self._count + 1
        t_s = self._world.now_s()
        for fault in self._faults:
            if fault.holds(count, t_s):
                return self._faulty(fault)
        return self._content(t_s)

    def close(self) -> None:
        self._is_closed = True

    def _faulty(self, fault: Fault) -> bytes:
        if fault.kind.startswith("E"):
            code: int = getattr(errno, fault.kind)
            raise OSError(code, os.strerror(code))
        if fault.kind == "block":
            time.sleep(fault.value)
            return self._content(self._world.now_s())
        if fault.kind == "backwards":
            return b"%d\n" % (int(self._content(self._world.now_s())) - int(fault.value))
        return {"text": b"<unknown>\n", "empty": b"", "garbage": b"%d\n" % int(fault.value)}[fault.kind]


def opener(root: str, world: World) -> Callable[[str], File]:
    zones = {zone.path: zone for zone in world.description.zones}
    signals = {signal.path: signal for signal in world.description.signals}
    root = root.rstrip("/")

    def open_file(path: str) -> File:
        name = path.removeprefix(root)
        faults = world.description.faults.get(name, ())
        zone, signal = zones.get(name), signals.get(name)
        for part in (zone, signal):
            faults = (*part.faults, *faults) if part is not None else faults
        if any(fault.kind == "EACCES" for fault in faults):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if zone is not None:
            return SimulatedFile(world, lambda t_s: b"%d\n" % world.counter_uj(zone.folder, t_s), faults)
        if signal is not None:
            return SimulatedFile(world, lambda t_s: world.signal_text(signal, t_s), faults)
        if name == "/proc/stat":
            return SimulatedFile(world, world.proc_stat, faults)
        real = KeptFile(path if os.path.exists(path) or not name.startswith("/proc/") else name)
        return SimulatedFile(world, lambda _: real.read(), faults) if faults else real

    return open_file


class SimulatedEvent:
    """An opened counter of a `PowerEvent`."""

    def __init__(self, world: World, event: PowerEvent) -> None:
        self._world, self._event = world, event
        self._first_j = self._joules()

    def count(self) -> int:
        return int((self._joules() - self._first_j) / self._event.scale_j)

    def close(self) -> None:
        """Nothing is kept open."""

    def _joules(self) -> float:
        name = f"{self._event.config} on {self._event.cpu}"
        return self._world.joules(name, self._event.power, self._world.now_s())


def event_opener(world: World) -> Callable[[int, int, int], SimulatedEvent]:
    """`open_event` of a machine: its `PowerEvent`s, and no other."""
    events = {(event.pmu, event.config, event.cpu): event for event in world.description.events}

    def open_event(kind: int, config: int, cpu: int) -> SimulatedEvent:
        event = events.get((kind, config, cpu))
        fault = "ENOENT" if event is None else event.fault
        if event is None or fault:
            code: int = getattr(errno, fault)
            raise OSError(code, os.strerror(code))
        return SimulatedEvent(world, event)

    return open_event


def simulated(root: str, clock: Callable[[], float] = time.monotonic) -> Machine:
    """The machine of a root, from the `machine.json` in there."""
    world = World(_Description.load(root), clock)
    return Machine(root, open_file=opener(root, world), open_event=event_opener(world))


class SimulatedMachine:
    """Writes a simulated machine into a folder and speaks for its truth.

    `machine` is the `Machine` for use in this process. `files` are further files with a fixed content, by
    absolute path; `faults` may name any file so. `clock` is for use in this process alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        zones: Sequence[Zone] = (),
        signals: Sequence[Signal] = (),
        events: Sequence[PowerEvent] = (),
        files: Mapping[str, str] | None = None,
        stat: Stat | None = None,
        faults: dict[str, tuple[Fault, ...]] | None = None,
        cpu_model: str = "Simulated CPU @ 2.00GHz",
        cpus: int | None = None,
        memory_bytes: int = 16 * 2**30,
        environ: dict[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = str(folder)
        description = _Description(
            epoch_s=clock(),
            real_idle_s=_real_idle_s(),
            zones=tuple(zones),
            signals=tuple(signals),
            events=tuple(events),
            stat=stat,
            faults=faults or {},
        )
        self.world = World(description, clock)
        self._write(_DESCRIPTION, json.dumps(asdict(description)))
        self._write_proc(cpu_model, cpus or (stat.cpus if stat else os.cpu_count() or 1), memory_bytes)
        for zone in zones:
            self._write_zone(zone)
        for signal in signals:
            self._write(signal.path, "0\n")
        for path, text in (files or {}).items():
            self._write(path, text)
        self.machine = Machine(
            self.root,
            open_file=opener(self.root, self.world),
            open_event=event_opener(self.world),
            environ=environ,
        )

    def now_s(self) -> float:
        return self.world.now_s()

    def true_energy_j(self, channel: str, start_s: float, end_s: float) -> float:
        """Joules of a channel (`cpu0/package`) or zone folder between two times of the monotonic clock.

        Raises ValueError where the power follows the real load, which nobody can tell afterwards: take
        `energy_j` at both edges instead.
        """
        zone = self._zone(channel)
        stat = self.world.description.stat
        if zone.power.per_cpu_w and (stat is None or stat.follows_real):
            raise ValueError(f"{channel} follows the real load")
        epoch_s = self.world.description.epoch_s
        return self.world.zone_j(zone.folder, end_s - epoch_s) - self.world.zone_j(
            zone.folder, start_s - epoch_s
        )

    def energy_j(self, channel: str) -> float:
        """Joules of a channel from the machine's start until now."""
        return self.world.zone_j(self._zone(channel).folder, self.now_s())

    def _zone(self, channel: str) -> Zone:
        zones = self.world.description.zones
        for zone in zones:
            if channel in (zone.folder, _channel_id(zone, zones)):
                return zone
        raise KeyError(channel)

    def _write(self, name: str, text: str) -> None:
        path = Path(self.root, name.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _write_zone(self, zone: Zone) -> None:
        folder = f"{POWERCAP}/{zone.folder}"
        self._write(f"{folder}/name", zone.name + "\n")
        self._write(f"{folder}/energy_uj", f"{zone.start_uj}\n")
        if zone.range_uj is not None:
            self._write(f"{folder}/max_energy_range_uj", f"{zone.range_uj}\n")
        if zone.max_power_uw is not None:
            self._write(f"{folder}/constraint_0_max_power_uw", f"{zone.max_power_uw}\n")

    def _write_proc(self, cpu_model: str, cpus: int, memory_bytes: int) -> None:
        vendor = "AuthenticAMD" if cpu_model.startswith("AMD ") else "GenuineIntel"
        blocks = [
            f"processor\t: {n}\nvendor_id\t: {vendor}\nmodel name\t: {cpu_model}\n"
            f"physical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {n}\ncpu cores\t: {cpus}\n"
            for n in range(cpus)
        ]
        total_kb = memory_bytes // 1024
        self._write("/proc/cpuinfo", "\n".join(blocks) + "\n")
        self._write("/proc/meminfo", f"MemTotal: {total_kb} kB\nMemFree: {total_kb // 2} kB\n")
        self._write("/proc/stat", self.world.proc_stat(0.0).decode())


def _channel_id(zone: Zone, zones: Sequence[Zone]) -> str:
    """The id that emt gives to a plain zone; dies and mirrors go by their folder."""
    if zone.name == "psys":
        return "node/psys"
    if zone.name.startswith("package-"):
        return f"cpu{zone.name.split('-')[1]}/package"
    parent = next((z for z in zones if z.folder == zone.folder.rpartition(":")[0]), None)
    device = _channel_id(parent, zones).partition("/")[0] if parent else "node"
    return f"{device}/{zone.name}"
