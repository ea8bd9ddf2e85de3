"""The seam between hardware and everything else: what a sensor is, and where it reads.

A sensor is one file in this package. It is opened by a function that raises one of the three absences'
first two, and from then on only reads:

- `Absent`: the interface is not on this machine. Normal, silent.
- `Denied`: it is there but locked or broken; the error says what to type. A warning.
- `Gap` (in `model`): a single reading failed. Noted, and the next one is tried.

What raw readings mean in joules is decided in `meters`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Gap, GpuUse, Reading


class Absent(SensorError):
    """The interface is not here."""


class Denied(SensorError):
    """The interface is here and cannot be used; `hint` is the remedy."""


@runtime_checkable
class Sensor(Protocol):
    """An opened hardware interface.

    `read` returns one `Reading` or `Gap` per channel, in the order of `channels`, and never raises for a
    fault of the hardware. `min_period_s` is the shortest period at which reading it tells anything new.
    `close` may be called twice.
    """

    name: str
    channels: Sequence[Channel]
    min_period_s: float

    def read(self) -> Sequence[Reading | Gap]: ...

    def close(self) -> None: ...


@runtime_checkable
class SharesDevices(Protocol):
    """A sensor that can also tell which process used its devices.

    It is asked once a second, or every `usage_period_s` where it has that: a process that is gone when it
    is told of for the first time cannot be told from a stranger's. `sees_others` is False where it sees the
    users of this account alone; without the attribute it sees all.
    """

    def usage(self) -> Sequence[GpuUse]: ...


@runtime_checkable
class WaitsForSteps(Protocol):
    """A sensor whose counters stand still for tens of milliseconds: `read_edge` reads just after a step.

    It waits for the next step of every channel, no longer than one update period, and is asked for the
    readings at the edges of a run alone.
    """

    def read_edge(self) -> Sequence[Reading | Gap]: ...


@runtime_checkable
class StartsProcesses(Protocol):
    """A sensor that reads through a program of its own.

    `process_ids` are children of emt that are none of the command's: they are started by the opener, at the
    latest, end when their input does, and reap whatever they start themselves.
    """

    process_ids: Sequence[int]


@runtime_checkable
class Rewinds(Protocol):
    """A sensor that plays something, or counts from the start of the run: `rewind` takes it back to its
    beginning, just before the start edge."""

    def rewind(self) -> None: ...


class File(Protocol):
    """A kept-open kernel file: `read` gives its content of this moment, from the beginning."""

    def read(self) -> bytes: ...

    def close(self) -> None: ...


class KeptFile:
    """A real kernel file behind one descriptor; sysfs and proc render anew for each pread at offset 0.

    Raises OSError where the kernel does.
    """

    __slots__ = ("_fd", "_size")

    def __init__(self, path: str, size: int = 4096) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = size

    def read(self) -> bytes:
        return os.pread(self._fd, self._size, 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Event(Protocol):
    """An opened perf counter: `count` gives its raw count since it was opened. Raises OSError."""

    def count(self) -> int: ...

    def close(self) -> None: ...


def open_event(kind: int, config: int, cpu: int) -> Event:
    """The kernel's counter of the PMU `kind` on one CPU, for all processes. Raises OSError as the kernel
    does (EACCES, EPERM: not allowed; ENOENT, ENODEV: no such event there)."""
    from emt_cli import perf_event

    return perf_event.of_cpu(kind, config, cpu)


def open_rendered(path: str) -> File:
    """What stands in for a file of /proc where there is none. Raises FileNotFoundError for all others."""
    from emt_cli.sensors import rendered

    return rendered.open_file(path)


Opener = Callable[[str], File]
EventOpener = Callable[[int, int, int], Event]


class Machine:
    """Where the kernel's files and counters are read from: the real root, or a simulated machine's folder.

    `open_file` and `open_event` are the only ways in, so that a test can play EIO, EINVAL or a read that
    blocks. `environ` is the environment that sensors may look at (visible devices). `platform` is a value
    of `sys.platform`: tests pretend to be elsewhere with it.
    """

    def __init__(
        self,
        root: str = "/",
        *,
        open_file: Opener | None = None,
        open_event: EventOpener = open_event,
        environ: Mapping[str, str] | None = None,
        platform: str = sys.platform,
    ) -> None:
        self.root = root.rstrip("/")
        self.platform = platform
        self.open_file = open_file or (KeptFile if platform == "linux" else open_rendered)
        self.open_event = open_event
        self.environ: Mapping[str, str] = os.environ if environ is None else environ

    @property
    def is_simulated(self) -> bool:
        return bool(self.root)

    def path(self, name: str) -> str:
        """The path under the root of an absolute kernel path."""
        return self.root + name

    def keep(self, name: str) -> File:
        """Open for reading many times. Raises OSError."""
        return self.open_file(self.path(name))

    def text(self, name: str) -> str:
        """The content, stripped. Raises OSError; text that is not UTF-8 comes with replacement marks."""
        file = self.keep(name)
        try:
            return file.read().decode("utf-8", "replace").strip()
        finally:
            file.close()

    def number(self, name: str) -> int | None:
        """The integer in a file; None where it is missing, unreadable or no number."""
        try:
            return int(self.text(name))
        except (OSError, ValueError):
            return None

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted; nothing where there is no such folder."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def link(self, name: str) -> str:
        """Where a symbolic link leads; empty where there is none or it may not be read."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""
