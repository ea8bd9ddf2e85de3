"""Standard output as the reading commands see it: how wide, whether in colour, and a write that is quiet
when the reader has gone."""

from __future__ import annotations

import os
import shutil
import sys
from typing import NamedTuple

from emt_cli.errors import OutputError
from emt_cli.reports.words import encodable

_WIDTH_WITHOUT_TERMINAL = 80
_NARROWEST, _WIDEST = 20, 1000
"""What a terminal can be; COLUMNS may say anything."""


class Terminal(NamedTuple):
    """What a report needs to know of where it goes."""

    width: int
    color: bool
    encoding: str


def terminal(width: int | None = None) -> Terminal:
    """Standard output's properties; `width` overrides COLUMNS, which overrides the terminal's own.

    Colour only on a terminal that can, and not with NO_COLOR (https://no-color.org: set and not empty).
    """
    stream = sys.stdout
    if stream is None:  # standard output was closed by whoever started us
        return Terminal(width or _WIDTH_WITHOUT_TERMINAL, False, "utf-8")
    is_dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    found = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns
    return Terminal(
        width=width or min(max(found, _NARROWEST), _WIDEST),
        color=stream.isatty() and not is_dumb and not os.environ.get("NO_COLOR"),
        encoding=stream.encoding or "utf-8",
    )


def write(text: str) -> None:
    """Write to standard output, all at once. A reader that has gone (`| head`) is no error.

    Raises OutputError where it cannot be written otherwise (a full disk, a closed descriptor).
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed: there is nowhere to write to", hint="leave out >&-")
    try:
        sys.stdout.write(encodable(text, sys.stdout.encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
    except OSError as error:
        _silence()
        raise OutputError(
            f"standard output cannot be written: {error.strerror}", hint="free space, or send it elsewhere"
        ) from error


def _silence() -> None:
    """Let the rest of the buffer go nowhere, so that the interpreter's flush at exit does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
