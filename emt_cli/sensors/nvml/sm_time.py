"""Who used an NVIDIA GPU: compute-unit seconds by process, from the driver's own averages.

It stands apart from the rest because it is arithmetic over the driver's odd way of telling shares, and is
needed only where there is a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from emt_cli.units import SECONDS_PER_MICROSECOND

_INSUFFICIENT_SIZE = 7
_NO_SAMPLES = (0, 6)  # pynvml raises the success of an empty list; the driver says NOT_FOUND


class UtilizationSample(NamedTuple):
    """SM use of one process, an average over the time since it was last asked for; wall clock in us."""

    pid: int
    t_us: int
    sm_percent: int


def busy_seconds(
    samples: Iterable[UtilizationSample], since_us: int, now_us: int
) -> tuple[dict[int, float | None], int]:
    """Compute-unit seconds by PID since `since_us`, and the time up to which they are known.

    The driver gives one sample per PID: its average over everything newer than `since_us`, stamped with
    the moment at which that PID was last seen busy. So it holds up to the newest stamp of all; where there
    are several of one PID, each holds from the one before. Stamps outside the span and PID 0 are leftovers
    in the driver's buffer; a share above 100 % is garbage (nvtop #110, DCGM #83) and becomes None.
    """
    fresh = sorted(sample for sample in samples if since_us < sample.t_us <= now_us and sample.pid > 0)
    newest_us = max((sample.t_us for sample in fresh), default=since_us)
    by_pid: dict[int, list[UtilizationSample]] = {}
    for sample in fresh:
        by_pid.setdefault(sample.pid, []).append(sample)
    return {pid: _busy_s(own, since_us, newest_us) for pid, own in by_pid.items()}, newest_us


def _busy_s(own: Sequence[UtilizationSample], since_us: int, newest_us: int) -> float | None:
    if any(sample.sm_percent > 100 for sample in own):
        return None
    if len(own) == 1:
        return own[0].sm_percent / 100 * (newest_us - since_us) * SECONDS_PER_MICROSECOND
    starts = [since_us, *(sample.t_us for sample in own)]
    spans = zip(starts, own, strict=False)
    busy_us = sum(sample.sm_percent / 100 * (sample.t_us - start_us) for start_us, sample in spans)
    return busy_us * SECONDS_PER_MICROSECOND


class Shares:
    """Asks one GPU for its processes' shares, each time from where the last answer ended."""

    # The driver hands samples over up to 1 s late: a span without any may still get some, until then.
    PATIENCE_US = 2_000_000

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._since_us = _wall_us()

    def busy_s_by_pid(self) -> dict[int, float | None] | None:
        """Since the last answer; None where the driver does not tell."""
        try:
            raw = self._samples()
        except self._nvml.NVMLError as error:
            if error.value not in _NO_SAMPLES:
                return None
            raw = []
        now_us = _wall_us()
        samples = (UtilizationSample(one.pid, one.timeStamp, one.smUtil) for one in raw)
        busy, newest_us = busy_seconds(samples, self._since_us, now_us)
        if busy:
            self._since_us = newest_us
        elif not 0 <= now_us - self._since_us <= self.PATIENCE_US:
            self._since_us = now_us - self.PATIENCE_US // 2
        return busy

    def _samples(self) -> Sequence[Any]:
        """Asked again where another process turned up between pynvml's two calls (how many, and which)."""
        for _ in range(3):
            try:
                found: Sequence[Any] = self._nvml.nvmlDeviceGetProcessUtilization(
                    self._handle, self._since_us
                )
            except self._nvml.NVMLError as error:
                if error.value != _INSUFFICIENT_SIZE:
                    raise
            else:
                return found
        raise self._nvml.NVMLError(_INSUFFICIENT_SIZE)


def _wall_us() -> int:
    return time.time_ns() // 1000
