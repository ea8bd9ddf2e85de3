"""Machines whose meters are hwmon chips, through the whole command: right joules, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.hwmon import Parts, acpi, chip, energy, grace, jetson, place, power
from tests.fakes.nvml import FakeGpu, fake_nvml
from tests.simulation import Fault, SimulatedMachine, Zone, constant

from .conftest import Measured, Running

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

ARC, RADEON = "0000:03:00.0", "0000:83:00.0"
PACKAGE = Zone(power=constant(20))
UNCORE = Zone(folder="intel-rapl:0:1", name="uncore", power=constant(4))
DRAM = Zone(folder="intel-rapl:0:2", name="dram", power=constant(3))


def built(simulate: Simulate, parts: Parts, *zones: Zone, **options: object) -> SimulatedMachine:
    return simulate(*zones, signals=parts.signals, files=parts.files, **options)


def counted(measured: Measured) -> dict[str, float]:
    """Mean watts of the channels that make up the total."""
    rows = [row for row in measured.energy["channels"] if row["counted"]]
    return {row["id"]: row["machine_j"] / measured.duration_s for row in rows}


def exactly(watts: dict[str, float]) -> dict[str, object]:
    return {id: pytest.approx(each, rel=0.005) for id, each in watts.items()}


def test_a_laptop_with_an_arc_card_counts_it_beside_the_package_that_has_the_other_gpu(
    simulate: Simulate, begin: Begin
) -> None:
    parts = chip(2, "BAT0") + power(2, 70.0) + chip(3, "nvme", temp1_input="40000")
    parts += chip(5, "xe", ARC) + energy(5, 60, 1, "card") + energy(5, 45, 2, "pkg")
    machine = built(simulate, parts, PACKAGE, UNCORE, DRAM)
    runs = [begin(machine, "-F", hertz, command=["sleep", "1.2"]) for hertz in ("1", "10", "100")]
    for measured in [running.finish() for running in runs]:
        assert counted(measured) == exactly({"cpu0/package": 20, "cpu0/dram": 3, "gpu0": 60})
        assert measured.machine_j == pytest.approx(83 * measured.duration_s, rel=0.005)
        assert measured.energy["provenance"] == "measured"
        assert measured.channel("gpu0")["rule"] == "not_used_by_tree"


def test_two_makers_cards_are_two_devices(simulate: Simulate, measure: Measure) -> None:
    parts = chip(4, "amdgpu", RADEON) + power(4, 200.0, label="PPT") + chip(5, "i915", ARC) + energy(5, 60)
    measured = measure(built(simulate, parts, PACKAGE, DRAM), command=["sleep", "1"])
    assert counted(measured) == exactly({"cpu0/package": 20, "cpu0/dram": 3, "gpu0": 200, "gpu1": 60})
    assert {device["device"] for device in measured.record["devices"]} == {"gpu0", "gpu1"}


def test_a_card_that_is_hidden_from_the_command_is_not_counted(simulate: Simulate, measure: Measure) -> None:
    parts = chip(4, "amdgpu", RADEON) + power(4, 200.0) + chip(5, "i915", ARC) + energy(5, 60)
    machine = built(simulate, parts, PACKAGE, DRAM)
    measured = measure(machine, command=["sleep", "1"], env={"HIP_VISIBLE_DEVICES": "-1"})
    assert counted(measured) == exactly({"cpu0/package": 20, "cpu0/dram": 3, "gpu1": 60})


def test_an_apu_is_counted_once_beside_rapl(simulate: Simulate, measure: Measure) -> None:
    apu = chip(5, "amdgpu", "0000:c1:00.0", in1_label="vddnb") + power(5, 21.0)
    measured = measure(built(simulate, apu, PACKAGE, DRAM), command=["sleep", "1"])
    assert counted(measured) == exactly({"cpu0/package": 20, "cpu0/dram": 3})


def test_an_apu_measures_the_cpu_where_rapl_is_locked(simulate: Simulate, measure: Measure) -> None:
    apu = chip(5, "amdgpu", "0000:c1:00.0", in1_label="vddnb") + power(5, 21.0)
    locked = Zone(faults=(Fault(kind="EACCES"),))
    measured = measure(built(simulate, apu, locked), command=["sleep", "1"])
    assert counted(measured)["cpu0/package"] == pytest.approx(21, rel=0.005)
    assert set(counted(measured)) == {"cpu0/package", "ram"}


def test_a_jetson_is_its_input_and_not_the_sum_of_its_rails(simulate: Simulate, measure: Measure) -> None:
    parts = jetson("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    measured = measure(built(simulate, parts), command=["sleep", "1"])
    assert counted(measured) == exactly({"module0": 1})
    assert measured.energy["provenance"] == "integrated"
    assert measured.channel("module0")["rule"] == "cpu_share"


def test_agx_orin_is_the_sum_of_its_rails_and_its_memory_is_in_there(
    simulate: Simulate, measure: Measure
) -> None:
    parts = jetson("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    parts += jetson("NC", "VDDQ_VDD2_1V8AO", number=2)
    measured = measure(built(simulate, parts), command=["sleep", "1"])
    rails = {"module0/vdd-gpu-soc": 1, "module0/vdd-cpu-cv": 2, "module0/vin-sys-5v0": 3}
    assert counted(measured) == exactly(rails)
    assert measured.machine_j == pytest.approx(6 * measured.duration_s, rel=0.005)


def test_a_grace_superchip_is_its_modules(simulate: Simulate, measure: Measure) -> None:
    measured = measure(built(simulate, grace(0) + grace(1)), command=["sleep", "1"])
    assert counted(measured) == exactly({"module0": 480, "module1": 480})


@pytest.mark.parametrize("has_files", [True, False], ids=["driver in sysfs", "driver out of sight"])
def test_a_hopper_module_is_counted_by_nvml_alone(
    simulate: Simulate, measure: Measure, has_files: bool
) -> None:
    machine = built(simulate, grace(0, module_w=700) + _bound(1 if has_files else 0))
    gpu = FakeGpu(name="NVIDIA GH200 480GB", power_w=690, refresh_s=0.001)
    env = fake_nvml(Path(machine.root, "usr/lib"), [gpu])
    measured = measure(machine, command=["sleep", "1"], env=env)
    assert counted(measured) == exactly({"gpu0": 690})


def test_a_blackwell_module_is_its_cpu_and_its_gpus(simulate: Simulate, measure: Measure) -> None:
    machine = built(simulate, grace(0, module_w=2300) + _bound(2))
    gpus = [FakeGpu(name="NVIDIA GB200", power_w=900, refresh_s=0.001) for _ in range(2)]
    env = fake_nvml(Path(machine.root, "usr/lib"), gpus)
    measured = measure(machine, command=["sleep", "1"], env=env)
    assert counted(measured) == exactly({"cpu0/socket": 300, "gpu0": 900, "gpu1": 900})


def _bound(gpus: int) -> Parts:
    """So many NVIDIA GPUs that their driver has."""
    return Parts((), {f"/sys/bus/pci/drivers/nvidia/000{n}:01:00.0/vendor": "0x10de\n" for n in range(gpus)})


def test_the_meter_of_a_server_stands_beside_its_components(simulate: Simulate, begin: Begin) -> None:
    parts = acpi(1, "", 350.0, interval_ms=1000)
    machine = built(simulate, parts, PACKAGE, DRAM)
    runs = [begin(machine, *total, command=["sleep", "1.2"]) for total in ((), ("--total", "platform"))]
    components, platform = (running.finish() for running in runs)
    assert counted(components) == exactly({"cpu0/package": 20, "cpu0/dram": 3})
    assert counted(platform) == exactly({"node/power": 350})
    for measured in (components, platform):
        expected_j = pytest.approx(350 * measured.duration_s, rel=0.005)
        assert measured.energy["platform_j"] == expected_j


def test_a_device_that_nobody_knows_is_in_the_record_and_in_no_total(
    simulate: Simulate, measure: Measure
) -> None:
    parts = chip(1, "pmbus") + power(1, 500.0, "power1_input", "pin")
    measured = measure(built(simulate, parts, PACKAGE, DRAM), command=["sleep", "1"])
    assert counted(measured) == exactly({"cpu0/package": 20, "cpu0/dram": 3})
    (channel,) = (c for c in measured.record["channels"] if c["id"] == "hwmon/pmbus-pin")
    assert channel["dropped"]


@pytest.mark.parametrize("kind", ["EIO", "ENODEV", "text", "empty"])
def test_a_card_that_goes_away_is_a_gap_and_the_rest_is_untouched(
    simulate: Simulate, measure: Measure, kind: str
) -> None:
    faults = {place(5, "energy1_input"): (Fault(kind=kind, first_read=4),)}
    parts = chip(5, "i915", ARC) + energy(5, 60) + chip(4, "amdgpu", RADEON) + power(4, 200.0)
    machine = built(simulate, parts, PACKAGE, DRAM, faults=faults)
    measured = measure(machine, command=["sh", "-c", "sleep 1; exit 3"])
    assert measured.status == 3
    (gap,) = measured.gaps("gpu1")
    assert gap["end_s"] == pytest.approx(measured.duration_s, abs=1e-6)
    assert measured.gaps("gpu0") == []
    assert counted(measured)["gpu0"] == pytest.approx(200, rel=0.005)
    assert counted(measured)["cpu0/package"] == pytest.approx(20, rel=0.005)
