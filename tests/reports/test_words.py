"""Strings of a record: cleaned, cut, wrapped."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from emt_cli.reports import words
from tests.reports.conftest import HOSTILE


def test_terminal_escapes_and_controls_are_taken_out_and_the_text_stays() -> None:
    said = words.clean(HOSTILE)
    assert said.isprintable()
    assert "title" not in said and "31m" not in said and "2J" not in said
    assert "red" in said and "two lines tab flip ?" in said


def test_a_plain_string_stays_as_it_is() -> None:
    assert words.clean("grep  -c 'é'") == "grep  -c 'é'"


def test_an_unterminated_title_sequence_does_not_eat_the_rest() -> None:
    assert "after" in words.clean("\x1b]0;before" + "x" * 3000 + " after")


def test_thousands_of_open_escapes_are_cleaned_in_a_moment() -> None:
    assert len(words.clean("\x1b]" * 10_000)) <= 10_000


@given(st.text(max_size=300))
def test_whatever_is_cleaned_can_be_shown(text: str) -> None:
    said = words.clean(text)
    assert said.isprintable()
    said.encode("utf-8")
    assert all(unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in said)


@given(st.text(alphabet="ab 漢é/", max_size=80), st.integers(1, 60))
def test_what_is_cut_never_takes_more_than_its_columns(text: str, width: int) -> None:
    for said in (words.cut(text, width), words.cut_middle(text, width)):
        assert words.cells(said) <= width
        assert said == text or words.cells(text) > width


def test_a_command_line_keeps_both_of_its_ends() -> None:
    said = words.cut_middle("python " + "x" * 100 + " --last", 40)
    assert said.startswith("python ") and said.endswith("--last") and words.ELLIPSIS in said


@given(st.text(alphabet="ab 漢", max_size=200), st.integers(4, 30), st.integers(1, 5))
def test_wrapped_lines_fit_and_lose_nothing_unless_they_say_so(text: str, width: int, lines: int) -> None:
    broken = words.wrap(text, width, lines)
    assert 1 <= len(broken) <= lines
    assert all(words.cells(line) <= width for line in broken)
    kept = "".join(broken).replace(" ", "")
    assert kept == "".join(text.split()) or broken[-1].endswith(words.ELLIPSIS)


def test_what_an_encoding_cannot_say_is_said_plainly() -> None:
    assert words.encodable("41.3 J ± 2.1", "ascii") == "41.3 J +- 2.1"
    assert words.encodable("510 µg · 漢", "ascii") == "510 ug | ?"
    assert words.encodable("41.3 J ± 2.1", "latin-1") == "41.3 J ± 2.1"
    assert words.encodable("é", "no-such-encoding") == "?"
    assert words.can_draw("utf-8") and not words.can_draw("latin-1") and not words.can_draw("ascii")
