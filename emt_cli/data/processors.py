"""Which processor is this: from the text of /proc/cpuinfo to the rows of the tables that describe it.

Apart from the sensor that uses the rows, because names and signatures are a subject of their own: clouds
print `AMD EPYC` or `Intel(R) Xeon(R) CPU @ 2.20GHz` and only the numbers below tell the silicon. Pure
functions over the tables; plain string work and named tuples (a frozen dataclass costs a millisecond to
define), since this runs before every command on such a machine.
"""

from __future__ import annotations

from typing import NamedTuple

from emt_cli import data

_NOISE = frozenset({"processor", "cpu", "intel", "amd", "apu", "soc"})
_SERVER_BRANDS = frozenset({"xeon", "epyc", "opteron"})
_XEON_METALS = frozenset({"bronze", "silver", "gold", "platinum", "max"})


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


def read_cpuinfo(text: str) -> Processor:
    """The first processor of /proc/cpuinfo. Fields that are missing or odd are left empty; never raises."""
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        label, _, value = line.partition(":")
        fields.setdefault(label.strip().lower(), value.strip())
    name = fields.get("model name") or fields.get("cpu", "").partition(",")[0]
    return Processor(
        name=name,
        key=plain_name(name),
        signature=_signature(fields),
        siblings=_number(fields.get("siblings", "")),
        cores=_number(fields.get("cpu cores", "")),
        is_guest="hypervisor" in fields.get("flags", "").split(),
    )


def find_part(processor: Processor) -> Part:
    """The rows for a processor: by its model name first, then by its signature, then by name patterns."""
    tdp = data.find("cpu_tdp", processor.key)
    family = tdp["microarchitecture"] if tdp else ""
    for key in (*processor.signature, *_name_patterns(processor.key)):
        if tdp and family:
            break
        row = data.find("cpu_identity", key)
        if row is not None:
            family = family or row["microarchitecture"]
            tdp = tdp or (data.find("cpu_tdp", row["tdp_key"]) if row["tdp_key"] else None)
    return Part(power=data.find("cpu_power_model", family), tdp=tdp)


def is_client(processor: Processor) -> bool:
    """Made for laptops, desktops and workstations: there the part's TDP says more than a server's power."""
    words = processor.key.split()
    is_workstation = any(word.startswith(("w-", "w3-", "w5-", "w7-", "w9-")) for word in words)
    return bool(words) and (is_workstation or _SERVER_BRANDS.isdisjoint(words))


def plain_name(name: str) -> str:
    """The key of cpu_tdp.csv: `Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz` gives `xeon e5-2680 v4`.

    Lower case; marks, frequency, graphics, core count, `11th Gen` and the words of no meaning removed;
    letters, digits, `+`, `-` and `.` kept; words parted by one space.
    """
    text = name.lower()
    for mark in ("(r)", "(tm)", "®", "™"):
        text = text.replace(mark, " ")
    for tail in ("@", "w/ radeon", "with radeon"):
        text = text.partition(tail)[0]
    words = text.split()
    kept = []
    for place, word in enumerate(words):
        is_ordinal = word[0].isdigit() and words[place + 1 : place + 2] == ["gen"]
        is_gen = word == "gen" and place > 0 and words[place - 1][0].isdigit()
        plain = "".join(c for c in word if c.isascii() and (c.isalnum() or c in "+-."))
        is_count = plain.endswith("-core") and plain[:-5].isdigit()
        if plain and plain not in _NOISE and not (is_ordinal or is_gen or is_count):
            kept.append(plain)
    return " ".join(kept)


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


def _name_patterns(key: str) -> list[str]:
    """Keys of cpu_identity.csv that a model name suggests, for silicon that the numbers don't tell."""
    words = key.split()
    patterns = list(words)
    if "xeon" in words:
        patterns += _xeon_patterns(words)
    for place, word in enumerate(words):
        digits = "".join(c for c in word if c.isdigit())
        if words[0] == "epyc" and place and len(word) >= 4:
            number = word.rstrip("fpsxhn") if word[-1].isalpha() else word
            patterns.append(f"epyc {number[0]}xx{number[-1]}")
        elif words[0] == "core" and word.startswith(("i3-", "i5-", "i7-", "i9-")):
            patterns.append(f"core {digits[1:-3] or 0}")
        elif words[0] == "core" and "ultra" in words and len(digits) == 3:
            patterns.append(f"core ultra {digits[0]}")
        elif words[0] == "ryzen" and len(digits) == 4:
            patterns.append(f"ryzen {digits[0]}")
    return [f"name {pattern}" for pattern in patterns]


def _xeon_patterns(words: list[str]) -> list[str]:
    patterns: list[str] = []
    version = next((word for word in words if word in ("v2", "v3", "v4", "v5", "v6")), "v1")
    for word in words:
        number = "".join(c for c in word if c.isdigit())
        if word[:3] in ("e3-", "e5-", "e7-"):
            patterns.append(f"xeon {word[:2]} {version}")
        elif word[:2] in ("e-", "d-"):
            patterns.append(f"xeon {word[:4]}")
        elif len(number) == 4 and not _XEON_METALS.isdisjoint(words):
            patterns += [f"xeon sp {number[1]}h"] * ("h" in word) + [f"xeon sp {number[1]}"]
        elif len(number) == 4 and word[:4] == number and number[0] == "6":
            patterns += [f"xeon {number[:2]}{word[4:5]}", f"xeon 6{word[4:5]}"]
        elif len(number) == 4 and word[1:] == number:
            patterns.append(f"xeon {number[:2]}")
    return patterns
