"""The model sensor: joules from a formula, for machines where nothing can be measured.

Apart from the hardware sensors because its figures are estimates, and say so: provenance `estimated`,
with the power of the idle and of the fully loaded machine as bounds. Two sensors, CPU and RAM; where the
CPU's figures already hold the memory's share (`includes_memory`), the RAM's must not be added to them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from emt_cli import data
from emt_cli.data.cpu_power import CpuPower, cpu_power
from emt_cli.data.processors import Processor, read_cpuinfo
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, File, Machine

Clock = Callable[[], float]

_BYTES_PER_GB = 2**30
"""Memory is sold, and its coefficients are stated, in binary gigabytes."""


def open_cpu(machine: Machine, *, clock: Clock = time.monotonic) -> CpuModel:
    """The CPU's model. Raises Absent where /proc/stat cannot be read or counts nothing."""
    try:
        stat = machine.keep("/proc/stat")
    except OSError as error:
        raise Absent(f"/proc/stat cannot be read: {error.strerror or error}") from error
    try:
        text = stat.read().decode("ascii", "replace")
        times = _cpu_times(text)
    except (OSError, ValueError) as error:
        stat.close()
        raise Absent(f"/proc/stat cannot be read: {error}") from error
    if not any(times):
        stat.close()
        raise Absent("/proc/stat counts nothing here (some sandboxes fill it with zeros)")
    try:
        processor = read_cpuinfo(machine.text("/proc/cpuinfo"))
    except OSError:
        processor = Processor()
    cpus = _logical_cpus(machine, text)
    return CpuModel(stat, cpu_power(processor, cpus), processor.name, cpus, clock)


def open_ram(machine: Machine, *, clock: Clock = time.monotonic) -> RamModel:
    """The RAM's model. Raises Absent where /proc/meminfo does not tell MemTotal."""
    try:
        for line in machine.text("/proc/meminfo").splitlines():
            if line.startswith("MemTotal:"):
                return RamModel(int(line.split()[1]) * 1024, clock)
    except (OSError, ValueError, IndexError) as error:
        raise Absent(f"/proc/meminfo cannot be read: {error}") from error
    raise Absent("/proc/meminfo does not tell the size of the memory")


class CpuModel:
    """Joules of the CPUs from the time they were busy: idle_w x T + (full_w - idle_w) x busy / CPUs.

    Source: medians of SPECpower_ssj2008 results by processor family (whole server, per hardware thread),
    else the part's TDP, else the median family; the channel's `source` and `note` name the row and its
    numbers. Unit: joules since opening. Busy time is CPUs x T less idle, I/O wait and stolen time of
    /proc/stat, in its 10 ms ticks, so that the joules do not depend on how often it is read. Rights: none.

    Known lies. A straight line between idle and full: real power rises faster at low load. No notion of
    frequency, turbo (twice the TDP for a while) or vector width (AVX-512 draws more per busy second). No
    split by package. A guest is given its threads' share of a well-filled server. A hypervisor that
    renames its processor is believed. Server figures hold memory, board, fans and power supply.
    """

    name = "model"
    min_period_s = 0.1

    def __init__(self, stat: File, power: CpuPower, cpu_name: str, cpus: int, clock: Clock) -> None:
        self.includes_memory = power.includes_memory
        self._stat, self._clock, self._cpus = stat, clock, cpus
        self._idle_w, self._dynamic_w = power.idle_w, power.full_w - power.idle_w
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._start: tuple[float, list[int]] | None = None
        self._joules = 0.0
        self.channels: Sequence[Channel] = (
            Channel(
                id="cpu",
                sensor=self.name,
                device="cpu",
                domain="package",
                kind="model",
                provenance="estimated",
                source=power.source,
                resolution_j=self._dynamic_w * self._tick_s,
                update_period_s=self._tick_s,
                max_power_w=2 * power.full_w,
                idle_w=power.idle_w,
                low_w=power.idle_w,
                high_w=power.full_w,
                note=f"{cpu_name or 'unnamed processor'}: {power.note}",
            ),
        )
        self.read()

    def read(self) -> Sequence[Reading | Gap]:
        now = self._clock()
        try:
            times = _cpu_times(self._stat.read().decode("ascii", "replace"))
        except (OSError, ValueError) as error:
            return (Gap(now, f"/proc/stat: {error}"),)
        if self._start is None:
            self._start = (now, times)
        elapsed = now - self._start[0]
        busy_s = self._busy_s(elapsed, [new - old for new, old in zip(times, self._start[1], strict=True)])
        joules = self._idle_w * elapsed + self._dynamic_w * busy_s / self._cpus
        # Ticks come in steps of 10 ms: two readings close together must not run backwards.
        self._joules = max(self._joules, joules)
        return (Reading(now, self._joules),)

    def close(self) -> None:
        self._stat.close()

    def _busy_s(self, elapsed: float, ticks: list[int]) -> float:
        """CPU seconds of work in `elapsed` seconds, from the ticks of the eight columns.

        What is left of the CPUs' time when the unused is taken away is finer than the busy columns, which
        only sample. But where the columns do not add up to the CPUs' time (a CPU was switched off, the file
        shows a container's CPUs), the busy columns are what can be believed.
        """
        capacity = self._cpus * elapsed
        seconds = [count * self._tick_s for count in ticks]
        unused = seconds[3] + seconds[4] + seconds[7]
        busy = sum(seconds) - unused
        if abs(sum(seconds) - capacity) <= 0.1 * capacity + 2 * self._cpus * self._tick_s:
            busy = capacity - unused
        return min(max(busy, 0.0), capacity)


class RamModel:
    """Joules of the memory: watts per gigabyte x MemTotal x time, whatever the memory does.

    Source: 0.3725 W/GB (Green Algorithms v3), between Boavizta's 0.284 and Cloud Carbon Footprint's 0.392,
    which are the bounds. Unit: joules since opening. Rights: none.

    Known lies. Power by size alone: DIMM count, generation and traffic do not enter. MemTotal is what the
    kernel can use, a few percent less than what is plugged in; in a guest it is the guest's share.
    """

    name = "model"
    min_period_s = 0.1

    def __init__(self, size_bytes: int, clock: Clock) -> None:
        gigabytes = size_bytes / _BYTES_PER_GB
        low, middle, high = (
            _coefficient(name)
            for name in ("memory_w_per_gb_boavizta", "memory_w_per_gb_green_algorithms", "memory_w_per_gb")
        )
        self._power_w = middle * gigabytes
        self._clock, self._start_s = clock, clock()
        self.channels: Sequence[Channel] = (
            Channel(
                id="ram",
                sensor=self.name,
                device="ram",
                domain="dram",
                kind="model",
                provenance="estimated",
                source=f"{middle:g} W/GB, Green Algorithms v3",
                max_power_w=2 * high * gigabytes,
                idle_w=self._power_w,
                low_w=low * gigabytes,
                high_w=high * gigabytes,
                note=f"{gigabytes:.1f} GB; bounds {low:g} (Boavizta) and {high:g} W/GB (CCF)",
            ),
        )

    def read(self) -> Sequence[Reading | Gap]:
        now = self._clock()
        return (Reading(now, self._power_w * (now - self._start_s)),)

    def close(self) -> None:
        """Nothing is kept open."""


def _coefficient(name: str) -> float:
    row = data.find("power_coefficient", name)
    assert row is not None, f"the table has a row {name}; a test says so"
    return float(row["value"])


def _cpu_times(text: str) -> list[int]:
    """Ticks of the machine: user, nice, system, idle, iowait, irq, softirq, steal. Raises ValueError."""
    line = text.partition("\n")[0].split()
    if len(line) < 5 or line[0] != "cpu":
        raise ValueError("no line of CPU times")
    times = [int(word) for word in line[1:9]]
    return times + [0] * (8 - len(times))


def _logical_cpus(machine: Machine, stat: str) -> int:
    """CPUs that /proc/stat counts: its own lines where all were read, else the kernel's list of them."""
    lines = stat.splitlines()
    count = sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)
    if count and any(line.startswith("intr") for line in lines):
        return count
    try:
        online = machine.text("/sys/devices/system/cpu/online")
        ends = [span.partition("-") for span in online.split(",")]
        return sum(int(last or first) - int(first) + 1 for first, _, last in ends)
    except (OSError, ValueError):
        return count or os.cpu_count() or 1
