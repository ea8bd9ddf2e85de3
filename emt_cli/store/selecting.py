"""From what a user typed to runs: the one place that knows every way to name them.

`emt report`, `compare` and `check` all read their arguments here: what `listing.find` finds in the store or
on disk, and beyond that `FILE.csv#ROW`, one run of a summary file, and `bench=ID`, a benchmark's records.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emt_cli.errors import NotFoundError
from emt_cli.store.listing import Entry, entries, find
from emt_cli.store.loading import load

if TYPE_CHECKING:
    from emt_cli.model import Run


_BENCH = "bench="
"""The tag that `emt bench` gives to the records that belong together."""


def select(store: str, wanted: str) -> list[Run]:
    """The runs that are meant: one, one for each row of a summary, or those of a benchmark, in its order.

    Raises NotFoundError and RecordError.

    A row is named by its number, counted from 1 (from -1 at the end), or by the run's id or name.
    """
    path, mark, row = wanted.rpartition("#")
    if mark and path.lower().endswith(".csv") and os.path.exists(path) and not os.path.lexists(wanted):
        return [_row(load(path), row, path)]
    if wanted.startswith(_BENCH) and not os.path.lexists(wanted):
        found = [one for one in entries(store) if one.tags.get("bench") == wanted.removeprefix(_BENCH)]
        if found:
            return [run for one in sorted(found, key=_start) for run in load(one.path)]
    return load(find(store, wanted))


def _start(one: Entry) -> tuple[str, str]:
    return one.started_at.rstrip("Z"), one.id


def _row(runs: list[Run], row: str, path: str) -> Run:
    if row.lstrip("-").isdecimal() and row.count("-") <= 1:
        number = int(row) if len(row) < 12 else 0
        if number and -len(runs) <= number <= len(runs):
            return runs[number - 1 if number > 0 else number]
    named = [run for run in runs if row and row in (run.id, run.name)]
    if named:
        return named[-1]
    what = f"{len(runs)} rows" if len(runs) != 1 else "1 row"
    raise NotFoundError(
        f"{path} has {what}, and none is {row or 'empty'}",
        hint=f"{path}#1 is the first, {path}#-1 the last",
    )
