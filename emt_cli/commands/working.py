"""What a run got done, in the user's own unit: `--units 50000:images`, or read from what the command wrote.

An amount that was stated holds for a command that succeeded. One that is read must have been written by this
very execution: what an earlier one left in the file would give a wrong energy per unit, and nothing is told
instead.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from emt_cli.commands.limiting import LIMITS
from emt_cli.errors import UsageError
from emt_cli.model import Exit, Run, Work
from emt_cli.notices import notice
from emt_cli.values import Value

if TYPE_CHECKING:
    import re

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_UNIT = r"[^\W\d_][\w/.+-]{0,39}"
_LAST_BYTES = 16 * 2**20
"""So much of the end of a file is looked at: the last match counts."""
_ANY_UNIT = "unit"
_EXAMPLE = "for example --units 50000:images"
_FILE_EXAMPLE = r"for example --units-from 'train.log:done: (\d+) (?P<unit>images)'"


class FromFile(Value):
    """A file that the command writes, and where in it the amount stands: the pattern's first group.

    The group named `unit`, if there is one, is the unit. The file is read after the end, line by line, and
    its last match counts.
    """

    path: str
    pattern: str


WorkOrder = Work | FromFile | None

Units = Annotated[
    str | None,
    typer.Option(
        "--units",
        metavar="N:UNIT",
        rich_help_panel=LIMITS,
        help="What COMMAND gets done: 50000:images.",
        show_default=False,
    ),
]
UnitsFrom = Annotated[
    str | None,
    typer.Option(
        "--units-from",
        metavar="FILE:REGEX",
        rich_help_panel=LIMITS,
        help="Read it from a file that COMMAND writes: the pattern's first group.",
        show_default=False,
    ),
]


def order_of(units: str | None, units_from: str | None) -> WorkOrder:
    """What the two options come to. Raises UsageError."""
    if units is not None and units_from is not None:
        raise UsageError(
            "--units states the amount and --units-from reads it: one of the two", hint="leave one out"
        )
    if units is not None:
        return stated(units)
    return None if units_from is None else from_file(units_from)


def stated(text: str) -> Work:
    """`50000:images`. Raises UsageError."""
    import re

    number, _, unit = text.partition(":")
    amount = _amount(number)
    if isinstance(amount, str):
        raise UsageError(f"--units {text}: {amount}", hint=_EXAMPLE)
    if not re.fullmatch(_UNIT, unit):
        what = f"{unit!r} is not a word" if unit else "the unit is missing"
        raise UsageError(f"--units {text}: {what}", hint=_EXAMPLE)
    return Work(amount=amount, unit=unit)


def from_file(text: str) -> FromFile:
    r"""`train.log:done: (\d+)`, parted at the first colon but for that of a drive. Raises UsageError."""
    import re

    drive, rest = os.path.splitdrive(text)
    name, colon, pattern = rest.partition(":")
    if not colon or not name or not pattern:
        raise UsageError(f"--units-from {text}: it is FILE:REGEX", hint=_FILE_EXAMPLE)
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--units-from {text}: the regular expression is wrong: {error}", hint=_FILE_EXAMPLE
        ) from None
    if _number_group(compiled) is None:
        raise UsageError(
            f"--units-from {text}: the regular expression has no group for the number", hint=_FILE_EXAMPLE
        )
    return FromFile(path=os.path.abspath(drive + name), pattern=pattern)


class Counted:
    """The work of one execution: made before it starts, and asked when it is over."""

    def __init__(self, order: WorkOrder) -> None:
        self._order = order
        self._before = _identity(order.path) if isinstance(order, FromFile) else None

    def on(self, run: Run) -> Run:
        """The run with its work, or with a warning that says why it is not known."""
        if self._order is None:
            return run
        work = self._stated(run.exit) if isinstance(self._order, Work) else self._read(self._order)
        if isinstance(work, Work):
            return replace(run, work=work)
        return replace(run, notices=(*run.notices, notice("work_unknown", reason=work)))

    def _stated(self, ended: Exit) -> Work | str:
        assert isinstance(self._order, Work), "asked for an amount that was stated"
        return self._order if ended.code == 0 else "the command did not succeed, so it may not have done all"

    def _read(self, order: FromFile) -> Work | str:
        now = _identity(order.path)
        if now is None:
            return f"there is no file {order.path}"
        if now == self._before:
            return f"the command has not written {order.path}"
        try:
            text = _tail(order.path)
        except OSError as error:
            return f"{order.path} cannot be read: {error.strerror or error}"
        return _last_work(text, order)


def _identity(path: str) -> tuple[int, ...] | None:
    """What changes when a file is written; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _tail(path: str) -> str:
    """The last part of a regular file. Raises OSError."""
    from emt_cli.store.native import BINARY, NO_WAIT

    fd = os.open(path, os.O_RDONLY | NO_WAIT | BINARY)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file")
        file.seek(max(0, found.st_size - _LAST_BYTES))
        return file.read(_LAST_BYTES).decode("utf-8", "replace")


def _last_work(text: str, order: FromFile) -> Work | str:
    import re

    compiled = re.compile(order.pattern)
    for line in reversed(text.splitlines()):
        matches = list(compiled.finditer(line))
        if matches:
            return _work_of(matches[-1])
    return f"nothing in {order.path} matches {order.pattern}"


def _work_of(match: re.Match[str]) -> Work | str:
    amount = _amount(match.group(_number_group(match.re) or 1) or "")
    if isinstance(amount, str):
        return f"{match.group()[:80]!r} tells no amount: {amount}"
    unit = match.group("unit") if "unit" in match.re.groupindex else ""
    return Work(amount=amount, unit=(unit or _ANY_UNIT)[:40])


def _number_group(pattern: re.Pattern[str]) -> int | None:
    """The first group that is not the unit's."""
    unit = pattern.groupindex.get("unit")
    return next((number for number in range(1, pattern.groups + 1) if number != unit), None)


def _amount(text: str) -> float | str:
    """A number above 0, or what is wrong with it. A comma is never guessed to be a point."""
    import re

    if "," in text:
        return f"{text[:40]!r} has a comma; write 50000 or 1.5"
    if not re.fullmatch(_NUMBER, text.strip()):
        return f"{text[:40]!r} is not a number above 0"
    amount = float(text)
    return amount if 0 < amount < math.inf else f"{text[:40]!r} is not a number above 0"
