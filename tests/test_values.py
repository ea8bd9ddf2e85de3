"""`Value` keeps the promises of a frozen, slotted, keyword-only dataclass."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field

import pytest

from emt_cli.values import Value


class Point(Value):
    """A point."""

    x: float
    y: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> float:
        return abs(self.x) + abs(self.y)


class Other(Value):
    x: float
    y: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)


def test_fields_come_from_keywords_and_defaults_and_each_factory_is_called_anew() -> None:
    first, second = Point(x=1.0), Point(x=1.0)
    assert (first.x, first.y, first.tags, first.length) == (1.0, 0.0, {}, 1.0)
    assert first.tags is not second.tags


@pytest.mark.parametrize("given", [{}, {"y": 1.0}, {"x": 1.0, "z": 2.0}, {"y": 1.0, "z": 2.0}])
def test_a_missing_or_unknown_field_is_refused_by_name(given: dict[str, float]) -> None:
    with pytest.raises(TypeError, match=r"Point: missing or unknown: .*[xz]"):
        Point(**given)


def test_there_are_no_positional_fields() -> None:
    with pytest.raises(TypeError):
        Point(1.0)  # type: ignore[misc]


def test_it_is_frozen_and_has_no_room_for_more() -> None:
    point = Point(x=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert not hasattr(point, "__dict__")


def test_equality_goes_by_class_and_fields() -> None:
    assert Point(x=1.0) == Point(x=1.0)
    assert Point(x=1.0) != Point(x=1.5)
    assert Point(x=1.0) != Other(x=1.0)


def test_hashing_goes_with_equality() -> None:
    class Plain(Value):
        a: int
        b: str = ""

    assert len({Plain(a=1), Plain(a=1), Plain(a=2)}) == 2


def test_it_is_a_dataclass_to_everybody_else() -> None:
    point = Point(x=1.0, tags={"a": "b"})
    assert [each.name for each in dataclasses.fields(point)] == ["x", "y", "tags"]
    assert dataclasses.replace(point, x=3.0) == Point(x=3.0, tags={"a": "b"})
    assert dataclasses.asdict(point) == {"x": 1.0, "y": 0.0, "tags": {"a": "b"}}
    assert dataclasses.is_dataclass(Point)


def test_it_is_shown_copied_and_pickled_like_one() -> None:
    point = Point(x=1.0, y=2.0)
    assert repr(point) == "Point(x=1.0, y=2.0, tags={})"
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point


def test_it_works_on_every_python_that_emt_runs_on_because_its_private_part_does() -> None:
    assert dataclasses.fields(Point)[0]._field_type is dataclasses._FIELD  # type: ignore[attr-defined]
