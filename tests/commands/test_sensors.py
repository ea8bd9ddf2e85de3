"""`emt sensors`, through the whole command on simulated machines, and what a look is made of."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from emt_cli.commands.sensors import Seen, look
from emt_cli.commands.sensors_shown import as_table, span
from emt_cli.commands.stdout import Terminal
from emt_cli.model import Channel, Gap, Notice, Reading
from emt_cli.sensors import Opened
from tests.reports import conftest
from tests.simulation import Fault, SimulatedMachine, Zone, constant

Sensors = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sensors(environment: dict[str, str], tmp_path: Path) -> Sensors:
    """`sensors(machine, "--format", "json")`: the finished command."""

    def run(machine: SimulatedMachine, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.simulated_emt", machine.root, "sensors", *options],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def machine(tmp_path: Path) -> SimulatedMachine:
    """A package with its core, a mirror of the package, and a package that refreshes every 20 ms."""
    folder = tmp_path / "machine"
    folder.mkdir()
    slow = Zone(
        folder="intel-rapl:1", name="package-1", power=constant(60.0), start_uj=7, update_period_s=0.02
    )
    return SimulatedMachine(
        folder,
        zones=[
            Zone(power=constant(40.0)),
            Zone(folder="intel-rapl:0:0", name="core", power=constant(25.0)),
            slow,
            Zone(folder="intel-rapl-mmio:0", name="package-0", mirror_of="intel-rapl:0"),
        ],
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def by_id(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {channel["id"]: channel for channel in found["channels"]}


# --- the command ------------------------------------------------------------------------------------


def test_power_totals_and_absences_are_told(sensors: Sensors, machine: SimulatedMachine) -> None:
    found = document(sensors(machine, "--format", "json"))
    channels = by_id(found)
    package, core = channels["cpu0/package"], channels["cpu0/core"]
    assert package["counted"] and not core["counted"]
    assert package["power_w"] == pytest.approx(40.0, rel=0.1)
    assert core["within"] == "cpu0/package"
    assert any(each["sensor"] == "nvml" and each["reason"] for each in found["absent"])


def test_the_update_period_is_measured_and_stands_beside_the_stated_one(
    sensors: Sensors, machine: SimulatedMachine
) -> None:
    channel = by_id(document(sensors(machine, "--format", "json")))["cpu1/package"]
    assert channel["measured_update_period_s"] == pytest.approx(0.02, rel=0.2)
    assert channel["measured_update_period_is_upper_bound"] is False
    assert channel["update_period_s"] == 0.001
    assert channel["power_w"] == pytest.approx(60.0, rel=0.05)
    assert 0 < channel["read_cost_s"] < 1


def test_a_mirror_is_listed_with_the_reason_for_dropping_it(
    sensors: Sensors, machine: SimulatedMachine
) -> None:
    mirror = by_id(document(sensors(machine, "--format", "json")))["cpu0/package-mmio"]
    assert mirror["dropped"] == "mirror of cpu0/package" and not mirror["counted"]
    page = sensors(machine).stdout
    assert "dropped: mirror of cpu0/package" in page


def test_a_formula_has_no_update_period(sensors: Sensors, machine: SimulatedMachine) -> None:
    memory = next(
        c for c in document(sensors(machine, "--format", "json"))["channels"] if c["domain"] == "dram"
    )
    assert memory["kind"] == "model" and memory["measured_update_period_s"] is None


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits(sensors: Sensors, machine: SimulatedMachine, width: int) -> None:
    done = sensors(machine, "--width", str(width))
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    head, package = lines[0].split(), next(line for line in lines if "cpu0/package" in line)
    assert ("every" in head) is (width >= 60) and ("source" in head) is (width >= 110)
    assert "40.0 W" in package and "counted" in package


def test_csv_has_a_line_for_each_channel(sensors: Sensors, machine: SimulatedMachine) -> None:
    done = sensors(machine, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows][:2] == ["cpu0/package", "cpu0/core"]
    assert rows[0]["counted"] == "true" and rows[0]["within"] == ""
    assert float(rows[0]["power_w"]) == pytest.approx(40.0, rel=0.1)


def test_what_the_user_leaves_out_is_still_listed(sensors: Sensors, tmp_path: Path) -> None:
    folder = tmp_path / "chosen"
    folder.mkdir()
    machine = SimulatedMachine(folder, zones=[Zone(), Zone(folder="intel-rapl:0:0", name="core")])
    found = document(sensors(machine, "--only", "ram", "--format", "json"))
    assert {each["id"] for each in found["excluded"]} >= {"cpu0/package", "cpu0/core"}
    assert not any(each["counted"] for each in found["excluded"])
    assert "excluded" in sensors(machine, "--only", "ram").stdout


def test_the_choice_may_come_from_the_settings(sensors: Sensors, machine: SimulatedMachine) -> None:
    found = by_id(document(sensors(machine, "--format", "json", EMT_EXCLUDE="cpu1")))
    assert found["cpu1/package"]["dropped"] == "excluded" and found["cpu0/package"]["counted"]


def test_a_choice_of_nothing_names_what_there_is(sensors: Sensors, machine: SimulatedMachine) -> None:
    done = sensors(machine, "--only", "gpu7")
    assert done.returncode == 2
    assert "gpu7" in done.stderr and "cpu0/package" in done.stderr


def test_a_sensor_that_hangs_is_named_and_the_rest_is_shown(sensors: Sensors, tmp_path: Path) -> None:
    folder = tmp_path / "stuck"
    folder.mkdir()
    stuck = SimulatedMachine(folder, zones=[Zone(faults=(Fault(kind="block", first_read=2, value=3600),))])
    began_s = time.monotonic()
    channels = by_id(document(sensors(stuck, "--format", "json")))
    assert time.monotonic() - began_s < 60
    assert "did not answer" in channels["cpu0/package"]["fault"]
    assert any(channel["power_w"] for channel in channels.values())


# --- power out of a look ----------------------------------------------------------------------------


class Fake:
    """A sensor that tells what it is given, the last one again and again."""

    name = "fake"
    min_period_s = 0.001

    def __init__(self, channel: Channel, *readings: Reading | Gap) -> None:
        self.channels = (channel,)
        self.readings = list(readings)

    def read(self) -> Sequence[Reading | Gap]:
        return [self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]]

    def close(self) -> None:
        pass


PACKAGE = conftest.channel("cpu0/package", "package")
GAUGE = conftest.channel("gpu0", "gpu", kind="gauge", provenance="integrated")


@pytest.mark.parametrize(
    ("channel", "readings", "power_w", "fault", "unknown"),
    [
        (PACKAGE, (Reading(1.0, 5), Reading(1.5, 10)), 10.0, "", ""),
        (PACKAGE, (Reading(1.0, 5), Reading(1.5, 5)), None, "", "no step"),
        (PACKAGE, (Reading(1.0, 5), Gap(1.5, "EIO")), None, "EIO", ""),
        (PACKAGE, (Gap(1.0, "EIO"), Gap(1.5, "EIO")), None, "EIO", ""),
        (PACKAGE, (Reading(1.0, 9), Reading(1.5, 5)), None, "implausible", ""),
        (GAUGE, (Reading(1.0, 70.0), Reading(1.5, 90.0)), 90.0, "", ""),
        (GAUGE, (Reading(1.0, 70.0), Reading(1.5, 0.0)), 0.0, "", ""),
    ],
)
def test_power_now_is_known_or_has_a_reason(
    channel: Channel, readings: tuple[Reading | Gap, ...], power_w: float | None, fault: str, unknown: str
) -> None:
    [seen] = look([Fake(channel, *readings)], seconds=0)
    assert seen.power_w == power_w
    assert fault in seen.fault and bool(fault) == bool(seen.fault)
    assert unknown in seen.unknown and bool(unknown) == bool(seen.unknown)


def test_a_single_step_in_many_readings_tells_no_power() -> None:
    readings = [Reading(1.0 + n / 100, 5 if n < 20 else 90) for n in range(200)]
    [seen] = look([Fake(PACKAGE, *readings)], seconds=0.1)
    assert seen.power_w is None and "single step" in seen.unknown and not seen.fault


def test_a_counter_that_wraps_during_the_look_is_read_all_the_same() -> None:
    """Seven wraps between the first and the last reading; half a wrap at full power takes 0.11 s."""
    channel = conftest.channel("cpu0/package", "package", range_raw=100, max_power_w=450.0)
    readings = [Reading(1.0 + n / 10, 40 * n % 100) for n in range(20)]
    [seen] = look([Fake(channel, *readings)], seconds=0.1)
    assert seen.power_w == pytest.approx(400.0)


def test_a_stretch_that_was_lost_takes_no_part_in_the_power() -> None:
    channel = conftest.channel("cpu0/package", "package", range_raw=100, max_power_w=450.0)
    late = [
        *(Reading(1.0 + n / 10, 4 * n) for n in range(10)),
        *(Reading(2.5 + n / 10, 4 * n) for n in range(10)),
    ]
    [seen] = look([Fake(channel, *late)], seconds=0.1)
    assert seen.power_w == pytest.approx(40.0) and not seen.fault


def test_a_reading_that_failed_in_between_is_told_beside_the_power() -> None:
    readings = [Reading(1.0, 5), Gap(1.1, "EIO"), Reading(1.5, 10), Reading(2.0, 15)]
    seen = look([Fake(PACKAGE, *readings)], seconds=0.05)[0]
    assert (seen.power_w, seen.fault) == (10.0, "EIO")


# --- the page ---------------------------------------------------------------------------------------


def page(*seen: Seen, opened: Opened | None = None, width: int = 80) -> str:
    return as_table(seen, opened or Opened(sensors=()), Terminal(width, False, "utf-8"))


def test_channels_stand_below_what_contains_them() -> None:
    core = conftest.channel("cpu0/core", "core", within="cpu0/package")
    shown = page(Seen(channel=core, is_counted=False), Seen(channel=PACKAGE, is_counted=True)).splitlines()
    assert shown[2].startswith("  cpu0/package") and shown[3].startswith("    cpu0/core")


def test_channels_that_contain_each_other_are_listed_all_the_same() -> None:
    one = conftest.channel("cpu0/core", "core", within="cpu0/uncore")
    two = conftest.channel("cpu0/uncore", "uncore", within="cpu0/core")
    shown = page(Seen(channel=one, is_counted=False), Seen(channel=two, is_counted=False))
    assert "cpu0/core" in shown and "cpu0/uncore" in shown


def test_a_remedy_is_told_once() -> None:
    notices = tuple(Notice(code="sensor_denied", text=f"text {n}", hint="type this") for n in range(3))
    shown = page(opened=Opened(sensors=(), notices=notices))
    assert shown.count("type this") == 1 and shown.count("text") == 3


def test_what_other_programs_named_cannot_move_the_cursor() -> None:
    named = conftest.channel("cpu0/\x1b[2Jx", "package")
    assert "\x1b" not in page(Seen(channel=named, is_counted=True))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.5e-7, "0.35 µs"), (3.51e-5, "35 µs"), (1e-3, "1.0 ms"), (0.0999, "100 ms"), (0.9999, "1.0 s")],
)
def test_times_have_two_digits(seconds: float, said: str) -> None:
    assert span(seconds) == said
