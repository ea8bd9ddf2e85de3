"""`run.json` as a `Run`: the reading half. Every byte is untrusted.

Older records are accepted (what is missing gets its default) and ones with additions that are not known
here; everything else raises RecordError, naming the field. The values are judged by `decoding`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence

from emt_cli.errors import RecordError
from emt_cli.model import GapSpan, Observed, Run
from emt_cli.store.decoding import Wrong, decoder, shown
from emt_cli.store.record import FORMAT, written_names

LARGEST_FILE = 64 << 20
"""Bytes of the largest run.json that is read."""

_LONGEST_NUMBER = 32
"""Characters of a number that is written here; what breaks off in one is shorter."""
_STRUCTURE = frozenset('{}[],:"')
_DEEPEST_NESTING = 16
"""Channels within channels: core, package, module, node."""
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

Row = typing.TypeVar("Row")

_REMEDY = "the file is damaged, or no record of emt; emt runs lists what the store holds"


def read(path: str) -> Run:
    """The record in one JSON file. Raises RecordError."""
    from emt_cli.store.disk import read_limited

    return decode(parse(read_limited(path, LARGEST_FILE), path), path)


def parse(data: bytes, source: str) -> object:
    """Bytes as a JSON document. Raises RecordError, telling the byte at which it breaks off or down."""
    import json

    if not data.strip():
        raise RecordError(f"{source} is empty", hint=_REMEDY)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        byte = len(error.doc[: error.pos].encode("utf-8", "replace"))
        rest = error.doc[error.pos :].strip()
        is_stump = len(rest) < _LONGEST_NUMBER and _STRUCTURE.isdisjoint(
            rest
        )  # of a number, a word or nothing
        if (is_stump and error.pos > 0) or error.msg.startswith("Unterminated string"):
            what = f"is truncated: it breaks off at byte {len(data)}"
        else:
            what = f"is not JSON: {error.msg} at byte {byte}"
    except UnicodeDecodeError as error:
        what = f"is not JSON: no UTF-8 text at byte {error.start}"
    except RecursionError:
        what = "is no record: it is nested too deeply"
    except ValueError:  # the interpreter's limit, of 4300 digits unless somebody moved it
        what = "is no record: it holds a number of thousands of digits"
    raise RecordError(f"{source} {what}", hint=_REMEDY)


def decode(document: object, source: str) -> Run:
    """A document as a Run, without samples. Raises RecordError, naming `source` and the field."""
    if not isinstance(document, dict):
        raise RecordError(f"{source} is no record: it holds {shown(document)}", hint=_REMEDY)
    check_format(document, source)
    flat = {key: value for key, value in document.items() if key not in ("samples", "notices")}
    if "warnings" in flat:
        flat["notices"] = flat.pop("warnings")
    try:
        for name in ("processes", "marks"):
            flat[name] = _listed(flat.get(name), name)
        run: Run = decoder(Run)(flat)
        _check(run)
    except Wrong as wrong:
        path = (
            wrong.path.replace("notices", "warnings", 1) if wrong.path.startswith("notices") else wrong.path
        )
        raise RecordError(f"{source}: {path} {wrong.text}", hint=_REMEDY) from None
    return run


def read_cells(kind: type[Row], texts: Mapping[str, str], source: str) -> Row:
    """One row of a table as a dataclass of numbers, texts and booleans. Raises RecordError."""
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for name, written in written_names(kind):
        if texts[written] or hints[name] is str:
            values[written] = _cell(hints[name], texts[written])
    try:
        row: Row = decoder(typing.cast(typing.Any, kind))(values)
    except Wrong as wrong:
        raise RecordError(f"{source}: {wrong.path} {wrong.text}", hint=_REMEDY) from None
    return row


def _cell(hint: object, text: str) -> object:
    """A cell as JSON would have had it; the decoder then says whether it will do."""
    if hint is bool:
        return {"yes": True, "no": False}.get(text, text)
    if hint is str:
        return text
    try:
        return int(text) if hint in (int, int | None) else float(text)
    except ValueError:
        return text


def check_format(document: Mapping[typing.Any, object], source: str) -> None:
    """Raises RecordError where a document is no record, or of a newer format."""
    form = document.get("format")
    if isinstance(form, bool) or not isinstance(form, int) or form < 1:
        raise RecordError(f"{source} is no record of emt: it names no format", hint=_REMEDY)
    if form > FORMAT:
        raise RecordError(
            f"{source} was written by a newer emt (format {shown(form)}); this one reads up to {FORMAT}",
            hint="pip install --upgrade emt-cli",
        )


def _listed(value: object, name: str) -> object:
    """The list in a group that also counts; absent in an older record."""
    if value is None:
        return []
    if isinstance(value, dict):
        return value.get("listed") or []
    raise Wrong(f"is {shown(value)}, expected an object").under(name)


def _check(run: Run) -> None:
    """What the types do not say and the readers of a Run rely on. Raises Wrong."""
    if not _is_date(run.started_at):
        raise Wrong(f"is {shown(run.started_at)}, expected a date and time (RFC 3339)").under("started_at")
    if run.duration_s < 0:
        raise Wrong(f"is {run.duration_s}, expected no negative time").under("duration_s")
    if not 1 <= run.host.cpu_count <= 1_000_000:
        raise Wrong(f"is {run.host.cpu_count}, expected a number of CPUs").under("host.cpu_count")
    within = {channel.id: channel.within for channel in run.channels}
    if len(within) != len(run.channels):
        raise Wrong("names a channel twice").under("channels")
    for channel in within:
        at: str | None = channel
        for _ in range(_DEEPEST_NESTING):
            at = within.get(at) if at is not None else None
        if at is not None:
            raise Wrong(f"has {shown(channel)} lie within itself, or too deep").under("channels")
    lists: tuple[tuple[str, Sequence[Observed | GapSpan]], ...] = (
        ("observed", run.observed),
        ("gaps", run.gaps),
    )
    for name, spans in lists:
        for number, span in enumerate(spans):
            if span.channel not in within:
                raise Wrong(f"is {shown(span.channel)}, which is no channel").under(
                    f"{name}[{number}].channel"
                )


def _is_date(text: str) -> bool:
    from datetime import datetime

    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text[:19] + (text[-6:] if text[-1] != "Z" else ""))
    except ValueError:
        return False
    return True
