"""CPU seconds of the tree and of the machine, through psutil and what the system itself adds up.

Witnesses: `psutil` (the polled processes), `rusage` (POSIX: the command with all children that were waited
for), `job` (Windows: everything that was ever in the job, complete). The largest is taken, never a sum.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from emt_cli.measure.portable.tree import BLIND_SPOT, PolledTree
from emt_cli.measure.systems import CpuReading
from emt_cli.model import CpuTime

if TYPE_CHECKING:
    from emt_cli.measure.portable.windows import Job
    from emt_cli.measure.systems import Child

_SHORTEST_PASS_S = 0.5
_PASS_SHARE = 0.01
"""The passes over the tree may take this share of one core; a large tree is looked at less often."""
_PAUSE_S = 1.0


class PolledCpu:
    """See `systems.CpuAccount`."""

    def __init__(self, child: Child, tree: PolledTree, job: Job | None, period_s: float) -> None:
        import psutil

        self._child, self._tree, self._job = child, tree, job
        self._cpu_times = psutil.cpu_times
        self._logical_cpus = psutil.cpu_count() or 1
        self._period_s = period_s
        self.own_start_s = 0.0
        self.paused_s = 0.0
        self._start: tuple[float, float, float] | None = None
        self._machine_s = 0.0
        self._tree_s = 0.0
        self._series_s = 0.0
        self._last_read_s = self._next_pass_s = 0.0

    def begin(self) -> CpuReading:
        self.own_start_s = time.process_time()
        self._machine_s = 0.0
        self._start = self._look_at_machine()
        self._last_read_s = self._start[0]
        return CpuReading(t_s=self._start[0], tree_s=0.0, machine_s=0.0)

    def note_exec(self, before_s: float) -> None:
        """The command runs: look at it for the first time."""
        if self._child.pid:
            self._tree.plant(self._child.pid)

    def read(self, *, is_last: bool = False) -> CpuReading:
        now = time.monotonic()
        late_s = now - self._last_read_s - self._period_s
        if late_s > _PAUSE_S:
            self.paused_s += late_s
        self._last_read_s = now
        if is_last or now >= self._next_pass_s:
            self._tree_s = self._tree.pass_over(now)
            cost_s = time.monotonic() - now
            self._next_pass_s = now + max(_SHORTEST_PASS_S, cost_s / _PASS_SHARE)
        self._series_s = max(self._series_s, self._tree_s, self._job_s() or 0.0)
        at_s = self._update_machine()
        return CpuReading(t_s=at_s, tree_s=self._series_s, machine_s=self._machine_s)

    def finish(self, root_s: float) -> CpuTime:
        """`root_s`: rusage of the reaped root, its waited-for children included; 0 where there is none."""
        witnesses = {"psutil": self._tree_s}
        job_s = self._job_s()
        if job_s is not None:
            witnesses["job"] = job_s
        else:
            witnesses["rusage"] = root_s + self._tree.live_s()
        winner = max(witnesses, key=lambda name: witnesses[name])
        return CpuTime(
            tree_s=witnesses[winner],
            machine_s=self._machine_s,
            witnesses=witnesses,
            winner=winner,
            spread_s=max(witnesses.values()) - min(witnesses.values()),
            series_s=self._series_s,
            coverage=None if job_s is None else 1.0,
            logical_cpus=self._logical_cpus,
            refusals={} if self._job is None or job_s is not None else {"job": self._job.refusal},
            blind_spot=BLIND_SPOT if job_s is None else "",
            processes_seen=self._tree.count,
        )

    def disband(self) -> None:
        if self._job is not None:
            self._job.close()

    def _job_s(self) -> float | None:
        return None if self._job is None else self._job.seconds()

    def _update_machine(self) -> float:
        """Busy seconds of all CPUs since the start: what idle time leaves of the available, which is finer
        than the busy columns; those where idle time makes no sense. Returns when it was read."""
        assert self._start is not None, "read before the start edge"
        at_s, idle_s, busy_s = self._look_at_machine()
        available_s = self._logical_cpus * (at_s - self._start[0])
        idle_s -= self._start[1]
        is_sound = 0 <= idle_s <= 1.1 * available_s + 0.1
        spent_s = available_s - idle_s if is_sound else busy_s - self._start[2]
        self._machine_s = max(self._machine_s, spent_s)
        return at_s

    def _look_at_machine(self) -> tuple[float, float, float]:
        """When, and idle and busy CPU seconds since boot. Windows' interrupt time is inside `system`."""
        times = self._cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        busy_s = times.user + getattr(times, "nice", 0.0) + times.system
        return time.monotonic(), idle_s, busy_s
