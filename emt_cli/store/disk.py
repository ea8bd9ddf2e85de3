"""Bytes on disk, the careful way: whole or not at all, private, never through a link somebody else laid.

It stands apart because every file of the store is written through it: inside an opened `Folder`, so that a
path which changes meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from emt_cli.errors import OutputError, RecordError
from emt_cli.store.native import BINARY, NO_WAIT, Folder, Owner, give

if TYPE_CHECKING:
    from typing import BinaryIO

NETWORK_TYPES = frozenset(
    {
        "nfs",
        "nfs4",
        "lustre",
        "gpfs",
        "beegfs",
        "cifs",
        "smb3",
        "smbfs",
        "ceph",
        "afs",
        "9p",
        "pvfs2",
        "orangefs",
    }
)
"""File systems where an append may block for seconds (names as in /proc/self/mountinfo)."""


def write_all(fd: int, data: bytes) -> None:
    """Write every byte. Raises OSError (a full disk shows as a short write, then ENOSPC)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(
    folder: Folder, name: str, data: bytes, *, is_synced: bool = False, owner: Owner | None = None
) -> None:
    """Put `data` in place of the file `name` of a folder, atomically and with mode 0600. Raises OSError."""
    temporary = write_beside(folder, name, data, is_synced=is_synced, owner=owner)
    try:
        folder.replace(name, temporary)
    except OSError:
        folder.unlink(temporary)
        raise


def write_beside(
    folder: Folder, name: str, data: bytes, *, is_synced: bool = False, owner: Owner | None = None
) -> str:
    """Write `data` to a new hidden file that will become `name`; returns the name it has until then.

    Raises OSError, and then leaves nothing behind.
    """
    temporary = temporary_name(name)
    fd = folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            write_all(fd, data)
            if is_synced:
                os.fsync(fd)
            give(fd, owner)
        finally:
            os.close(fd)
    except OSError:
        folder.unlink(temporary)
        raise
    return temporary


def temporary_name(name: str) -> str:
    """A hidden name that nobody else takes; `is_temporary` knows it again."""
    return f".{name[:200]}.{os.getpid()}-{os.urandom(3).hex()}.tmp"


def is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def absolute(path: str) -> str:
    """The path from the root on. Raises OutputError where it starts from a folder that is no longer there."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise OutputError(
            f"{path} leads nowhere: the current folder was removed", hint="cd to a folder that is there"
        ) from None


def make_folders(path: str, owner: Owner | None = None) -> None:
    """Make a folder and those above it, private, and give the new ones to `owner`. Raises OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path.rstrip("/" + os.sep)) or "."
    make_folders(parent, owner)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)


def open_regular(path: str) -> int:
    """A descriptor for reading a regular file; anything else (a pipe, a device) is refused before it blocks.

    Raises OSError, and RecordError where it is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | NO_WAIT | BINARY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RecordError(f"{path} is not a regular file", hint="give a run folder, a .json or a .csv")
    return fd


def read_limited(path: str, limit: int) -> bytes:
    """The whole of a regular file of at most `limit` bytes. Raises RecordError, saying what is wrong."""
    try:
        with open_limited(path, limit) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}", hint=f"ls -ld {path}") from error
    if len(data) > limit:
        raise _too_large(path, len(data), limit)
    return data


def open_limited(path: str, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, to be read bit by bit. Raises OSError and RecordError."""
    fd = open_regular(path)
    size = os.fstat(fd).st_size
    if size > limit:
        os.close(fd)
        raise _too_large(path, size, limit)
    return open(fd, "rb")


def _too_large(path: str, size: int, limit: int) -> RecordError:
    return RecordError(
        f"{path} is larger than a record can be ({size:,} bytes; the limit is {limit:,})",
        hint="it is damaged or no record of emt",
    )


def is_network(path: str, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Whether `path` lies on a network file system; no where the kernel does not say.

    The columns are those of proc(5): the mount point is the fifth, the type follows the lone hyphen.
    """
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return False
    real, best, kind = os.path.realpath(path), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        columns = before.split(" ")
        if len(columns) < 5 or not after:
            continue
        point = _unescape(columns[4]).rstrip("/")
        if len(point) >= best and (real == point or real.startswith(point + "/")):
            best, kind = len(point), after.split(" ", 1)[0]  # a later mount hides an earlier one
    return kind in NETWORK_TYPES or kind.startswith("fuse.")


def _unescape(text: str) -> str:
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, character)
    return text
