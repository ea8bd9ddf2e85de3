"""Every error that emt raises on purpose: few, typed, each with an exit status and what to type next.

They are caught once, in `commands`. `emt run` turns every status below except 126 and 127 into 125,
since the wrapped command's own statuses must stay recognisable.
"""

from __future__ import annotations

FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
"""What other people's code (a plugin's sensor, an observer) may raise although it should not."""


class EmtError(Exception):
    """Something a user can act on: `str(error)` says what happened and why, `hint` what to type."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(EmtError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(EmtError):
    """A configuration file or an EMT_* variable is wrong; names file, key and line."""

    exit_code = 2


class OutputError(EmtError):
    """A file that the user asked for cannot be written."""


class RecordError(EmtError):
    """A record cannot be read: missing, damaged, not ours, or of a newer format."""


class IncomparableError(EmtError):
    """Two records cannot be held against each other: other hosts, other sensors, or one breaks off."""


class NotFoundError(EmtError):
    """A run, location or table row of that name does not exist."""


class LaunchError(EmtError):
    """The command could not be started for a reason that is neither of the two below."""

    exit_code = 125


class NotExecutableError(LaunchError):
    """The command was found but may not be executed."""

    exit_code = 126


class CommandNotFoundError(LaunchError):
    """There is no such command."""

    exit_code = 127


class SensorError(EmtError):
    """A hardware interface cannot be opened; `sensors.base` names the two ways."""
