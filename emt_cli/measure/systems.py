"""The seam between a run and the operating system: what `session` asks of it.

Linux holds a forked child and reads /proc and perf (`on_linux`); everywhere else the child is started when
all is ready, and psutil looks at it (`portable`). `here` chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

if TYPE_CHECKING:
    from emt_cli.measure.users import User
    from emt_cli.model import CgroupUse, CpuTime, Exit, Process
    from emt_cli.sensors.base import Machine


class CpuReading(NamedTuple):
    """Cumulative CPU seconds since the start; None where nothing could be read."""

    t_s: float
    tree_s: float | None
    machine_s: float | None


class Child(Protocol):
    """The command before it runs. `release` lets it go, `abandon` sends it away; one of the two, once.

    `release` raises CommandNotFoundError, NotExecutableError or LaunchError.
    """

    pid: int
    is_released: bool
    own_cpu_s: float
    """CPU time of the child that is emt's, not the command's; known after `release`."""

    def release(self) -> None: ...

    def abandon(self) -> None: ...


class TreeBooks(Protocol):
    """Who is in the tree."""

    def has(self, pid: int) -> bool: ...

    def processes(self, origin_s: float, root_command: str) -> tuple[Process, ...]: ...


class CpuAccount(Protocol):
    """CPU seconds of the tree and of the machine. One thread at a time; `begin` first, `finish` last."""

    own_start_s: float
    paused_s: float

    def begin(self) -> CpuReading: ...

    def note_exec(self, before_s: float) -> None: ...

    def read(self, *, is_last: bool = False) -> CpuReading: ...

    def finish(self, root_s: float) -> CpuTime: ...

    def disband(self) -> None: ...


class System(Protocol):
    """One run's dealings with the operating system, in the order in which they happen."""

    def enter(self) -> None:
        """Take signals into hand; from here on none ends emt, and all that concern the command reach it."""

    def hold(self, command: Sequence[str], user: User | None) -> Child:
        """The command, not yet running. Raises LaunchError."""

    def prepare(self) -> None:
        """What has to be asked of the system before the command runs. Raises OSError."""

    def follow(self, helpers: frozenset[int]) -> TreeBooks:
        """Begin the books of the tree. `helpers` are children that emt has started for itself."""

    def meter(
        self, machine: Machine, *, use_perf: bool, use_cgroup: CgroupUse, period_s: float
    ) -> CpuAccount: ...

    def wait(self) -> None:
        """Return when the command is over."""

    def wait_for_rest(self) -> None:
        """Return when its descendants are gone too."""

    def end(self, at_once: bool) -> bool:
        """From any thread: ask the command and its descendants to end (SIGTERM), or kill them. False where it
        is over. Raises PermissionError where it belongs to another user."""

    def reap(self) -> tuple[Exit, float]:
        """How the command ended, and its CPU seconds with those of the children that it waited for."""

    def again(self) -> System:
        """For one more command under the signals that this one has in hand."""

    def apart(self, work: Callable[[], None]) -> Exit:
        """Do a piece of work so that it leaves no thread, driver or open file behind here: on Linux in a
        forked process, which is given the signals as the command is. `work` must not raise."""

    def run_aside(self, command: Sequence[str]) -> Exit:
        """Run a command that is not measured, and wait for it. Status 125 if it could not be started."""

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, or until a signal comes that would have ended emt."""

    def disregard(self, senders: Iterable[int]) -> None:
        """These processes belonged to the command that has just run apart: what they sent to its group, emt
        included, was no order to emt. They may be gone before emt has seen whose signal it was."""

    @property
    def interrupted_by(self) -> int | None:
        """The last signal that would have ended emt and came from outside of a command, while `apart`,
        `run_aside` or `rest` went on. The command was told too; None if there was none."""

    def outlast(self) -> Exit:
        """How the command ended, after a fault of the measuring; waits for it if need be."""

    def suspended_s(self) -> float:
        """Seconds that the machine was suspended; only differences mean anything."""

    def peak_memory_bytes(self) -> int | None: ...

    def die_by(self, number: int) -> NoReturn:
        """End this process as a signal of that number would."""
