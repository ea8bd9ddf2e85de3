"""A sensor in a package of its own: built as a wheel, installed by pip, and read by the whole command."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODULE = '''
"""A watt meter that always tells 7 W."""

import time

from emt_cli.model import Channel, Reading


class WattMeter:
    name = "wattmeter"
    min_period_s = 0.05
    channels = (
        Channel(
            id="fpga0",
            sensor="wattmeter",
            device="fpga0",
            domain="device",
            kind="counter",
            provenance="measured",
            source="a test's watt meter",
            max_power_w=50.0,
        ),
    )

    def read(self):
        now = time.monotonic()
        return [Reading(now, 7.0 * now)]

    def close(self):
        pass


def open_meter(machine):
    return WattMeter()
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder into which pip has installed the package."""
    wheel = tmp_path / "wattmeter-1.0-py3-none-any.whl"
    info = "wattmeter-1.0.dist-info"
    files = {
        "wattmeter.py": MODULE,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: wattmeter\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[emt.sensors]\nwattmeter = wattmeter:open_meter\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    folder = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, timeout=120)
    return folder


def test_a_sensor_of_another_package_is_listed_and_counted(
    site: Path,
    emt: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    environment["PYTHONPATH"] = f"{environment['PYTHONPATH']}:{site}"
    listed = json.loads(emt("sensors", "--format", "json").stdout)["channels"]
    (fpga,) = (channel for channel in listed if channel["id"] == "fpga0")
    assert fpga["counted"] and fpga["sensor"] == "wattmeter"

    target = tmp_path / "run.json"
    assert emt("run", "-q", "-o", str(target), "--", "sleep", "0.5").returncode == 0
    record: dict[str, Any] = json.loads(target.read_text())
    (row,) = (row for row in record["energy"]["channels"] if row["id"] == "fpga0")
    assert row["counted"]
    assert row["machine_j"] == pytest.approx(7.0 * record["duration_s"], rel=0.005)
