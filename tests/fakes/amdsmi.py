"""AMD GPUs without AMD: builds the C library beside this file and writes what it plays.

The real pyrsmi works on it. `fake_amd(root, gpus)` puts the library where ROCm has it under a simulated
machine's root, and what the kernel shows of the cards in /sys; the library finds its scene through an
environment variable, which a process must have when it loads the library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIBRARY = "libamd_smi.so"
SOURCE = Path(__file__).with_name("amdsmi.c")
SCENE = "FAKE_AMDSMI"

INVAL, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED = 1, 2, 10, 31, 34
"""A few of amdsmi_status_t, for `errors`."""

ROCM_6, ROCM_7 = (24, 25, 1), (0, 26, 0)
"""Year, major and minor of the library: other structures, see the C file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAmdGpu:
    """One GPU. Its counter is `power_w` x the monotonic clock, in steps of `refresh_s`.

    `tells_average`: power stands in the field of MI200 and Radeon, not in MI300's. `frozen_at` is where the
    counter stands still. From `lost_at_s` (of the monotonic clock) on the GPU is lost. `errors` are
    amdsmi_status_t by call. `unique_id` 0: the card has none. `is_apu`: what hwmon shows is a processor's.
    """

    pci: str = ""
    name: str = "AMD Instinct MI300X"
    power_w: float = 300.0
    limit_w: float = 750.0
    tells_average: bool = False
    has_counter: bool = True
    frozen_at: int | None = None
    refresh_s: float = 0.001
    lost_at_s: float | None = None
    unique_id: int | None = None
    is_apu: bool = False
    errors: Mapping[str, int] = field(default_factory=dict)


def fake_amd(
    root: str | os.PathLike[str],
    gpus: Sequence[FakeAmdGpu] = (FakeAmdGpu(),),
    *,
    version: tuple[int, int, int] = ROCM_7,
    clock: str | os.PathLike[str] = "",
    noise: str = "",
    errors: Mapping[str, int] | None = None,
    library: Path | None = None,
) -> dict[str, str]:
    """The environment variables to add to a process so that the library under `root` plays these GPUs.

    `noise` is what the library writes to standard error when it starts. `library` is one that was built
    before. Call it again on the same folder to change what a running process sees. Skips the test where
    there is no C compiler.
    """
    place = Path(root, "opt/rocm/lib").absolute()
    place.mkdir(parents=True, exist_ok=True)
    if not (place / LIBRARY).exists():
        if library is None:
            build(place)
        else:
            os.link(library, place / LIBRARY)
    year, major, minor = version
    lines = [f"version {year} {major} {minor}", *_failures(errors or {})]
    if clock:
        lines.append(f"clock {os.fspath(clock)}")
    if noise:
        lines.append(f"noise {noise}")
    for index, gpu in enumerate(gpus):
        lines += _device_lines(index, gpu)
    show_cards(Path(root), gpus)
    _replace(place / "gpus.txt", "\n".join(lines) + "\n")
    return {SCENE: str(place / "gpus.txt")}


def show_cards(root: Path, gpus: Sequence[FakeAmdGpu]) -> None:
    """What the kernel shows: the driver, its cards, and ROCm's view of them."""
    _write(root, "sys/module/amdgpu/initstate", "live")
    for index, gpu in enumerate(gpus):
        _write_card(root, index, gpu)


def build(folder: Path) -> None:
    """Compile the library into a folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the fake AMD SMI library needs a C compiler (cc)")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", f"-Wl,-soname,{LIBRARY}"]
    command = [compiler, *flags, "-o", str(folder / LIBRARY), str(SOURCE), "-lm", "-lpthread"]
    subprocess.run(command, check=True)


def pci_of(index: int) -> str:
    """The address of a FakeAmdGpu that was given none."""
    return f"0000:{0x03 + 0x40 * index:02x}:00.0"


def unique_id_of(index: int) -> int:
    """The unique id of a FakeAmdGpu that was given none: differs from its neighbours in the first digits."""
    return 0xA1B2C3D400000000 + (index << 60)


def _bdf(pci: str) -> int:
    """An address as amdsmi_bdf_t."""
    domain, bus, rest = pci.split(":")
    device, function = rest.split(".")
    return int(domain, 16) << 16 | int(bus, 16) << 8 | int(device, 16) << 3 | int(function)


def _device_lines(index: int, gpu: FakeAmdGpu) -> list[str]:
    lines = [
        f"device {_bdf(gpu.pci or pci_of(index))}",
        f"name {gpu.name}",
        f"power_w {gpu.power_w!r}",
        f"limit_w {gpu.limit_w!r}",
        f"field {'average' if gpu.tells_average else 'current'}",
        f"refresh_ms {gpu.refresh_s * 1000!r}",
        f"counter {int(gpu.has_counter)}",
    ]
    if gpu.frozen_at is not None:
        lines.append(f"frozen_at {gpu.frozen_at}")
    if gpu.lost_at_s is not None:
        lines.append(f"lost_at_s {gpu.lost_at_s!r}")
    return lines + _failures(gpu.errors)


def _write_card(root: Path, index: int, gpu: FakeAmdGpu) -> None:
    pci = gpu.pci or pci_of(index)
    unique_id = unique_id_of(index) if gpu.unique_id is None else gpu.unique_id
    card = f"sys/bus/pci/drivers/amdgpu/{pci}"
    _write(root, f"{card}/unique_id", f"{unique_id:016x}")
    _write(root, f"{card}/uevent", f"DRIVER=amdgpu\nPCI_SLOT_NAME={pci}")
    if gpu.is_apu:
        _write(root, f"{card}/hwmon/hwmon{index}/in1_label", "vddnb")
    node = f"sys/class/kfd/kfd/topology/nodes/{index + 1}"
    _write(root, f"{node}/gpu_id", str(gpu_id_of(index)))
    facts = {
        "simd_count": 416,
        "simd_per_cu": 4,
        "location_id": _bdf(pci) & 0xFFFF,
        "domain": _bdf(pci) >> 16,
        "unique_id": unique_id,
    }
    _write(root, f"{node}/properties", "\n".join(f"{key} {value}" for key, value in facts.items()))


def gpu_id_of(index: int) -> int:
    """The compute driver's id of a card, of 104 compute units."""
    return 40000 + index


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def _failures(errors: Mapping[str, int]) -> list[str]:
    return [f"fail {call} {code}" for call, code in errors.items()]


def _replace(path: Path, text: str) -> None:
    """Written whole or not at all: the library may be reading."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
