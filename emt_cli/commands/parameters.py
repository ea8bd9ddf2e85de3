"""`-P name=1,2,4`: parameters of a command line, and a line's variants with every combination of them.

Apart from the commands that take them. A placeholder is a name in braces, `{threads}`; other braces stand for
themselves (JSON, awk, `${HOME}`), and `{{threads}}` is the word in braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product

from emt_cli.errors import UsageError

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PLACEHOLDER = re.compile(r"\{\{(" + _NAME + r")\}\}|(?<!\$)\{(" + _NAME + r")\}")
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:([*+])([0-9]+))?")
_MOST_VALUES = 1000
_EXAMPLE = "for example -P threads=1,2,4,8 or -P size=32..256*2"


def parameters(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of every `-P NAME=V1,V2`, or `NAME=FIRST..LAST`, `..LAST+STEP`, `..LAST*FACTOR`.

    Raises UsageError.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not re.fullmatch(_NAME, name):
            raise UsageError(f"-P {word}: a parameter is NAME=VALUE,VALUE", hint=_EXAMPLE)
        if name in found:
            raise UsageError(f"-P {name} is given twice", hint=f"all values in one: -P {name}=1,2")
        values = _range(word, text) or tuple(text.split(","))
        if "" in values:
            raise UsageError(f"-P {word}: a value is empty", hint=_EXAMPLE)
        found[name] = tuple(dict.fromkeys(values))
    return found


def _range(word: str, text: str) -> tuple[str, ...]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return ()
    first, last, by = int(match[1]), int(match[2]), int(match[4] or 1)
    is_factor = match[3] == "*"
    if first > last or by < (2 if is_factor else 1) or (is_factor and first < 1):
        raise UsageError(f"-P {word}: that range has no end", hint=_EXAMPLE)
    values = []
    while first <= last:
        values.append(str(first))
        first = first * by if is_factor else first + by
        if len(values) > _MOST_VALUES:
            raise UsageError(f"-P {word}: more than {_MOST_VALUES} values", hint=_EXAMPLE)
    return tuple(values)


def names_in(line: str) -> list[str]:
    """The placeholders of a line, each once."""
    return list(dict.fromkeys(match[2] for match in _PLACEHOLDER.finditer(line) if match[2]))


def variants(line: str, known: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the parameters that the line uses, the last one changing fastest; one empty
    combination for a line that uses none. Raises UsageError for a placeholder without values."""
    used = names_in(line)
    for name in used:
        if name not in known:
            raise UsageError(
                f"{{{name}}} has no values: {line}",
                hint=f"-P {name}=1,2 gives it some; {{{{{name}}}}} is the word in braces",
            )
    names = [name for name in known if name in used]
    return [dict(zip(names, values, strict=True)) for values in product(*(known[name] for name in names))]


def filled(line: str, values: Mapping[str, str]) -> str:
    """The line with its placeholders filled in, and doubled braces made single."""
    return _PLACEHOLDER.sub(
        lambda match: f"{{{match[1]}}}" if match[1] else values.get(match[2], match[0]), line
    )
