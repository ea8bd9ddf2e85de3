"""What every sensor promises, as tests: a sensor's test class inherits `SensorContract` and says how its
hardware is made present, absent, locked and vanishing. It stands apart from the sensors' own tests so that
all of them, outside ones too, are held to the same words."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.model import PROVENANCES, Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Sensor

_ID = re.compile(r"[a-z]+[0-9]*(/[a-z0-9][a-z0-9.-]*)?")
_PROVENANCES_OF_KIND = {
    "counter": {"measured", "configured", "estimated", "integrated"},
    "gauge": {"integrated", "configured", "estimated"},
    "model": {"estimated", "configured"},
}


class SensorContract:
    """Inherit, name the class `Test...`, and define `open`; the other three where the interface has them.

    Each gets a fresh folder. `open` returns an opened sensor on healthy hardware; `open_absent` and
    `open_locked` call the opener where there is no hardware and where it may not be used;
    `open_vanishing` returns an opened sensor and a function that takes its hardware away.
    A test whose state an interface cannot be in is skipped with `cannot_be_*`, which says why.
    """

    cannot_be_absent = ""
    cannot_be_locked = ""
    cannot_vanish = ""

    def open(self, folder: Path) -> Sensor:
        raise NotImplementedError

    def open_absent(self, folder: Path) -> Sensor:
        raise NotImplementedError

    def open_locked(self, folder: Path) -> Sensor:
        raise NotImplementedError

    def open_vanishing(self, folder: Path) -> tuple[Sensor, Callable[[], None]]:
        raise NotImplementedError

    @pytest.fixture
    def sensor(self, tmp_path: Path):
        sensor = self.open(tmp_path)
        yield sensor
        sensor.close()

    def test_it_is_a_sensor_with_a_short_name_and_a_period(self, sensor: Sensor) -> None:
        assert isinstance(sensor, Sensor)
        assert re.fullmatch(r"[a-z][a-z0-9_-]{1,19}", sensor.name)
        assert 0 < sensor.min_period_s < 60

    def test_channel_ids_are_well_formed_and_unique(self, sensor: Sensor) -> None:
        ids = [channel.id for channel in sensor.channels]
        assert ids
        assert len(set(ids)) == len(ids)
        assert [id for id in ids if not _ID.fullmatch(id)] == []

    def test_every_channel_names_its_sensor_device_domain_and_source(self, sensor: Sensor) -> None:
        for channel in sensor.channels:
            assert channel.sensor == sensor.name
            assert channel.device == channel.id.partition("/")[0]
            assert channel.domain
            assert channel.source

    def test_kind_and_provenance_agree(self, sensor: Sensor) -> None:
        for channel in sensor.channels:
            assert channel.provenance in PROVENANCES
            assert channel.provenance in _PROVENANCES_OF_KIND[channel.kind]

    def test_units_and_limits_are_positive_finite_numbers(self, sensor: Sensor) -> None:
        for channel in sensor.channels:
            for value in (channel.unit, channel.max_power_w):
                assert math.isfinite(value) and value > 0
            for known in (channel.resolution_j, channel.update_period_s, channel.accuracy):
                assert known is None or (math.isfinite(known) and known > 0)
            assert channel.range_raw is None or channel.range_raw > 0

    def test_containment_leads_to_channels_that_exist_and_never_round_in_circles(
        self, sensor: Sensor
    ) -> None:
        by_id: dict[str, Channel] = {channel.id: channel for channel in sensor.channels}
        for channel in sensor.channels:
            seen = {channel.id}
            while channel.within is not None:
                assert channel.within not in seen
                seen.add(channel.within)
                channel = by_id[channel.within]  # noqa: PLW2901 - walks outwards

    def test_a_read_brings_one_reading_per_channel(self, sensor: Sensor) -> None:
        for _ in range(3):
            readings = sensor.read()
            assert len(readings) == len(sensor.channels)
            for reading in readings:
                assert isinstance(reading, Reading)
                assert isinstance(reading.value, int | float)
                assert math.isfinite(reading.value)
                assert reading.value >= 0

    def test_time_never_goes_back_and_is_the_monotonic_clock(self, sensor: Sensor) -> None:
        times = [time.monotonic()]
        for _ in range(5):
            times += [reading.t_s for reading in sensor.read()]
            times.append(time.monotonic())
        assert times == sorted(times)

    def test_closing_twice_is_closing_once(self, sensor: Sensor) -> None:
        sensor.close()
        sensor.close()

    def test_absent_hardware_is_absent(self, tmp_path: Path) -> None:
        if self.cannot_be_absent:
            pytest.skip(self.cannot_be_absent)
        with pytest.raises(Absent) as caught:
            self.open_absent(tmp_path)
        assert str(caught.value)

    def test_lost_permission_is_denied_and_says_what_to_type(self, tmp_path: Path) -> None:
        if self.cannot_be_locked:
            pytest.skip(self.cannot_be_locked)
        with pytest.raises(Denied) as caught:
            self.open_locked(tmp_path)
        assert str(caught.value)
        assert caught.value.hint

    def test_a_vanishing_device_becomes_gaps_with_a_reason(self, tmp_path: Path) -> None:
        if self.cannot_vanish:
            pytest.skip(self.cannot_vanish)
        sensor, vanish = self.open_vanishing(tmp_path)
        sensor.read()
        vanish()
        readings = sensor.read()
        assert len(readings) == len(sensor.channels)
        for reading in readings:
            assert isinstance(reading, Gap)
            assert reading.reason
        sensor.close()
