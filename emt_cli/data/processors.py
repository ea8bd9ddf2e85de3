"""Which processor is this: from the text of /proc/cpuinfo to the rows of the tables that describe it.

Apart from the sensor that uses the rows, because names and signatures are a subject of their own: clouds
print `AMD EPYC` or `Intel(R) Xeon(R) CPU @ 2.20GHz` and only the numbers below tell the silicon. Pure
functions over the tables; plain string work and named tuples (a frozen dataclass costs a millisecond to
define), since this runs before every command on such a machine.
"""

from __future__ import annotations

from typing import NamedTuple

from emt_cli import data
from emt_cli.data.clouds import Instance
from emt_cli.data.names import name_patterns, other_spellings, plain_name

_SERVER_BRANDS = frozenset({"xeon", "epyc", "opteron", "hygon"})


class Processor(NamedTuple):
    """What a machine says about its processor.

    `key` is the plain model name, as in cpu_tdp.csv. `signature` holds the vendor and numbers that stand
    in cpu_identity.csv, the most exact first. `siblings` and `cores` are the threads and cores of one
    package; in a guest they are the hypervisor's invention.
    """

    name: str = ""
    key: str = ""
    signature: tuple[str, ...] = ()
    siblings: int | None = None
    cores: int | None = None
    is_guest: bool = False


class Part(NamedTuple):
    """The rows that describe a processor; None where the tables have none."""

    power: dict[str, str] | None = None
    """Its family's row of cpu_power_model.csv."""
    tdp: dict[str, str] | None = None
    """Its own row of cpu_tdp.csv."""
    instance: str = ""
    """The row of cloud_instance.csv that told so, where it was needed."""


def read_cpuinfo(text: str) -> Processor:
    """The first processor of /proc/cpuinfo. Fields that are missing or odd are left empty; never raises.

    Arm and MIPS machines tell about the whole board before the first or after the last processor.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        label, _, value = line.partition(":")
        fields.setdefault(label.strip().lower(), value.strip())
    name = _name(fields)
    return Processor(
        name=name,
        key=plain_name(name),
        signature=_signature(fields),
        siblings=_number(fields.get("siblings", "")),
        cores=_number(fields.get("cpu cores", "")),
        is_guest="hypervisor" in fields.get("flags", "").split(),
    )


def _name(fields: dict[str, str]) -> str:
    """The processor's own name; a board's (Raspberry Pi) or core's (RISC-V) where it has none."""
    for label in ("model name", "cpu", "uarch", "model"):
        name = fields.get(label, "")
        if name and not name.isdigit() and not name.startswith(("ARMv", "AArch64")):
            return name.partition(", altivec")[0] if label == "cpu" else name
    if fields.get("vendor_id") == "IBM/S390" and "machine" in fields:
        return f"IBM Z, machine {fields['machine']}"
    return ""


def find_part(processor: Processor, instance: Instance | None = None) -> Part:
    """The rows for a processor: by its model name first, then by its signature, then by name patterns.

    The cloud's name of the instance comes last, except where it tells more: the numbers of an Arm core
    say who designed it, not whose chip it is in.
    """
    tdp = _tdp_by_name(processor.key)
    family = tdp["microarchitecture"] if tdp else ""
    by_cloud = [("cloud_instance", key) for key in (instance or Instance()).keys(processor.signature)]
    patterns = name_patterns(processor.key)
    is_arm = any(number.startswith("arm ") for number in processor.signature)
    keys = (*patterns, *processor.signature) if is_arm else (*processor.signature, *patterns)
    by_itself = [("cpu_identity", key) for key in keys]
    told_by = ""
    for table, key in (*by_cloud, *by_itself) if is_arm else (*by_itself, *by_cloud):
        if tdp and (family or is_arm):
            break
        row = data.find(table, key)
        if row is not None:
            told_by = told_by or (key if table == "cloud_instance" and not (tdp or family) else "")
            family = family or row["microarchitecture"]
            tdp = tdp or (data.find("cpu_tdp", row["tdp_key"]) if row["tdp_key"] else None)
    return Part(power=data.find("cpu_power_model", family), tdp=tdp, instance=told_by)


def is_client(processor: Processor) -> bool:
    """Made for laptops, desktops and workstations: there the part's TDP says more than a server's power."""
    words = processor.key.split()
    is_workstation = any(word.startswith(("w-", "w3-", "w5-", "w7-", "w9-")) for word in words)
    return bool(words) and (is_workstation or _SERVER_BRANDS.isdisjoint(words))


def _tdp_by_name(key: str) -> dict[str, str] | None:
    """The part's own row of cpu_tdp.csv, whose makers' lists spell some names otherwise than the chips."""
    for spelling in (key, *other_spellings(key)):
        row = data.find("cpu_tdp", spelling)
        if row is not None:
            return row
    return None


def _signature(fields: dict[str, str]) -> tuple[str, ...]:
    implementer, part = fields.get("cpu implementer", ""), fields.get("cpu part", "")
    try:
        if implementer and part:
            return (f"arm 0x{int(implementer, 0):02x} 0x{int(part, 0):03x}",)
    except ValueError:
        return ()
    vendor, family, model = (fields.get(label, "") for label in ("vendor_id", "cpu family", "model"))
    if not (vendor and family and model):
        return ()
    numbers = f"{vendor} {family} {model}"
    return (f"{numbers} {fields.get('stepping', '')}", numbers)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
