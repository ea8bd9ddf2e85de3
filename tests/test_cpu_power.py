"""How many watts a machine is taken to draw: which row, what share of it, and how it rises with load."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

import pytest

from emt_cli import data
from emt_cli.data.clouds import Instance, read_instance
from emt_cli.data.cpu_power import STRAIGHT, cpu_power
from emt_cli.data.processors import Processor, read_cpuinfo
from tests import cpuinfo
from tests.cpuinfo import AMD, INTEL

MILAN = ("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1))
GENOA = ("AMD EPYC 9654 96-Core Processor", (AMD, 25, 17, 1))


def dmi(**files: str) -> Callable[[str], str]:
    """Reads /sys/class/dmi/id of a machine that has these files."""

    def read(path: str) -> str:
        folder, _, name = path.rpartition("/")
        assert folder == "/sys/class/dmi/id"
        if name not in files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return files[name]

    return read


# --- shares -----------------------------------------------------------------------------------------


def test_a_bare_core_without_hyper_threading_costs_what_two_threads_cost() -> None:
    bare = cpuinfo.x86(*MILAN, siblings=64, cores=64)
    assert cpu_power(read_cpuinfo(bare), 64).full_w == pytest.approx(128 * 1.916)
    in_a_guest = cpuinfo.x86("AMD EPYC", (AMD, 25, 1, 1), siblings=64, cores=64, guest=True)
    assert cpu_power(read_cpuinfo(in_a_guest), 64).full_w == pytest.approx(64 * 1.916)
    forest = cpuinfo.x86("Intel(R) Xeon(R) 6780E", (INTEL, 6, 175, 3), siblings=144, cores=144)
    assert cpu_power(read_cpuinfo(forest), 144).full_w == pytest.approx(144 * 2.557)


def test_two_sockets_have_twice_the_tdp() -> None:
    text = cpuinfo.x86("Intel(R) Xeon(R) W-2123 CPU @ 3.60GHz", (INTEL, 6, 85, 4), siblings=8, cores=4)
    processor = read_cpuinfo(text)
    assert cpu_power(processor, 8).full_w == pytest.approx(120)
    assert cpu_power(processor, 16).full_w == pytest.approx(240)


def test_two_sockets_of_power9_with_four_threads_a_core_are_no_five_processors() -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.power("POWER9, altivec supported")), 128)
    assert power.full_w == pytest.approx(190 * 128 / 88)


def test_a_guest_on_a_client_part_has_its_share_of_the_tdp() -> None:
    name, signature = "AMD Ryzen 7 5800X 8-Core Processor", (AMD, 25, 33, 0)
    text = cpuinfo.x86(name, signature, guest=True, siblings=4, cores=4)
    assert cpu_power(read_cpuinfo(text), 4).full_w == pytest.approx(105 * 4 / 16)


def test_an_arm_guest_has_its_share_of_the_tdp() -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.arm("0x41", "0xd40")), 16)
    assert power.full_w == pytest.approx(100 * 16 / 64)
    assert not power.includes_memory


def test_idle_of_a_tdp_is_the_median_share_of_the_servers() -> None:
    families = data.rows("cpu_power_model")
    shares = sorted(float(r["idle_w_per_thread"]) / float(r["full_w_per_thread"]) for r in families)
    power = cpu_power(read_cpuinfo(cpuinfo.x86("Intel(R) N100")), 8)
    assert power.idle_w / power.full_w == pytest.approx((shares[16] + shares[17]) / 2)
    assert "median" in power.note


def test_a_generic_machine_is_the_median_family() -> None:
    idle = sorted(float(row["idle_w_per_thread"]) for row in data.rows("cpu_power_model"))
    assert cpu_power(Processor(), 3).idle_w == pytest.approx(3 * (idle[16] + idle[17]) / 2)


# --- curves -----------------------------------------------------------------------------------------


def test_a_bare_server_follows_its_familys_curve() -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.x86(*MILAN, siblings=128, cores=64)), 128)
    assert power.curve == (0.218, 0.292, 0.359, 0.427, 0.498, 0.566, 0.633, 0.705, 0.836)
    assert "curve of 22 results" in power.note


def test_a_family_without_a_curve_follows_the_median_of_the_others() -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.x86(*GENOA, siblings=192, cores=96)), 192)
    assert len(power.curve) == 9
    assert 0.1 < power.curve[0] < 0.3
    assert "median curve" in power.note


@pytest.mark.parametrize(
    "text",
    [
        cpuinfo.x86(*MILAN, guest=True),
        cpuinfo.x86("AMD Ryzen 7 5800X 8-Core Processor", (AMD, 25, 33, 0)),
        cpuinfo.x86("QEMU Virtual CPU version 2.5+"),
        cpuinfo.arm("0x41", "0xd0c"),
    ],
)
def test_a_guest_a_client_and_a_stranger_follow_the_straight_line(text: str) -> None:
    assert cpu_power(read_cpuinfo(text), 8).curve == STRAIGHT


# --- clouds -----------------------------------------------------------------------------------------

AWS = {"sys_vendor": "Amazon EC2", "bios_vendor": "Amazon EC2"}


@pytest.mark.parametrize(
    ("files", "instance"),
    [
        ({**AWS, "product_name": "m5.xlarge"}, Instance("aws", "m5.xlarge")),
        ({**AWS, "product_name": "c7i-flex.large"}, Instance("aws", "c7i-flex.large")),
        ({**AWS, "product_name": "u-6tb1.metal"}, Instance("aws", "u-6tb1.metal")),
        (
            {"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"},
            Instance("aws", ""),
        ),
        ({"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11"}, Instance()),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, Instance("gcp", "")),
        (
            {
                "sys_vendor": "Microsoft Corporation",
                "product_name": "Virtual Machine",
                "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
            },
            Instance("azure", ""),
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, Instance()),
        ({"sys_vendor": "Hetzner", "product_name": "vServer"}, Instance()),
        ({"sys_vendor": "DigitalOcean", "product_name": "Droplet"}, Instance()),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, Instance()),
        ({}, Instance()),
    ],
)
def test_a_cloud_is_known_by_its_dmi_table(files: Mapping[str, str], instance: Instance) -> None:
    assert read_instance(dmi(**files)) == instance


@pytest.mark.parametrize(
    ("part", "kind", "key"),
    [
        ("0xd0c", "m6g.large", "aws graviton2"),
        ("0xd0c", "c6gd.xlarge", "aws graviton2"),
        ("0xd0c", "im4gn.large", "aws graviton2"),
        ("0xd0c", "is4gen.large", "aws graviton2"),
        ("0xd08", "a1.medium", "aws graviton"),
        ("0xd40", "c7gn.4xlarge", "aws graviton3"),
        ("0xd4f", "r8g.large", "aws graviton4"),
        ("0xd4f", "z9unheard.large", "aws graviton4"),
        ("0xd0c", "", "aws graviton2"),
    ],
)
def test_an_arm_core_is_its_clouds_chip(part: str, kind: str, key: str) -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.arm("0x41", part)), 4, Instance("aws", kind))
    assert power.source.startswith(f"TDP of {key}:")
    assert (kind or "a machine of aws") in power.note


def test_the_same_core_elsewhere_is_another_chip() -> None:
    processor = read_cpuinfo(cpuinfo.arm("0x41", "0xd4f"))
    assert cpu_power(processor, 4).source.startswith("Arm Neoverse V2 (NVIDIA Grace)")
    assert cpu_power(processor, 4, Instance("gcp", "")).source.startswith("TDP of google axion")
    assert cpu_power(processor, 4, Instance("azure", "")).source.startswith("Arm Neoverse V2")


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("m5.xlarge", "Intel Skylake-SP"),
        ("m5dn.xlarge", "Intel Skylake-SP"),
        ("i3en.large", "Intel Cascade Lake-SP"),
        ("g4dn.xlarge", "Intel Cascade Lake-SP"),
        ("c5ad.large", "AMD Zen 2"),
        ("t3a.micro", "AMD Zen (EPYC 7001 Naples)"),
        ("c6id.large", "Intel Ice Lake-SP"),
        ("c7i-flex.large", "Intel Sapphire Rapids"),
        ("m7a.medium", "AMD Zen 4 (EPYC 9004 Genoa)"),
        ("r8i.large", "Intel Granite Rapids"),
        ("t2.micro", "Intel Broadwell"),
    ],
)
def test_a_hidden_processor_is_known_by_its_instance(kind: str, family: str) -> None:
    hidden = read_cpuinfo(cpuinfo.x86("Virtual CPU", guest=True))
    power = cpu_power(hidden, 4, Instance("aws", kind))
    assert power.source.startswith(family)
    assert kind in power.note


def test_what_a_processor_says_of_itself_counts_more_than_the_instance() -> None:
    text = cpuinfo.x86("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", (INTEL, 6, 85, 7), guest=True)
    power = cpu_power(read_cpuinfo(text), 4, Instance("aws", "m5.xlarge"))
    assert power.source.startswith("Intel Cascade Lake-SP")
    assert "m5.xlarge" not in power.note


@pytest.mark.parametrize(
    ("provider", "idle_w", "full_w"), [("aws", 0.74, 3.50), ("gcp", 0.71, 4.26), ("azure", 0.78, 3.76)]
)
def test_a_stranger_in_a_known_cloud_is_its_mean_vcpu(provider: str, idle_w: float, full_w: float) -> None:
    hidden = read_cpuinfo(cpuinfo.x86("Common KVM processor", guest=True))
    power = cpu_power(hidden, 4, Instance(provider, "new9x.large"))
    assert (power.idle_w, power.full_w) == pytest.approx((4 * idle_w, 4 * full_w))
    assert power.source.startswith(f"mean vCPU of {provider}")
    assert power.includes_memory


def test_an_unknown_cloud_is_a_generic_core() -> None:
    power = cpu_power(Processor(), 4, Instance("alibaba", ""))
    assert power.source.startswith("generic core")


def test_every_instance_leads_to_a_row() -> None:
    families = {row["microarchitecture"] for row in data.rows("cpu_power_model")} | {""}
    for row in data.rows("cloud_instance"):
        assert row["microarchitecture"] in families
        assert not row["tdp_key"] or data.find("cpu_tdp", row["tdp_key"]) is not None
        assert row["microarchitecture"] or row["tdp_key"] or row["idle_w_per_vcpu"]
