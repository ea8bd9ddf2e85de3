"""What `pytest --emt` does: one meter for the session, a stopwatch around each test, a table at the end.

The meter is in pytest's main process. Under pytest-xdist the workers are its descendants, so it sees the CPU
time of all of them and the machine's energy once, however many they are; nothing is summed over workers. A
worker only clocks its tests, and its reports carry that to the main process: start and end on the monotonic
clock, which all processes of a machine share, and CPU seconds (the process's own, its threads', and those of
children that were waited for). A test of a worker on another machine has no joules.

Who gets what: see `analysis.stretches`. Setup and teardown are the test's; a fixture of a module or session
is of the test that it was set up or torn down for. What was used between tests (imports, collection, pytest
itself) is outside of tests, and tests and outside add up to the session.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from emt_cli import units
from emt_cli.api import spent_s
from emt_cli.values import Value

if TYPE_CHECKING:
    from emt_cli.api import Meter, MeterEnergy
    from emt_cli.sensors.base import Machine

MACHINE: pytest.StashKey[Machine] = pytest.StashKey()
"""A plugin's own tests put the machine here, in `config.stash`, that is measured instead of the real one."""
_CLOCKED = "emt_clocked"
"""The attribute of a test's last report; plain floats in a list, since it may travel between processes."""
_ANNOUNCED = frozenset({"estimated", "sensor_denied", "sensor_stuck", "coverage"})
"""Warnings of the record that are worth a line below the table."""


class PerTest(Value):
    """One test: what it used and how it ended."""

    nodeid: str
    energy_j: float | None
    low_j: float | None
    high_j: float | None
    cpu_s: float
    wall_s: float
    outcome: str
    is_coarse: bool


class Clocked:
    """A test as it comes in, report by report; a repeated one is the sum of its attempts."""

    def __init__(self) -> None:
        self.outcome = "passed"
        self.stretches: list[tuple[float, float, float]] = []


def register(config: pytest.Config) -> None:
    """Raises UsageError for options that cannot be."""
    config.pluginmanager.register(Stopwatch(), "emt-stopwatch")
    if hasattr(config, "workerinput"):
        return
    top, path = config.getoption("--emt-top"), config.getoption("--emt-json")
    if top < 0:
        raise pytest.UsageError("--emt-top: how many tests to show, 0 or more")
    if path and (os.path.isdir(path) or not os.path.isdir(os.path.dirname(os.path.abspath(path)))):
        raise pytest.UsageError(f"--emt-json: {path} cannot be written: no such folder, or a folder itself")
    config.pluginmanager.register(
        SessionMeter(config, top, os.path.abspath(path) if path else ""), "emt-session"
    )


class Stopwatch:
    """Clocks tests in the process that runs them."""

    def __init__(self) -> None:
        self._begun = (0.0, 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._begun = time.monotonic(), spent_s()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
        outcome = yield
        if call.when == "teardown":
            now, cpu_s = time.monotonic(), spent_s()
            setattr(outcome.get_result(), _CLOCKED, [self._begun[0], now, cpu_s - self._begun[1]])
            self._begun = now, cpu_s


class SessionMeter:
    """Measures the session in pytest's main process, gathers the tests, and tells."""

    def __init__(self, config: pytest.Config, top: int, path: str) -> None:
        self._config = config
        self._top = top
        self._path = path
        self._tests: dict[str, Clocked] = {}
        self._meter: Meter | None = None
        self._rows: list[PerTest] = []
        self._failure = ""
        self._pid = os.getpid()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        from emt_cli.api import Meter

        self._meter = Meter(name="pytest", machine=self._config.stash.get(MACHINE, None)).start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._tests.setdefault(report.nodeid, Clocked())
        if (outcome := _outcome(report)) != "passed" or report.when == "call":
            test.outcome = outcome
        clocked = getattr(report, _CLOCKED, None)
        if clocked is not None and _is_here(report):
            test.stretches.append(tuple(clocked))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self._meter is None or os.getpid() != self._pid:  # a test has forked, and its child came this far
            return
        self._meter.stop()
        self._rows = _rows(self._meter, self._tests)
        if self._path:
            self._write()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._meter is None:
            return
        terminalreporter.section("energy (emt)")
        for line in _lines(self._meter, self._rows, self._top):
            terminalreporter.line(line)
        if self._path:
            terminalreporter.line(self._failure or f"every test: {self._path}")

    def _write(self) -> None:
        import json

        assert self._meter is not None
        told = json.dumps(_document(self._meter, self._rows), indent=1)
        try:
            with open(self._path, "w", encoding="utf-8") as file:
                file.write(told + "\n")
        except OSError as error:
            self._failure = f"{self._path} could not be written: {error.strerror}"


def _is_here(report: pytest.TestReport) -> bool:
    """Whether the test ran on this machine: pytest-xdist can have workers on others."""
    node = getattr(report, "node", None)
    return node is None or bool(node.gateway.spec.popen)


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return "error" if report.failed and report.when != "call" else report.outcome


def _rows(meter: Meter, tests: dict[str, Clocked]) -> list[PerTest]:
    """Every test that was clocked here, the largest first."""
    owners = [nodeid for nodeid, test in tests.items() for _ in test.stretches]
    stretches = [stretch for test in tests.values() for stretch in test.stretches]
    parts: dict[str, list[MeterEnergy]] = {nodeid: [] for nodeid in tests}
    for nodeid, energy in zip(owners, meter.energies(stretches), strict=True):
        parts[nodeid].append(energy)
    rows = [
        PerTest(
            nodeid=nodeid,
            energy_j=_sum([part.attributed_j for part in parts[nodeid]]),
            low_j=_sum([part.low_j for part in parts[nodeid]]),
            high_j=_sum([part.high_j for part in parts[nodeid]]),
            cpu_s=sum(cpu_s for _, _, cpu_s in test.stretches),
            wall_s=sum(end_s - start_s for start_s, end_s, _ in test.stretches),
            outcome=test.outcome,
            is_coarse=all(part.is_coarse for part in parts[nodeid]),
        )
        for nodeid, test in tests.items()
    ]
    return sorted(rows, key=lambda row: row.energy_j or 0.0, reverse=True)


def _sum(values: list[float | None]) -> float | None:
    """Unknown if any part is, or if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _outside_j(meter: Meter, rows: list[PerTest]) -> float | None:
    whole_j = meter.energy.attributed_j
    return None if whole_j is None else max(0.0, whole_j - sum(row.energy_j or 0.0 for row in rows))


# --- telling ----------------------------------------------------------------------------------------


def _lines(meter: Meter, rows: list[PerTest], top: int) -> list[str]:
    energy = meter.energy
    if energy.attributed_j is None:
        return [f"no energy: {energy.reason}"]
    machine = "" if energy.machine_j is None else f"; the machine used {units.energy(energy.machine_j)}"
    inside_j = sum(row.energy_j or 0.0 for row in rows)
    took = units.duration(energy.duration_s)
    said = [
        f"session  {_with_bounds(energy.attributed_j, energy.low_j, energy.high_j)}, {energy.provenance}, "
        f"in {took}{machine}",
        f"tests    {units.energy(inside_j)}, outside of tests {units.energy(_outside_j(meter, rows) or 0.0)}",
    ]
    shown = rows[:top]
    if shown:
        said += [
            "",
            f"{'energy':>10}  {'CPU':>9}  {'time':>9}  slowest {len(shown)} of {len(rows)}, in joules",
        ]
        said += [_line(row) for row in shown]
    if any(row.is_coarse for row in shown):
        said.append("~ shorter than 0.05 s: its own power was not seen, only its CPU time")
    return said + _warnings(meter)


def _line(row: PerTest) -> str:
    mark = "~" if row.is_coarse else ""
    joules = "unknown" if row.energy_j is None else f"{mark}{units.energy(row.energy_j)}"
    return f"{joules:>10}  {row.cpu_s:>7.3f} s  {row.wall_s:>7.3f} s  {row.nodeid}"


def _with_bounds(value_j: float, low_j: float | None, high_j: float | None) -> str:
    if low_j is None or high_j is None or high_j <= low_j:
        return units.energy(value_j)
    return f"{units.energy(value_j)} ({units.energy_range(low_j, high_j)})"


def _warnings(meter: Meter) -> list[str]:
    notices = meter.run.notices if meter.run is not None else ()
    told = [each for each in notices if each.code in _ANNOUNCED]
    return ["", *(f"{each.text}; {each.hint}" if each.hint else each.text for each in told)] if told else []


def _document(meter: Meter, rows: list[PerTest]) -> dict[str, Any]:
    energy = meter.energy
    return {
        "format": 1,
        "session": {
            "attributed_j": energy.attributed_j,
            "low_j": energy.low_j,
            "high_j": energy.high_j,
            "machine_j": energy.machine_j,
            "outside_j": _outside_j(meter, rows),
            "provenance": energy.provenance,
            "duration_s": energy.duration_s,
            "reason": energy.reason,
        },
        "tests": [{name: getattr(row, name) for name in PerTest.__slots__} for row in rows],
    }
