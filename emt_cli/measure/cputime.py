"""CPU seconds of the tree, by several witnesses, and of the machine.

No witness is complete: perf loses a process that execs a set-uid file, rusage one that nobody waits for,
/proc what is born and dead between two looks, a control group what moves out of it. Each is corrected for
what it over-counts, the largest is taken, and never a sum.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from emt_cli.measure import linux
from emt_cli.measure.systems import CpuReading
from emt_cli.measure.tree import Tree
from emt_cli.model import CgroupUse, CpuTime
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.measure.cgroup import RunGroup

_SHORTEST_PASS_S = 0.5
_PASS_SHARE = 0.01
"""The passes over the tree may take this share of one core; a large tree is looked at less often."""
_PAUSE_S = 1.0
_LONGEST_EXEC_S = 0.005
"""An exec frees emt's memory on the child's account, measured 1 to 4 ms; what is beyond is the command's."""


class CpuMeter:
    """Reads all witnesses of the tree and the machine's clock. One thread at a time.

    `refusals` names the witnesses that are not available here, and why.
    """

    def __init__(
        self,
        machine: Machine,
        tree: Tree,
        *,
        use_perf: bool,
        use_cgroup: CgroupUse = "off",
        period_s: float = 0.1,
    ) -> None:
        self._period_s = period_s
        self._tree = tree
        self._perf: linux.TaskClock | None = None
        self._group: RunGroup | None = None
        self._machine: linux.MachineClock | None = None
        self._start: linux.MachineCpu | None = None
        self._machine_s: float | None = None
        self._stolen_s: float | None = None
        self.own_start_s = 0.0
        """CPU time of this process at the start edge."""
        self._proc_s: float | None = None
        self._next_pass_s = 0.0
        self._series_s = 0.0
        self._last_read_s = 0.0
        self.paused_s = 0.0
        """Time in which this process was stopped, as seen by readings that came more than a second late."""
        self.refusals: dict[str, str] = {}
        self.preexec_s = 0.0
        """CPU time of the held child until its exec; it is emt's, not the command's."""
        self._open_machine(machine)
        if not tree.is_visible:
            self.refusals["proc"] = "/proc is hidden"
        self._open_perf(is_wanted=use_perf)
        self._open_group(use_cgroup)

    def _open_machine(self, machine: Machine) -> None:
        try:
            self._machine = linux.MachineClock(machine)
        except OSError as error:
            self.refusals["machine"] = f"/proc/stat: {error.strerror}"

    def _open_perf(self, *, is_wanted: bool) -> None:
        if not is_wanted:
            self.refusals["perf"] = "switched off"
            return
        try:
            self._perf = linux.TaskClock(self._tree.root)
        except OSError as error:
            self.refusals["perf"] = error.strerror or str(error)

    def _open_group(self, use: CgroupUse) -> None:
        """By itself only where it is needed and disturbs nobody: the command can see that it was moved."""
        if use == "off" or (use == "auto" and self._perf is not None):
            self.refusals["cgroup"] = "switched off" if use == "off" else "not needed beside perf"
            return
        from emt_cli.measure import cgroup

        try:
            if use == "auto":
                cgroup.check_harmless(cgroup.own_group())
            self._group = cgroup.RunGroup(self._tree.root)
        except OSError as error:
            self.refusals["cgroup"] = error.strerror or str(error)

    @property
    def logical_cpus(self) -> int:
        return (os.cpu_count() or 1) if self._machine is None else self._machine.cpus

    def begin(self) -> CpuReading:
        """The reading at the start edge, just before the child is released; a later one replaces it."""
        self._start = self._machine_s = None
        self.own_start_s = time.process_time()
        self._start = self._read_machine()
        t_s = time.monotonic() if self._start is None else self._start.t_s
        self._last_read_s = t_s
        return CpuReading(t_s=t_s, tree_s=0.0, machine_s=self._machine_s)

    def note_exec(self, before_s: float) -> None:
        """Call right after the exec: what the child has used by now is emt's, not the command's.

        `before_s` is what it told just before; freeing emt's memory came on top. perf counts from the exec
        on and tells how much of the child's clock is the command's already.
        """
        self.preexec_s = before_s
        try:
            now_s = linux.cpu_clock_s(self._tree.root)
        except OSError:  # the exec failed
            return
        exec_s = now_s - (self._perf_s() or 0.0) - before_s
        self.preexec_s += min(max(0.0, exec_s), _LONGEST_EXEC_S)

    def read(self, *, is_last: bool = False) -> CpuReading:
        """A reading on the way, or at the end edge, when the root is dead but not reaped."""
        now = time.monotonic()
        self._note_pause(now)
        if is_last or now >= self._next_pass_s:
            self._look_at_tree(now)
        seen = [value for value in (self._perf_s(), self._group_s(), self._proc_s) if value is not None]
        if seen:
            self._series_s = max(self._series_s, *seen)
        cpu = self._read_machine()
        return CpuReading(
            t_s=now if cpu is None else cpu.t_s,
            tree_s=self._series_s if seen else None,
            machine_s=None if cpu is None else self._machine_s,
        )

    def finish(self, root_s: float) -> CpuTime:
        """Close the books. `root_s`: rusage of the reaped root, its waited-for children included."""
        tree = self._tree
        tree.enter_reaped(time.monotonic())
        witnesses = {"rusage": max(0.0, root_s + tree.orphans_s + tree.live_s() - self.preexec_s)}
        if (perf_s := self._perf_s()) is not None:
            witnesses["perf"] = perf_s
        if (group_s := self._group_s()) is not None:
            witnesses["cgroup"] = group_s
        if self._proc_s is not None:
            witnesses["proc"] = self._proc_s
        winner = max(witnesses, key=lambda name: witnesses[name])
        sees_all = "perf" in witnesses or "cgroup" in witnesses
        return CpuTime(
            tree_s=witnesses[winner],
            machine_s=self._machine_s,
            witnesses=witnesses,
            winner=winner,
            spread_s=max(witnesses.values()) - min(witnesses.values()),
            series_s=self._series_s,
            coverage=1.0 if sees_all or not self._blind_spot else None,
            stolen_s=self._stolen_s,
            logical_cpus=self.logical_cpus,
            refusals=dict(self.refusals),
            blind_spot=self._blind_spot,
            processes_seen=tree.count,
            late=() if sees_all else tuple(tree.late),
        )

    @property
    def _blind_spot(self) -> str:
        return (
            "/proc is hidden: only what was waited for is known"
            if "proc" in self.refusals
            else self._tree.blind_spot
        )

    def disband(self) -> None:
        """Remove the run's control group, if there is one; the last reading must have been taken."""
        if self._group is not None:
            self._group.disband()
            self._group = None

    def close(self) -> None:
        self.disband()
        for clock in (self._perf, self._machine):
            if clock is not None:
                clock.close()
        self._tree.close()

    def _note_pause(self, now: float) -> None:
        late_s = now - self._last_read_s - self._period_s
        if self._last_read_s and late_s > _PAUSE_S:
            self.paused_s += late_s
        self._last_read_s = now

    def _look_at_tree(self, now: float) -> None:
        if "proc" in self.refusals:
            return
        self._proc_s = max(0.0, self._tree.pass_over(now) - self.preexec_s)
        cost = time.monotonic() - now
        self._next_pass_s = now + max(_SHORTEST_PASS_S, cost / _PASS_SHARE)

    def _perf_s(self) -> float | None:
        if self._perf is None:
            return None
        try:
            return self._without_stolen(self._perf.seconds())
        except OSError as error:
            self.refusals["perf"] = error.strerror or str(error)
            self._perf.close()
            self._perf = None
            return None

    def _without_stolen(self, seconds: float) -> float:
        """perf's clock goes on while the hypervisor has the CPU, the scheduler's does not. What is stolen is
        stolen from those who run, from each in proportion."""
        if not self._machine_s or not self._stolen_s:
            return seconds
        return seconds * self._machine_s / (self._machine_s + self._stolen_s)

    def _group_s(self) -> float | None:
        if self._group is None:
            return None
        try:
            return max(0.0, self._group.seconds() - self.preexec_s)
        except (OSError, ValueError) as error:
            self.refusals["cgroup"] = str(error)
            return None

    def _read_machine(self) -> linux.MachineCpu | None:
        if self._machine is None:
            return None
        try:
            reading = self._machine.read()
        except (OSError, ValueError) as error:
            self.refusals["machine"] = str(error)
            return None
        start = self._start or reading
        self._stolen_s = max(0.0, reading.stolen_s - start.stolen_s)
        # Idle time comes in steps, what is left of it would run back by as much.
        self._machine_s = max(self._machine_s or 0.0, self._busy_s(start, reading) - self._stolen_s)
        return reading

    def _busy_s(self, start: linux.MachineCpu, now: linux.MachineCpu) -> float:
        """CPU seconds of everybody, emt among them, and of the hypervisor: what is left without idle time.

        emt's own stay in: the counters saw them too, and left out here they would be the others' energy.
        Idle time is exact on tickless kernels, the busy columns are sampled by the tick; they serve where
        the idle columns make no sense (a container's own /proc/stat).
        """
        available_s = self.logical_cpus * (now.t_s - start.t_s)
        idle_s = now.idle_s - start.idle_s + now.iowait_s - start.iowait_s
        busy_s = now.busy_s - start.busy_s + now.stolen_s - start.stolen_s
        return available_s - idle_s if 0 <= idle_s <= 1.1 * available_s + 0.1 else busy_s
