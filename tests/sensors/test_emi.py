"""Windows' energy meters from hand-built bytes: names of both versions, what is inside what, refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors import emi
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.emi import Emi, energies_in, names_in, open_emi, place
from emt_cli.sensors.meters import meter
from tests.sensors.contract import SensorContract

INTEL = ("RAPL_Package0_PKG", "RAPL_Package0_DRAM", "RAPL_Package0_PP0", "RAPL_Package0_PP1")
PWH_PER_J = 1e9 / 3.6


def text(name: str) -> bytes:
    return name.encode("utf-16-le") + b"\0\0"


def version_2(names: Sequence[str], unit: int = 0) -> bytes:
    data = text("Microsoft").ljust(32, b"\0") + text("PPM").ljust(32, b"\0")
    data += struct.pack("<HH", 1, len(names))
    for name in names:
        data += struct.pack("<iH", unit, len(text(name))) + text(name)
    return data


def version_1(name: str) -> bytes:
    data = struct.pack("<i", 0) + text("OEM").ljust(32, b"\0") + text("Model").ljust(32, b"\0")
    return data + struct.pack("<HH", 3, len(text(name))) + text(name)


class FakeDevice:
    """Answers as a driver does; `energies` may be changed, `failure` is raised by every request."""

    def __init__(self, names: Sequence[str] = INTEL, version: int = 2, metadata: bytes | None = None) -> None:
        self.names = names
        self.energies = [1000 * (at + 1) for at in range(len(names))]
        self.failure: OSError | None = None
        self.closed = 0
        self._version = version
        self._metadata = metadata or (version_2(names) if version == 2 else version_1(names[0]))

    def control(self, code: int, size: int) -> bytes:
        if self.failure is not None:
            raise self.failure
        answers = {
            emi.GET_VERSION: struct.pack("<H", self._version),
            emi.GET_METADATA_SIZE: struct.pack("<I", len(self._metadata)),
            emi.GET_METADATA: self._metadata,
            emi.GET_MEASUREMENT: b"".join(struct.pack("<QQ", value, 77) for value in self.energies),
        }
        return answers[code][:size]

    def close(self) -> None:
        self.closed += 1


def opened(*devices: FakeDevice) -> Emi:
    paths = {f"\\\\?\\emi{number}": device for number, device in enumerate(devices)}
    machine = Machine(platform="win32")
    return open_emi(machine, find=lambda: list(paths), open_device=lambda path: paths[path])


def by_id(sensor: Emi) -> dict[str, Channel]:
    return {channel.id: channel for channel in sensor.channels}


def counted(sensor: Emi) -> set[str]:
    return {channel.id for channel in sensor.channels if not channel.dropped and channel.within is None}


class TestEmi(SensorContract):
    def open(self, folder: Path) -> Emi:
        return opened(
            FakeDevice(), FakeDevice(["RAPL_Package0_Core0_CORE"]), FakeDevice(["Display"], version=1)
        )

    def open_absent(self, folder: Path) -> Emi:
        return opened()

    def open_locked(self, folder: Path) -> Emi:
        def refuse(path: str) -> FakeDevice:
            raise PermissionError(5, "Access is denied.")

        return open_emi(Machine(platform="win32"), find=lambda: ["meter"], open_device=refuse)

    def open_vanishing(self, folder: Path) -> tuple[Emi, Callable[[], None]]:
        device = FakeDevice()

        def vanish() -> None:
            device.failure = OSError(31, "A device attached to the system is not functioning.")

        return opened(device), vanish


def test_elsewhere_it_is_absent_before_anything_is_asked() -> None:
    def asked() -> Sequence[str]:
        raise AssertionError("asked")

    for platform in ("linux", "darwin"):
        with pytest.raises(Absent):
            open_emi(Machine(platform=platform), find=asked)


def test_intel_names_become_the_ids_that_powercap_uses() -> None:
    channels = by_id(opened(FakeDevice()))
    assert list(channels) == ["cpu0/package", "cpu0/dram", "cpu0/core", "cpu0/uncore"]
    within = {id: channel.within for id, channel in channels.items()}
    assert within["cpu0/core"] == within["cpu0/uncore"] == "cpu0/package"
    assert within["cpu0/package"] is within["cpu0/dram"] is None
    assert all(not channel.dropped for channel in channels.values())


def test_a_joule_is_a_joule() -> None:
    device = FakeDevice(["RAPL_Package0_PKG"])
    sensor = opened(device)
    total = meter(sensor.channels[0], 0.0, 1.0)
    total.update(Reading(0.0, sensor.read()[0].value))  # type: ignore[union-attr]
    device.energies = [device.energies[0] + round(50 * PWH_PER_J)]
    total.update(Reading(1.0, sensor.read()[0].value))  # type: ignore[union-attr]
    assert total.energy_j == pytest.approx(50.0)


def test_sockets_and_cores_in_devices_of_their_own_are_told_apart_and_counted_once() -> None:
    sensor = opened(
        FakeDevice(["RAPL_Package0_Core6_CORE"]),
        FakeDevice(["RAPL_Package0_PKG", "RAPL_Package0_Core0_CORE"]),
        FakeDevice(["RAPL_Package1_PKG"]),
    )
    assert counted(sensor) == {"cpu0/package", "cpu1/package"}
    assert by_id(sensor)["cpu0/core6"].within == "cpu0/package"


def test_cores_without_a_package_are_listed_and_not_counted() -> None:
    sensor = opened(FakeDevice(["RAPL_Package0_Core0_CORE", "RAPL_Package0_Core1_CORE"]))
    assert counted(sensor) == set()
    assert all("package" in channel.dropped for channel in sensor.channels)


def test_the_dies_of_one_package_are_mirrors() -> None:
    sensor = opened(FakeDevice(["RAPL_Package0_PKG"]), FakeDevice(["RAPL_Package0_PKG"]))
    assert [channel.id for channel in sensor.channels] == ["cpu0/package", "cpu0/package.2"]
    assert counted(sensor) == {"cpu0/package"}
    assert sensor.channels[1].dropped == "mirror of cpu0/package"


def test_amd_socket_names_are_known_whether_they_say_energy_or_power() -> None:
    for word in ("Energy", "Power"):
        names = [f"VDDCR_VDD {word}", f"VDDCR_SOC {word}", f"Current Socket {word}", f"Apu {word}"]
        sensor = opened(FakeDevice(names))
        assert counted(sensor) == {"cpu0/package"}
        assert by_id(sensor)["cpu0/core"].within == "cpu0/package"
        assert by_id(sensor)["cpu0/soc"].within == "cpu0/package"
        assert "not known" in sensor.channels[3].dropped


@pytest.mark.parametrize(
    "name", ["Display", "_Total", "", "RAPL_Package0", "RAPL_PackageX_PKG", "Apu Energy"]
)
def test_what_a_name_covers_is_never_guessed(name: str) -> None:
    assert place(name) is None


def test_version_1_has_one_channel() -> None:
    assert names_in(1, version_1("RAPL_Package0_PKG")) == ["RAPL_Package0_PKG"]


@pytest.mark.parametrize(
    "device",
    [
        FakeDevice(version=3),
        FakeDevice(metadata=version_2(INTEL)[:90]),
        FakeDevice(metadata=version_2(INTEL, unit=7)),
        FakeDevice(metadata=b"\1"),
    ],
)
def test_a_device_that_is_not_understood_is_left_out_and_closed(device: FakeDevice) -> None:
    good = FakeDevice()
    assert len(opened(device, good).channels) == len(INTEL)
    assert (device.closed, good.closed) == (1, 0)


def test_a_device_that_answers_no_request_is_as_good_as_none() -> None:
    device = FakeDevice()
    device.failure = OSError(50, "The request is not supported.")
    with pytest.raises(Absent, match="not supported"):
        opened(device)


def test_one_device_that_fails_leaves_the_others_alone() -> None:
    broken, good = FakeDevice(["RAPL_Package0_PKG"]), FakeDevice(["RAPL_Package1_PKG"])
    sensor = opened(broken, good)
    broken.failure = OSError(31, "not functioning")
    readings = sensor.read()
    assert isinstance(readings[0], Gap)
    assert isinstance(readings[1], Reading)


def test_an_answer_that_is_too_short_is_a_gap_not_zero() -> None:
    device = FakeDevice()
    sensor = opened(device)
    device.energies.pop()
    assert all(isinstance(reading, Gap) for reading in sensor.read())


@given(st.binary(max_size=300), st.integers(0, 4))
def test_any_bytes_are_names_or_an_error_that_is_understood(data: bytes, version: int) -> None:
    try:
        assert all(isinstance(name, str) for name in names_in(version, data))
    except ValueError as error:
        assert str(error)


@given(st.binary(max_size=100), st.integers(0, 5))
def test_any_bytes_are_energies_or_an_error(data: bytes, count: int) -> None:
    try:
        assert len(energies_in(data, count)) == count
    except ValueError:
        assert len(data) < 16 * count


def test_refusing_everything_is_denied_with_a_remedy() -> None:
    def refuse(path: str) -> FakeDevice:
        raise PermissionError(5, "Access is denied.")

    with pytest.raises(Denied) as caught:
        open_emi(Machine(platform="win32"), find=lambda: ["a", "b"], open_device=refuse)
    assert "administrator" in caught.value.hint
