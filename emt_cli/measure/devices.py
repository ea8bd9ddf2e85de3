"""Who used the GPUs over a run: what sensors tell once a second, summed up by device.

Apart from the tick loops because here PIDs become the tree's and the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from emt_cli.model import DeviceUse, GpuUse

IsOfTree = Callable[[int], bool]


@dataclass(slots=True)
class DeviceShares:
    """Compute-unit seconds on each device, of the tree and of everybody, and who they all were."""

    is_of_tree: IsOfTree
    devices: set[str]
    """Those that can tell; a device that is not among them was never asked."""
    tree_s: dict[str, float | None] = field(default_factory=dict)
    total_s: dict[str, float | None] = field(default_factory=dict)
    tree_pids: dict[str, set[int]] = field(default_factory=dict)
    other_pids: dict[str, set[int]] = field(default_factory=dict)
    sees_others: bool = True
    parts: dict[str, dict[str, DevicePart]] = field(default_factory=dict)
    """Of divided devices, by name; the empty name is all that cannot be seen from here."""

    def add(self, uses: Sequence[GpuUse], *, is_first: bool) -> None:
        for use in uses:
            is_ours = self._is_ours(use.pid)
            pids = self.tree_pids if is_ours else self.other_pids
            pids.setdefault(use.device, set()).add(use.pid)
            if use.part_share is not None:
                part = self.parts.setdefault(use.device, {}).setdefault(use.part, DevicePart(use.part_share))
                (part.tree_pids if is_ours else part.other_pids).add(use.pid)
            if is_first:  # what was done before the start is nobody's
                continue
            for sums in (self.total_s, self.tree_s) if is_ours else (self.total_s,):
                before = sums.get(use.device, 0.0)
                sums[use.device] = None if before is None or use.busy_s is None else before + use.busy_s

    def _is_ours(self, pid: int) -> bool:
        """A process that was the tree's once stays so: its last seconds are often told after its end."""
        return pid > 0 and (any(pid in pids for pids in self.tree_pids.values()) or self.is_of_tree(pid))

    def uses(self) -> tuple[DeviceUse, ...]:
        return tuple(
            DeviceUse(
                device=device,
                tree_busy_s=self.tree_s.get(device, 0.0),
                total_busy_s=self.total_s.get(device, 0.0),
                tree_pids=tuple(sorted(self.tree_pids.get(device, ()))),
                other_pids=tuple(sorted(self.other_pids.get(device, ()))),
                slice_share=slice_share(self.parts[device]) if device in self.parts else None,
                sees_others=self.sees_others,
            )
            for device in sorted(self.devices)
        )


@dataclass(slots=True)
class DevicePart:
    """An instance of a divided device: how much of it that is, and who was seen on it."""

    share: float
    tree_pids: set[int] = field(default_factory=set)
    other_pids: set[int] = field(default_factory=set)


def slice_share(parts: Mapping[str, DevicePart]) -> float:
    """The tree's part of a divided device: of the instances that were used, or may have been, its own; one
    that it shared with others goes by heads. Where none of its processes could be told from others: the
    instances of which nothing is known but that it may use them."""
    used = sum(part.share for part in parts.values())
    ours = sum(
        part.share * len(part.tree_pids) / (len(part.tree_pids) + len(part.other_pids))
        for part in parts.values()
    )
    if not ours:
        ours = sum(part.share for name, part in parts.items() if name and 0 in part.other_pids)
    return min(1.0, ours / used) if used else 0.0
