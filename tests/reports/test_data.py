"""Reports for programs (JSON, CSV, values by path) and for other documents (Markdown)."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.errors import UsageError
from emt_cli.model import Run
from emt_cli.reports import data, markdown
from emt_cli.store.record import encode
from emt_cli.store.summary import COLUMNS, header, row
from tests.reports import conftest

DOCUMENT = encode(conftest.measured())

# --- JSON and CSV -----------------------------------------------------------------------------------


def test_one_run_is_an_object_and_several_are_an_array() -> None:
    assert json.loads(data.as_json([DOCUMENT]))["energy"]["attributed_j"] == 1819.2
    both = json.loads(data.as_json([DOCUMENT, encode(conftest.estimated())]))
    assert [run["energy"]["provenance"] for run in both] == ["measured", "estimated"]
    assert json.loads(data.as_json([])) == []


def test_json_is_ascii_and_strict_whatever_the_record_holds(any_run: Run) -> None:
    text = data.as_json([{**encode(any_run), "extra": [math.nan, math.inf, "é\udcff\x9b"]}])
    assert text.isascii() and "\x1b" not in text

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["extra"][:2] == [None, None]


def test_csv_has_the_columns_of_the_store_and_a_line_for_each_run() -> None:
    runs = [make() for make in conftest.ALL.values()]
    text = data.as_csv(header(), (row(run) for run in runs))
    assert all(letter == "\n" or letter.isprintable() for letter in text)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(COLUMNS)
    assert [line["attributed_j"] for line in rows][:3] == ["1819.2", "41.3", ""]


# --- values by path ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("energy.attributed_j", "1819.2"),
        ("energy.channels.0.id", "node/psys"),
        ("energy.channels.-1.id", "gpu0"),
        ("energy.channels[cpu0/package].attributed_j", "301.2"),
        ("energy.channels.cpu0/package.attributed_j", "301.2"),
        ("channels[gpu0].kind", "counter"),
        ("channels[gpu0][sensor]", "nvml"),
        ("warnings.gpu_whole_device.code", "gpu_whole_device"),
        ("exit", '{"code": 0, "signal": null}'),
        ("exit.code", "0"),
        ("energy.channels[cpu0/package].counted", "true"),
        ("cpu_time.witnesses.perf", "118.4"),
        ("name", ""),
    ],
)
def test_a_path_leads_to_its_value(path: str, text: str) -> None:
    assert data.as_text(data.get(DOCUMENT, path)) == text


@pytest.mark.parametrize("path", ["exit.signal", "job", "job.id", "job.nonsense.deeper"])
def test_what_is_unknown_and_all_below_it_is_none(path: str) -> None:
    assert data.get(DOCUMENT, path) is None


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("energy.atributed_j", "did you mean energy.attributed_j"),
        ("enrgy", "did you mean energy"),
        ("energy.channels[cpu0/pakage]", "energy.channels[cpu0/package]"),
        ("energy.channels.99", "energy.channels["),
        ("exit.code.deeper", "emt report --format json"),
        ("zzzzzz", "there is format, id"),
        ("energy..x", "energy.attributed_j"),
        ("energy.", "energy.attributed_j"),
        ("channels[gpu0", "energy.channels[cpu0/package]"),
        ("", "energy.attributed_j"),
    ],
)
def test_a_path_that_no_record_has_is_refused_with_the_near_ones(path: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        data.get(DOCUMENT, path)
    assert hint in refused.value.hint


@given(st.text(alphabet="energy.channels[]0-1/\x1b ", max_size=40))
def test_any_path_gives_a_value_or_a_usage_error(path: str) -> None:
    try:
        data.as_text(data.get(DOCUMENT, path))
    except UsageError as refused:
        assert refused.hint and "\x1b" not in refused.hint


def test_a_string_for_a_shell_is_clean_and_bare() -> None:
    assert "\x1b" not in data.as_text(conftest.HOSTILE)
    assert data.as_text("a b") == "a b" and data.as_line("a b") == '"a b"'


# --- Markdown ---------------------------------------------------------------------------------------


def cells_of(line: str) -> list[str]:
    """The cells of a row as GitHub cuts it: at pipes that no backslash stands before."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(any_run: Run) -> None:
    for text in (markdown.as_markdown([any_run]), markdown.as_markdown([any_run] * 2)):
        assert all(letter == "\n" or letter.isprintable() for letter in text)
        table: list[int] = []
        for line in [*text.splitlines(), ""]:
            if line.startswith("|"):
                table.append(len(cells_of(line)))
            else:
                assert len(set(table)) <= 1
                table = []


def test_markdown_tells_what_the_tables_tell() -> None:
    text = markdown.as_markdown([conftest.measured()])
    for expected in (
        "### `python train.py --epochs 3",
        "**Energy: 1.819 kJ ± 0.091** of the command, measured",
        "| cpu0/package | 301 J | ± 15 | 812 J | 300 J | measured |  |",
        "| · cpu0/core |",
        "in cpu0/package",
        "| 4243 | 30.0 | 25.3 % | 170 J | python train.py --worker 0 |",
        "**CO2e: 22.3 mg ± 1.1**",
        "- like: lighting a 10 W LED bulb for 17 s (ADEME)",
        "**Warnings**",
    ):
        assert expected in text
    assert "rest of the machine" in text


def test_marks_of_markdown_and_html_are_escaped() -> None:
    text = markdown.as_markdown([conftest.hostile()])
    assert "\\|pipe\\|" in text and "\\`tick\\`" in text and "\\[bold red\\]" in text
    assert markdown.escape("<img src=x> *a* _b_ | # & !") == (
        "&lt;img src=x&gt; \\*a\\* \\_b\\_ \\| \\# &amp; \\!"
    )


def test_a_code_span_is_closed_by_a_longer_fence_than_it_holds() -> None:
    assert markdown._code("echo `date` ``x``") == "``` echo `date` ``x`` ```"


def test_several_runs_are_a_table() -> None:
    lines = markdown.as_markdown([make() for make in conftest.ALL.values()]).splitlines()
    assert len(lines) == 2 + len(conftest.ALL)
    assert "| unit tests | 1 | 12.3 s | 41.3 J | estimated |" in lines[3]


def test_show_leaves_the_other_sections_out() -> None:
    text = markdown.as_markdown([conftest.measured()], frozenset({"carbon"}))
    assert "CO2e" in text and "Energy" not in text and "pid" not in text and "Warnings" not in text
