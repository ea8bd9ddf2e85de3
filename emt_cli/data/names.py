"""How processors are spelled: from the name that a chip prints to the keys under which the tables know it.

Apart from `processors`, which asks the tables, because spelling is a craft of its own: the same part is
`Intel(R) Core(TM) i5 CPU       M 520  @ 2.40GHz` to the kernel and i5-520M in its maker's list. Pure string
work.
"""

from __future__ import annotations

from collections.abc import Iterator

_NOISE = frozenset({"processor", "cpu", "intel", "amd", "apu", "soc", "with"})
_XEON_METALS = frozenset({"bronze", "silver", "gold", "platinum", "max"})
_COUNTS = frozenset({"dual", "triple", "quad", "six", "eight"})
_OLD_CORE_SUFFIXES = {
    "m": ("m",),
    "q": ("qm",),
    "x": ("x", "xm"),
    "k": ("k",),
    "s": ("s",),
    "l": ("lm",),
    "u": ("um",),
}
"""The first Core i series prints `Core(TM) i5 CPU M 520` for what Intel lists as i5-520M."""


def plain_name(name: str) -> str:
    """The key of cpu_tdp.csv: `Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz` gives `xeon e5-2680 v4`.

    Lower case; marks, frequency, graphics, core count, `11th Gen` and the words of no meaning removed;
    letters, digits, `+`, `-` and `.` kept; words parted by one space.
    """
    text = name.lower().replace("(tm)-", "-")
    for mark in ("(r)", "(tm)", "®", "™"):
        text = text.replace(mark, " ")
    text = text.partition("@")[0]
    if text.lstrip().startswith("amd"):
        text = text.partition(" w/")[0].partition(" radeon")[0]
    words = text.split()
    kept = []
    for place, word in enumerate(words):
        is_ordinal = word[0].isdigit() and words[place + 1 : place + 2] == ["gen"]
        is_gen = word == "gen" and place > 0 and words[place - 1][0].isdigit()
        plain = "".join(c for c in word if c.isascii() and (c.isalnum() or c in "+-."))
        is_count = plain.endswith(("-core", "-cores")) and plain.partition("-")[0].isdigit()
        if plain and plain not in _NOISE and not (is_ordinal or is_gen or is_count):
            kept.append(plain)
    return " ".join(kept)


def other_spellings(key: str) -> Iterator[str]:
    """The same name as its maker's list may have it, for names that are not in the table as they stand."""
    words = key.split()
    yield " ".join(_without_counts(words))
    if words[:2] == ["xeon", "e7-"] and len(words) > 2:
        yield f"xeon e7-{words[2]}"
    elif words[:1] == ["xeon"] and words[-1] == "0":  # the version of the first E5: E5-2670 0
        yield " ".join(words[:-1])
    elif words[:1] == ["xeon"] and words[1:] and words[1].startswith("e3") and words[1][2:].isdigit():
        yield f"xeon e3-{words[1][2:]}"  # the first E3 was printed without its dash: E31270
    elif len(words) in (3, 4) and words[0] == "core" and words[1] in ("i3", "i5", "i7"):
        letter = words[2] if len(words) == 4 else ""
        for suffix in _OLD_CORE_SUFFIXES.get(letter, ("",)):
            yield f"core {words[1]}-{words[-1]}{suffix}"
    elif words[:2] == ["core", "2"] and len(words) == 3:
        yield f"core 2 duo e{words[2]}"
    elif words[:3] == ["core", "2", "extreme"] and len(words) == 4:
        yield f"core 2 extreme q{words[3]}"
    elif words[:1] == ["pentium"] and words[1:2] != [] and words[1] in ("4", "d", "m", "iii"):
        yield f"pentium {words[1]}"
    elif words[:2] == ["turion", "64"]:
        yield " ".join(word for word in words if word not in ("mobile", "technology"))
    elif words[:1] == ["via"] and words[-1] == "capable":
        yield " ".join(words[:-2])


def _without_counts(words: list[str]) -> list[str]:
    """`fx-8350 eight-core` and `athlon x4 860k quad core` without the number of cores."""
    joined = [word for word in words if word.removesuffix("-core") not in _COUNTS or word in _COUNTS]
    return [
        word
        for place, word in enumerate(joined)
        if not (word in _COUNTS and joined[place + 1 : place + 2] == ["core"])
        and not (word == "core" and place and joined[place - 1] in _COUNTS)
    ]


def name_patterns(key: str) -> list[str]:
    """Keys of cpu_identity.csv that a model name suggests, for silicon that the numbers don't tell."""
    words = key.split()
    patterns = list(words)
    if words[:2] == ["raspberry", "pi"]:
        return [f"name raspberry pi {generation}" for generation in _pi_generations(words[2:])]
    if "xeon" in words:
        patterns += _xeon_patterns(words)
    for place, word in enumerate(words):
        digits = "".join(c for c in word if c.isdigit())
        if words[0] == "epyc" and place and len(word) >= 4:
            number = word.rstrip("fpsxhn") if word[-1].isalpha() else word
            patterns.append(f"epyc {number[0]}xx{number[-1]}")
        elif words[0] == "core" and word.startswith(("i3-", "i5-", "i7-", "i9-")):
            patterns += [f"core {generation}" for generation in _core_generation(word[3:])]
        elif words[0] == "core" and "ultra" in words and len(digits) == 3:
            patterns.append(f"core ultra {digits[0]}")
        elif words[0] == "ryzen" and len(digits) == 4:
            patterns.append(f"ryzen {digits[0]}")
    return [f"name {pattern}" for pattern in patterns]


def _core_generation(model: str) -> Iterator[str]:
    """The generation in a Core i's number: 2 of 2600K, 10 of 1065G7, 12 of 12700H; none in N305."""
    number = model[: len(model) - len(model.lstrip("0123456789"))]
    if len(number) == 1:  # the low-power parts of some years: i5-7Y54
        yield number
    elif len(number) == 4 and number[0] == "1":
        yield number[:2]
    elif len(number) >= 3:
        yield number[:-3] or "0"


def _pi_generations(words: list[str]) -> Iterator[str]:
    """`4` of `4 model b rev 1.4`, `zero2` of `zero 2 w`; `1` of `model b plus`, `3` of `compute module 3`."""
    if words[:1] == ["compute"]:
        words = words[2:]
    if words[:2] == ["zero", "2"]:
        yield "zero2"
    yield words[0] if words and (words[0].isdigit() or words[0] == "zero") else "1"


def _xeon_patterns(words: list[str]) -> list[str]:
    patterns: list[str] = []
    version = next((word for word in words if word in ("v2", "v3", "v4", "v5", "v6")), "v1")
    for word in words:
        number = "".join(c for c in word if c.isdigit())
        if word[:3] in ("e3-", "e5-", "e7-"):
            patterns.append(f"xeon {word[:2]} {version}")
        elif word[:2] == "e3" and len(number) == 5 and word[1:] == number:
            patterns.append("xeon e3 v1")
        elif word[:2] in ("e-", "d-"):
            patterns.append(f"xeon {word[:4]}")
        elif len(number) == 4 and not _XEON_METALS.isdisjoint(words):
            patterns += [f"xeon sp {number[1]}h"] * ("h" in word) + [f"xeon sp {number[1]}"]
        elif len(number) == 4 and word[:4] == number and number[0] == "6":
            patterns += [f"xeon {number[:2]}{word[4:5]}", f"xeon 6{word[4:5]}"]
        elif len(number) == 4 and word[1:] == number:
            patterns.append(f"xeon {number[:2]}")
    return patterns
