"""Why a command could not be started, in words: from the errno of the exec to an error with a remedy.

Apart from launching itself, since every system refuses with the same numbers.
"""

from __future__ import annotations

import errno
import os

from emt_cli.errors import CommandNotFoundError, LaunchError, NotExecutableError
from emt_cli.measure.users import User


def preparation_error(user: User | None, number: int) -> LaunchError:
    """For a failure before the exec."""
    reason = os.strerror(number)
    if user is not None:
        return LaunchError(f"cannot become user '{user.name}': {reason}", hint="start emt as root")
    return LaunchError(f"the command could not be started: {reason}")


def launch_error(name: str, number: int) -> LaunchError:
    """For an exec of `name` that failed with that errno."""
    if not name:
        return CommandNotFoundError("the command is empty", hint="emt run -- COMMAND [ARGS...]")
    if number in (errno.ENOENT, errno.ENOTDIR):
        if (path := _script(name)) is not None:
            return CommandNotFoundError(
                f"{path}: the interpreter named in its first line does not exist", hint=f"see: head -1 {path}"
            )
        look = "where" if os.name == "nt" else "command -v"
        hint = f"is it installed and on PATH? see: {look} {name}"
        if " " in name:
            hint = "separate words: emt run -- CMD ARG, or use --shell for one string"
        return CommandNotFoundError(f"{name}: command not found", hint=hint)
    if os.path.isdir(name):
        return NotExecutableError(f"{name}: is a directory", hint="name a program inside it")
    if number == errno.EACCES:
        return NotExecutableError(f"{name}: permission denied", hint=f"is it executable? chmod +x {name}")
    return NotExecutableError(f"{name}: {os.strerror(number)}", hint=f"see: file {name}")


def _script(name: str) -> str | None:
    """The executable file of that name, where there is one after all: what is missing is its interpreter."""
    import shutil

    return shutil.which(name)
