"""From chips to the parts of a sensor: streams are opened, and named and placed by what they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from emt_cli.model import Channel
from emt_cli.sensors.base import Absent, Denied, File, Machine
from emt_cli.sensors.gpus import gpu_addresses
from emt_cli.sensors.hwmon.chips import Chip, Stream
from emt_cli.sensors.hwmon.drivers import Cover, cover_of, is_opened
from emt_cli.sensors.hwmon.reading import Feed, Parts, value_of
from emt_cli.units import JOULES_PER_MICROJOULE, WATTS_PER_MICROWATT

RESOLUTION_J = 61e-6
"""The coarsest step of the drivers with counters: 2^-14 J (i915_hwmon.c, xe_hwmon.c)."""

_PERIODS_S = {"power_meter": 1.0}
"""Where a driver tells no period: ACPI meters average over a second as a rule, and each read asks the
firmware."""


class _Found(NamedTuple):
    """An opened stream."""

    chip: Chip
    stream: Stream
    cover: Cover
    feed: Feed


class _Refused(NamedTuple):
    """The files that may not be opened, and those that cannot, with the reason."""

    locked: list[str]
    broken: list[str]

    def error(self) -> Absent | Denied:
        """Why there is no sensor at all."""
        if self.locked:
            count = f"and all {len(self.locked)} meters of hwmon chips"
            return Denied(f"permission denied: {self.locked[0]} ({count})", hint=self.remedy())
        if self.broken:
            return Denied(self.broken[0], hint=self.remedy())
        return Absent("no hwmon chip here tells energy or power that emt knows")

    def remedy(self) -> str:
        if self.locked:
            folder = self.locked[0].rpartition("/")[0]
            return (
                "let a group read them: sudo groupadd -f emt; sudo usermod -aG emt $USER; "
                f"echo 'z {folder}/*_input 0440 root emt' | sudo tee /etc/tmpfiles.d/emt-hwmon.conf; "
                "sudo systemd-tmpfiles --create emt-hwmon.conf; then log in again (the folder's number may "
                "be another one after a boot). Or run emt as root."
            )
        return "see dmesg; load the chip's driver again" if self.broken else ""


def open_chips(
    machine: Machine, name: str, chips: Iterable[Chip], *, gpus: Mapping[str, int], note: str = ""
) -> Parts:
    """All that can be opened, for the sensor of that name. `gpus` numbers the cards by PCI address.

    Raises Denied where nothing can be opened, Absent where all is gone.
    """
    found: list[_Found] = []
    refused = _Refused([], [])
    with ExitStack() as undo:
        for chip in chips:
            for stream in chip.streams:
                label = stream.label or stream.stem
                if not is_opened(chip.driver, label):
                    continue
                cover = cover_of(chip.driver, label, gpus.get(chip.pci, 0))
                # Nobody needs to hear of a lock on what would not count.
                feed = _open(machine, stream, undo, refused if not cover.dropped else _Refused([], []))
                if feed:
                    found.append(_Found(chip, stream, cover, feed))
        if not found:
            raise refused.error()
        covers = _placed(machine, found)
        undo.pop_all()
    return Parts(
        channels=tuple(_channel(name, each, cover, note) for each, cover in zip(found, covers, strict=True)),
        feeds=tuple(each.feed for each in found),
        unreadable=(*refused.locked, *refused.broken),
        remedy=refused.remedy(),
    )


def _open(machine: Machine, stream: Stream, undo: ExitStack, refused: _Refused) -> Feed | None:
    """The stream's files; None, and a line in `refused`, where they cannot be opened."""
    feed: list[File] = []
    for path in stream.files:
        try:
            file = machine.keep(path)
        except PermissionError:
            refused.locked.append(path)
            return None
        except FileNotFoundError:
            return None
        except OSError as error:
            refused.broken.append(f"{path}: {error.strerror or error}")
            return None
        undo.callback(file.close)
        feed.append(file)
    return feed


def _placed(machine: Machine, found: Sequence[_Found]) -> list[Cover]:
    """What each channel covers, under ids of their own, within channels that are here."""
    covers: list[Cover] = []
    taken: dict[str, int] = {}
    for each in found:
        cover = _socket(machine, each.cover) if each.chip.driver == "amd_energy" else each.cover
        number = taken[cover.id] = taken.get(cover.id, 0) + 1
        if number > 1:
            again = f"the same as {cover.id}" if each.chip.driver == "amd_energy" else cover.dropped
            joint = "-" if "/" in cover.id else "/"
            cover = cover._replace(id=f"{cover.id}{joint}{number}", dropped=again)
        covers.append(cover._replace(dropped=cover.dropped or _against(machine, cover, each.feed)))
    return [cover.among(taken) for cover in covers]


def _against(machine: Machine, cover: Cover, feed: Feed) -> str:
    """Why a channel does not count on this machine, though its kind does."""
    if cover.holds_gpus and gpu_addresses(machine, "nvidia"):
        return "it holds the NVIDIA GPUs, which are counted by themselves"
    if cover.is_never_zero:
        try:
            if value_of(feed) == 0:
                return "it tells 0 W while this very machine runs"
        except (OSError, ValueError):
            return ""  # a bad reading now is no reason to give the channel up: it will be a gap
    return ""


def _socket(machine: Machine, cover: Cover) -> Cover:
    """A "socket" of amd_energy is a NUMA node: the package of the node's first CPU."""
    node = cover.device.removeprefix("cpu")
    try:
        cpus = machine.text(f"/sys/devices/system/node/node{node}/cpulist")
    except OSError:
        return cover
    first = cpus.replace("-", ",").partition(",")[0]
    package = machine.number(f"/sys/devices/system/cpu/cpu{first}/topology/physical_package_id")
    return cover if package is None or package < 0 else cover._replace(id=f"cpu{package}/package")


def _channel(sensor: str, found: _Found, cover: Cover, note: str) -> Channel:
    chip, stream = found.chip, found.stream
    is_counter = stream.kind == "counter"
    label = f"{chip.driver} {stream.label or stream.stem}"
    return Channel(
        id=cover.id,
        sensor=sensor,
        device=cover.device,
        domain=cover.domain,
        kind=stream.kind,
        provenance="measured" if is_counter else "integrated",
        source=f"{' x '.join(stream.files)} ({label}{f', {chip.pci}' if chip.pci else ''})",
        within=cover.within or None,
        unit=JOULES_PER_MICROJOULE if is_counter else WATTS_PER_MICROWATT,
        resolution_j=RESOLUTION_J if is_counter else None,
        update_period_s=stream.period_s or _PERIODS_S.get(chip.driver),
        max_power_w=cover.max_power_w,
        note="; ".join(filter(None, (cover.note, note))),
        dropped=cover.dropped,
    )
