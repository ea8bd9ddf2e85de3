"""AMD's compute driver in sysfs: which cards ROCm sees, in its order, and who runs compute queues on them.

It stands apart from `fdinfo`, since ROCm's queues are run past the kernel's scheduler: what they do is in no
descriptor's counters.

Data sheet
- Interface: `/sys/class/kfd/kfd/topology/nodes/N/{gpu_id, properties}` (a CPU's `gpu_id` is 0), and
  `/sys/class/kfd/kfd/proc/PID/`: `queues/Q/gpuid`, `vram_GPUID` (bytes), `stats_GPUID/cu_occupancy`.
- `cu_occupancy`: compute units that work for this process at this moment; told by Instinct cards alone
  (gfx9), and only sampled, so that shares are estimates. Elsewhere nothing tells one process' use from
  another's.
- A process has an entry for every card that ROCm knows: only queues on a card (before Linux 5.8: memory on
  it) mean that it uses the card.
- Rights: world-readable, all accounts' processes. PIDs are the host's, also inside a container.

Sources: Linux drivers/gpu/drm/amd/amdkfd/{kfd_process.c, kfd_topology.c}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emt_cli.sensors.base import Machine
from emt_cli.sensors.visible import amd_visible

FOLDER = "/sys/class/kfd/kfd"
_DRIVER = "/sys/bus/pci/drivers/amdgpu"


class Node(NamedTuple):
    """A card, or a partition of one, as ROCm sees it. `uuid` is "" where it has no unique id."""

    gpu_id: str
    pci: str
    uuid: str
    compute_units: int


def nodes(machine: Machine) -> list[Node]:
    """ROCm's GPUs, in its order; none where the compute driver is not there."""
    folder = f"{FOLDER}/topology/nodes"
    names = sorted((name for name in machine.names(folder) if name.isdecimal()), key=int)
    found = (_node(machine, f"{folder}/{name}") for name in names)
    return [node for node in found if node is not None]


def _node(machine: Machine, folder: str) -> Node | None:
    gpu_id = machine.number(f"{folder}/gpu_id")
    if not gpu_id:
        return None
    facts: dict[str, int] = {}
    try:
        text = machine.text(f"{folder}/properties")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdecimal():
            facts[key] = int(value)
    place, unique = facts.get("location_id", 0), facts.get("unique_id", 0)
    pci = f"{facts.get('domain', 0):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
    units = facts.get("simd_count", 0) // max(facts.get("simd_per_cu", 0), 1)
    return Node(str(gpu_id), pci, f"GPU-{unique:016x}" if unique else "", units)


def visible_cards(machine: Machine, addresses: Sequence[str]) -> list[str]:
    """Those of the AMD cards at these PCI addresses that the environment lets a ROCm program use.

    ROCm counts its own GPUs; where the compute driver does not list them, the order of `addresses` is taken.
    """
    names = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    if not any(name in machine.environ for name in names):
        return list(addresses)
    known = [(node.pci, node.uuid) for node in nodes(machine)]
    known = known or [(address, _uuid(machine, address)) for address in addresses]
    chosen = {known[at][0] for at in amd_visible(machine.environ, [uuid for _, uuid in known])}
    return [address for address in addresses if address in chosen]


def _uuid(machine: Machine, address: str) -> str:
    try:
        return f"GPU-{int(machine.text(f'{_DRIVER}/{address}/unique_id'), 16):016x}"
    except (OSError, ValueError):
        return ""


class QueueUse:
    """Compute-unit seconds by process on the cards of `devices` (the channel's device by PCI address)."""

    def __init__(self, machine: Machine, devices: Mapping[str, str]) -> None:
        self._machine = machine
        self._nodes = [(node, devices[node.pci]) for node in nodes(machine) if node.pci in devices]
        self._busy_s: dict[tuple[str, int], float | None] = {}
        self._queues: dict[str, str] = {}
        self._last_s: float | None = None

    def look(self, now_s: float) -> None:
        """Note who has queues now, and take what they do now for the time since the last look."""
        if not self._nodes:
            return
        elapsed_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        seen: dict[str, str] = {}
        for name in self._machine.names(f"{FOLDER}/proc"):
            if name.isdecimal():
                self._look_at(int(name), elapsed_s, seen)
        self._queues = seen

    def take(self) -> dict[tuple[str, int], float | None]:
        """What was noted since the last call, by device and PID; None where the kernel does not tell."""
        taken, self._busy_s = self._busy_s, {}
        return taken

    def _look_at(self, pid: int, elapsed_s: float, seen: dict[str, str]) -> None:
        folder = f"{FOLDER}/proc/{pid}"
        users = self._users(folder, seen)
        for node, device in self._nodes:
            if node.gpu_id not in users:
                continue
            working = self._machine.number(f"{folder}/stats_{node.gpu_id}/cu_occupancy")
            before_s = self._busy_s.get((device, pid), 0.0)
            if working is None or before_s is None or not node.compute_units:
                self._busy_s[device, pid] = None
            else:
                share = min(max(working, 0) / node.compute_units, 1.0)
                self._busy_s[device, pid] = before_s + share * elapsed_s

    def _users(self, folder: str, seen: dict[str, str]) -> set[str]:
        """The cards that a process has queues or, on old kernels, memory on. A queue stays on its card."""
        names = self._machine.names(folder)
        if "queues" not in names:
            return {
                name[len("vram_") :]
                for name in names
                if name.startswith("vram_") and self._machine.number(f"{folder}/{name}")
            }
        for queue in self._machine.names(f"{folder}/queues"):
            path = f"{folder}/queues/{queue}/gpuid"
            seen[path] = self._queues.get(path) or str(self._machine.number(path) or "")
        return {gpu_id for path, gpu_id in seen.items() if path.startswith(f"{folder}/")}
