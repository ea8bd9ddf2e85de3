"""RAPL through perf's `power` PMU: the registers of `powercap`, summed up by the kernel in 64 bits.

- Interface: `/sys/bus/event_source/devices/power/`: `type`, `cpumask` (one CPU of every package or die),
  `format/event`, and for every event `events/NAME` (`event=0x02`), `NAME.scale` and `NAME.unit` (`Joules`).
  energy-pkg is the package, energy-cores the cores, energy-gpu the built-in GPU (powercap's uncore),
  energy-ram the DRAM, energy-psys the platform. An event counts for one CPU of the mask: without one on every
  CPU of it sockets are lost. AMD's `power_core` PMU (one event a core) is left alone.
- Unit: what `scale` says, 2^-32 J; the register behind it steps by 61 or 15.3 uJ about every millisecond.
  A count begins at 0 when the event is opened and never wraps: the kernel reads the register in time.
- Rights: CAP_PERFMON, or `kernel.perf_event_paranoid` 0 or less (upstream 2, Debian 3, Ubuntu 4: refused
  with EACCES); a container's seccomp filter refuses with EPERM.
- Containment: as in `powercap`, whose ids these are: psys > package > core, uncore; DRAM beside the package.
- Known lies: up to Linux 6.11 AMD's mask names a CPU of every core complex die from Zen 4 on, and all of
  a package show the same register; on Intel a second die of a package has its own (Cascade Lake-AP). A
  package's register stands for the whole of psys too, so that is counted on the first CPU alone; on Sapphire
  Rapids psys steps by 1 J. Before Linux 5.17 AMD had all five events, and only energy-pkg was real.

Sources: Linux arch/x86/events/rapl.c, Documentation/admin-guide/perf-security.rst, perf_event_open(2).
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import NamedTuple

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Event, Machine
from emt_cli.sensors.vendor import AMD, cpu_vendor

NAME = "perf"
FOLDER = "/sys/bus/event_source/devices/power"
CPUS = "/sys/devices/system/cpu"
RESOLUTION_J = 61e-6
"""The coarsest common step: 2^-14 J (Intel SDM volume 3B, RAPL energy status units)."""
UPDATE_PERIOD_S = 1e-3

DOMAINS = {
    "energy-pkg": "package",
    "energy-cores": "core",
    "energy-gpu": "uncore",
    "energy-ram": "dram",
    "energy-psys": "psys",
}
"""Packages first: their parts look for them."""

REMEDY = (
    "load the driver whose counters can be given to one group alone: sudo modprobe intel_rapl_msr; "
    "or let every user of this machine read perf's: sudo sysctl kernel.perf_event_paranoid=0; "
    "or run emt as root."
)
CONTAINER_REMEDY = (
    "in a container, start it with the capability: docker run --cap-add PERFMON ...; "
    "else run emt as root, or look for a kernel lockdown: cat /sys/kernel/security/lockdown"
)
BROKEN_REMEDY = "see dmesg | grep -i rapl; powercap reads the same counters: sudo modprobe intel_rapl_msr"

_MOST_CPUS = 8192
"""CONFIG_NR_CPUS ends here."""
_NO_SUCH_EVENT = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP})


class _Kind(NamedTuple):
    """An event as the PMU describes it."""

    name: str
    domain: str
    config: int
    scale_j: float


class _Place(NamedTuple):
    """A CPU of the mask and the package that it stands for.

    `die` is how its ids end where the dies of the package count apart; with `shares_register` they all show
    one, and the first that can be had counts.
    """

    cpu: int
    package: int
    die: str = ""
    shares_register: bool = False


class _Counter(NamedTuple):
    """An opened event."""

    kind: _Kind
    place: _Place
    event: Event


class PerfPower:
    """The events that were opened, as counters. `unreadable` names those that exist on one CPU of the mask
    and could not be had on another, and `remedy` says what to do about them."""

    name = NAME
    min_period_s = UPDATE_PERIOD_S

    def __init__(self, counters: Sequence[_Counter], unreadable: tuple[str, ...] = ()) -> None:
        self.channels: Sequence[Channel] = _channels(counters)
        self.unreadable = unreadable
        self.remedy = BROKEN_REMEDY if unreadable else ""
        self._events = tuple(counter.event for counter in counters)
        self._counts = tuple(event.count for event in self._events)

    def read(self) -> list[Reading | Gap]:
        readings: list[Reading | Gap] = []
        add, now, reading = readings.append, monotonic, Reading
        for count in self._counts:
            try:
                value = count()
            except OSError as error:
                add(Gap(now(), error.strerror or str(error)))
            else:
                add(reading(now(), value))
        return readings

    def close(self) -> None:
        for event in self._events:
            event.close()


def open_perf_power(machine: Machine) -> PerfPower:
    """Every energy event on every CPU of the mask. Raises Absent where there is no such PMU, or none of its
    events, and Denied where the kernel lets nobody without rights count them."""
    pmu = machine.number(f"{FOLDER}/type")
    if pmu is None:
        raise Absent(f"no power PMU: {FOLDER}")
    is_amd = cpu_vendor(machine) in AMD
    kinds = [kind for kind in _kinds(machine) if kind.domain == "package" or not is_amd]
    if not kinds:
        raise Absent(f"no energy event in joules under {FOLDER}/events")
    places = _places(machine, shares_register=is_amd)
    counters: list[_Counter] = []
    missing: list[tuple[_Kind, _Place]] = []
    for kind in kinds:
        for place in places[:1] if kind.domain == "psys" else places:
            try:
                event = machine.open_event(pmu, kind.config, place.cpu)
            except OSError as error:
                if error.errno not in _NO_SUCH_EVENT:
                    _close(counters)
                    raise _refusal(machine, error) from error
                missing.append((kind, place))
            else:
                counters.append(_Counter(kind, place, event))
    if not counters:
        raise Absent("the kernel knows none of the power PMU's events")
    return PerfPower(counters, _lost(missing, counters))


def _close(counters: Sequence[_Counter]) -> None:
    for counter in counters:
        counter.event.close()


def _refusal(machine: Machine, error: OSError) -> Denied:
    if error.errno == errno.EACCES:
        level = machine.number("/proc/sys/kernel/perf_event_paranoid")
        found = "" if level is None else f" (it is {level})"
        reason = (
            "permission denied: energy events want CAP_PERFMON or kernel.perf_event_paranoid 0 or less"
            + found
        )
        return Denied(reason, hint=REMEDY)
    if error.errno == errno.EPERM:
        return Denied(
            "not permitted: a container or a locked-down kernel refuses perf", hint=CONTAINER_REMEDY
        )
    return Denied(f"energy events cannot be opened: {error.strerror or error}", hint=BROKEN_REMEDY)


def _lost(missing: Sequence[tuple[_Kind, _Place]], counters: Sequence[_Counter]) -> tuple[str, ...]:
    """The events that are missing on a CPU but not on all: a package that would be lost without a word."""
    known = {counter.kind.name for counter in counters}
    return tuple(f"{kind.name} on CPU {place.cpu}" for kind, place in missing if kind.name in known)


# --- what the PMU says of itself --------------------------------------------------------------------


def _kinds(machine: Machine) -> Iterator[_Kind]:
    """The known events that are described, in joules, with a scale; any other one is passed over."""
    for name, domain in DOMAINS.items():
        path = f"{FOLDER}/events/{name}"
        try:
            config = _config(machine, machine.text(path))
            if machine.text(f"{path}.unit") != "Joules":
                continue
            scale_j = float(machine.text(f"{path}.scale"))
        except (OSError, ValueError):
            continue
        if scale_j > 0 and math.isfinite(scale_j):
            yield _Kind(name, domain, config, scale_j)


def _config(machine: Machine, terms: str) -> int:
    """`attr.config` of `event=0x02`, each value put into the bits that `format/NAME` gives to it.

    Raises ValueError for a term that is no number or lies in another field of the attribute.
    """
    config = 0
    for term in terms.split(","):
        name, _, value = term.partition("=")
        try:
            form = machine.text(f"{FOLDER}/format/{name}")
        except FileNotFoundError:
            form = "config:0-7"
        field, _, bits = form.partition(":")
        if field != "config":
            raise ValueError(form)
        config |= _placed(int(value or "1", 0), bits)
    return config


def _placed(value: int, bits: str) -> int:
    """A value spread over bits such as `0-7` or `0-7,32-35`. Raises ValueError if it does not fit."""
    config = 0
    for each in bits.split(","):
        first, _, last = each.partition("-")
        width = int(last or first) - int(first) + 1
        config |= (value & ((1 << width) - 1)) << int(first)
        value >>= width
    if value:
        raise ValueError(bits)
    return config


def _places(machine: Machine, *, shares_register: bool) -> list[_Place]:
    """The CPUs of the mask with their packages. Raises Denied where the mask is no list of CPUs."""
    try:
        cpus = _cpu_list(machine.text(f"{FOLDER}/cpumask"))
    except (OSError, ValueError) as error:
        raise Denied(f"{FOLDER}/cpumask is no list of CPUs: {error}", hint=BROKEN_REMEDY) from error
    found: dict[int, list[int]] = {}
    for position, cpu in enumerate(cpus):
        package = machine.number(f"{CPUS}/cpu{cpu}/topology/physical_package_id")
        found.setdefault(position if package is None or package < 0 else package, []).append(cpu)
    return [
        _Place(cpu, package, die if len(members) > 1 else "", shares_register)
        for package, members in found.items()
        for cpu, die in zip(members, _dies(machine, members), strict=True)
    ]


def _dies(machine: Machine, cpus: Sequence[int]) -> list[str]:
    """`-die0`, `-die1`, ...; the CPU's number where the dies are not told apart."""
    numbers = [machine.number(f"{CPUS}/cpu{cpu}/topology/die_id") for cpu in cpus]
    if None in numbers or len(set(numbers)) < len(cpus):
        return [f"-cpu{cpu}" for cpu in cpus]
    return [f"-die{number}" for number in numbers]


def _cpu_list(text: str) -> list[int]:
    """The CPUs of `0,18` or `0-3,8`. Raises ValueError for anything else, and for more than can be."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not 0 < len(span) <= _MOST_CPUS:
            raise ValueError(text)
        cpus += span
    return cpus


# --- channels ---------------------------------------------------------------------------------------


def _channels(counters: Sequence[_Counter]) -> tuple[Channel, ...]:
    """One channel per event, in order. A mirror keeps an id of its own, and is dropped."""
    ids: dict[tuple[str, int], str] = {}
    mirrors: dict[tuple[str, int], str] = {}
    originals: dict[tuple[str, int], str] = {}
    for kind, place, _ in counters:
        key, of_package = (kind.domain, place.cpu), (kind.domain, place.package)
        name = "node/psys" if kind.domain == "psys" else f"cpu{place.package}/{kind.domain}"
        is_mirror = place.shares_register and of_package in originals
        if is_mirror:
            mirrors[key] = originals[of_package]
        if is_mirror or (not place.shares_register and kind.domain != "psys"):
            name += place.die
        originals.setdefault(of_package, name)
        ids[key] = name
    return tuple(_channel(counter, ids, mirrors) for counter in counters)


def _channel(
    counter: _Counter, ids: dict[tuple[str, int], str], mirrors: dict[tuple[str, int], str]
) -> Channel:
    kind, place, _ = counter
    key = (kind.domain, place.cpu)
    is_part = kind.domain in ("core", "uncore")
    psys = next((id for (domain, _), id in ids.items() if domain == "psys"), None)
    package = ids.get(("package", place.cpu))
    dropped = ""
    if key in mirrors:
        dropped = f"mirror of {mirrors[key]}"
    elif is_part and package is None:
        dropped = "a part of a package whose own counter cannot be read"
    return Channel(
        id=ids[key],
        sensor=NAME,
        device=ids[key].partition("/")[0],
        domain=kind.domain,
        kind="counter",
        provenance="measured",
        source=f"power/{kind.name}/ on CPU {place.cpu}",
        within=package if is_part else psys if kind.domain != "psys" else None,
        unit=kind.scale_j,
        resolution_j=RESOLUTION_J,
        update_period_s=UPDATE_PERIOD_S,
        dropped=dropped,
    )
