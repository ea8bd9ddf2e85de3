"""samples.csv: the wide table of a run, a row a tick, written by the journal and read again as a stream.

Columns: `t_s` (seconds since the start), for each channel `<id>_j` (joules since the start), after it for
a gauge `<id>_w` (watts), then `cpu_tree_s` and `cpu_machine_s`. An empty cell is an unknown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from emt_cli.errors import RecordError
from emt_cli.model import Channel, Sample
from emt_cli.store.native import read_at

_CHUNK = 1 << 20
_LARGEST = 1e18
"""A number beyond this is damage, as everywhere in a record."""


def cell(text: str) -> str:
    """A text as one CSV cell (RFC 4180)."""
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def columns(channels: Sequence[Channel]) -> list[str]:
    names = ["t_s"]
    for channel in channels:
        names.append(f"{channel.id}_j")
        if channel.kind == "gauge":
            names.append(f"{channel.id}_w")
    return [*names, "cpu_tree_s", "cpu_machine_s"]


def header(channels: Sequence[Channel]) -> bytes:
    return (",".join(cell(name) for name in columns(channels)) + "\n").encode("utf-8", "replace")


def row_writer(channels: Sequence[Channel]) -> Callable[[Sample], str]:
    """A function that formats a sample as one line: microseconds, and 12 significant digits elsewhere."""
    gauges = [at for at, channel in enumerate(channels) if channel.kind == "gauge"]
    template = "%.6f" + ",%.12g" * (len(channels) + len(gauges) + 2) + "\n"

    def values(sample: Sample) -> list[float | None]:
        cells: list[float | None] = list(sample.energy_j)
        for at in reversed(gauges):  # from the end, so that the earlier places stay where they are
            cells.insert(at + 1, sample.power_w[at])
        return [sample.t_s, *cells, sample.cpu_tree_s, sample.cpu_machine_s]

    def write(sample: Sample) -> str:
        cells = values(sample)
        try:
            line = template % tuple(cells)
        except TypeError:  # an unknown among them
            line = ""
        if line and "n" not in line[:-1]:  # nan and inf
            return line
        first, *rest = cells
        texts = ["" if value is None or value - value != 0.0 else f"{value:.12g}" for value in rest]
        return ",".join([f"{first:.6f}", *texts]) + "\n"

    return write


class SampleFile:
    """The samples of a stored run, read anew at each iteration and never held in memory as a whole.

    A row that does not parse (a line cut short by a kill, garbage, time running backwards) is left out;
    `skipped` counts those of the latest iteration. Iterating raises RecordError where the file itself
    cannot be read, or where its header lacks a channel.
    """

    def __init__(self, path: str, channels: Sequence[Channel]) -> None:
        self.path = path
        self.channels = tuple(channels)
        self.skipped = 0

    def __iter__(self) -> Iterator[Sample]:
        self.skipped = 0
        with self._open() as file:
            first_line = file.readline(_CHUNK)
            if not first_line.endswith(b"\n"):
                return  # killed before the header was written
            parse, latest = self._parser(first_line), float("-inf")
            for line in self._lines(file):
                sample = parse(line)
                if sample is None or sample.t_s < latest:
                    self.skipped += 1
                else:
                    latest = sample.t_s
                    yield sample

    def thinned(self, count: int) -> list[Sample]:
        """About `count` samples, the first and the last among them, evenly over the file.

        A long file is not read through: rows are picked at even distances in bytes.
        """
        count = max(count, 2)
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            if size < _CHUNK:
                return _pick(list(self), count)
            first_line = file.readline(_CHUNK)
            parse, start, block = self._parser(first_line), len(first_line), 64 * (len(self.channels) + 4) * 2
            fd, picked, latest = file.fileno(), [], float("-inf")
            for at in range(count):
                # the byte before, so that the first row begins after a line end like every other
                offset = start - 1 + (size - start) * at // count
                rows = read_at(fd, block, offset).split(b"\n")
                sample = parse(rows[1].decode("ascii", "replace")) if len(rows) > 2 else None
                if sample is not None and sample.t_s > latest:
                    picked.append(sample)
                    latest = sample.t_s
            last = self._last(fd, parse, start, size, block)
        return [*picked, last] if last is not None and last.t_s > latest else picked

    def _last(
        self, fd: int, parse: Callable[[str], Sample | None], start: int, size: int, block: int
    ) -> Sample | None:
        rows = read_at(fd, block, max(size - block, start)).split(b"\n")[1:-1]
        found = (parse(row.decode("ascii", "replace")) for row in reversed(rows))
        return next((sample for sample in found if sample is not None), None)

    def _open(self) -> Any:
        from emt_cli.store.disk import open_regular

        try:
            return open(open_regular(self.path), "rb")
        except OSError as error:
            raise RecordError(f"{self.path} cannot be read: {error.strerror}") from error

    def _lines(self, file: Any) -> Iterator[str]:
        """Whole lines without their ends; a last line without an end was cut short and is skipped."""
        rest = ""
        while chunk := file.read(_CHUNK):
            lines = (rest + chunk.decode("ascii", "replace")).split("\n")
            rest = lines.pop()
            if len(rest) > _CHUNK:  # no row is that long: keep what will not parse in its place
                rest = "x"
            yield from lines
        if rest:
            self.skipped += 1

    def _parser(self, first_line: bytes) -> Callable[[str], Sample | None]:
        """A function from a line to a sample, or to None where the line is no row of this table."""
        names = _names(first_line)
        place = {name: at for at, name in enumerate(names)}
        wanted = columns(self.channels)
        if missing := [name for name in wanted if name not in place]:
            raise RecordError(
                f"{self.path} has no column {missing[0]}",
                hint="its header and run.json belong to different runs, or one of them is damaged",
            )
        width = len(names)
        energies = _getter([place[f"{channel.id}_j"] for channel in self.channels])
        powers = _getter(  # the last place is always an unknown
            [place[f"{channel.id}_w"] if channel.kind == "gauge" else -1 for channel in self.channels]
        )
        time_at, tree_at, machine_at = place["t_s"], place["cpu_tree_s"], place["cpu_machine_s"]

        def parse(line: str) -> Sample | None:
            cells = line.split(",")
            values: list[Any]
            try:
                values = list(map(float, cells))
                total = sum(map(abs, values))
            except ValueError:
                try:
                    values = [float(text) if text else None for text in cells]
                except ValueError:
                    return None
                total = sum(abs(value) for value in values if value is not None)
            if len(values) != width or not total <= _LARGEST:  # also True for NaN
                return None
            time = values[time_at]
            if time is None:
                return None
            values.append(None)
            return Sample(time, energies(values), powers(values), values[tree_at], values[machine_at])

        return parse


def _names(first_line: bytes) -> list[str]:
    text = first_line.decode("utf-8", "replace").rstrip("\r\n")
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return []


def _getter(places: list[int]) -> Callable[[list[float | None]], tuple[float | None, ...]]:
    if not places:
        return lambda values: ()
    if len(places) == 1:
        return lambda values: (values[places[0]],)
    return itemgetter(*places)


def _pick(rows: list[Sample], count: int) -> list[Sample]:
    if len(rows) <= count:
        return rows
    return [rows[at * (len(rows) - 1) // (count - 1)] for at in range(count)]
