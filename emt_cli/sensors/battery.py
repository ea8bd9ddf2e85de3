"""The battery of a laptop: what the whole machine draws from it, while it draws from nothing else.

- Interface: `/sys/class/power_supply/<name>/`, those of `type` Battery whose `scope` is not Device (mice and
  headsets have batteries too). `power_now` (uW), else `current_now` (uA) x `voltage_now` (uV). Capacity:
  `energy_full`, `energy_now` (uWh), else `charge_full`, `charge_now` (uAh) x `voltage_min_design` (uV).
- Sign: the kernel's rule is that a current is negative while discharging; many drivers keep it positive and
  some turn it round. `status` tells the direction, so only the size is taken.
- Refresh: the ACPI driver asks the embedded controller once a second at most (`cache_time` 1000 ms); the
  controller renews, and smooths, its value every 1 to 30 s, as machines go.
- Rights: readable by everybody.
- Containment: everything in the machine, screen and losses included. Several batteries are one supply.
- Only `Discharging` tells the machine's power. On mains power the battery sees nothing of it, or only what
  charges it, and with a weak adapter only what the adapter lacks: such a reading is a gap.
- Known lies: 0 W in the seconds after unplugging, and always in some virtual machines: that is no power.
  In others the host's battery shows through, and with it the host's power.
  `online` of a UCSI port may also mean that it feeds another device, so those ports are not asked.

Sources: Linux Documentation/ABI/testing/sysfs-class-power, drivers/acpi/battery.c, commit 05f94eb98907
(the sign of the current).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, File, Machine
from emt_cli.units import (
    AMPERES_PER_MICROAMPERE,
    JOULES_PER_WATT_HOUR,
    VOLTS_PER_MICROVOLT,
    WATTS_PER_MICROWATT,
)

NAME = "battery"
FOLDER = "/sys/class/power_supply"
MIN_PERIOD_S = 1.0
UPDATE_PERIOD_S = 5.0
"""Between the 1 s of the kernel and the 30 s of slow controllers: a choice, not a measurement."""

_MOST_W = 500.0
_ADAPTERS = frozenset({"Mains", "USB", "Wireless"})
_WATT_HOURS_PER_MICRO = 1e-6


class _Cell(NamedTuple):
    """One battery. `power` is the file of its power, or those of current and voltage."""

    name: str
    status: File
    power: tuple[File, ...]


class Battery:
    """The battery, or all of them together, as one gauge in watts."""

    name = NAME
    min_period_s = MIN_PERIOD_S

    def __init__(
        self, channel: Channel, cells: Sequence[_Cell], adapters: Sequence[tuple[str, File]]
    ) -> None:
        self.channels: Sequence[Channel] = (channel,)
        self._cells = tuple(cells)
        self._adapters = tuple(adapters)

    def read(self) -> list[Reading | Gap]:
        try:
            watts = _power_w(self._cells, self._adapters)
        except OSError as error:
            return [Gap(monotonic(), error.strerror or str(error))]
        except ValueError:
            return [Gap(monotonic(), "the battery's power is not a number")]
        except SensorError as reason:
            return [Gap(monotonic(), str(reason))]
        return [Reading(monotonic(), watts)]

    def close(self) -> None:
        _close(self._cells, self._adapters)


def open_battery(machine: Machine) -> Battery:
    """The battery that runs this machine. Raises Absent where there is none, where it does not tell its
    power and on mains power; Denied where it cannot be read."""
    supplies = machine.names(FOLDER)
    names = [name for name in supplies if _is_battery(machine, name)]
    cells: list[_Cell] = []
    adapters: list[tuple[str, File]] = []
    try:
        cells += [cell for name in names if (cell := _cell(machine, name)) is not None]
        if not cells:
            raise Absent(f"no battery that tells its power under {FOLDER}")
        adapters += [(name, machine.keep(f"{FOLDER}/{name}/online")) for name in _adapters(machine, supplies)]
        _power_w(cells, adapters)
    except SensorError:
        _close(cells, adapters)
        raise
    except (OSError, ValueError) as error:
        _close(cells, adapters)
        raise Denied(
            f"the battery cannot be read: {error}",
            hint=f"everybody may read it as a rule; see: ls -l {FOLDER}/{names[0]}/, and dmesg",
        ) from error
    return Battery(_channel(machine, [cell.name for cell in cells]), cells, adapters)


def _channel(machine: Machine, names: Sequence[str]) -> Channel:
    return Channel(
        id="node/battery",
        sensor=NAME,
        device="node",
        domain="battery",
        kind="gauge",
        provenance="integrated",
        source=f"{FOLDER}/{', '.join(names)}",
        update_period_s=UPDATE_PERIOD_S,
        max_power_w=_MOST_W,
        full_j=_stored_j(machine, names, "full"),
        left_j=_stored_j(machine, names, "now"),
    )


def _is_battery(machine: Machine, name: str) -> bool:
    kind, scope = _word(machine, name, "type"), _word(machine, name, "scope")
    return kind == "Battery" and scope != "Device" and _word(machine, name, "present") != "0"


def _adapters(machine: Machine, supplies: Sequence[str]) -> list[str]:
    return [
        name
        for name in supplies
        if not name.startswith("ucsi-")
        and _word(machine, name, "type") in _ADAPTERS
        and _word(machine, name, "scope") != "Device"
        and _word(machine, name, "online")
    ]


def _word(machine: Machine, supply: str, file: str) -> str:
    try:
        return machine.text(f"{FOLDER}/{supply}/{file}")
    except OSError:
        return ""


def _cell(machine: Machine, name: str) -> _Cell | None:
    """The battery's files, kept open; None where it has not those that tell its power. Raises OSError."""
    found: list[File] = []
    for files in (("status", "power_now"), ("status", "current_now", "voltage_now")):
        try:
            found += [machine.keep(f"{FOLDER}/{name}/{file}") for file in files]
        except FileNotFoundError:
            continue
        return _Cell(name, found[0], tuple(found[1:]))
    return None


def _power_w(cells: Sequence[_Cell], adapters: Sequence[tuple[str, File]]) -> float:
    """Watts that the machine draws from its batteries.

    Raises Absent where that is not all it draws, or where the battery says 0 W; OSError and ValueError as
    the files do.
    """
    for name, online in adapters:
        with suppress(OSError):  # a charger's device may go with its plug
            if online.read().strip() not in (b"0", b""):
                raise Absent(f"on mains power: {name} is plugged in")
    states = {cell.name: cell.status.read().decode("ascii", "replace").strip() for cell in cells}
    is_charging = "Charging" in states.values()
    if is_charging or "Discharging" not in states.values():
        name = next(name for name, state in states.items() if not is_charging or state == "Charging")
        raise Absent(f"on mains power: {name} is {states[name].lower() or 'in no state'}")
    watts = sum(_cell_w(cell) for cell in cells if states[cell.name] == "Discharging")
    if watts <= 0:
        raise Absent("discharging, but the battery does not tell its power (0 W)")
    return watts


def _cell_w(cell: _Cell) -> float:
    first, *second = [int(file.read()) for file in cell.power]
    if not second:
        return abs(first) * WATTS_PER_MICROWATT
    return abs(first) * AMPERES_PER_MICROAMPERE * abs(second[0]) * VOLTS_PER_MICROVOLT


def _stored_j(machine: Machine, names: Sequence[str], when: str) -> float | None:
    """Joules that all batteries hold when they are full, or now; None where one of them does not tell."""
    total_j = 0.0
    for name in names:
        folder = f"{FOLDER}/{name}"
        micro = machine.number(f"{folder}/energy_{when}")
        volts = 1.0
        if micro is None:
            micro = machine.number(f"{folder}/charge_{when}")
            volts = (machine.number(f"{folder}/voltage_min_design") or 0) * VOLTS_PER_MICROVOLT
        if micro is None or micro < 0 or volts <= 0 or (when == "full" and not micro):
            return None
        total_j += micro * _WATT_HOURS_PER_MICRO * volts * JOULES_PER_WATT_HOUR
    return total_j


def _close(cells: Sequence[_Cell], adapters: Sequence[tuple[str, File]]) -> None:
    files = [file for cell in cells for file in (cell.status, *cell.power)]
    for file in [*files, *(online for _, online in adapters)]:
        file.close()
