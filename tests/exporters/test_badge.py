"""The badge: a picture that says what is known, fits its text and fetches nothing."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from emt_cli.exporters import badge
from tests.reports import conftest

SVG = "{http://www.w3.org/2000/svg}"


def drawn(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(badge.render(conftest.ALL[name]()))


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def test_it_says_the_joules_and_the_grams() -> None:
    assert texts(drawn("measured")) == ["energy", "1.82 kJ | 22.3 mg CO2e"]


def test_an_estimate_is_called_one() -> None:
    assert texts(drawn("estimated"))[1] == "41.3 J estimated | 510 µg CO2e"


def test_what_is_unknown_is_called_so() -> None:
    assert texts(drawn("bare"))[1] == "unknown"


def test_the_bounds_are_in_its_title() -> None:
    assert "20.1 to 42.0 J" in (drawn("estimated").findtext(f"{SVG}title") or "")


@pytest.mark.parametrize("name", conftest.ALL)
def test_any_record_gives_a_picture_in_which_the_text_fits(name: str) -> None:
    picture = drawn(name)
    width = float(picture.attrib["width"])
    ends = [float(each.attrib["x"]) + float(each.attrib["textLength"]) for each in picture.iter(f"{SVG}text")]
    assert max(ends) < width < 500


def test_more_text_is_wider() -> None:
    short = replace(conftest.measured(), carbon=None)
    assert "width" in badge.render(short)
    narrow = ElementTree.fromstring(badge.render(short)).attrib["width"]
    assert float(narrow) < float(drawn("measured").attrib["width"])


def test_it_fetches_nothing() -> None:
    text = badge.render(conftest.measured())
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "url(" not in text.replace("url(#r)", "")
