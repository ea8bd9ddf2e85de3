"""Strings made safe and short enough to be shown: cleaned, cut, wrapped, and sayable in an encoding.

A record is untrusted input: a process may have named itself with terminal escapes or ten thousand
letters, so no string of one is shown to people before it went through `clean`. Standard library only, and
`re` only where a string needs it, since the summary is on the path of every run.
"""

from __future__ import annotations

from collections.abc import Iterator

ELLIPSIS = "..."

_ASCII = str.maketrans({"±": "+-", "µ": "u", "·": "|", "…": "~", "─": "-", "━": "-", "█": "#"})

# CSI, OSC and its kin (bounded: an unterminated one must not eat the line), two-byte escapes.
_ESCAPES = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,2048}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
_LONGEST = 20_000
"""No string of a record is looked at beyond so many characters when it is shown to people."""


def clean(text: object) -> str:
    """`text` on one line, without terminal escapes, control and invisible characters, or lone surrogates.

    Runs of white space become one blank where something had to be taken out.
    """
    line = str(text)[:_LONGEST]
    if line.isprintable():
        return line
    import re

    line = re.sub(_ESCAPES, "", line)
    letters = (_letter(letter) for letter in line)
    return " ".join("".join(letters).split())


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    if letter.isspace():
        return " "
    return "?" if "\ud800" <= letter <= "\udfff" else ""


def cells(text: str) -> int:
    """Columns that `text` takes on a terminal, at most: combining marks count, so that none pile up."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns, an ellipsis at the end if something is missing."""
    if cells(text) <= width:
        return text
    if width <= len(ELLIPSIS):
        return ELLIPSIS[: max(width, 0)]
    return _head(text, width - len(ELLIPSIS)).rstrip() + ELLIPSIS


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` columns with both of its ends: of a command line, both of them tell."""
    if cells(text) <= width:
        return text
    room = width - len(ELLIPSIS)
    if room < 8:
        return cut(text, width)
    tail = _head(text[::-1], room // 3)[::-1]
    return _head(text, room - cells(tail)) + ELLIPSIS + tail


def _head(text: str, width: int) -> str:
    used = 0
    for index, letter in enumerate(text):
        used += cells(letter)
        if used > width:
            return text[:index]
    return text


def wrap(text: str, width: int, lines: int) -> list[str]:
    """`text` broken at blanks, and inside words that are too long, into at most so many lines.

    The last one ends in an ellipsis where something is missing. Never empty.
    """
    broken = [""]
    for word in _pieces(text, width):
        candidate = f"{broken[-1]} {word}".strip()
        if cells(candidate) <= width:
            broken[-1] = candidate
        elif len(broken) < lines:
            broken.append(word)
        else:
            broken[-1] = cut(candidate, width)
            break
    return broken


def _pieces(text: str, width: int) -> Iterator[str]:
    for word in text.split():
        rest = word
        while cells(rest) > width:
            piece = _head(rest, width) or rest[0]
            yield piece
            rest = rest[len(piece) :]
        yield rest


def encodable(text: str, encoding: str | None) -> str:
    """`text` as far as `encoding` can say it: `+-` for the sign, `?` for what has no plain form."""
    try:
        text.encode(encoding or "utf-8")
    except LookupError:
        return encodable(text, "ascii")
    except UnicodeEncodeError:
        return "".join(_sayable(letter, encoding or "utf-8") for letter in text)
    return text


def _sayable(letter: str, encoding: str) -> str:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return letter.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return letter


def can_draw(encoding: str | None) -> bool:
    """Whether block characters come out."""
    return encodable("█▁", encoding) == "█▁"
