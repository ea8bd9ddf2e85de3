"""The machines of the field, described: what each shows in its sysfs, and what that must come to.

A description builds a folder (see `tests.simulation`) whose counters follow known power functions, and says
by itself what the truth is: the watts of every channel that counts, of the whole node where somebody sees
it, and which channels only repeat others. `test_catalogue` puts the whole command on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.amdsmi import FakeAmdGpu, fake_amd
from tests.fakes.nvml import FakeGpu, fake_nvml
from tests.simulation import Fault, PowerEvent, Signal, SimulatedMachine, Zone, constant

GIGABYTE = 2**30
RAM_W_PER_GB = 0.3725
"""Green Algorithms v3: what emt takes where nobody measures the memory."""

HWMON = "/sys/class/hwmon"
BATTERY = "/sys/class/power_supply/BAT0"
CRAY = "/sys/cray/pm_counters"
PMU = "/sys/bus/event_source/devices/power"


@dataclass(frozen=True, kw_only=True)
class Described:
    """A machine and its truth.

    `counted`: watts of every channel of the total. `platform_w`: what the whole-node sensor sees. `dropped`:
    channels that repeat others. `warns`: codes of the warnings that a run there carries beyond those that
    every run here has. `surround` makes what is not a file (a driver's library) and says in which
    environment it is found.
    """

    name: str
    parts: dict[str, Any]
    counted: dict[str, float]
    platform_w: float | None = None
    dropped: tuple[str, ...] = ()
    provenance: str = "measured"
    warns: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    surround: Callable[[Path], dict[str, str]] | None = None
    seconds: float = 1.2
    """How long a command has to take, so that a counter's step is well below half a percent."""

    @property
    def total_w(self) -> float:
        return sum(self.counted.values())

    def build(self, folder: Path) -> tuple[SimulatedMachine, dict[str, str]]:
        """The machine in a folder, and the environment that belongs to it."""
        machine = SimulatedMachine(folder, **self.parts)
        return machine, self.surround(folder) if self.surround is not None else {}


def package(number: int, watts: float, *parts: tuple[str, float], **options: Any) -> tuple[Zone, ...]:
    """A socket and its sub-zones."""
    folder = f"intel-rapl:{number}"
    zones = [Zone(folder=folder, name=f"package-{number}", power=constant(watts), **options)]
    zones += [
        Zone(folder=f"{folder}:{at}", name=name, power=constant(part_w))
        for at, (name, part_w) in enumerate(parts)
    ]
    return tuple(zones)


def hwmon(number: int, name: str, **texts: str) -> dict[str, str]:
    """Fixed files of a hwmon device."""
    folder = f"{HWMON}/hwmon{number}"
    return {f"{folder}/name": f"{name}\n"} | {f"{folder}/{file}": f"{text}\n" for file, text in texts.items()}


def battery(status: str, **texts: str) -> dict[str, str]:
    facts = {"type": "Battery", "present": "1", "status": status, **texts}
    return {f"{BATTERY}/{file}": f"{text}\n" for file, text in facts.items()}


def _xeon() -> Described:
    sockets = (*package(0, 140, ("dram", 20)), *package(1, 110, ("dram", 15)))
    return Described(
        name="two-socket Xeon with psys and mmio mirrors",
        parts={
            "zones": (
                *sockets,
                Zone(folder="intel-rapl:2", name="psys", power=constant(420)),
                Zone(folder="intel-rapl-mmio:0", name="package-0", mirror_of="intel-rapl:0"),
                Zone(folder="intel-rapl-mmio:1", name="package-1", mirror_of="intel-rapl:1"),
            )
        },
        counted={"cpu0/package": 140, "cpu0/dram": 20, "cpu1/package": 110, "cpu1/dram": 15},
        platform_w=420,
        dropped=("cpu0/package-mmio", "cpu1/package-mmio"),
    )


def _xeon_with_perf() -> Described:
    events = [
        PowerEvent(config=config, cpu=cpu, power=constant(watts))
        for config, cpu, watts in ((2, 0, 140.0), (2, 18, 110.0), (3, 0, 20.0), (3, 18, 15.0))
    ]
    topology = {
        f"/sys/devices/system/cpu/cpu{cpu}/topology/{file}": text
        for cpu, socket in ((0, 0), (18, 1))
        for file, text in (("physical_package_id", f"{socket}\n"), ("die_id", "0\n"))
    }
    pmu = {
        f"{PMU}/type": "23\n",
        f"{PMU}/cpumask": "0,18\n",
        f"{PMU}/format/event": "config:0-7\n",
    }
    for name, number in (("energy-pkg", 2), ("energy-ram", 3)):
        pmu |= {
            f"{PMU}/events/{name}": f"event=0x0{number}\n",
            f"{PMU}/events/{name}.scale": "2.3283064365386962890625e-10\n",
            f"{PMU}/events/{name}.unit": "Joules\n",
        }
    zones = (*package(0, 140, ("dram", 20)), *package(1, 110, ("dram", 15)))
    return Described(
        name="two-socket Xeon whose counters perf tells too",
        parts={"zones": zones, "events": events, "files": {**pmu, **topology}},
        counted={"cpu0/package": 140, "cpu0/dram": 20, "cpu1/package": 110, "cpu1/dram": 15},
        dropped=("cpu0/package.2", "cpu0/dram.2", "cpu1/package.2", "cpu1/dram.2"),
    )


def _epyc() -> Described:
    return Described(
        name="EPYC with two dies that repeat one counter, and no dram",
        parts={
            "zones": (
                Zone(folder="intel-rapl:0", name="package-0-die-0", power=constant(180)),
                Zone(folder="intel-rapl:0:0", name="core", power=constant(9000)),
                Zone(folder="intel-rapl:1", name="package-0-die-1", mirror_of="intel-rapl:0"),
            ),
            "memory_bytes": 256 * GIGABYTE,
            "cpu_model": "AMD EPYC 7763 64-Core Processor",
        },
        counted={"cpu0/package": 180, "ram": 256 * RAM_W_PER_GB},
        dropped=("cpu0/package-die1",),
        provenance="estimated",
    )


def _laptop() -> Described:
    return Described(
        name="laptop on battery",
        parts={
            "zones": (
                *package(0, 18, ("core", 12), ("uncore", 2), ("dram", 1.5)),
                Zone(folder="intel-rapl:1", name="psys", power=constant(26)),
                Zone(folder="intel-rapl-mmio:0", name="package-0", mirror_of="intel-rapl:0"),
            ),
            "signals": (Signal(path=f"{BATTERY}/power_now", form="{uw}", power=constant(31)),),
            "files": battery("Discharging", energy_full="50000000", energy_now="40000000"),
        },
        counted={"cpu0/package": 18, "cpu0/dram": 1.5},
        dropped=("cpu0/package-mmio",),
        platform_w=26,
    )


def _arc() -> Described:
    return Described(
        name="desktop with an Arc card and an integrated GPU",
        parts={
            "zones": package(0, 45, ("core", 30), ("uncore", 6), ("dram", 4)),
            "signals": (Signal(path=f"{HWMON}/hwmon3/energy1_input", form="{uj}", power=constant(120)),),
            "files": hwmon(3, "i915")
            | {
                f"{HWMON}/hwmon3/device/uevent": "DRIVER=i915\nPCI_SLOT_NAME=0000:03:00.0\n",
                "/sys/bus/pci/drivers/i915/0000:03:00.0/vendor": "0x8086\n",
            },
        },
        counted={"cpu0/package": 45, "cpu0/dram": 4, "gpu0": 120},
    )


def _jetson() -> Described:
    rails = (("VDD_IN", 5000, 3.0), ("VDD_CPU_GPU_CV", 5000, 1.2), ("VDD_SOC", 5000, 0.8))
    signals, files = [], hwmon(1, "ina3221")
    for at, (label, millivolts, amperes) in enumerate(rails, start=1):
        volts = millivolts / 1000
        power = constant(volts * amperes)
        signals.append(Signal(path=f"{HWMON}/hwmon1/curr{at}_input", form="{ma}", volts=volts, power=power))
        files |= hwmon(1, "ina3221", **{f"in{at}_input": str(millivolts), f"in{at}_label": label})
    return Described(
        name="Jetson Orin NX",
        parts={"signals": signals, "files": files, "memory_bytes": 16 * GIGABYTE},
        counted={"module0": 15.0},
        provenance="integrated",
    )


def _grace() -> Described:
    rails = (("Module", 480.0), ("Grace", 300.0), ("CPU", 220.0), ("SysIO", 60.0))
    signals, files = [], {}
    for at, (name, watts) in enumerate(rails, start=1):
        folder = f"{HWMON}/hwmon{at}"
        signals.append(Signal(path=f"{folder}/power1_average", form="{uw}", power=constant(watts)))
        files |= hwmon(
            at, "power_meter", power1_average_interval="50", power1_oem_info=f"{name} Power Socket 0"
        )
        files[f"{folder}/device/power1_oem_info"] = f"{name} Power Socket 0\n"
    return Described(
        name="Grace",
        parts={"signals": signals, "files": files, "memory_bytes": 480 * GIGABYTE},
        counted={"module0": 480.0},
        provenance="integrated",
    )


def _cray() -> Described:
    watts = {"": 900.0, "cpu_": 400.0, "memory_": 80.0, "accel0_": 300.0}
    signals = [
        Signal(path=f"{CRAY}/{part}energy", form="{j} J {us} us", start_j=5e6, power=constant(each))
        for part, each in watts.items()
    ]
    signals += [
        Signal(path=f"{CRAY}/{part}power", form="{w} W {us} us", power=constant(each))
        for part, each in watts.items()
    ]
    signals.append(Signal(path=f"{CRAY}/freshness", form="{us}"))
    return Described(
        name="Cray node whose RAPL is locked",
        parts={
            "zones": package(0, 390, ("dram", 78), faults=(Fault(kind="EACCES"),)),
            "faults": {"/sys/class/powercap/intel-rapl:0:0/energy_uj": (Fault(kind="EACCES"),)},
            "signals": signals,
            "files": {f"{CRAY}/generation": "1\n", f"{CRAY}/raw_scan_hz": "10\n"},
        },
        counted={"cpu": 400.0, "ram": 80.0, "accel0": 300.0},
        platform_w=900.0,
        warns=("gpu_whole_device",),
        seconds=6.0,
    )


def _hopper() -> Described:
    def surround(folder: Path) -> dict[str, str]:
        gpus = [
            FakeGpu(power_w=650, refresh_s=0.001),
            FakeGpu(power_w=90, refresh_s=0.001),
        ]
        return fake_nvml(folder / "usr/lib", gpus)

    return Described(
        name="server with two NVIDIA GPUs",
        parts={"zones": (*package(0, 120, ("dram", 18)), *package(1, 60, ("dram", 12)))},
        counted={
            "cpu0/package": 120,
            "cpu0/dram": 18,
            "cpu1/package": 60,
            "cpu1/dram": 12,
            "gpu0": 650,
            "gpu1": 90,
        },
        surround=surround,
    )


def _instinct() -> Described:
    gpus = {"0000:03:00.0": 500.0, "0000:43:00.0": 140.0}
    signals, files = [], {}
    for at, (pci, watts) in enumerate(gpus.items()):
        for folder in (f"/sys/bus/pci/drivers/amdgpu/{pci}/hwmon/hwmon{at}", f"{HWMON}/hwmon{at}"):
            files |= {f"{folder}/name": "amdgpu\n", f"{folder}/power1_label": "PPT\n"}
            signals.append(Signal(path=f"{folder}/power1_average", form="{uw}", power=constant(watts)))

    def surround(folder: Path) -> dict[str, str]:
        for at, pci in enumerate(gpus):
            card = folder / "sys/bus/pci/drivers/amdgpu" / pci
            (folder / f"sys/class/hwmon/hwmon{at}/device").symlink_to(card)
        return fake_amd(str(folder), [FakeAmdGpu(power_w=watts, pci=pci) for pci, watts in gpus.items()])

    return Described(
        name="Instinct node whose GPUs hwmon tells too",
        parts={"zones": package(0, 120, ("dram", 18)), "signals": signals, "files": files},
        counted={"cpu0/package": 120, "cpu0/dram": 18, "gpu0": 500, "gpu1": 140},
        surround=surround,
    )


def _locked() -> Described:
    locked = (Fault(kind="EACCES"),)
    return Described(
        name="locked-down machine",
        parts={
            "zones": package(0, 100, faults=locked),
            "memory_bytes": 8 * GIGABYTE,
        },
        counted={},
        provenance="estimated",
        warns=("estimated", "sensor_denied"),
    )


def _wrapping() -> Described:
    zone = Zone(power=constant(400), range_uj=400 * 10**6, start_uj=399 * 10**6, max_power_uw=250 * 10**6)
    dram = Zone(folder="intel-rapl:0:0", name="dram", power=constant(5))
    return Described(
        name="counters that wrap every second",
        parts={"zones": (zone, dram)},
        counted={"cpu0/package": 400, "cpu0/dram": 5},
    )


def _broken(kind: str, value: float = 0.0) -> Described:
    """A second socket whose counter breaks on the way; the first one must be exact all the same."""
    fault = Fault(kind=kind, first_read=6, value=value)
    return Described(
        name=f"broken: {kind} {value:g}".removesuffix(" 0"),
        parts={
            "zones": (
                *package(0, 80, ("dram", 10)),
                *package(1, 60, ("dram", 10), faults=(fault,), start_uj=10**9),
            )
        },
        counted={"cpu0/package": 80, "cpu0/dram": 10, "cpu1/package": 60, "cpu1/dram": 10},
        gaps=("cpu1/package",),
        warns=("sensor_gap",),
    )


HEALTHY: Sequence[Described] = (
    _xeon(),
    _xeon_with_perf(),
    _epyc(),
    _laptop(),
    _arc(),
    _jetson(),
    _grace(),
    _cray(),
    _hopper(),
    _instinct(),
    _wrapping(),
)
LOCKED = _locked()
BROKEN: Sequence[Described] = (
    _broken("text"),
    _broken("empty"),
    _broken("EIO"),
    _broken("EINVAL"),
    _broken("ENODEV"),
    _broken("garbage", 2.0**63),
    _broken("backwards", 5e8),
    _broken("block", 1.0),
)
