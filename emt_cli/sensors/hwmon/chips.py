"""The chips of the hwmon class and the streams of each: which files tell energy or power.

It knows names of files and nothing about what they cover; that is in `drivers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from emt_cli.model import Kind
from emt_cli.sensors.base import Machine

AMD = "amdgpu"
APU, MI300A = "amdgpu-apu", "amdgpu-mi300a"
"""Names given here to amdgpu chips that are more than a card: a whole socket, a whole module."""
INTEL = ("i915", "xe")
TILE = "i915_gt"
"""What the chip of one tile of an i915 card is called, before its number."""

_MI300A_ID = "0x74a0"
"""PCI device (pci.ids: Aqua Vanjaram, Instinct MI300A)."""

_SUPPLIES = "/sys/class/power_supply"
_NO_LABEL = ("", "NC")


class Stream(NamedTuple):
    """One thing that a chip measures. `stem` is `energy1`, `power2` or `curr3`; what the `files` hold is
    multiplied, and comes in uJ (counter) or uW (gauge). `label` is empty where there is none."""

    stem: str
    label: str
    kind: Kind
    files: tuple[str, ...]
    period_s: float | None


class Chip(NamedTuple):
    """One chip with a meter: its driver's name, and the PCI address of its device (empty if it has none)."""

    driver: str
    pci: str
    streams: tuple[Stream, ...]

    @property
    def is_card(self) -> bool:
        """Whether it is a graphics card, or a tile of one."""
        return self.driver in (AMD, MI300A, *INTEL) or self.driver.startswith(TILE)


def find_chips(machine: Machine, folders: Iterable[str], *, are_cards: bool) -> list[Chip]:
    """The chips with a stream, in order: the graphics cards among them, or all others."""
    supplies = {name.replace("-", "_") for name in machine.names(_SUPPLIES)}
    found = []
    for folder in folders:
        place, driver = _name(machine, folder)
        if not driver or driver in supplies or driver.startswith(("BAT", "ADP", "ucsi_source_psy")):
            continue
        if driver == AMD:
            driver = _amd(machine, folder)
        chip = Chip(driver, "", ())
        if chip.is_card == are_cards and (streams := _streams(machine, place, driver)):
            found.append(chip._replace(pci=_pci_address(machine, folder), streams=streams))
    return found


def _name(machine: Machine, folder: str) -> tuple[str, str]:
    """Where a chip's files are and its driver's name; an empty name where there is none."""
    for place in (folder, f"{folder}/device"):
        name = _text(machine, f"{place}/name")
        if name:
            return place, name
    return folder, ""


def _amd(machine: Machine, folder: str) -> str:
    """Which of the three an amdgpu chip is. Only APUs tell the northbridge's voltage (amdgpu_pm.c)."""
    if _text(machine, f"{folder}/in1_label") == "vddnb":
        return APU
    return MI300A if _text(machine, f"{folder}/device/device") == _MI300A_ID else AMD


def _text(machine: Machine, path: str) -> str:
    with suppress(OSError):
        return machine.text(path)
    return ""


def _pci_address(machine: Machine, folder: str) -> str:
    lines = _text(machine, f"{folder}/device/uevent").splitlines()
    slots = (line.partition("=")[2] for line in lines if line.startswith("PCI_SLOT_NAME="))
    return next(slots, "")


def _streams(machine: Machine, folder: str, driver: str) -> tuple[Stream, ...]:
    names = machine.names(folder)
    if driver == "power_meter" and "power1_average" not in names:
        folder = f"{folder}/device"
        names = machine.names(folder)
    streams = _energies(machine, folder, names) + _powers(machine, folder, names)
    if driver == "ina3221":
        streams += _rails(machine, folder, names)
    return tuple(streams)


def _energies(machine: Machine, folder: str, names: Sequence[str]) -> list[Stream]:
    return [
        Stream(
            stem=f"energy{number}",
            label=_text(machine, f"{folder}/energy{number}_label"),
            kind="counter",
            files=(f"{folder}/energy{number}_input",),
            period_s=None,
        )
        for number in _numbers(names, "energy", "_input")
    ]


def _powers(machine: Machine, folder: str, names: Sequence[str]) -> list[Stream]:
    averages = _numbers(names, "power", "_average")
    streams = []
    for number in sorted({*averages, *_numbers(names, "power", "_input")}):
        stem = f"power{number}"
        label = _text(machine, f"{folder}/{stem}_label") or _text(machine, f"{folder}/{stem}_oem_info")
        value = f"{folder}/{stem}_{'average' if number in averages else 'input'}"
        period_ms = machine.number(f"{folder}/{stem}_average_interval") if number in averages else None
        streams.append(Stream(stem, label, "gauge", (value,), _seconds(period_ms)))
    return streams


def _rails(machine: Machine, folder: str, names: Sequence[str]) -> list[Stream]:
    """Currents with the voltage of the same number. A rail without a label is not connected, or a shunt."""
    period_s = _seconds(machine.number(f"{folder}/update_interval"))
    streams = []
    for number in _numbers(names, "curr", "_input"):
        label = _text(machine, f"{folder}/in{number}_label")
        if f"in{number}_input" in names and label not in _NO_LABEL:
            files = (f"{folder}/curr{number}_input", f"{folder}/in{number}_input")
            streams.append(Stream(f"curr{number}", label, "gauge", files, period_s))
    return streams


def _numbers(names: Sequence[str], prefix: str, suffix: str) -> list[int]:
    """The numbers of the files that are called so."""
    middles = (n[len(prefix) : -len(suffix)] for n in names if n.startswith(prefix) and n.endswith(suffix))
    return sorted(int(middle) for middle in middles if middle.isascii() and middle.isdecimal())


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1e3 if milliseconds and milliseconds > 0 else None
