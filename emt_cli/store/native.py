"""The calls with which POSIX and Windows differ: names inside an opened folder, locks, owners, positions.

Apart from `disk`, which says how a file is written carefully: here is only what makes that possible on both.
Windows cannot open a folder, nor look names up inside one: there the path has to do, and who can change the
path could lead us elsewhere. Its access rights come from the folder above, not from a mode.
"""

from __future__ import annotations

import errno
import os
from typing import Any

BINARY = getattr(os, "O_BINARY", 0)
"""Windows would translate line ends in everything that is opened without it."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
HAS_DESCRIPTORS = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd
"""Whether a folder can be opened, and a file that is open be deleted."""

Owner = tuple[int, int]
"""User and group that shall own what is written: the invoking user's under sudo."""


class Folder:
    """An opened folder. A path that changes meanwhile leads nowhere else (on Windows it does).

    All methods raise OSError; `close` may be called twice.
    """

    def __init__(self, path: str, *, may_be_link: bool = False) -> None:
        self.path = path
        self._fd = -1
        if HAS_DESCRIPTORS:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | (0 if may_be_link else NO_LINK))
        elif not os.path.isdir(path) or (os.path.islink(path) and not may_be_link):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        place, options = self._at(name, "dir_fd")
        return os.open(place, flags | BINARY | NO_LINK, mode, **options)

    def unlink(self, name: str) -> None:
        place, options = self._at(name, "dir_fd")
        os.unlink(place, **options)

    def replace(self, name: str, by: str) -> None:
        """Put the file `by` in place of `name`, atomically."""
        old, options = self._at(by, "src_dir_fd", "dst_dir_fd")
        os.replace(old, self._at(name)[0], **options)

    def rename(self, old: str, new: str) -> None:
        """Like replace on POSIX, where a free name has to be looked for first."""
        place, options = self._at(old, "src_dir_fd", "dst_dir_fd")
        os.rename(place, self._at(new)[0], **options)

    def link(self, old: str, new: str) -> None:
        """Raises FileExistsError where the new name is taken."""
        place, options = self._at(old, "src_dir_fd", "dst_dir_fd")
        os.link(place, self._at(new)[0], **options)

    def holds(self, name: str) -> bool:
        place, options = self._at(name, "dir_fd")
        try:
            os.stat(place, follow_symlinks=False, **options)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        return os.listdir(self._fd if self._fd >= 0 else self.path)

    def give_to(self, owner: Owner | None) -> None:
        if self._fd >= 0:
            give(self._fd, owner)

    def is_at_its_path(self) -> bool:
        """Whether the path still leads here."""
        try:
            if self._fd < 0:
                return os.path.isdir(self.path)
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _at(self, name: str, *options: str) -> tuple[str, dict[str, Any]]:
        """How a call names a file in here: the path, and the options that say what it starts from."""
        if self._fd < 0:
            return os.path.join(self.path, name), {}
        return name, dict.fromkeys(options, self._fd)


def give(fd: int, owner: Owner | None) -> None:
    """Make an opened file somebody else's. Raises OSError."""
    if owner is not None:
        os.fchown(fd, *owner)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Bytes from a position; where the next read or write goes is not to be relied on afterwards.

    Raises OSError.
    """
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def write_at(fd: int, data: bytes, offset: int) -> int:
    """Write at a position; returns how much. Raises OSError."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)


def try_lock(fd: int) -> bool:
    """Take the lock of a file; False while somebody else holds it. Closing the file lets go of it.

    A file system without locks counts as locked: one write with O_APPEND must do. Raises OSError.
    """
    try:
        import fcntl
    except ImportError:
        return _try_lock_on_windows(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def _try_lock_on_windows(fd: int) -> bool:
    """The lock is on a byte far behind the end, since Windows keeps others from reading what is locked."""
    import msvcrt

    windows: Any = msvcrt
    os.lseek(fd, 1 << 30, os.SEEK_SET)
    try:
        windows.locking(fd, windows.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_END)
    return True


def take_name(temporary: str, path: str) -> None:
    """Give a finished folder its name. Raises FileExistsError where the name is taken, and other OSErrors."""
    if HAS_DESCRIPTORS:
        os.mkdir(path, 0o700)  # takes the name; then nothing can be lost
    os.rename(temporary, path)  # onto an empty folder; Windows refuses any that is there
