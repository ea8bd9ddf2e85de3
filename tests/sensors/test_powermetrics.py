"""powermetrics: property lists as Apple Silicon and Intel write them, and the stream that brings them.

The program of these tests is a Python script that writes what powermetrics would, so that starting, reading
and ending it is the real thing.
"""

from __future__ import annotations

import importlib.machinery
import plistlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.model import Gap, Reading
from emt_cli.sensors import powermetrics
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.powermetrics import Powermetrics, Program, open_powermetrics
from emt_cli.sensors.powermetrics_samples import APPLE_PARTS, INTEL_PARTS, energies, parse
from tests.sensors.contract import SensorContract

MAC = Machine(platform="darwin")

M1 = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>503457917</integer>
<key>hw_model</key><string>MacBookPro18,3</string>
<key>kern_osversion</key><string>23F79</string>
<key>timestamp</key><date>2026-03-02T10:11:12Z</date>
<key>thermal_pressure</key><string>Nominal</string>
<key>processor</key>
<dict>
<key>clusters</key>
<array><dict><key>name</key><string>E-Cluster</string><key>freq_hz</key><real>1.03e+09</real></dict></array>
<key>ane_energy</key><integer>12</integer>
<key>cpu_energy</key><integer>640</integer>
<key>gpu_energy</key><integer>305</integer>
<key>ane_power</key><real>23.83516</real>
<key>cpu_power</key><real>1272.4202</real>
<key>gpu_power</key><real>607.1927</real>
<key>combined_power</key><real>1903.4481</real>
</dict>
<key>gpu</key>
<dict><key>freq_hz</key><real>4.0e+08</real><key>idle_ratio</key><real>0.7</real></dict>
</dict>
</plist>
"""
"""macOS 14; trimmed."""

BIG_SUR = b"""<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>elapsed_ns</key><integer>1000000000</integer>
<key>processor</key><dict>
<key>ane_energy</key><integer>0</integer>
<key>dram_energy</key><integer>89</integer>
<key>cpu_energy</key><integer>640</integer>
<key>gpu_energy</key><integer>31</integer>
<key>package_energy</key><integer>1046</integer>
</dict></dict></plist>
"""
"""macOS 11: whole millijoules and DRAM, no powers."""

INTEL = b"""<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>2000000000</integer>
<key>hw_model</key><string>MacBookPro16,1</string>
<key>processor</key><dict>
<key>freq_hz</key><real>2.6e+09</real>
<key>package_watts</key><real>26.86</real>
<key>packages</key><array/>
</dict>
<key>GPU</key><array><dict><key>name</key><string>IntelIG</string></dict></array>
</dict></plist>
"""


class FakeStream:
    """Bytes as they are fed; `ask` calls `answer`."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.answer: Callable[[], None] = lambda: None
        self.asked = threading.Event()
        for block in blocks:
            self.feed(block)

    def feed(self, block: bytes) -> None:
        self._blocks.put(block)

    def end(self) -> None:
        self._blocks.put(b"")

    def read(self) -> bytes:
        return self._blocks.get()

    def ask(self) -> None:
        self.asked.set()
        self.answer()

    def close(self) -> None:
        self.end()


def fed(*blocks: bytes) -> tuple[Powermetrics, FakeStream]:
    """A sensor that has seen its first sample."""
    stream = FakeStream(*blocks)
    sensor = Powermetrics(stream)
    assert sensor.wait_for_channels(30)
    return sensor, stream


def joules(sensor: Powermetrics, after: Callable[[list[float]], bool]) -> list[float]:
    """The counters, as soon as they are as wanted: the stream is read by a thread of its own."""
    for _ in range(100_000):
        readings = sensor.read()
        values = [reading.value * 1e-6 for reading in readings if isinstance(reading, Reading)]
        if len(values) == len(readings) and after(values):
            return values
        threading.Event().wait(0.001)
    raise AssertionError(sensor.read())


FAKE = """#!{python}
import signal, sys, time
assert sys.argv[1:] == ["--samplers", "cpu_power,gpu_power,ane_power", "-i", "500", "-f", "plist"], sys.argv
sample = open({sample!r}, "rb").read()
while True:
    sys.stdout.buffer.write(sample + b"\\0")
    sys.stdout.buffer.flush()
    time.sleep(0.02)
"""


def program(folder: Path, text: str = FAKE) -> str:
    sample, path = folder / "sample.plist", folder / "powermetrics"
    sample.write_bytes(M1)
    path.write_text(text.format(python=sys.executable, sample=str(sample)))
    path.chmod(0o755)
    return str(path)


class TestPowermetrics(SensorContract):
    @pytest.fixture(autouse=True)
    def opened_programs(self) -> Iterator[None]:
        self.sensors: list[Powermetrics] = []
        yield
        for sensor in self.sensors:
            sensor.close()

    def open(self, folder: Path) -> Powermetrics:
        self.sensors.append(open_powermetrics(MAC, program=program(folder), is_root=lambda: True))
        return self.sensors[-1]

    def open_absent(self, folder: Path) -> Powermetrics:
        return open_powermetrics(MAC, program=str(folder / "nothing"))

    def open_locked(self, folder: Path) -> Powermetrics:
        return open_powermetrics(MAC, program=program(folder), is_root=lambda: False)

    def open_vanishing(self, folder: Path) -> tuple[Powermetrics, Callable[[], None]]:
        sensor, stream = fed(M1, b"\0")

        def vanish() -> None:
            stream.end()
            sensor._news.acquire()
            sensor._news.wait_for(lambda: bool(sensor.ended), 30)
            sensor._news.release()

        return sensor, vanish


# --- one property list ------------------------------------------------------------------------------


def test_apple_silicon_tells_cpu_gpu_and_neural_engine() -> None:
    sample = parse(M1)
    assert sample is not None
    cpu, dram, gpu, ane = energies(sample, APPLE_PARTS)
    assert (cpu, gpu, ane) == (
        pytest.approx(0.6406, rel=1e-3),
        pytest.approx(0.3057, rel=1e-3),
        pytest.approx(0.0120, rel=1e-3),
    )
    assert dram is None
    assert energies(sample, INTEL_PARTS) == [None]


def test_where_no_power_is_told_the_millijoules_are_taken() -> None:
    sample = parse(BIG_SUR)
    assert sample is not None
    assert energies(sample, APPLE_PARTS) == pytest.approx([0.640, 0.089, 0.031, 0.0])


def test_intel_tells_its_package_in_watts() -> None:
    sample = parse(INTEL)
    assert sample is not None
    assert energies(sample, INTEL_PARTS) == pytest.approx([53.72])


@pytest.mark.parametrize("value", ["text", -1.0, float("inf"), float("nan"), True, 1e12])
def test_nonsense_is_not_told_rather_than_zero(value: Any) -> None:
    sample = {"elapsed_ns": 500_000_000, "processor": {"cpu_power": value}}
    assert energies(sample, APPLE_PARTS)[0] is None


def test_a_field_that_is_nonsense_gives_way_to_the_next_one() -> None:
    sample = {"elapsed_ns": 500_000_000, "processor": {"cpu_power": -3.0, "cpu_energy": 250}}
    assert energies(sample, APPLE_PARTS)[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "text",
    [
        b"powermetrics must be invoked as the superuser\n",
        b"",
        M1[:400],
        plistlib.dumps([1, 2]),
        plistlib.dumps({"elapsed_ns": 5}),
        plistlib.dumps({"processor": {}}),
        plistlib.dumps({"processor": {}, "elapsed_ns": -5}),
        plistlib.dumps({"processor": "x", "elapsed_ns": 5}),
    ],
)
def test_what_is_no_sample_is_none(text: bytes) -> None:
    assert parse(text) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_sample_or_none(data: bytes) -> None:
    assert parse(data) is None or data


# --- the stream ---------------------------------------------------------------------------------------


def test_each_sample_after_the_first_is_added_once() -> None:
    sensor, stream = fed(M1 + b"\0")
    assert [channel.id for channel in sensor.channels] == ["cpu0/package", "gpu0", "accel0"]
    assert joules(sensor, lambda values: True) == [0, 0, 0]
    for _ in range(3):
        stream.feed(M1 + b"\0")
    assert joules(sensor, lambda values: values[0] > 1.9)[0] == pytest.approx(3 * 0.6406, rel=1e-3)
    sensor.close()


def test_it_does_not_matter_where_the_stream_is_cut() -> None:
    sensor, stream = fed(M1 + b"\0")
    whole = (M1 + b"\0") * 2
    for at in range(0, len(whole), 7):
        stream.feed(whole[at : at + 7])
    assert joules(sensor, lambda values: values[0] > 1.2)[0] == pytest.approx(2 * 0.6406, rel=1e-3)
    sensor.close()


def test_a_sample_counts_before_its_nul_has_come() -> None:
    """powermetrics writes the NUL in front of the next sample."""
    sensor, stream = fed(M1)
    stream.feed(b"\0" + M1)
    assert joules(sensor, lambda values: values[0] > 0)[0] == pytest.approx(0.6406, rel=1e-3)
    sensor.close()


def test_intel_has_one_channel_that_holds_all() -> None:
    sensor, _ = fed(INTEL + b"\0")
    assert [(channel.id, channel.domain) for channel in sensor.channels] == [("cpu0/package", "package")]
    sensor.close()


def test_a_sample_that_cannot_be_read_is_a_gap_until_the_next_one() -> None:
    sensor, stream = fed(M1 + b"\0")
    stream.answer = lambda: stream.feed(b"rubbish\0" + plistlib.dumps({"processor": {}}) + b"\0")
    stream.ask()
    until(lambda: all(isinstance(reading, Gap) for reading in sensor.read()))
    stream.feed(M1 + b"\0")
    joules(sensor, lambda values: values[0] > 0)
    sensor.close()


def test_a_part_that_is_not_told_is_a_gap_alone() -> None:
    sensor, stream = fed(M1 + b"\0")
    without_gpu = plistlib.loads(M1)
    del without_gpu["processor"]["gpu_power"], without_gpu["processor"]["gpu_energy"]
    stream.feed(plistlib.dumps(without_gpu) + b"\0")
    until(lambda: isinstance(sensor.read()[1], Gap))
    cpu, gpu, ane = sensor.read()
    assert isinstance(cpu, Reading) and isinstance(ane, Reading)
    assert isinstance(gpu, Gap) and "gpu0" in gpu.reason
    sensor.close()


def until(look: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if look():
            return
        threading.Event().wait(0.001)
    raise AssertionError("waited in vain")


def test_the_edge_asks_for_a_sample_and_waits_for_it() -> None:
    sensor, stream = fed(M1 + b"\0")
    stream.answer = lambda: stream.feed(M1 + b"\0")
    reading = sensor.read_edge()[0]
    assert stream.asked.is_set()
    assert isinstance(reading, Reading)
    assert reading.value == pytest.approx(640_600, rel=1e-3)
    sensor.close()


def test_an_edge_that_brings_nothing_reads_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powermetrics, "PERIOD_S", 0.01)
    sensor, _ = fed(M1 + b"\0")
    assert isinstance(sensor.read_edge()[0], Reading)
    sensor.close()


def test_a_stream_that_stands_still_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor, _ = fed(M1 + b"\0")
    monkeypatch.setattr(powermetrics, "_STALE_S", -1.0)
    reading = sensor.read()[0]
    assert isinstance(reading, Gap)
    assert "nothing" in reading.reason
    sensor.close()


# --- opening it -----------------------------------------------------------------------------------------


def test_elsewhere_it_is_absent() -> None:
    for platform in ("linux", "win32"):
        with pytest.raises(Absent):
            open_powermetrics(Machine(platform=platform), program=sys.executable)


def test_without_root_the_remedy_names_the_package_that_needs_none(tmp_path: Path) -> None:
    with pytest.raises(Denied) as caught:
        open_powermetrics(MAC, program=program(tmp_path), is_root=lambda: False)
    assert "zeus-apple-silicon" in caught.value.hint
    assert "sudo emt run" in caught.value.hint


def test_where_the_package_is_installed_it_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zeus_apple_silicon.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Absent, match="zeus"):
        open_powermetrics(MAC, program=program(tmp_path), is_root=lambda: True)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no property list\n"])
def test_a_program_that_ends_at_once_is_denied_and_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(Denied, match="ended"):
        open_powermetrics(MAC, program=program(tmp_path, text), is_root=lambda: True)


def test_a_program_that_cannot_be_started_is_denied(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="cannot be started"):
        open_powermetrics(MAC, program=program(tmp_path, "#!/nowhere/interpreter\n"), is_root=lambda: True)


def test_closing_ends_the_program(tmp_path: Path) -> None:
    running = Program(program(tmp_path))
    assert running.read()
    running.close()
    running.close()
    while running.read():
        pass
    assert running._process.returncode is not None


def test_the_package_is_looked_for_and_not_imported(tmp_path: Path) -> None:
    assert importlib.machinery.PathFinder.find_spec("zeus_apple_silicon") is None, (
        "not among the test packages"
    )
    sensor = open_powermetrics(MAC, program=program(tmp_path), is_root=lambda: True)
    sensor.close()
    assert "zeus_apple_silicon" not in sys.modules
