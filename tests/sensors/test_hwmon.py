"""The hwmon sensors on simulated trees: what each driver's channels cover, and every bad read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.analysis.cover import counted
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors import open_available
from emt_cli.sensors.base import Absent, Denied, Machine, SharesDevices
from emt_cli.sensors.gpus import gpu_number
from emt_cli.sensors.hwmon import open_drm, open_hwmon
from emt_cli.sensors.hwmon.reading import Hwmon
from emt_cli.sensors.meters import meter
from emt_cli.sensors.opening import Source
from tests.fakes.hwmon import Parts, acpi, chip, energy, grace, jetson, place, power, rail
from tests.sensors.contract import SensorContract
from tests.simulation import Fault, Power, SimulatedMachine, Zone, constant, ramp

LOCKED = (Fault(kind="EACCES"),)
ARC, OTHER = "0000:03:00.0", "0000:83:00.0"


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def machine(folder: Path, parts: Parts, **options: object) -> Machine:
    simulated = SimulatedMachine(folder, signals=parts.signals, files=parts.files, **options)  # type: ignore[arg-type]
    return simulated.machine


def by_id(sensor: Hwmon) -> dict[str, Channel]:
    return {channel.id: channel for channel in sensor.channels}


def within(sensor: Hwmon) -> dict[str, str | None]:
    return {channel.id: channel.within for channel in sensor.channels}


XE = chip(3, "xe", ARC) + energy(3, 150, 1, "card") + energy(3, 120, 2, "pkg")
RADEON = chip(4, "amdgpu", OTHER) + power(4, 200.0, label="PPT")
ORIN_NX = jetson("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")


class TestHwmon(SensorContract):
    def open(self, folder: Path) -> Hwmon:
        parts = ORIN_NX + grace(3) + chip(60, "corsairpsu") + power(60, label="power total")
        return open_hwmon(machine(folder, parts))

    def open_absent(self, folder: Path) -> Hwmon:
        return open_hwmon(Machine(str(folder)))

    def open_locked(self, folder: Path) -> Hwmon:
        socket = energy(1, 50, 65, "Esocket0", faults=LOCKED)
        return open_hwmon(machine(folder, chip(1, "amd_energy") + socket))

    def open_vanishing(self, folder: Path) -> tuple[Hwmon, Callable[[], None]]:
        clock = Clock()
        parts = jetson("VDD_IN", faults=(Fault(kind="ENODEV", from_s=1),))
        return open_hwmon(machine(folder, parts, clock=clock)), lambda: _advance(clock)


class TestGraphicsCards(SensorContract):
    def open(self, folder: Path) -> Hwmon:
        return open_drm(machine(folder, XE + RADEON))

    def open_absent(self, folder: Path) -> Hwmon:
        return open_drm(machine(folder, ORIN_NX))

    def open_locked(self, folder: Path) -> Hwmon:
        return open_drm(machine(folder, chip(1, "i915", ARC) + energy(1, faults=LOCKED)))

    def open_vanishing(self, folder: Path) -> tuple[Hwmon, Callable[[], None]]:
        clock = Clock()
        parts = chip(1, "i915", ARC) + energy(1, faults=(Fault(kind="ENODEV", from_s=1),))
        return open_drm(machine(folder, parts, clock=clock)), lambda: _advance(clock)


def _advance(clock: Clock) -> None:
    clock.now_s += 1


# --- graphics cards ---------------------------------------------------------------------------------


def test_an_intel_card_of_i915_is_one_counter(tmp_path: Path) -> None:
    (channel,) = open_drm(machine(tmp_path, chip(2, "i915", ARC) + energy(2))).channels
    assert (channel.id, channel.device, channel.domain) == ("gpu0", "gpu0", "gpu")
    assert (channel.kind, channel.provenance, channel.unit) == ("counter", "measured", 1e-6)
    assert ARC in channel.source


def test_a_card_of_xe_contains_its_package(tmp_path: Path) -> None:
    sensor = open_drm(machine(tmp_path, XE))
    assert within(sensor) == {"gpu0": None, "gpu0/package": "gpu0"}
    assert counted(sensor.channels) == {"gpu0"}


def test_a_card_of_xe_that_tells_its_package_alone_counts_that(tmp_path: Path) -> None:
    sensor = open_drm(machine(tmp_path, chip(3, "xe", ARC) + energy(3, 120, 2, "pkg")))
    assert counted(sensor.channels) == {"gpu0/package"}


def test_the_tiles_of_a_card_lie_within_it(tmp_path: Path) -> None:
    parts = chip(1, "i915", ARC) + energy(1)
    for number in (0, 1):
        parts += chip(2 + number, f"i915_gt{number}", ARC) + energy(2 + number)
    sensor = open_drm(machine(tmp_path, parts))
    assert within(sensor) == {"gpu0": None, "gpu0/tile0": "gpu0", "gpu0/tile1": "gpu0"}


@pytest.mark.parametrize("file", ["power1_average", "power1_input"])
def test_an_amd_card_is_a_gauge_under_either_name_of_its_file(tmp_path: Path, file: str) -> None:
    parts = chip(4, "amdgpu", OTHER) + power(4, 200.0, file)
    (channel,) = open_drm(machine(tmp_path, parts)).channels
    assert (channel.id, channel.kind, channel.provenance) == ("gpu0", "gauge", "integrated")


def test_where_a_chip_tells_the_average_and_the_moment_the_average_is_read(tmp_path: Path) -> None:
    parts = RADEON + power(4, 999.0, "power1_input")
    sensor = open_drm(machine(tmp_path, parts))
    assert [reading.value for reading in sensor.read()] == [200_000_000]


def test_two_averages_of_one_power_count_once(tmp_path: Path) -> None:
    parts = chip(4, "amdgpu", OTHER) + power(4, label="slowPPT")
    sensor = open_drm(machine(tmp_path, parts + power(4, file="power2_average", label="fastPPT")))
    assert counted(sensor.channels) == {"gpu0"}
    assert by_id(sensor)["gpu0/fastppt"].dropped


def test_cards_are_numbered_by_maker_then_by_bus(tmp_path: Path) -> None:
    late, first = "0000:c3:00.0", "0000:01:00.0"
    parts = chip(1, "amdgpu", late) + power(1) + chip(2, "i915", first) + energy(2)
    parts += chip(3, "amdgpu", OTHER) + power(3) + chip(4, "xe", ARC) + energy(4, label="card")
    parts += Parts((), {f"/sys/bus/pci/drivers/nvidia/{OTHER}/vendor": "0x10de\n"})
    sensor = open_drm(machine(tmp_path, parts))
    places = {c.id: c.source.rpartition(", ")[2].rstrip(")") for c in sensor.channels}
    assert places == {"gpu1": OTHER, "gpu2": late, "gpu3": first, "gpu4": ARC}


def test_an_integrated_intel_gpu_takes_no_number_and_an_unknown_card_the_next_one(tmp_path: Path) -> None:
    igpu = {"/sys/bus/pci/drivers/i915/0000:00:02.0/vendor": "0x8086\n", "/sys/bus/pci/drivers/i915/bind": ""}
    card = "0000:c3:00.0"
    here = machine(tmp_path, XE + chip(1, "i915", card) + Parts((), igpu))
    assert gpu_number(here, "i915", card.upper()) == 0
    assert gpu_number(here, "xe", ARC) == 1
    assert gpu_number(here, "xe", "0000:ff:00.0") == 2
    assert gpu_number(here, "amdgpu", "0000:ff:00.0") == 0


def test_a_card_keeps_its_name_when_its_chip_is_numbered_anew(tmp_path: Path) -> None:
    ids = []
    for number in (3, 11):
        folder = tmp_path / str(number)
        folder.mkdir()
        parts = chip(number, "i915", ARC) + energy(number) + chip(5, "amdgpu", OTHER) + power(5)
        ids.append(sorted(by_id(open_drm(machine(folder, parts)))))
    assert ids[0] == ids[1] == ["gpu0", "gpu1"]


def test_cards_that_the_environment_hides_are_not_opened(tmp_path: Path) -> None:
    parts = XE + RADEON + chip(5, "amdgpu", "0000:c3:00.0") + power(5)
    environ = {"ROCR_VISIBLE_DEVICES": "1", "ZE_AFFINITY_MASK": "7"}
    assert list(by_id(open_drm(machine(tmp_path, parts, environ=environ)))) == ["gpu1"]


def test_where_every_card_is_hidden_there_is_no_sensor(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="hides"):
        open_drm(machine(tmp_path, XE, environ={"ZE_AFFINITY_MASK": "7"}))


def test_only_graphics_cards_are_asked_who_uses_them(tmp_path: Path) -> None:
    here = machine(tmp_path, XE + ORIN_NX)
    assert isinstance(open_drm(here), SharesDevices)
    assert not isinstance(open_hwmon(here), SharesDevices)


def test_who_uses_a_card_is_told_by_its_name(tmp_path: Path) -> None:
    fdinfo = f"drm-driver:\txe\ndrm-pdev:\t{ARC}\ndrm-client-id:\t7\ndrm-engine-rcs:\t%d ns\n"
    here = machine(tmp_path, XE)
    process = tmp_path / "proc/4242"
    (process / "fd").mkdir(parents=True)
    (process / "fd/5").symlink_to("/dev/dri/renderD128")
    (process / "fdinfo").mkdir()
    (process / "stat").write_text("4242 (x) S 1" + " 0" * 17 + " 5" + " 0" * 20)
    (process / "fdinfo/5").write_text(fdinfo % 1_000_000_000)
    sensor = open_drm(here)
    sensor.read()
    (process / "fdinfo/5").write_text(fdinfo % 3_000_000_000)
    (use,) = sensor.usage()
    assert (use.device, use.pid, use.busy_s) == ("gpu0", 4242, pytest.approx(2.0))
    sensor.close()


def test_an_mi300a_is_a_module_and_no_mere_card(tmp_path: Path) -> None:
    ids = Parts((), {place(4, "device/device"): "0x74a0\n"})
    sensor = open_drm(machine(tmp_path, RADEON + ids + chip(5, "amdgpu", ARC) + power(5)))
    assert {id: c.domain for id, c in by_id(sensor).items()} == {"gpu1": "module", "gpu0": "gpu"}


# --- processors -------------------------------------------------------------------------------------


def apu(number: int = 5) -> Parts:
    return chip(number, "amdgpu", "0000:c1:00.0", in1_label="vddnb") + power(number, 15.0, label="PPT")


def test_an_apu_is_the_processors_package_and_no_card(tmp_path: Path) -> None:
    here = machine(tmp_path, apu())
    (channel,) = open_hwmon(here).channels
    assert (channel.id, channel.domain, channel.kind) == ("cpu0/package", "package", "gauge")
    with pytest.raises(Absent):
        open_drm(here)


def opened_beside_rapl(folder: Path, parts: Parts, *zones: Zone) -> dict[str, Channel]:
    """The channels of the registry's choice, by sensor and id."""
    sources = (
        Source("powercap", "emt_cli.sensors.powercap", "open_powercap"),
        Source("hwmon", "emt_cli.sensors.hwmon", "open_hwmon"),
    )
    opened = open_available(machine(folder, parts, zones=zones), built_in=sources, find_outside=lambda _: ())
    channels = {f"{c.sensor} {c.id}": c for s in opened.sensors for c in s.channels}
    for sensor in opened.sensors:
        sensor.close()
    return channels


def test_an_apu_beside_rapl_does_not_count(tmp_path: Path) -> None:
    channels = opened_beside_rapl(tmp_path, apu(), Zone(power=constant(14)))
    (second,) = [channel for channel in channels.values() if channel.sensor == "hwmon"]
    assert second.dropped == "powercap reads the same"
    assert not channels["powercap cpu0/package"].dropped


def test_an_apu_stands_in_where_rapl_is_locked(tmp_path: Path) -> None:
    channels = opened_beside_rapl(tmp_path, apu(), Zone(faults=LOCKED))
    assert not channels["hwmon cpu0/package"].dropped
    assert not [name for name in channels if name.startswith("cpu model")]


def epyc(sockets: int, faults: tuple[Fault, ...] = ()) -> Parts:
    parts = chip(1, "amd_energy")
    for core in range(4):
        parts += energy(1, 5, core + 1, f"Ecore{core:03}", faults=faults)
    for socket in range(sockets):
        parts += energy(1, 100, socket + 5, f"Esocket{socket}", faults=faults)
    return parts


def test_of_amd_energy_the_sockets_are_opened_and_the_cores_are_not(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, epyc(2)))
    assert [(c.id, c.domain, c.kind) for c in sensor.channels] == [
        ("cpu0/package", "package", "counter"),
        ("cpu1/package", "package", "counter"),
    ]


def test_sockets_of_amd_energy_that_are_numa_nodes_of_one_package_count_once(tmp_path: Path) -> None:
    nodes = {f"/sys/devices/system/node/node{n}/cpulist": f"{8 * n}-{8 * n + 7}\n" for n in (0, 1)}
    cpus = {f"/sys/devices/system/cpu/cpu{n}/topology/physical_package_id": "0\n" for n in (0, 8)}
    sensor = open_hwmon(machine(tmp_path, epyc(2) + Parts((), nodes | cpus)))
    assert {id: c.dropped for id, c in by_id(sensor).items()} == {
        "cpu0/package": "",
        "cpu0/package-2": "the same as cpu0/package",
    }


def test_what_is_locked_is_named_once_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(Denied, match=r"permission denied.*energy5_input \(and all 2 ") as caught:
        open_hwmon(machine(tmp_path, epyc(2, LOCKED)))
    assert "0440 root emt" in caught.value.hint
    assert caught.value.hint.index("0440") < caught.value.hint.index("as root")


def test_a_locked_chip_leaves_the_others_readable_and_is_named(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, epyc(1, LOCKED) + jetson("VDD_IN", number=2)))
    assert list(by_id(sensor)) == ["module0"]
    assert sensor.unreadable == (place(1, "energy5_input"),)
    assert "0440" in sensor.remedy


# --- NVIDIA Grace and servers -----------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "device/"])
def test_the_parts_of_grace_lie_within_its_module(tmp_path: Path, folder: str) -> None:
    sensor = open_hwmon(machine(tmp_path, grace(0, folder=folder) + grace(1, folder=folder)))
    assert within(sensor) == {
        "module0": None,
        "cpu0/socket": "module0",
        "cpu0/core": "cpu0/socket",
        "cpu0/uncore": "cpu0/socket",
        "module1": None,
        "cpu1/socket": "module1",
        "cpu1/core": "cpu1/socket",
        "cpu1/uncore": "cpu1/socket",
    }
    assert counted(sensor.channels) == {"module0", "module1"}
    domains = {c.id: c.domain for c in sensor.channels if c.device == "cpu1"}
    assert domains == {"cpu1/socket": "socket", "cpu1/core": "core", "cpu1/uncore": "uncore"}
    assert {c.update_period_s for c in sensor.channels} == {0.05}


def test_grace_with_gpus_counts_the_cpu_since_they_have_meters_of_their_own(tmp_path: Path) -> None:
    gpus = {f"/sys/bus/pci/drivers/nvidia/{pci}/vendor": "0x10de\n" for pci in (ARC, OTHER)}
    sensor = open_hwmon(machine(tmp_path, grace(0) + Parts((), gpus)))
    assert counted(sensor.channels) == {"cpu0/socket"}
    assert "GPU" in by_id(sensor)["module0"].dropped


def test_a_module_that_tells_nothing_leaves_the_total_to_grace(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, grace(0, module_w=0.0)))
    assert counted(sensor.channels) == {"cpu0/socket"}
    assert "0 W" in by_id(sensor)["module0"].dropped


def test_a_module_whose_first_reading_fails_is_not_given_up(tmp_path: Path) -> None:
    faults = {place(0, "power1_average"): (Fault(kind="EIO", last_read=0),)}
    sensor = open_hwmon(machine(tmp_path, grace(0), faults=faults))
    assert counted(sensor.channels) == {"module0"}
    assert all(isinstance(reading, Reading) for reading in sensor.read())


def test_a_meter_whose_name_alone_is_in_the_chips_own_folder_is_found(tmp_path: Path) -> None:
    parts = acpi(2, "Grace Power Socket 0", 300.0, folder="device/") + chip(2, "power_meter")
    assert list(by_id(open_hwmon(machine(tmp_path, parts)))) == ["cpu0/socket"]


def test_a_rail_of_grace_alone_is_no_package(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, acpi(0, "CPU Power Socket 0", 200.0)))
    assert counted(sensor.channels) == frozenset()
    assert "part" in by_id(sensor)["cpu0/core"].dropped


def test_newer_firmware_says_input_power(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, acpi(0, "Grace Input Power Socket 1", 200.0)))
    assert list(by_id(sensor)) == ["cpu1/socket"]


@pytest.mark.parametrize("oem_info", ["", "Intel(R) Node Manager"])
def test_any_other_acpi_meter_is_the_whole_node(tmp_path: Path, oem_info: str) -> None:
    (channel,) = open_hwmon(machine(tmp_path, acpi(2, oem_info, 400.0, interval_ms=1000))).channels
    assert (channel.id, channel.domain, channel.is_platform) == ("node/power", "node", True)
    assert (channel.update_period_s, channel.max_power_w) == (1.0, 30e3)


def test_an_acpi_meter_is_asked_no_more_often_than_it_averages(tmp_path: Path) -> None:
    assert open_hwmon(machine(tmp_path, acpi(2, "", 400.0, interval_ms=1000))).min_period_s == 1.0


def test_two_acpi_meters_have_ids_of_their_own_and_one_of_them_is_the_platform(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, acpi(2, "", 400.0) + acpi(3, "", 410.0)))
    assert list(by_id(sensor)) == ["node/power", "node/power-2"]
    assert counted(sensor.channels) == {"node/power"}


def test_a_mac_is_measured_as_a_whole(tmp_path: Path) -> None:
    labels = ("Total System Power", "AC Input Power", "3.8 V Rail Power", "Heatpipe Power")
    parts = chip(0, "macsmc_hwmon")
    for at, label in enumerate(labels, start=1):
        parts += power(0, 10.0, f"power{at}_input", label)
    sensor = open_hwmon(machine(tmp_path, parts))
    assert counted(sensor.channels) == {"node/power"}
    assert list(by_id(sensor)) == [
        "node/power",
        "node/ac-input-power",
        "node/3-8-v-rail-power",
        "node/heatpipe-power",
    ]


# --- Jetson -----------------------------------------------------------------------------------------


def test_the_input_of_a_jetson_contains_its_rails(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, ORIN_NX))
    assert counted(sensor.channels) == {"module0"}
    assert within(sensor) == {
        "module0": None,
        "module0/vdd-cpu-gpu-cv": "module0",
        "module0/vdd-soc": "module0",
    }
    assert [reading.value for reading in sensor.read()] == [1_000_000, 2_000_000, 3_000_000]
    assert {(c.kind, c.unit, c.update_period_s) for c in sensor.channels} == {("gauge", 1e-6, 0.008)}


def test_the_older_nano_has_an_input_too(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, jetson("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")))
    assert counted(sensor.channels) == {"module0"}


def test_agx_orin_is_the_sum_of_its_main_rails_and_memory_lies_within_one(tmp_path: Path) -> None:
    parts = jetson("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0") + jetson(
        "NC", "VDDQ_VDD2_1V8AO", "NC", number=2
    )
    sensor = open_hwmon(machine(tmp_path, parts))
    assert counted(sensor.channels) == {"module0/vdd-gpu-soc", "module0/vdd-cpu-cv", "module0/vin-sys-5v0"}
    assert by_id(sensor)["module0/vddq-vdd2-1v8ao"].within == "module0/vin-sys-5v0"
    assert {channel.device for channel in sensor.channels} == {"module0"}


def test_agx_xavier_is_the_sum_of_its_six_rails(tmp_path: Path) -> None:
    parts = jetson("GPU", "CPU", "SOC") + jetson("CV", "VDDRQ", "SYS5V", number=2)
    sensor = open_hwmon(machine(tmp_path, parts))
    assert len(counted(sensor.channels)) == 6
    assert {c.domain for c in sensor.channels} == {"module"}


def test_rails_that_are_not_the_whole_do_not_count_without_it(tmp_path: Path) -> None:
    sensor = open_hwmon(machine(tmp_path, jetson("VDD_CPU_GPU_CV", "VDD_SOC")))
    assert counted(sensor.channels) == frozenset()


def test_shunt_voltages_and_sums_of_a_chip_are_no_rails(tmp_path: Path) -> None:
    extra = {place(1, name): "17\n" for name in ("in4_input", "in5_input", "curr4_input", "in7_input")}
    sensor = open_hwmon(machine(tmp_path, ORIN_NX + Parts((), {**extra, place(1, "in7_label"): "sum\n"})))
    assert len(sensor.channels) == 3


# --- unknown devices --------------------------------------------------------------------------------


def test_an_unknown_device_is_shown_and_does_not_count(tmp_path: Path) -> None:
    parts = chip(1, "ina226") + power(1, file="power1_input") + chip(2, "ina3221") + rail(2, 1, "CARRIER")
    sensor = open_hwmon(machine(tmp_path, parts + chip(3, "strange") + energy(3)))
    assert list(by_id(sensor)) == ["hwmon/ina226-power1", "hwmon/ina3221-carrier", "hwmon/strange-energy1"]
    assert {c.dropped for c in sensor.channels} == {"what this device covers is not known"}
    assert sensor.min_period_s == 1.0


def test_two_unknown_devices_of_a_kind_have_ids_of_their_own(tmp_path: Path) -> None:
    parts = chip(1, "pmbus") + power(1, label="pin") + chip(2, "pmbus") + power(2, label="pin")
    assert list(by_id(open_hwmon(machine(tmp_path, parts)))) == ["hwmon/pmbus-pin", "hwmon/pmbus-pin-2"]


def test_nobody_hears_of_a_lock_on_what_would_not_count(tmp_path: Path) -> None:
    parts = chip(1, "strange") + power(1, faults=LOCKED) + jetson("VDD_IN", number=2)
    assert open_hwmon(machine(tmp_path, parts)).unreadable == ()


def test_batteries_and_thermometers_are_passed_over(tmp_path: Path) -> None:
    parts = (
        chip(1, "BAT0") + power(1) + chip(2, "macsmc_battery") + power(2) + chip(3, "nvme", temp1_input="1")
    )
    supplies = Parts((), {"/sys/class/power_supply/macsmc-battery/type": "Battery\n"})
    with pytest.raises(Absent):
        open_hwmon(machine(tmp_path, parts + supplies))


def test_files_that_only_look_like_a_meter_are_none(tmp_path: Path) -> None:
    names = ("power1_average_max", "power1_input_highest", "powerx_input", "energy_input", "power1_cap")
    with pytest.raises(Absent):
        open_hwmon(machine(tmp_path, chip(1, "strange", **dict.fromkeys(names, "1"))))


def test_a_folder_without_a_name_is_passed_over(tmp_path: Path) -> None:
    parts = jetson("VDD_IN") + power(7)
    assert list(by_id(open_hwmon(machine(tmp_path, parts)))) == ["module0"]


# --- readings ---------------------------------------------------------------------------------------


BAD = [
    (Fault(kind="EIO"), "Input/output error"),
    (Fault(kind="ENODATA"), os.strerror(errno.ENODATA)),
    (Fault(kind="ENODEV"), "No such device"),
    (Fault(kind="text"), "not a number: b'<unknown>\\n'"),
    (Fault(kind="empty"), "empty"),
    (Fault(kind="garbage", value=-5), "negative: -5"),
]


@pytest.mark.parametrize(("fault", "reason"), BAD)
@pytest.mark.parametrize("file", ["curr1_input", "in1_input"])
def test_a_bad_read_of_current_or_voltage_is_a_gap_of_that_rail_only(
    tmp_path: Path, file: str, fault: Fault, reason: str
) -> None:
    sensor = open_hwmon(machine(tmp_path, ORIN_NX, faults={place(1, file): (fault,)}))
    module, *others = sensor.read()
    assert isinstance(module, Gap)
    assert module.reason == reason
    assert all(isinstance(reading, Reading) for reading in others)


@pytest.mark.parametrize(("fault", "reason"), BAD)
def test_a_bad_read_of_a_card_is_a_gap_of_that_card_only(tmp_path: Path, fault: Fault, reason: str) -> None:
    sensor = open_drm(machine(tmp_path, XE + RADEON, faults={place(4, "power1_average"): (fault,)}))
    readings = dict(zip(by_id(sensor), sensor.read(), strict=True))
    assert [type(reading) for reading in readings.values()].count(Gap) == 1
    assert readings["gpu0"] == Gap(readings["gpu0"].t_s, reason)


def test_a_read_after_a_bad_one_is_good_again(tmp_path: Path) -> None:
    faults = {place(1, "in1_input"): (Fault(kind="EIO", first_read=1, last_read=1),)}
    sensor = open_hwmon(machine(tmp_path, jetson("VDD_IN"), faults=faults))
    assert [type(sensor.read()[0]) for _ in range(3)] == [Reading, Gap, Reading]


def test_a_chip_that_cannot_be_opened_is_denied_with_the_reason(tmp_path: Path) -> None:
    simulated = machine(tmp_path, chip(1, "i915", ARC) + energy(1))

    def refuse(path: str):
        if path.endswith("energy1_input"):
            raise OSError(errno.EIO, "Input/output error")
        return simulated.open_file(path)

    with pytest.raises(Denied, match="Input/output error") as caught:
        open_drm(Machine(simulated.root, open_file=refuse, environ={}))
    assert "driver" in caught.value.hint


def test_a_closed_sensor_reads_gaps(tmp_path: Path) -> None:
    sensor = open_drm(machine(tmp_path, XE))
    sensor.close()
    assert {type(reading) for reading in sensor.read()} == {Gap}


def test_real_files_are_read_anew_each_time(tmp_path: Path) -> None:
    machine(tmp_path, jetson("VDD_IN"))
    sensor = open_hwmon(Machine(str(tmp_path)))
    values = []
    for current, voltage in (("1000", "5000"), ("2000", "4900"), ("0", "5000")):
        (tmp_path / place(1, "curr1_input").lstrip("/")).write_text(f"{current}\n")
        (tmp_path / place(1, "in1_input").lstrip("/")).write_text(f"{voltage}\n")
        values.append(sensor.read()[0].value)
    sensor.close()
    assert values == [5_000_000, 9_800_000, 0]


@pytest.mark.parametrize(
    ("parts", "open_sensor"),
    [
        (chip(1, "i915", ARC) + energy(1, power=ramp(50, 2, ends_s=60)), open_drm),
        (chip(1, "amdgpu", ARC) + power(1, power=ramp(50, 2, ends_s=60)), open_drm),
        (jetson("VDD_IN", power=ramp(50, 2, ends_s=60)), open_hwmon),
    ],
    ids=["energy", "power", "current times voltage"],
)
def test_joules_are_right_over_a_ramp(
    tmp_path: Path, parts: Parts, open_sensor: Callable[[Machine], Hwmon]
) -> None:
    clock = Clock()
    sensor = open_sensor(machine(tmp_path, parts, clock=clock))
    books = meter(sensor.channels[0], clock.now_s, 0.5)
    for _ in range(121):
        books.update(sensor.read()[0]._replace(t_s=clock.now_s))
        clock.now_s += 0.5
    assert books.gaps == []
    assert books.energy_j == pytest.approx(Power(base_w=50, ramp_w_per_s=2).fixed_j(60), rel=1e-4)
