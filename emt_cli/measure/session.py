"""One run from the held child to the raw record: `record` ties launching, sampling and CPU time together.

It knows no screen, no store and no concrete sensor: what to open, and where samples go, is given to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emt_cli.errors import EmtError, LaunchError
from emt_cli.measure.sampler import Collector, CpuLoop, Loop, RealClock, SensorLoop
from emt_cli.measure.systems import Child, System
from emt_cli.measure.writer import Observer, Writer
from emt_cli.model import CgroupUse, Channel, DeviceUse, Exit, LateCpu, Notice, Process, Run, Sampling
from emt_cli.notices import notice
from emt_cli.sensors.base import Machine, Sensor, StartsProcesses
from emt_cli.values import Value

if TYPE_CHECKING:
    from emt_cli.measure.users import User
    from emt_cli.measure.watch import Watch

_EDGE_LIMIT_S = 1.0
"""How long the first and the last readings may take before they become gaps."""
_WRITE_LIMIT_S = 10.0
"""How long the last rows may take to reach the disk before they are given up."""
_CLOCK_SET_S = 1.0
_LONGEST_COMMAND = 4096
"""Characters of a process' command line, as for those read from /proc; the run itself has all of its own."""
_LONGEST_TICK_S = 1.0
"""Energy is shared out over windows of a second, whatever the user's frequency: so often all is read."""


class Options(Value):
    """How to measure."""

    frequency_hz: float = 10.0
    use_perf: bool = True
    use_cgroup: CgroupUse = "off"
    wait_tree: bool = False


class MeasuringFault(EmtError):
    """emt itself failed after the command had started; the command was waited for, `exit` is how it ended."""

    def __init__(self, message: str, exit_: Exit) -> None:
        super().__init__(message, hint="please report this with the traceback above")
        self.exit = exit_


def record(
    draft: Run,
    *,
    system: System,
    machine: Machine,
    open_sensors: Callable[[], tuple[Sequence[Sensor], Sequence[Notice]]],
    open_observer: Callable[[], Observer],
    options: Options,
    user: User | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run `draft.command` and return the raw record; `system` is entered, and left to be.

    `open_observer` and `open_sensors` are called when the child is held (on Linux: after the fork). An error
    from either, or from the exec, is raised after the child was sent away: the command has not started
    then. So is a LaunchError where the system gives emt too few descriptors or threads.
    """
    system.enter()
    child = system.hold(draft.command, user)
    session: _Session | None = None
    try:
        system.prepare()
        observer = open_observer()
        sensors, notices = open_sensors()
        session = _Session(draft, machine, system, sensors, notices, observer, options, watch)
        session.prime()
    except BaseException as failure:
        child.abandon()
        if session is not None:
            session.clear_up()
        if _is_shortage(failure):
            raise LaunchError(f"emt could not get ready: {failure}", hint="see: ulimit -a") from failure
        raise
    try:
        session.release(child)
        return session.see_to_the_end()
    except LaunchError:
        raise
    except Exception as fault:
        if not child.is_released:
            child.abandon()
            raise
        raise MeasuringFault(f"measuring failed: {fault}", session.wait_out()) from fault
    finally:
        session.clear_up()


def _is_shortage(failure: BaseException) -> bool:
    """Whether it is the system that refuses: a file, a descriptor, memory or a thread."""
    return isinstance(failure, OSError | MemoryError) or "can't start new thread" in str(failure)


class _Session:
    """The loops of one run, and the thread that writes their samples out."""

    def __init__(
        self,
        draft: Run,
        machine: Machine,
        system: System,
        sensors: Sequence[Sensor],
        notices: Sequence[Notice],
        observer: Observer,
        options: Options,
        watch: Watch | None,
    ) -> None:
        base_s = min(1.0 / options.frequency_hz, _LONGEST_TICK_S)
        self._options = options
        self._system = system
        self._tree = tree = system.follow(_processes_of(sensors))
        self._observer = observer
        self._watch = watch
        self._cpu = system.meter(
            machine, use_perf=options.use_perf, use_cgroup=options.use_cgroup, period_s=base_s
        )
        self._sensor_loops: list[SensorLoop] = []
        channels: list[Channel] = []
        for sensor in sensors:
            self._sensor_loops.append(SensorLoop(sensor, len(channels), base_s, RealClock(), tree.has))
            channels.extend(sensor.channels)
        self._loops: list[Loop] = [CpuLoop(self._cpu, base_s, RealClock()), *self._sensor_loops]
        listen = None if watch is None else watch.see
        self._writer = Writer(observer, Collector(self._loops, len(channels)), base_s, listen)
        self._draft = replace(draft, channels=tuple(channels), notices=(*draft.notices, *notices))

    def prime(self) -> None:
        """Warm up, then read the start edge of every channel; what does not answer in time is left behind."""
        for loop in self._loops:
            loop.start()
        if self._watch is not None:
            self._watch.prepare()
        _wait_all([loop.is_warm for loop in self._loops], _EDGE_LIMIT_S)
        self._observer.begin(self._draft)
        for loop in self._loops:
            loop.prime()
        # Who is stuck already is not waited for twice.
        _wait_all([loop.is_primed for loop in self._loops if loop.is_warm.is_set()], _EDGE_LIMIT_S)

    def release(self, child: Child) -> None:
        """Start the clock and let the command go. Raises LaunchError if it cannot be executed."""
        self._wall_s, self._suspended_s = time.time(), self._system.suspended_s()
        self._origin_s = time.monotonic()
        for loop in self._loops:
            loop.go(self._origin_s)
        try:
            child.release()
        finally:
            self._cpu.note_exec(child.own_cpu_s)
        self._writer.start(self._origin_s, self._processes)
        if self._watch is not None:
            self._watch.start(self._draft, self._origin_s, self._system.end, self._devices)

    def see_to_the_end(self) -> Run:
        """Wait until the command is over, take the last readings, and put the record together."""
        self._system.wait()
        if self._options.wait_tree:
            self._system.wait_for_rest()
        end_s = time.monotonic()
        if self._watch is not None:
            self._watch.stop()
        notices = self._look_at_the_clock(end_s)
        self._stop_loops()
        ended, root_s = self._system.reap()
        cpu_time = self._cpu.finish(root_s)
        for loop in self._sensor_loops:
            loop.finish(end_s)
        self._writer.stop()
        self._writer.is_done.wait(_WRITE_LIMIT_S)
        meters = [each for loop in self._sensor_loops for each in loop.meters]
        return replace(
            self._draft,
            state="complete",
            duration_s=end_s - self._origin_s,
            exit=ended,
            cpu_time=replace(cpu_time, late=_late_since(self._origin_s, cpu_time.late)),
            processes=self._processes(),
            devices=self._devices(),
            observed=tuple(each.observed() for each in meters),
            gaps=tuple(gap for each in meters for gap in each.gaps),
            suspended_s=max(0.0, self._system.suspended_s() - self._suspended_s),
            paused_s=self._cpu.paused_s,
            samples=self._writer.edges,
            notices=(*self._draft.notices, *notices, *self._writer.notices, *self._watch_notices()),
            sampling=self._sampling(),
        )

    def wait_out(self) -> Exit:
        """How the command ended, after a fault of the measuring: what is sent to emt still reaches it."""
        return self._system.outlast()

    def clear_up(self) -> None:
        """Leave nothing behind on the machine."""
        if self._watch is not None:
            self._watch.stop()
        self._cpu.disband()

    def _processes(self) -> tuple[Process, ...]:
        return self._tree.processes(self._origin_s, " ".join(self._draft.command)[:_LONGEST_COMMAND])

    def _devices(self) -> tuple[DeviceUse, ...]:
        return tuple(use for loop in self._sensor_loops for use in loop.shares.uses())

    def _watch_notices(self) -> list[Notice]:
        return [] if self._watch is None else self._watch.notices()

    def _stop_loops(self) -> None:
        for loop in self._loops:
            loop.stop()
        _wait_all([loop.is_done for loop in self._loops], _EDGE_LIMIT_S)

    def _look_at_the_clock(self, end_s: float) -> list[Notice]:
        elapsed_s = end_s - self._origin_s + self._system.suspended_s() - self._suspended_s
        set_s = time.time() - self._wall_s - elapsed_s
        return [notice("clock_changed", seconds=set_s)] if abs(set_s) > _CLOCK_SET_S else []

    def _sampling(self) -> Sampling:
        ticks = max((loop.ticks for loop in self._loops), key=lambda each: each.done + each.late)
        return Sampling(
            frequency_hz=self._options.frequency_hz,
            ticks=ticks.done,
            late=ticks.late,
            lost_rows=sum(loop.lost for loop in self._loops),
            own_cpu_s=time.process_time() - self._cpu.own_start_s,
            own_total_cpu_s=time.process_time(),
            peak_memory_bytes=self._system.peak_memory_bytes(),
        )


def _processes_of(sensors: Sequence[Sensor]) -> frozenset[int]:
    """The programs that sensors read through: children of emt, and none of the command's."""
    return frozenset(
        pid for sensor in sensors if isinstance(sensor, StartsProcesses) for pid in sensor.process_ids
    )


def _wait_all(events: Sequence[threading.Event], limit_s: float) -> None:
    """Wait for all of them, but no longer than `limit_s` together."""
    until_s = time.monotonic() + limit_s
    for event in events:
        event.wait(max(0.0, until_s - time.monotonic()))


def _late_since(origin_s: float, late: tuple[LateCpu, ...]) -> tuple[LateCpu, ...]:
    """The same with times counted from the start of the run."""
    return tuple(
        LateCpu(start_s=max(0.0, item.start_s - origin_s), end_s=item.end_s - origin_s, cpu_s=item.cpu_s)
        for item in late
    )
