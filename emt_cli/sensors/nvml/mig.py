"""MIG: the instances into which a board is divided, and what part of it each one is.

Apart from the sensor because energy knows nothing of instances: a part of the board is all that there is to
share by. An instance that this process may not see is not listed; its part is what is missing from the whole.
"""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple


class Instance(NamedTuple):
    """A MIG device. `share` is its part of the board's compute slices, as a fraction."""

    uuid: str
    handle: Any
    share: float


def is_divided(nvml: ModuleType, handle: Any) -> bool:
    """Whether MIG is on."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False


def instances(nvml: ModuleType, handle: Any) -> list[Instance]:
    """The instances of a board that may be seen; none where it has no MIG.

    A board has as many slices as it can have instances (7 on A100 and H100, 4 on A30). Several compute
    instances may live in one GPU instance, so the compute slices count.
    """
    found: list[Instance] = []
    try:
        slices = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        for index in range(slices):
            with suppress(nvml.NVMLError_NotFound):  # slots may be empty
                part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                found.append(Instance(nvml.nvmlDeviceGetUUID(part), part, _slices(nvml, part) / slices))
    except nvml.NVMLError:
        return found
    return found


def _slices(nvml: ModuleType, part: Any) -> int:
    """One where the driver does not tell: the least there is."""
    try:
        attributes = nvml.nvmlDeviceGetAttributes_v2(part)
    except nvml.NVMLError:
        return 1
    return int(attributes.computeInstanceSliceCount or attributes.gpuInstanceSliceCount or 1)
