"""Who made the CPU: RAPL's registers are the same files and events for all makers, and mean other things.

It stands apart because both ways to RAPL need it, while sensors do not import each other.
"""

from __future__ import annotations

from emt_cli.sensors.base import Machine

AMD = frozenset({"AuthenticAMD", "HygonGenuine"})
"""One energy register for a whole package, whatever its dies; one for each core, none for all cores; no DRAM,
GPU or platform (AMD Processor Programming Reference, MSRC001_029A and _029B)."""


def cpu_vendor(machine: Machine) -> str:
    """`GenuineIntel`, `AuthenticAMD`, ... as /proc/cpuinfo has it; empty where it does not say."""
    try:
        lines = machine.text("/proc/cpuinfo").splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    return next(values, "")
