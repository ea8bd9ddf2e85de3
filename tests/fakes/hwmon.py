"""Chips of the hwmon class, parts of a simulated machine: `chip(3, "xe", PCI) + energy(3, 150, 1, "card")`.

The first argument is the chip's number; watts are constant unless `power=` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emt_cli.sensors.hwmon import FOLDER
from tests.simulation import Signal, constant


class Parts:
    """The chips of a machine under construction."""

    def __init__(self, signals: Sequence[Signal], files: Mapping[str, str]) -> None:
        self.signals = tuple(signals)
        self.files = dict(files)

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.signals + other.signals, {**self.files, **other.files})


def place(number: int, file: str) -> str:
    return f"{FOLDER}/hwmon{number}/{file}"


def chip(number: int, name: str, pci: str = "", **texts: str) -> Parts:
    """A chip without a meter: its name and fixed files, and its card's place on the bus."""
    files = {place(number, file): f"{text}\n" for file, text in {"name": name, **texts}.items()}
    if pci:
        driver = name.partition("_")[0]
        files[place(number, "device/uevent")] = f"DRIVER={driver}\nPCI_SLOT_NAME={pci}\n"
        files[f"/sys/bus/pci/drivers/{driver}/{pci}/hwmon/hwmon{number}/name"] = f"{name}\n"
    return Parts((), files)


def energy(number: int, watts: float = 50.0, at: int = 1, label: str = "", **options: object) -> Parts:
    facts = {"path": place(number, f"energy{at}_input"), "power": constant(watts), **options}
    files = {place(number, f"energy{at}_label"): f"{label}\n"} if label else {}
    return Parts([Signal(**facts)], files)  # type: ignore[arg-type]


def power(
    number: int, watts: float = 50.0, file: str = "power1_average", label: str = "", **options: object
) -> Parts:
    facts = {"path": place(number, file), "power": constant(watts), "form": "{uw}", **options}
    stem = file.partition("_")[0]
    files = {place(number, f"{stem}_label"): f"{label}\n"} if label else {}
    return Parts([Signal(**facts)], files)  # type: ignore[arg-type]


def rail(
    number: int, at: int, label: str, watts: float = 4.0, millivolts: int = 5000, **options: object
) -> Parts:
    facts = {"power": constant(watts), "form": "{ma}", "volts": millivolts / 1000, **options}
    signal = Signal(path=place(number, f"curr{at}_input"), **facts)  # type: ignore[arg-type]
    texts = {f"in{at}_input": f"{millivolts}\n", f"in{at}_label": f"{label}\n"}
    return Parts([signal], {place(number, file): text for file, text in texts.items()})


def acpi(number: int, oem_info: str, watts: float, interval_ms: int = 50, folder: str = "") -> Parts:
    """An ACPI meter. Before Linux 6.15 all its files are in the device's `folder`."""
    signal = Signal(
        path=place(number, f"{folder}power1_average"), form="{uw}", power=constant(watts), start_j=0.0
    )
    texts = {
        f"{folder}name": "power_meter",
        f"{folder}power1_oem_info": oem_info,
        f"{folder}power1_average_interval": f"{interval_ms}",
    }
    return Parts([signal], {place(number, file): f"{text}\n" for file, text in texts.items()})


def grace(socket: int, module_w: float = 480.0, folder: str = "") -> Parts:
    watts = {"Module": module_w, "Grace": 300.0, "CPU": 220.0, "SysIO": 60.0}
    parts = Parts((), {})
    for at, (name, each_w) in enumerate(watts.items()):
        parts += acpi(10 * socket + at, f"{name} Power Socket {socket}", each_w, folder=folder)
    return parts


def jetson(*rails: str, number: int = 1, **options: object) -> Parts:
    parts = chip(number, "ina3221", update_interval="8")
    for at, label in enumerate(rails, start=1):
        parts += rail(number, at, label, float(at), **options)
    return parts
