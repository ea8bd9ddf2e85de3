"""The reference tables: ranges, sources, unique keys, spot values, and the two ways of reading them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emt_cli import data

FOLDER = Path(data.__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))


def numbers(table: str, column: str) -> list[float]:
    return [float(row[column]) for row in data.rows(table) if row[column]]


def test_the_tables_that_the_code_reads_are_there() -> None:
    assert TABLES == [
        "carbon_intensity_country",
        "ci_runner",
        "cloud_instance",
        "cpu_identity",
        "cpu_power_model",
        "cpu_tdp",
        "equivalence",
        "gpu_spec",
        "power_coefficient",
        "timezone_country",
    ]


@pytest.mark.parametrize("table", TABLES)
def test_every_row_names_its_source(table: str) -> None:
    rows = data.rows(table)
    assert rows
    assert [row for row in rows if not row["source"]] == []


@pytest.mark.parametrize("table", TABLES)
def test_the_first_column_is_a_unique_key(table: str) -> None:
    keys = [next(iter(row.values())) for row in data.rows(table)]
    assert len(set(keys)) == len(keys)
    assert all(keys)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_told_about_in_sources(table: str) -> None:
    assert f"## {table}.csv" in (FOLDER / "SOURCES.md").read_text(encoding="utf-8")


def test_sources_tells_of_no_table_that_is_not_there() -> None:
    titles = (FOLDER / "SOURCES.md").read_text(encoding="utf-8").splitlines()
    told = {line[3:].removesuffix(".csv") for line in titles if line.startswith("## ") and ".csv" in line}
    assert told == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_find_and_rows_agree_on_every_tenth_row(table: str) -> None:
    for row in data.rows(table)[::10]:
        key = next(iter(row.values()))
        assert data.find(table, key) == row


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_plain_lines_so_that_no_run_needs_a_csv_parser(table: str) -> None:
    raw = (FOLDER / f"{table}.csv").read_bytes()
    assert b"\r" not in raw
    assert b'"' not in raw
    assert raw.endswith(b"\n")


@pytest.mark.parametrize("key", ["", "no such row", "epyc", "xeon", "tdp_w", "key", "a,b", 'a"b', "a\nb"])
def test_a_key_that_is_not_there_is_not_found(key: str) -> None:
    assert data.find("cpu_tdp", key) is None


def test_the_last_row_is_found() -> None:
    last = data.rows("cpu_tdp")[-1]
    assert data.find("cpu_tdp", last["key"]) == last


def test_a_quoted_cell_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.csv").write_text('key,source\none,"here, there"\n')
    monkeypatch.setattr(data, "__file__", os.fspath(tmp_path / "__init__.py"))
    assert data.find("odd", "one") == {"key": "one", "source": "here, there"}
    assert data.rows("odd") == [{"key": "one", "source": "here, there"}]


def test_a_table_that_is_not_there_is_a_mistake_of_ours() -> None:
    with pytest.raises(FileNotFoundError):
        data.rows("nonsense")


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        ("FR", 40, 60),
        ("PL", 580, 750),
        ("SE", 34, 46),
        ("US", 365, 390),
        ("WORLD", 465, 490),
        ("EU27", 200, 225),
        ("IN", 680, 730),
        ("IS", 26, 30),
        ("ZA", 650, 760),
    ],
)
def test_spot_values_of_carbon_intensity(code: str, low: float, high: float) -> None:
    row = data.find("carbon_intensity_country", code)
    assert row is not None
    assert low <= float(row["gco2e_per_kwh"]) <= high


def test_carbon_intensities_are_within_what_grids_can_be() -> None:
    assert all(5 <= value <= 1400 for value in numbers("carbon_intensity_country", "gco2e_per_kwh"))
    assert {row["year"] for row in data.rows("carbon_intensity_country")} <= {"2022", "2023", "2024"}
    assert {row["kind"] for row in data.rows("carbon_intensity_country")} == {"country", "proxy", "aggregate"}


def test_a_stand_in_has_the_value_of_the_country_it_names() -> None:
    for row in data.rows("carbon_intensity_country"):
        if row["kind"] == "proxy":
            neighbour = data.find("carbon_intensity_country", row["source"].removeprefix("proxy:"))
            assert neighbour is not None
            assert neighbour["gco2e_per_kwh"] == row["gco2e_per_kwh"]


def test_every_time_zone_lies_in_a_country_with_an_intensity() -> None:
    codes = {row["alpha2"] for row in data.rows("carbon_intensity_country")}
    assert [row for row in data.rows("timezone_country") if row["country_alpha2"] not in codes] == []


@pytest.mark.parametrize(
    ("timezone", "country"),
    [("Europe/Paris", "FR"), ("Iceland", "IS"), ("US/Pacific", "US"), ("Asia/Calcutta", "IN"), ("ROC", "TW")],
)
def test_spot_values_of_time_zones(timezone: str, country: str) -> None:
    row = data.find("timezone_country", timezone)
    assert row is not None
    assert row["country_alpha2"] == country


def test_server_power_per_thread_is_plausible() -> None:
    for row in data.rows("cpu_power_model"):
        assert 0.1 < float(row["idle_w_per_thread"]) < float(row["full_w_per_thread"]) < 20


def test_load_curves_rise_from_idle_to_full() -> None:
    for row in data.rows("cpu_power_model"):
        curve = [float(word) for word in row["load_curve"].split()]
        assert bool(curve) == (row["n_curves"] != "0")
        assert len(curve) in (0, 9)
        assert [0.0, *curve, 1.0] == sorted({0.0, *curve, 1.0})


def test_a_mean_vcpu_draws_plausible_power() -> None:
    for row in data.rows("cloud_instance"):
        if row["full_w_per_vcpu"]:
            assert 0.5 < float(row["idle_w_per_vcpu"]) < float(row["full_w_per_vcpu"]) < 5


def test_thermal_design_powers_are_plausible() -> None:
    assert all(0.4 < value <= 700 for value in numbers("cpu_tdp", "tdp_w"))
    assert all(1 <= value <= 400 for value in numbers("cpu_tdp", "cores"))
    for row in data.rows("cpu_tdp"):
        assert not row["threads"] or not row["cores"] or int(row["threads"]) >= int(row["cores"])


def test_families_are_named_as_in_the_power_table() -> None:
    families = {row["microarchitecture"] for row in data.rows("cpu_power_model")} | {""}
    assert {row["microarchitecture"] for row in data.rows("cpu_tdp")} <= families
    assert {row["microarchitecture"] for row in data.rows("cpu_identity")} <= families


def test_a_family_is_never_given_to_another_makers_part() -> None:
    for row in data.rows("cpu_tdp"):
        maker = row["microarchitecture"].split(" ")[0]
        brands = {"AMD": ("epyc", "opteron"), "Intel": ("xeon", "core ultra"), "Arm": ("ampere", "nvidia")}
        assert not maker or any(brand in row["key"] for brand in brands[maker]), row


def test_every_identity_leads_to_a_row() -> None:
    for row in data.rows("cpu_identity"):
        assert row["microarchitecture"] or row["tdp_key"]
        assert not row["tdp_key"] or data.find("cpu_tdp", row["tdp_key"]) is not None


def test_memory_coefficients_are_in_order() -> None:
    rows = {row["id"]: float(row["value"]) for row in data.rows("power_coefficient")}
    assert (
        0.2
        < rows["memory_w_per_gb_boavizta"]
        < rows["memory_w_per_gb_green_algorithms"]
        < rows["memory_w_per_gb"]
        < 0.5
    )


def test_accelerators_draw_plausible_power() -> None:
    assert all(5 <= value <= 2000 for value in numbers("gpu_spec", "tdp_w"))
    for row in data.rows("gpu_spec"):
        assert not row["idle_w"] or float(row["idle_w"]) < float(row["tdp_w"])


def test_comparisons_rest_on_verified_or_derived_factors() -> None:
    for row in data.rows("equivalence"):
        assert row["verified"] in ("yes", "derived")
        assert "{n}" in row["text"]
        assert bool(row["kg_co2e_per_unit"]) != bool(row["kwh_per_unit"])
        assert float(row["kg_co2e_per_unit"] or row["kwh_per_unit"]) > 0
        assert 0 < float(row["best_from"]) < float(row["best_to"])
