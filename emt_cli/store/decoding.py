"""JSON values as values of the model: a decoder for each type hint of its dataclasses.

It stands apart from `reading` because it knows nothing of records: only types, and the bounds within
which a number, a text or a list can be meant.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache

from emt_cli.model import Run
from emt_cli.store.record import written_names

_LARGEST_NUMBER = 1e18
_LARGEST_INTEGER = 1 << 64
"""The range of a 64-bit counter is an honest value."""
_LONGEST_TEXT = 1 << 20
_LONGEST_LIST = 1_000_000

Decoder = Callable[[object], typing.Any]


class Wrong(Exception):
    """What is wrong with a value; the path to it is put together on the way up."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path = ""

    def under(self, step: str) -> Wrong:
        self.path = f"{step}.{self.path}" if self.path and not self.path.startswith("[") else step + self.path
        return self


@cache
def decoder(hint: typing.Any) -> Decoder:
    """The function that takes a JSON value as a value of that type, or raises Wrong."""
    if dataclasses.is_dataclass(hint):
        return _object_decoder(typing.cast(type, hint))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _optional(decoder(next(one for one in arguments if one is not types.NoneType)))
    if origin is typing.Literal:
        return _word(arguments)
    if origin is tuple:
        return _list(decoder(arguments[0]))
    if origin is dict:
        return _mapping(decoder(arguments[1]))
    return _PLAIN[hint]


def _number(value: object) -> float:
    if type(value) is float or type(value) is int:
        if not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:  # also True for NaN
            raise Wrong(f"is {shown(value)}, expected a finite number up to 1e18")
        return float(value)
    raise Wrong(f"is {shown(value)}, expected a number")


def _integer(value: object) -> int:
    if type(value) is not int:
        raise Wrong(f"is {shown(value)}, expected a whole number")
    if abs(value) > _LARGEST_INTEGER:
        raise Wrong(f"is {shown(value)}, expected a whole number of at most 64 bits")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is {shown(value)}, expected a text")
    if len(value) > _LONGEST_TEXT:
        raise Wrong(f"is a text of {len(value):,} characters, expected at most {_LONGEST_TEXT:,}")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"is {shown(value)}, expected true or false")
    return value


_PLAIN: dict[typing.Any, Decoder] = {float: _number, int: _integer, str: _text, bool: _truth}


def _optional(decode_one: Decoder) -> Decoder:
    return lambda value: None if value is None else decode_one(value)


def _word(words: tuple[str, ...]) -> Decoder:
    def decode_word(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong(f"is {shown(value)}, expected one of {', '.join(words)}")
        return value

    return decode_word


def _list(decode_one: Decoder) -> Decoder:
    def decode_list(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise Wrong(f"is {shown(value)}, expected a list")
        if len(value) > _LONGEST_LIST:
            raise Wrong(f"is a list of {len(value):,}, expected at most {_LONGEST_LIST:,}")
        found = []
        for number, item in enumerate(value):
            try:
                found.append(decode_one(item))
            except Wrong as wrong:
                raise wrong.under(f"[{number}]") from None
        return tuple(found)

    return decode_list


def _mapping(decode_one: Decoder) -> Decoder:
    def decode_mapping(value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise Wrong(f"is {shown(value)}, expected an object")
        found = {}
        for key, item in value.items():
            try:
                found[_text(key)] = decode_one(item)
            except Wrong as wrong:
                raise wrong.under(key[:40]) from None
        return found

    return decode_mapping


def _object_decoder(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    plan = [
        (name, written, decoder(hints[name]), name in required)
        for name, written in written_names(kind)
        if (kind, name) != (Run, "samples")
    ]

    def decode_object(value: object) -> object:
        if not isinstance(value, dict):
            raise Wrong(f"is {shown(value)}, expected an object")
        found = {}
        for name, written, decode_one, is_required in plan:
            item = value.get(written)
            if item is None and not is_required:
                continue  # an unknown, or not yet there when the record was written
            if written not in value:
                raise Wrong("is missing").under(written)
            try:
                found[name] = decode_one(item)
            except Wrong as wrong:
                raise wrong.under(written) from None
        return kind(**found)

    return decode_object


def shown(value: object) -> str:
    """A value as a message can show it: short, and without anything that a terminal would obey."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return '"' + value[:40].encode("unicode_escape", "backslashreplace").decode() + '"'
    if isinstance(value, int) and abs(value) >= 1 << 70:
        return "a whole number of more than 70 bits"
    return repr(value)
