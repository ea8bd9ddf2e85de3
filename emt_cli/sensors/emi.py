"""Windows' Energy Meter Interface: energy counters that a driver publishes as a device.

- Interface: devices of the interface class {45BD8344-7ED6-49CF-A440-C276C933B053}; DeviceIoControl with
  IOCTL_EMI_GET_VERSION, _METADATA_SIZE, _METADATA and _MEASUREMENT (emi.h). Version 1 has one channel to a
  device, version 2 (Windows 10 1809) several, each with a name.
- Unit 1 pWh (3.6 nJ), 64 bits, never wraps; with each value a time in 100 ns.
- Names: `RAPL_Package0_PKG`, `_PP0` (cores), `_PP1` (GPU of the package), `_DRAM` on Intel through the power
  engine driver; `RAPL_Package0_Core6_CORE` per core, in devices of their own, and `Current Socket Energy`,
  `VDDCR_VDD Energy` (cores), `VDDCR_SOC Energy` on AMD. Others are listed and, since nobody says what they
  cover, not counted.
- Rights: none as a rule.
- Containment: package > core, uncore, soc; DRAM stands beside the package.
- Known lies: dies of an AMD package repeat one counter under one name in several devices; a second meter of a
  name is a mirror here. Some desktops show a device that answers no request (error 50). Virtual machines
  have none.

Sources: Microsoft, emi.h and "Energy Metering Interface"; System Informer, plugins/ExtendedTools (names).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, Protocol

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.units import JOULES_PER_KWH

NAME = "emi"
UNIT_J = JOULES_PER_KWH * 1e-15
"""A picowatt-hour."""
GET_VERSION, GET_METADATA_SIZE, GET_METADATA, GET_MEASUREMENT = 0x226000, 0x226004, 0x226008, 0x22600C
_PICOWATT_HOURS = 0
"""EmiMeasurementUnitPicowattHours, the only unit that there is."""
_MAKER = 32
"""Bytes of HardwareOEM and of HardwareModel: EMI_NAME_MAX (16) characters each."""
_MEASUREMENT = struct.Struct("<QQ")
"""AbsoluteEnergy and AbsoluteTime of one channel."""
_LARGEST_METADATA = 1 << 16
_MAX_W = 1000.0

_UNKNOWN = "what this meter covers is not known"
_NO_PACKAGE = "a part of a package that has no meter of its own"
_RAPL = re.compile(r"RAPL_Package(\d+)_(?:Core(\d+)_)?(PKG|PP0|PP1|DRAM|CORE)", re.IGNORECASE)
_RAPL_DOMAINS = {"PKG": "package", "PP0": "core", "PP1": "uncore", "DRAM": "dram", "CORE": "core"}
_AMD = {"current socket": "package", "vddcr_vdd": "core", "vddcr_soc": "soc"}


class Device(Protocol):
    """One opened meter. `control` sends a request and gives the answer of at most that many bytes."""

    def control(self, code: int, size: int) -> bytes: ...

    def close(self) -> None: ...


class Place(NamedTuple):
    """What a meter's name says about it: `cpu0/core6` of domain `core`."""

    id: str
    domain: str


# --- the answers, as bytes --------------------------------------------------------------------------


def names_in(version: int, metadata: bytes) -> list[str]:
    """The channels' names in EMI_METADATA_V1 or _V2. Raises ValueError where the bytes are neither."""
    try:
        if version == 1:
            (unit,) = struct.unpack_from("<i", metadata)
            _, length = struct.unpack_from("<HH", metadata, 4 + 2 * _MAKER)
            _check_unit(unit)
            return [_name(metadata, 8 + 2 * _MAKER, length)]
        if version != 2:
            raise ValueError(f"version {version} of the interface is not known")
        _, count = struct.unpack_from("<HH", metadata, 2 * _MAKER)
        at, names = 4 + 2 * _MAKER, []
        for _ in range(count):
            unit, length = struct.unpack_from("<iH", metadata, at)
            _check_unit(unit)
            names.append(_name(metadata, at + 6, length))
            at += 6 + length
        return names
    except struct.error as error:
        raise ValueError(f"the description breaks off: {error}") from error


def energies_in(measurement: bytes, count: int) -> list[int]:
    """The channels' picowatt-hours in EMI_MEASUREMENT_DATA. Raises ValueError where it is too short."""
    if len(measurement) < count * _MEASUREMENT.size:
        raise ValueError(f"{len(measurement)} bytes for {count} channels")
    return [_MEASUREMENT.unpack_from(measurement, at * _MEASUREMENT.size)[0] for at in range(count)]


def _check_unit(unit: int) -> None:
    if unit != _PICOWATT_HOURS:
        raise ValueError(f"unit {unit} is not known")


def _name(metadata: bytes, at: int, length: int) -> str:
    if at + length > len(metadata):
        raise ValueError("the description breaks off in a name")
    return metadata[at : at + length].decode("utf-16-le", "replace").partition("\0")[0].strip()


def place(name: str) -> Place | None:
    """Where a meter of that name belongs; None where that is not known."""
    if match := _RAPL.fullmatch(name):
        package, core, suffix = match.groups()
        domain = _RAPL_DOMAINS[suffix.upper()]
        number = core or ""
        return Place(f"cpu{int(package)}/{domain}{number}", domain)
    kind = re.sub(r"\s+(energy|power)$", "", name.lower())
    domain = _AMD.get(kind, "")
    return Place(f"cpu0/{domain}", domain) if domain else None


# --- the sensor -------------------------------------------------------------------------------------


class Meter(NamedTuple):
    """A device and the names of its channels."""

    device: Device
    names: tuple[str, ...]


def open_emi(
    machine: Machine,
    *,
    find: Callable[[], Sequence[str]] | None = None,
    open_device: Callable[[str], Device] | None = None,
) -> Emi:
    """Raises Absent off Windows and where there is no meter, Denied where none may be read."""
    if machine.platform != "win32":
        raise Absent("no Windows")
    from emt_cli.sensors import emi_devices

    paths = (find or emi_devices.find)()
    meters: list[Meter] = []
    refusals: list[OSError | ValueError] = []
    for path in paths:
        try:
            meters.append(_describe((open_device or emi_devices.WindowsDevice)(path)))
        except (OSError, ValueError) as error:
            refusals.append(error)
    if meters:
        return Emi(meters)
    if any(isinstance(error, PermissionError) for error in refusals):
        raise Denied("the energy meters may not be read", hint="run emt from a terminal of an administrator")
    reason = (
        f"no energy meter answers: {refusals[0]}" if refusals else "no energy meter (EMI) on this machine"
    )
    raise Absent(reason)


def _describe(device: Device) -> Meter:
    """Raises OSError and ValueError, and has closed the device then."""
    try:
        (version,) = struct.unpack_from("<H", device.control(GET_VERSION, 2).ljust(2, b"\0"))
        (size,) = struct.unpack_from("<I", device.control(GET_METADATA_SIZE, 4).ljust(4, b"\0"))
        names = names_in(version, device.control(GET_METADATA, min(size, _LARGEST_METADATA)))
        energies_in(device.control(GET_MEASUREMENT, len(names) * _MEASUREMENT.size), len(names))
    except (OSError, ValueError):
        device.close()
        raise
    return Meter(device, tuple(names))


class Emi:
    """All channels of all meters, in order."""

    name = NAME
    min_period_s = 0.01

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = tuple(meters)
        self.channels: Sequence[Channel] = _channels([name for meter in meters for name in meter.names])

    def read(self) -> Sequence[Reading | Gap]:
        readings: list[Reading | Gap] = []
        for device, names in self._meters:
            try:
                answer = device.control(GET_MEASUREMENT, len(names) * _MEASUREMENT.size)
                values = energies_in(answer, len(names))
            except (OSError, ValueError) as error:
                now = monotonic()
                readings += [Gap(now, str(error)) for _ in names]
            else:
                now = monotonic()
                readings += [Reading(now, value) for value in values]
        return readings

    def close(self) -> None:
        for meter in self._meters:
            meter.device.close()


def _channels(names: Sequence[str]) -> tuple[Channel, ...]:
    places = [place(name) for name in names]
    packages = {each.id for each in places if each is not None and each.domain == "package"}
    taken: set[str] = set()
    channels = []
    for name, where in zip(names, places, strict=True):
        channel = _channel(name, where, packages)
        if channel.id in taken:
            number = next(n for n in range(2, len(names) + 2) if f"{channel.id}.{n}" not in taken)
            channel = _channel(name, where, packages, number)
        taken.add(channel.id)
        channels.append(channel)
    return tuple(channels)


def _channel(name: str, where: Place | None, packages: set[str], number: int = 1) -> Channel:
    own_id, domain = where or Place(f"node/{_slug(name)}", _slug(name))
    device = own_id.partition("/")[0]
    package = f"{device}/package"
    is_part = where is not None and domain not in ("package", "dram")
    dropped = _UNKNOWN if where is None else _NO_PACKAGE if is_part and package not in packages else ""
    return Channel(
        id=own_id if number == 1 else f"{own_id}.{number}",
        sensor=NAME,
        device=device,
        domain=domain,
        kind="counter",
        provenance="measured",
        source=f"EMI {name}",
        within=package if is_part and package in packages else None,
        unit=UNIT_J,
        resolution_j=UNIT_J,
        max_power_w=_MAX_W,
        dropped=f"mirror of {own_id}" if number > 1 and not dropped else dropped,
    )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
