"""Graphics cards: what only they have is a number, someone who may see them, and someone who uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emt_cli.model import Gap, GpuUse, Reading
from emt_cli.sensors.base import Absent, Machine
from emt_cli.sensors.fdinfo import LOOK_PERIOD_S, DrmUse, sees_others, unseen
from emt_cli.sensors.gpus import gpu_number
from emt_cli.sensors.hwmon.chips import AMD, MI300A, TILE, Chip
from emt_cli.sensors.hwmon.opening import open_chips
from emt_cli.sensors.hwmon.reading import Hwmon, Parts
from emt_cli.sensors.kfd import visible_cards
from emt_cli.sensors.visible import level_zero_visible

NAME = "drm"


class Cards(Hwmon):
    """Graphics cards: their channels, and who used them. `devices` are the cards' names by PCI address."""

    usage_period_s = LOOK_PERIOD_S

    def __init__(self, parts: Parts, machine: Machine, devices: Mapping[str, str]) -> None:
        super().__init__(NAME, parts)
        self._use = DrmUse(machine, devices)
        self.sees_others = sees_others()

    def read(self) -> list[Reading | Gap]:
        readings = super().read()
        if not all(channel.dropped for channel in self.channels):  # else an earlier sensor looks
            self._use.look()
        return readings

    def usage(self) -> list[GpuUse]:
        """Who used the cards since the last call."""
        return self._use.usage()

    def close(self) -> None:
        super().close()
        self._use.close()


def open_cards(machine: Machine, chips: Sequence[Chip]) -> Cards:
    """The cards that the command may use. Raises Absent where there is none, Denied where all are locked."""
    chips = _visible(machine, chips)
    if not chips:
        raise Absent("the environment (ROCR_, HIP_VISIBLE_DEVICES, ZE_AFFINITY_MASK) hides every card")
    numbers = {chip.pci: gpu_number(machine, _card_driver(chip), chip.pci) for chip in chips}
    parts = open_chips(machine, NAME, chips, gpus=numbers, note=unseen())
    return Cards(parts, machine, {pci: f"gpu{number}" for pci, number in numbers.items() if pci})


def _card_driver(chip: Chip) -> str:
    """The kernel's driver of a chip's card."""
    if chip.driver in (AMD, MI300A):
        return AMD
    return "i915" if chip.driver.startswith(TILE) else chip.driver


def _visible(machine: Machine, chips: Sequence[Chip]) -> list[Chip]:
    """The chips of the cards that the environment lets the command use."""
    amd = [chip for chip in chips if _card_driver(chip) == AMD]
    intel = [chip for chip in chips if chip not in amd]
    cards = _addresses(intel)
    chosen = level_zero_visible(machine.environ, [_tiles(intel, pci) for pci in cards])
    seen = {cards[at] for at in chosen}
    seen.update(visible_cards(machine, _addresses(amd)))
    return [chip for chip in chips if chip.pci in seen]


def _addresses(chips: Sequence[Chip]) -> list[str]:
    return sorted({chip.pci for chip in chips})


def _tiles(chips: Sequence[Chip], pci: str) -> int:
    """How many tiles a card has: each has a chip of its own where there are several."""
    return max(1, sum(chip.pci == pci and chip.driver.startswith(TILE) for chip in chips))
