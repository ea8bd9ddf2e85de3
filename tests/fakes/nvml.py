"""NVIDIA GPUs without NVIDIA: builds the C library beside this file and writes what it plays.

The real `pynvml` loads `libnvidia-ml.so.1` by name, so the fake one is put first on LD_LIBRARY_PATH, which
the loader reads only when a process starts: the GPUs exist for a *child* process that gets the variables
which `fake_nvml` returns. In a `Machine` with a simulated root only a library under that root counts; give
`<root>/usr/lib` as the folder there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIBRARY = "libnvidia-ml.so.1"
SOURCE = Path(__file__).with_name("nvml.c")

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND = 3, 4, 9, 13
GPU_IS_LOST, MISMATCH, UNKNOWN = 15, 18, 999
"""A few of nvmlReturn_t, for `errors`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeProcess:
    """A process on a GPU that uses `sm_percent` of it.

    Either `pid`, always there, or `pid_file`: a file that some process will write its PID to; it is on the
    GPU from then on until it is dead and reaped. `host_pid` is its number in the utilisation call, which
    knows no PID namespaces. `instance` is the number of its MIG instance, from 1.
    """

    pid: int | None = None
    pid_file: str | os.PathLike[str] = ""
    sm_percent: int = 0
    host_pid: int = 0
    instance: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mig:
    """A MIG instance of so many of the board's seven slices."""

    uuid: str
    slices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """One GPU. Its counter is `power_w` x the monotonic clock since `counts_from_s`, in steps of `refresh_s`.

    `load_w` comes on top while any of `processes` is there. `average_w` is what the averaging power calls
    say (default `power_w`), `module_w` what the power fields say in the module's scope (0: no such scope).
    `use_percent` is its utilisation. From `lost_at_s` (of the monotonic clock) on the GPU is lost; handles
    from before the last of its `returns` are lost for good. `errors` are nvmlReturn_t by call, `field186`,
    `field185`, `field186.1` (module) and `nvmlDeviceGetHandle` (by index or UUID) among the names;
    `has_counter=False` is short for the energy call not being supported, `has_power=False` for all power
    calls. A GPU with `instances` is in MIG mode.
    """

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = ""
    power_w: float = 300.0
    load_w: float = 0.0
    average_w: float | None = None
    module_w: float = 0.0
    limit_w: float = 700.0
    refresh_s: float = 0.1
    has_counter: bool = True
    has_power: bool = True
    use_percent: int = 0
    capability: tuple[int, int] = (9, 0)
    lost_at_s: float | None = None
    returns: int = 0
    counts_from_s: float = 0.0
    instances: Sequence[Mig] = ()
    processes: Sequence[FakeProcess] = ()
    errors: Mapping[str, int] = field(default_factory=dict)


def fake_nvml(
    folder: str | os.PathLike[str],
    devices: Sequence[FakeGpu] = (FakeGpu(),),
    *,
    driver: str = "570.86.15",
    clock: str | os.PathLike[str] = "",
    errors: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """The environment variables to add to a child process so that it finds these GPUs.

    `clock` names a file with seconds that replaces the monotonic clock: write to it to let time pass.
    `errors` are nvmlReturn_t by call for the library as a whole (`{"nvmlInitWithFlags": MISMATCH}`).
    Call it again on the same folder to change what a running process sees. Skips the test where there is
    no C compiler.
    """
    place = Path(folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    if not (place / LIBRARY).exists():
        build(place)
    lines = [f"driver {driver}", *_failures(errors or {})]
    if clock:
        lines.append(f"clock {os.fspath(clock)}")
    for index, gpu in enumerate(devices):
        lines += _device_lines(index, gpu)
    _replace(place / "gpus.txt", "\n".join(lines) + "\n")
    paths = [str(place), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"FAKE_NVML": str(place / "gpus.txt"), "LD_LIBRARY_PATH": ":".join(filter(None, paths))}


def build(folder: Path) -> None:
    """Compile the library into a folder; its soname lets the loader find it again by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the fake NVML library needs a C compiler (cc)")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", f"-Wl,-soname,{LIBRARY}"]
    command = [compiler, *flags, "-o", str(folder / LIBRARY), str(SOURCE), "-lm", "-lpthread"]
    subprocess.run(command, check=True)


def uuid_of(index: int) -> str:
    """The UUID of a FakeGpu that was given none: differs from its neighbours in the first digits."""
    return f"GPU-{index}f3c{index:04x}-0000-4000-8000-00000000000{index:x}"


def _device_lines(index: int, gpu: FakeGpu) -> list[str]:
    average_w = gpu.power_w if gpu.average_w is None else gpu.average_w
    errors = dict(gpu.errors)
    if not gpu.has_counter:
        errors.setdefault("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED)
    if not gpu.has_power:
        for call in ("field186", "field185", "nvmlDeviceGetPowerUsage"):
            errors.setdefault(call, NOT_SUPPORTED)
    facts = {
        "name": gpu.name,
        "power_w": gpu.power_w,
        "average_w": average_w,
        "module_w": gpu.module_w,
        "load_w": gpu.load_w,
        "limit_w": gpu.limit_w,
        "refresh_ms": gpu.refresh_s * 1000,
        "use": gpu.use_percent,
        "capability": f"{gpu.capability[0]} {gpu.capability[1]}",
        "returns": gpu.returns,
        "counts_from_s": gpu.counts_from_s,
        "lost_at_s": gpu.lost_at_s,
    }
    lines = [f"device {gpu.uuid or uuid_of(index)}"]
    lines += [f"{name} {value}" for name, value in facts.items() if value is not None]
    lines += [f"mig {part.slices} {part.uuid}" for part in gpu.instances]
    for process in gpu.processes:
        where = f"{process.sm_percent} {process.host_pid} {process.instance}"
        if process.pid is not None:
            lines.append(f"process {process.pid} {where}")
        else:
            lines.append(f"process_file {where} {os.fspath(process.pid_file)}")
    return lines + _failures(errors)


def _failures(errors: Mapping[str, int]) -> list[str]:
    return [f"fail {call} {code}" for call, code in errors.items()]


def _replace(path: Path, text: str) -> None:
    """Written whole or not at all: the library may be reading."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
