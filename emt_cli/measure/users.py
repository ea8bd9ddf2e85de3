"""Whom the command becomes (`--user`); apart because asking for a user is the same on every POSIX system."""

from __future__ import annotations

import os

from emt_cli.errors import LaunchError
from emt_cli.values import Value


class User(Value):
    """Whom the child becomes."""

    name: str
    uid: int
    gid: int
    home: str


def find_user(name: str) -> User:
    """Raises LaunchError where there is no such user or this process may not become it."""
    try:
        import pwd
    except ImportError:
        raise LaunchError("--user needs a POSIX system", hint=f"runas /user:{name} emt run ...") from None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LaunchError(f"there is no user '{name}'", hint="see: getent passwd") from None
    if os.geteuid() != 0 and os.geteuid() != entry.pw_uid:
        raise LaunchError(
            f"only root may run a command as '{name}'", hint=f"sudo emt run --user {name} -- ..."
        )
    return User(name=name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)
