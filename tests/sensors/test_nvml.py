"""The NVIDIA sensor against a library with NVML's ABI, through the real pynvml, in processes of their own:
the loader looks at LD_LIBRARY_PATH only when a process starts. What is a pure function is tested as one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Gap, GpuUse, Reading
from emt_cli.sensors.base import Absent, Denied, Machine, Sensor, SharesDevices
from emt_cli.sensors.meters import meter
from emt_cli.sensors.nvml.feeds import Feed, UseModel
from emt_cli.sensors.nvml.gpu import EDGE_WAIT_S, Device, NvmlSensor
from emt_cli.sensors.nvml.sm_time import Shares, UtilizationSample, busy_seconds
from emt_cli.sensors.nvml.users import Untold, Users, pids_here
from emt_cli.sensors.visible import cuda_visible, mig_visible
from tests.fakes import nvml as fake
from tests.fakes.nvml import FakeGpu, FakeProcess, Mig, fake_nvml, uuid_of
from tests.sensors.contract import SensorContract

REPOSITORY = Path(__file__).parents[2]
HIDDEN = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "FAKE_NVML")

CHILD = """
import pickle, sys
from emt_cli.errors import SensorError
from emt_cli.sensors.base import Machine, Sensor, SharesDevices, WaitsForSteps
from emt_cli.sensors.nvml import open_nvml

def is_started():
    import pynvml
    try:
        pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError_Uninitialized:
        return False
    return True

def start():
    import pynvml
    pynvml.nvmlInit()

def open_sensor():
    global sensor
    sensor = open_nvml(Machine(sys.argv[1]))
    return sensor.channels, sensor.min_period_s, sensor.unreadable

calls = {
    "open": open_sensor, "start": start, "is_started": is_started,
    "is_sensor": lambda: all(isinstance(sensor, each) for each in (Sensor, SharesDevices, WaitsForSteps)),
    "has_pynvml": lambda: "pynvml" in sys.modules,
    "read": lambda: sensor.read(), "read_edge": lambda: sensor.read_edge(),
    "usage": lambda: sensor.usage(), "close": lambda: sensor.close(),
}
while True:
    try:
        name = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = calls[name]()
    except SensorError as error:
        answer = error
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Elsewhere:
    """The sensor in another process, where the loader finds the fake library: itself a `Sensor`."""

    name = "nvml"

    def __init__(self, environment: dict[str, str], root: str = "/") -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        self._child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CHILD, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**inherited, **environment},
        )
        self.channels: Sequence[Channel] = ()
        self.min_period_s = 0.0

    def ask(self, call: str) -> Any:
        """What the call returns over there; a SensorError is raised here."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        pickle.dump(call, self._child.stdin)
        self._child.stdin.flush()
        answer = pickle.load(self._child.stdout)  # from our own child
        if isinstance(answer, SensorError):
            raise answer
        return answer

    def open(self) -> Elsewhere:
        self.channels, self.min_period_s, self.unreadable = self.ask("open")
        return self

    def read(self) -> Sequence[Reading | Gap]:
        readings: Sequence[Reading | Gap] = self.ask("read")
        return readings

    def read_edge(self) -> Sequence[Reading | Gap]:
        readings: Sequence[Reading | Gap] = self.ask("read_edge")
        return readings

    def values(self) -> dict[str, int | float]:
        """What can be read now, by channel."""
        pairs = zip(self.channels, self.read(), strict=True)
        return {channel.id: reading.value for channel, reading in pairs if isinstance(reading, Reading)}

    @property
    def counted(self) -> list[str]:
        return [channel.id for channel in self.channels if not channel.dropped]

    def usage(self) -> Sequence[GpuUse]:
        uses: Sequence[GpuUse] = self.ask("usage")
        return uses

    def close(self) -> None:
        if self._child.poll() is None:
            self.ask("close")

    def end(self) -> None:
        self._child.communicate(timeout=30)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled once."""
    folder = tmp_path_factory.mktemp("nvml")
    fake_nvml(folder)
    return folder


class Place:
    """Starts processes that see the GPUs of one folder, and ends them."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder
        self._children: list[Elsewhere] = []
        os.link(library / fake.LIBRARY, folder / fake.LIBRARY)

    def show(self, *devices: FakeGpu, **others: Any) -> dict[str, str]:
        return fake_nvml(self.folder, devices, **others)

    def process(self, environment: dict[str, str], root: str = "/") -> Elsewhere:
        child = Elsewhere(environment, root)
        self._children.append(child)
        return child

    def open(self, *devices: FakeGpu, environ: dict[str, str] | None = None, **others: Any) -> Elsewhere:
        return self.process({**self.show(*devices, **others), **(environ or {})}).open()

    def end(self) -> None:
        for child in self._children:
            child.end()


@pytest.fixture
def place(tmp_path: Path, library: Path) -> Iterator[Place]:
    place = Place(tmp_path, library)
    yield place
    place.end()


class TestContract(SensorContract):
    """Two GPUs, one with a counter and one without."""

    GPUS = (FakeGpu(), FakeGpu(has_counter=False))

    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def open(self, folder: Path) -> Sensor:
        return self.place.open(*self.GPUS)

    def open_absent(self, folder: Path) -> Sensor:
        return self.place.process({}, root=str(folder / "nothing")).open()

    def open_locked(self, folder: Path) -> Sensor:
        return self.place.open(errors={"nvmlInitWithFlags": fake.NO_PERMISSION})

    def open_vanishing(self, folder: Path) -> tuple[Sensor, Callable[[], None]]:
        def vanish() -> None:
            self.place.show(*(FakeGpu(lost_at_s=0.0) for _ in self.GPUS))

        return self.place.open(*self.GPUS), vanish


# --- energy ---------------------------------------------------------------------------------------------


def test_two_gpus_count_exact_joules_while_the_clock_goes_on(place: Place) -> None:
    clock = place.folder / "clock"
    clock.write_text("1000.0")
    sensor = place.open(FakeGpu(power_w=300.0), FakeGpu(power_w=71.5), clock=clock)
    before = sensor.values()
    clock.write_text("2000.0")
    after = sensor.values()
    joules = [(after[id] - before[id]) * 1e-3 for id in ("gpu0", "gpu1")]
    assert joules == pytest.approx([300_000.0, 71_500.0], abs=1e-9)


def test_over_real_time_the_joules_are_right_within_one_refresh(place: Place) -> None:
    power_w, refresh_s = 300.0, 0.02
    sensor = place.open(FakeGpu(power_w=power_w, refresh_s=refresh_s))
    start_s = time.monotonic()
    first = sensor.values()["gpu0"]
    first_s = time.monotonic()
    last, last_s = first, first_s
    while last - first < 50_000:  # 50 J: a sixth of a second
        last_s = time.monotonic()
        last = sensor.values()["gpu0"]
    joules = (last - first) * sensor.channels[0].unit
    longest_s = time.monotonic() - start_s
    assert (last_s - first_s - refresh_s) * power_w <= joules <= (longest_s + refresh_s) * power_w


def test_the_meter_of_the_channel_takes_the_refresh_for_what_it_is(place: Place) -> None:
    sensor = place.open(FakeGpu(power_w=650.0))
    channel, _ = sensor.channels
    counter = meter(channel, 0.0, 0.1)
    for at_ms in range(0, 1000, 7):  # reads between the steps of 100 ms
        counter.update(Reading(at_ms / 1000, at_ms // 100 * 65_000))
    assert counter.energy_j == pytest.approx(0.9 * 650)
    assert counter.observed().resets == 0


def test_a_counter_channel_says_what_it_is(place: Place) -> None:
    channel, _ = place.open(FakeGpu(limit_w=350.0)).channels
    assert (channel.id, channel.device, channel.domain) == ("gpu0", "gpu0", "gpu")
    assert (channel.kind, channel.provenance, channel.unit) == ("counter", "measured", 1e-3)
    assert (channel.max_power_w, channel.accuracy, channel.range_raw) == (700.0, 0.05, None)
    for fact in ("nvmlDeviceGetTotalEnergyConsumption", "H100", uuid_of(0), "570.86.15"):
        assert fact in channel.source
    assert channel.note == ""


def test_an_unknown_power_limit_leaves_the_default(place: Place) -> None:
    refused = {
        "nvmlDeviceGetEnforcedPowerLimit": fake.NOT_SUPPORTED,
        "nvmlDeviceGetPowerManagementLimitConstraints": fake.NOT_SUPPORTED,
    }
    channel, _ = place.open(FakeGpu(errors=refused)).channels
    assert channel.max_power_w == 2000.0


@pytest.mark.parametrize(
    ("refused", "source", "milliwatts"),
    [
        ((), "NVML_FI_DEV_POWER_INSTANT", 180_000),
        (("field186",), "NVML_FI_DEV_POWER_AVERAGE", 150_000),
        (("field186", "field185"), "nvmlDeviceGetPowerUsage", 150_000),
        (("nvmlDeviceGetFieldValues",), "nvmlDeviceGetPowerUsage", 150_000),
    ],
)
def test_without_a_counter_power_is_read_from_the_best_call_there_is(
    place: Place, refused: tuple[str, ...], source: str, milliwatts: int
) -> None:
    errors = dict.fromkeys(refused, fake.NOT_SUPPORTED)
    sensor = place.open(
        FakeGpu(name="Tesla P100", power_w=180.0, average_w=150.0, has_counter=False, errors=errors)
    )
    (channel,) = sensor.channels
    assert (channel.kind, channel.provenance, channel.unit) == ("gauge", "integrated", 1e-3)
    assert channel.source.startswith(source)
    assert "no energy counter (Not Supported)" in channel.note
    assert [reading.value for reading in sensor.read()] == [milliwatts]
    assert sensor.min_period_s == 0.02
    assert channel.update_period_s == (0.1 if source.endswith("INSTANT") else 1.0)


@pytest.mark.parametrize(
    ("capability", "call", "period_s"),
    [
        ((6, 0), "nvmlDeviceGetPowerUsage, ", 0.1),
        ((8, 0), "nvmlDeviceGetPowerUsage, ", 0.1),  # GA100
        ((8, 6), "nvmlDeviceGetPowerUsage (over 1 s), ", 1.0),
        ((9, 0), "nvmlDeviceGetPowerUsage (over 1 s), ", 1.0),
    ],
)
def test_what_the_plain_power_call_means_depends_on_the_chip(
    place: Place, capability: tuple[int, int], call: str, period_s: float
) -> None:
    errors = dict.fromkeys(("field186", "field185"), fake.NOT_SUPPORTED)
    gpu = FakeGpu(capability=capability, has_counter=False, errors=errors)
    (channel,) = place.open(gpu).channels
    assert channel.source.startswith(call)
    assert channel.update_period_s == period_s


def test_where_the_chip_is_unknown_power_is_taken_for_a_mean(place: Place) -> None:
    refused = ("field186", "field185", "nvmlDeviceGetCudaComputeCapability")
    gpu = FakeGpu(has_counter=False, errors=dict.fromkeys(refused, fake.NOT_SUPPORTED))
    assert place.open(gpu).channels[0].update_period_s == 1.0


def test_beside_a_counter_power_is_read_to_check_it_and_counts_for_nothing(place: Place) -> None:
    sensor = place.open(FakeGpu(power_w=180.0, average_w=150.0, limit_w=300.0))
    counter, check = sensor.channels
    assert (check.id, check.device, check.within, check.checks) == ("gpu0/power", "gpu0", "gpu0", "gpu0")
    assert (check.kind, check.provenance, check.max_power_w) == ("gauge", "integrated", 600.0)
    assert check.dropped == "checks gpu0"
    assert not counter.dropped
    assert sensor.values()["gpu0/power"] == 180_000
    assert sensor.min_period_s == 0.05


def test_a_counter_of_a_module_is_checked_by_the_modules_power_alone(place: Place) -> None:
    name = "NVIDIA GH200 480GB"
    sensor = place.open(FakeGpu(name=name, power_w=300.0, module_w=420.0), FakeGpu(name=name))
    assert [channel.id for channel in sensor.channels] == ["gpu0", "gpu0/power", "gpu1"]
    assert sensor.values()["gpu0/power"] == 420_000
    check = sensor.channels[1]
    assert check.domain == "module"
    assert check.source.startswith("NVML_FI_DEV_POWER_INSTANT, module, ")


def test_a_gpu_that_tells_neither_energy_nor_power_is_estimated_by_its_name_and_use(place: Place) -> None:
    sensor = place.open(FakeGpu(name="Tesla T4", has_counter=False, has_power=False, use_percent=50))
    (channel,) = sensor.channels
    assert (channel.id, channel.kind, channel.provenance, channel.unit) == ("gpu0", "model", "estimated", 1.0)
    assert (channel.idle_w, channel.high_w) == (8.0, 70.0)
    assert channel.low_w is not None
    assert 0 < channel.low_w < 8.0
    assert "TDP of NVIDIA T4" in channel.source
    assert "TDP 70 W, idle 8 W" in channel.note
    first, *_, last = (sensor.values()["gpu0"] for _ in range(5))
    assert 0 <= first < last


def test_where_not_even_the_use_is_told_half_of_it_is_assumed_and_the_note_says_so(place: Place) -> None:
    errors = {"nvmlDeviceGetUtilizationRates": fake.NOT_SUPPORTED}
    sensor = place.open(FakeGpu(has_counter=False, has_power=False, errors=errors))
    (channel,) = sensor.channels
    assert "use taken as 50%" in channel.note
    assert isinstance(sensor.read()[0], Reading)


def test_a_use_that_cannot_be_read_is_a_gap_of_the_model(place: Place) -> None:
    silent = FakeGpu(has_counter=False, has_power=False)
    sensor = place.open(silent)
    place.show(replace(silent, errors={"nvmlDeviceGetUtilizationRates": fake.UNKNOWN}))
    assert isinstance(sensor.read()[0], Gap)


def test_the_model_counts_idle_power_and_the_rest_by_use() -> None:
    now_s, use = [100.0], [0]
    model = UseModel(20.0, 120.0, lambda handle: SimpleNamespace(gpu=use[0]), clock=lambda: now_s[0])
    assert model.read(None) == 0.0
    for use[0], now_s[0], joules in ((0, 110.0, 200.0), (50, 111.0, 270.0), (100, 112.0, 390.0)):
        assert model.read(None) == pytest.approx(joules)
    use[0], now_s[0] = 255, 113.0  # garbage: no GPU is busier than always
    assert model.read(None) == pytest.approx(510.0)


def test_a_power_call_that_fails_for_no_lack_of_support_is_no_reason_to_estimate(place: Place) -> None:
    errors = {"nvmlDeviceGetTotalEnergyConsumption": fake.UNKNOWN}
    sensor = place.open(FakeGpu(), FakeGpu(has_power=False, errors=errors))
    assert sensor.counted == ["gpu0"]
    assert sensor.unreadable == ("gpu1 (Unknown Error)",)


def test_a_gpu_that_may_be_opened_but_not_read_is_named(place: Place) -> None:
    errors = {"nvmlDeviceGetTotalEnergyConsumption": fake.NO_PERMISSION}
    sensor = place.open(FakeGpu(), FakeGpu(has_power=False, errors=errors))
    assert sensor.unreadable == ("gpu1 (Insufficient Permissions)",)


# --- edges ----------------------------------------------------------------------------------------------


def test_an_edge_is_read_just_after_a_step_of_each_counter(place: Place) -> None:
    sensor = place.open(FakeGpu(power_w=300.0), FakeGpu(power_w=100.0, refresh_s=0.02))
    before, edge = sensor.read(), sensor.read_edge()
    for at, channel in enumerate(sensor.channels):
        old, new = before[at], edge[at]
        assert isinstance(old, Reading)
        assert isinstance(new, Reading)
        assert new.t_s > old.t_s
        assert new.value > old.value or channel.kind != "counter"


def test_the_time_of_an_edge_is_that_of_the_step(place: Place) -> None:
    power_w, refresh_s = 300.0, 0.04
    sensor = place.open(FakeGpu(power_w=power_w, refresh_s=refresh_s))
    late_s = []
    for _ in range(16):
        edge = sensor.read_edge()[0]
        assert isinstance(edge, Reading)
        late_s.append(edge.t_s - edge.value * 1e-3 / power_w)
    # A plain reading is late by anything up to the refresh; a busy machine may spoil some of these.
    assert sorted(late_s)[4] < refresh_s / 8
    assert min(late_s) >= -1e-3, "in whole millijoules"


def test_a_counter_that_does_not_step_is_waited_for_no_longer_than_an_update(place: Place) -> None:
    clock = place.folder / "clock"
    clock.write_text("1000.0")
    sensor = place.open(FakeGpu(), FakeGpu(has_counter=False), clock=clock)
    started_s = time.monotonic()
    broken, _, gauge = sensor.read_edge()
    took_s = time.monotonic() - started_s
    assert isinstance(broken, Reading)
    assert isinstance(gauge, Reading)
    assert broken.value == 300_000_000
    assert broken.t_s < started_s + took_s - EDGE_WAIT_S / 2, "the plain reading, at its own time"


def test_without_counters_nothing_is_waited_for(place: Place) -> None:
    class Binding:
        NVMLError = ValueError

    feed = Feed("power", "gauge", 0.1, lambda handle: 7)
    device = Device(cast(ModuleType, Binding()), "GPU-1", None, [], [feed], Untold("gpu0"))
    started_s = time.monotonic()
    readings = [NvmlSensor(cast(ModuleType, Binding()), [device]).read_edge() for _ in range(50)]
    assert [one[0].value for one in readings if isinstance(one[0], Reading)] == [7] * 50
    assert time.monotonic() - started_s < 50 * EDGE_WAIT_S


def test_a_grace_hopper_counter_is_of_the_module(place: Place) -> None:
    sensor = place.open(FakeGpu(name="NVIDIA GH200 480GB"), FakeGpu(name="NVIDIA GB200"))
    hopper, blackwell = (channel for channel in sensor.channels if not channel.dropped)
    assert (hopper.domain, hopper.within) == ("module", None)
    assert "Grace CPU" in hopper.note
    assert blackwell.domain == "gpu"


def test_a_board_in_mig_mode_says_that_the_energy_is_the_whole_boards(place: Place) -> None:
    channel, _ = place.open(FakeGpu(instances=[Mig(uuid="MIG-1111")])).channels
    assert "MIG" in channel.note


def test_the_fakes_load_comes_on_top_while_its_process_lives(place: Place) -> None:
    clock, pid_file = place.folder / "clock", place.folder / "pid"
    clock.write_text("10")
    gpu = FakeGpu(power_w=50.0, load_w=250.0, processes=[FakeProcess(pid_file=pid_file)])
    sensor = place.open(gpu, clock=clock)
    first = sensor.values()["gpu0"]
    clock.write_text("20")
    idle = sensor.values()["gpu0"]
    pid_file.write_text(str(os.getpid()))
    clock.write_text("30")
    assert (idle - first, sensor.values()["gpu0"] - idle) == (500_000, 3_000_000)


# --- faults ---------------------------------------------------------------------------------------------


def test_a_gpu_lost_during_the_run_becomes_a_gap_and_the_other_goes_on(place: Place) -> None:
    sensor = place.open(FakeGpu(), FakeGpu())
    place.show(FakeGpu(), FakeGpu(lost_at_s=0.0))
    first, _, second, check = sensor.read()
    assert isinstance(first, Reading)
    assert isinstance(second, Gap)
    assert second.reason == "nvmlDeviceGetTotalEnergyConsumption: GPU is lost"
    assert isinstance(check, Gap)


def test_a_gpu_is_lost_at_its_time(place: Place) -> None:
    clock = place.folder / "clock"
    clock.write_text("59.9")
    sensor = place.open(FakeGpu(lost_at_s=60.0), clock=clock)
    assert isinstance(sensor.read()[0], Reading)
    clock.write_text("60.1")
    assert isinstance(sensor.read()[0], Gap)


def test_a_gpu_that_comes_back_under_another_index_is_found_by_its_uuid(place: Place) -> None:
    clock = place.folder / "clock"
    clock.write_text("1000.0")
    first, second = FakeGpu(uuid="GPU-aaaa", power_w=300.0), FakeGpu(uuid="GPU-bbbb", power_w=100.0)
    sensor = place.open(first, second, clock=clock)
    place.show(replace(first, lost_at_s=0.0), second, clock=clock)
    assert sensor.values()["gpu1"] == 100_000_000
    assert "gpu0" not in sensor.values()
    place.show(second, replace(first, returns=1, counts_from_s=900.0), clock=clock)
    deadline_s = time.monotonic() + 30
    while "gpu0" not in (values := sensor.values()) and time.monotonic() < deadline_s:
        assert values["gpu1"] == 100_000_000, "the others keep their own"
    assert values == {"gpu0": 30_000_000, "gpu0/power": 300_000, "gpu1": 100_000_000, "gpu1/power": 100_000}


def test_a_lost_gpu_is_looked_for_at_most_once_a_second() -> None:
    class Lost(Exception):
        value = fake.GPU_IS_LOST

    class Binding:
        NVMLError = Lost
        looked = 0

        def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:  # noqa: N802
            self.looked += 1
            raise Lost

    def lost(handle: object) -> int:
        raise Lost

    binding, feed = Binding(), Feed("energy", "counter", 0.1, lost)
    device = Device(cast(ModuleType, binding), "GPU-1", None, [], [feed], Untold("gpu0"))
    started_s = time.monotonic()
    for _ in range(100):
        with pytest.raises(Lost):
            device.ask(feed)
    assert 1 <= binding.looked <= 1 + (time.monotonic() - started_s)


@pytest.mark.parametrize("code", [fake.UNKNOWN, 10, 16, 4711])
def test_any_error_of_a_read_is_a_gap_and_the_next_read_is_tried(place: Place, code: int) -> None:
    sensor = place.open(FakeGpu())
    place.show(FakeGpu(errors={"nvmlDeviceGetTotalEnergyConsumption": code}))
    assert isinstance(sensor.read()[0], Gap)
    place.show(FakeGpu())
    assert isinstance(sensor.read()[0], Reading)


def test_a_power_field_that_fails_becomes_a_gap(place: Place) -> None:
    sensor = place.open(FakeGpu(has_counter=False))
    place.show(FakeGpu(has_counter=False, errors={"field186": fake.UNKNOWN}))
    (reading,) = sensor.read()
    assert isinstance(reading, Gap)
    assert "Unknown Error" in reading.reason


@pytest.mark.parametrize(
    ("code", "absence", "said"),
    [
        (fake.DRIVER_NOT_LOADED, Absent, "Driver Not Loaded"),
        (6, Absent, "Not Found"),
        (fake.NO_PERMISSION, Denied, "/dev/nvidia"),
        (fake.MISMATCH, Denied, "reboot"),
        (fake.UNKNOWN, Denied, "nvidia-smi"),
    ],
)
def test_what_init_says_tells_absent_from_denied(
    place: Place, code: int, absence: type[SensorError], said: str
) -> None:
    with pytest.raises(absence) as caught:
        place.open(errors={"nvmlInitWithFlags": code})
    assert said in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("devices", "absence"),
    [
        ((), Absent),
        ((FakeGpu(errors={"nvmlDeviceGetUUID": fake.NO_PERMISSION}),), Denied),
        ((FakeGpu(lost_at_s=0.0),), Denied),
        ((FakeGpu(has_power=False, errors={"nvmlDeviceGetTotalEnergyConsumption": fake.UNKNOWN}),), Denied),
    ],
)
def test_a_failed_opening_shuts_nvml_down_again(
    place: Place, devices: tuple[FakeGpu, ...], absence: type[SensorError]
) -> None:
    process = place.process(place.show(*devices))
    with pytest.raises(absence) as caught:
        process.ask("open")
    assert absence is Absent or caught.value.hint
    assert not process.ask("is_started")


def test_an_error_in_the_middle_of_opening_shuts_nvml_down_again(place: Place) -> None:
    process = place.process(place.show(FakeGpu(), errors={"nvmlSystemGetDriverVersion": fake.UNKNOWN}))
    with pytest.raises(Denied):
        process.ask("open")
    assert not process.ask("is_started")


def test_closing_twice_shuts_down_once_and_leaves_other_users_of_nvml_alone(place: Place) -> None:
    process = place.process(place.show(FakeGpu()))
    process.ask("start")
    process.open()
    process.close()
    process.close()
    assert process.ask("is_started")
    assert isinstance(process.read()[0], Gap)
    assert process.usage() == []


def test_without_the_library_nvml_is_absent_and_pynvml_stays_unimported(place: Place) -> None:
    process = place.process({}, root=str(place.folder / "empty"))
    with pytest.raises(Absent, match=r"libnvidia-ml\.so\.1"):
        process.ask("open")
    assert not process.ask("has_pynvml")


def test_a_simulated_machine_finds_the_library_under_its_root_only(place: Place, library: Path) -> None:
    root = place.folder / "root"
    with pytest.raises(Absent):
        place.process(place.show(FakeGpu()), root=str(root)).open()
    (root / "usr/lib").mkdir(parents=True)
    os.link(library / fake.LIBRARY, root / "usr/lib" / fake.LIBRARY)
    environment = {"FAKE_NVML": fake_nvml(root / "usr/lib", [FakeGpu()])["FAKE_NVML"]}
    assert place.process(environment, root=str(root)).open().counted == ["gpu0"]


def test_gpus_of_other_jobs_are_passed_over_and_do_not_count_as_cuda_indices(place: Place) -> None:
    forbidden = FakeGpu(errors={"nvmlDeviceGetUUID": fake.NO_PERMISSION})
    sensor = place.open(forbidden, FakeGpu(), environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert sensor.counted == ["gpu1"]
    assert sensor.unreadable == ()


def test_a_gpu_that_tells_nothing_is_left_out_by_name(place: Place) -> None:
    sensor = place.open(FakeGpu(lost_at_s=0.0), FakeGpu())
    assert sensor.counted == ["gpu1"]
    assert sensor.unreadable == ("gpu0 (GPU is lost)",)


def test_the_sensor_is_one_that_shares_devices(place: Place) -> None:
    sensor = place.open(FakeGpu())
    assert sensor.ask("is_sensor")
    assert isinstance(sensor, SharesDevices)


# --- visible devices ------------------------------------------------------------------------------------

UUIDS = [
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-8932aaaa-0000-4106-c12f-20bd9faed9f7",
    "GPU-1b3cffff-0000-4106-c12f-20bd9faed9f8",
]
INSTANCES = [[], ["MIG-77aa0000-1", "MIG-77bb0000-2"], ["MIG-99cc0000-3"]]


@pytest.mark.parametrize(
    ("setting", "positions"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        (" 2 , 0", [0, 2]),
        ("1,1,1", [1]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("2,,1", [2]),
        ("1x,0", []),
        ("²", []),
        ("9" * 5000, []),
        (UUIDS[1], [1]),
        ("GPU-1b3c", [2]),
        ("gpu-1b3c", []),
        ("GPU-8932", []),
        ("GPU-8932F", [0]),
        ("2,GPU-8932,0", [2]),
        ("MIG-77aa0000-1", [1]),
        ("MIG-77aa0000-1,MIG-77bb0000-2,MIG-99", [1, 2]),
        ("MIG-77", []),
        (f"MIG-{UUIDS[2]}/7/0", [2]),
        ("MIG-GPU-nothere/1/0", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(setting: str | None, positions: list[int]) -> None:
    assert cuda_visible(setting, UUIDS, INSTANCES) == positions


@given(st.text(alphabet="0123-,GPUMI/ax ", max_size=30))
def test_no_setting_names_a_gpu_twice_or_one_that_is_not_there(setting: str) -> None:
    positions = cuda_visible(setting, UUIDS, INSTANCES)
    assert positions == sorted(set(positions) & {0, 1, 2})


@pytest.mark.parametrize(
    ("setting", "ids"),
    [
        ("1", ["gpu1"]),
        ("1,0,1", ["gpu0", "gpu1"]),
        (uuid_of(1)[:9], ["gpu1"]),
        ("MIG-2222", ["gpu1"]),
        (f"MIG-{uuid_of(0)}/3/0", ["gpu0"]),
    ],
)
def test_only_visible_gpus_become_channels(place: Place, setting: str, ids: list[str]) -> None:
    gpus = FakeGpu(), FakeGpu(instances=[Mig(uuid="MIG-1111"), Mig(uuid="MIG-2222")])
    sensor = place.open(*gpus, environ={"CUDA_VISIBLE_DEVICES": setting})
    assert sensor.counted == ids


@pytest.mark.parametrize("setting", ["", "-1", "NoDevFiles", "-1,0", "5", "GPU-none"])
def test_where_no_gpu_is_visible_the_sensor_is_absent(place: Place, setting: str) -> None:
    with pytest.raises(Absent, match="CUDA_VISIBLE_DEVICES"):
        place.open(FakeGpu(), environ={"CUDA_VISIBLE_DEVICES": setting})


@pytest.mark.parametrize(
    ("environ", "count", "is_noted"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1"}, 2, True),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 2, False),
        ({"CUDA_VISIBLE_DEVICES": uuid_of(1)}, 2, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 1, False),
        ({}, 2, False),
    ],
)
def test_the_order_of_indices_is_noted_where_it_can_matter(
    place: Place, environ: dict[str, str], count: int, is_noted: bool
) -> None:
    sensor = place.open(*[FakeGpu()] * count, environ=environ)
    counted = (channel for channel in sensor.channels if not channel.dropped)
    assert all(("CUDA_DEVICE_ORDER" in channel.note) == is_noted for channel in counted)


# --- processes ------------------------------------------------------------------------------------------


def asked_until_told(sensor: Elsewhere) -> list[GpuUse]:
    """Uses of the first question that finds a sample; the fake driver takes one every few milliseconds."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        uses = list(sensor.usage())
        if any(use.busy_s for use in uses):
            return uses
    raise AssertionError("no sample came")


def test_processes_share_a_gpu_by_their_sm_time_and_idle_ones_are_named(place: Place) -> None:
    processes = [
        FakeProcess(pid=101, sm_percent=60),
        FakeProcess(pid=102, sm_percent=30),
        FakeProcess(pid=103),
    ]
    opening_s = time.monotonic()
    sensor = place.open(FakeGpu(refresh_s=0.005, processes=processes))
    busy = {use.pid: use.busy_s for use in asked_until_told(sensor)}
    assert set(busy) == {101, 102, 103}
    assert busy[103] == 0.0
    assert busy[101] == pytest.approx(2 * busy[102])
    assert 0 < busy[101] <= 0.6 * (time.monotonic() - opening_s)


def test_each_stretch_of_sm_time_is_told_once(place: Place) -> None:
    start_s = time.monotonic()
    sensor = place.open(FakeGpu(refresh_s=0.005, processes=[FakeProcess(pid=7, sm_percent=50)]))
    asked_until_told(sensor)
    total_s = sum(use.busy_s or 0.0 for _ in range(300) for use in sensor.usage())
    assert total_s <= 0.5 * (time.monotonic() - start_s)


def test_a_process_that_turns_up_between_the_bindings_two_calls_is_asked_for_again() -> None:
    class Refused(Exception):
        value = 7  # INSUFFICIENT_SIZE

    class Binding:
        NVMLError = Refused
        calls = 0

        def nvmlDeviceGetProcessUtilization(self, handle: object, since_us: int) -> list[Any]:  # noqa: N802
            self.calls += 1
            if self.calls == 1:
                raise Refused
            return [SimpleNamespace(pid=5, timeStamp=since_us + 1, smUtil=100)]

    assert Shares(cast(ModuleType, Binding()), None).busy_s_by_pid() == pytest.approx({5: 1e-6})


def test_a_process_is_on_the_gpu_once_its_pid_file_is_written(place: Place) -> None:
    pid_file = place.folder / "child.pid"
    sensor = place.open(FakeGpu(processes=[FakeProcess(pid_file=pid_file)]))
    assert sensor.usage() == []
    pid_file.write_text(f"{os.getpid()}\n")
    assert sensor.usage() == [GpuUse(device="gpu0", pid=os.getpid(), busy_s=0.0)]


def test_processes_are_told_by_device(place: Place) -> None:
    gpus = [FakeGpu(processes=[FakeProcess(pid=1000 + n)]) for n in range(3)]
    sensor = place.open(*gpus, environ={"CUDA_VISIBLE_DEVICES": "1,2"})
    assert [(use.device, use.pid) for use in sensor.usage()] == [("gpu1", 1001), ("gpu2", 1002)]


@pytest.mark.parametrize(
    "gpu",
    [
        FakeGpu(
            processes=[FakeProcess(pid=9, sm_percent=90)],
            errors={"nvmlDeviceGetProcessUtilization": fake.NO_PERMISSION},
        ),
        FakeGpu(
            processes=[FakeProcess(pid=9, sm_percent=90)],
            errors={
                "nvmlDeviceGetProcessUtilization": fake.FUNCTION_NOT_FOUND,
                "nvmlDeviceGetComputeRunningProcesses_v3": fake.FUNCTION_NOT_FOUND,
            },
        ),
    ],
    ids=["no permission", "old driver"],
)
def test_where_the_driver_does_not_tell_shares_the_busy_time_is_unknown(place: Place, gpu: FakeGpu) -> None:
    assert place.open(gpu).usage() == [GpuUse(device="gpu0", pid=9, busy_s=None)]


def test_usage_of_a_lost_gpu_is_nothing_and_raises_nothing(place: Place) -> None:
    sensor = place.open(FakeGpu(processes=[FakeProcess(pid=9, sm_percent=90)]))
    place.show(FakeGpu(lost_at_s=0.0))
    assert sensor.usage() == []


# --- instances and namespaces ---------------------------------------------------------------------------

HALVES = (Mig(uuid="MIG-1111", slices=3), Mig(uuid="MIG-2222", slices=2))


def on_parts(sensor: Elsewhere) -> list[tuple[int, str, float | None]]:
    return [(use.pid, use.part, use.part_share) for use in sensor.usage()]


def test_processes_on_mig_are_told_by_instance_and_its_slices(place: Place) -> None:
    processes = [
        FakeProcess(pid=7, instance=1, sm_percent=50),
        FakeProcess(pid=8, instance=2),
        FakeProcess(pid=9, instance=2),
    ]
    sensor = place.open(FakeGpu(instances=HALVES, processes=processes))
    assert on_parts(sensor) == [
        (7, "MIG-1111", pytest.approx(3 / 7)),
        (8, "MIG-2222", pytest.approx(2 / 7)),
        (9, "MIG-2222", pytest.approx(2 / 7)),
        (0, "", pytest.approx(2 / 7)),
    ]
    assert all(use.busy_s is None for use in sensor.usage())


def test_a_board_whose_slices_are_all_seen_has_nobody_unknown_on_it(place: Place) -> None:
    whole = [Mig(uuid="MIG-1", slices=4), Mig(uuid="MIG-2", slices=3)]
    sensor = place.open(FakeGpu(instances=whole, processes=[FakeProcess(pid=7, instance=2)]))
    assert on_parts(sensor) == [(7, "MIG-2", pytest.approx(3 / 7))]


def test_where_instances_tell_no_processes_the_visible_ones_are_of_unknown_use(place: Place) -> None:
    calls = [f"nvmlDeviceGet{kind}RunningProcesses_v{n}" for kind in ("Compute", "Graphics") for n in (2, 3)]
    gpu = FakeGpu(instances=HALVES, errors=dict.fromkeys(calls, fake.NO_PERMISSION))
    sensor = place.open(gpu, environ={"CUDA_VISIBLE_DEVICES": "MIG-2222"})
    assert on_parts(sensor) == [(0, "MIG-2222", pytest.approx(2 / 7)), (0, "", pytest.approx(2 / 7))]


@pytest.mark.parametrize(
    ("setting", "is_visible"),
    [
        (None, True),
        ("0", True),
        ("GPU-8932", True),
        ("MIG-1111", True),
        ("MIG-2222", False),
        ("0, MIG-11", True),
        ("MIG-GPU-1/2/0", True),
    ],
)
def test_an_instance_is_visible_unless_others_are_named(setting: str | None, is_visible: bool) -> None:
    assert mig_visible(setting, "MIG-1111") == is_visible


def test_where_the_driver_lists_no_processes_somebody_unknown_uses_the_gpu(place: Place) -> None:
    calls = [f"nvmlDeviceGet{kind}RunningProcesses_v{n}" for kind in ("Compute", "Graphics") for n in (2, 3)]
    sensor = place.open(FakeGpu(errors=dict.fromkeys(calls, fake.NOT_SUPPORTED)))
    assert sensor.usage() == [GpuUse(device="gpu0", pid=0, busy_s=None)]


def rooted(place: Place, library: Path, *processes: FakeProcess, wsl: bool = False) -> Elsewhere:
    """A sensor that believes itself in a PID namespace of its own, or in WSL2."""
    root = place.folder / "root"
    (root / "usr/lib").mkdir(parents=True)
    os.link(library / fake.LIBRARY, root / "usr/lib" / fake.LIBRARY)
    if wsl:
        (root / "dev").mkdir()
        (root / "dev/dxg").touch()
    else:
        (root / "proc/self/ns").mkdir(parents=True)
        (root / "proc/self/ns/pid").symlink_to("pid:[4026532281]")
        (root / "proc/324").mkdir()
        (root / "proc/324/comm").write_text("python\n")
        (root / "proc/325").mkdir()
        (root / "proc/325/comm").write_text("python\n")
    gpu = FakeGpu(refresh_s=0.005, processes=processes)
    return place.process(fake_nvml(root / "usr/lib", [gpu]), root=str(root)).open()


def test_on_wsl_nobody_is_told_and_that_is_said(place: Place, library: Path) -> None:
    sensor = rooted(place, library, wsl=True)
    assert sensor.usage() == [GpuUse(device="gpu0", pid=0, busy_s=None)]


def test_a_namespaces_only_user_has_the_compute_time_that_goes_by_its_host_pid(
    place: Place, library: Path
) -> None:
    sensor = rooted(place, library, FakeProcess(pid=324, host_pid=645400, sm_percent=60))
    (use,) = asked_until_told(sensor)
    assert use.pid == 324


def test_two_users_of_a_namespace_cannot_be_told_apart_by_host_pids(place: Place, library: Path) -> None:
    both = [FakeProcess(pid=pid, host_pid=645_000 + pid, sm_percent=30) for pid in (324, 325)]
    sensor = rooted(place, library, *both)
    assert told_in_the_end(sensor, {324: None, 325: None})


def test_more_users_by_host_pids_than_the_namespace_has_are_strangers() -> None:
    binding = cast(ModuleType, Processes([324], {645400: 30, 645500: 30}))
    users = Users(binding, "gpu0", None, None, lambda pid: True)
    assert users.uses() == [GpuUse(device="gpu0", pid=pid, busy_s=None) for pid in (324, 0)]


def test_host_pids_in_the_list_mean_nothing_in_a_namespace_even_where_one_fits(
    place: Place, library: Path
) -> None:
    sensor = rooted(place, library, FakeProcess(pid=645400), FakeProcess(pid=324))
    assert sensor.usage() == [GpuUse(device="gpu0", pid=0, busy_s=None)]


def test_strangers_alone_are_none_of_the_namespaces_business() -> None:
    users = Users(cast(ModuleType, Processes([], {645500: 30})), "gpu0", None, None, lambda pid: True)
    assert users.uses() == []


@pytest.mark.parametrize(
    ("link", "is_own"), [("pid:[4026531836]", False), ("pid:[4026532281]", True), ("", False)]
)
def test_the_first_pid_namespace_is_known_by_its_number(tmp_path: Path, link: str, is_own: bool) -> None:
    if link:
        (tmp_path / "proc/self/ns").mkdir(parents=True)
        (tmp_path / "proc/self/ns/pid").symlink_to(link)
    exists = pids_here(Machine(str(tmp_path)))
    assert (exists is not None) == is_own
    assert exists is None or not exists(1)


class Processes:
    """A binding whose driver lists some processes and tells the compute time of others."""

    class NVMLError(Exception):
        value = fake.NOT_SUPPORTED

    def __init__(self, listed: Sequence[int], busy: dict[int, int]) -> None:
        self._listed, self._busy = listed, busy

    def nvmlDeviceGetMigMode(self, handle: object) -> Any:  # noqa: N802
        raise self.NVMLError

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: object) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self._listed]

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: object) -> list[Any]:  # noqa: N802
        return []

    def nvmlDeviceGetProcessUtilization(self, handle: object, since_us: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid, timeStamp=since_us + 1, smUtil=sm) for pid, sm in self._busy.items()]


def told_in_the_end(sensor: Elsewhere, expected: dict[int, float | None]) -> bool:
    """Whether the uses come out as expected once the fake driver has taken a sample."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if {use.pid: use.busy_s for use in sensor.usage()} == expected:
            return True
    return False


def sample(pid: int, t_us: int, sm_percent: int) -> UtilizationSample:
    return UtilizationSample(pid, t_us, sm_percent)


def test_one_sample_a_process_holds_for_the_whole_span_whoever_was_seen_last() -> None:
    busy, newest_us = busy_seconds(
        [sample(1, 11_000_000, 50), sample(2, 12_000_000, 25)], 10_000_000, 12_100_000
    )
    assert busy == pytest.approx({1: 1.0, 2: 0.5})
    assert newest_us == 12_000_000


def test_several_samples_of_a_process_hold_each_from_the_one_before() -> None:
    samples = [sample(1, 12_000_000, 100), sample(1, 11_500_000, 20)]
    busy, _ = busy_seconds(samples, 11_000_000, 12_000_000)
    assert busy == pytest.approx({1: 0.2 * 0.5 + 1.0 * 0.5})


def test_leftovers_of_the_drivers_buffer_are_no_use() -> None:
    stale, future, nobody = sample(1, 10_000_000, 50), sample(2, 99_000_000, 50), sample(0, 11_000_000, 50)
    assert busy_seconds([stale, future, nobody], 10_000_000, 12_000_000) == ({}, 10_000_000)


def test_a_share_above_the_whole_is_unknown_not_zero() -> None:
    busy, _ = busy_seconds([sample(1, 11_000_000, 2147483632)], 10_000_000, 12_000_000)
    assert busy == {1: None}


@given(
    st.lists(
        st.builds(UtilizationSample, st.integers(0, 4), st.integers(0, 10**7), st.integers(0, 100)),
        max_size=12,
    ),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)
def test_nobody_is_busy_for_longer_than_the_span(
    samples: list[UtilizationSample], since_us: int, now_us: int
) -> None:
    busy, newest_us = busy_seconds(samples, since_us, now_us)
    assert since_us <= newest_us <= max(since_us, now_us)
    assert all(
        busy_s is not None and 0 <= busy_s <= (newest_us - since_us) / 1e6 + 1e-9 for busy_s in busy.values()
    )


@pytest.mark.hardware
def test_a_real_gpu_reads_and_its_counter_never_falls() -> None:
    real = Elsewhere({})
    try:
        real.open()
    except SensorError as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    else:
        first, last = real.read(), real.read()
        for channel, before, after in zip(real.channels, first, last, strict=True):
            assert isinstance(before, Reading)
            assert isinstance(after, Reading)
            assert channel.kind != "counter" or after.value >= before.value
        assert all(use.pid > 0 for use in real.usage())
    finally:
        real.end()
