"""The reference tables, as shipped: CSV files with a header line, read from beside this file.

Where every figure comes from, and under which licence, is told in SOURCES.md. Two ways in: `rows` for a
small table as a whole, `find` for one row of a large one, which searches the text instead of parsing it
(cpu_tdp.csv has 5,800 rows, and it is looked into before every run on a machine without sensors).
Cells are text; an empty cell means unknown.
"""

from __future__ import annotations

import os


def rows(name: str) -> list[dict[str, str]]:
    """Every row of a table. `name` is the file's, without `.csv`; raises FileNotFoundError for any other."""
    lines = _bytes(name).decode().rstrip("\n").split("\n")
    columns = _cells(lines[0])
    return [dict(zip(columns, _cells(line), strict=True)) for line in lines[1:]]


def find(name: str, key: str) -> dict[str, str] | None:
    """The row whose first cell is `key`, exactly; None if there is none.

    Keys are unique within a table. A key that holds a comma, a quote or a line break is never found.
    """
    if not key or any(mark in key for mark in ',"\n\r'):
        return None
    table = _bytes(name)
    start = table.find(f"\n{key},".encode()) + 1
    if not start:
        return None
    columns = _cells(table[: table.index(b"\n")].decode())
    line = table[start : table.index(b"\n", start)].decode()
    return dict(zip(columns, _cells(line), strict=True))


def _bytes(name: str) -> bytes:
    path = os.path.join(os.path.dirname(__file__), f"{name}.csv")
    with open(path, "rb") as file:
        return file.read()


def _cells(line: str) -> list[str]:
    """One line's cells. No cell of ours holds a line break, so that only quoted lines need a parser."""
    if '"' not in line:
        return line.split(",")
    import csv

    return next(csv.reader([line]))
