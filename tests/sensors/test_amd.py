"""The AMD sensor against a library with AMD SMI's ABI, through the real pyrsmi."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from emt_cli.model import Gap, Reading
from emt_cli.sensors.amd import open_amd
from emt_cli.sensors.amd.binding import _muted_stderr
from emt_cli.sensors.amd.gpu import AmdSensor
from emt_cli.sensors.base import Absent, Denied, Machine, Sensor, SharesDevices
from tests.fakes import amdsmi as fake
from tests.fakes.amdsmi import ROCM_6, ROCM_7, FakeAmdGpu, fake_amd, gpu_id_of, pci_of, unique_id_of
from tests.sensors.contract import SensorContract

REPOSITORY = Path(__file__).parents[2]
STEP_J = 2.0**-16

NO_COUNTER = FakeAmdGpu(name="Radeon RX 7900 XTX", power_w=120, has_counter=False, tells_average=True)
SECOND_DIE = FakeAmdGpu(name="AMD Instinct MI250X", power_w=0, tells_average=True)
FIRST_DIE = FakeAmdGpu(name="AMD Instinct MI250X", power_w=400, tells_average=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled once."""
    folder = tmp_path_factory.mktemp("amdsmi")
    fake.build(folder)
    return folder / fake.LIBRARY


class Place:
    """A machine's root with AMD GPUs in it; what is opened there is closed at the end."""

    def __init__(self, root: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._library = library
        self._patch = monkeypatch
        self._opened: list[AmdSensor] = []

    def show(self, *gpus: FakeAmdGpu, **others: Any) -> None:
        for name, value in fake_amd(self.root, gpus, library=self._library, **others).items():
            self._patch.setenv(name, value)

    def open(self, *gpus: FakeAmdGpu, environ: dict[str, str] | None = None, **others: Any) -> AmdSensor:
        self.show(*gpus, **others)
        self._opened.append(open_amd(Machine(str(self.root), environ=environ or {})))
        return self._opened[-1]

    def write(self, name: str, value: object) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def end(self) -> None:
        for sensor in self._opened:
            sensor.close()


@pytest.fixture
def place(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path / "root", library, monkeypatch)
    yield place
    place.end()


def values(readings: Sequence[Reading | Gap]) -> list[int | float]:
    assert all(isinstance(reading, Reading) for reading in readings), readings
    return [reading.value for reading in readings if isinstance(reading, Reading)]


class TestContract(SensorContract):
    """Two GPUs, one with a counter and one without."""

    GPUS = (FakeAmdGpu(), NO_COUNTER)

    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def open(self, folder: Path) -> Sensor:
        return self.place.open(*self.GPUS)

    def open_absent(self, folder: Path) -> Sensor:
        return open_amd(Machine(str(folder)))

    def open_locked(self, folder: Path) -> Sensor:
        return self.place.open(errors={"amdsmi_init": fake.NO_PERMISSION})

    def open_vanishing(self, folder: Path) -> tuple[Sensor, Callable[[], None]]:
        def vanish() -> None:
            self.place.show(*(FakeAmdGpu(lost_at_s=0.0) for _ in self.GPUS))

        return self.place.open(*self.GPUS), vanish


# --- energy ---------------------------------------------------------------------------------------------


def test_a_counter_counts_exact_joules_in_steps_of_2_to_the_minus_16(place: Place) -> None:
    sensor = place.open(FakeAmdGpu(power_w=300), FakeAmdGpu(power_w=71.5))
    clock = place.root / "clock"
    clock.write_text("1000")
    place.show(FakeAmdGpu(power_w=300), FakeAmdGpu(power_w=71.5), clock=clock)
    before = values(sensor.read())
    clock.write_text("2000")
    after = values(sensor.read())
    joules = [(last - first) * c.unit for first, last, c in zip(before, after, sensor.channels, strict=True)]
    assert joules == pytest.approx([300_000, 71_500], abs=1e-6)


def test_a_counter_channel_says_what_it_is(place: Place) -> None:
    (channel,) = place.open(FakeAmdGpu(limit_w=750.0)).channels
    assert (channel.id, channel.device, channel.domain) == ("gpu0", "gpu0", "gpu")
    assert (channel.kind, channel.provenance) == ("counter", "measured")
    assert (channel.unit, channel.resolution_j, channel.range_raw) == (STEP_J, STEP_J, None)
    assert (channel.max_power_w, channel.accuracy) == (1500.0, None)
    assert channel.source == f"amdsmi_get_energy_count, AMD Instinct MI300X, {pci_of(0)}"


@pytest.mark.parametrize("version", [ROCM_6, ROCM_7, (23, 4, 2), (0, 26, 30)])
@pytest.mark.parametrize("tells_average", [True, False])
def test_power_is_read_from_the_field_that_tells_it_in_either_structure(
    place: Place, version: tuple[int, int, int], tells_average: bool
) -> None:
    gpu = FakeAmdGpu(power_w=137, has_counter=False, tells_average=tells_average)
    sensor = place.open(gpu, version=version)
    (channel,) = sensor.channels
    assert (channel.kind, channel.provenance, channel.unit) == ("gauge", "integrated", 1.0)
    assert channel.source.startswith("amdsmi_get_power_info")
    assert "power is integrated" in channel.note
    assert values(sensor.read()) == [137]


def test_a_counter_that_stands_still_is_not_used(place: Place) -> None:
    sensor = place.open(FakeAmdGpu(name="AMD Instinct MI100", frozen_at=4711, tells_average=True))
    (channel,) = sensor.channels
    assert channel.kind == "gauge"
    assert "no energy counter that moves" in channel.note
    assert values(sensor.read()) == [300]


def test_a_counter_that_moves_is_waited_for_no_longer_than_its_step(place: Place) -> None:
    (channel,) = place.open(FakeAmdGpu(power_w=15, refresh_s=0.02)).channels
    assert channel.kind == "counter"


def test_a_power_that_is_not_told_any_more_is_a_gap(place: Place) -> None:
    sensor = place.open(NO_COUNTER)
    place.show(FakeAmdGpu(power_w=0, has_counter=False))
    (gap,) = sensor.read()
    assert isinstance(gap, Gap)
    assert gap.reason == "amdsmi_get_power_info: power is not told"


def test_an_unknown_power_limit_leaves_the_default(place: Place) -> None:
    refused = FakeAmdGpu(errors={"amdsmi_get_power_cap_info": fake.NOT_SUPPORTED})
    assert [c.max_power_w for c in place.open(refused, FakeAmdGpu(limit_w=0)).channels] == [2000.0, 2000.0]


def test_mi300a_counts_its_processor_and_memory_too(place: Place) -> None:
    (channel,) = place.open(FakeAmdGpu(name="AMD Instinct MI300A")).channels
    assert channel.domain == "module"
    assert "CPU" in channel.note


def test_an_apu_is_left_to_the_processors_sensors(place: Place) -> None:
    card, apu = FakeAmdGpu(), FakeAmdGpu(name="Radeon 780M", is_apu=True)
    assert [channel.id for channel in place.open(apu, card).channels] == ["gpu1"]
    with pytest.raises(Absent, match="processor"):
        place.open(apu)


# --- which GPUs -----------------------------------------------------------------------------------------


def test_numbers_follow_the_bus_and_come_after_nvidias(place: Place) -> None:
    place.write("sys/bus/pci/drivers/nvidia/0000:01:00.0/uevent", "")
    gpus = [FakeAmdGpu(pci="0000:c3:00.0", name="Last"), FakeAmdGpu(pci="0000:83:00.0", name="First")]
    named = {c.source.split(", ")[1]: c.id for c in place.open(*gpus).channels}
    assert named == {"Last": "gpu2", "First": "gpu1"}


def test_a_card_whose_address_is_not_told_is_the_drivers_of_its_number(place: Place) -> None:
    gpus = [FakeAmdGpu(), FakeAmdGpu(errors={"amdsmi_get_gpu_device_bdf": fake.NOT_SUPPORTED})]
    channels = place.open(*gpus).channels
    assert [channel.id for channel in channels] == ["gpu0", "gpu1"]
    assert pci_of(1) in channels[1].source


def test_the_partitions_of_a_card_count_once(place: Place) -> None:
    gpus = [FakeAmdGpu(pci=f"0000:03:00.{partition}") for partition in range(3)]
    channels = place.open(*gpus, FakeAmdGpu(pci="0000:43:00.0")).channels
    assert len(channels) == 2
    assert [channel.source.split(", ")[-1] for channel in channels] == ["0000:03:00.0", "0000:43:00.0"]


@pytest.mark.parametrize(
    ("environ", "ids"),
    [
        ({}, ["gpu0", "gpu1", "gpu2"]),
        ({"ROCR_VISIBLE_DEVICES": "2,1"}, ["gpu1", "gpu2"]),
        ({"ROCR_VISIBLE_DEVICES": f"GPU-{unique_id_of(1):016x}"}, ["gpu1"]),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "0"}, ["gpu2"]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["gpu0"]),
    ],
)
def test_only_the_visible_gpus_are_opened(place: Place, environ: dict[str, str], ids: list[str]) -> None:
    sensor = place.open(*[FakeAmdGpu()] * 3, environ=environ)
    assert [channel.id for channel in sensor.channels] == ids


def test_where_every_gpu_is_hidden_there_is_none(place: Place) -> None:
    with pytest.raises(Absent, match="hides every"):
        place.open(FakeAmdGpu(), environ={"ROCR_VISIBLE_DEVICES": ""})


def test_the_first_die_of_a_module_counts_both(place: Place) -> None:
    sensor = place.open(FIRST_DIE, SECOND_DIE, FIRST_DIE, SECOND_DIE)
    assert [channel.id for channel in sensor.channels] == ["gpu0", "gpu2"]
    assert all("both dies" in channel.note for channel in sensor.channels)
    assert sensor.unreadable == ()


@pytest.mark.parametrize("gpus", [(FIRST_DIE, SECOND_DIE), (SECOND_DIE, FIRST_DIE)])
def test_who_may_use_a_second_die_alone_is_measured_by_the_first(
    place: Place, gpus: tuple[FakeAmdGpu, ...]
) -> None:
    second = gpus.index(SECOND_DIE)
    sensor = place.open(*gpus, environ={"ROCR_VISIBLE_DEVICES": str(second)})
    assert [channel.id for channel in sensor.channels] == [f"gpu{1 - second}"]
    place.write("sys/class/kfd/kfd/proc/77/queues/0/gpuid", gpu_id_of(second))
    assert [(use.device, use.pid) for use in sensor.usage()] == [(f"gpu{1 - second}", 77)]


# --- faults ---------------------------------------------------------------------------------------------


def test_a_gpu_lost_during_the_run_becomes_a_gap_and_the_other_goes_on(place: Place) -> None:
    sensor = place.open(FakeAmdGpu(), FakeAmdGpu())
    place.show(FakeAmdGpu(), FakeAmdGpu(lost_at_s=0.0))
    first, second = sensor.read()
    assert isinstance(first, Reading)
    assert isinstance(second, Gap)
    assert second.reason == "amdsmi_get_energy_count: Processor not found"


@pytest.mark.parametrize("status", [3, 7, 12, 30, 4711])
def test_any_error_of_a_read_is_a_gap_and_the_next_read_is_tried(place: Place, status: int) -> None:
    sensor = place.open(FakeAmdGpu())
    place.show(FakeAmdGpu(errors={"amdsmi_get_energy_count": status}))
    (gap,) = sensor.read()
    assert isinstance(gap, Gap)
    place.show(FakeAmdGpu())
    assert isinstance(sensor.read()[0], Reading)


def test_a_gpu_that_tells_nothing_is_named_and_the_others_are_opened(place: Place) -> None:
    broken = FakeAmdGpu(has_counter=False, errors={"amdsmi_get_power_info": 12})
    sensor = place.open(broken, FakeAmdGpu())
    assert [channel.id for channel in sensor.channels] == ["gpu1"]
    assert sensor.unreadable == ("gpu0 (amdsmi_get_power_info: I/O Error)",)
    assert "dmesg" in sensor.remedy


def test_where_no_gpu_may_be_read_the_remedy_is_the_group(place: Place) -> None:
    with pytest.raises(Denied, match="may be read") as caught:
        place.open(FakeAmdGpu(has_counter=False, errors={"amdsmi_get_power_info": fake.NO_PERMISSION}))
    assert "render" in caught.value.hint


def test_gpus_that_this_library_does_not_support_are_left_to_hwmon_in_silence(place: Place) -> None:
    with pytest.raises(Absent):
        place.open(FakeAmdGpu(has_counter=False, errors={"amdsmi_get_power_info": fake.NOT_SUPPORTED}))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(fake.NOT_FOUND, Absent), (fake.DRIVER_NOT_LOADED, Absent), (fake.NO_PERMISSION, Denied), (18, Denied)],
)
def test_a_library_that_does_not_start_says_why(place: Place, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        place.open(errors={"amdsmi_init": status})


def test_no_gpu_at_all_is_an_absence(place: Place) -> None:
    with pytest.raises(Absent, match="no graphics card"):
        place.open()


def test_a_driver_that_is_not_ready_is_told(place: Place) -> None:
    place.show(FakeAmdGpu())
    place.write("sys/module/amdgpu/initstate", "coming")
    with pytest.raises(Denied, match="coming"):
        open_amd(Machine(str(place.root), environ={}))


def test_a_driver_that_is_built_into_the_kernel_has_no_state(place: Place) -> None:
    place.show(FakeAmdGpu())
    (place.root / "sys/module/amdgpu/initstate").unlink()
    place.write("sys/module/amdgpu/parameters/ppfeaturemask", "0xfff7bfff")
    sensor = open_amd(Machine(str(place.root), environ={}))
    assert len(sensor.channels) == 1
    sensor.close()


def test_a_library_that_cannot_be_loaded_is_an_absence(place: Place) -> None:
    place.show(FakeAmdGpu())
    library = place.root / "opt/rocm/lib" / fake.LIBRARY
    library.unlink()
    library.write_text("no ELF")
    with pytest.raises(Absent, match="cannot be loaded"):
        open_amd(Machine(str(place.root), environ={}))


def test_rocm_path_says_where_the_library_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.show(FakeAmdGpu())
    (place.root / "opt/rocm").rename(place.root / "opt/rocm-9")
    monkeypatch.setenv(fake.SCENE, str(place.root / "opt/rocm-9/lib/gpus.txt"))
    with pytest.raises(Absent, match=fake.LIBRARY):
        open_amd(Machine(str(place.root), environ={}))
    sensor = open_amd(Machine(str(place.root), environ={"ROCM_PATH": "/opt/rocm-9"}))
    assert len(sensor.channels) == 1
    sensor.close()


def test_a_closed_sensor_reads_gaps_and_can_be_opened_again(place: Place) -> None:
    for _ in range(3):
        sensor = place.open(FakeAmdGpu())
        assert isinstance(sensor.read()[0], Reading)
        sensor.close()
        assert isinstance(sensor.read()[0], Gap)
        assert sensor.usage() == []


# --- who used them --------------------------------------------------------------------------------------


def test_the_sensor_tells_who_used_its_gpus(place: Place) -> None:
    sensor = place.open(FakeAmdGpu(), FakeAmdGpu())
    assert isinstance(sensor, SharesDevices)
    assert sensor.usage() == []
    (place.root / "proc/77/fd").mkdir(parents=True)
    (place.root / "proc/77/fd/5").symlink_to("/dev/dri/renderD129")
    place.write(
        "proc/77/fdinfo/5",
        f"drm-driver: amdgpu\ndrm-client-id: 1\ndrm-pdev: {pci_of(1)}\ndrm-engine-compute: 250000000 ns",
    )
    assert [(use.device, use.pid, use.busy_s) for use in sensor.usage()] == [("gpu1", 77, 0.25)]


# --- the binding ----------------------------------------------------------------------------------------

QUIET = """
import logging, sys
from emt_cli.sensors.amd import open_amd
from emt_cli.sensors.base import Gap, Machine
sensor = open_amd(Machine(sys.argv[1], environ={}))
def put(seconds):
    with open(sys.argv[2], "w") as clock:
        clock.write(seconds)
put("1000")
assert isinstance(sensor.read()[0], Gap)
sensor.close()
assert "amdsmi" not in sys.modules
assert logging.getLogger().handlers == []
logging.basicConfig(stream=sys.stdout)  # a program's own log does not get it either
put("1")
open_amd(Machine(sys.argv[1], environ={})).close()
"""


def test_nothing_of_the_binding_reaches_the_terminal(place: Place, tmp_path: Path) -> None:
    """The library complains when it starts, some calls fail, and then the GPU is lost: pyrsmi logs it all."""
    clock = tmp_path / "clock"
    clock.write_text("1")
    place.show(
        FakeAmdGpu(
            has_counter=False,
            errors={"amdsmi_get_gpu_asic_info": 7, "amdsmi_get_gpu_device_bdf": 7},
            lost_at_s=1000.0,
        ),
        noise="/opt/amdgpu/share/libdrm/amdgpu.ids: No such file or directory",
        clock=clock,
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET, str(place.root), str(clock)],
        env={**os.environ, "PATH": ""},  # no shell, no child
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_muted_standard_error_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with _muted_stderr():
        os.write(2, b"lost\n")
    os.write(2, b"kept\n")
    assert capfd.readouterr().err == "kept\n"


def test_muted_standard_error_comes_back_while_the_library_hangs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.sensors.amd.binding._MUTED_AT_MOST_S", 0.01)
    until_s = time.monotonic() + 20
    with _muted_stderr():
        while not capfd.readouterr().err:
            os.write(2, b"now\n")
            assert time.monotonic() < until_s
    os.write(2, b"after\n")
    assert "after" in capfd.readouterr().err


def test_without_the_binding_the_remedy_is_its_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.show(FakeAmdGpu())
    monkeypatch.setitem(sys.modules, "pyrsmi", None)
    with pytest.raises(Denied) as caught:
        open_amd(Machine(str(place.root), environ={}))
    assert "pip install" in caught.value.hint


def test_a_machine_without_the_driver_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from emt_cli.sensors.amd import open_amd\n"
        "from emt_cli.sensors.base import Absent, Machine\n"
        "try: open_amd(Machine(sys.argv[1], environ={}))\n"
        "except Absent: pass\n"
        "assert not {'pyrsmi', 'ctypes', 'logging', 'subprocess'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-S", "-c", code, str(tmp_path)], cwd=REPOSITORY, check=True, timeout=60)
