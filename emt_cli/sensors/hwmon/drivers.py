"""What each driver's channels cover: one table, and looking a channel up in it.

In the columns `driver` and `label`, `|` parts alternatives, `#` at the end stands for a number and `*` for
anything; the first line that fits is taken. In `id` and `within`, `{n}` is that number, `{gpu}` the card's
number and `{label}` the label in lower case. The facts are in the data sheet of the package.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from emt_cli.sensors.hwmon.chips import APU, MI300A

UNKNOWN = "what this device covers is not known"
_SAME_POWER = "slowPPT tells the same power"
_PART_ALONE = "a part of something whose own meter is not here"
_RAIL = "one rail of the board"

_PARTS = frozenset({"core", "uncore", "rail"})

_CARD_W = 2000.0
_SOCKET_W = 2000.0
_MODULE_W = 6000.0
"""Twice what a module of GB200 (one CPU, two GPUs; NVIDIA, 2024) may draw."""
_NODE_W = 30e3
"""Twice what a node of eight GPUs may draw (DGX B200: 14.3 kW; NVIDIA, 2024)."""
_JETSON_W = 500.0
"""Far above any Jetson (AGX Thor: 130 W; NVIDIA, 2025)."""


class Cover(NamedTuple):
    """What a channel is: a line of the table, or a channel's own copy of one.

    `within` counts where that channel is here too. `dropped` says why it is in no total.
    """

    driver: str
    label: str
    id: str
    within: str
    domain: str
    max_power_w: float
    dropped: str = ""
    note: str = ""
    is_never_zero: bool = False
    """emt itself runs in there: a meter that tells 0 has nothing behind it."""
    holds_gpus: bool = False
    """The NVIDIA GPUs of its socket are in it; their own meters are finer."""

    @property
    def device(self) -> str:
        return self.id.partition("/")[0]

    def among(self, here: Container[str]) -> Cover:
        """The same where only these channels are here: within the nearest one, else on its own. A part on
        its own is in no total, since what it is a part of has to be estimated."""
        device = self.within.partition("/")[0]
        within = next((outer for outer in (self.within, device) if outer in here), "")
        alone = _PART_ALONE if self.domain in _PARTS and not within else ""
        return self._replace(within=within, dropped=self.dropped or alone)


_MAC = "macsmc_hwmon|macsmc"
_JETSON_INPUTS = "VDD_IN|POM_5V_IN"
_AGX_ORIN = "VDD_GPU_SOC|VDD_CPU_CV|VIN_SYS_5V0"
_AGX_XAVIER = "GPU|CPU|SOC|CV|VDDRQ|SYS5V"
_AGX_THOR = "VDD_GPU|VDD_CPU_SOC_MSS"
_IN_5V0 = "VDDQ_VDD2_1V8AO"
_SMALL_JETSONS = "VDD_CPU_GPU_CV|VDD_SOC|VDD_CPU|POM_5V_GPU|POM_5V_CPU"
_TX2 = "VDD_SYS_GPU|VDD_SYS_SOC|VDD_SYS_CPU|VDD_SYS_DDR|VDD_5V0_DDR"

COVERS = (
    # Graphics cards
    Cover("i915", "*", "gpu{gpu}", "", "gpu", _CARD_W),
    Cover("i915_gt#", "*", "gpu{gpu}/tile{n}", "gpu{gpu}", "gpu", _CARD_W),
    Cover("xe", "card", "gpu{gpu}", "", "gpu", _CARD_W),
    Cover("xe", "pkg", "gpu{gpu}/package", "gpu{gpu}", "gpu", _CARD_W),
    Cover("amdgpu", "fastPPT", "gpu{gpu}/fastppt", "", "gpu", _CARD_W, _SAME_POWER),
    Cover("amdgpu", "*", "gpu{gpu}", "", "gpu", _CARD_W),
    Cover(MI300A, "*", "gpu{gpu}", "", "module", _CARD_W, note="the whole module: GPU, CPU and memory"),
    # Processors
    Cover(APU, "fastPPT", "cpu0/fastppt", "", "package", _SOCKET_W, _SAME_POWER),
    Cover(APU, "*", "cpu0/package", "", "package", _SOCKET_W, note="the whole socket: CPU and graphics"),
    Cover("amd_energy", "Esocket#", "cpu{n}/package", "", "package", _SOCKET_W),
    # NVIDIA Grace
    Cover(
        *("power_meter", "Module Power Socket #", "module{n}", "", "module", _MODULE_W),
        is_never_zero=True,
        holds_gpus=True,
    ),
    Cover(
        *("power_meter", "Grace Power Socket #", "cpu{n}/socket", "module{n}", "socket", _SOCKET_W),
        note="CPU, SysIO and memory",
    ),
    Cover("power_meter", "CPU Power Socket #", "cpu{n}/core", "cpu{n}/socket", "core", _SOCKET_W),
    Cover("power_meter", "SysIO Power Socket #", "cpu{n}/uncore", "cpu{n}/socket", "uncore", _SOCKET_W),
    # Whole machines
    Cover("power_meter", "*", "node/power", "", "node", _NODE_W, is_never_zero=True),
    Cover(_MAC, "Total System Power", "node/power", "", "node", _NODE_W, is_never_zero=True),
    Cover(_MAC, "AC Input Power", "node/{label}", "", "node", _NODE_W, "it also charges the battery"),
    Cover(_MAC, "*", "node/{label}", "", "rail", _NODE_W, _RAIL),
    Cover("corsairpsu", "power total", "node/power", "", "node", _NODE_W, is_never_zero=True),
    Cover("corsairpsu", "*", "node/{label}", "", "rail", _NODE_W, _RAIL),
    # Jetson: the module's input; where there is none, the rails that make it up; parts of either
    Cover("ina3221", _JETSON_INPUTS, "module0", "", "module", _JETSON_W),
    Cover("ina3221", _AGX_ORIN, "module0/{label}", "module0", "module", _JETSON_W),
    Cover("ina3221", _AGX_XAVIER, "module0/{label}", "module0", "module", _JETSON_W),
    Cover("ina3221", _AGX_THOR, "module0/{label}", "module0", "module", _JETSON_W),
    Cover("ina3221", _IN_5V0, "module0/{label}", "module0/vin-sys-5v0", "rail", _JETSON_W),
    Cover("ina3221", _SMALL_JETSONS, "module0/{label}", "module0", "rail", _JETSON_W),
    Cover("ina3221", _TX2, "module0/{label}", "module0", "rail", _JETSON_W),
)

NOT_OPENED = (("amd_energy", "Ecore#"),)
"""What is not even shown: hundreds of files for what lies within the packages."""


def is_opened(driver: str, label: str) -> bool:
    return not any(
        _number(driver, one) is not None and _number(label, two) is not None for one, two in NOT_OPENED
    )


def cover_of(driver: str, label: str, gpu: int) -> Cover:
    """What a channel covers, with its names filled in. `gpu` is its card's number; a channel without a label
    comes with its stem (`power1`)."""
    spoken = label.replace(" Input Power ", " Power ")
    for line in COVERS:
        by_driver, by_label = _number(driver, line.driver), _number(spoken, line.label)
        if by_driver is not None and by_label is not None:
            names = {"n": by_driver or by_label, "gpu": gpu, "label": _slug(label)}
            return line._replace(id=line.id.format(**names), within=line.within.format(**names))
    unknown = f"hwmon/{_slug(driver)}-{_slug(label)}"
    return Cover(driver, label, unknown, "", "unknown", _NODE_W, UNKNOWN)


def _number(text: str, patterns: str) -> str | None:
    """The number that `#` stands for, in a text that fits; empty where it fits without one; None if not."""
    for pattern in patterns.split("|"):
        prefix, rest = pattern[:-1], text[len(pattern) - 1 :]
        if pattern in ("*", text):
            return ""
        if pattern.endswith("#") and text.startswith(prefix) and rest.isascii() and rest.isdecimal():
            return str(int(rest))
    return None


def _slug(text: str) -> str:
    """A text as a part of an id: small letters, digits and dashes."""
    parts = "".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split()
    return "-".join(parts) or "unnamed"
