"""CPU seconds of this very process and its descendants, for a meter inside a program.

The witnesses of `cputime` and `portable` with another root: this process, which ran before the start and
runs on after the end. It is somebody else's program, so nothing is taken from it: no subreaper, no signal, no
child is waited for, no limit is raised, few descriptors are kept. What was used until `begin` is the base and
counts nowhere; the meter's own threads count as the program's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from emt_cli.measure.spent import spent_s

if TYPE_CHECKING:
    from emt_cli.measure.systems import CpuAccount
    from emt_cli.model import CpuTime
    from emt_cli.sensors.base import Machine


class OwnTime(NamedTuple):
    """The account of this process, and who belongs to it. `finish` closes the books: call it once, when no
    thread reads any more."""

    account: CpuAccount
    has: Callable[[int], bool]
    finish: Callable[[], CpuTime]
    close: Callable[[], None]
    suspended_s: Callable[[], float]
    """Seconds that the machine was suspended; only differences mean anything. 0 where that is not known."""


def own_time(machine: Machine, helpers: frozenset[int], period_s: float) -> OwnTime:
    """The account for the system that `machine` is. `helpers` are children of this process that sensors read
    through: they are the meter's."""
    if machine.platform == "linux":
        from emt_cli.measure.linux import suspended_s
        from emt_cli.measure.own_tree import OwnCpu, OwnTree

        tree = OwnTree(helpers)
        cpu = OwnCpu(machine, tree, period_s)
        return OwnTime(cpu, tree.has, lambda: cpu.finish(spent_s() - tree.base_s), cpu.close, suspended_s)
    from emt_cli.measure.portable.own_tree import PolledOwnCpu, PolledOwnTree

    polled = PolledOwnTree(helpers)
    account = PolledOwnCpu(polled, period_s)
    own = os.getpid()
    return OwnTime(
        account,
        lambda pid: pid == own or polled.has(pid),
        lambda: account.finish(spent_s() - polled.base_s),
        account.disband,
        lambda: 0.0,
    )
