"""What a GPU draws, idle and at full load, from its name and power limit alone.

Apart from the sensors because this is the estimate's judgement: which row of gpu_spec.csv a driver's name
stands for, and what to make of a name that is not in there. Asked only where a GPU tells neither energy nor
power: old GeForce boards, virtual GPUs, WSL2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from emt_cli import data

IDLE_SHARE = 0.12
"""Idle power as a share of TDP: the median of the boards whose idle power stands in gpu_spec.csv."""
LEAST_IDLE_SHARE = 0.03
"""The lower bound where the idle power is not in the table. A choice: modern boards with no context fall to
10 to 20 W of 300 to 700 W."""
LAPTOP_W = 80.0
MOST_LAPTOP_W = 175.0
"""Boards of laptops are configured by the laptop's maker, from 35 to 175 W; recalled from NVIDIA's tables of
laptop GPUs, 2020 to 2025."""

_BRANDS = frozenset(
    {"nvidia", "tesla", "geforce", "amd", "radeon", "instinct", "intel", "graphics", "device"}
)
"""Words that some driver versions print and others leave out."""
_HARMLESS = re.compile(r"\d+gb|hbm\d\w*|sxm\d?|pcie|nvl|ac|generation|edition|oam")
"""What may stand in a name beyond the row's: memory, socket, words of no meaning."""
_LAPTOP = frozenset({"laptop", "mobile", "max-q"})
_VIRTUAL = re.compile(r"(?P<board>.+?)(?:-\d)?-(?P<gb>\d+)(?:[abcq]|[ac]?me)", re.ASCII)
"""NVIDIA's virtual GPUs: `GRID T4-8C`, `NVIDIA A40-48Q`, on a MIG slice `NVIDIA A100-1-5C`: board, number of
slices, gigabytes and kind."""


class GpuPower(NamedTuple):
    """Watts of a GPU idle and fully loaded, their bounds, and how all that is known."""

    idle_w: float
    full_w: float
    low_w: float
    high_w: float
    source: str
    note: str


def gpu_power(name: str, limit_w: float | None = None) -> GpuPower:
    """The power of a GPU by the name that its driver prints and, where that is not in the table, its limit.

    A virtual GPU is given its memory's share of the board, and may use all of it. A laptop's GPU goes by its
    power limit. A name that nothing is known of gets the median board, and bounds that hold for nearly all.
    """
    words = _words(name)
    if not _LAPTOP.isdisjoint(words):
        return _of_laptop(name, limit_w)
    virtual = _VIRTUAL.fullmatch(words[-1]) if words else None
    if virtual is not None:
        return _of_virtual(name, [*words[:-1], virtual["board"]], float(virtual["gb"]))
    row = _row(words)
    if row is not None:
        return _of_board(row)
    if limit_w:
        return _by_tdp(limit_w, "its power limit", f"{name or 'unnamed GPU'} is not in the table")
    return _generic(name)


def _of_board(row: dict[str, str]) -> GpuPower:
    tdp_w = float(row["tdp_w"])
    source = f"TDP of {row['name']}: {row['source']}"
    if not row["idle_w"]:
        return _by_tdp(tdp_w, source, "")
    idle_w = float(row["idle_w"])
    note = f"TDP {tdp_w:g} W, idle {idle_w:g} W"
    return GpuPower(idle_w, tdp_w, min(idle_w, LEAST_IDLE_SHARE * tdp_w), tdp_w, source, note)


def _by_tdp(tdp_w: float, source: str, remark: str, high_w: float | None = None) -> GpuPower:
    note = f"TDP {tdp_w:g} W; idle taken as {IDLE_SHARE:.0%} of it"
    return GpuPower(
        idle_w=IDLE_SHARE * tdp_w,
        full_w=tdp_w,
        low_w=LEAST_IDLE_SHARE * tdp_w,
        high_w=high_w or tdp_w,
        source=source,
        note="; ".join(filter(None, (remark, note))),
    )


def _of_laptop(name: str, limit_w: float | None) -> GpuPower:
    remark = f"{name}: a laptop's maker sets the power"
    if limit_w:
        return _by_tdp(limit_w, "its power limit", remark)
    return _by_tdp(LAPTOP_W, "laptop GPUs, recalled", remark, high_w=MOST_LAPTOP_W)


def _of_virtual(name: str, board: list[str], gigabytes: float) -> GpuPower:
    """Its share of the board's memory; how much of the board's time it has is the host's affair."""
    row = _largest(board)
    if row is None:
        return _generic(name)
    whole = _of_board(row)
    share = min(1.0, gigabytes / float(row["memory_gb"])) if row["memory_gb"] else 1.0
    return GpuPower(
        idle_w=whole.idle_w * share,
        full_w=whole.full_w * share,
        low_w=0.0,
        high_w=whole.high_w,
        source=whole.source,
        note=f"{name}: {share:.3g} of the board by memory, which may be used as a whole; {whole.note}",
    )


def _generic(name: str) -> GpuPower:
    """The median of NVIDIA's boards; between a tenth of the smallest boards' power and the largest ones'."""
    tdps = sorted(
        float(row["tdp_w"])
        for row in data.rows("gpu_spec")
        if (row["vendor"], row["type"]) == ("NVIDIA", "gpu")
    )
    small_w, median_w, large_w = (tdps[int(len(tdps) * part)] for part in (0.05, 0.5, 0.95))
    return GpuPower(
        idle_w=IDLE_SHARE * median_w,
        full_w=median_w,
        low_w=LEAST_IDLE_SHARE * small_w,
        high_w=large_w,
        source="generic GPU: the median TDP of NVIDIA's boards in gpu_spec.csv",
        note=f"{name or 'unnamed GPU'} is not in the table; taken for a board of {median_w:g} W",
    )


def _row(words: list[str]) -> dict[str, str] | None:
    """The row of a name: equal to it, else with all its words in there and nothing of meaning beyond."""
    wanted = _plain(words)
    best: tuple[int, dict[str, str]] | None = None
    for row in data.rows("gpu_spec"):
        for spelling in _spellings(row):
            if spelling == wanted:
                return row
            beyond = [word for word in wanted if word not in spelling]
            is_part = bool(spelling) and spelling <= wanted and all(map(_HARMLESS.fullmatch, beyond))
            if is_part and (best is None or len(spelling) > best[0]):
                best = len(spelling), row
    return None if best is None else best[1]


def _largest(board: list[str]) -> dict[str, str] | None:
    """The board of a virtual GPU, which does not say its socket or memory: the one with most of both."""
    words = (word.removesuffix("dx") for word in board)  # GRID V100DX: the V100 of 32 GB
    wanted = _plain(list(words)) - {"grid"}
    found = [
        row
        for row in data.rows("gpu_spec")
        for spelling in _spellings(row)
        if wanted and wanted <= spelling and all(map(_HARMLESS.fullmatch, spelling - wanted))
    ]
    return max(found, key=lambda row: (float(row["memory_gb"] or 0), float(row["tdp_w"])), default=None)


def _spellings(row: dict[str, str]) -> list[set[str]]:
    names = [row["name"], *row["driver_names"].split(";")]
    return [_plain(_words(name)) for name in names if name]


def _words(name: str) -> list[str]:
    """Lower case, without marks: `Intel(R) Arc(TM) A770` gives `intel arc a770`."""
    text = re.sub(r"\((?:r|tm)\)|[®™(),]", " ", name.lower())
    return text.split()


def _plain(words: list[str]) -> set[str]:
    """The words that make a name, `A100-SXM4-40GB` and `A100 SXM4 40 GB` alike; brands left out."""
    text = re.sub(r"(?<=\d) (?=gb\b)", "", " ".join(words))
    parts = [part for word in text.split() for part in word.split("-") if part]
    return {part for part in parts if part not in _BRANDS}
