"""The facts as they are read from a machine's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emt_cli.doctor.facts import Facts, Gpu, Judged, Setup
from emt_cli.doctor.gathering import gather
from tests.simulation import Fault, SimulatedMachine, Zone

CPU = "/sys/devices/system/cpu"

Gather = Callable[..., Facts]


@pytest.fixture
def facts_of(tmp_path: Path) -> Gather:
    """`facts_of(files={...})`: the facts of a machine with these files."""

    def build(*, prepare: Callable[[Path], object] = lambda _: None, **options: Any) -> Facts:
        machine = SimulatedMachine(tmp_path, environ=options.pop("environ", {}), **options)
        prepare(tmp_path)
        return gather(machine.machine, Judged(), Setup(), find=lambda _: object())

    return build


def test_zones_and_those_that_are_locked(facts_of: Gather) -> None:
    zones = [Zone(), Zone(folder="intel-rapl:1", name="package-1", faults=(Fault(kind="EACCES"),))]
    facts = facts_of(zones=zones)
    assert facts.zones == tuple(zone.path for zone in zones)
    assert facts.locked == (zones[1].path,)
    assert facts.vendor == "GenuineIntel" and facts.is_x86


def test_gpus_by_class_and_maker(facts_of: Gather) -> None:
    devices = "/sys/bus/pci/devices"
    facts = facts_of(
        files={
            f"{devices}/0000:01:00.0/vendor": "0x10de\n",
            f"{devices}/0000:01:00.0/class": "0x030200\n",
            f"{devices}/0000:01:00.0/uevent": "DRIVER=nvidia\nPCI_CLASS=30200\n",
            f"{devices}/0000:01:00.1/vendor": "0x10de\n",  # its sound
            f"{devices}/0000:01:00.1/class": "0x040300\n",
            f"{devices}/0000:02:00.0/vendor": "0x1002\n",  # an Instinct
            f"{devices}/0000:02:00.0/class": "0x120000\n",
            f"{devices}/0000:03:00.0/vendor": "0x8086\n",
            f"{devices}/0000:03:00.0/class": "0x030000\n",
        }
    )
    assert facts.gpus == (Gpu("0000:01:00.0", "nvidia", "nvidia"), Gpu("0000:02:00.0", "amd", ""))


def test_the_version_of_nvidias_driver(facts_of: Gather) -> None:
    text = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12\n"
    )
    assert facts_of(files={"/proc/driver/nvidia/version": text}).nvidia_version == "570.86.15"


@pytest.mark.parametrize(
    ("environ", "folder"), [({}, "/opt/rocm"), ({"ROCM_PATH": "/opt/rocm-6.4"}, "/opt/rocm-6.4")]
)
def test_rocms_library_is_looked_for_where_it_is_said_to_be(
    facts_of: Gather, environ: dict[str, str], folder: str
) -> None:
    assert facts_of(files={f"{folder}/lib/libamd_smi.so": ""}, environ=environ).has_rocm


@pytest.mark.parametrize(
    ("name", "text", "is_on"),
    [
        ("intel_pstate/no_turbo", "0", True),
        ("intel_pstate/no_turbo", "1", False),
        ("cpufreq/boost", "1", True),
    ],
)
def test_turbo_is_told_by_either_file(facts_of: Gather, name: str, text: str, is_on: bool) -> None:
    facts = facts_of(files={f"{CPU}/{name}": text})
    assert (facts.turbo_file, facts.is_turbo_on) == (f"{CPU}/{name}", is_on)


def test_governors_of_all_cpus_each_once(facts_of: Gather) -> None:
    files = {
        f"{CPU}/cpu{n}/cpufreq/scaling_governor": text for n, text in enumerate(("schedutil", "performance"))
    }
    files[f"{CPU}/cpufreq/policy0/scaling_governor"] = "userspace"
    files[f"{CPU}/cpu2/cpufreq/scaling_governor"] = "schedutil"
    assert facts_of(files=files).governors == ("performance", "schedutil")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("proc /proc proc rw,nosuid,relatime,gid=4,hidepid=invisible 0 0", "hidepid=invisible"),
        ("proc /proc proc rw,hidepid=2 0 0", "hidepid=2"),
        ("proc /proc proc rw,hidepid=off 0 0", ""),
        ("proc /mnt/proc proc rw,hidepid=2 0 0", ""),
        ("garbage", ""),
    ],
)
def test_the_option_that_hides_processes(facts_of: Gather, line: str, option: str) -> None:
    assert facts_of(files={"/proc/mounts": f"sysfs /sys sysfs rw 0 0\n{line}\n"}).hidepid == option


@pytest.mark.parametrize(
    ("capabilities", "may"),
    [("0000004000000000", True), ("0000000000200000", True), ("0000000000000000", False), ("?", False)],
)
def test_the_right_to_use_perf(facts_of: Gather, capabilities: str, may: bool) -> None:
    files = {"/proc/self/status": f"Name:\temt\nCapEff:\t{capabilities}\n"}
    files["/proc/sys/kernel/perf_event_paranoid"] = "4\n"
    facts = facts_of(files=files)
    assert (facts.may_perf, facts.paranoid) == (may, 4)


@pytest.mark.parametrize(("status", "is_on_battery"), [("Discharging", True), ("Charging", False)])
def test_a_battery_is_the_machines_and_not_a_mouses(
    facts_of: Gather, status: str, is_on_battery: bool
) -> None:
    supply = "/sys/class/power_supply"
    facts = facts_of(
        files={
            f"{supply}/BAT0/type": "Battery\n",
            f"{supply}/BAT0/status": f"{status}\n",
            f"{supply}/hid-1/type": "Battery\n",
            f"{supply}/hid-1/scope": "Device\n",
            f"{supply}/hid-1/status": "Discharging\n",
            f"{supply}/AC/type": "Mains\n",
        }
    )
    assert facts.is_on_battery is is_on_battery


def test_without_a_battery_nothing_is_known_of_it(facts_of: Gather) -> None:
    assert facts_of(files={"/sys/class/power_supply/AC/type": "Mains\n"}).is_on_battery is None


@pytest.mark.parametrize(
    ("folder", "services"), [("run/systemd/system", "systemd"), ("etc/udev/rules.d", "udev"), ("etc", "")]
)
def test_what_sets_rights_at_boot(facts_of: Gather, folder: str, services: str) -> None:
    assert facts_of(prepare=lambda root: (root / folder).mkdir(parents=True)).services == services


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({}, {}, ""),
    ],
)
def test_containers(facts_of: Gather, files: dict[str, str], environ: dict[str, str], container: str) -> None:
    assert facts_of(files=files, environ=environ).container == container


def test_virtual_machines(facts_of: Gather) -> None:
    guest = {"/proc/cpuinfo": "vendor_id: AuthenticAMD\nflags: fpu hypervisor\n"}
    amazon = facts_of(files={**guest, "/sys/class/dmi/id/sys_vendor": "Amazon EC2\n"})
    assert (amazon.hypervisor, amazon.vendor) == ("Amazon EC2", "AuthenticAMD")


def test_wsl2(facts_of: Gather) -> None:
    release = {"/proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"}
    assert facts_of(files=release).hypervisor == "WSL2"


def test_modules_clock_and_threads(facts_of: Gather) -> None:
    facts = facts_of(
        files={
            "/sys/module/intel_rapl_common/refcnt": "1",
            "/sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
            f"{CPU}/smt/active": "1\n",
        }
    )
    assert (facts.modules, facts.clock, facts.is_smt_on) == (frozenset({"intel_rapl_common"}), "hpet", True)


def test_an_empty_machine_is_unknown_in_every_respect(facts_of: Gather) -> None:
    facts = facts_of(files={"/proc/mounts": "", "/proc/self/status": "", "/proc/cpuinfo": ""})
    assert facts.zones == facts.gpus == facts.governors == ()
    assert facts.is_turbo_on is facts.is_smt_on is facts.is_on_battery is facts.perf_fault is None
    assert (facts.clock, facts.hidepid, facts.vendor, facts.nvidia_version) == ("", "", "", "")


def test_missing_libraries_come_with_the_package_to_install(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path).machine
    facts = gather(machine, Judged(), Setup(), find=lambda name: None if name == "pynvml" else object())
    assert facts.missing == {"pynvml": "nvidia-ml-py"}


def test_perf_is_asked_of_the_real_kernel_only(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path).machine
    assert gather(machine, Judged(), Setup()).perf_fault is None
    assert gather(machine, Judged(), Setup(), try_perf=lambda: "Permission denied").perf_fault
