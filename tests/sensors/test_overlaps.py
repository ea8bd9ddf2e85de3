"""What several sensors see counts once: by id, by device, by number, and inside modules."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from emt_cli.analysis.cover import counted
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.overlaps import drop_overlaps


def channel(id: str, **fields: object) -> Channel:
    device, _, domain = id.partition("/")
    facts: dict[str, object] = {
        "id": id, "sensor": "fake", "device": device, "domain": domain or "gpu", "kind": "counter",
        "provenance": "measured", "source": "fake",
    }  # fmt: skip
    return Channel(**{**facts, **fields})


class Fake:
    """A sensor of these channels; a text is a plain channel of that id."""

    def __init__(self, name: str, *channels: Channel | str, period_s: float = 0.001) -> None:
        self.name = name
        self.min_period_s = period_s
        self.channels: Sequence[Channel] = tuple(
            channel(each, sensor=name) if isinstance(each, str) else each for each in channels
        )

    def read(self) -> Sequence[Reading | Gap]:
        return [Reading(time.monotonic(), 1) for _ in self.channels]

    def close(self) -> None:
        """Nothing is open."""


def side_by_side(*sensors: Fake) -> dict[str, Channel]:
    drop_overlaps(sensors)
    channels = [channel for sensor in sensors for channel in sensor.channels]
    assert len({channel.id for channel in channels}) == len(channels)
    return {channel.id: channel for channel in channels}


def total(*sensors: Fake) -> set[str]:
    return set(counted(list(side_by_side(*sensors).values())))


def rapl(name: str, sockets: int = 1, *, psys: bool = False) -> Fake:
    outer = "node/psys" if psys else None
    channels = [channel("node/psys", sensor=name)] if psys else []
    for n in range(sockets):
        channels += [
            channel(f"cpu{n}/package", sensor=name, within=outer),
            channel(f"cpu{n}/core", sensor=name, within=f"cpu{n}/package"),
            channel(f"cpu{n}/dram", sensor=name, within=outer),
        ]
    return Fake(name, *channels)


NVML = channel("gpu0", sensor="nvml")
HOPPER = channel("gpu0", sensor="nvml", domain="module")


# --- the same id ------------------------------------------------------------------------------------


def test_of_the_same_id_the_first_sensor_counts_and_the_second_checks_it() -> None:
    channels = side_by_side(rapl("perf"), rapl("powercap"))
    again = channels["cpu0/package.2"]
    assert (again.dropped, again.checks) == ("perf reads the same", "cpu0/package")
    assert not any(channels[id].dropped for id in ("cpu0/package", "cpu0/core", "cpu0/dram"))
    assert total(rapl("perf"), rapl("powercap")) == {"cpu0/package", "cpu0/dram"}


def test_a_third_sensor_finds_a_free_id() -> None:
    channels = side_by_side(*[Fake(name, "cpu0/package") for name in ("one", "two", "three")])
    assert {id: c.dropped for id, c in channels.items()} == {
        "cpu0/package": "",
        "cpu0/package.2": "one reads the same",
        "cpu0/package.3": "one reads the same",
    }


def test_a_gauge_is_no_check_of_a_counter() -> None:
    gauge = channel("cpu0/package", sensor="hwmon", kind="gauge", provenance="integrated")
    again = side_by_side(rapl("powercap"), Fake("hwmon", gauge))["cpu0/package.2"]
    assert again.dropped
    assert again.checks == ""


def test_what_only_the_second_sensor_sees_counts() -> None:
    perf = Fake("perf", "cpu0/package")
    assert total(perf, rapl("powercap")) == {"cpu0/package", "cpu0/dram"}


def test_parts_of_the_second_lie_within_the_package_of_the_first() -> None:
    channels = side_by_side(Fake("perf", "cpu0/package"), rapl("powercap"))
    assert (channels["cpu0/core"].within, channels["cpu0/core"].dropped) == ("cpu0/package", "")


def test_a_socket_that_the_first_sensor_lost_counts_by_the_second() -> None:
    assert total(Fake("perf", "cpu0/package"), rapl("powercap", sockets=2)) == {
        "cpu0/package",
        "cpu0/dram",
        "cpu1/package",
        "cpu1/dram",
    }


def test_what_was_dropped_before_drops_nothing() -> None:
    lying = channel("cpu0/package", sensor="perf", dropped="it lies")
    channels = side_by_side(rapl("powercap"), Fake("perf", lying))
    assert not channels["cpu0/package"].dropped
    assert channels["cpu0/package.2"].dropped == "it lies"
    assert total(Fake("perf", lying), Fake("powercap", "cpu0/package")) == {"cpu0/package.2"}


def test_the_platform_is_seen_once() -> None:
    channels = side_by_side(rapl("perf", psys=True), rapl("powercap", psys=True))
    assert channels["node/psys.2"].checks == "node/psys"
    assert counted(list(channels.values()), "platform") == {"node/psys"}


# --- how often it is read ---------------------------------------------------------------------------


def test_a_sensor_of_which_nothing_counts_is_read_once_a_second() -> None:
    perf, powercap = rapl("perf"), rapl("powercap")
    drop_overlaps([perf, powercap])
    assert (perf.min_period_s, powercap.min_period_s) == (0.001, 1.0)


def test_a_slow_sensor_is_not_hurried() -> None:
    slow = Fake("slow", "cpu0/package", period_s=5.0)
    drop_overlaps([rapl("perf"), slow])
    assert slow.min_period_s == 5.0


def test_a_sensor_of_which_a_part_counts_keeps_its_rate() -> None:
    powercap = rapl("powercap")
    drop_overlaps([Fake("perf", "cpu0/package"), powercap])
    assert powercap.min_period_s == 0.001


def test_sensors_without_overlap_are_left_as_they_are() -> None:
    powercap, nvml = rapl("powercap"), Fake("nvml", NVML)
    before = powercap.channels, nvml.channels
    drop_overlaps([powercap, nvml])
    assert (powercap.channels, nvml.channels) == before


# --- all of a kind, and other numbers ---------------------------------------------------------------


def test_all_sockets_together_repeat_the_sockets() -> None:
    cray = Fake("cray", channel("node", sensor="cray", domain="node"))
    cray.channels += tuple(
        channel(id, sensor="cray", domain=domain, within="node")
        for id, domain in (("cpu", "package"), ("ram", "dram"))
    )
    assert total(rapl("powercap", sockets=2), cray) == {
        "cpu0/package",
        "cpu1/package",
        "cpu0/dram",
        "cpu1/dram",
    }


def test_sockets_repeat_all_sockets_together_with_their_parts() -> None:
    cray = Fake("cray", channel("cpu", sensor="cray", domain="package"))
    assert total(cray, rapl("powercap", sockets=2)) == {"cpu", "cpu0/dram", "cpu1/dram"}


def test_accelerators_by_another_name_are_the_gpus() -> None:
    accelerators = [channel(f"accel{n}", sensor="cray", domain="accelerator") for n in range(2)]
    gpus = Fake("amd", "gpu0", "gpu1")
    assert total(gpus, Fake("cray", *accelerators)) == {"gpu0", "gpu1"}


def test_gpus_of_two_makers_are_two_devices() -> None:
    assert total(Fake("nvml", "gpu0"), Fake("amd", "gpu1")) == {"gpu0", "gpu1"}


def test_a_part_of_a_device_that_another_sensor_counts_as_a_whole_is_dropped() -> None:
    tile = channel("gpu0/tile1", sensor="drm", domain="gpu")
    channels = side_by_side(Fake("amd", "gpu0"), Fake("drm", tile))
    assert (channels["gpu0/tile1"].dropped, channels["gpu0/tile1"].within) == ("amd reads the same", "gpu0")


def dies(name: str, *numbers: int) -> Fake:
    ids = [f"cpu0/package-die{n}" for n in numbers]
    return Fake(name, *(channel(id, sensor=name, domain="package") for id in ids))


def test_dies_that_one_sensor_tells_apart_and_the_other_does_not_count_once() -> None:
    assert total(dies("perf", 0, 1), Fake("powercap", "cpu0/package")) == {
        "cpu0/package-die0",
        "cpu0/package-die1",
    }
    assert total(Fake("perf", "cpu0/package"), dies("powercap", 0, 1)) == {"cpu0/package"}


def test_parts_of_a_package_that_another_one_stands_in_for_do_not_surface() -> None:
    assert total(dies("perf", 0, 1), rapl("powercap")) == {
        "cpu0/package-die0",
        "cpu0/package-die1",
        "cpu0/dram",
    }


def test_a_die_that_the_first_sensor_lost_counts_by_the_second() -> None:
    assert total(dies("perf", 0), dies("powercap", 0, 1)) == {"cpu0/package-die0", "cpu0/package-die1"}


# --- modules ----------------------------------------------------------------------------------------


def test_a_module_counts_what_is_inside_it() -> None:
    assert total(rapl("powercap"), Fake("nvml", HOPPER)) == {"gpu0"}


def test_what_lies_in_a_module_is_known_to_lie_there() -> None:
    channels = side_by_side(rapl("powercap"), Fake("nvml", HOPPER))
    package = channels["cpu0/package"]
    assert (package.dropped, package.within) == ("inside gpu0 module", "gpu0")


def test_a_module_and_its_insides_from_one_sensor_stay_nested() -> None:
    grace = Fake(
        "hwmon",
        channel("module0", sensor="hwmon", domain="module"),
        channel("cpu0/package", sensor="hwmon", within="module0"),
    )
    channels = side_by_side(grace)
    assert not any(each.dropped for each in channels.values())
    assert counted(list(channels.values())) == {"module0"}


def test_of_several_modules_each_counts_the_socket_of_its_number() -> None:
    modules = [channel(f"gpu{n}", sensor="nvml", domain="module") for n in range(2)]
    channels = side_by_side(rapl("powercap", sockets=3), Fake("nvml", *modules))
    assert channels["cpu1/package"].within == "gpu1"
    assert counted(list(channels.values())) == {"gpu0", "gpu1", "cpu2/package", "cpu2/dram"}


def test_all_sockets_together_lie_in_the_modules() -> None:
    modules = [channel(f"gpu{n}", sensor="nvml", domain="module") for n in range(2)]
    cray = [channel(id, sensor="cray", domain=d) for id, d in (("cpu", "package"), ("ram", "dram"))]
    assert total(Fake("nvml", *modules), Fake("cray", *cray)) == {"gpu0", "gpu1"}


@pytest.mark.parametrize("first", ["nvml", "hwmon"])
def test_one_module_seen_by_two_sensors_counts_once(first: str) -> None:
    grace = Fake(
        "hwmon",
        channel("module0", sensor="hwmon", domain="module"),
        channel("cpu0/package", sensor="hwmon", within="module0"),
    )
    sensors = [Fake("nvml", HOPPER), grace]
    assert total(*(sensors if first == "nvml" else reversed(sensors))) == {
        "gpu0" if first == "nvml" else "module0"
    }


def test_accelerators_of_a_node_whose_modules_are_known_lie_in_them() -> None:
    accelerator = channel("accel0", sensor="cray", domain="accelerator")
    assert total(Fake("nvml", HOPPER), Fake("cray", accelerator)) == {"gpu0"}


@pytest.mark.parametrize("module", ["module0", "accel0"])
def test_a_module_that_is_no_gpu_counts_its_gpu(module: str) -> None:
    """Jetson's input, MI300A."""
    whole = channel(module, sensor="other", domain="module")
    assert total(Fake("nvml", NVML), Fake("other", whole)) == {module}


def test_a_module_that_goes_by_a_gpus_name_holds_no_other_gpu() -> None:
    assert total(Fake("nvml", HOPPER, channel("gpu1", sensor="nvml"))) == {"gpu0", "gpu1"}
