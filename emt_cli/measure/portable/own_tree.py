"""The tree whose root is this process, through psutil; see `own_time`."""

from __future__ import annotations

import os
import time

from emt_cli.measure.portable.cputime import PolledCpu
from emt_cli.measure.portable.tree import Member, PolledTree
from emt_cli.measure.systems import CpuReading


class PolledOwnTree(PolledTree):
    """See `PolledTree`. Children that were there before the start belong to it, with what they use from then
    on; the `helpers` are met, and their time is not taken."""

    def __init__(self, helpers: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.base_s = 0.0
        self._helpers = helpers

    def begin(self) -> None:
        """What was used until now is not the run's."""
        if self._root is None:
            self.plant(os.getpid())
        self.base_s = super().pass_over(time.monotonic())

    def pass_over(self, now_s: float) -> float:
        return max(0.0, super().pass_over(now_s) - self.base_s)

    def _look_at(self, member: Member) -> bool:
        return True if member.pid in self._helpers else super()._look_at(member)


class OwnProcess:
    """This process where a `systems.Child` is asked for: it runs, and nobody lets it go."""

    is_released = True
    own_cpu_s = 0.0

    def __init__(self) -> None:
        self.pid = os.getpid()

    def release(self) -> None:
        """It runs already."""

    def abandon(self) -> None:
        """It is not ours to send away."""


class PolledOwnCpu(PolledCpu):
    """See `PolledCpu`."""

    def __init__(self, tree: PolledOwnTree, period_s: float) -> None:
        super().__init__(OwnProcess(), tree, None, period_s)
        self._own_tree = tree

    def begin(self) -> CpuReading:
        reading = super().begin()
        self._own_tree.begin()
        return reading
