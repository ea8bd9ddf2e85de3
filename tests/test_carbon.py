"""Which grid, and how many grams: the order of the sources, every spelling, the bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli import data
from emt_cli.analysis.carbon import account, find_grid
from emt_cli.errors import NotFoundError, UsageError
from emt_cli.model import ChannelEnergy, Energy, Grid, Settings


def grid(
    location: str | None = None,
    *,
    intensity: float | None = None,
    timezone: str = "",
    location_source: str = "flag",
    intensity_source: str = "config",
) -> Grid:
    return find_grid(
        location=location,
        location_source=location_source,
        intensity=intensity,
        intensity_source=intensity_source,
        timezone=timezone,
    )


# --- where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("FR", "FR"),
        ("fr", "FR"),
        (" fra ", "FR"),
        ("France", "FR"),
        ("UK", "GB"),
        ("united kingdom", "GB"),
        ("USA", "US"),
        ("Cote d'Ivoire", "CI"),
        ("CÔTE D\u2019IVOIRE", "CI"),
        ("Österreich", "AT"),
        ("reunion", "RE"),
        ("South Korea", "KR"),
        ("czechia", "CZ"),
        ("EU", "EU27"),
        ("eu27", "EU27"),
        ("World", "WORLD"),
        ("north america", "NORTH_AMERICA"),
    ],
)
def test_a_place_is_known_by_any_of_its_spellings(spelling: str, code: str) -> None:
    found = grid(spelling, timezone="Asia/Tokyo")
    assert (found.location, found.location_source) == (code, "flag")
    assert found.intensity_source == "table"


def test_every_code_and_name_of_the_table_finds_its_own_row() -> None:
    for row in data.rows("carbon_intensity_country"):
        for spelling in (row["alpha2"], row["alpha3"], row["name"], *filter(None, row["aliases"].split(";"))):
            assert grid(spelling).location == row["alpha2"], spelling


def test_the_source_of_the_location_is_passed_through() -> None:
    assert grid("SE", location_source="environment").location_source == "environment"


def test_a_grid_carries_dataset_year_and_scope() -> None:
    found = grid("PL")
    assert found.intensity_g_per_kwh == 615.0
    assert found.location_name == "Poland"
    assert found.dataset == "Ember Yearly Electricity Data (August 2025)"
    assert found.year == 2024
    assert found.scope == "life-cycle"


def test_a_stand_in_says_whose_value_it_is() -> None:
    found = grid("Monaco")
    assert found.intensity_g_per_kwh == grid("FR").intensity_g_per_kwh
    assert found.dataset == "Ember Yearly Electricity Data (August 2025), value of FR"


@pytest.mark.parametrize(
    ("timezone", "code"),
    [
        ("Europe/Paris", "FR"),
        (":Europe/Paris", "FR"),
        ("/usr/share/zoneinfo/Europe/Paris", "FR"),
        ("posix/Asia/Kolkata", "IN"),
        ("US/Eastern", "US"),
        ("Iceland", "IS"),
    ],
)
def test_without_a_location_the_time_zone_tells_the_country(timezone: str, code: str) -> None:
    found = grid(timezone=timezone)
    assert (found.location, found.location_source) == (code, "time zone")


@pytest.mark.parametrize("timezone", ["", "UTC", "Etc/UTC", "Etc/GMT+3", "CET-1CEST", "nowhere", "a,b"])
def test_without_a_country_it_is_the_world_and_says_so(timezone: str) -> None:
    found = grid(timezone=timezone)
    assert (found.location, found.location_source) == ("WORLD", "world average")
    assert found.intensity_g_per_kwh == pytest.approx(472.9)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("Frnce", "FR (France)"), ("Polnd", "PL (Poland)"), ("US-CA", "US (United States)"), ("DEE", "DE")],
)
def test_an_unknown_place_is_an_error_that_suggests_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        grid(wrong, timezone="Europe/Paris")
    assert repr(wrong) in str(caught.value)
    assert near in caught.value.hint
    assert caught.value.hint.count("(") <= 3


def test_a_place_like_no_other_still_gets_a_hint() -> None:
    with pytest.raises(NotFoundError) as caught:
        grid("qqqqqq")
    assert "WORLD" in caught.value.hint


@given(st.text())
def test_any_text_is_a_place_or_a_clear_error(text: str) -> None:
    try:
        assert grid(text).intensity_g_per_kwh > 0
    except NotFoundError as error:
        assert error.hint


# --- how dirty --------------------------------------------------------------------------------------


def test_an_explicit_intensity_wins_over_the_table() -> None:
    found = grid("FR", intensity=12.5)
    assert found.intensity_g_per_kwh == 12.5
    assert (found.intensity_source, found.dataset, found.year) == ("config", "given by the user", None)
    assert (found.location, found.location_name, found.location_source) == ("FR", "France", "flag")


def test_an_explicit_intensity_needs_no_place() -> None:
    assert grid(intensity=12.5).location_source == "unknown"
    assert grid(intensity=12.5, timezone="Europe/Paris").location_source == "time zone"
    assert grid("my data centre", intensity=12.5).location == "my data centre"


@pytest.mark.parametrize("intensity", [0.0, -1.0, math.nan, math.inf, -math.inf, 5000.1])
def test_an_impossible_intensity_is_refused(intensity: float) -> None:
    with pytest.raises(UsageError) as caught:
        grid("FR", intensity=intensity)
    assert caught.value.hint


@pytest.mark.parametrize("intensity", [1e-3, 1.0, 5000.0])
def test_a_possible_intensity_is_taken(intensity: float) -> None:
    assert grid("FR", intensity=intensity).intensity_g_per_kwh == intensity


# --- how much ---------------------------------------------------------------------------------------

ENERGY = Energy(
    machine_j=7.2e6,
    machine_low_j=6.0e6,
    machine_high_j=9.0e6,
    attributed_j=3.6e6,
    low_j=1.8e6,
    high_j=5.4e6,
)
PSYS = ChannelEnergy(
    id="node/psys",
    device="node",
    domain="psys",
    is_counted=False,
    provenance="measured",
    rule="share",
    machine_j=9e6,
    machine_low_j=8e6,
    machine_high_j=10e6,
    attributed_j=4e6,
    low_j=3e6,
    high_j=5e6,
)
WITH_PLATFORM = Energy(
    machine_j=7.2e6, machine_low_j=6.0e6, machine_high_j=9.0e6, platform_j=9e6, channels=(PSYS,)
)


def test_grams_are_kilowatt_hours_times_pue_times_intensity() -> None:
    carbon = account(ENERGY, grid("FR", intensity=100.0), Settings(pue=1.5, pue_source="flag"))
    assert carbon is not None
    assert carbon.basis == "attributed"
    assert (carbon.co2e_g, carbon.low_g, carbon.high_g) == pytest.approx((150.0, 75.0, 225.0))
    assert (carbon.energy_j, carbon.pue, carbon.pue_source) == (3.6e6, 1.5, "flag")
    assert (carbon.location, carbon.intensity_g_per_kwh) == ("FR", 100.0)


def test_with_scope_machine_the_machines_energy_counts() -> None:
    carbon = account(ENERGY, grid(intensity=100.0), Settings(scope="machine"))
    assert carbon is not None
    assert carbon.basis == "machine"
    assert (carbon.co2e_g, carbon.low_g, carbon.high_g) == pytest.approx((200.0, 500 / 3, 250.0))


def test_the_platform_counts_only_where_it_was_asked_for_and_seen() -> None:
    asked = Settings(scope="machine", total="platform")
    carbon = account(WITH_PLATFORM, grid(intensity=100.0), asked)
    assert carbon is not None
    assert (carbon.basis, carbon.energy_j) == ("platform", 9e6)
    assert (carbon.low_g, carbon.high_g) == pytest.approx((8e6 / 36e3, 10e6 / 36e3))
    unseen = account(ENERGY, grid(intensity=100.0), asked)
    assert unseen is not None
    assert unseen.basis == "machine"
    not_asked = account(WITH_PLATFORM, grid(intensity=100.0), Settings(scope="machine"))
    assert not_asked is not None
    assert not_asked.basis == "machine"


def test_a_machine_that_has_only_a_platform_sensor_uses_it() -> None:
    only = Energy(platform_j=9e6, channels=(PSYS,))
    carbon = account(only, grid("FR"), Settings(scope="machine"))
    assert carbon is not None
    assert carbon.basis == "platform"


@pytest.mark.parametrize("settings", [Settings(), Settings(scope="machine")])
def test_unknown_energy_is_no_carbon_rather_than_zero(settings: Settings) -> None:
    assert account(Energy(), grid("FR"), settings) is None


def test_no_energy_is_zero_grams_and_no_comparison() -> None:
    carbon = account(Energy(attributed_j=0.0, low_j=0.0, high_j=0.0), grid("FR"), Settings())
    assert carbon is not None
    assert carbon.co2e_g == 0
    assert carbon.equivalents == ()


def test_comparisons_include_the_overhead_of_the_building() -> None:
    carbon = account(ENERGY, grid(intensity=100.0), Settings(pue=2.0))
    assert carbon is not None
    assert len(carbon.equivalents) == 2
    kettle = next(entry for entry in carbon.equivalents if entry.id == "kettle_boil")
    assert kettle.amount == pytest.approx(2.0 / 0.11)


@given(
    st.floats(min_value=0, max_value=1e12),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=1, max_value=3),
    st.floats(min_value=1, max_value=2),
)
def test_the_bounds_enclose_the_value(joules: float, low: float, high: float, pue: float) -> None:
    energy = Energy(attributed_j=joules, low_j=joules * low, high_j=joules * high)
    carbon = account(energy, grid("WORLD"), Settings(pue=pue))
    assert carbon is not None
    assert carbon.low_g <= carbon.co2e_g <= carbon.high_g
