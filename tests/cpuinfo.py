"""/proc/cpuinfo as several architectures write it."""

from __future__ import annotations

AMD, INTEL, HYGON = "AuthenticAMD", "GenuineIntel", "HygonGenuine"

Signature = tuple[str, int, int, int]
"""Vendor, family, model and stepping."""


def x86(
    name: str,
    signature: Signature | None = None,
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


def arm(implementer: str, part: str, board: str = "") -> str:
    """An aarch64 kernel's; `board` is the line that Raspberry Pi's own kernels add at the end."""
    text = (
        "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: {part}\n"
        "CPU revision\t: 1\n\nprocessor\t: 1\nCPU part\t: 0x000\n"
    )
    return text + (
        f"\nRevision\t: c03114\nSerial\t\t: 10000000abcdef01\nModel\t\t: {board}\n" if board else ""
    )


def arm32(implementer: str, part: str, board: str) -> str:
    return (
        "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\nBogoMIPS\t: 108.00\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 7\nCPU part\t: {part}\n\n"
        f"Hardware\t: BCM2711\nRevision\t: c03114\nModel\t\t: {board}\n"
    )


def power(name: str) -> str:
    block = "cpu\t\t: {}\nclock\t\t: 3800.000000MHz\nrevision\t: 2.3 (pvr 004e 1203)\n"
    blocks = "\n".join(f"processor\t: {n}\n{block.format(name)}" for n in range(2))
    return f"{blocks}\ntimebase\t: 512000000\nplatform\t: PowerNV\nmodel\t\t: 9006-22P\n"


def riscv(uarch: str) -> str:
    return (
        "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc_zicntr_zicsr\nmmu\t\t: sv39\n"
        f"uarch\t\t: {uarch}\nmvendorid\t: 0x489\nmarchid\t\t: 0x8000000000000007\n"
    )


def loongarch(name: str) -> str:
    return (
        "system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\npackage\t\t\t: 0\ncore\t\t\t: 0\n"
        f"CPU Family\t\t: Loongson-64bit\nModel Name\t\t: {name}\nCPU Revision\t\t: 0x10\n"
    )


def s390(machine: str) -> str:
    return (
        "vendor_id       : IBM/S390\n# processors    : 2\nbogomips per cpu: 21881.00\nmax thread id   : 0\n"
        "features\t: esan3 zarch stfle msa\n"
        f"processor 0: version = 00,  identification = 000000,  machine = {machine}\n\n"
        f"cpu number      : 0\nversion         : 00\nidentification  : 000000\nmachine         : {machine}\n"
    )
