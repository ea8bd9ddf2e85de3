"""Putting a finished record where `-o` says: atomically, and beside the target where that is taken.

It stands apart from `outputs`, which decides what is allowed: here are the calls that make it so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emt_cli.store import disk, native
from emt_cli.store import folder as names
from emt_cli.store.folder import RunFolder

if TYPE_CHECKING:
    from emt_cli.model import Run

_PROBE_BYTES = 4096
"""A full disk still makes empty files; only a block that must be found shows it."""
_BATCH = 10_000


def probe(parent: str) -> None:
    """Really write a block into a folder: shows missing rights, a read-only and a full file system.

    Raises OSError.
    """
    folder = native.Folder(parent, may_be_link=True)
    try:
        folder.unlink(disk.write_beside(folder, "check", b"\0" * _PROBE_BYTES))
    finally:
        folder.close()


def put_file(path: str, data: bytes, *, force: bool, owner: native.Owner | None) -> str:
    """Write a new file; returns its path, which is another where `path` is taken. Raises OSError."""
    parent, name = os.path.split(path)
    folder = native.Folder(parent, may_be_link=True)
    try:
        if force and not os.path.isdir(path):
            disk.replace_file(folder, name, data, is_synced=True, owner=owner)
            return path
        temporary = disk.write_beside(folder, name, data, is_synced=True, owner=owner)
        return os.path.join(parent, _settle(folder, temporary, name))
    finally:
        folder.close()


def put_row(path: str, run: Run, *, force: bool, owner: native.Owner | None) -> str:
    """Append a run to a summary, which is made if need be; a file that takes no rows is stepped around,
    or replaced by `force`. Returns where the row went. Raises OSError."""
    from emt_cli.store.summary import header, row

    is_other = os.path.lexists(path) and not (os.path.isfile(path) and takes_rows(path))
    if not is_other and _append_row(path, row(run), owner):
        return path
    return put_file(path, header() + row(run), force=force and is_other, owner=owner)


def put_folder(
    path: str, run: Run, source: RunFolder | None, *, force: bool, owner: native.Owner | None
) -> str:
    """Copy a finished run folder, or write one from the run's samples. Returns its path. Raises OSError."""
    parent, name = os.path.split(path)
    temporary = os.path.join(parent, disk.temporary_name(name))
    if source is None:
        _write_new(temporary, run, owner)
    else:
        _copy(source.path, temporary, owner)
    try:
        if force and os.path.isdir(path) and is_ours(path):
            clear(path)
        for candidate in _candidates(name):
            try:
                native.take_name(temporary, os.path.join(parent, candidate))
            except FileExistsError:
                continue
            return os.path.join(parent, candidate)
    except OSError:
        clear(temporary)
        raise
    raise AssertionError("names never run out")


def takes_rows(path: str) -> bool:
    """Whether a file is a summary of this format, or empty. Raises OSError where it may not be written."""
    from emt_cli.store.summary import header

    fd = os.open(path, os.O_RDWR | native.NO_WAIT | native.BINARY)
    try:
        return native.read_at(fd, len(header()), 0) in (b"", header())
    finally:
        os.close(fd)


def is_ours(path: str) -> bool:
    """Whether a folder is a run's, or empty: what `force` may replace."""
    from emt_cli.store.removal import is_removable

    return not os.listdir(path) or is_removable(path)


def clear(path: str) -> None:
    """Remove a run folder, or an empty one. Raises OSError."""
    from emt_cli.store.removal import delete

    delete(path)


def _append_row(path: str, row: bytes, owner: native.Owner | None) -> bool:
    """Append under a lock, so that parallel runs do not mix; False where the file cannot take a row."""
    from emt_cli.store.summary import header

    flags = os.O_RDWR | os.O_APPEND | native.NO_WAIT | native.BINARY
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        native.give(fd, owner)
    except FileExistsError:
        fd = os.open(path, flags)
    try:
        if not _lock(fd):
            return False
        size = os.fstat(fd).st_size
        if size and native.read_at(fd, len(header()), 0) != header():
            return False
        ends_well = not size or native.read_at(fd, 1, size - 1) == b"\n"
        try:
            disk.write_all(fd, (b"" if size else header()) + (b"" if ends_well else b"\n") + row)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)
    return True


def _lock(fd: int, patience_s: float = 5.0) -> bool:
    """Take the lock of a file; False if somebody holds it for too long: the end of a run does not wait."""
    import time

    deadline = time.monotonic() + patience_s
    while not native.try_lock(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _settle(folder: native.Folder, temporary: str, name: str) -> str:
    """Give a finished temporary file its name, or the next free one like it; returns that."""
    try:
        for candidate in _candidates(name):
            try:
                folder.link(temporary, candidate)
                return candidate
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                    raise
                if not folder.holds(candidate):  # a file system without hard links
                    folder.rename(temporary, candidate)
                    return candidate
    finally:
        if folder.holds(temporary):
            folder.unlink(temporary)
    raise AssertionError("names never run out")


def _candidates(name: str) -> Iterator[str]:
    """`run.json`, `run-1.json`, `run-2.json`, and so on for ever."""
    from itertools import count

    yield name
    stem, suffix = os.path.splitext(name)
    for number in count(1):
        yield f"{stem}-{number}{suffix}"


def _write_new(path: str, run: Run, owner: native.Owner | None) -> None:
    folder = RunFolder.create(path, run, owner=owner, is_network=lambda _: False)
    try:
        batch = []
        for sample in run.samples:
            batch.append(sample)
            if len(batch) == _BATCH:
                folder.append(batch)
                batch = []
        folder.append(batch)
        folder.finish(run)
    except OSError:
        folder.close()
        clear(path)
        raise


def _copy(source: str, path: str, owner: native.Owner | None) -> None:
    os.mkdir(path, 0o700)
    try:
        for name in sorted(names.FILES & set(os.listdir(source))):
            with open(os.path.join(source, name), "rb") as old:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | native.BINARY
                fd = os.open(os.path.join(path, name), flags, 0o600)
                try:
                    while block := old.read(1 << 20):
                        disk.write_all(fd, block)
                    native.give(fd, owner)
                finally:
                    os.close(fd)
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
    except OSError:
        clear(path)
        raise
