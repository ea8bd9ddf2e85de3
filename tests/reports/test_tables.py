"""Rows, columns and the power curve, before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.model import CpuTime, Process
from emt_cli.reports import curve
from emt_cli.reports.columns import GAP, Column, fit
from emt_cli.reports.phrases import energy_and_bounds, energy_with_bounds, mass_with_bounds
from emt_cli.reports.tables import cpu_shared_j, energy_rows, process_rows, total_rows
from emt_cli.reports.words import cells
from tests.reports import conftest

# --- energy -----------------------------------------------------------------------------------------


def test_a_channel_stands_below_the_one_that_contains_it_and_the_platform_last() -> None:
    rows = energy_rows(conftest.measured())
    labels = [(row.label, row.depth) for row in rows]
    assert labels[:3] == [("cpu0/package", 0), ("cpu0/core", 1), ("cpu0/dram", 0)]
    assert labels[-1] == ("node/psys", 0)
    notes = {row.label: row.note for row in rows if not row.is_counted}
    assert notes == {
        "cpu0/core": "in cpu0/package",
        "cpu1/core": "in cpu1/package",
        "cpu0/package-mmio": "mirror of cpu0/package",
        "node/psys": "whole node",
    }


def test_channels_that_contain_each_other_are_all_shown_once() -> None:
    run = conftest.measured()
    inside = {"cpu0/package": "cpu0/core", "cpu0/core": "cpu0/package"}
    channels = tuple(replace(c, within=inside.get(c.id, c.within)) for c in run.channels)
    rows = energy_rows(replace(run, channels=channels))
    assert sorted(row.label for row in rows) == sorted(channel.id for channel in run.channels)


def test_channels_that_are_there_twice_do_not_multiply_with_their_depth() -> None:
    run = conftest.measured()
    assert run.energy is not None
    deep = [f"c{n}" for n in range(60)] * 2
    channels = tuple(conftest.channel(id, "core", within=f"c{int(id[1:]) - 1}") for id in deep)
    energies = tuple(conftest.channel_energy(id, "core", 1.0, 1.0) for id in deep)
    rows = energy_rows(replace(run, channels=channels, energy=replace(run.energy, channels=energies)))
    assert [row.label for row in rows] == deep[:60]


def test_a_gap_is_noted_on_its_channel() -> None:
    run = conftest.measured()
    assert run.energy is not None
    channels = tuple(replace(c, gap_s=1.5) if c.id == "gpu0" else c for c in run.energy.channels)
    rows = energy_rows(replace(run, energy=replace(run.energy, channels=channels)))
    assert "1.5 s not read" in next(row.note for row in rows if row.label == "gpu0")


def test_the_rest_of_the_machine_is_the_platform_less_its_components() -> None:
    energy = conftest.measured().energy
    assert energy is not None
    assert {row.label: row.machine for row in total_rows(energy)} == {
        "total": "2.96 kJ",
        "rest of the machine": "454 J",
        "platform": "3.41 kJ",
    }


def test_a_platform_sensor_that_sees_less_than_the_components_has_no_rest() -> None:
    energy = conftest.measured().energy
    assert energy is not None
    labels = [row.label for row in total_rows(replace(energy, platform_j=1000.0))]
    assert labels == ["total", "platform"]


# --- processes --------------------------------------------------------------------------------------


def test_processes_share_out_cpu_and_memory_but_not_the_gpu() -> None:
    assert cpu_shared_j(conftest.measured()) == pytest.approx(2 * (301.2 + 33.4))


def test_the_parts_of_the_process_table_make_up_the_whole() -> None:
    rows = process_rows(conftest.estimated())
    assert [row.command for row in rows] == [
        "pytest -q",
        "/usr/lib/gcc/cc1 -o x",
        "(too short-lived to be listed)",
    ]
    assert [row.cpu for row in rows] == ["9.00", "0.41", "2.39"]
    assert [row.share for row in rows] == ["76.3 %", "3.5 %", "20.3 %"]
    assert rows[0].energy == "31.5 J"


def test_beyond_ten_processes_the_rest_is_one_row() -> None:
    rows = process_rows(conftest.measured())
    assert len([row for row in rows if row.pid]) == 10
    assert rows[10].command == "(4 more)"
    assert [row.pid for row in rows[:2]] == ["4243", "4244"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.one_of(st.none(), st.floats(0, 1e6)))
def test_shares_never_exceed_the_whole(times: list[float], tree_s: float | None) -> None:
    processes = tuple(Process(pid=n, ppid=0, name="x", cpu_s=cpu_s) for n, cpu_s in enumerate(times))
    run = replace(conftest.measured(), processes=processes, cpu_time=CpuTime(tree_s=tree_s))
    shares = [float(row.share.rstrip(" %")) for row in process_rows(run) if row.share]
    assert sum(shares) <= 100 + 0.05 * len(shares) + 1e-6


def test_without_energy_processes_have_cpu_seconds_and_no_joules() -> None:
    rows = process_rows(conftest.recovered())
    assert rows and all(row.energy == "" and row.cpu for row in rows)


# --- numbers ----------------------------------------------------------------------------------------


def test_bounds_are_a_half_width_where_they_are_symmetric_and_two_ends_where_not() -> None:
    assert energy_with_bounds(41.3, 2.1, None, None) == "41.3 J ± 2.1"
    assert energy_with_bounds(41.3, None, 39.2, 43.4) == "41.3 J ± 2.1"
    assert energy_with_bounds(41.3, None, 20.1, 42.0) == "41.3 J (20.1 to 42.0 J)"
    assert energy_with_bounds(41.3, None, None, None) == "41.3 J"
    assert energy_with_bounds(None, 1.0, 1.0, 2.0) == ""
    assert energy_with_bounds(math.nan, 1.0, 1.0, 2.0) == ""
    assert energy_with_bounds(41.3, math.nan, math.inf, 42.0) == "41.3 J"
    assert energy_and_bounds(41.3, 2.1, None, None) == ("41.3 J", "± 2.1")
    assert energy_and_bounds(41.3, None, 20.1, 42.0) == ("41.3 J", "20.1 to 42.0 J")
    assert energy_and_bounds(41.3, None, None, None) == ("41.3 J", "")
    assert mass_with_bounds(0.0051, 0.0026, 0.0055) == "5.10 mg (2.60 to 5.50 mg)"


# --- columns ----------------------------------------------------------------------------------------

COLUMNS = (Column("name", "name"), Column("joules", "number"), Column("command", "command"))


@given(st.lists(st.tuples(st.text("ab 漢", max_size=60), st.text("ab /", max_size=90)), max_size=5))
def test_soft_columns_give_way_until_the_table_fits(texts: list[tuple[str, str]]) -> None:
    rows = [[name, "1.819 kJ", command] for name, command in texts]
    for width in (40, 80):
        shown = fit(COLUMNS, rows, width)
        widest = [max([0, *(cells(row[index]) for row in shown)]) for index in range(3)]
        assert sum(widest) + 2 * GAP <= width
        assert all(row[1] == "1.819 kJ" for row in shown)


def test_a_table_that_fits_is_left_alone() -> None:
    rows = [["cpu0", "1 J", "python x"]]
    assert fit(COLUMNS, rows, 80) == rows


# --- the curve --------------------------------------------------------------------------------------


def test_resampling_keeps_the_mean() -> None:
    points = [(0.1 * n, float(n % 7)) for n in range(100)]
    values = curve.resample(points, 10.0, 37)
    mean = sum(watts for _, watts in points) / 100
    assert all(value is not None for value in values)
    assert sum(value for value in values if value is not None) / 37 == pytest.approx(mean)


def test_a_few_points_are_held_over_all_columns() -> None:
    assert curve.resample([(0.0, 1.0), (5.0, 3.0)], 10.0, 4) == [1.0, 1.0, 3.0, 3.0]


def test_what_is_no_power_is_unknown_not_zero() -> None:
    points = [(0.0, math.nan), (5.0, -3.0), (7.5, 2.0)]
    assert curve.resample(points, 10.0, 4) == [None, None, None, 2.0]


@given(
    st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True)), max_size=20),
    st.floats(allow_nan=True),
    st.integers(0, 50),
)
def test_any_curve_of_a_damaged_record_is_drawn_or_left_out(
    points: list[tuple[float, float]], end_s: float, columns: int
) -> None:
    values = curve.resample(points, end_s, columns)
    assert len(values) in (0, columns)
    rows = curve.draw(values, top=100.0, rows=3, blocks=True)
    assert all(len(row) == len(values) for row in rows)


def test_bars_stand_on_zero_and_reach_the_top() -> None:
    assert curve.draw([0.0, 50.0, 100.0, None], top=100.0, rows=2, blocks=True) == ["  █ ", " ██ "]
    assert curve.draw([100.0, 1.0], top=100.0, rows=1, blocks=False) == ["#."]
