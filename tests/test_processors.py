"""Which processor is which: nearly four hundred names as /proc/cpuinfo really prints them, and the numbers
and boards of those that have no name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli import data
from emt_cli.data.clouds import Instance
from emt_cli.data.cpu_power import cpu_power
from emt_cli.data.names import plain_name
from emt_cli.data.processors import find_part, is_client, read_cpuinfo
from tests import cpuinfo
from tests.cpuinfo import AMD, HYGON, INTEL, Signature

NAMES = [
    line.split("|")
    for line in (Path(__file__).parent / "data" / "processors.txt").read_text().splitlines()
    if line
]
"""Each with its thermal design power as its maker lists it, the family of its silicon, or `?` where the
name alone tells neither; kept apart from the tables, and checked by hand."""

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
    ("AMD EPYC 9V74 80-Core Processor", (AMD, 25, 17, 1), "AMD Zen 4 (EPYC 9004 Genoa)"),
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
    ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", (INTEL, 6, 140, 1), "core i7-1165g7", 28),
    ("13th Gen Intel(R) Core(TM) i9-13900K", (INTEL, 6, 183, 1), "core i9-13900k", 125),
    ("Intel(R) Core(TM) i9-9900X CPU @ 3.50GHz", (INTEL, 6, 85, 4), "core i9-9900x", 165),
    ("Intel(R) Core(TM) Ultra 7 155H", (INTEL, 6, 170, 4), "core ultra 7 155h", 28),
    ("Intel(R) N100", (INTEL, 6, 190, 0), "n100", 6),
    ("Intel(R) Xeon(R) W-2123 CPU @ 3.60GHz", (INTEL, 6, 85, 4), "xeon w-2123", 120),
    ("AMD Ryzen 7 5800X 8-Core Processor", (AMD, 25, 33, 0), "ryzen 7 5800x", 105),
    ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", (AMD, 23, 96, 1), "ryzen 7 pro 4750u", 15),
    ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", (AMD, 26, 36, 0), "ryzen ai 9 hx 370", 28),
    ("AMD Ryzen Threadripper 3970X 32-Core Processor", (AMD, 23, 49, 0), "ryzen threadripper 3970x", 280),
]

BOARDS = [
    ("0x41", "0xd0c", "", "Arm Neoverse N1 (Ampere Altra)"),
    ("0x41", "0xd4f", "", "Arm Neoverse V2 (NVIDIA Grace)"),
    ("0x41", "0xd40", "", "aws graviton3"),
    ("0x41", "0xd49", "", "microsoft azure cobalt 100"),
    ("0x41", "0xd84", "", "aws graviton4"),
    ("0x41", "0xd08", "", "broadcom bcm2711 raspberry pi 4"),
    ("0x41", "0xd0b", "", "broadcom bcm2712 raspberry pi 5"),
    ("0x41", "0xd03", "", "broadcom bcm2837 raspberry pi 3"),
    ("0x41", "0xd05", "", "rockchip rk3588"),
    ("0x41", "0xd42", "", "nvidia jetson agx orin"),
    ("0x4e", "0x004", "", "nvidia jetson agx xavier"),
    ("0x43", "0x0af", "", "marvell thunderx2 cn9975"),
    ("0x43", "0x0a1", "", "cavium thunderx cn8890"),
    ("0x46", "0x001", "", "fujitsu a64fx"),
    ("0x48", "0xd01", "", "huawei kunpeng 920-6426"),
    ("0x70", "0x662", "", "phytium ft-2000+"),
    ("0xc0", "0xac3", "", "ampereone a192-32x"),
    ("0x61", "0x022", "", "apple m1"),
    ("0x61", "0x029", "", "apple m1 max"),
    ("0x61", "0x032", "", "apple m2"),
    ("0x41", "0xd08", "Raspberry Pi 4 Model B Rev 1.4", "broadcom bcm2711 raspberry pi 4"),
    ("0x41", "0xd08", "Raspberry Pi 400 Rev 1.0", "broadcom bcm2711 raspberry pi 4"),
    ("0x41", "0xd08", "Raspberry Pi Compute Module 4 Rev 1.0", "broadcom bcm2711 raspberry pi 4"),
    ("0x41", "0xd0b", "Raspberry Pi 5 Model B Rev 1.0", "broadcom bcm2712 raspberry pi 5"),
    ("0x41", "0xd03", "Raspberry Pi 3 Model B Plus Rev 1.3", "broadcom bcm2837 raspberry pi 3"),
    ("0x41", "0xd03", "Raspberry Pi Zero 2 W Rev 1.0", "broadcom bcm2710 raspberry pi zero 2"),
    ("0x41", "0xc07", "Raspberry Pi 2 Model B Rev 1.1", "broadcom bcm2836 raspberry pi 2"),
    ("0x41", "0xb76", "Raspberry Pi Zero W Rev 1.1", "broadcom bcm2835 raspberry pi 1 and zero"),
    ("0x41", "0xb76", "Raspberry Pi Model B Rev 2", "broadcom bcm2835 raspberry pi 1 and zero"),
]

OTHERS = [
    (cpuinfo.power("POWER9, altivec supported"), "ibm power9 22-core"),
    (cpuinfo.power("POWER9 (architected), altivec supported"), "ibm power9 22-core"),
    (cpuinfo.power("POWER8 (raw), altivec supported"), "ibm power8 12-core"),
    (cpuinfo.power("POWER10 (architected), altivec supported"), "ibm power10 15-core"),
    (cpuinfo.riscv("sifive,u74-mc"), "starfive jh7110"),
    (cpuinfo.riscv("thead,c920"), "sophgo sg2042"),
    (cpuinfo.loongarch("Loongson-3A5000"), "loongson-3a5000"),
    (cpuinfo.loongarch("Loongson-3A5000LL"), "loongson-3a5000"),
    (cpuinfo.loongarch("Loongson-3A6000-HV"), "loongson-3a6000"),
]

STRANGERS = [
    "",
    "no colon here\n\nnothing",
    cpuinfo.x86("QEMU Virtual CPU version 2.5+", (AMD, 15, 107, 1)),
    cpuinfo.x86("Common KVM processor", (INTEL, 15, 6, 1)),
    cpuinfo.x86("Virtual CPU", ("Unheard", 6, 999, 0)),
    cpuinfo.arm("0x99", "0x123"),
    cpuinfo.arm("garbage", "0x123"),
    cpuinfo.riscv("unheard,of"),
    cpuinfo.s390("8561"),
    "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\n",
]


def described(text: str, instance: Instance | None = None) -> str:
    """What the model goes by: watts of its own row, a family, or nothing."""
    processor = read_cpuinfo(text)
    part = find_part(processor, instance)
    if part.tdp and (part.power is None or is_client(processor)):
        return f"{part.tdp['tdp_w']} W"
    return part.power["microarchitecture"] if part.power else "?"


def test_there_are_many_names_and_none_stands_there_twice() -> None:
    assert len(NAMES) >= 390
    assert len({name for name, _ in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_a_real_name_leads_to_its_makers_watts_or_its_silicon(name: str, expected: str) -> None:
    assert described(cpuinfo.x86(name)) == expected


@pytest.mark.parametrize(("name", "signature", "family"), SPELLINGS)
def test_a_servers_family_is_known_by_its_name_and_numbers(
    name: str, signature: Signature | None, family: str
) -> None:
    found = described(cpuinfo.x86(name, signature, guest=True))
    assert found.startswith(family)


@pytest.mark.parametrize(("name", "signature", "key", "tdp_w"), CLIENTS)
def test_a_client_part_goes_by_its_tdp(name: str, signature: Signature, key: str, tdp_w: float) -> None:
    power = cpu_power(read_cpuinfo(cpuinfo.x86(name, signature)), 8)
    assert power.source.startswith(f"TDP of {key}: ")
    assert not power.includes_memory
    assert power.full_w == tdp_w


@pytest.mark.parametrize(("implementer", "part", "board", "expected"), BOARDS)
def test_an_arm_part_is_known_by_its_numbers_and_a_board_by_its_name(
    implementer: str, part: str, board: str, expected: str
) -> None:
    found = find_part(read_cpuinfo(cpuinfo.arm(implementer, part, board)))
    names = {row[key] for row, key in ((found.power, "microarchitecture"), (found.tdp, "key")) if row}
    assert names == {expected}


def test_a_32_bit_kernels_processor_has_its_boards_name() -> None:
    processor = read_cpuinfo(cpuinfo.arm32("0x41", "0xd08", "Raspberry Pi 4 Model B Rev 1.1"))
    assert processor.name == "Raspberry Pi 4 Model B Rev 1.1"
    part = find_part(processor)
    assert part.tdp is not None
    assert part.tdp["key"] == "broadcom bcm2711 raspberry pi 4"


@pytest.mark.parametrize(("text", "key"), OTHERS)
def test_other_architectures_are_known_by_their_names(text: str, key: str) -> None:
    found = find_part(read_cpuinfo(text))
    assert found.tdp is not None
    assert found.tdp["key"] == key


def test_a_mainframe_says_which_machine_it_is() -> None:
    assert read_cpuinfo(cpuinfo.s390("8561")).name == "IBM Z, machine 8561"


@pytest.mark.parametrize("text", STRANGERS)
def test_an_unknown_processor_is_a_generic_one_and_says_so(text: str) -> None:
    power = cpu_power(read_cpuinfo(text), 2)
    assert power.source.startswith("generic core")
    assert 0.5 < power.idle_w < power.full_w < 20


def test_the_numbers_alone_tell_the_families_that_the_tdp_table_tells_by_name() -> None:
    """Two independent roads to a server's family must meet."""
    nameless = [entry for entry in SPELLINGS if entry[1] is not None and "Siena" not in entry[2]]
    ambiguous = ("Opteron", "6300P", "9V45")
    for name, signature, family in nameless:
        if not any(word in name + family for word in ambiguous):
            found = find_part(read_cpuinfo(cpuinfo.x86("", signature)))
            assert found.power is not None, name
            assert found.power["microarchitecture"].startswith(family)


def test_names_are_made_plain_by_the_rule_of_the_table() -> None:
    assert plain_name("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz") == "xeon e5-2680 v4"
    assert plain_name("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz") == "core i7-1165g7"
    assert plain_name("AMD Ryzen 5 5500U with Radeon Graphics") == "ryzen 5 5500u"
    assert plain_name("AMD FX(tm)-8350 Eight-Core Processor") == "fx-8350 eight-core"
    assert plain_name("AMD A8-7410 APU with AMD Radeon R5 Graphics") == "a8-7410"
    assert plain_name("Intel® Xeon® Gold 5415+") == "xeon gold 5415+"


def test_every_key_of_the_table_is_a_plain_name_so_that_it_can_be_found() -> None:
    odd = [row["key"] for row in data.rows("cpu_tdp") if plain_name(row["key"]) != row["key"]]
    assert len(odd) < len(data.rows("cpu_tdp")) / 50, odd[:20]


@given(st.text())
def test_any_text_is_some_processor(text: str) -> None:
    power = cpu_power(read_cpuinfo(text), 4)
    assert 0 < power.idle_w < power.full_w


@given(st.text())
def test_any_model_name_is_some_processor(name: str) -> None:
    power = cpu_power(read_cpuinfo(f"vendor_id : x\nmodel name : {name}\n"), 4)
    assert 0 < power.idle_w < power.full_w
