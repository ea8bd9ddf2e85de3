"""JUnit XML: what a test reporter finds in it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from emt_cli.exporters import junit
from emt_cli.model import Execution, Exit, Run
from tests.reports import conftest


def suites(*runs: Run) -> ElementTree.Element:
    return ElementTree.fromstring(junit.render(runs))


def properties(case: ElementTree.Element) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in case.iterfind("properties/property")}


def repeated(*codes: int) -> Run:
    executions = tuple(
        Execution(start_s=at, duration_s=1.5, exit=Exit(code=code), machine_j=9.0, attributed_j=4.0 + at)
        for at, code in enumerate(codes)
    )
    return replace(conftest.measured(), executions=executions)


def test_a_run_is_a_suite_with_a_case_that_tells_its_joules() -> None:
    root = suites(conftest.measured())
    assert root.attrib == {"name": "emt", "tests": "1", "failures": "0", "errors": "0", "time": "12.340"}
    [suite] = root
    assert suite.attrib["timestamp"] == "2025-01-02T10:11:12"
    case = suite.find("testcase")
    assert case is not None
    assert case.attrib["time"] == "12.340"
    assert "train.py" in case.attrib["name"]
    told = properties(case)
    assert float(told["energy_j"]) == 1819.2
    assert (told["energy_of"], told["provenance"]) == ("attributed", "measured")
    assert float(told["energy_low_j"]) < float(told["energy_j"]) < float(told["energy_high_j"])
    assert float(told["mean_power_w"]) == pytest.approx(1819.2 / 12.34)


def test_what_people_read_of_the_run_is_its_output() -> None:
    output = suites(conftest.estimated()).findtext("testsuite/system-out")
    assert output is not None
    assert "41.3 J (20.1 to 42.0 J)" in output
    assert "estimated" in output


def test_a_command_that_failed_is_a_failed_case() -> None:
    root = suites(conftest.measured(), conftest.estimated(), conftest.killed())
    assert (root.attrib["tests"], root.attrib["failures"]) == ("3", "2")
    messages = [failure.attrib["message"] for failure in root.iter("failure")]
    assert messages == ["exit 1", "killed by SIGKILL (9)"]


def test_each_execution_of_a_repeated_run_is_a_case() -> None:
    [suite] = suites(repeated(0, 3, 0))
    cases = suite.findall("testcase")
    assert [case.attrib["name"].rpartition(" ")[2] for case in cases] == ["[1]", "[2]", "[3]"]
    assert [properties(case)["energy_j"] for case in cases] == ["4.0", "5.0", "6.0"]
    assert [case.find("failure") is not None for case in cases] == [False, True, False]
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "1")


def test_with_the_machines_scope_the_machines_joules_are_told() -> None:
    [suite] = suites(conftest.killed())
    told = properties(suite[0])
    assert (told["energy_of"], float(told["energy_j"])) == ("machine", 2956.0)


def test_what_is_unknown_has_no_property() -> None:
    [suite] = suites(conftest.bare())
    assert "energy_j" not in properties(suite[0])


@pytest.mark.parametrize("name", conftest.ALL)
def test_any_record_gives_a_document_that_a_parser_takes(name: str) -> None:
    text = junit.render([conftest.ALL[name]()])
    assert text.isascii()
    [suite] = ElementTree.fromstring(text)
    assert len(suite.attrib["name"]) <= 120
