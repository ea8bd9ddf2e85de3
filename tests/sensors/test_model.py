"""The model sensor: which processor is which, and joules that follow the busy CPU time exactly."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli import data
from emt_cli.data.cpu_power import cpu_power
from emt_cli.data.processors import Processor, find_part, plain_name, read_cpuinfo
from emt_cli.model import Gap, Reading
from emt_cli.sensors.base import Absent, Machine
from emt_cli.sensors.meters import meter
from emt_cli.sensors.model import CpuModel, RamModel, open_cpu, open_ram
from tests.sensors.contract import SensorContract

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


# --- a machine whose clock and /proc the test holds -------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Text:
    """A kernel file that is rendered anew for each read."""

    def __init__(self, render: Callable[[], str]) -> None:
        self.render = render
        self.is_closed = False

    def read(self) -> bytes:
        return self.render().encode()[:4096]

    def close(self) -> None:
        self.is_closed = True


class FakeMachine:
    """`cpus` logical CPUs that have been busy for `busy_s` CPU seconds since `clock` began; the rest idle."""

    def __init__(self, cpus: int = 4, cpuinfo: str | None = "", memory_kb: int = 16 * 2**20) -> None:
        self.clock = Clock()
        self.cpus, self.busy_s, self.iowait_s, self.steal_s = cpus, 0.0, 0.0, 0.0
        self.fault: OSError | None = None
        self.files: dict[str, Callable[[], str]] = {
            "/proc/stat": self.stat,
            "/proc/meminfo": lambda: f"MemTotal:       {memory_kb} kB\nMemFree: 1 kB\n",
            "/sys/devices/system/cpu/online": lambda: f"0-{cpus - 1}",
        }
        if cpuinfo is not None:
            self.files["/proc/cpuinfo"] = lambda: cpuinfo
        self.machine = Machine(open_file=self.open_file, environ={})

    def open_file(self, path: str) -> Text:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Text(self.files[path])

    def stat(self) -> str:
        if self.fault is not None:
            raise self.fault
        total_s = self.cpus * (self.clock.now_s - 900)
        idle_s = total_s - self.busy_s - self.iowait_s - self.steal_s
        columns_s = [
            self.busy_s * 0.75,
            0,
            self.busy_s * 0.25,
            idle_s,
            self.iowait_s,
            0,
            0,
            self.steal_s,
            0,
            0,
        ]
        line = " ".join(str(round(seconds * TICKS_PER_S)) for seconds in columns_s)
        cpus = "".join(f"cpu{n} 1 2 3 4 5 6 7 8 0 0\n" for n in range(self.cpus))
        return f"cpu  {line}\n{cpus}intr 1 2 3\n"

    def open_cpu(self) -> CpuModel:
        return open_cpu(self.machine, clock=self.clock)

    def open_ram(self) -> RamModel:
        return open_ram(self.machine, clock=self.clock)


def value(sensor: CpuModel | RamModel) -> float:
    [reading] = sensor.read()
    assert isinstance(reading, Reading)
    return reading.value


def proc_cpuinfo(
    name: str,
    signature: tuple[str, int, int, int] | None = None,
    *,
    guest: bool = False,
    siblings: int = 8,
    cores: int = 4,
) -> str:
    vendor, family, model, stepping = signature or ("", "", "", "")
    flags = "fpu vme sse2 ht" + (" hypervisor" if guest else "") + " avx2"
    block = (
        f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"
        f"stepping\t: {stepping}\nsiblings\t: {siblings}\ncpu cores\t: {cores}\nflags\t\t: {flags}\n"
        "address sizes\t: 48 bits physical, 48 bits virtual\n"
    )
    return "\n".join(f"processor\t: {n}\n{block}" for n in range(2))


def arm_cpuinfo(implementer: str, part: str) -> str:
    return (
        "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: {part}\n"
        "CPU revision\t: 1\n\nprocessor\t: 1\nCPU part\t: 0x000\n"
    )


class TestCpuModel(SensorContract):
    cannot_be_locked = "/proc/stat is readable by everybody; where it is not, it counts as absent"

    def open(self, folder: Path) -> CpuModel:
        return open_cpu(FakeMachine().machine)

    def open_absent(self, folder: Path) -> CpuModel:
        return open_cpu(Machine(str(folder)))

    def open_vanishing(self, folder: Path) -> tuple[CpuModel, Callable[[], None]]:
        fake = FakeMachine()

        def vanish() -> None:
            fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))

        return open_cpu(fake.machine), vanish


class TestRamModel(SensorContract):
    cannot_be_locked = "/proc/meminfo is readable by everybody; where it is not, it counts as absent"
    cannot_vanish = "the size of the memory is read once"

    def open(self, folder: Path) -> RamModel:
        return open_ram(FakeMachine().machine)

    def open_absent(self, folder: Path) -> RamModel:
        return open_ram(Machine(str(folder)))


# --- which processor --------------------------------------------------------------------------------

AMD, INTEL, HYGON = "AuthenticAMD", "GenuineIntel", "HygonGenuine"
SPELLINGS = [
    # clouds and hypervisors: the name says nothing, or half of it
    ("AMD EPYC", (AMD, 26, 2, 1), "AMD Zen 5 (EPYC 9005 Turin)"),
    ("AMD EPYC", (AMD, 25, 17, 1), "AMD Zen 4 (EPYC 9004 Genoa)"),
    ("AMD EPYC Processor", (AMD, 23, 1, 2), "AMD Zen (EPYC 7001 Naples)"),
    ("AMD EPYC Processor (with IBPB)", (AMD, 23, 1, 2), "AMD Zen (EPYC 7001 Naples)"),
    ("AMD EPYC-Rome Processor", (AMD, 23, 49, 0), "AMD Zen 2 (EPYC 7002 Rome)"),
    ("AMD EPYC-Milan Processor", (AMD, 25, 1, 1), "AMD Zen 3 (EPYC 7003 Milan)"),
    ("AMD EPYC-Genoa Processor", (AMD, 25, 17, 0), "AMD Zen 4 (EPYC 9004 Genoa)"),
    ("Intel(R) Xeon(R) CPU @ 2.20GHz", (INTEL, 6, 79, 0), "Intel Broadwell"),
    ("Intel(R) Xeon(R) CPU @ 2.30GHz", (INTEL, 6, 63, 0), "Intel Haswell"),
    ("Intel(R) Xeon(R) CPU @ 2.00GHz", (INTEL, 6, 85, 3), "Intel Skylake-SP"),
    ("Intel(R) Xeon(R) CPU @ 2.80GHz", (INTEL, 6, 85, 7), "Intel Cascade Lake-SP"),
    ("Intel(R) Xeon(R) CPU @ 2.60GHz", (INTEL, 6, 106, 6), "Intel Ice Lake-SP"),
    ("Intel(R) Xeon(R) CPU @ 2.70GHz", (INTEL, 6, 143, 8), "Intel Sapphire Rapids"),
    ("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.10GHz", (INTEL, 6, 207, 2), "Intel Emerald Rapids"),
    ("Intel(R) Xeon(R) 6985P-C CPU @ 2.30GHz", (INTEL, 6, 173, 1), "Intel Granite Rapids"),
    ("Intel Xeon Processor (Skylake, IBRS)", (INTEL, 6, 85, 4), "Intel Skylake-SP"),
    ("Intel Xeon Processor (Cascadelake)", (INTEL, 6, 85, 6), "Intel Cascade Lake-SP"),
    ("Intel Xeon Processor (Cooperlake)", (INTEL, 6, 85, 10), "Intel Cooper Lake"),
    ("Intel Xeon Processor (Icelake)", (INTEL, 6, 106, 0), "Intel Ice Lake-SP"),
    ("Intel Xeon Processor (SapphireRapids)", (INTEL, 6, 143, 4), "Intel Sapphire Rapids"),
    ("Intel Core Processor (Haswell, no TSX)", (INTEL, 6, 60, 1), "Intel Haswell"),
    ("Intel Core Processor (Broadwell, IBRS)", (INTEL, 6, 61, 2), "Intel Broadwell"),
    ("Intel Xeon E312xx (Sandy Bridge)", (INTEL, 6, 42, 1), "Intel Sandy Bridge"),
    ("Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)", (INTEL, 6, 58, 9), "Intel Ivy Bridge"),
    ("Westmere E56xx/L56xx/X56xx (Nehalem-C)", (INTEL, 6, 44, 1), "Intel Nehalem/Westmere"),
    ("AMD EPYC 7R32", (AMD, 23, 49, 0), "AMD Zen 2 (EPYC 7002 Rome)"),
    ("AMD EPYC 7R13 Processor", (AMD, 25, 1, 1), "AMD Zen 3 (EPYC 7003 Milan)"),
    ("AMD EPYC 9R14", (AMD, 25, 17, 1), "AMD Zen 4 (EPYC 9004 Genoa)"),
    ("AMD EPYC 9R45", (AMD, 26, 2, 1), "AMD Zen 5 (EPYC 9005 Turin)"),
    ("AMD EPYC 7B12", (AMD, 23, 49, 0), "AMD Zen 2 (EPYC 7002 Rome)"),
    ("AMD EPYC 7B13", (AMD, 25, 1, 0), "AMD Zen 3 (EPYC 7003 Milan)"),
    ("AMD EPYC 9B14", (AMD, 25, 17, 1), "AMD Zen 4 (EPYC 9004 Genoa)"),
    ("AMD EPYC 9V33X 96-Core Processor", (AMD, 25, 17, 1), "AMD Zen 4 (EPYC 9004 Genoa)"),
    ("AMD EPYC 9V74 80-Core Processor", (AMD, 25, 160, 2), "AMD Zen 4c (EPYC 9004 Bergamo)"),
    ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", (INTEL, 6, 85, 7), "Intel Cascade Lake-SP"),
    ("Intel(R) Xeon(R) Platinum 8171M CPU @ 2.60GHz", (INTEL, 6, 85, 4), "Intel Skylake-SP"),
    ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", (INTEL, 6, 106, 6), "Intel Ice Lake-SP"),
    ("Intel(R) Xeon(R) Platinum 8488C", (INTEL, 6, 143, 8), "Intel Sapphire Rapids"),
    ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", (INTEL, 6, 79, 1), "Intel Broadwell"),
    ("Intel(R) Xeon(R) CPU E5-2673 v3 @ 2.40GHz", (INTEL, 6, 63, 2), "Intel Haswell"),
    ("Hygon C86 7280 32-core Processor", (HYGON, 24, 1, 1), "AMD Zen (EPYC 7001 Naples)"),
    # servers that say what they are
    ("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1), "AMD Zen 3 (EPYC 7003 Milan)"),
    ("AMD EPYC 7742 64-Core Processor", (AMD, 23, 49, 0), "AMD Zen 2 (EPYC 7002 Rome)"),
    ("AMD EPYC 7551P 32-Core Processor", (AMD, 23, 1, 2), "AMD Zen (EPYC 7001 Naples)"),
    ("AMD EPYC 9754 128-Core Processor", (AMD, 25, 160, 2), "AMD Zen 4c (EPYC 9004 Bergamo)"),
    ("AMD EPYC 8324P 32-Core Processor", (AMD, 25, 160, 2), "AMD Zen 4c (EPYC 8004 Siena)"),
    ("AMD EPYC 9965 192-Core Processor", (AMD, 26, 17, 0), "AMD Zen 5c (EPYC 9005 Turin Dense)"),
    ("AMD EPYC 4564P 16-Core Processor", (AMD, 25, 97, 2), "AMD Zen 4 (EPYC 4004)"),
    ("AMD Opteron(tm) Processor 6376", (AMD, 21, 2, 0), "AMD Opteron (pre-Zen)"),
    ("AMD Opteron 63xx class CPU", (AMD, 21, 2, 0), "AMD Opteron (pre-Zen)"),
    ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", (INTEL, 6, 85, 7), "Intel Cascade Lake-SP"),
    ("Intel(R) Xeon(R) Silver 4110 CPU @ 2.10GHz", (INTEL, 6, 85, 4), "Intel Skylake-SP"),
    ("Intel(R) Xeon(R) Gold 6330H CPU @ 2.00GHz", (INTEL, 6, 85, 11), "Intel Cooper Lake"),
    ("Intel(R) Xeon(R) Platinum 8480+", (INTEL, 6, 143, 8), "Intel Sapphire Rapids"),
    ("Intel(R) Xeon(R) Max 9480", (INTEL, 6, 143, 8), "Intel Sapphire Rapids"),
    ("INTEL(R) XEON(R) PLATINUM 8592+", (INTEL, 6, 207, 2), "Intel Emerald Rapids"),
    ("Intel(R) Xeon(R) 6980P", (INTEL, 6, 173, 1), "Intel Granite Rapids"),
    ("Intel(R) Xeon(R) 6780E", (INTEL, 6, 175, 3), "Intel Sierra Forest"),
    ("Intel(R) Xeon(R) 6315P", (INTEL, 6, 183, 1), "Intel Raptor Lake (Xeon 6300P)"),
    ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", (INTEL, 6, 79, 1), "Intel Broadwell"),
    ("Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", (INTEL, 6, 45, 7), "Intel Sandy Bridge"),
    ("Intel(R) Xeon(R) CPU E3-1270 v6 @ 3.80GHz", (INTEL, 6, 158, 9), "Intel Kaby Lake"),
    ("Intel(R) Xeon(R) E-2288G CPU @ 3.70GHz", (INTEL, 6, 158, 13), "Intel Coffee Lake"),
    ("Intel(R) Xeon(R) D-2796NT CPU @ 2.00GHz", (INTEL, 6, 108, 1), "Intel Ice Lake-D"),
    ("Intel(R) Xeon(R) CPU           X5650  @ 2.67GHz", (INTEL, 6, 44, 2), "Intel Nehalem/Westmere"),
    # no numbers, or numbers that are not in the table yet: the name has to do
    ("AMD EPYC 7R13 Processor", None, "AMD Zen 3 (EPYC 7003 Milan)"),
    ("AMD EPYC 9V45 96-Core Processor", (AMD, 26, 250, 0), "AMD Zen 5 (EPYC 9005 Turin)"),
    ("AMD EPYC-Turin Processor", None, "AMD Zen 5 (EPYC 9005 Turin)"),
    ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", None, "Intel Ice Lake-SP"),
    ("Intel(R) Xeon(R) Gold 5318H", None, "Intel Cooper Lake"),
    ("Intel(R) Xeon(R) 6975P-C", None, "Intel Granite Rapids"),
    ("Intel(R) Xeon(R) CPU E5-2999 v3 @ 2.00GHz", None, "Intel Haswell"),
    ("Intel Xeon Processor (GraniteRapids)", None, "Intel Granite Rapids"),
]
"""Model names as /proc/cpuinfo prints them, with vendor, family, model and stepping."""

CLIENTS = [
    ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", (INTEL, 6, 142, 10), "core i7-8550u", 15),
    ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", (INTEL, 6, 140, 1), "core i7-1165g7", None),
    ("13th Gen Intel(R) Core(TM) i9-13900K", (INTEL, 6, 183, 1), "core i9-13900k", 125),
    ("Intel(R) Core(TM) i9-9900X CPU @ 3.50GHz", (INTEL, 6, 85, 4), "core i9-9900x", 165),
    ("Intel(R) Core(TM) Ultra 7 155H", (INTEL, 6, 170, 4), "core ultra 7 155h", 28),
    ("Intel(R) N100", (INTEL, 6, 190, 0), "n100", 6),
    ("Intel(R) Xeon(R) W-2123 CPU @ 3.60GHz", (INTEL, 6, 85, 4), "xeon w-2123", 120),
    ("AMD Ryzen 7 5800X 8-Core Processor", (AMD, 25, 33, 0), "ryzen 7 5800x", 105),
    ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", (AMD, 23, 96, 1), "ryzen 7 pro 4750u", None),
    ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", (AMD, 26, 36, 0), "ryzen ai 9 hx 370", None),
    ("AMD Ryzen Threadripper 3970X 32-Core Processor", (AMD, 23, 49, 0), "ryzen threadripper 3970x", 280),
]

ARMS = [
    ("0x41", "0xd0c", "Arm Neoverse N1 (Ampere Altra)"),
    ("0x41", "0xd4f", "Arm Neoverse V2 (NVIDIA Grace)"),
    ("0x41", "0xd40", "aws graviton3"),
    ("0x41", "0xd49", "microsoft azure cobalt 100"),
    ("0x41", "0xd08", "broadcom bcm2711 raspberry pi 4"),
    ("0x41", "0xd0b", "broadcom bcm2712 raspberry pi 5"),
    ("0x43", "0x0af", "marvell thunderx2 cn9975"),
    ("0x46", "0x001", "fujitsu a64fx"),
    ("0x48", "0xd01", "huawei kunpeng 920-6426"),
    ("0xc0", "0xac3", "ampereone a192-32x"),
    ("0x61", "0x022", "apple m1"),
]

STRANGERS = [
    "",
    "no colon here\n\nnothing",
    proc_cpuinfo("QEMU Virtual CPU version 2.5+", (AMD, 15, 107, 1)),
    proc_cpuinfo("Common KVM processor", (INTEL, 15, 6, 1)),
    proc_cpuinfo("Virtual CPU", ("Unheard", 6, 999, 0)),
    arm_cpuinfo("0x99", "0x123"),
    arm_cpuinfo("garbage", "0x123"),
    "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\n",
]


@pytest.mark.parametrize(("name", "signature", "family"), SPELLINGS)
def test_a_servers_family_is_known(
    name: str, signature: tuple[str, int, int, int] | None, family: str
) -> None:
    cpuinfo = proc_cpuinfo(name, signature, guest=True)
    [channel] = FakeMachine(cpuinfo=cpuinfo).open_cpu().channels
    assert channel.source.startswith(family)
    assert channel.note.startswith(name)


@pytest.mark.parametrize(("name", "signature", "key", "tdp_w"), CLIENTS)
def test_a_client_part_goes_by_its_tdp(
    name: str, signature: tuple[str, int, int, int], key: str, tdp_w: float | None
) -> None:
    sensor = FakeMachine(cpus=8, cpuinfo=proc_cpuinfo(name, signature)).open_cpu()
    [channel] = sensor.channels
    assert channel.source.startswith(f"TDP of {key}: ")
    assert not sensor.includes_memory
    row = data.find("cpu_tdp", key)
    assert row is not None
    assert channel.high_w == float(row["tdp_w"])
    assert tdp_w is None or channel.high_w == tdp_w


@pytest.mark.parametrize(("implementer", "part", "expected"), ARMS)
def test_an_arm_part_is_known_by_its_numbers(implementer: str, part: str, expected: str) -> None:
    found = find_part(read_cpuinfo(arm_cpuinfo(implementer, part)))
    names = {row[key] for row, key in ((found.power, "microarchitecture"), (found.tdp, "key")) if row}
    assert names == {expected}


def test_a_power_processor_is_known_by_its_name() -> None:
    found = find_part(read_cpuinfo("processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n"))
    assert found.tdp is not None
    assert found.tdp["key"] == "ibm power9 22-core"


@pytest.mark.parametrize("cpuinfo", STRANGERS)
def test_an_unknown_processor_is_a_generic_one_and_says_so(cpuinfo: str) -> None:
    sensor = FakeMachine(cpus=2, cpuinfo=cpuinfo).open_cpu()
    [channel] = sensor.channels
    assert channel.source.startswith("generic core")
    assert channel.idle_w is not None
    assert channel.high_w is not None
    assert 0.5 < channel.idle_w < channel.high_w < 20


def test_an_unreadable_cpuinfo_is_an_unknown_processor() -> None:
    [channel] = FakeMachine(cpuinfo=None).open_cpu().channels
    assert channel.source.startswith("generic core")


def test_the_numbers_alone_tell_the_families_that_the_tdp_table_tells_by_name() -> None:
    """Two independent roads to a server's family must meet."""
    nameless = [entry for entry in SPELLINGS if entry[1] is not None and "Siena" not in entry[2]]
    ambiguous = ("Opteron", "6300P", "9V45")
    for name, signature, family in nameless:
        if not any(word in name + family for word in ambiguous):
            found = find_part(read_cpuinfo(proc_cpuinfo("", signature)))
            assert found.power is not None, name
            assert found.power["microarchitecture"].startswith(family)


def test_names_are_made_plain_by_the_rule_of_the_table() -> None:
    assert plain_name("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz") == "xeon e5-2680 v4"
    assert plain_name("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz") == "core i7-1165g7"
    assert plain_name("AMD Ryzen 5 5500U with Radeon Graphics") == "ryzen 5 5500u"
    assert plain_name("Intel® Xeon® Gold 5415+") == "xeon gold 5415+"


@given(st.text())
def test_any_text_is_some_processor(text: str) -> None:
    power = cpu_power(read_cpuinfo(text), 4)
    assert 0 < power.idle_w < power.full_w


@given(st.text())
def test_any_model_name_is_some_processor(name: str) -> None:
    power = cpu_power(read_cpuinfo(f"vendor_id : x\nmodel name : {name}\n"), 4)
    assert 0 < power.idle_w < power.full_w


# --- how many watts ---------------------------------------------------------------------------------

MILAN = proc_cpuinfo("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1), guest=True)


def test_a_guest_is_given_its_threads_share_of_the_server() -> None:
    sensor = FakeMachine(cpus=4, cpuinfo=MILAN).open_cpu()
    [channel] = sensor.channels
    assert channel.idle_w == channel.low_w == pytest.approx(4 * 0.424)
    assert channel.high_w == pytest.approx(4 * 1.916)
    assert channel.provenance == "estimated"
    assert sensor.includes_memory
    assert "whole-server" in channel.note
    assert "2021 to 2022" in channel.source


def test_a_bare_core_without_hyper_threading_costs_what_two_threads_cost() -> None:
    cpuinfo = proc_cpuinfo("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1), siblings=64, cores=64)
    assert cpu_power(read_cpuinfo(cpuinfo), 64).full_w == pytest.approx(128 * 1.916)
    in_a_guest = proc_cpuinfo("AMD EPYC", (AMD, 25, 1, 1), siblings=64, cores=64, guest=True)
    assert cpu_power(read_cpuinfo(in_a_guest), 64).full_w == pytest.approx(64 * 1.916)
    forest = proc_cpuinfo("Intel(R) Xeon(R) 6780E", (INTEL, 6, 175, 3), siblings=144, cores=144)
    assert cpu_power(read_cpuinfo(forest), 144).full_w == pytest.approx(144 * 2.557)


def test_two_sockets_have_twice_the_tdp() -> None:
    cpuinfo = proc_cpuinfo("Intel(R) Xeon(R) W-2123 CPU @ 3.60GHz", (INTEL, 6, 85, 4), siblings=8, cores=4)
    processor = read_cpuinfo(cpuinfo)
    assert cpu_power(processor, 8).full_w == pytest.approx(120)
    assert cpu_power(processor, 16).full_w == pytest.approx(240)


def test_a_guest_on_a_client_part_has_its_share_of_the_tdp() -> None:
    name, signature = "AMD Ryzen 7 5800X 8-Core Processor", (AMD, 25, 33, 0)
    cpuinfo = proc_cpuinfo(name, signature, guest=True, siblings=4, cores=4)
    assert cpu_power(read_cpuinfo(cpuinfo), 4).full_w == pytest.approx(105 * 4 / 16)


def test_an_arm_guest_has_its_share_of_the_tdp() -> None:
    power = cpu_power(read_cpuinfo(arm_cpuinfo("0x41", "0xd40")), 16)
    assert power.full_w == pytest.approx(100 * 16 / 64)
    assert not power.includes_memory


def test_idle_of_a_tdp_is_the_median_share_of_the_servers() -> None:
    families = data.rows("cpu_power_model")
    shares = sorted(float(r["idle_w_per_thread"]) / float(r["full_w_per_thread"]) for r in families)
    power = cpu_power(read_cpuinfo(proc_cpuinfo("Intel(R) N100")), 8)
    assert power.idle_w / power.full_w == pytest.approx((shares[16] + shares[17]) / 2)
    assert "median" in power.note


def test_a_generic_machine_is_the_median_family() -> None:
    idle = sorted(float(row["idle_w_per_thread"]) for row in data.rows("cpu_power_model"))
    assert cpu_power(Processor(), 3).idle_w == pytest.approx(3 * (idle[16] + idle[17]) / 2)


def test_cpus_are_counted_where_proc_stat_is_longer_than_one_read() -> None:
    [channel] = FakeMachine(cpus=384, cpuinfo=MILAN).open_cpu().channels
    assert channel.high_w == pytest.approx(384 * 1.916)


def test_cpus_switched_off_do_not_count() -> None:
    fake = FakeMachine(cpus=384, cpuinfo=MILAN)
    fake.files["/sys/devices/system/cpu/online"] = lambda: "0-1,8,16-31"
    [channel] = fake.open_cpu().channels
    assert channel.high_w == pytest.approx(19 * 1.916)


# --- joules -----------------------------------------------------------------------------------------


def test_an_idle_machine_uses_its_idle_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    fake.clock.now_s += 10
    assert value(sensor) == pytest.approx(10 * 4 * 0.424)


def test_a_busy_machine_uses_its_full_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    fake.clock.now_s += 10
    fake.busy_s += 40
    assert value(sensor) == pytest.approx(10 * 4 * 1.916)


@given(st.integers(min_value=0, max_value=4000), st.integers(min_value=1, max_value=100))
def test_energy_is_linear_in_the_busy_cpu_time(busy_ticks: int, tenths: int) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    elapsed_s = 10.0 + tenths / 10
    busy_s = busy_ticks / 100
    fake.clock.now_s += elapsed_s
    fake.busy_s += busy_s
    assert value(sensor) == pytest.approx(4 * 0.424 * elapsed_s + (1.916 - 0.424) * busy_s, abs=0.03)


@given(st.lists(st.integers(min_value=1, max_value=2000), min_size=1, max_size=30))
def test_the_joules_are_the_same_however_often_it_is_read(pauses_ms: list[int]) -> None:
    often, once = FakeMachine(cpuinfo=MILAN), FakeMachine(cpuinfo=MILAN)
    read_often, read_once = often.open_cpu(), once.open_cpu()
    for pause_ms in pauses_ms:
        for fake in (often, once):
            fake.clock.now_s += pause_ms / 1000
            fake.busy_s += 2.5 * pause_ms / 1000
        value(read_often)
    # A reading that came right after a coarse tick may stand a few ticks ahead, never a share of the run.
    assert value(read_often) == pytest.approx(value(read_once), abs=4 * 1.492 / TICKS_PER_S)


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=2, max_size=50))
def test_the_joules_never_run_backwards(pauses_ms: list[int]) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    readings = []
    for count, pause_ms in enumerate(pauses_ms):
        fake.clock.now_s += pause_ms / 1000
        fake.busy_s += pause_ms / 1000 * (count % 5)
        readings.append(value(sensor))
    assert readings == sorted(readings)


def test_waiting_for_disks_and_stolen_time_are_not_work() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    fake.clock.now_s += 10
    fake.iowait_s += 15
    fake.steal_s += 10
    assert value(sensor) == pytest.approx(10 * 4 * 0.424)


def test_work_that_the_sampled_busy_columns_missed_is_seen_in_the_idle_column() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    now_s = fake.clock.now_s
    sensor._stat = Text(lambda: f"cpu  0 0 0 {round((4 * (now_s - 900) + 380) * TICKS_PER_S)} 0 0 0 0\n")
    fake.clock.now_s += 100
    assert value(sensor) == pytest.approx(100 * 4 * 0.424 + 20 * 1.492)


def test_columns_that_do_not_add_up_leave_the_busy_ones_to_be_believed() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    frozen_s = fake.clock.now_s
    busy = fake.files["/proc/stat"]

    def with_a_clock_that_stands() -> str:
        now_s, fake.clock.now_s = fake.clock.now_s, frozen_s + 5
        try:
            return busy()
        finally:
            fake.clock.now_s = now_s

    sensor._stat = Text(with_a_clock_that_stands)
    fake.clock.now_s += 10
    fake.busy_s += 8
    assert value(sensor) == pytest.approx(10 * 4 * 0.424 + 8 * 1.492)


def test_a_failed_read_is_a_gap_and_the_next_one_loses_nothing() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    counter = meter(sensor.channels[0], fake.clock.now_s, 0.1)
    counter.update(sensor.read()[0])
    fake.clock.now_s += 5
    fake.busy_s += 10
    fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))
    [gap] = sensor.read()
    assert isinstance(gap, Gap)
    assert "Input/output error" in gap.reason
    counter.update(gap)
    fake.fault = None
    fake.clock.now_s += 5
    counter.update(sensor.read()[0])
    assert counter.energy_j == pytest.approx(10 * 4 * 0.424 + 10 * 1.492)
    assert counter.gaps == []


@pytest.mark.parametrize("content", ["", "nonsense\n", "cpu a b c d e\n", "cpu 1 2\n"])
def test_a_garbled_stat_is_a_gap_or_absent(content: str) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    sensor._stat = Text(lambda: content)
    assert isinstance(sensor.read()[0], Gap)
    fake.files["/proc/stat"] = lambda: content
    with pytest.raises(Absent):
        fake.open_cpu()


def test_a_stat_of_zeros_is_no_idle_machine_but_an_absent_one() -> None:
    fake = FakeMachine()
    fake.files["/proc/stat"] = lambda: "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\n"
    with pytest.raises(Absent, match="zeros"):
        fake.open_cpu()


def test_a_meter_takes_every_step_between_idle_and_full_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = fake.open_cpu()
    counter = meter(sensor.channels[0], fake.clock.now_s, 0.1)
    for step in range(200):
        fake.clock.now_s += 0.01
        fake.busy_s += 0.04 if step % 2 else 0.0
        counter.update(sensor.read()[0])
    assert counter.resets == 0
    assert counter.gaps == []


def test_memory_draws_constant_power_by_its_size_with_the_spread_as_bounds() -> None:
    fake = FakeMachine(memory_kb=16 * 2**20)
    sensor = fake.open_ram()
    [channel] = sensor.channels
    assert channel.domain == "dram"
    assert channel.idle_w == pytest.approx(16 * 0.3725)
    assert (channel.low_w, channel.high_w) == pytest.approx((16 * 0.284, 16 * 0.392))
    fake.clock.now_s += 10
    assert value(sensor) == pytest.approx(10 * 16 * 0.3725)


@pytest.mark.parametrize("content", ["", "MemFree: 12 kB\n", "MemTotal: many kB\n", "MemTotal:\n"])
def test_memory_of_unknown_size_is_absent(content: str) -> None:
    fake = FakeMachine()
    fake.files["/proc/meminfo"] = lambda: content
    with pytest.raises(Absent):
        fake.open_ram()


def test_the_file_is_closed_and_then_reads_are_gaps() -> None:
    sensor = open_cpu(Machine())
    sensor.close()
    sensor.close()
    assert isinstance(sensor.read()[0], Gap)
