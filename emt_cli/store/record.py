"""A `Run` as the document of `run.json`, format 1: the writing half.

It stands apart from `reading` because it is on the path of `emt run`, which must not pay for the typed
decoder. What is unknown is written as null; NaN and the infinities, which JSON does not have, are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from emt_cli.model import ChannelEnergy, Process

if TYPE_CHECKING:
    from emt_cli.model import Run

FORMAT = 1
"""The format that is written, and the newest that is read."""

MOST_PROCESSES = 50
MOST_MARKS = 1_000
MOST_SPANS = 100_000
"""Bounds of the lists in run.json; processes.csv and marks.csv hold those two in full."""

WRITTEN_NAMES: dict[tuple[type, str], str] = {
    (ChannelEnergy, "is_counted"): "counted",
    (Process, "is_left_running"): "left_running",
}
"""Where the name in a file differs from the field's."""

_names: dict[type, tuple[tuple[str, str], ...]] = {}


def encode(run: Run, files: Mapping[str, str] | None = None) -> dict[str, object]:
    """The record as a document that `json` can write. `files` names the tables beside it by their content.

    The groups that a listing needs come first.
    """
    counted = {channel.id: channel.is_counted for channel in run.energy.channels} if run.energy else {}
    return {
        "format": FORMAT,
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "started_at": run.started_at,
        "duration_s": plain(run.duration_s),
        "exit": plain(run.exit),
        "recorder_pid": run.recorder_pid,
        "recorder_started_ticks": run.recorder_started_ticks,
        "command": list(run.command),
        "tags": plain(run.tags),
        "host": plain(run.host),
        "energy": plain(run.energy),
        "job": plain(run.job),
        "sampling": plain(run.sampling),
        "channels": [
            {**_object(channel), "counted": counted.get(channel.id)}  # which ones a total adds up
            for channel in run.channels
        ],
        "observed": plain(run.observed),
        "gaps": plain(run.gaps[:MOST_SPANS]),
        "cpu_time": {**_object(run.cpu_time), "late": plain(run.cpu_time.late[:MOST_SPANS])},
        "attribution": plain(run.attribution),
        "carbon": plain(run.carbon),
        "cost": None,
        "phases": plain(run.phases),
        "spans": plain(run.spans[:MOST_SPANS]),
        "processes": {"count": len(run.processes), "listed": plain(_busiest(run.processes))},
        "marks": {"count": len(run.marks), "listed": plain(run.marks[:MOST_MARKS])},
        "devices": plain(run.devices),
        "settings": plain(run.settings),
        "work": plain(run.work),
        "repeat": plain(run.repeat),
        "executions": plain(run.executions),
        "grid": plain(run.grid),
        "suspended_s": plain(run.suspended_s),
        "paused_s": plain(run.paused_s),
        "warnings": plain(run.notices),
        "files": dict(files or {}),
        "curve": plain(run.curve),
    }


def dump(document: Mapping[str, object]) -> bytes:
    """The document as JSON, one group a line: quick to write, and a listing need not parse the whole."""
    import json

    write = json.JSONEncoder(allow_nan=False, separators=(", ", ": ")).encode
    lines = [f"{write(key)}: {write(value)}" for key, value in document.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def plain(value: object) -> object:
    """A value of the model as JSON knows it: objects, lists, strings, finite numbers, booleans, null."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return int(value)  # an IntEnum, such as a signal, is written as its number
    if isinstance(value, float):
        return float(value) if value - value == 0.0 else None
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return _object(value)


def _object(value: object) -> dict[str, object]:
    return {written: plain(getattr(value, name)) for name, written in written_names(type(value))}


def written_names(kind: type) -> tuple[tuple[str, str], ...]:
    """Of each field of a dataclass: its name, and its name in a file."""
    names = _names.get(kind)
    if names is None:
        fields: Mapping[str, object] = kind.__dataclass_fields__  # type: ignore[attr-defined]
        names = _names[kind] = tuple((name, WRITTEN_NAMES.get((kind, name), name)) for name in fields)
    return names


def _busiest(processes: tuple[Process, ...]) -> tuple[Process, ...]:
    """The ones with most CPU time, in the order in which they were seen."""
    if len(processes) <= MOST_PROCESSES:
        return processes
    chosen = sorted(range(len(processes)), key=lambda at: -processes[at].cpu_s)[:MOST_PROCESSES]
    return tuple(processes[at] for at in sorted(chosen))
