"""The number of a GPU: `gpu0`, `gpu1`, ... are unique across the makers, and the same to every sensor.

It stands apart because several sensors see the same card and must call it alike, while none of them may ask
another. NVIDIA's come first, since NVML numbers them from 0 in the order of the PCI bus; then AMD's, then
Intel's, each in that order. An integrated Intel GPU has no meter and takes no number; AMD's takes one, since
AMD's own library numbers it too.
"""

from __future__ import annotations

from emt_cli.sensors.base import Machine

DRIVERS = ("nvidia", "amdgpu", "i915", "xe")
"""The kernel's drivers, in the order in which their cards are numbered."""

_FOLDER = "/sys/bus/pci/drivers"


def gpu_number(machine: Machine, driver: str, pci: str) -> int:
    """The number of the card of that driver at that PCI address (`0000:03:00.0`).

    A card that the driver does not list gets the number after its last one. Raises ValueError for a driver
    that is none of `DRIVERS`.
    """
    place = DRIVERS.index(driver)
    before = sum(len(gpu_addresses(machine, name)) for name in DRIVERS[:place])
    own = gpu_addresses(machine, driver)
    return before + (own.index(pci.lower()) if pci.lower() in own else len(own))


def gpu_addresses(machine: Machine, driver: str) -> list[str]:
    """The PCI addresses of the cards bound to a driver, in the order of the bus; of Intel's those that have
    a meter."""
    folder = f"{_FOLDER}/{driver}"
    addresses = [name for name in machine.names(folder) if name.count(":") == 2]
    if driver in ("i915", "xe"):
        return [address for address in addresses if machine.names(f"{folder}/{address}/hwmon")]
    return addresses
