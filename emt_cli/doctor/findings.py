"""What an examination brings: a finding, with what to type and why. Values only."""

from __future__ import annotations

from typing import Literal

from emt_cli.values import Value

State = Literal["ok", "note", "problem"]
"""`problem`: something is estimated, wrong or lost because of it; `note`: figures would be better or more
comparable without it."""


class Finding(Value):
    """One line about this machine.

    `remedy` holds lines for a shell, the safest way, complete; `advice` says in words what no shell can do,
    or how else; `why` gives the reason. `code` is stable and lets a program recognise the finding.
    """

    code: str
    state: State
    text: str
    remedy: tuple[str, ...] = ()
    advice: str = ""
    why: str = ""


def ok(code: str, text: str) -> Finding:
    return Finding(code=code, state="ok", text=text)
