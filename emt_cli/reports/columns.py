"""Columns that fit: which of them may shrink when a table is wider than the room, and how.

Numbers are never cut: only names, notes and commands give way, the widest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from emt_cli.reports.words import cells, cut, cut_middle

GAP = 2
_SHORTEST = 8


class Column(NamedTuple):
    """A head and what stands below it: text or numbers in full, a `name` cut at its end, a `command` in
    its middle."""

    head: str
    kind: Literal["text", "number", "name", "command"] = "text"


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with their soft cells cut so that a line takes at most `width` columns, if at all possible."""
    widths = [
        max([cells(column.head), *(cells(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    excess = sum(widths) + GAP * (len(columns) - 1) - width
    while excess > 0:
        soft = [index for index, column in enumerate(columns) if column.kind in ("name", "command")]
        widest = max(soft, key=widths.__getitem__, default=-1)
        if widest < 0 or widths[widest] <= _SHORTEST:
            break
        widths[widest] -= 1
        excess -= 1
    return [
        [_cut(cell, column, room) for cell, column, room in zip(row, columns, widths, strict=True)]
        for row in rows
    ]


def _cut(cell: str, column: Column, width: int) -> str:
    if column.kind == "command":
        return cut_middle(cell, width)
    return cut(cell, width) if column.kind == "name" else cell
