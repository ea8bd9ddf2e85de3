"""Who uses an NVIDIA GPU, by PIDs of this process' own PID namespace.

Apart from the shares of compute time in `sm_time` because here is decided whom a number stands for. Outside
of containers a PID is a PID. In a PID namespace of our own the two questions that the driver answers speak of
different numbers, and some of no use:

- The list of processes holds the host's PIDs with older drivers; newer ones (the open kernel modules'
  `gpuGetProcWithObject`, seen with 560) translate them, and leave out who is not in our namespace.
- The compute time is told by the host's PIDs with all of them (HAMi-core #112).

So a list of which every PID exists here is believed; compute time is not, unless it names the same PIDs, or
one process stands on either side. Whom nothing is known of is PID 0: the tree's or not. WSL2 tells none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from emt_cli.model import GpuUse
from emt_cli.sensors.base import Machine
from emt_cli.sensors.nvml.mig import Instance, instances, is_divided
from emt_cli.sensors.nvml.sm_time import Shares
from emt_cli.sensors.visible import mig_visible

UNKNOWN_PID = 0
_INITIAL_NAMESPACE = "pid:[4026531836]"
"""The kernel's constant inode of the first PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO)."""
_NOT_TOLD = (3, 4, 13)
"""nvmlReturn_t NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND."""

Exists = Callable[[int], bool]


def pids_here(machine: Machine) -> Exists | None:
    """None where the driver's PIDs are ours; in a PID namespace of our own: whether a PID exists in it."""
    if machine.link("/proc/self/ns/pid") in ("", _INITIAL_NAMESPACE):
        return None

    def exists(pid: int) -> bool:
        try:
            machine.text(f"/proc/{pid}/comm")
        except OSError:
            return False
        return True

    return exists


class Users:
    """The users of one GPU, asked again and again; each stretch of compute time is told once."""

    def __init__(
        self, nvml: ModuleType, device: str, handle: Any, setting: str | None, exists: Exists | None
    ) -> None:
        self._nvml, self._device, self._setting, self._exists = nvml, device, setting, exists
        self.move(handle)

    def move(self, handle: Any) -> None:
        """Ask this handle from now on."""
        self._handle = handle
        self.parts = instances(self._nvml, handle) if is_divided(self._nvml, handle) else None
        self._shares = Shares(self._nvml, handle)

    def uses(self) -> list[GpuUse]:
        """Who used the GPU since the last call. A process that did nothing has 0.0 s; None: not told."""
        if self.parts:
            return self._on_parts(self.parts)
        present = self._present(self._handle)
        if present is None:
            return [self._use(UNKNOWN_PID, None)]
        busy = None if self.parts is not None else self._shares.busy_s_by_pid()
        if self._exists is None or busy is None or busy.keys() <= set(present):
            told = dict.fromkeys(present, None if busy is None else 0.0) | (busy or {})
            return [self._use(pid, s) for pid, s in told.items() if s is not None or pid in present]
        return self._translated(present, busy)

    def _translated(self, present: Sequence[int], busy: Mapping[int, float | None]) -> list[GpuUse]:
        """Our PIDs beside the host's of everybody who was busy."""
        if len(present) == len(busy) == 1:
            return [self._use(present[0], next(iter(busy.values())))]
        uses = [self._use(pid, None) for pid in present]
        if present and len(busy) > len(present):
            uses.append(self._use(UNKNOWN_PID, None))
        return uses

    def _on_parts(self, parts: Sequence[Instance]) -> list[GpuUse]:
        """By instance; the part of the board that is not to be seen may be used by anybody."""
        uses: list[GpuUse] = []
        for part in parts:
            pids = self._present(part.handle)
            if pids is None and mig_visible(self._setting, part.uuid):
                pids = [UNKNOWN_PID]
            uses += [self._use(pid, None, part.uuid, part.share) for pid in pids or ()]
        hidden = 1.0 - sum(part.share for part in parts)
        if hidden > 1e-9:
            uses.append(self._use(UNKNOWN_PID, None, "", hidden))
        return uses

    def _present(self, handle: Any) -> list[int] | None:
        """Who holds a context there, by PIDs that mean something here; None where that is not to be had."""
        pids = running(self._nvml, handle)
        if pids is None or (self._exists is not None and not all(map(self._exists, pids))):
            return None
        return pids

    def _use(self, pid: int, busy_s: float | None, part: str = "", share: float | None = None) -> GpuUse:
        return GpuUse(device=self._device, pid=pid, busy_s=busy_s, part=part, part_share=share)


class Untold:
    """The users of a GPU on WSL2, where the driver names none of them, and says so as if there were none."""

    parts: list[Instance] | None = None

    def __init__(self, device: str) -> None:
        self._device = device

    def move(self, handle: Any) -> None:
        """The handle makes no difference."""

    def uses(self) -> list[GpuUse]:
        return [GpuUse(device=self._device, pid=UNKNOWN_PID, busy_s=None)]


def running(nvml: ModuleType, handle: Any) -> list[int] | None:
    """PIDs that hold a compute or graphics context; None where the driver does not tell."""
    pids: dict[int, None] = {}
    is_told = False
    for kind in ("Compute", "Graphics"):
        for version in ("v3", "v2"):  # v2: drivers before 510
            try:
                found = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_{version}")(handle)
            except nvml.NVMLError as error:
                is_told = is_told or error.value not in _NOT_TOLD
            else:
                is_told = True
                pids.update((process.pid, None) for process in found)
                break
    return list(pids) if is_told else None
