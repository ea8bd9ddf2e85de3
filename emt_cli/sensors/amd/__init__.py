"""AMD GPUs through AMD SMI (libamd_smi.so, by way of `pyrsmi`): finding, opening and refusing.

The GPUs themselves are in `gpu` and the binding's ways in `binding`; both are imported only where there is a
driver and the library: most machines have none, and every run asks.

Data sheet
- Energy counter (Instinct, MI200 and newer): `amdsmi_get_energy_count`, 64 bits, in steps of 2^-16 J (15.259
  uJ in the kernel's kgd_pp_interface.h; the library rounds to 15.3, 0.27 % more). No wrap.
- Known lie: on MI100 with ROCm up to 6.2 that counter stands still (ROCm/amdsmi #22, #38). So it has to move
  once while the sensor is opened, else power is integrated.
- Power (Radeon, MI100, and where the counter is of no use): `amdsmi_get_power_info`, whole watts; the present
  power on MI300 and newer, before that the firmware's average over some tenths of a second. 0, 65535 and
  4294967295 mean that it is not told.
- MI200: two dies to a module, of which the first tells energy and power of both; what is done on the second
  one is counted there.
- Partitions of a card (CPX, DPX) share its energy: it counts once.
- APUs: the figure is of the whole socket, which is RAPL's package; they are left to RAPL and hwmon. MI300A's
  is the module's: CPU, GPU and memory (domain `module`).
- Accuracy: AMD states none.
- Processes: see `fdinfo` and `kfd`; the binding only lists all PIDs of the machine together.
- Rights: world-readable as a rule; `/dev/dri/renderD*` (group render) for parts of the library.

The kernel's hwmon tells the same power without ROCm (`drm`), and is used where this here is absent.
ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES are honoured (see `visible`).

Sources: ROCm/amdsmi include/amd_smi/amdsmi.h and src/amd_smi/amd_smi.cc (ROCm 5.7 to 7.2), pyrsmi 1.1,
Linux drivers/gpu/drm/amd/include/kgd_pp_interface.h and pm/swsmu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_cli.sensors.base import Absent, Denied, Machine

if TYPE_CHECKING:
    from emt_cli.sensors.amd.gpu import AmdSensor

NAME = "amd"
LIBRARY = "libamd_smi.so"
_MODULE = "/sys/module/amdgpu"
_DISTRIBUTIONS = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib")


def open_amd(machine: Machine) -> AmdSensor:
    """The visible AMD GPUs, one channel each.

    pyrsmi is imported only once the driver and the library were found. In a simulated machine the library
    counts only where it lies under the root.

    Raises Absent where there is no driver, library or visible GPU; Denied where they are there but locked
    or broken.
    """
    _check_driver(machine)
    library = _library(machine)
    from emt_cli.sensors.amd.gpu import open_gpus

    return open_gpus(machine, library)


def _check_driver(machine: Machine) -> None:
    """A driver that is built into the kernel has no state: it lives."""
    if not machine.names(_MODULE):
        raise Absent("the amdgpu driver is not loaded")
    try:
        state = machine.text(f"{_MODULE}/initstate")
    except OSError:
        return
    if state != "live":
        raise Denied(
            f"the amdgpu driver is not ready ({_MODULE}/initstate says {state})",
            hint="`sudo dmesg | grep amdgpu` tells what it waits for",
        )


def _library(machine: Machine) -> str:
    """The path of the library. Raises Absent."""
    rocm = machine.environ.get("ROCM_PATH") or "/opt/rocm"
    for folder in (f"{rocm}/lib", f"{rocm}/lib64", *_DISTRIBUTIONS):
        if LIBRARY in machine.names(folder):
            return machine.path(f"{folder}/{LIBRARY}")
    raise Absent(f"no {LIBRARY} in {rocm}/lib (ROCm's AMD SMI)")
