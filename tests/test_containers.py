"""What /proc and the control groups say inside a container: of how many CPUs the machine's time is, which the
model and the attribution must agree on, and how many of them are this job's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

import pytest

from emt_cli import host
from emt_cli.measure.linux import MachineClock
from emt_cli.proc_stat import counted_cpus, cpu_times, listed_cpus
from emt_cli.sensors.base import Absent, Machine
from emt_cli.sensors.load import LoadClock

ONLINE = "/sys/devices/system/cpu/online"


def stat(cpus: int, ticks: int = 1000, *, tail: str = "intr 12 3 4\nctxt 5\nbtime 1700000000\n") -> str:
    lines = "".join(f"cpu{n} {ticks} 0 0 {9 * ticks} 0 0 0 0 0 0\n" for n in range(cpus))
    return f"cpu  {cpus * ticks} 0 0 {cpus * 9 * ticks} 0 0 0 0 0 0\n{lines}{tail}"


class Content:
    def __init__(self, text: str) -> None:
        self._content = text.encode()[:4096]

    def read(self) -> bytes:
        return self._content

    def close(self) -> None:
        """Nothing is kept open."""


def reader(files: Mapping[str, str]) -> Callable[[str], Content]:
    def read(path: str) -> Content:
        if path not in files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Content(files[path])

    return read


def inside(files: Mapping[str, str]) -> Machine:
    return Machine(open_file=reader(files), environ={})


PLACES = {
    "docker with a cpuset of 2 shows the whole host": ({"/proc/stat": stat(64), ONLINE: "0-63"}, 64),
    "lxcfs shows 2 CPUs of a host with 64": ({"/proc/stat": stat(2), ONLINE: "0-63"}, 2),
    "lxcfs shows sysfs so as well": ({"/proc/stat": stat(2), ONLINE: "0-1"}, 2),
    "a file longer than one read": ({"/proc/stat": stat(384), ONLINE: "0-191,384-575"}, 384),
    "CPUs that are switched off are not listed": ({"/proc/stat": stat(6), ONLINE: "0-3,6-7"}, 6),
    "an overlay that ends after the CPUs": ({"/proc/stat": stat(4, tail=""), ONLINE: "0-63"}, 4),
}


@pytest.mark.parametrize("place", PLACES)
def test_model_attribution_and_host_count_the_same_cpus(place: str) -> None:
    files, cpus = PLACES[place]
    machine = inside(files)
    assert LoadClock(machine).cpus == cpus
    assert MachineClock(machine).cpus == cpus
    assert host.facts(machine.text, {}).cpu_count == cpus


def test_a_sandbox_that_counts_nothing_is_unknown_and_not_idle_or_busy() -> None:
    machine = inside({"/proc/stat": stat(4, ticks=0), ONLINE: "0-3"})
    with pytest.raises(Absent, match="zeros"):
        LoadClock(machine)
    with pytest.raises(OSError, match="counts nothing"):
        MachineClock(machine)


def test_a_list_that_is_none_leaves_what_was_counted() -> None:
    assert counted_cpus(stat(200), lambda path: "nonsense") == stat(200).count("\ncpu")
    assert counted_cpus("", lambda path: "0-7") == 8


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-63", 64), ("0-3,8,16-17", 7)])
def test_lists_of_cpus_are_counted(text: str, count: int) -> None:
    assert listed_cpus(text) == count


@pytest.mark.parametrize("text", ["", "intr 1\n", "cpu\n", "cpu a b c d\n", "cpu0 1 2 3 4\n"])
def test_a_text_without_cpu_times_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cpu_times(text)


# --- what is reserved for the job -------------------------------------------------------------------

V1 = "12:cpuset:/docker/abc\n11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
GROUPS = {
    "v2 quota": ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
    "v2 without a quota": ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000"}, None),
    "v2 quota of a parent": (
        {"/proc/self/cgroup": "0::/pod/one\n", "/sys/fs/cgroup/pod/cpu.max": "150000 100000"},
        1.5,
    ),
    "v2 cpuset": ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpuset.cpus": "0-3"}, 4),
    "v1 quota in the container's own mount": (
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        2.5,
    ),
    "v1 quota by the host's path": (
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "50000",
            "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
        },
        0.5,
    ),
    "v1 without a quota": (
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        None,
    ),
    "v1 cpuset, and a larger quota": (
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpuset/cpuset.cpus": "3,5",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    "v1 cpuset of all CPUs": (
        {"/proc/self/cgroup": V1, "/sys/fs/cgroup/cpuset/cpuset.cpus": "0-63"},
        None,
    ),
    "v1 beside an empty v2": (
        {
            "/proc/self/cgroup": V1 + "0::/docker/abc\n",
            "/sys/fs/cgroup/cpuset/docker/abc/cpuset.cpus": "0",
        },
        1,
    ),
    "nonsense": (
        {
            "/proc/self/cgroup": V1 + "::\nx\n",
            "/sys/fs/cgroup/cpuset/cpuset.cpus": "all of them",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "0",
        },
        None,
    ),
    "no control groups": ({}, None),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_limit_reserves_its_cpus_for_the_job(group: str) -> None:
    files, cpus = GROUPS[group]
    assert host.reserved_cpus(inside(files).text, {}, 64) == cpus
