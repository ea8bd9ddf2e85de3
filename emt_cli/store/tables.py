"""processes.csv and marks.csv: the small tables of a run folder.

Written without the csv module, which the run path would pay for; read with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from emt_cli.errors import RecordError
from emt_cli.model import Mark, Process
from emt_cli.store.record import written_names
from emt_cli.store.samples import cell

if TYPE_CHECKING:
    from typing import BinaryIO

LONGEST_CELL = 100_000
"""Characters of a command line that a table keeps: the csv module reads no cell above 131,072."""

_LARGEST_FILE = 256 << 20
_LONGEST_LINE = 4 << 20
"""A few cells of `LONGEST_CELL` characters, four bytes and a quote each."""
_MOST_ROWS = 1_000_000
Row = TypeVar("Row", Process, Mark)

_REMEDY = "the file is damaged, or no table of emt"


def dump_processes(processes: Iterable[Process]) -> bytes:
    """processes.csv: seconds since the start of the run, CPU seconds without the children's."""
    return _dump(Process, processes)


def dump_marks(marks: Iterable[Mark]) -> bytes:
    return _dump(Mark, marks)


def read_processes(path: str) -> tuple[Process, ...]:
    """Raises RecordError, naming file and line."""
    return tuple(_read(path, Process))


def read_marks(path: str) -> tuple[Mark, ...]:
    """Raises RecordError, naming file and line."""
    return tuple(_read(path, Mark))


def to_bytes(text: str) -> bytes:
    """UTF-8; the bytes of a command line that is none come out as they went in."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def text_of(value: object) -> str:
    """One value as a CSV cell; an unknown is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value) if value - value == 0.0 else ""
    return cell(str(value)[:LONGEST_CELL])


def _dump(kind: type, rows: Iterable[object]) -> bytes:
    names = written_names(kind)
    lines = [",".join(written for _, written in names)]
    lines.extend(",".join(text_of(getattr(row, name)) for name, _ in names) for row in rows)
    return to_bytes("\n".join(lines) + "\n")


def _read(path: str, kind: type[Row]) -> Iterator[Row]:
    from emt_cli.store.reading import read_cells

    names = [written for _, written in written_names(kind)]
    for line, cells in rows_of(path):
        if line == 1:
            if missing := [name for name in names if name not in cells]:
                raise RecordError(f"{path} has no column {missing[0]}", hint=_REMEDY)
            places = [cells.index(name) for name in names]
            width = len(cells)
        elif len(cells) != width:
            raise RecordError(f"{path}: line {line} has {len(cells)} cells, expected {width}", hint=_REMEDY)
        else:
            texts = {name: cells[at] for name, at in zip(names, places, strict=True)}
            yield read_cells(kind, texts, f"{path}: line {line}")


def rows_of(path: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with their numbers, the header being 1. Raises RecordError."""
    import csv

    from emt_cli.store.disk import open_limited

    number = 0
    try:
        with open_limited(path, _LARGEST_FILE) as file:
            for number, cells in enumerate(csv.reader(_lines(file, path)), start=1):
                if number > _MOST_ROWS:
                    raise RecordError(f"{path} has more than {_MOST_ROWS:,} rows", hint=_REMEDY)
                yield number, cells
    except csv.Error as error:
        raise RecordError(f"{path}: line {number + 1}: {error}", hint=_REMEDY) from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}", hint=f"ls -ld {path}") from error
    if number == 0:
        raise RecordError(f"{path} is empty", hint=_REMEDY)


def _lines(file: BinaryIO, path: str) -> Iterator[str]:
    """The lines of a file as text; one that no table can have does not come into memory as a whole."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise RecordError(f"{path} has a line of more than {_LONGEST_LINE:,} bytes", hint=_REMEDY)
        yield line.decode("utf-8", "surrogateescape")
