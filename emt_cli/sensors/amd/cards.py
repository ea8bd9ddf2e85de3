"""Which cards AMD SMI has, and by which call the energy of each is told. The data sheet is in `amd`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from emt_cli.model import Kind
from emt_cli.sensors.amd.binding import AmdError, AmdSmi
from emt_cli.sensors.base import Machine
from emt_cli.units import JOULES_PER_MICROJOULE

DRIVER = "/sys/bus/pci/drivers/amdgpu"
_STEP_J = 2.0**-16
"""Energy of a step, kgd_pp_interface.h ("15.259uJ (2^-16) units"); AMD SMI says 15.3 uJ for it."""
_ROUNDED_STEP_UJ = 15.3
_PATIENCE_S = 0.15
"""At 10 W a counter moves by 98,000 steps meanwhile: one that does not move at all is frozen."""


class Feed(NamedTuple):
    """The call that a card is read by: `read` gives steps (counter) or watts (gauge), or raises AmdError."""

    call: str
    kind: Kind
    unit: float
    read: Callable[[], int]


class Card(NamedTuple):
    """A GPU of the library; `number` is the library's. No feed: nothing tells its energy, `fault` is why."""

    number: int
    pci: str
    name: str
    feed: Feed | None
    fault: AmdError | None = None


def cards(machine: Machine, library: AmdSmi) -> list[Card]:
    """The library's GPUs but APUs; of a card's partitions the first. One whose address is not told is the
    driver's card of its number."""
    listed = [name for name in machine.names(DRIVER) if ":" in name]
    places: dict[str, int] = {}
    for number in range(library.count):
        pci = library.pci(number) or (listed[number] if number < len(listed) else f"unknown{number}")
        if not _is_apu(machine, pci):
            places.setdefault(_whole(pci, places), number)
    moving = _moving(library, places.values())
    return [_card(library, number, pci, number in moving) for pci, number in places.items()]


def leaders(found: Sequence[Card]) -> dict[str, str]:
    """Of modules with two dies the first die's address by the second one's: the card before, else after."""
    told: dict[str, str] = {}
    for at, card in enumerate(found):
        if card.feed is None and "MI2" in card.name:
            beside = [*found[max(at - 1, 0) : at], *found[at + 1 : at + 2]]
            free = [other.pci for other in beside if other.feed and other.pci not in told.values()]
            if free:
                told[card.pci] = free[0]
    return told


def _whole(pci: str, places: Iterable[str]) -> str:
    """The card that a partition is of: the addresses differ in the function."""
    slot = pci.rpartition(".")[0]
    return next((place for place in places if slot and place.rpartition(".")[0] == slot), pci)


def _is_apu(machine: Machine, pci: str) -> bool:
    """Whether the GPU is a processor's: only those have a northbridge voltage (amdgpu_pm.c)."""
    folder = f"{DRIVER}/{pci}/hwmon"
    labels = [
        f"{folder}/{chip}/{name}"
        for chip in machine.names(folder)
        for name in machine.names(f"{folder}/{chip}")
        if name.startswith("in") and name.endswith("_label")
    ]
    with suppress(OSError):
        return any(machine.text(label) == "vddnb" for label in labels)
    return False


def _moving(library: AmdSmi, numbers: Iterable[int]) -> set[int]:
    """Those of the GPUs whose energy counter moves."""
    first = {number: count for number in numbers if (count := _count_or_none(library, number)) is not None}
    moving: set[int] = set()
    until_s = time.monotonic() + _PATIENCE_S
    while len(moving) < len(first) and time.monotonic() < until_s:
        time.sleep(0.002)
        for number in first.keys() - moving:
            if (_count_or_none(library, number) or 0) > first[number]:
                moving.add(number)
    return moving


def _count_or_none(library: AmdSmi, number: int) -> int | None:
    try:
        return library.energy(number)[0]
    except AmdError:
        return None


def _card(library: AmdSmi, number: int, pci: str, is_moving: bool) -> Card:
    name = library.name(number)
    try:
        if is_moving:
            feed = _counter(library, number)
        else:
            library.watts(number)
            feed = Feed("amdsmi_get_power_info", "gauge", 1.0, partial(library.watts, number))
    except AmdError as error:
        return Card(number, pci, name, None, error)
    return Card(number, pci, name, feed)


def _counter(library: AmdSmi, number: int) -> Feed:
    step_uj = library.energy(number)[1]
    is_rounded = abs(step_uj - _ROUNDED_STEP_UJ) < 0.05
    unit = _STEP_J if is_rounded else step_uj * JOULES_PER_MICROJOULE
    return Feed("amdsmi_get_energy_count", "counter", unit, lambda: library.energy(number)[0])
