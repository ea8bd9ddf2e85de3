"""Reports for programs: JSON, CSV, and single values by path.

JSON and `get` work on the record's own document (what run.json holds) and CSV on the store's rows, so
that a program reads the same names whichever way it comes. Nothing here knows the store: who calls brings
documents and rows along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emt_cli.errors import UsageError
from emt_cli.reports.words import clean

_NAMING_KEYS = ("id", "name", "code", "device", "channel", "pid")
"""By these an element of a list is found, in this order."""

_MOST_KEYS = 12


# --- JSON and CSV -----------------------------------------------------------------------------------


def as_json(documents: Sequence[Mapping[str, Any]]) -> str:
    """One document as an object, several (or none) as an array; plain ASCII, unknown numbers as null."""
    import json

    shown = documents[0] if len(documents) == 1 else list(documents)
    return json.dumps(_known(shown), indent=2, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    """JSON has neither NaN nor infinity: both are unknown."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _known(part) for key, part in value.items()}
    return [_known(part) for part in value] if isinstance(value, (list, tuple)) else value


def as_csv(header: bytes, rows: Iterable[bytes]) -> str:
    """The store's summary: its header and its rows, without the controls that would move a terminal."""
    text = b"".join((header, *rows)).decode("utf-8", "replace")
    return "".join(filter(_is_harmless, text))


def table_as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Any table: an unknown (None) is an empty cell, a truth `yes` or `no`."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([("no", "yes")[cell] if isinstance(cell, bool) else cell for cell in row])
    return "".join(filter(_is_harmless, text.getvalue()))


def _is_harmless(letter: str) -> bool:
    return letter == "\n" or letter.isprintable()


# --- single values ----------------------------------------------------------------------------------


def get(document: Mapping[str, Any], path: str) -> Any:
    """The value at `energy.attributed_j`, `energy.channels.0.id` or `channels[cpu0/package].kind`.

    A number picks an element of a list by its place, anything else by its id or name. What lies below an
    unknown value is unknown: None. Raises UsageError for a path that no record has, with the near ones.
    """
    value: Any = document
    walked = ""
    for step in _steps(path):
        if value is None:
            return None
        found, value = _step(value, step)
        if not found:
            raise _unknown(value, step, walked)
        walked = f"{walked}.{step}" if walked else step
    return value


def as_text(value: Any) -> str:
    """A value for a shell: strings bare, `true` and numbers as in JSON, groups as JSON on one line."""
    return clean(value) if isinstance(value, str) else as_line(value)


def as_line(value: Any) -> str:
    """A value as JSON on one line."""
    import json

    return json.dumps(_known(value), allow_nan=False)


def _steps(path: str) -> list[str]:
    """Names apart by dots; what stands in brackets is one name, dots and all."""
    steps: list[str] = []
    rest = path.strip()
    while rest:
        if rest.startswith("["):
            step, closed, rest = rest[1:].partition("]")
            if not closed:
                raise UsageError(
                    f"{path!r} has a [ without a ]", hint="for example energy.channels[cpu0/package]"
                )
        else:
            end = min((at for at in (rest.find("."), rest.find("[")) if at >= 0), default=len(rest))
            step, rest = rest[:end], rest[end:]
        if not step or rest == ".":
            raise UsageError(f"{path!r} is not a path into a record", hint="for example energy.attributed_j")
        steps.append(step)
        rest = rest.removeprefix(".")
    if not steps:
        raise UsageError("an empty path names nothing", hint="for example energy.attributed_j")
    return steps


def _step(value: Any, step: str) -> tuple[bool, Any]:
    """(True, the part) or (False, the value that has no such part)."""
    if isinstance(value, Mapping):
        return (True, value[step]) if step in value else (False, value)
    if isinstance(value, list):
        if step.lstrip("-").isdecimal() and -len(value) <= int(step) < len(value):
            return True, value[int(step)]
        for key in _NAMING_KEYS:
            for part in value:
                if isinstance(part, Mapping) and str(part.get(key)) == step:
                    return True, part
    return False, value


def _unknown(value: Any, step: str, walked: str) -> UsageError:
    import difflib

    keys = _keys(value)
    near = difflib.get_close_matches(step, keys, n=3, cutoff=0.5)
    where = f"{clean(walked)} has" if walked else "the record has"
    if not keys:
        return UsageError(
            f"{where} no {clean(step)!r}: it is a single value or empty", hint="emt report --format json"
        )
    offered = near or keys[:_MOST_KEYS]
    more = ", ..." if not near and len(keys) > _MOST_KEYS else ""
    inside = "{}[{}]" if isinstance(value, list) else "{}.{}"
    said = ", ".join(clean(inside.format(walked, key) if walked else key) for key in offered)
    return UsageError(
        f"{where} no {clean(step)!r}", hint=("did you mean " if near else "there is ") + said + more
    )


def _keys(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    parts = value if isinstance(value, list) else []
    named = [
        next((str(part[key]) for key in _NAMING_KEYS if key in part), "")
        for part in parts
        if isinstance(part, Mapping)
    ]
    return [name for name in named if name] or [str(index) for index in range(len(parts))]
