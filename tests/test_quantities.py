"""What people type is read exactly as meant, or refused with what to write; nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli import units
from emt_cli.errors import UsageError
from emt_cli.quantities import duration_s, energy_j, mass_g, power_w, share

READERS: dict[str, Callable[[str], float]] = {
    "energy": energy_j,
    "mass": mass_g,
    "power": power_w,
    "duration": duration_s,
    "share": share,
}


def refusal(read: Callable[[str], float], text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "joules"),
    [
        ("500J", 500.0),
        ("5 kJ", 5000.0),
        ("1.5MJ", 1.5e6),
        ("2GJ", 2e9),
        ("3 mJ", 0.003),
        ("7uJ", 7e-6),
        ("7 µJ", 7e-6),
        ("7 \u03bcJ", 7e-6),
        ("1Wh", 3600.0),
        ("1 mWh", 3.6),
        ("0.5 kWh", 1.8e6),
        ("1MWh", 3.6e9),
        ("1e3 J", 1000.0),
        ("2.5E-3kJ", 2.5),
        (".5J", 0.5),
        ("5.J", 5.0),
        ("0 J", 0.0),
        ("  12\u00a0J ", 12.0),
        ("12\u202fkJ", 12000.0),
    ],
)
def test_an_energy_is_read_as_joules(text: str, joules: float) -> None:
    assert energy_j(text) == pytest.approx(joules, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("2g", 2.0),
        ("5 mg", 0.005),
        ("5ug", 5e-6),
        ("1.2 kg", 1200.0),
        ("3t", 3e6),
        ("2gCO2e", 2.0),
        ("2 g CO2e", 2.0),
        ("2 kgCO2eq", 2000.0),
        ("2 gCO₂e", 2.0),
        ("2 g co2e", 2.0),
        ("1 t CO2eq ", 1e6),
    ],
)
def test_a_mass_is_read_as_grams_with_or_without_co2e_behind_it(text: str, grams: float) -> None:
    assert mass_g(text) == pytest.approx(grams, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "watts"), [("300W", 300.0), ("1.2 kW", 1200.0), ("35 mW", 0.035), ("9uW", 9e-6), ("2MW", 2e6)]
)
def test_a_power_is_read_as_watts(text: str, watts: float) -> None:
    assert power_w(text) == pytest.approx(watts, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("250 ms", 0.25),
        ("250us", 0.00025),
        ("2m", 120.0),
        ("2 min", 120.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("2m30s", 150.0),
        ("2m 30.5 s", 150.5),
        ("1h 30m", 5400.0),
        ("1 h 05 min", 3900.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1h90m", 9000.0),
        ("1e2 s", 100.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read_as_seconds_also_from_several_parts(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("57 %", 0.57), ("0.5%", 0.005), ("150%", 1.5), ("0%", 0.0)]
)
def test_a_share_is_read_from_percent(text: str, value: float) -> None:
    assert share(text) == value


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "J", "kJ5", "-5 J", "\u22125 J", "+5 J", "nan J", "NaN", "inf", "-inf W", "Infinity s"),
        *("1_000 J", "1 000 J", "1'000 J", "0x10 J", "\u0661\u0662 J", "5 J J", "5 J/s", "1..5 J", "1e J"),
        *("five joules", "5 cal", "5 furlongs", "5 W h", "1:30", "--5", "5\nJ;", "1e999 J", "\x1b[31m5"),
        *("5" * 500, "5 " + "k" * 500),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_units(name: str, text: str) -> None:
    error = refusal(READERS[name], text)
    assert error.exit_code == 2
    assert f"is not a quantity of {name}" in str(error)
    assert "units: " in error.hint
    assert (str(error) + error.hint).isprintable()
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("energy", "µJ, mJ, J, kJ, MJ, GJ, mWh, Wh, kWh, MWh"),
        ("mass", "µg, mg, g, kg, t (CO2e may follow)"),
        ("power", "µW, mW, W, kW, MW"),
        ("duration", "µs, ms, s, min, m, h, d"),
        ("share", "%"),
    ],
)
def test_a_missing_unit_is_refused_with_the_list_and_an_example(name: str, listed: str) -> None:
    error = refusal(READERS[name], "5")
    assert "missing" in str(error)
    assert error.hint.startswith("write for example ")
    assert error.hint.endswith(f"; units: {listed}")


@pytest.mark.parametrize(
    ("read", "text", "meant"),
    [
        (energy_j, "5KJ", "kJ"),
        (energy_j, "5 kj", "kJ"),
        (energy_j, "5 KWH", "kWh"),
        (energy_j, "5 j", "J"),
        (energy_j, "5 mj", "mJ or MJ"),
        (energy_j, "5 UJ", "µJ"),
        (energy_j, "5 mwh", "mWh or MWh"),
        (power_w, "5 w", "W"),
        (mass_g, "5 Kg CO2e", "kg"),
        (mass_g, "5 T", "t"),
        (duration_s, "5 S", "s"),
        (duration_s, "5H", "h"),
    ],
)
def test_the_wrong_case_is_refused_with_the_unit_that_was_meant(
    read: Callable[[str], float], text: str, meant: str
) -> None:
    assert f"did you mean {meant}?" in str(refusal(read, text))


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (energy_j, "300W", "W is a unit of power"),
        (power_w, "2 kWh", "kWh is a unit of energy"),
        (mass_g, "5 J", "J is a unit of energy"),
        (duration_s, "5 g", "g is a unit of mass"),
        (energy_j, "5%", "% is a unit of share"),
        (share, "5 s", "s is a unit of duration"),
    ],
)
def test_a_unit_of_another_quantity_is_named_as_such(
    read: Callable[[str], float], text: str, why: str
) -> None:
    assert why in str(refusal(read, text))


@pytest.mark.parametrize(
    ("read", "text", "write"),
    [
        (energy_j, "1,5 kJ", "write 1.5 kJ; units: "),
        (energy_j, ",5 kJ", "write 0.5 kJ; units: "),
        (energy_j, "1,500 J", "write 1.500 J or 1500 J, whichever was meant; units: "),
        (energy_j, "1.500,5 J", "write the number with a point and no other mark; units: "),
        (power_w, "1,000,000 W", "write the number with a point and no other mark; units: "),
        (duration_s, "2,5s", "write 2.5s; units: "),
        (share, "2,5 %", "write 2.5 %; units: "),
    ],
)
def test_a_decimal_comma_is_never_guessed_at(read: Callable[[str], float], text: str, write: str) -> None:
    error = refusal(read, text)
    assert "comma" in str(error)
    assert error.hint.startswith(write)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("30s2m", "from large to small"),
        ("2m2m", "from large to small"),
        ("2m 3min", "from large to small"),
        ("1.5h 30m", "only the last part may have a fraction"),
        ("2m30", "the unit is missing"),
        ("2m-30s", "'-30s' cannot be read"),
        ("2m and 30s", "'and 30s' cannot be read"),
    ],
)
def test_the_parts_of_a_duration_stand_in_order(text: str, why: str) -> None:
    assert why in str(refusal(duration_s, text))


def test_a_bare_fraction_is_no_share_since_it_could_mean_either() -> None:
    error = refusal(share, "0.05")
    assert "the % is missing" in str(error)
    assert error.hint == "write 5%, or 0.05% if that was meant; units: %"


def test_the_sign_and_the_number_that_is_none_are_told_apart() -> None:
    assert "negative" in str(refusal(energy_j, "-5 J"))
    assert "sign" in str(refusal(energy_j, "+5 J"))
    assert "finite" in str(refusal(energy_j, "inf J"))
    assert "too large" in str(refusal(energy_j, "1e308 GJ"))


@given(st.floats(min_value=1e-6, max_value=1e11))
def test_what_emt_prints_emt_reads(value: float) -> None:
    assert energy_j(units.energy(value)) == pytest.approx(value, rel=0.006)
    assert power_w(units.power(value)) == pytest.approx(value, rel=0.006)
    assert mass_g(units.mass(value)) == pytest.approx(value, rel=0.006)


@given(st.floats(min_value=1.0, max_value=1e7))
def test_a_printed_duration_can_be_read(seconds: float) -> None:
    assert duration_s(units.duration(seconds)) == pytest.approx(seconds, rel=0.01)


@given(
    st.sampled_from(sorted(READERS)),
    st.text(max_size=12) | st.from_regex(r"[0-9.,eE+ -]{0,6}[a-zA-Zµ%]{0,4}"),
)
def test_any_text_is_a_plain_number_or_a_usage_error(name: str, text: str) -> None:
    try:
        value = READERS[name](text)
    except UsageError as error:
        assert error.hint and str(error).isprintable() and error.hint.isprintable()
    else:
        assert 0 <= value < float("inf")
