"""RAPL through powercap: the energy counters that Intel and AMD processors keep themselves.

- Interface: `/sys/class/powercap/<control>:<n>[:<m>]/energy_uj`; control `intel-rapl` (AMD too) or
  `intel-rapl-mmio`. `name` tells the domain: package-N, package-N-die-M, core, uncore, dram, psys.
- Unit 1 uJ; the register steps by 61 uJ (2^-14 J), by 15.3 uJ for server DRAM and AMD, by 1 J for psys of
  Sapphire Rapids, and is refreshed about every millisecond. It wraps after `max_energy_range_uj`, which is
  2^32 - 1 steps: 262 kJ on Intel, 65.5 kJ on AMD.
- Rights: `energy_uj` is readable by root only since Linux 5.10 (CVE-2020-8694, AMD CVE-2020-12912).
- Containment: psys > package > core, uncore; DRAM stands beside the package (inside psys on clients).
- Known lies: `intel-rapl-mmio` mirrors `intel-rapl`; the dies of an AMD package repeat one counter
  (codecarbon #1274, #1379), those of an Intel Cascade Lake-AP are real; AMD's core zone shows the register
  of a single core; servers from Haswell-EP on have no core zone; suspend and a driver reload reset the
  counters.

Sources: Linux Documentation/power/powercap/powercap.rst, drivers/powercap/intel_rapl_common.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, File, Machine
from emt_cli.sensors.vendor import AMD, cpu_vendor
from emt_cli.units import JOULES_PER_MICROJOULE

NAME = "powercap"
FOLDER = "/sys/class/powercap"
UNIT_J = JOULES_PER_MICROJOULE
RESOLUTION_J = 61e-6
"""The coarsest common step: 2^-14 J (Intel SDM volume 3B, RAPL energy status units)."""
_REGISTER_STEPS = 2**32 - 1
"""ENERGY_STATUS_MASK of the driver: `max_energy_range_uj` is so many steps."""
_STEPS_J = (1e-6, 2.0)
"""What a step can be; a range that tells something else is no register's."""
UPDATE_PERIOD_S = 1e-3

REMEDY = (
    "let a group read them: sudo groupadd -f emt; sudo usermod -aG emt $USER; "
    f"echo 'z {FOLDER}/intel-rapl*/energy_uj 0440 root emt' | sudo tee /etc/tmpfiles.d/emt.conf; "
    "sudo systemd-tmpfiles --create emt.conf; then log in again. Or run emt as root."
)

_RELOAD = "see dmesg; reload the driver: sudo modprobe -r intel_rapl_msr; sudo modprobe intel_rapl_msr"

_DEFAULT_MAX_W = 2000.0
_LEAST_MAX_W = 500.0
_MOST_CREDIBLE_W = 5000.0
"""A stated package maximum above this is firmware garbage, not a package."""


class _Zone(NamedTuple):
    """One powercap zone: `folder` below FOLDER, and where its name and its parents place it."""

    folder: str
    name: str
    device: str
    domain: str
    die: int | None

    @property
    def control(self) -> str:
        return self.folder.partition(":")[0]

    @property
    def parent(self) -> str:
        """The folder of the enclosing zone; of a top-level zone, the control's, which is no zone."""
        return self.folder.rpartition(":")[0]

    @property
    def is_top(self) -> bool:
        return self.folder.count(":") == 1


class Powercap:
    """The readable zones as counters. `unreadable` names the zones that are there but cannot be read, and
    `remedy` says what to do about them."""

    name = NAME
    min_period_s = UPDATE_PERIOD_S

    def __init__(
        self,
        channels: Iterable[Channel],
        files: Iterable[File],
        unreadable: tuple[str, ...],
        remedy: str = "",
    ) -> None:
        self.channels: Sequence[Channel] = tuple(channels)
        self.unreadable = unreadable
        self.remedy = remedy
        self._files = tuple(files)
        self._reads = tuple(file.read for file in self._files)

    def read(self) -> list[Reading | Gap]:
        readings: list[Reading | Gap] = []
        add, now, reading = readings.append, monotonic, Reading
        for read in self._reads:
            text = b""
            try:
                text = read()
                value = int(text)
            except OSError as error:
                add(Gap(now(), error.strerror or str(error)))
            except ValueError:
                add(Gap(now(), f"not a number: {text[:20]!r}" if text.strip() else "empty"))
            else:
                add(reading(now(), value) if value >= 0 else Gap(now(), f"negative: {value}"))
        return readings

    def close(self) -> None:
        for file in self._files:
            file.close()


def open_powercap(machine: Machine) -> Powercap:
    """Every readable RAPL zone. Raises Absent where there is none, Denied where none may be read."""
    zones = _zones(machine)
    files: dict[str, File] = {}
    locked: list[str] = []
    broken: list[str] = []
    for zone in zones:
        path = f"{FOLDER}/{zone.folder}/energy_uj"
        try:
            files[zone.folder] = machine.keep(path)
        except PermissionError:
            locked.append(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            broken.append(f"{path}: {error.strerror or error}")
    if not files:
        _refuse(locked, broken)
    readable = [zone for zone in zones if zone.folder in files]
    channels = _channels(machine, readable, files)
    remedy = REMEDY if locked else _RELOAD if broken else ""
    return Powercap(channels, (files[zone.folder] for zone in readable), tuple(locked + broken), remedy)


def _refuse(locked: list[str], broken: list[str]) -> None:
    if locked:
        raise Denied(
            f"permission denied: {locked[0]} (and all {len(locked)} RAPL energy counters); "
            "since Linux 5.10 only root may read them",
            hint=REMEDY,
        )
    if broken:
        raise Denied(broken[0], hint=_RELOAD)
    raise Absent(f"no RAPL zone under {FOLDER}")


def _zones(machine: Machine) -> list[_Zone]:
    """All zones, placed by their names; those of the plain control first, parents before children."""
    found: dict[str, _Zone] = {}
    folders = [name for name in machine.names(FOLDER) if _is_zone(name)]
    for folder in sorted(folders, key=_order):
        try:
            name = machine.text(f"{FOLDER}/{folder}/name")
        except OSError:
            continue
        found[folder] = _place(folder, name, found.get(folder.rpartition(":")[0]))
    return list(found.values())


def _is_zone(folder: str) -> bool:
    control, *numbers = folder.split(":")
    return "rapl" in control and bool(numbers) and all(number.isdecimal() for number in numbers)


def _order(folder: str) -> tuple[int, str, list[int]]:
    control, *numbers = folder.split(":")
    return len(control), control, [int(number) for number in numbers]


def _place(folder: str, name: str, parent: _Zone | None) -> _Zone:
    """What a zone covers. A zone of an unknown name keeps its name as its domain."""
    kind, *rest = name.split("-")
    numbers = [int(part) for part in rest if part.isdecimal()]
    if kind == "package" and numbers:
        return _Zone(folder, name, f"cpu{numbers[0]}", "package", numbers[1] if "die" in rest else None)
    if kind == "psys":
        return _Zone(folder, name, "node", f"psys{numbers[0]}" if any(numbers) else "psys", None)
    domain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "unnamed"
    if parent is not None:
        return _Zone(folder, name, parent.device, domain, parent.die)
    return _Zone(folder, name, "node", domain, None)


class _Cover(NamedTuple):
    """How the zones lie in each other: `ids` by folder, `survivor` the id that counts for a folder,
    `packages` the readable packages by device and die."""

    ids: dict[str, str]
    survivor: dict[str, str]
    packages: dict[tuple[str, int | None], str]
    psys: str | None
    is_amd: bool

    def package(self, zone: _Zone) -> str | None:
        """The channel of the package that a sub-zone is a part of: its parent, or what stands in for it."""
        return self.survivor.get(zone.parent) or self.packages.get((zone.device, zone.die))


def _channels(machine: Machine, zones: list[_Zone], files: dict[str, File]) -> list[Channel]:
    """One channel per zone, in order. A mirror keeps an id of its own, and is dropped."""
    twins = _mirrors(machine, zones, files)
    ids = _ids(zones, twins)
    survivor = {folder: ids[twins.get(folder, folder)] for folder in ids}
    has_cores = any(zone.domain == "core" for zone in zones)
    cover = _Cover(
        ids=ids,
        survivor=survivor,
        packages={
            (zone.device, zone.die): survivor[zone.folder] for zone in zones if zone.domain == "package"
        },
        psys=next((ids[zone.folder] for zone in zones if zone.domain == "psys"), None),
        is_amd=has_cores and cpu_vendor(machine) in AMD,
    )
    return [_channel(machine, zone, cover) for zone in zones]


def _mirrors(machine: Machine, zones: list[_Zone], files: dict[str, File]) -> dict[str, str]:
    """The zones that repeat another one, by folder: same place in another control, or same counter."""
    kept: dict[tuple[str, str], list[_Zone]] = {}
    twins: dict[str, str] = {}
    for zone in zones:
        peers = kept.setdefault((zone.device, zone.domain), [])
        for peer in peers:
            foreign = peer.control != zone.control and peer.name == zone.name
            if foreign or _is_one_counter(machine, peer, files[peer.folder], files[zone.folder]):
                twins[zone.folder] = peer.folder
                break
        else:
            peers.append(zone)
    return twins


def _is_one_counter(machine: Machine, zone: _Zone, one: File, two: File) -> bool:
    """Whether two files show the same register: each value lies between two readings of the other.

    The slack is what the most hungry package uses in two refreshes, since the two may refresh apart.
    """
    slack = _max_power_w(machine, zone) * 2 * UPDATE_PERIOD_S / UNIT_J
    for outer, inner in ((one, two), (two, one)):
        try:
            before, between, after = (int(file.read()) for file in (outer, inner, outer))
        except (OSError, ValueError):
            return False
        if not before - slack <= between <= after + slack:
            return False
    return True


def _ids(zones: list[_Zone], twins: dict[str, str]) -> dict[str, str]:
    """`cpu0/package`; `cpu0/package-die1` where the dies count apart and for mirrors; `-mmio` likewise."""
    ids: dict[str, str] = {}
    for zone in zones:
        place = (zone.device, zone.domain)
        originals = [z for z in zones if (z.device, z.domain) == place and z.folder not in twins]
        suffix = "" if zone.die is None else f"-die{zone.die}"
        if zone.folder in twins and zone.control != "intel-rapl":
            suffix += "-" + zone.control.rpartition("-")[2]
        name = f"{zone.device}/{zone.domain}"
        if len(originals) > 1 or zone.folder in twins:
            name += suffix
        if name in ids.values():
            name += "-" + zone.folder.partition(":")[2].replace(":", ".")
        ids[zone.folder] = name
    return ids


def _channel(machine: Machine, zone: _Zone, cover: _Cover) -> Channel:
    range_uj = machine.number(f"{FOLDER}/{zone.folder}/max_energy_range_uj") or 0
    return Channel(
        id=cover.ids[zone.folder],
        sensor=NAME,
        device=zone.device,
        domain="psys" if zone.domain.startswith("psys") else zone.domain,
        kind="counter",
        provenance="measured",
        source=f"{FOLDER}/{zone.folder} ({zone.name})",
        within=_within(zone, cover),
        unit=UNIT_J,
        range_raw=range_uj if range_uj > 0 else None,
        resolution_j=_resolution_j(range_uj),
        update_period_s=UPDATE_PERIOD_S,
        max_power_w=_max_power_w(machine, zone),
        note="" if range_uj > 0 else "the kernel does not tell the range: a wrap shows as a gap",
        dropped=_dropped(zone, cover),
    )


def _resolution_j(range_uj: int) -> float:
    """A step of the register, by its range; the coarsest common one where the range tells none."""
    step_j = range_uj * UNIT_J / _REGISTER_STEPS
    return step_j if _STEPS_J[0] <= step_j <= _STEPS_J[1] else RESOLUTION_J


def _within(zone: _Zone, cover: _Cover) -> str | None:
    """The containing channel. DRAM stands beside the package. psys of a second socket lies within the
    first: where both exist the first one sees the platform."""
    if not zone.is_top and zone.domain != "dram":
        return cover.package(zone)
    return cover.psys if cover.psys != cover.ids[zone.folder] else None


def _dropped(zone: _Zone, cover: _Cover) -> str:
    survivor = cover.survivor[zone.folder]
    if survivor != cover.ids[zone.folder]:
        return f"mirror of {survivor}"
    if not zone.is_top and zone.domain != "dram" and cover.package(zone) is None:
        return "a part of a package whose own counter cannot be read"
    if zone.domain == "core" and cover.is_amd:
        return "AMD's register is that of one core, not of all"
    if zone.is_top and zone.domain != "package" and not zone.domain.startswith("psys"):
        return "what this zone covers is not known"
    return ""


def _max_power_w(machine: Machine, zone: _Zone) -> float:
    """Twice the stated maximum (turbo exceeds it), at least 500 W; 2000 W where none is stated."""
    stated_w = (machine.number(f"{FOLDER}/{zone.folder}/constraint_0_max_power_uw") or 0) * UNIT_J
    if not 0 < stated_w <= _MOST_CREDIBLE_W:
        return _DEFAULT_MAX_W
    return max(2 * stated_w, _LEAST_MAX_W)
