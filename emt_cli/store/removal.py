"""Deleting runs: only what is a run folder of emt, never through a link, never one that is going on.

Everything is looked at before anything is deleted, and then deleted by name inside the opened folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from emt_cli.errors import OutputError, RecordError
from emt_cli.store import disk, native
from emt_cli.store import folder as names
from emt_cli.store.listing import ID_STAMP, Entry, entries, entry

SETTLED_S = 3600.0
"""A half-written folder that changed within this time may be a run that is just beginning."""


def is_removable(path: str) -> bool:
    """Whether a folder is a run's: nothing but a run's files in it, and one of them, or its name, says so."""
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    held = os.listdir(path)
    if not all(name in names.FILES or disk.is_temporary(name) for name in held):
        return False
    return bool(ID_STAMP.match(os.path.basename(path))) or _has_record(path) or _has_samples(path)


def remove(paths: Sequence[str]) -> int:
    """Delete run folders; returns the bytes set free. Raises OutputError before the first is touched."""
    chosen = []
    for path in paths:
        if not is_removable(path):
            raise OutputError(f"{path} is not a run folder of emt, and is left alone", hint=f"ls -la {path}")
        one = entry(path)
        if one.state == "running":
            raise OutputError(f"{one.id} is still running", hint="stop it first, or wait for its end")
        chosen.append(one)
    freed = 0
    for one in chosen:
        try:
            delete(one.path)
        except FileNotFoundError:
            continue  # somebody else was quicker
        except OSError as error:
            raise OutputError(
                f"{one.path} cannot be deleted: {error.strerror}", hint=f"ls -la {one.path}"
            ) from error
        freed += one.size_bytes
    return freed


def prunable(store: str, *, keep: int | None, older_s: float | None, now: float | None = None) -> list[Entry]:
    """The runs that a prune deletes: of those beyond the `keep` newest the ones older than `older_s`.

    With one of the two it alone decides. Runs that go on, folders that may be about to, and folders
    with strange files in them are never among them.
    """
    now = time.time() if now is None else now
    beyond = list(entries(store))[keep or 0 :]
    return [
        one
        for one in beyond
        if _is_old(one, older_s, now) and _is_at_rest(one, now) and is_removable(one.path)
    ]


def delete(path: str) -> None:
    """Delete the files of a folder and the folder, through no link. Raises OSError."""
    folder = native.Folder(path)
    try:
        for name in sorted(folder.names(), key=lambda name: name == names.RECORD):  # the record last
            if name in names.FILES or disk.is_temporary(name):
                folder.unlink(name)
    finally:
        folder.close()
    os.rmdir(path)


def total_bytes(listed: Iterable[Entry]) -> int:
    return sum(one.size_bytes for one in listed)


def _is_old(one: Entry, older_s: float | None, now: float) -> bool:
    return older_s is None or now - _started(one) > older_s


def _started(one: Entry) -> float:
    """Seconds since the epoch: as recorded, else when the folder last changed."""
    from datetime import datetime, timezone

    try:
        return datetime.fromisoformat(one.started_at[:19]).replace(tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return one.changed_at


def _is_at_rest(one: Entry, now: float) -> bool:
    if one.problem:
        return now - one.changed_at > SETTLED_S
    return one.state != "running"


def _has_record(path: str) -> bool:
    from emt_cli.store.listing import head_of

    try:
        head = head_of(os.path.join(path, names.RECORD))
    except RecordError:
        return False
    return isinstance(head.get("id"), str)


def _has_samples(path: str) -> bool:
    try:
        fd = disk.open_regular(os.path.join(path, names.SAMPLES))
    except (OSError, RecordError):
        return False
    try:
        return native.read_at(fd, 4, 0) == b"t_s,"
    finally:
        os.close(fd)
