"""OpenMetrics text, read back by a strict parser of its grammar."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from emt_cli.exporters import openmetrics
from emt_cli.model import Repeat, Run, Spread, Work
from tests.reports import conftest

SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][\w:]*)\{(?P<labels>(?:\w+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (?P<value>\S+)'
)
LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\[\\"n])*)"')

Point = tuple[str, frozenset[tuple[str, str]]]


def parse(text: str) -> dict[Point, float]:
    """The values by name and labels. Raises AssertionError for what the specification forbids."""
    assert text.endswith("# EOF\n")
    families: set[str] = set()
    values: dict[Point, float] = {}
    family = ""
    for line in text.splitlines()[:-1]:
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            if word == "TYPE":
                assert rest == "gauge"
                assert name not in families, "a family stands in one piece"
                families.add(name)
                family = name
            assert name == family
            assert word in ("TYPE", "UNIT", "HELP")
            assert word != "UNIT" or name.endswith(f"_{rest}")
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match["name"] == family
        labels = LABEL.findall(match["labels"])
        assert len({name for name, _ in labels}) == len(labels)
        point = (family, frozenset(labels))
        assert point not in values, "a set of labels is there once"
        values[point] = float(match["value"])
    return values


def value(values: dict[Point, float], name: str, **labels: str) -> float:
    [found] = [
        number
        for (family, told), number in values.items()
        if family == name and labels.items() <= dict(told).items()
    ]
    return found


def test_a_run_tells_energy_by_whose_it_is() -> None:
    values = parse(openmetrics.render([conftest.measured()]))
    assert value(values, "emt_energy_joules", of="command") == 1819.2
    assert value(values, "emt_energy_joules", of="machine") == 2956.0
    assert value(values, "emt_energy_joules", of="platform") == 3410.0
    assert value(values, "emt_energy_high_joules") == 1910.0
    assert value(values, "emt_device_energy_joules", channel="cpu1/dram") == 33.4
    assert value(values, "emt_duration_seconds") == 12.34
    assert value(values, "emt_power_watts") == pytest.approx(1819.2 / 12.34)
    assert value(values, "emt_co2e_grams") == 0.02234
    assert value(values, "emt_exit_code") == 0
    assert value(values, "emt_estimated") == 0


def test_only_what_is_counted_stands_among_the_devices() -> None:
    values = parse(openmetrics.render([conftest.measured()]))
    told = [dict(labels)["channel"] for name, labels in values if name == "emt_device_energy_joules"]
    assert "cpu0/core" not in told
    assert "node/psys" not in told


def test_labels_are_the_same_from_run_to_run() -> None:
    run = conftest.measured()
    again = replace(run, id="another", started_at="2026-03-04T05:06:07Z", duration_s=13.0)
    assert parse(openmetrics.render([run])).keys() == parse(openmetrics.render([again])).keys()


def test_runs_of_one_name_are_told_apart() -> None:
    run = conftest.estimated()
    values = parse(openmetrics.render([run, replace(run, name="unit tests #1"), run]))
    names = {dict(labels)["run"] for _, labels in values}
    assert names == {"unit tests #1", "unit tests #2", "unit tests #3"}


def test_a_killed_command_has_the_shells_code() -> None:
    assert value(parse(openmetrics.render([conftest.killed()])), "emt_exit_code") == 137


def test_a_repeated_run_tells_the_mean_and_work_its_unit() -> None:
    spread = Spread(n=3, mean=606.4, min=600.0, max=610.0, median=605.0)
    run = replace(
        conftest.measured(),
        repeat=Repeat(executions=3, duration_s=spread, attributed_j=spread),
        work=Work(amount=50_000, unit="images", per_unit_j=0.036),
    )
    values = parse(openmetrics.render([run]))
    assert value(values, "emt_execution_energy_joules") == 606.4
    assert value(values, "emt_unit_energy_joules", unit="images") == 0.036


def test_marks_of_the_format_in_a_name_are_escaped() -> None:
    run = replace(conftest.bare(), command=('a"b\\c\nd',))
    [labels] = {labels for _, labels in parse(openmetrics.render([run]))}
    assert dict(labels)["run"] == "'a\\\"b\\\\c d'"


@pytest.mark.parametrize("name", conftest.ALL)
def test_any_record_keeps_to_the_grammar(name: str) -> None:
    run: Run = conftest.ALL[name]()
    assert parse(openmetrics.render([run]))


def test_no_run_is_an_empty_exposition() -> None:
    assert openmetrics.render([]) == "# EOF\n"
