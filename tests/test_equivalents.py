"""Everyday comparisons: readable at any size, deterministic, by the right factor."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.equivalents import equivalents

grams = st.floats(min_value=1e-9, max_value=1e12)
intensities = st.floats(min_value=5, max_value=1500)


@given(grams, intensities)
def test_any_mass_gets_a_comparison_that_can_be_pictured(co2e_g: float, intensity: float) -> None:
    found = equivalents(co2e_g, co2e_g / intensity, intensity)
    assert found
    for equivalent in found:
        assert 0.1 <= equivalent.amount <= 1000
        assert "0.0000" not in equivalent.text
        assert "{" not in equivalent.text
        assert any(digit in equivalent.text for digit in "123456789")
        assert equivalent.unit
        assert equivalent.source


@given(grams, intensities)
def test_the_same_input_gives_the_same_answer(co2e_g: float, intensity: float) -> None:
    assert equivalents(co2e_g, None, intensity) == equivalents(co2e_g, None, intensity)


@given(grams, intensities, st.integers(min_value=0, max_value=5))
def test_no_more_than_asked_for_and_never_the_same_twice(co2e_g: float, intensity: float, count: int) -> None:
    found = equivalents(co2e_g, None, intensity, count)
    assert len(found) <= count
    assert len({equivalent.id for equivalent in found}) == len(found)


@pytest.mark.parametrize("co2e_g", [0.0, -1.0, math.nan, math.inf])
def test_no_mass_no_comparison(co2e_g: float) -> None:
    assert equivalents(co2e_g, 1.0, 100.0) == ()


def test_a_drive_is_compared_by_its_grams() -> None:
    found = {equivalent.id: equivalent for equivalent in equivalents(1750.0, None, None, count=5)}
    assert found["car_km_eu"].amount == pytest.approx(10.0)
    assert found["car_km_eu"].unit == "km"
    assert found["car_km_eu"].text == "driving 10 km in an average European car"


def test_a_kettle_is_compared_by_its_energy_whatever_the_grid() -> None:
    for intensity in (44.2, 615.0):
        found = {entry.id: entry for entry in equivalents(0.22 * intensity, 0.22, intensity, count=9)}
        assert found["kettle_boil"].amount == pytest.approx(2.0)
        assert found["kettle_boil"].text == "boiling 2.0 litres of water in a kettle"


def test_energy_is_not_made_up_where_it_is_unknown() -> None:
    ids = {equivalent.id for equivalent in equivalents(100.0, None, None, count=9)}
    assert ids.isdisjoint({"kettle_boil", "led_hour", "phone_charge", "laptop_charge", "shower_electric"})


def test_a_blink_of_a_run_is_told_in_seconds_of_a_lamp() -> None:
    [lamp, *_] = equivalents(10 * 3 / 3.6e6 * 100, 10 * 3 / 3.6e6, 100.0)
    assert lamp.id == "led_hour"
    assert lamp.text == "lighting a 10 W LED lamp for 3.0 s"
    assert lamp.unit == "s"


def test_a_training_run_is_told_in_flights_or_homes() -> None:
    ids = [equivalent.id for equivalent in equivalents(20e6, None, 400.0)]
    assert ids[0] == "flight_paris_newyork"
    assert ids[1].startswith("home_electricity")


def test_the_two_are_of_different_kinds() -> None:
    first, second = equivalents(500.0, None, 400.0)
    assert (first.id, second.id) == ("car_km_eu", "kettle_boil")
