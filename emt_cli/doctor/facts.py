"""What the examinations look at: facts of this machine, as values.

Every fact that cannot be read is empty or None, and the examinations then say nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from emt_cli.model import Channel, Notice
from emt_cli.values import Value

Services = Literal["systemd", "udev", ""]


class Gpu(NamedTuple):
    """A GPU on the PCI bus; `driver` is the kernel's, empty where none is bound."""

    address: str
    maker: str
    driver: str


class Judged(Value):
    """What `emt run` would do here: the channels, those that count, and whether they make a measurement.

    `faults` has the reason for each channel that was opened and does not read.
    """

    channels: tuple[Channel, ...] = ()
    counted: frozenset[str] = frozenset()
    is_measured: bool = False
    notices: tuple[Notice, ...] = ()
    absent: Mapping[str, str] = {}
    faults: Mapping[str, str] = {}


class Setup(Value):
    """What emt itself is set to. `store_fault` is why the store cannot be written, empty where it can."""

    store: str = ""
    store_fault: str = ""
    location: str = ""
    location_source: str = ""
    calibration: str = ""
    """Where the idle power comes from, or why a calibration is not used; empty where there is none."""
    notices: tuple[Notice, ...] = ()


class Facts(Value):
    """All that is known of this machine."""

    judged: Judged = Judged()
    setup: Setup = Setup()
    user: str = ""
    """Who would join a group: nobody where emt runs as root and nobody called sudo."""
    is_root: bool = False
    python: str = "python3"
    vendor: str = ""
    architecture: str = ""
    hypervisor: str = ""
    container: str = ""
    services: Services = ""
    zones: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()
    nvidia_version: str = ""
    has_rocm: bool = False
    paranoid: int | None = None
    may_perf: bool = False
    """By root's rights or CAP_PERFMON, whatever perf_event_paranoid says."""
    perf_fault: str | None = None
    """Why the kernel refuses a counter of an own process: empty where it does not, None where not tried."""
    has_power_pmu: bool = False
    hidepid: str = ""
    governors: tuple[str, ...] = ()
    turbo_file: str = ""
    is_turbo_on: bool | None = None
    is_smt_on: bool | None = None
    clock: str = ""
    is_on_battery: bool | None = None
    missing: Mapping[str, str] = {}

    @property
    def is_x86(self) -> bool:
        return self.vendor in ("GenuineIntel", "AuthenticAMD", "HygonGenuine")

    def sensors(self, *domains: str) -> tuple[str, ...]:
        """The sensors that measure one of these domains, each once."""
        found = (
            channel.sensor
            for channel in self.judged.channels
            if channel.domain in domains
            and channel.provenance in ("measured", "integrated")
            and not channel.dropped
            and channel.id not in self.judged.faults
        )
        return tuple(dict.fromkeys(found))

    @property
    def cpu_sensors(self) -> tuple[str, ...]:
        """The sensors that measure the CPU."""
        return self.sensors("package", "cpu", "socket", "module")
