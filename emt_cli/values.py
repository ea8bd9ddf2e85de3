"""`Value`: frozen, slotted, keyword-only classes that cost next to nothing to define.

`dataclasses.dataclass` writes and compiles six methods for every class: the record's thirty classes would
take a third of the time that `emt run -- true` takes. Here the methods are written once and go by the
class's list of fields. To everybody else a Value is a dataclass: `fields`, `replace`, `asdict` and type
checkers take it for one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda cls: cls


_set = object.__setattr__


class _ValueType(type):
    """Makes slots of a class's annotations, and takes their defaults out of its namespace."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _ValueType:
        annotations = namespace.get("__annotations__")
        if annotations is None and "__annotate_func__" in namespace:  # Python 3.14 keeps them as a function
            annotations = namespace["__annotate_func__"](1)
        fields: dict[str, dataclasses.Field[Any]] = {}
        constants: dict[str, Any] = {}
        for field_name, kind in (annotations or {}).items():
            default = namespace.pop(field_name, dataclasses.MISSING)
            if isinstance(default, dataclasses.Field):
                field = default
            else:
                field = dataclasses.field(default=default, kw_only=True)
                if default is not dataclasses.MISSING:
                    constants[field_name] = default
            field.name, field.type = field_name, kind
            field._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
            fields[field_name] = field
        namespace["__slots__"] = tuple(fields)
        namespace["__match_args__"] = ()
        namespace["__dataclass_fields__"] = fields
        made = super().__new__(cls, name, bases, namespace)
        made._constants = constants  # type: ignore[attr-defined]
        made._factories = tuple(  # type: ignore[attr-defined]
            (each.name, each.default_factory)
            for each in fields.values()
            if each.default_factory is not dataclasses.MISSING
        )
        return made


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
class Value(metaclass=_ValueType):
    """A frozen record. Fields are the annotations of the class itself; subclasses of subclasses add none."""

    if TYPE_CHECKING:
        __slots__: tuple[str, ...]
        __dataclass_fields__: dict[str, dataclasses.Field[Any]]
        _constants: dict[str, Any]
        _factories: tuple[tuple[str, Any], ...]

    def __init__(self, **given: Any) -> None:
        cls = type(self)
        values = {**cls._constants, **given}
        for name, make in cls._factories:
            if name not in values:
                values[name] = make()
        names = cls.__slots__
        if len(values) != len(names) or not values.keys() <= cls.__dataclass_fields__.keys():
            wrong = sorted(values.keys() ^ cls.__dataclass_fields__.keys())
            raise TypeError(f"{cls.__name__}: missing or unknown: {', '.join(wrong)}")
        for name in names:
            _set(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.__slots__)))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), {name: getattr(self, name) for name in self.__slots__})


def _rebuilt(cls: type[Value], values: dict[str, Any]) -> Value:
    return cls(**values)
