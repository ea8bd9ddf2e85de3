"""JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it: a suite a run, a case an execution.

The joules are properties of each case, with a unit in every name. The schema is the Jenkins plugin's
(jenkinsci/xunit-plugin, junit-10.xsd), with properties inside a case as pytest writes them. A command that
failed is a failed case: measuring does not make it green.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from emt_cli.exporters.figures import figures, title
from emt_cli.model import Execution, Exit, Run
from emt_cli.reports.phrases import finite, has_failed, signal_name
from emt_cli.reports.summary import lines
from emt_cli.reports.words import clean

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def render(runs: Sequence[Run]) -> str:
    """The document; pure ASCII, so that its declaration is true wherever it is written."""
    from xml.etree.ElementTree import Element, indent, tostring

    suites = [_suite(run) for run in runs]
    root = Element("testsuites", {"name": "emt", **_counts(suites)})
    root.extend(suites)
    indent(root)
    document: bytes = tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii") + "\n"


def _suite(run: Run) -> Element:
    from xml.etree.ElementTree import Element, SubElement

    cases = list(_cases(run))
    failed = sum(case.find("failure") is not None for case in cases)
    suite = Element(
        "testsuite",
        name=title(run),
        tests=str(len(cases)),
        failures=str(failed),
        errors="0",
        skipped="0",
        time=_number(figures(run).duration_s),
        timestamp=clean(run.started_at)[:19],
        hostname=clean(run.host.node),
    )
    suite.extend(cases)
    said = SubElement(suite, "system-out")
    said.text = "\n".join(lines(run, stored=None, encoding="ascii"))
    return suite


def _cases(run: Run) -> Iterator[Element]:
    if not run.executions:
        yield _case(title(run), finite(run.duration_s), run.exit, _properties(run))
    for number, execution in enumerate(run.executions, 1):
        took, facts = finite(execution.duration_s), _properties_of(execution, run)
        yield _case(f"{title(run)} [{number}]", took, execution.exit, facts)


def _case(name: str, took_s: float | None, ended: Exit, facts: dict[str, float | str | None]) -> Element:
    from xml.etree.ElementTree import Element, SubElement

    case = Element("testcase", classname="emt", name=name, time=_number(took_s or 0.0))
    properties = SubElement(case, "properties")
    for fact, value in facts.items():
        if value is not None:
            SubElement(properties, "property", name=fact, value=_text(value))
    if has_failed(ended):
        killed = "" if ended.signal is None else f"killed by {signal_name(ended.signal)}"
        SubElement(case, "failure", type="exit", message=killed or f"exit {ended.code}")
    return case


def _properties(run: Run) -> dict[str, float | str | None]:
    said = figures(run)
    return {
        "energy_j": said.energy_j,
        "energy_low_j": said.low_j,
        "energy_high_j": said.high_j,
        "energy_of": said.basis,
        "machine_j": said.machine_j,
        "mean_power_w": said.power_w,
        "co2e_g": said.co2e_g,
        "provenance": said.provenance or None,
    }


def _properties_of(execution: Execution, run: Run) -> dict[str, float | str | None]:
    """An execution's own joules; of its bounds only the tree's are known."""
    is_tree = run.settings.scope == "tree"
    return {
        "energy_j": finite(execution.attributed_j if is_tree else execution.machine_j),
        "energy_low_j": finite(execution.low_j) if is_tree else None,
        "energy_high_j": finite(execution.high_j) if is_tree else None,
        "energy_of": "attributed" if is_tree else "machine",
        "machine_j": finite(execution.machine_j),
        "provenance": figures(run).provenance or None,
    }


def _counts(suites: Sequence[Element]) -> dict[str, str]:
    counts = {
        name: str(sum(int(suite.get(name, "0")) for suite in suites))
        for name in ("tests", "failures", "errors")
    }
    return {**counts, "time": _number(sum(float(suite.get("time", "0")) for suite in suites))}


def _number(value: float) -> str:
    return f"{value:.3f}"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(float(value))
