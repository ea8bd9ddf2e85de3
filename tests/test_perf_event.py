"""The real perf_event_open, on events that need no hardware."""

from __future__ import annotations

import errno
import os
import time

import pytest

from emt_cli import perf_event
from emt_cli.perf_event import PerfEvent
from emt_cli.sensors.base import open_event

SOFTWARE = 1
CPU_CLOCK, TASK_CLOCK = 0, 1
"""PERF_TYPE_SOFTWARE and two of its events (include/uapi/linux/perf_event.h); both count nanoseconds."""


def a_cpu() -> int:
    return min(os.sched_getaffinity(0))


def clock() -> PerfEvent:
    """A clock of a CPU, as the energy events are opened; where that is not allowed, one of this process."""
    try:
        return perf_event.of_cpu(SOFTWARE, CPU_CLOCK, a_cpu())
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOSYS):
            raise
    flags = perf_event.EXCLUDE_KERNEL | perf_event.EXCLUDE_HV
    try:
        return perf_event.of_process(0, SOFTWARE, TASK_CLOCK, flags)
    except OSError as error:
        pytest.skip(f"perf is refused here: {error}")


@pytest.fixture
def event():
    opened = clock()
    yield opened
    opened.close()


def spin(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_a_real_software_event_counts_the_time_that_passes(event: PerfEvent) -> None:
    before_s = time.perf_counter()
    before = event.count()
    spin(0.02)
    counted_s = (event.count() - before) * 1e-9
    assert 0.019 < counted_s <= time.perf_counter() - before_s + 0.001


def test_a_closed_event_raises_and_closing_again_does_nothing(event: PerfEvent) -> None:
    event.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        event.count()
    event.close()


def test_the_descriptor_is_not_inherited(event: PerfEvent) -> None:
    assert not os.get_inheritable(event._fd)


def test_what_the_kernel_does_not_know_is_an_error_with_its_number() -> None:
    with pytest.raises(OSError, match=r".+") as caught:
        open_event(2**31 - 1, 0, a_cpu())
    assert caught.value.errno in (errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM, errno.ENOSYS)


def test_a_cpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        open_event(SOFTWARE, CPU_CLOCK, 8191)


def test_an_event_in_error_state_is_told_and_not_taken_for_zero() -> None:
    """The kernel shows one as end of file."""
    event = PerfEvent(os.open("/dev/null", os.O_RDONLY))
    with pytest.raises(OSError) as caught:
        event.count()
    event.close()
    assert caught.value.errno == errno.ENODATA
