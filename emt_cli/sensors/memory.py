"""How much memory the machine has, for the sensors that know its power by size: the model and the user's
own watts. No sensor itself, and apart from both because neither may import the other."""

from __future__ import annotations

from emt_cli.sensors.base import Absent, Machine

_BYTES_PER_GB = 2**30
"""Memory is sold, and its coefficients are stated, in binary gigabytes."""


def memory_gb(machine: Machine) -> float:
    """MemTotal of /proc/meminfo in GB. Raises Absent where it does not tell."""
    try:
        for line in machine.text("/proc/meminfo").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024 / _BYTES_PER_GB
    except (OSError, ValueError, IndexError) as error:
        raise Absent(f"/proc/meminfo cannot be read: {error}") from error
    raise Absent("/proc/meminfo does not tell the size of the memory")
