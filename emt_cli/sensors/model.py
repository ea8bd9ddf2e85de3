"""The model sensor: joules from a formula, for machines where nothing can be measured.

Apart from the hardware sensors because its figures are estimates, and say so: provenance `estimated`,
with the power of the idle and of the fully loaded machine as bounds. Two sensors, CPU and RAM; where the
CPU's figures already hold the memory's share (`includes_memory`), the RAM's must not be added to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from emt_cli import data
from emt_cli.data.clouds import read_instance
from emt_cli.data.cpu_power import CpuPower, cpu_power
from emt_cli.data.processors import Processor, read_cpuinfo
from emt_cli.data.runners import read_runner, runner_power
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Machine
from emt_cli.sensors.load import TICK_S, Clock, LoadClock
from emt_cli.sensors.memory import memory_gb


def open_cpu(machine: Machine, *, clock: Clock = time.monotonic) -> CpuModel:
    """The CPU's model. Raises Absent where /proc/stat cannot be read or counts nothing."""
    load = LoadClock(machine, clock)
    processor = _processor(machine)
    is_arm = any(number.startswith("arm ") for number in processor.signature)
    runner = read_runner(machine.environ)
    power = runner_power(runner, processor, load.cpus)
    if power is None:
        is_hidden = processor.is_guest or is_arm or not processor.name
        power = cpu_power(processor, load.cpus, read_instance(machine.text) if is_hidden else None)
        if runner.name:
            power = power._replace(note=f"{runner.name}: {power.note}")
    return CpuModel(load, power, processor.name)


def open_ram(machine: Machine, *, clock: Clock = time.monotonic) -> RamModel:
    """The RAM's model. Raises Absent where /proc/meminfo does not tell MemTotal."""
    return RamModel(memory_gb(machine), clock)


def _processor(machine: Machine) -> Processor:
    try:
        text = machine.text("/proc/cpuinfo")
    except OSError:
        return Processor()
    found = read_cpuinfo(text)
    if found.name or not found.signature:
        return found
    try:  # an Arm board says what it is in its device tree, an Arm server does not
        board = machine.text("/proc/device-tree/model").rstrip("\0")
    except OSError:
        return found
    return read_cpuinfo(f"{text}\nModel : {board}\n")


class CpuModel:
    """Joules of the CPUs from the time they were busy: idle_w x T + (full_w - idle_w) x loaded seconds.

    Source: medians of SPECpower_ssj2008 results by processor family (whole server, per hardware thread),
    else the part's TDP, else the cloud's mean vCPU, else the median family; the channel's `source` and
    `note` name the row and its numbers. Unit: joules since opening. Busy time is that of all CPUs which
    /proc/stat counts, in its 10 ms ticks: in a container with a quota or a cpuset the whole host's, of which
    the tree is given its share, under lxcfs the container's own. Rights: none.

    Between idle and full, a bare-metal server follows its family's measured curve, by whole seconds from
    the start of the run (see `load`): at a tenth of the load it draws a sixth to a quarter of the dynamic
    power, which a straight line would halve. A steady load gives the same joules at any frequency; one that
    changes within a second is taken as its mean over that second. A guest, a client part and a processor
    known by nothing but its TDP follow the straight line: the guest's load is not its host's, and for the
    others no curve is published. A hosted CI runner follows its service's published curve, where there is
    one for its size (ci_runner.csv).

    Known lies. No notion of frequency, turbo (twice the TDP for a while) or vector width (AVX-512 draws
    more per busy second). No split by package. SPECpower's load is throughput; with hyper-threading half
    of the threads busy is more than half of it. A guest is given its threads' share of a well-filled
    server. A hypervisor that renames its processor is believed. Server figures hold memory, board, fans
    and power supply.
    """

    name = "model"
    min_period_s = 0.1

    def __init__(self, load: LoadClock, power: CpuPower, cpu_name: str) -> None:
        self.includes_memory = power.includes_memory
        self._load = load
        self._load.curve = power.curve
        self._idle_w, self._dynamic_w = power.idle_w, power.full_w - power.idle_w
        self.channels: Sequence[Channel] = (
            Channel(
                id="cpu",
                sensor=self.name,
                device="cpu",
                domain="package",
                kind="model",
                provenance="estimated",
                source=power.source,
                resolution_j=self._dynamic_w * TICK_S,
                update_period_s=TICK_S,
                max_power_w=2 * power.full_w,
                idle_w=power.idle_w,
                low_w=power.idle_w,
                high_w=power.full_w,
                note=f"{cpu_name or 'unnamed processor'}: {power.note}",
            ),
        )
        self.read()

    def rewind(self) -> None:
        """Count from the start of the run on, so that the curve's seconds are the run's."""
        self._load.rewind()

    def read(self) -> Sequence[Reading | Gap]:
        try:
            loaded = self._load.read()
        except (OSError, ValueError) as error:
            return (Gap(self._load.now(), f"/proc/stat: {error}"),)
        joules = self._idle_w * loaded.elapsed_s + self._dynamic_w * loaded.loaded_s
        return (Reading(loaded.t_s, joules),)

    def close(self) -> None:
        self._load.close()


class RamModel:
    """Joules of the memory: watts per gigabyte x MemTotal x time, whatever the memory does.

    Source: 0.3725 W/GB (Green Algorithms v3), between Boavizta's 0.284 and Cloud Carbon Footprint's 0.392,
    which are the bounds. Unit: joules since opening. Rights: none.

    Known lies. Power by size alone: DIMM count, generation and traffic do not enter. MemTotal is what the
    kernel can use, a few percent less than what is plugged in; in a guest it is the guest's share, in a
    container the whole host's whatever its limit is, except under lxcfs.
    """

    name = "model"
    min_period_s = 0.1

    def __init__(self, gigabytes: float, clock: Clock) -> None:
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
