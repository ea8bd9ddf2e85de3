"""Meters behind the kernel's hwmon class: which chips there are, and opening those that measure.

Two sensors come from here. `hwmon` has whatever belongs to the CPU, the module or the node; `drm` has the
Intel and AMD graphics cards, and stands apart because it also tells which process used them. What a chip's
channels cover is in `drivers`; how they are found, opened and read is in `chips`, `opening` and `reading`,
which are imported only where there is something to read.

Data sheet
- Interface: `/sys/class/hwmon/hwmonN/`: `name`; `energyK_input` (uJ, counter), `powerK_average` and
  `powerK_input` (uW, gauge; the average is taken where both are there), `currK_input` (mA) times `inK_input`
  (mV); `*K_label`. N changes from boot to boot and when a driver is loaded again: a channel is named by what
  it covers. Chips of the ACPI power meter have their files in `hwmonN/device/` before Linux 6.15.
- i915, xe: discrete Intel GPUs only. 2^-14 J steps. The driver accumulates a 32-bit register into 64 bits at
  each read; at 1000 W the register wraps in 4.4 minutes, so a pause longer than that between two reads loses
  energy, with no trace. xe has `card` (the board) and `pkg` (within it), i915 one counter, and one more for
  each tile (`i915_gtN`) where a card has several. Reading wakes a sleeping card. World-readable.
- amdgpu: power as the firmware tells it, of the card (dGPU) or the whole socket (APU: the one with `vddnb`),
  which is what RAPL calls the package. Fast and slow PPT are two averages of one power. A card that is being
  reset answers EPERM. World-readable. MI300A is known by its PCI id: the figure is of CPU, GPU and memory.
- amd_energy (EPYC 7002; Linux 5.8 to 5.13, or AMD's own module): 64 bits, accumulated by the driver;
  root-only. Its "sockets" are NUMA nodes: with NPS2 and NPS4 several repeat one package. The cores' counters
  are not opened: hundreds of files for what lies within the package.
- ina3221 (Jetson): current times voltage of up to three rails a chip; refreshed every `update_interval`.
  VDD_IN and POM_5V_IN feed the whole module. AGX Orin, AGX Xavier and Thor have no such rail, and the sum of
  their main rails is less than the module's input by the regulators' losses. VDD_MUX and the other rails of a
  carrier board are not counted. The iio files of L4T 32 and older (ina3221x) are not read.
- power_meter (ACPI000D): average power of the node as a rule; on NVIDIA Grace of Module, Grace, CPU and SysIO
  by socket. Grace holds CPU, SysIO and memory; Module holds Grace and the socket's GPUs, which NVML counts
  (of GH200 with its whole module): Module counts where there is no NVIDIA GPU.
- macsmc (Apple Silicon): Total System Power is the whole machine.
- Rights: mostly world-readable; amd_energy is not, since it is as fine as RAPL (CVE-2020-12912).
- Batteries and chargers show up here too (`BAT0`): passed over, they are read where they are at home.
- Unknown chips with energy or power files are shown and do not count.

Sources: Linux Documentation/hwmon (sysfs-interface, amd_energy, ina3221, acpi_power_meter, macsmc-hwmon),
drivers/gpu/drm/{i915/i915_hwmon.c, xe/xe_hwmon.c, amd/pm/amdgpu_pm.c}, drivers/hwmon/{amd_energy, ina3221,
acpi_power_meter, macsmc-hwmon}.c; NVIDIA Grace Performance Tuning Guide, "Power telemetry"; NVIDIA Jetson
Linux Developer Guide, "Platform power and performance".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_cli.sensors.base import Absent, Machine

if TYPE_CHECKING:
    from emt_cli.sensors.hwmon.cards import Cards
    from emt_cli.sensors.hwmon.chips import Chip
    from emt_cli.sensors.hwmon.reading import Hwmon

FOLDER = "/sys/class/hwmon"


def open_hwmon(machine: Machine) -> Hwmon:
    """Every chip that measures energy or power, graphics cards aside.

    Raises Absent where there is none, Denied where none may be read.
    """
    chips = _chips(machine, are_cards=False)
    from emt_cli.sensors.hwmon.opening import open_chips
    from emt_cli.sensors.hwmon.reading import Hwmon

    return Hwmon("hwmon", open_chips(machine, "hwmon", chips, gpus={}))


def open_drm(machine: Machine) -> Cards:
    """The Intel and AMD graphics cards that have a meter and that the command may use, and who uses them.

    Raises Absent where there is none, Denied where none may be read.
    """
    chips = _chips(machine, are_cards=True)
    from emt_cli.sensors.hwmon.cards import open_cards

    return open_cards(machine, chips)


def _chips(machine: Machine, *, are_cards: bool) -> list[Chip]:
    folders = [folder for folder in machine.names(FOLDER) if folder.startswith("hwmon")]
    if not folders:
        raise Absent(f"no chip under {FOLDER}")
    from emt_cli.sensors.hwmon.chips import find_chips

    folders.sort(key=lambda folder: (len(folder), folder))
    chips = find_chips(machine, [f"{FOLDER}/{folder}" for folder in folders], are_cards=are_cards)
    if not chips:
        raise Absent(f"no {'graphics card' if are_cards else 'chip'} under {FOLDER} tells energy or power")
    return chips
