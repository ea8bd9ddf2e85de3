"""Who used an Intel or AMD GPU: engine seconds by process, from the kernel's file descriptors.

It stands apart from the sensors, since two of them (AMD SMI, the graphics cards' hwmon) share their devices
by it. What ROCm's compute queues use is not in here but in `kfd`, and is added.

Data sheet
- Interface: `/proc/PID/fdinfo/FD` of every descriptor that leads to `/dev/dri/*`: `drm-driver`, `drm-pdev`,
  `drm-client-id`, and by engine `drm-engine-NAME: N ns` (i915, amdgpu) or `drm-cycles-NAME` beside
  `drm-total-cycles-NAME`, the GPU's own clock (xe); `drm-engine-capacity-NAME` engines stand behind a name.
- Unit: nanoseconds, or a share of the GPU's clock, which the time between two looks turns into seconds. All
  engines are added up (render, compute, copy, video): a second of each is taken to draw the same.
- A client (`drm-client-id`) may be held by several descriptors and processes (dup, fork): it counts once, for
  the process with the lowest PID at first.
- Values may step back for a while: the larger one stands (drm-usage-stats.rst).
- Rights: own processes' descriptors; all of them for root. Other accounts' are out of sight, see `unseen`.
- Cost: all processes' descriptors are gone through so rarely that it takes half a percent of a core (every
  second to every 10 s); known clients, and processes younger than half a minute, four times a second. A
  process that opens the GPU and closes it within a quarter of a second may be missed.
- Not told: amdgpu leaves out engines that were never used; Linux before 5.19 tells nothing.

Sources: Linux Documentation/gpu/drm-usage-stats.rst, drivers/gpu/drm/{i915/i915_drm_client.c,
xe/xe_drm_client.c, amd/amdgpu/amdgpu_fdinfo.c}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import NamedTuple

from emt_cli.model import GpuUse
from emt_cli.sensors.base import Machine
from emt_cli.sensors.kfd import QueueUse
from emt_cli.sensors.newborn import Newborn, pids
from emt_cli.units import SECONDS_PER_NANOSECOND

LOOK_PERIOD_S = 0.25
"""Known clients and new processes; what a client does after the last look before its end is lost."""
_LEAST_SCAN_PERIOD_S, _MOST_SCAN_PERIOD_S = 1.0, 10.0
_SCANS_MAY_COST = 1 / 200
_YOUNG_MAY_COST_S = 0.002
"""In a storm of new processes a look ends here; the oldest of them come first."""


class ClientInfo(NamedTuple):
    """What one fdinfo file says of a DRM client. `cycles` has pairs of busy and total cycles by engine."""

    driver: str
    pci: str
    client: str
    busy_ns: dict[str, int]
    cycles: dict[str, tuple[int, int]]
    capacity: dict[str, int]


def parse(text: str) -> ClientInfo | None:
    """None for a descriptor that is no DRM client of a PCI card. Numbers that are none are left out."""
    facts = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.startswith("drm-"):
            facts[key] = value.strip()
    if "drm-driver" not in facts or "drm-pdev" not in facts:
        return None
    numbers = {key: number for key, value in facts.items() if (number := _number(value)) is not None}
    capacity = _named(numbers, "drm-engine-capacity-")
    busy_ns = _named(numbers, "drm-engine-")
    total = _named(numbers, "drm-total-cycles-")
    cycles = _named(numbers, "drm-cycles-")
    return ClientInfo(
        driver=facts["drm-driver"],
        pci=facts["drm-pdev"].lower(),
        client=facts.get("drm-client-id", ""),
        busy_ns={name: ns for name, ns in busy_ns.items() if not name.startswith("capacity-")},
        cycles={name: (count, total[name]) for name, count in cycles.items() if name in total},
        capacity={name: count for name, count in capacity.items() if count > 0},
    )


def _number(value: str) -> int | None:
    digits = value.partition(" ")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _named(numbers: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {key[len(prefix) :]: number for key, number in numbers.items() if key.startswith(prefix)}


def sees_others() -> bool:
    """Whether the users of other accounts are seen: the kernel shows their files to root alone."""
    return os.geteuid() == 0


def unseen() -> str:
    """Which users of a GPU are out of sight, as a note on its channel; empty where none is."""
    if sees_others():
        return ""
    return "the GPU's users of other accounts are not seen: what they use counts as the command's"


class DrmUse:
    """Engine seconds by process on the cards of `devices`: the channel's device by PCI address.

    Two addresses may lead to one device: the dies of a module.
    """

    def __init__(
        self, machine: Machine, devices: Mapping[str, str], *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._devices = {pci.lower(): device for pci, device in devices.items()}
        self._queues = QueueUse(machine, self._devices)
        self._clients: dict[tuple[str, str], _Client] = {}
        self._held: dict[str, _Client] = {}
        """The clients that have a known holder, by the descriptor that they are read through."""
        self._busy_s: dict[tuple[str, int], float] = {}
        self._mute: set[tuple[str, int]] = set()
        self._newborn = Newborn(machine)
        self._is_begun = False
        self._next_look_s = self._next_scan_s = 0.0

    def look(self) -> None:
        """Note what was done until now, unless that was done a moment ago. The first look is the zero."""
        now_s = self._clock()
        if now_s >= self._next_look_s:
            self._look(now_s)

    def usage(self) -> list[GpuUse]:
        """Who used the cards since the last call, the first one since the first look.

        `busy_s` is None where a process holds compute queues and the kernel does not tell what they do.
        Processes that did nothing are not named.
        """
        self._look(self._clock())
        busy_s: dict[tuple[str, int], float | None] = {**self._busy_s, **dict.fromkeys(self._mute)}
        self._busy_s, self._mute = {}, set()
        for user, seconds in self._queues.take().items():
            drawn_s = busy_s.get(user, 0.0)
            busy_s[user] = None if seconds is None or drawn_s is None else drawn_s + seconds
        return [GpuUse(device=device, pid=pid, busy_s=busy_s[device, pid]) for device, pid in sorted(busy_s)]

    def close(self) -> None:
        self._newborn.close()

    def _look(self, now_s: float) -> None:
        self._next_look_s = now_s + LOOK_PERIOD_S
        self._queues.look(now_s)
        for path, client in list(self._held.items()):
            self._read(client.pid, path)
        young = self._newborn.young(now_s)
        if now_s >= self._next_scan_s:
            self._scan_all()
            self._is_begun = True
        else:
            self._scan(young, self._clock() + _YOUNG_MAY_COST_S)

    def _scan_all(self) -> None:
        """Go through all processes. A client that nobody holds any more is forgotten."""
        began_s = self._clock()
        self._scan(pids(self._machine))
        self._clients = {key: client for key, client in self._clients.items() if client.path}
        cost_s = self._clock() - began_s
        wait_s = min(max(cost_s / _SCANS_MAY_COST, _LEAST_SCAN_PERIOD_S), _MOST_SCAN_PERIOD_S)
        self._next_scan_s = began_s + wait_s

    def _scan(self, processes: Iterable[int], until_s: float | None = None) -> None:
        for pid in processes:
            if until_s is not None and self._clock() > until_s:
                return
            folder = f"/proc/{pid}/fd"
            for number in self._machine.names(folder):
                path = f"/proc/{pid}/fdinfo/{number}"
                if path in self._held:
                    continue
                if self._machine.link(f"{folder}/{number}").startswith("/dev/dri/"):
                    self._read(pid, path)

    def _read(self, pid: int, path: str) -> None:
        """Count what the client behind a descriptor did. A client that was read through this path and is
        not there any more is held by nobody until a scan finds another holder."""
        try:
            info = parse(self._machine.text(path))
        except OSError:
            info = None
        key = None if info is None else (info.pci, info.client or path)
        holder = self._held.get(path)
        if holder is not None and holder.key != key:
            del self._held[path]
            holder.path = ""
        if info is None or key is None or info.pci not in self._devices:
            return
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = _Client(key, is_new=self._is_begun)
        if client.path and client.path != path:
            return  # another descriptor of a client that is counted already
        client.pid, client.path = pid, path
        self._held[path] = client
        user = (self._devices[info.pci], pid)
        if busy_s := client.advance(info, self._clock()):
            self._busy_s[user] = self._busy_s.get(user, 0.0) + busy_s
        if not info.busy_ns and not info.cycles and info.driver != "amdgpu":
            self._mute.add(user)


class _Client:
    """One DRM client, and how far its engines' counters were counted.

    `is_new`: it was opened after the first look, so that all of its counters is news. `path` is the
    descriptor it is read through; empty while no holder is known.
    """

    __slots__ = ("_cycles", "_is_new", "_ns", "key", "path", "pid")

    def __init__(self, key: tuple[str, str], *, is_new: bool) -> None:
        self.key = key
        self.pid, self.path = 0, ""
        self._is_new = is_new
        self._ns: dict[str, int] = {}
        self._cycles: dict[str, tuple[int, int, float]] = {}

    def advance(self, info: ClientInfo, now_s: float) -> float:
        """Engine seconds since the last time; a name's engines together have one second in a second."""
        busy_s = 0.0
        for name, ns in info.busy_ns.items():
            last_ns = self._ns.get(name, 0 if self._is_new else ns)
            self._ns[name] = max(ns, last_ns)
            busy_s += max(ns - last_ns, 0) * SECONDS_PER_NANOSECOND / info.capacity.get(name, 1)
        for name, (count, total) in info.cycles.items():
            first = 0 if self._is_new else count
            last_count, last_total, last_s = self._cycles.get(name, (first, total, now_s))
            self._cycles[name] = last_count, last_total, last_s
            if total > last_total:
                self._cycles[name] = max(count, last_count), total, now_s
                seconds = (now_s - last_s) * max(count - last_count, 0) / (total - last_total)
                busy_s += seconds / info.capacity.get(name, 1)
        self._is_new = True  # an engine that is named for the first time now was not used before
        return busy_s
