"""What the store holds, without reading it: a listing of 10,000 runs, and the one that somebody means.

Of each record only the head is read: `record.dump` writes a group a line, and those that a listing needs
first. A record laid out otherwise is read as a whole.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from emt_cli.errors import NotFoundError, RecordError
from emt_cli.store import folder as names
from emt_cli.store import liveness
from emt_cli.store.loading import changed_at
from emt_cli.store.native import read_at

_HEAD_BYTES = 1 << 16
_HEAD_GROUPS = (
    "format",
    "id",
    "name",
    "state",
    "started_at",
    "duration_s",
    "recorder_pid",
    "recorder_started_ticks",
    "command",
    "tags",
    "host",
    "energy",
)
ID_STAMP = re.compile(r"\d{8}-\d{6}-", re.ASCII)
_BACK = re.compile(r"(.+)~(\d{1,9})", re.ASCII | re.DOTALL)
_MOST_NEAR = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run in the store. `problem` says why its record cannot be read; empty if it can."""

    path: str
    id: str
    size_bytes: int
    name: str = ""
    started_at: str = ""
    state: str = ""
    command: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    duration_s: float | None = None
    attributed_j: float | None = None
    changed_at: float = 0.0
    problem: str = ""


def entries(store: str) -> Iterator[Entry]:
    """The runs of a store, newest first; damaged ones too. Nothing where there is no store yet."""
    group: list[Entry] = []
    stamp = ""
    for key, name in sorted(_folders(store), reverse=True):
        if key != stamp and group:
            yield from _newest_first(group)
            group = []
        stamp = key
        group.append(entry(os.path.join(store, name)))
    yield from _newest_first(group)


def entry(path: str) -> Entry:
    """One run folder as a line of a listing."""
    size, changed = _size(path), changed_at(path)
    name = os.path.basename(path)
    try:
        return _entry(path, head_of(os.path.join(path, names.RECORD)), size, changed)
    except RecordError as error:
        return Entry(
            path=path, id=name, size_bytes=size, state="damaged", changed_at=changed, problem=str(error)
        )


def find(store: str, wanted: str) -> str:
    """The path of the run that is meant: `@latest`, an id, the beginning of one, a name or a tag `KEY=VALUE`
    (the newest run that has it), or a path. `~N` after `@latest`, a name or a tag: the Nth run before that
    one. Raises NotFoundError."""
    back = _BACK.fullmatch(wanted)
    if wanted == "@latest" or (back is not None and back[1] == "@latest"):
        return _latest(store, int(back[2]) if back else 0)
    if "/" not in wanted and wanted:
        ids = [name for _, name in _folders(store)]
        if wanted in ids:
            return os.path.join(store, wanted)
        begun = [name for name in ids if name.startswith(wanted)]
        if len(begun) == 1:
            return os.path.join(store, begun[0])
        named = _newest(store, lambda one: one.name == wanted)
        if named is not None:
            return named.path
        if begun:
            shown = ", ".join(sorted(begun, reverse=True)[:5])
            raise NotFoundError(
                f"{wanted} is the beginning of {len(begun)} runs: {shown}", hint="give more of it"
            )
    if wanted and "\0" not in wanted and os.path.lexists(wanted):  # a broken link is told when it is read
        return os.path.abspath(wanted)
    if (found := _tagged(store, wanted)) is not None:
        return found.path
    if back is not None and (found := _before(store, back[1], int(back[2]))) is not None:
        return found.path
    raise NotFoundError(
        f"there is no run {wanted or repr(wanted)}{_near(store, wanted)}", hint="emt runs lists them"
    )


def _tagged(store: str, wanted: str, back: int = 0) -> Entry | None:
    key, equals, value = wanted.partition("=")
    return _newest(store, lambda one: one.tags.get(key) == value, back) if key and equals else None


def _before(store: str, wanted: str, back: int) -> Entry | None:
    """The run so many before the newest one of that name or tag."""
    return _newest(store, lambda one: one.name == wanted, back) or _tagged(store, wanted, back)


def _newest(store: str, is_meant: Callable[[Entry], bool], back: int = 0) -> Entry | None:
    from itertools import islice

    return next(islice(filter(is_meant, entries(store)), back, None), None)


def _latest(store: str, back: int) -> str:
    """The newest run that began: the record is there before the command starts, so that a folder without one
    is of an emt that was killed earlier."""
    from itertools import islice

    begun = (one for one in entries(store) if os.path.lexists(os.path.join(one.path, names.RECORD)))
    found = next(islice(begun, back, None), None)
    if found is None:
        total = sum(os.path.lexists(os.path.join(store, name, names.RECORD)) for _, name in _folders(store))
        what = "no run" if total == 0 else "1 run" if total == 1 else f"only {total} runs"
        raise NotFoundError(f"the store {store} holds {what}", hint="emt run -- COMMAND records one")
    return found.path


def _near(store: str, wanted: str) -> str:
    from difflib import get_close_matches
    from itertools import islice

    words = {word for one in islice(entries(store), _MOST_NEAR) for word in (one.name, one.id) if word}
    near = get_close_matches(wanted[:100], sorted(words), n=3)
    return f"; near: {', '.join(near)}" if near else ""


def _folders(store: str) -> list[tuple[str, str]]:
    """The runs' folders of a store, each with the time that it sorts by: its id's, else that of its last
    change. A folder that has neither the name nor a file of a run is somebody else's."""
    found = []
    try:
        with os.scandir(store) as items:
            for item in items:
                if item.name.startswith(".") or not item.is_dir(follow_symlinks=False):
                    continue
                if ID_STAMP.match(item.name):
                    found.append((item.name[:15], item.name))
                elif any(os.path.lexists(os.path.join(item.path, name)) for name in names.FILES):
                    found.append((_stamp(item), item.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotFoundError(
            f"the store {store} cannot be read: {error.strerror}", hint=f"ls -ld {store}"
        ) from error
    return found


def _stamp(item: os.DirEntry[str]) -> str:
    import time

    try:
        return time.strftime("%Y%m%d-%H%M%S", time.gmtime(item.stat(follow_symlinks=False).st_mtime))
    except OSError:
        return ""


def _newest_first(group: list[Entry]) -> list[Entry]:
    """Runs of the same second, by the whole of their starting time."""
    return sorted(group, key=lambda one: (one.started_at.rstrip("Z"), one.id), reverse=True)


def _size(path: str) -> int:
    total = 0
    try:
        with os.scandir(path) as items:
            for item in items:
                facts = item.stat(follow_symlinks=False)
                total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    except OSError:
        return total
    return total


def _entry(path: str, head: dict[str, Any], size: int, changed: float) -> Entry:
    host, energy = head.get("host"), head.get("energy")
    state = _text(head.get("state"))
    if state == "running" and not liveness.is_alive(
        _whole(head.get("recorder_pid")),
        _whole(head.get("recorder_started_ticks")),
        node=_text(host.get("node")) if isinstance(host, dict) else "",
        boot_id=_text(host.get("boot_id")) if isinstance(host, dict) else "",
        changed_at=changed,
    ):
        state = "recovered"
    command, tags = head.get("command"), head.get("tags")
    return Entry(
        path=path,
        id=os.path.basename(path),  # by which it is found, even if the folder was renamed
        name=_text(head.get("name")),
        started_at=_text(head.get("started_at")),
        state=state,
        command=tuple(_text(word) for word in command) if isinstance(command, list) else (),
        tags={key: _text(value) for key, value in tags.items()} if isinstance(tags, dict) else {},
        duration_s=_number(head.get("duration_s")) if state == "complete" else None,
        attributed_j=_number(energy.get("attributed_j")) if isinstance(energy, dict) else None,
        size_bytes=size,
        changed_at=changed,
    )


def head_of(path: str) -> dict[str, Any]:
    """The groups of a record that a listing needs. Raises RecordError."""
    import json

    from emt_cli.store import reading
    from emt_cli.store.disk import open_regular, read_limited

    try:
        fd = open_regular(path)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from error
    try:
        lines = read_at(fd, _HEAD_BYTES, 0).split(b"\n")
    finally:
        os.close(fd)
    found: dict[str, Any] = {}
    try:
        for line, key in zip(lines[1:], _groups_of(lines), strict=False):
            if key in _HEAD_GROUPS:
                found[key] = json.loads(line[line.index(b":") + 1 :].rstrip(b","))
    except (ValueError, RecursionError):
        found = {}
    if len(found) < len(_HEAD_GROUPS):
        document = reading.parse(read_limited(path, reading.LARGEST_FILE), path)
        found = document if isinstance(document, dict) else {}
    reading.check_format(found, path)
    return found


def _groups_of(lines: list[bytes]) -> Iterator[str]:
    for line in lines[1:]:
        yield line[1 : line.find(b'"', 1)].decode("ascii", "replace") if line.startswith(b'"') else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 40 else None


def _number(value: object) -> float | None:
    is_number = type(value) in (int, float) and abs(value) <= 1e18  # type: ignore[arg-type]
    return float(value) if is_number else None  # type: ignore[arg-type]
