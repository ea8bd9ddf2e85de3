"""Every examination in its states: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest

from emt_cli.doctor import EXAMINATIONS, conditions, counters, examine, gpus, installation, verdict
from emt_cli.doctor.facts import Facts, Gpu, Judged, Setup
from emt_cli.doctor.findings import Finding
from emt_cli.model import Channel, Notice
from tests.analysis.examples import channel

PACKAGE = channel("cpu0/package")
MODEL = channel("cpu", domain="cpu", provenance="estimated", sensor="model")
MEMORY = channel("ram", domain="dram", provenance="estimated", sensor="model")
GPU = channel("gpu0", sensor="nvml")
ZONES = ("/sys/class/powercap/intel-rapl:0/energy_uj", "/sys/class/powercap/intel-rapl:0:0/energy_uj")
NVIDIA = Gpu("0000:01:00.0", "nvidia", "nvidia")
AMD = Gpu("0000:03:00.0", "amd", "amdgpu")


def judged(*channels: Channel, is_measured: bool = False, **known: object) -> Judged:
    ids = frozenset(each.id for each in channels if not each.is_platform)
    return Judged(channels=channels, counted=ids, is_measured=is_measured, **known)  # type: ignore[arg-type]


def one(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    return finding


def refusal(text: str, hint: str = "type this", code: str = "sensor_denied") -> Notice:
    return Notice(code=code, text=text, hint=hint)


HEALTHY = Facts(
    judged=judged(PACKAGE, is_measured=True),
    setup=Setup(store="/home/me/runs", location="France", location_source="time zone"),
    user="me",
    vendor="GenuineIntel",
    services="systemd",
    zones=ZONES,
    paranoid=2,
    governors=("performance",),
    turbo_file="/sys/devices/system/cpu/intel_pstate/no_turbo",
    is_turbo_on=False,
    is_smt_on=True,
    clock="tsc",
    is_on_battery=False,
)


def test_a_healthy_machine_has_nothing_but_good_findings() -> None:
    findings = examine(HEALTHY)
    assert {finding.state for finding in findings} == {"ok"}
    assert {finding.code for finding in findings} == {
        "rapl", "store", "perf", "location", "mains", "governor", "turbo", "smt", "clock",
    }  # fmt: skip


def test_of_what_is_not_known_nothing_is_said() -> None:
    said = [finding.code for finding in examine(Facts(judged=judged(PACKAGE, is_measured=True)))]
    assert said == []


# --- RAPL's rights ----------------------------------------------------------------------------------


def locked(**facts: object) -> Facts:
    known: dict[str, object] = {"zones": ZONES, "locked": ZONES, "user": "me", "judged": judged(MODEL)}
    return Facts(**{**known, **facts})  # type: ignore[arg-type]


def test_locked_counters_are_a_problem_with_the_group_first() -> None:
    finding = one(counters.rapl_rights(locked(services="systemd")))
    assert (finding.code, finding.state) == ("rapl_locked", "problem")
    assert finding.remedy[:2] == ("sudo groupadd -f emt", "sudo usermod -aG emt me")
    assert "/etc/tmpfiles.d/emt.conf" in finding.remedy[2] and "0440 root emt" in finding.remedy[2]
    assert "systemd-tmpfiles --create" in finding.remedy[3]
    assert "PLATYPUS" in finding.why and "CVE-2020-8694" in finding.why


def test_without_systemd_udev_keeps_the_rights_and_without_both_nobody_does() -> None:
    by_udev = one(counters.rapl_rights(locked(services="udev")))
    assert "/etc/udev/rules.d/70-emt.rules" in by_udev.remedy[2] and "chgrp emt" in by_udev.remedy[2]
    by_hand = one(counters.rapl_rights(locked(services="")))
    assert "sudo chmod 0440 /sys/class/powercap/intel-rapl*/energy_uj" in by_hand.remedy
    assert "after every boot" in by_hand.advice


@pytest.mark.parametrize("services", ["systemd", "udev", ""])
def test_nobody_is_told_to_open_the_counters_to_everybody(services: str) -> None:
    finding = one(counters.rapl_rights(locked(services=services)))
    said = " ".join((*finding.remedy, finding.advice))
    assert not re.search(r"a\+r|o\+r|0?444|777|644", said)


def test_counters_locked_in_part_are_counted() -> None:
    finding = one(counters.rapl_rights(locked(locked=ZONES[:1], judged=judged(PACKAGE))))
    assert finding.state == "problem" and "1 of" in finding.text


@pytest.mark.parametrize("sensor", ["perf", "cray"])
def test_counters_that_another_sensor_reads_instead_are_not_needed(sensor: str) -> None:
    read = judged(channel("cpu0/package", sensor=sensor), is_measured=True)
    finding = one(counters.rapl_rights(locked(judged=read)))
    assert finding.state == "ok" and sensor in finding.text


def test_in_a_container_the_rights_are_the_hosts() -> None:
    finding = one(counters.rapl_rights(locked(container="docker")))
    assert finding.remedy == () and "--group-add" in finding.advice


def test_readable_counters_are_in_order() -> None:
    assert one(counters.rapl_rights(HEALTHY)).state == "ok"
    assert list(counters.rapl_rights(Facts())) == []


# --- machines without counters ----------------------------------------------------------------------


def bare(**facts: object) -> Facts:
    known: dict[str, object] = {"vendor": "AuthenticAMD", "judged": judged(MODEL), "architecture": "x86_64"}
    return Facts(**{**known, **facts})  # type: ignore[arg-type]


def test_a_module_that_is_not_loaded_is_loaded_now_and_at_every_boot() -> None:
    finding = one(counters.cpu_without_counter(bare()))
    assert (finding.code, finding.state) == ("rapl_module", "problem")
    assert finding.remedy[0] == "sudo modprobe intel_rapl_msr"
    assert "/etc/modules-load.d/" in finding.remedy[1]


def test_a_loaded_module_without_a_zone_does_not_know_this_cpu() -> None:
    finding = one(counters.cpu_without_counter(bare(modules=frozenset({"intel_rapl_msr"}))))
    assert finding.code == "rapl_unknown"


@pytest.mark.parametrize(
    ("maker", "word"),
    [
        ("Amazon EC2", ".metal"),
        ("Google", "metal"),
        ("Microsoft Corporation", "Azure"),
        ("QEMU", "rapl=true"),
    ],
)
def test_a_guest_hears_what_helps_at_its_maker(maker: str, word: str) -> None:
    finding = one(counters.cpu_without_counter(bare(hypervisor=maker)))
    assert (finding.code, finding.state) == ("virtual_machine", "problem")
    assert maker in finding.text and word in finding.advice


def test_a_guest_of_an_unknown_maker_hears_of_bare_metal() -> None:
    assert "bare metal" in one(counters.cpu_without_counter(bare(hypervisor="Bochs"))).advice


def test_wsl2_is_named() -> None:
    assert one(counters.cpu_without_counter(bare(hypervisor="WSL2", container="docker"))).code == "wsl2"


def test_in_a_container_of_a_guest_the_guest_is_the_cause() -> None:
    finding = one(counters.cpu_without_counter(bare(hypervisor="QEMU", container="docker")))
    assert finding.code == "virtual_machine"


@pytest.mark.parametrize(
    ("engine", "word"),
    [
        ("docker", "systempaths=unconfined"),
        ("podman", "unmask=/sys/devices/virtual/powercap"),
        ("kubernetes", "privileged"),
        ("apptainer", "mount sys"),
    ],
)
def test_a_container_hears_what_unmasks_the_counters(engine: str, word: str) -> None:
    finding = one(counters.cpu_without_counter(bare(container=engine)))
    assert (finding.code, finding.state) == ("container", "problem")
    assert word in " ".join((*finding.remedy, finding.advice))


def test_another_architecture_may_state_its_watts() -> None:
    finding = one(counters.cpu_without_counter(bare(vendor="", architecture="aarch64")))
    assert finding.code == "no_counter" and "--cpu-watts" in finding.advice


@pytest.mark.parametrize("facts", [HEALTHY, bare(judged=judged(PACKAGE)), locked()])
def test_where_there_are_counters_no_cause_for_their_absence_is_sought(facts: Facts) -> None:
    assert list(counters.cpu_without_counter(facts)) == []


def test_a_node_meter_beside_estimates_may_become_the_headline() -> None:
    node = channel("node", domain="node")
    finding = one(counters.whole_node(Facts(judged=judged(MODEL, node))))
    assert "--total platform" in finding.remedy[0]
    assert list(counters.whole_node(Facts(judged=judged(PACKAGE, node, is_measured=True)))) == []
    assert list(counters.whole_node(Facts(judged=judged(MODEL)))) == []


# --- sensors that fail ------------------------------------------------------------------------------


def test_channels_that_do_not_read_are_told_by_reason() -> None:
    faults = {"cpu0/package": "EIO", "cpu1/package": "EIO", "gpu0": "lost"}
    texts = [finding.text for finding in counters.unread(Facts(judged=judged(PACKAGE, faults=faults)))]
    assert texts == ["cpu0/package, cpu1/package cannot be read: EIO", "gpu0 cannot be read: lost"]
    assert list(counters.unread(HEALTHY)) == []


def test_any_sensors_refusal_is_told_in_its_own_words() -> None:
    notices = (refusal("cray: locked"), refusal("ipmi did not answer within 2 s", code="sensor_stuck"))
    found = list(counters.refused(Facts(judged=judged(PACKAGE, notices=notices))))
    assert [(each.text, each.advice) for each in found] == [
        ("cray: locked", "type this"),
        ("ipmi did not answer within 2 s", "type this"),
    ]


def test_a_refusal_that_is_explained_elsewhere_is_told_once() -> None:
    notices = tuple(refusal(f"{name}: no") for name in ("powercap", "nvml", "perf"))
    assert list(counters.refused(locked(judged=judged(MODEL, notices=notices)))) == []
    broken = one(counters.refused(Facts(judged=judged(MODEL, notices=notices))))
    assert broken.text == "powercap: no"


def test_other_warnings_are_no_refusals() -> None:
    notices = (refusal("no sensor could be read", code="estimated"),)
    assert list(counters.refused(Facts(judged=judged(MODEL, notices=notices)))) == []


def test_a_memory_by_its_size_is_worth_a_note_beside_a_measured_cpu_only() -> None:
    assert one(counters.memory(Facts(judged=judged(PACKAGE, MEMORY, is_measured=True)))).state == "note"
    assert list(counters.memory(Facts(judged=judged(MODEL, MEMORY)))) == []
    assert list(counters.memory(HEALTHY)) == []


# --- GPUs -------------------------------------------------------------------------------------------


def test_a_gpu_that_is_read_is_in_order_and_none_is_no_topic() -> None:
    assert one(gpus.nvidia(Facts(gpus=(NVIDIA,), judged=judged(GPU)))).state == "ok"
    assert list(gpus.nvidia(Facts(judged=judged(PACKAGE)))) == []


def test_a_library_that_is_missing_is_named_in_the_drivers_version() -> None:
    finding = one(gpus.nvidia(Facts(gpus=(NVIDIA,), nvidia_version="535.183.01")))
    assert (finding.code, finding.state) == ("nvml_missing", "problem")
    assert "535.183.01" in finding.text and "libnvidia-compute-535" in finding.advice
    assert one(gpus.nvidia(Facts(nvidia_version="535.183.01"))).code == "nvml_missing"
    assert "  " not in one(gpus.nvidia(Facts(gpus=(NVIDIA,)))).text


def test_a_driver_of_another_version_is_told_with_the_sensors_remedy() -> None:
    notices = (refusal("nvml: the driver and libnvidia-ml are of different versions", "reboot"),)
    finding = one(gpus.nvidia(Facts(gpus=(NVIDIA,), judged=judged(MODEL, notices=notices))))
    assert finding.state == "problem" and "versions" in finding.text and finding.advice == "reboot"


@pytest.mark.parametrize("driver", ["", "nouveau"])
def test_a_gpu_without_nvidias_driver_needs_it(driver: str) -> None:
    assert one(gpus.nvidia(Facts(gpus=(NVIDIA._replace(driver=driver),)))).code == "nvidia_driver"


@pytest.mark.parametrize(
    ("engine", "word"),
    [
        ("docker", "--gpus all"),
        ("podman", "nvidia.com/gpu=all"),
        ("kubernetes", "limits"),
        ("apptainer", "--nv"),
    ],
)
def test_a_container_without_the_gpu_hears_how_to_be_started(engine: str, word: str) -> None:
    finding = one(gpus.nvidia(Facts(gpus=(NVIDIA,), container=engine)))
    assert finding.code == "nvml_container" and word in " ".join((*finding.remedy, finding.advice))


def test_a_hidden_gpu_is_only_noted() -> None:
    absent = {"nvml": "CUDA_VISIBLE_DEVICES= hides every GPU"}
    assert one(gpus.nvidia(Facts(gpus=(NVIDIA,), judged=judged(absent=absent)))).state == "note"


def test_an_amd_gpu_is_read_through_rocm_or_the_kernel_or_not_at_all() -> None:
    kernel = channel("gpu0", sensor="drm", source="power1_average (amdgpu, 0000:03:00.0)")
    rocm = channel("gpu0", sensor="amd")
    intel = channel("gpu1", sensor="drm", source="energy1_input (i915, 0000:00:02.0)")
    assert one(gpus.amd(Facts(gpus=(AMD,), judged=judged(rocm), has_rocm=True))).state == "ok"
    assert one(gpus.amd(Facts(gpus=(AMD,), judged=judged(kernel)))).code == "rocm_missing"
    assert one(gpus.amd(Facts(gpus=(AMD,), judged=judged(intel)))).code == "amd_unread"
    assert list(gpus.amd(Facts(gpus=(NVIDIA,)))) == []


def test_an_amd_gpu_that_its_sensor_refuses_is_left_to_the_sensors_words() -> None:
    notices = (refusal("amd: the driver is here but this user may not open it"),)
    assert list(gpus.amd(Facts(gpus=(AMD,), judged=judged(notices=notices)))) == []
    assert one(gpus.amd(Facts(gpus=(AMD._replace(driver=""),)))).remedy == ("sudo modprobe amdgpu",)
    assert "/dev/kfd" in one(gpus.amd(Facts(gpus=(AMD,), container="docker"))).advice


# --- conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paranoid", "may_perf", "fault", "code"),
    [
        (2, False, None, "perf"),
        (3, False, None, "perf_paranoid"),
        (4, False, "Permission denied", "perf_paranoid"),
        (4, True, None, "perf"),
        (4, True, "", "perf"),
        (2, False, "Operation not permitted", "perf_refused"),
        (None, False, "Function not implemented", "perf_refused"),
    ],
)
def test_perf(paranoid: int | None, may_perf: bool, fault: str | None, code: str) -> None:
    finding = one(conditions.perf(Facts(paranoid=paranoid, may_perf=may_perf, perf_fault=fault)))
    assert finding.code == code
    assert (finding.state == "ok") is (code == "perf")


def test_perf_is_opened_no_further_than_needed() -> None:
    finding = one(conditions.perf(Facts(paranoid=4)))
    assert finding.remedy[0] == "sudo sysctl kernel.perf_event_paranoid=2"
    assert "/etc/sysctl.d/" in finding.remedy[1]
    assert not re.search(r"=\s*(0|-1)\b", " ".join(finding.remedy))


def test_perf_in_a_container_needs_a_capability() -> None:
    finding = one(conditions.perf(Facts(paranoid=2, perf_fault="EPERM", container="docker")))
    assert "--cap-add PERFMON" in finding.remedy[0]


def test_hidden_processes_matter_to_users_alone() -> None:
    finding = one(conditions.hidden_processes(Facts(hidepid="hidepid=2")))
    assert finding.state == "note" and "gid=" in finding.remedy[-1]
    assert one(conditions.hidden_processes(Facts(hidepid="hidepid=ptraceable"))).remedy == ()
    assert list(conditions.hidden_processes(Facts(hidepid="hidepid=2", is_root=True))) == []
    assert list(conditions.hidden_processes(Facts())) == []


Examination = Callable[[Facts], Iterable[Finding]]


@pytest.mark.parametrize(
    ("examination", "bad"),
    [
        (conditions.power_supply, {"is_on_battery": True}),
        (conditions.governor, {"governors": ("powersave",)}),
        (conditions.governor, {"governors": ("performance", "powersave")}),
        (conditions.turbo, {"is_turbo_on": True, "turbo_file": "/sys/devices/system/cpu/cpufreq/boost"}),
        (conditions.clock, {"clock": "hpet"}),
        (conditions.clock, {"clock": "acpi_pm"}),
    ],
)
def test_what_makes_runs_hard_to_compare_is_noted(examination: Examination, bad: dict[str, object]) -> None:
    finding = one(examination(Facts(**bad)))  # type: ignore[arg-type]
    assert finding.state == "note" and (finding.remedy or finding.advice)
    assert one(examination(HEALTHY)).state == "ok"
    assert list(examination(Facts())) == []


@pytest.mark.parametrize(("name", "off"), [("intel_pstate/no_turbo", "1"), ("cpufreq/boost", "0")])
def test_turbo_is_switched_off_the_right_way_round(name: str, off: str) -> None:
    finding = one(conditions.turbo(Facts(is_turbo_on=True, turbo_file=f"/sys/devices/system/cpu/{name}")))
    assert finding.remedy == (f"echo {off} | sudo tee /sys/devices/system/cpu/{name}",)


def test_smt_is_a_fact_and_no_fault() -> None:
    assert one(conditions.smt(Facts(is_smt_on=True))).state == "ok"
    assert list(conditions.smt(Facts(is_smt_on=False))) == []


# --- emt itself -------------------------------------------------------------------------------------


def test_a_missing_library_is_a_problem_where_hardware_needs_it() -> None:
    missing = {"pynvml": "nvidia-ml-py"}
    needed = one(installation.libraries(Facts(missing=missing, gpus=(NVIDIA,), python="/a b/python")))
    assert needed.state == "problem" and needed.remedy == ("'/a b/python' -m pip install nvidia-ml-py",)
    assert one(installation.libraries(Facts(missing=missing))).state == "note"
    assert one(installation.libraries(Facts(missing={"psutil": "psutil"}))).state == "problem"
    assert list(installation.libraries(Facts())) == []


def test_the_store_can_be_written_or_not_or_is_not_wanted() -> None:
    closed = one(installation.store(Facts(setup=Setup(store="/x", store_fault="no right"))))
    assert closed.state == "problem" and "EMT_STORE" in closed.remedy[0]
    assert one(installation.store(Facts(setup=Setup(store="/x")))).state == "ok"
    assert list(installation.store(Facts())) == []


def test_the_place_is_known_or_not() -> None:
    nowhere = one(
        installation.location(Facts(setup=Setup(location="World", location_source="world average")))
    )
    assert nowhere.state == "note" and "EMT_LOCATION" in nowhere.remedy[0]
    assert one(installation.location(HEALTHY)).state == "ok"
    assert list(installation.location(Facts())) == []


def test_settings_that_were_ignored_are_noted_with_their_hint() -> None:
    notice = Notice(code="foreign_config", text="emt.toml belongs to another user", hint="copy it")
    finding = one(installation.settings(Facts(setup=Setup(notices=(notice,)))))
    assert (finding.code, finding.text, finding.advice) == (notice.code, notice.text, notice.hint)
    assert list(installation.settings(Facts())) == []


# --- all together -----------------------------------------------------------------------------------


def test_problems_come_first_and_the_order_of_the_table_is_kept() -> None:
    facts = locked(paranoid=4, clock="tsc", setup=Setup(store="/x", store_fault="no right"))
    assert [f.code for f in examine(facts)] == ["rapl_locked", "store_unwritable", "perf_paranoid", "clock"]


def test_every_examination_stands_in_the_table() -> None:
    rooms = (counters, gpus, conditions, installation)
    public = [
        value
        for room in rooms
        for name, value in vars(room).items()
        if callable(value) and getattr(value, "__module__", "") == room.__name__ and not name.startswith("_")
    ]
    assert set(public) == set(EXAMINATIONS)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (judged(PACKAGE, GPU, is_measured=True), "Energy will be measured: cpu0/package, gpu0."),
        (
            judged(PACKAGE, MEMORY, is_measured=True),
            "Energy will be measured: cpu0/package. Estimated: ram.",
        ),
        (judged(MODEL, GPU), "Energy will be measured in part: gpu0. Estimated: cpu."),
        (judged(MODEL), "Energy will not be measured. Estimated: cpu."),
        (
            judged(PACKAGE, MEMORY, faults={"cpu0/package": "EIO"}),
            "Energy will not be measured. Not read: cpu0/package; estimated: ram.",
        ),
        (Judged(), "There is nothing to measure here, and nothing to estimate from."),
    ],
)
def test_the_verdict_names_the_parts(known: Judged, said: str) -> None:
    assert verdict(Facts(judged=known)) == said
