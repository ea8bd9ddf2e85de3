"""The registry: openers that hang, break or refuse, sensors that overlap, and what has to be estimated."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emt_cli.errors import UsageError
from emt_cli.model import Channel, Gap, GpuUse, Reading
from emt_cli.sensors import BUILT_IN, CPU_MODEL, RAM_MODEL, Opened, open_available
from emt_cli.sensors.base import Absent, Denied, Machine, SharesDevices
from emt_cli.sensors.guarded import Guarded
from emt_cli.sensors.opening import Opening, Source
from emt_cli.sensors.outside import find_outside, scan_entry_points
from tests.simulation import Fault, SimulatedMachine, Zone

NOWHERE = Machine("/nowhere", environ={})


def channel(id: str, **fields) -> Channel:
    device, _, domain = id.partition("/")
    facts = {
        "id": id, "sensor": "fake", "device": device, "domain": domain or "gpu", "kind": "counter",
        "provenance": "measured", "source": "fake",
    }  # fmt: skip
    return Channel(**{**facts, **fields})


@dataclass
class Fake:
    channels: Sequence[Channel]
    name: str = "fake"
    min_period_s: float = 0.1
    is_closed: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Sequence[Reading | Gap]:
        return [Reading(time.monotonic(), 1) for _ in self.channels]

    def close(self) -> None:
        self.is_closed.set()


@dataclass
class CpuEstimate(Fake):
    includes_memory: bool = False


class Late:
    """An opener that waits for leave."""

    leave = threading.Event()
    sensor = Fake([channel("cpu0/package")])


class Stuck:
    """Many openers that wait, each with a sensor of its own: nobody else sees when they close it."""

    leave = threading.Event()


def open_package(machine: Machine) -> Fake:
    return Fake([channel("cpu0/package")])


def open_package_and_memory(machine: Machine) -> Fake:
    return Fake([channel("cpu0/package"), channel("cpu0/dram")], name="other")


def open_partly_locked(machine: Machine) -> Fake:
    sensor = open_package_and_memory(machine)
    sensor.unreadable = ("/sys/x",)
    return sensor


def open_gpu(machine: Machine) -> Fake:
    return Fake([channel("gpu0")])


def open_module(machine: Machine) -> Fake:
    return Fake([channel("gpu0", domain="module")], name="nvml")


def open_all_of_a_cpu(machine: Machine) -> Fake:
    ids = ["node/psys", "cpu0/package", "cpu0/core", "cpu0/dram"]
    return Fake([*map(channel, ids), channel("cpu0/package-mmio", dropped="mirror of cpu0/package")])


def open_memory(machine: Machine) -> Fake:
    return Fake([channel("cpu0/dram")])


def open_dropped(machine: Machine) -> Fake:
    return Fake([channel("cpu0/package", dropped="for a reason")])


def open_nothing(machine: Machine) -> Fake:
    raise Absent("not here")


def open_locked(machine: Machine) -> Fake:
    raise Denied("locked", hint="unlock it with {braces} and $USER")


def open_broken(machine: Machine) -> Fake:
    raise ZeroDivisionError("by a driver")


def open_exiting(machine: Machine) -> Fake:
    sys.exit(3)


def open_no_sensor(machine: Machine) -> object:
    return "a sensor, honestly"


def open_late(machine: Machine) -> Fake:
    Late.leave.wait()
    return Late.sensor


def open_stuck(machine: Machine) -> Fake:
    Stuck.leave.wait()
    return Fake([channel("cpu0/package")])


def open_cpu(machine: Machine) -> CpuEstimate:
    return CpuEstimate([channel("cpu", domain="package", kind="model", provenance="estimated")])


def open_cpu_with_memory(machine: Machine) -> CpuEstimate:
    sensor = open_cpu(machine)
    sensor.includes_memory = True
    return sensor


def open_ram(machine: Machine) -> Fake:
    return Fake([channel("ram", domain="dram", kind="model", provenance="estimated")])


def source(function: str, name: str = "", *, is_outside: bool = False) -> Source:
    return Source(name or function.removeprefix("open_"), __name__, function, is_outside)


def nothing_outside(environ: Mapping[str, str]) -> list[Source]:
    return []


def opened(*openers: str | Source, cpu: str = "open_cpu", outside: Sequence[Source] = (), **more) -> Opened:
    sources = [source(opener) if isinstance(opener, str) else opener for opener in openers]
    more = {"limit_s": 60.0, **more}
    return open_available(
        NOWHERE,
        built_in=sources,
        find_outside=lambda environ: outside,
        cpu_model=source(cpu),
        ram_model=source("open_ram"),
        **more,
    )


def ids(result: Opened) -> list[str]:
    return [c.id for sensor in result.sensors for c in sensor.channels]


def codes(result: Opened) -> list[str]:
    return [notice.code for notice in result.notices]


# --- opening ----------------------------------------------------------------------------------------


def test_what_is_there_is_opened_in_the_order_of_the_list() -> None:
    result = opened("open_gpu", "open_package_and_memory")
    assert ids(result) == ["gpu0", "cpu0/package", "cpu0/dram"]
    assert (result.notices, result.absent) == ((), ())


def test_what_is_absent_is_listed_and_nothing_is_said() -> None:
    result = opened("open_nothing", "open_package_and_memory")
    assert result.absent == (("nothing", "not here"),)
    assert codes(result) == []


def test_a_refusal_is_a_notice_with_its_remedy() -> None:
    result = opened("open_locked", "open_package_and_memory")
    (notice,) = result.notices
    assert (notice.code, notice.text) == ("sensor_denied", "locked: locked")
    assert notice.hint == "unlock it with {braces} and $USER"


@pytest.mark.parametrize(
    ("opener", "text"),
    [
        ("open_broken", "broken: ZeroDivisionError: by a driver"),
        ("open_exiting", "broken: SystemExit: 3"),
        ("open_no_sensor", "gave no sensor but a str"),
        ("open_missing", "broken: AttributeError"),
    ],
)
@pytest.mark.parametrize("is_outside", [False, True])
def test_an_opener_that_breaks_is_a_refusal_not_a_crash(opener: str, text: str, is_outside: bool) -> None:
    broken = source(opener, is_outside=is_outside)
    result = opened("open_package_and_memory", broken)
    assert codes(result) == ["sensor_denied"]
    assert text in result.notices[0].text
    assert ids(result) == ["cpu0/package", "cpu0/dram"]


def test_a_module_that_cannot_be_imported_is_a_refusal() -> None:
    result = opened("open_package_and_memory", Source("lost", "tests.no_such_module", "open", True))
    assert "ModuleNotFoundError" in result.notices[0].text


def test_a_sensor_that_does_not_answer_is_left_out_and_closes_itself_later() -> None:
    Late.leave.clear()
    Late.sensor.is_closed.clear()
    result = opened("open_late", "open_gpu", limit_s=0.2)
    assert codes(result)[0] == "sensor_stuck"
    assert "0.2 s" in result.notices[0].text
    assert ids(result) == ["gpu0", "cpu", "ram"]
    assert not Late.sensor.is_closed.is_set()
    Late.leave.set()
    assert Late.sensor.is_closed.wait(60)


def test_sensors_that_do_not_answer_share_one_deadline() -> None:
    before_s = time.monotonic()
    result = opened(*[source("open_stuck", f"stuck{n}") for n in range(20)], limit_s=0.25)
    assert codes(result).count("sensor_stuck") == 20
    assert time.monotonic() - before_s < 20 * 0.25
    Stuck.leave.set()


def test_a_sensor_that_came_in_time_stays_open() -> None:
    Late.leave.set()
    Late.sensor.is_closed.clear()
    opening = Opening(source("open_late"), NOWHERE)
    assert opening.result(time.monotonic() + 60) is Late.sensor
    assert not Late.sensor.is_closed.is_set()


def test_a_partly_locked_sensor_is_read_and_its_locked_part_is_told() -> None:
    result = opened("open_partly_locked")
    assert ids(result) == ["cpu0/package", "cpu0/dram"]
    assert codes(result) == ["sensor_denied"]
    assert "/sys/x" in result.notices[0].text


# --- the cover --------------------------------------------------------------------------------------


def test_where_nothing_is_measured_cpu_and_memory_are_estimated() -> None:
    result = opened("open_nothing")
    assert ids(result) == ["cpu", "ram"]
    (notice,) = result.notices
    assert notice.code == "estimated"
    assert "CPU and memory" in notice.text
    assert "bare-metal" in notice.hint


def test_a_cpu_model_that_holds_the_memory_is_not_given_another() -> None:
    assert ids(opened(cpu="open_cpu_with_memory")) == ["cpu"]


def test_where_the_package_is_measured_only_the_memory_is_estimated() -> None:
    result = opened("open_package")
    assert ids(result) == ["cpu0/package", "ram"]
    assert codes(result) == []


def test_a_gpu_alone_leaves_the_cpu_to_be_estimated() -> None:
    assert ids(opened("open_gpu")) == ["gpu0", "cpu", "ram"]


def test_the_estimate_names_the_permission_as_its_remedy() -> None:
    result = opened(source("open_locked", "powercap"))
    assert codes(result) == ["sensor_denied", "estimated"]
    assert result.notices[1].hint == "unlock it with {braces} and $USER"


def test_a_refused_gpu_is_no_reason_for_a_missing_cpu() -> None:
    result = opened(source("open_locked", "nvml"))
    assert "bare-metal" in result.notices[1].hint


def test_a_model_that_cannot_be_had_is_told_too() -> None:
    result = opened(cpu="open_nothing")
    assert ids(result) == ["ram"]
    assert result.absent == (("nothing", "not here"),)


def test_a_module_drops_the_cpu_and_memory_inside_it_and_needs_no_estimate() -> None:
    result = opened("open_all_of_a_cpu", "open_module")
    dropped = {c.id: c.dropped for sensor in result.sensors for c in sensor.channels}
    inside = "inside gpu0 module"
    assert dropped == {
        "node/psys": "",
        "cpu0/package": inside,
        "cpu0/core": inside,
        "cpu0/dram": inside,
        "cpu0/package-mmio": "mirror of cpu0/package",
        "gpu0": "",
    }


def test_what_two_sensors_see_counts_for_the_first() -> None:
    result = opened("open_package_and_memory", "open_package")
    assert ids(result) == ["cpu0/package", "cpu0/dram", "cpu0/package.2"]
    assert result.sensors[1].channels[0].dropped == "fake reads the same"
    assert len(result.sensors[1].read()) == 1


def test_measured_memory_is_not_estimated_on_top() -> None:
    result = opened("open_memory")
    assert ids(result) == ["cpu0/dram", "cpu"]
    assert "CPU energy" in result.notices[0].text


def test_a_dropped_package_does_not_stand_for_the_cpu() -> None:
    assert ids(opened("open_dropped")) == ["cpu0/package", "cpu", "ram"]


# --- the real list ----------------------------------------------------------------------------------


def test_every_built_in_opener_exists() -> None:
    import importlib

    for each in BUILT_IN:
        assert callable(getattr(importlib.import_module(each.module), each.function))


def test_every_sensor_of_the_list_is_held_to_the_contract() -> None:
    """A file of tests with a class of the contract names the sensor's module."""
    held = "".join(
        text
        for path in pathlib.Path(__file__).parent.glob("test_*.py")
        if "(SensorContract)" in (text := path.read_text())
    )
    for source in (*BUILT_IN, CPU_MODEL, RAM_MODEL):
        package, _, name = source.module.rpartition(".")
        assert source.module in held or f"from {package} import {name}" in held, source


def test_on_a_simulated_machine_the_real_list_finds_rapl(tmp_path: Path) -> None:
    zones = [Zone(), Zone(folder="intel-rapl:0:0", name="dram")]
    machine = SimulatedMachine(tmp_path, zones=zones, environ={"CUDA_VISIBLE_DEVICES": ""}).machine
    result = open_available(machine, find_outside=nothing_outside)
    assert [sensor.name for sensor in result.sensors] == ["powercap"]
    assert result.notices == ()
    assert "nvml" in [name for name, _ in result.absent]


def test_where_rapl_is_locked_the_real_list_estimates_and_says_how_to_unlock(tmp_path: Path) -> None:
    zones = [Zone(faults=(Fault(kind="EACCES"),))]
    machine = SimulatedMachine(tmp_path, zones=zones, environ={"CUDA_VISIBLE_DEVICES": ""}).machine
    result = open_available(machine, find_outside=nothing_outside)
    assert codes(result) == ["sensor_denied", "estimated"]
    assert "systemd-tmpfiles" in result.notices[1].hint
    for channel in (c for sensor in result.sensors for c in sensor.channels):
        assert channel.provenance == "estimated"


def test_a_replay_is_the_only_sensor(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("t_s,cpu0/package_j\n0,0\n1,5\n")
    result = open_available(NOWHERE, replay=str(path))
    assert [sensor.name for sensor in result.sensors] == ["replay"]


def test_a_bad_replay_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_available(NOWHERE, replay=str(tmp_path / "missing.csv"))


def test_importing_the_registry_loads_no_sensor_and_no_library() -> None:
    script = (
        "import sys, emt_cli.sensors; "
        "print([m for m in sys.modules if m.startswith('emt_cli.sensors.')"
        " or m in ('json', 'pynvml', 'psutil', 'rich', 'typer', 'importlib.metadata')])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(
        [f"emt_cli.sensors.{name}" for name in ("base", "gathering", "opening")]
    )


# --- sensors of other packages ----------------------------------------------------------------------


def installed(folder: Path, name: str, entries: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


class Scanner:
    """Counts the scans."""

    def __init__(self) -> None:
        self.scans = 0

    def __call__(self, folders: Sequence[str]) -> list[tuple[str, str, str]]:
        self.scans += 1
        return scan_entry_points(folders)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    installed(folder, "meter", "[emt.sensors]\nmeter = my.meter:open_meter\n[console_scripts]\nx = y:z\n")
    return folder


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "cache").mkdir()
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


METER = Source("meter", "my.meter", "open_meter", True)


def test_a_packages_sensor_is_found_by_its_entry_point(site: Path) -> None:
    assert find_outside({}, path=[str(site)]) == [METER]


def test_a_second_look_reads_the_remembered_scan(site: Path, environ: dict[str, str]) -> None:
    scan = Scanner()
    for _ in range(3):
        assert find_outside(environ, path=[str(site), "/nowhere"], scan=scan) == [METER]
    assert scan.scans == 1


def test_a_package_that_was_installed_since_is_found(site: Path, environ: dict[str, str]) -> None:
    scan = Scanner()
    find_outside(environ, path=[str(site)], scan=scan)
    installed(site, "second", "[emt.sensors]\nanother = other:open\n")
    os.utime(site, ns=(1, 1))
    found = find_outside(environ, path=[str(site)], scan=scan)
    assert [each.name for each in found] == ["another", "meter"]
    assert scan.scans == 2
    (file,) = Path(environ["XDG_CACHE_HOME"], "emt").iterdir()
    assert len(json.loads(file.read_text())) == 1


def test_the_folder_that_python_puts_first_is_not_searched(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def scan(folders: Sequence[str]) -> list[tuple[str, str, str]]:
        searched[:] = folders
        return []

    monkeypatch.chdir(tmp_path)
    for first in (str(tmp_path), "", os.path.dirname(os.path.abspath(sys.argv[0]))):
        monkeypatch.setattr(sys, "path", [first, str(site)])
        find_outside({}, scan=scan)
        assert searched == [str(site)]


def test_environments_are_remembered_side_by_side(
    site: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    scan = Scanner()
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        assert find_outside(environ, path=[str(site)], scan=scan) == [METER]
        assert find_outside(environ, path=[str(other)], scan=scan) == []
    assert scan.scans == 2


def test_the_cache_is_private_and_does_not_grow_without_end(
    site: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    for number in range(40):
        folder = tmp_path / f"env{number}"
        folder.mkdir()
        find_outside(environ, path=[str(folder)])
    cache = tmp_path / "cache/emt"
    (file,) = cache.iterdir()
    assert (cache.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert len(json.loads(file.read_text())) == 16


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"k": 5}', '{"k": [["a", "b"]]}', '{"k": [[1, 2, 3]]}', "[" * 50_000, "\x00"]
)
def test_a_damaged_cache_is_scanned_anew_and_mended(
    site: Path, environ: dict[str, str], tmp_path: Path, content: str
) -> None:
    scan = Scanner()
    find_outside(environ, path=[str(site)], scan=scan)
    file = tmp_path / "cache/emt/outside-sensors.json"
    file.write_text(content)
    for _ in range(2):
        assert find_outside(environ, path=[str(site)], scan=scan) == [METER]
    assert scan.scans == 2


def test_where_nothing_can_be_remembered_every_look_is_a_scan(site: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for environ in ({}, {"XDG_CACHE_HOME": str(tmp_path / "file")}, {"HOME": "/nowhere/at/all"}):
        assert find_outside(environ, path=[str(site)]) == [METER]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_cache_in_somebody_elses_home_is_neither_believed_nor_written(site: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = {"HOME": str(home)}
    find_outside(environ, path=[str(site)])
    (file,) = (home / ".cache/emt").iterdir()
    file.write_text(file.read_text().replace("my.meter", "evil"))
    os.chown(home / ".cache", 1000, 1000)
    assert find_outside(environ, path=[str(site)]) == [METER]
    assert "evil" in file.read_text()
    os.chown(home / ".cache", 0, 0)
    os.chown(file, 1000, 1000)
    assert find_outside(environ, path=[str(site)]) == [METER]


class Unruly(Fake):
    """Breaks every promise in turn."""

    answers: Sequence[object] = ()

    def read(self) -> Sequence[Reading | Gap]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def usage(self) -> Sequence[GpuUse]:
        raise RuntimeError("no")


def test_what_an_outside_sensor_raises_becomes_gaps() -> None:
    unruly = Unruly([channel("x1"), channel("x2")])
    good = [Reading(1.0, 1), Reading(1.0, 2)]
    unruly.answers = [RuntimeError("boom"), [Reading(1.0, 1)], None, good]
    guarded = Guarded(unruly)
    reasons = [[gap.reason for gap in guarded.read()] for _ in range(3)]
    assert reasons[0] == ["RuntimeError: boom"] * 2
    assert reasons[1] == ["1 readings for 2 channels"] * 2
    assert reasons[2][0].startswith("TypeError")
    assert guarded.read() == good
    guarded.close()
    assert unruly.is_closed.is_set()


def test_an_outside_sensor_shares_devices_if_it_can() -> None:
    assert isinstance(Guarded(Unruly([])), SharesDevices)
    assert not isinstance(Guarded(Fake([])), SharesDevices)
    assert Guarded(Unruly([])).usage() == ()


def open_with_wrong_channels(machine: Machine) -> Fake:
    return Fake(["cpu0/package"])


def test_an_outside_sensor_is_opened_guarded_and_its_channels_are_checked() -> None:
    outside = [source(f, is_outside=True) for f in ("open_gpu", "open_with_wrong_channels")]
    result = opened("open_package_and_memory", outside=outside)
    assert [type(sensor) for sensor in result.sensors] == [Fake, Guarded]
    assert "TypeError" in result.notices[0].text
