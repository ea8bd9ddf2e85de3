"""How a GPU tells its energy: the calls that can be asked, from the best to the last resort, and the model
where there is none. Apart from the sensor because which call means what, on which chip and since which
driver, is knowledge of its own. The data sheet is in `nvml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from emt_cli.model import Kind, Provenance
from emt_cli.units import JOULES_PER_MILLIJOULE, WATTS_PER_MILLIWATT

if TYPE_CHECKING:
    from emt_cli.data.gpu_power import GpuPower

REFRESH_S = 0.1
"""The longest step of energy counter and instantaneous power ("Part-time power measurements", SC24)."""
AVERAGE_S = 1.0
"""What the averaging calls average over (nvml.h: nvmlDeviceGetPowerUsage)."""
USE_PERIOD_S = 1.0
"""Utilisation is told over a sample period of 1/6 s to 1 s (nvml.h: nvmlUtilization_t)."""
UNKNOWN_USE = 0.5
"""Where the driver does not tell the use either: half, as Cloud Carbon Footprint takes unknown loads."""

_FIELD_POWER_AVERAGE, _FIELD_POWER_INSTANT = 185, 186
"""nvml.h, NVML_FI_DEV_POWER_*: milliwatts."""
_SCOPE_MODULE = 1
"""nvml.h, NVML_POWER_SCOPE_MODULE: the GPU with its Grace CPU and memory; 0 is the GPU alone."""
_NOT_TOLD = (2, 3, 13)
"""nvmlReturn_t INVALID_ARGUMENT (a field unknown to the driver), NOT_SUPPORTED, FUNCTION_NOT_FOUND."""
_LAST_INSTANT = (8, 0)
"""The compute capability of GA100: up to it `nvmlDeviceGetPowerUsage` tells the moment, from GA10x on the
mean of a second (nvml.h)."""

_PROVENANCE: dict[Kind, Provenance] = {"counter": "measured", "gauge": "integrated", "model": "estimated"}


class Feed(NamedTuple):
    """The call that a channel is read by: `read` takes the handle, and gives steps of `unit` joules (counter,
    model) or watts (gauge), or raises NVMLError."""

    call: str
    kind: Kind
    update_period_s: float
    read: Callable[[Any], int | float]
    unit: float = JOULES_PER_MILLIJOULE

    @property
    def provenance(self) -> Provenance:
        return _PROVENANCE[self.kind]


def best_feed(nvml: ModuleType, handle: Any) -> tuple[Feed | None, str]:
    """The best call that works on this GPU, and why it is not the energy counter.

    None where the driver has no such call for it. Raises NVMLError where one exists and fails.
    """
    energy = Feed(
        "nvmlDeviceGetTotalEnergyConsumption", "counter", REFRESH_S, nvml.nvmlDeviceGetTotalEnergyConsumption
    )
    counter_fault, serious = "", None
    for feed in (energy, *power_feeds(nvml, handle)):
        try:
            feed.read(handle)
        except nvml.NVMLError as error:
            counter_fault = counter_fault or str(error)
            if serious is None and error.value not in _NOT_TOLD:
                serious = error.value
        else:
            return feed, counter_fault
    if serious is not None:
        raise nvml.NVMLError(serious)
    return None, counter_fault


def check_feed(nvml: ModuleType, handle: Any, *, is_module: bool) -> Feed | None:
    """The best power reading that covers what the energy counter covers, to compare it with."""
    return _first_that_works(nvml, handle, power_feeds(nvml, handle, is_module=is_module))


def power_feeds(nvml: ModuleType, handle: Any, *, is_module: bool = False) -> tuple[Feed, ...]:
    """Power at this moment, then the mean of a second. Drivers before 530 know no such fields."""
    scope = _SCOPE_MODULE if is_module else 0
    instant = partial(_field_mw, nvml, field=_FIELD_POWER_INSTANT, scope=scope)
    average = partial(_field_mw, nvml, field=_FIELD_POWER_AVERAGE, scope=scope)
    of_what = ", module" if is_module else ""
    feeds = (
        _gauge(f"NVML_FI_DEV_POWER_INSTANT{of_what}", REFRESH_S, instant),
        _gauge(f"NVML_FI_DEV_POWER_AVERAGE{of_what} (over 1 s)", AVERAGE_S, average),
    )
    if is_module:
        return feeds
    is_mean = _usage_is_a_mean(nvml, handle)
    return (
        *feeds,
        _gauge(
            "nvmlDeviceGetPowerUsage" + (" (over 1 s)" if is_mean else ""),
            AVERAGE_S if is_mean else REFRESH_S,
            nvml.nvmlDeviceGetPowerUsage,
        ),
    )


def model_feed(nvml: ModuleType, handle: Any, power: GpuPower) -> tuple[Feed, bool]:
    """The model by use, and whether the use is known."""
    rates: Callable[[Any], Any] | None = nvml.nvmlDeviceGetUtilizationRates
    try:
        nvml.nvmlDeviceGetUtilizationRates(handle)
    except nvml.NVMLError:
        rates = None
    model = UseModel(power.idle_w, power.full_w, rates)
    call = "nvmlDeviceGetUtilizationRates" if rates else f"use taken as {UNKNOWN_USE:.0%}"
    return Feed(call, "model", USE_PERIOD_S, model.read, unit=1.0), rates is not None


class UseModel:
    """Joules from idle_w + use x (full_w - idle_w), the use read now standing for the time since the last
    read; so a run of under a second, which is what the driver averages over, is little more than a guess."""

    def __init__(
        self,
        idle_w: float,
        full_w: float,
        rates: Callable[[Any], Any] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_w, self._dynamic_w = idle_w, full_w - idle_w
        self._rates, self._clock = rates, clock
        self._last_s: float | None = None
        self._joules = 0.0

    def read(self, handle: Any) -> float:
        use = UNKNOWN_USE if self._rates is None else min(self._rates(handle).gpu, 100) / 100
        now_s = self._clock()
        if self._last_s is not None:
            self._joules += (self._idle_w + use * self._dynamic_w) * (now_s - self._last_s)
        self._last_s = now_s
        return self._joules


def _gauge(call: str, update_period_s: float, read: Callable[[Any], int | float]) -> Feed:
    return Feed(call, "gauge", update_period_s, read, unit=WATTS_PER_MILLIWATT)


def _first_that_works(nvml: ModuleType, handle: Any, feeds: Iterable[Feed]) -> Feed | None:
    for feed in feeds:
        try:
            feed.read(handle)
        except nvml.NVMLError:
            continue
        return feed
    return None


def _field_mw(nvml: ModuleType, handle: Any, *, field: int, scope: int) -> int:
    """A field brings its own return code; power fields are unsigned int. Raises NVMLError."""
    value = nvml.nvmlDeviceGetFieldValues(handle, [(field, scope)])[0]
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


def _usage_is_a_mean(nvml: ModuleType, handle: Any) -> bool:
    """Whether `nvmlDeviceGetPowerUsage` averages on this chip; yes where the chip is unknown."""
    try:
        capability: tuple[int, int] = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:
        return True
    return capability > _LAST_INSTANT
