"""The file that the replay sensor plays: `samples.csv` of a run, or hand-written JSON.

It stands apart from the playing because it is untrusted input: everything in it is checked, and what is
wrong is named with its row. A null in JSON or an empty cell is a reading that failed. JSON values are raw,
in the channel's `unit`; a CSV column is joules since the start (`<channel>_j`) or watts (`<channel>_w`), and
a `run.json` beside it tells the channels' facts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

from emt_cli.errors import UsageError
from emt_cli.model import PROVENANCES, Channel

NAME = "replay"

_MOST_CHANNELS = 1000
_LARGEST = 2.0**63
_HINT = (
    "give a run's samples.csv, or JSON like "
    '{"channels": [{"id": "cpu0/package", "kind": "counter"}], "readings": [[0.0, 0], [1.0, 25.5]]}'
)
_TEXTS = ("device", "domain", "within", "note", "dropped")
_POSITIVE = ("unit", "resolution_j", "update_period_s", "accuracy", "max_power_w")
_NOT_NEGATIVE = ("idle_w", "low_w", "high_w", "full_j", "left_j")
_OF_A_RECORD = ("sensor", "source", "counted")
_DEFAULT_PROVENANCE = {"counter": "measured", "gauge": "integrated", "model": "estimated"}

Value = int | float | None


class _Bad(Exception):
    """What is wrong in the file, before the file's name is put to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The content of a replay file: `values[i][n]` is channel n's raw value at `times_s[i]`."""

    channels: tuple[Channel, ...]
    times_s: Sequence[float]
    values: Sequence[Sequence[Value]]
    is_repeated: bool = False


def load_recording(path: str) -> Recording:
    """The recording in a file, or in a run's folder. Raises UsageError, naming file, row and fault."""
    if os.path.isdir(path):
        path = os.path.join(path, "samples.csv")
    try:
        return _from_csv(path) if path.endswith(".csv") else _from_json(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint=_HINT) from error
    except _Bad as fault:
        raise UsageError(f"{path}: {fault}", hint=_HINT) from fault


# --- samples.csv ------------------------------------------------------------------------------------


class _Column(NamedTuple):
    """A channel's column of samples.csv: cumulative joules, or watts."""

    place: int
    id: str
    is_power: bool


def _from_csv(path: str) -> Recording:
    import csv

    facts = _facts_beside(path)
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, None)
            if header is None:
                raise _Bad("row 1: the file is empty")
            time_index, columns = _columns(header)
            places = [time_index, *(column.place for column in columns)]
            recorded = {
                number: _csv_row(f"row {number}", row, len(header), places)
                for number, row in enumerate(rows, 2)
                if row
            }
        except csv.Error as error:
            raise _Bad(f"row {rows.line_num}: {error}") from error
    ids = {column.id for column in columns}
    channels = _channels([_csv_channel(column, facts.get(column.id, {}), ids) for column in columns], path)
    recording = _recording(channels, recorded)
    _no_way_back(recording, recorded)
    return replace(recording, channels=tuple(_roomy(recording, n) for n in range(len(channels))))


def _columns(header: Sequence[str]) -> tuple[int, list[_Column]]:
    """Where the time and each channel stand; joules win over watts of the same channel."""
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise _Bad(f"row 1: column {sorted(repeated)[0]!r} stands there twice")
    if "t_s" not in header:
        raise _Bad("row 1: there is no column t_s")
    columns = []
    for index, name in enumerate(header):
        id, _, unit = name.rpartition("_")
        if id and (unit == "j" or (unit == "w" and f"{id}_j" not in header)):
            columns.append(_Column(index, id, unit == "w"))
    if not columns:
        raise _Bad("row 1: there is no column <channel>_j or <channel>_w")
    return header.index("t_s"), columns


def _csv_row(where: str, row: Sequence[str], width: int, indices: Sequence[int]) -> list[Value]:
    if len(row) != width:
        raise _Bad(f"{where}: {len(row)} cells where the header has {width}")
    return [_csv_cell(where, row[index]) for index in indices]


def _csv_cell(where: str, cell: str) -> Value:
    if not cell.strip():
        return None
    try:
        return _number(where, float(cell))
    except ValueError as error:
        raise _Bad(f"{where}: {cell[:40]!r} is not a number") from error


def _csv_channel(column: _Column, facts: Mapping[str, Any], ids: Container[str]) -> dict[str, Any]:
    """A recorded channel, now in joules or watts; what was a gauge and has joules was integrated then."""
    known = {key: value for key, value in facts.items() if key not in ("unit", "range_raw", "max_power_w")}
    if column.is_power:
        known["kind"] = "gauge"
    elif known.get("kind") == "gauge":
        known["kind"] = "counter"
    if known.get("within") not in ids:
        known.pop("within", None)
    return {**known, "id": column.id}


def _roomy(recording: Recording, n: int) -> Channel:
    """A channel whose plausible power is above all that was recorded: that was judged already, then."""
    channel = recording.channels[n]
    known = [(t_s, row[n]) for t_s, row in zip(recording.times_s, recording.values, strict=True)]
    largest_w = channel.max_power_w
    for (before_s, before), (after_s, after) in pairwise(known):
        if before is not None and after is not None:
            watts = after if channel.kind == "gauge" else (after - before) / (after_s - before_s)
            largest_w = max(largest_w, 2 * watts)
    return replace(channel, max_power_w=largest_w)


def _no_way_back(recording: Recording, numbers: Iterable[int]) -> None:
    for n, channel in enumerate(recording.channels):
        before = -math.inf
        for number, row in zip(numbers, recording.values, strict=True):
            value = row[n]
            if channel.kind == "gauge" or value is None:
                continue
            if value < before:
                raise _Bad(f"row {number}: {channel.id}_j falls from {before:g} to {value:g}")
            before = value


def _facts_beside(path: str) -> dict[str, Mapping[str, Any]]:
    """The channels of the run.json in the same folder, by id; of them only what a channel is made of."""
    beside = os.path.join(os.path.dirname(path), "run.json")
    if not os.path.exists(beside):
        return {}
    try:
        record = _loaded(beside)
    except _Bad as fault:
        raise _Bad(f"run.json beside it: {fault}") from fault
    channels = record.get("channels") if isinstance(record, dict) else None
    if not isinstance(channels, list):
        return {}
    fields = {"kind", "provenance", "unit", "range_raw", *_TEXTS, *_POSITIVE, *_NOT_NEGATIVE}
    return {
        channel["id"]: {key: channel[key] for key in fields & channel.keys() if channel[key] is not None}
        for channel in channels
        if isinstance(channel, dict) and isinstance(channel.get("id"), str)
    }


# --- hand-written JSON ------------------------------------------------------------------------------


def _from_json(path: str) -> Recording:
    raw = _loaded(path)
    if not isinstance(raw, dict):
        raise _Bad('the outermost value is no object with "channels" and "readings"')
    channels, readings = raw.get("channels"), raw.get("readings")
    if not isinstance(channels, list) or not isinstance(readings, list):
        raise _Bad('"channels" and "readings" must both be there and be lists')
    unknown = raw.keys() - {"channels", "readings", "repeat"}
    if unknown:
        raise _Bad(f"{sorted(unknown)[0]!r} is not known here; there are channels, readings and repeat")
    is_repeated = raw.get("repeat", False)
    if not isinstance(is_repeated, bool):
        raise _Bad('"repeat" must be true or false')
    rows = {
        number: _json_row(f"readings, row {number}", row, 1 + len(channels))
        for number, row in enumerate(readings, 1)
    }
    return _recording(_channels(channels, path), rows, is_repeated=is_repeated)


def _loaded(path: str) -> Any:
    import json

    with open(path, encoding="utf-8-sig") as file:
        try:
            return json.load(file, parse_constant=_no_constant)
        except RecursionError as error:
            raise _Bad("nested too deeply") from error
        except ValueError as error:
            raise _Bad(f"no JSON: {error}") from error


def _no_constant(word: str) -> NoReturn:
    raise _Bad(f"{word} is not a value; a reading that failed is null")


def _json_row(where: str, row: object, width: int) -> list[Value]:
    if not isinstance(row, list):
        raise _Bad(f"{where}: not a list [t_s, value, ...]")
    if len(row) != width:
        raise _Bad(f"{where}: {len(row)} values, but time and channels make {width}")
    return [None if value is None else _number(where, value) for value in row]


# --- checks that both have in common ----------------------------------------------------------------


def _number(where: str, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Bad(f"{where}: {str(value)[:40]!r} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Bad(f"{where}: {value} is not a value; a reading that failed is left empty")
    if not -_LARGEST < value < _LARGEST:
        raise _Bad(f"{where}: a number beyond any device")
    return value


def _recording(
    channels: tuple[Channel, ...],
    rows: Mapping[int, Sequence[Value]],
    *,
    is_repeated: bool = False,
) -> Recording:
    if not rows:
        raise _Bad("there are no readings")
    if is_repeated and len(rows) < 2:
        raise _Bad('"repeat" needs at least two readings')
    times_s: list[float] = []
    for number, row in rows.items():
        t_s = row[0]
        if t_s is None:
            raise _Bad(f"row {number}: the time is missing")
        if times_s and t_s <= times_s[-1]:
            raise _Bad(f"row {number}: the time {t_s:g} s does not come after {times_s[-1]:g} s")
        for channel, value in zip(channels, row[1:], strict=True):
            if value is not None and not 0 <= value <= (channel.range_raw or _LARGEST):
                raise _Bad(f"row {number}: {channel.id}: {value:g} is below zero or above the range")
        times_s.append(t_s)
    return Recording(
        channels=channels, times_s=times_s, values=[row[1:] for row in rows.values()], is_repeated=is_repeated
    )


def _channels(raw: Sequence[object], path: str) -> tuple[Channel, ...]:
    if not 0 < len(raw) <= _MOST_CHANNELS:
        raise _Bad(f"{len(raw)} channels; there may be 1 to {_MOST_CHANNELS}")
    channels = tuple(_channel(f"channel {number}", entry, path) for number, entry in enumerate(raw, 1))
    ids = [channel.id for channel in channels]
    for channel in channels:
        if ids.count(channel.id) > 1:
            raise _Bad(f"two channels are named {channel.id!r}")
        _check_containment(channel, {c.id: c for c in channels})
    return channels


def _check_containment(channel: Channel, by_id: Mapping[str, Channel]) -> None:
    seen = [channel.id]
    outer = channel.within
    while outer is not None:
        if outer not in by_id:
            raise _Bad(f"{seen[-1]}: it is within {outer!r}, which is not there")
        if outer in seen:
            raise _Bad(f"{channel.id}: it is within itself")
        seen.append(outer)
        outer = by_id[outer].within


def _channel(where: str, raw: object, path: str) -> Channel:
    """One channel from its JSON object, with what is not said taken from the id."""
    if not isinstance(raw, dict):
        raise _Bad(f"{where}: not an object")
    fields = {key: value for key, value in raw.items() if value is not None and key not in _OF_A_RECORD}
    id = fields.get("id")
    if not isinstance(id, str) or not _is_name(id):
        raise _Bad(f"{where}: its id must be letters, digits and /.-_, like cpu0/package")
    known = {"id", "kind", "provenance", "range_raw", *_TEXTS, *_POSITIVE, *_NOT_NEGATIVE}
    unknown = fields.keys() - known
    if unknown:
        raise _Bad(f"{id}: {sorted(unknown)[0]!r} is no field of a channel")
    kind = _one_of(id, "kind", fields.setdefault("kind", "counter"), _DEFAULT_PROVENANCE)
    fields.setdefault("provenance", _DEFAULT_PROVENANCE[kind])
    _one_of(id, "provenance", fields["provenance"], PROVENANCES)
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str) or len(fields.get(name, "")) > 1000:
            raise _Bad(f"{id}: {name} must be a text")
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        if name not in fields:
            continue
        value = _number(f"{id}: {name}", fields[name])
        if value < 0 or (value == 0 and name in _POSITIVE):
            raise _Bad(f"{id}: {name} must be above zero")
    range_raw = fields.get("range_raw")
    if range_raw is not None and (type(range_raw) is not int or not 0 < range_raw < _LARGEST):
        raise _Bad(f"{id}: range_raw must be a whole number above zero")
    device, _, domain = id.partition("/")
    fields.setdefault("device", device)
    fields.setdefault("domain", domain or device.rstrip("0123456789"))
    return Channel(sensor=NAME, source=path, **fields)


def _is_name(id: str) -> bool:
    return 0 < len(id) <= 100 and id.isascii() and all(c.isalnum() or c in "/.-_" for c in id)


def _one_of(id: str, name: str, value: object, allowed: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _Bad(f"{id}: {name} must be one of {', '.join(allowed)}")
    return value
