"""How the facts are gathered: kernel files through `Machine` alone, so that a simulated machine can be
examined too. What cannot be read stays empty or None.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from emt_cli.doctor.facts import Facts, Gpu, Judged, Services, Setup
from emt_cli.sensors.base import Machine

POWERCAP = "/sys/class/powercap"
_CPUS = "/sys/devices/system/cpu"
_PCI = "/sys/bus/pci/devices"
_SUPPLIES = "/sys/class/power_supply"
_CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_DISPLAY, _ACCELERATOR = "0x03", "0x12"
"""PCI base classes of GPUs and of processing accelerators (pci.ids)."""
_MAKERS = {"0x10de": "nvidia", "0x1002": "amd"}
_CAP_PERFMON, _CAP_SYS_ADMIN = 38, 21
"""Bits of CapEff (include/uapi/linux/capability.h)."""
_MODULES = ("intel_rapl_msr", "intel_rapl_common")
_BINDINGS = {"psutil": "psutil", "pynvml": "nvidia-ml-py", "pyrsmi": "pyrsmi"}
"""The modules that emt's sensors import, and the packages that bring them."""


def gather(
    machine: Machine,
    judged: Judged,
    setup: Setup,
    *,
    user: str = "",
    is_root: bool = False,
    find: Callable[[str], object] | None = None,
    try_perf: Callable[[], str] | None = None,
) -> Facts:
    """Everything that there is to know. `find` tells whether a Python module is there; `try_perf` why the
    kernel refuses perf, by default asked of the real kernel only."""
    from emt_cli.host import facts

    host = facts(machine.text, machine.environ)
    zones, locked = _zones(machine)
    turbo_file, is_turbo_on = _turbo(machine)
    if try_perf is None and not machine.is_simulated and sys.platform == "linux":
        try_perf = _try_perf
    return Facts(
        judged=judged,
        setup=setup,
        user=user,
        is_root=is_root,
        python=sys.executable or "python3",
        vendor=_vendor(machine),
        architecture=host.architecture,
        hypervisor=host.hypervisor,
        container=host.container,
        services=_services(machine),
        zones=zones,
        locked=locked,
        modules=frozenset(name for name in _MODULES if machine.names(f"/sys/module/{name}")),
        gpus=_gpus(machine),
        nvidia_version=_nvidia_version(machine),
        has_rocm=_has_rocm(machine),
        paranoid=machine.number("/proc/sys/kernel/perf_event_paranoid"),
        may_perf=_may_perf(machine),
        perf_fault=None if try_perf is None else try_perf(),
        has_power_pmu=bool(machine.names("/sys/bus/event_source/devices/power")),
        hidepid=_hidepid(machine),
        governors=_governors(machine),
        turbo_file=turbo_file,
        is_turbo_on=is_turbo_on,
        is_smt_on=_switch(machine, f"{_CPUS}/smt/active"),
        clock=_text(machine, _CLOCK),
        is_on_battery=_is_on_battery(machine),
        missing=_missing(find),
    )


def _text(machine: Machine, path: str) -> str:
    try:
        return machine.text(path)
    except OSError:
        return ""


def _switch(machine: Machine, path: str) -> bool | None:
    number = machine.number(path)
    return None if number is None else bool(number)


# --- the processor ----------------------------------------------------------------------------------


def _vendor(machine: Machine) -> str:
    for line in _text(machine, "/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "vendor_id":
            return value.strip()
    return ""


def _zones(machine: Machine) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of all RAPL zones, and those of them that this user may not read."""
    files, locked = [], []
    for folder in machine.names(POWERCAP):
        path = f"{POWERCAP}/{folder}/energy_uj"
        if "rapl" not in folder or ":" not in folder:
            continue
        try:
            machine.keep(path).close()
        except PermissionError:
            locked.append(path)
        except OSError:
            continue
        files.append(path)
    return tuple(files), tuple(locked)


def _governors(machine: Machine) -> tuple[str, ...]:
    """The governors in use, each once."""
    found = {
        _text(machine, f"{_CPUS}/{name}/cpufreq/scaling_governor")
        for name in machine.names(_CPUS)
        if name.startswith("cpu") and name[3:].isdecimal()
    }
    return tuple(sorted(found - {""}))


def _turbo(machine: Machine) -> tuple[str, bool | None]:
    """The file that switches turbo, and whether it is on: `no_turbo` counts the other way round."""
    for name, is_on in (("intel_pstate/no_turbo", 0), ("cpufreq/boost", 1)):
        number = machine.number(f"{_CPUS}/{name}")
        if number is not None:
            return f"{_CPUS}/{name}", number == is_on
    return "", None


# --- GPUs -------------------------------------------------------------------------------------------


def _gpus(machine: Machine) -> tuple[Gpu, ...]:
    found = []
    for address in machine.names(_PCI):
        maker = _MAKERS.get(_text(machine, f"{_PCI}/{address}/vendor").lower())
        if maker and _text(machine, f"{_PCI}/{address}/class")[:4] in (_DISPLAY, _ACCELERATOR):
            found.append(Gpu(address, maker, _driver(machine, address)))
    return tuple(found)


def _driver(machine: Machine, address: str) -> str:
    lines = _text(machine, f"{_PCI}/{address}/uevent").splitlines()
    return next((line.removeprefix("DRIVER=") for line in lines if line.startswith("DRIVER=")), "")


def _nvidia_version(machine: Machine) -> str:
    """The loaded driver's, as in 535.183.01."""
    words = _text(machine, "/proc/driver/nvidia/version").partition("\n")[0].split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def _has_rocm(machine: Machine) -> bool:
    folder = machine.environ.get("ROCM_PATH", "") or "/opt/rocm"
    return any(name.startswith("libamd_smi.so") for name in machine.names(f"{folder}/lib"))


# --- the system -------------------------------------------------------------------------------------


def _services(machine: Machine) -> Services:
    """What sets the rights of files at boot. systemd's folder is the test of sd_booted(3)."""
    if os.path.isdir(machine.path("/run/systemd/system")):
        return "systemd"
    return "udev" if os.path.isdir(machine.path("/etc/udev/rules.d")) else ""


def _may_perf(machine: Machine) -> bool:
    for line in _text(machine, "/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            try:
                mask = int(line.split()[1], 16)
            except (ValueError, IndexError):
                return False
            return bool(mask & (1 << _CAP_PERFMON | 1 << _CAP_SYS_ADMIN))
    return False


def _try_perf() -> str:
    """Why the kernel refuses the counter with which `emt run` sees the CPU time of a tree; empty: it does
    not."""
    from emt_cli import perf_event

    software, task_clock = 1, 1  # perf_type_id and perf_sw_ids in include/uapi/linux/perf_event.h
    flags = perf_event.DISABLED | perf_event.EXCLUDE_KERNEL | perf_event.EXCLUDE_HV
    try:
        perf_event.of_process(0, software, task_clock, flags).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _hidepid(machine: Machine) -> str:
    """The option of /proc that hides other users' processes; empty where they are seen."""
    for line in _text(machine, "/proc/mounts").splitlines():
        _, place, kind, options, *_ = [*line.split(), "", "", "", ""]
        if place == "/proc" and kind == "proc":
            for option in options.split(","):
                if option.startswith("hidepid=") and option[8:] not in ("0", "off"):
                    return option
    return ""


def _is_on_battery(machine: Machine) -> bool | None:
    """None where there is no battery, or nothing tells."""
    kinds = {name: _text(machine, f"{_SUPPLIES}/{name}/type") for name in machine.names(_SUPPLIES)}
    batteries = [
        _text(machine, f"{_SUPPLIES}/{name}/status")
        for name, kind in kinds.items()
        if kind == "Battery" and _text(machine, f"{_SUPPLIES}/{name}/scope") != "Device"
    ]
    if not batteries:
        return None
    return "Discharging" in batteries


def _missing(find: Callable[[str], object] | None) -> dict[str, str]:
    """Modules that are not installed, with the packages to install."""
    from importlib.util import find_spec

    search = find or find_spec
    wanted = _BINDINGS if sys.platform == "linux" else {"psutil": "psutil"}
    return {module: package for module, package in wanted.items() if not search(module)}
