"""Which devices the runtimes' variables leave, in all their spellings (CUDA's are in test_nvml)."""

from __future__ import annotations

import pytest

from emt_cli.sensors.visible import amd_visible, hip_visible, level_zero_visible, rocr_visible

UUIDS = ("GPU-a1b2c3d400000000", "GPU-b1b2c3d400000000", "", "GPU-b1f2c3d400000000")


@pytest.mark.parametrize(
    ("setting", "positions"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        ("GPU-a1b2c3d400000000", [0]),
        ("gpu-A1B2C3D400000000", [0]),
        ("GPU-a1", [0]),
        ("3,GPU-a1b2c3d400000000,1", [3, 0, 1]),
        ("GPU-b1", []),  # fits two
        ("GPU-", []),
        ("0,GPU-ffff,1", [0]),  # ends at the first that names nothing
        ("0,4,1", [0]),
        ("0,1,0,2", [0, 1]),  # and at the first that repeats one
        ("-1", []),
        ("0x1", []),
        ("1_0", []),
        ("1,", [1]),
        ("NoDevFiles", []),
    ],
)
def test_rocr_takes_indices_and_uuids_until_one_names_nothing(
    setting: str | None, positions: list[int]
) -> None:
    assert rocr_visible(setting, UUIDS) == positions


@pytest.mark.parametrize(
    ("setting", "positions"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("0,2", [0, 2]),
        ("2,1", [2, 1]),
        ("0,3,1", [0]),
        ("0, 1", [0]),  # HIP takes no space
        ("GPU-a1b2c3d400000000", []),
        ("1,1", [1, 1]),
    ],
)
def test_hip_takes_indices_alone(setting: str | None, positions: list[int]) -> None:
    assert hip_visible(setting, 3) == positions


@pytest.mark.parametrize(
    ("environ", "positions"),
    [
        ({}, [0, 1, 2, 3]),
        ({"ROCR_VISIBLE_DEVICES": "3,1"}, [1, 3]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "2"}, []),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "0"}, [3]),  # in ROCr's order
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "0,1"}, [1, 3]),
        ({"ROCR_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "1"}, []),
        ({"ROCR_VISIBLE_DEVICES": "GPU-b1f2", "CUDA_VISIBLE_DEVICES": "0"}, [3]),
        ({"GPU_DEVICE_ORDINAL": "0"}, [0, 1, 2, 3]),
    ],
)
def test_hip_counts_among_what_rocr_leaves(environ: dict[str, str], positions: list[int]) -> None:
    assert amd_visible(environ, UUIDS) == positions


TWO_CARDS = (4, 4)
COMPOSITE, FLAT, COMBINED = ({"ZE_FLAT_DEVICE_HIERARCHY": each} for each in ("COMPOSITE", "FLAT", "COMBINED"))


@pytest.mark.parametrize(
    ("hierarchy", "mask", "positions"),
    [
        ({}, None, [0, 1]),
        ({}, "", [0, 1]),
        (COMPOSITE, "0, 1", [0, 1]),
        (COMPOSITE, "0", [0]),
        (COMPOSITE, "1", [1]),
        (COMPOSITE, "0.0", [0]),
        (COMPOSITE, "1.1, 1.2", [1]),
        (COMPOSITE, "0.2, 1.3, 1.0, 0.3", [0, 1]),
        (COMPOSITE, "0.4", []),
        (COMPOSITE, "1.3.0", [1]),
        (COMPOSITE, "2,0", [0]),  # passed over, not the end
        (FLAT, "0, 1, 2, 3, 4, 5, 6, 7", [0, 1]),
        (FLAT, "0", [0]),
        (FLAT, "1", [0]),
        (FLAT, "4", [1]),
        (FLAT, "3,7", [0, 1]),
        (FLAT, "8", []),
        (FLAT, "0.1", []),
        (COMBINED, "5", [1]),
        ({}, "5", [1]),
        ({"ZE_FLAT_DEVICE_HIERARCHY": "composite"}, "1.0", [1]),
        ({}, "x", []),
    ],
)
def test_the_affinity_mask_counts_cards_or_tiles_by_the_hierarchy(
    hierarchy: dict[str, str], mask: str | None, positions: list[int]
) -> None:
    """The cases of the Level Zero specification's tables, and some more."""
    environ = hierarchy if mask is None else {**hierarchy, "ZE_AFFINITY_MASK": mask}
    assert level_zero_visible(environ, TWO_CARDS) == positions


def test_cards_of_one_tile_are_counted_alike_in_both_hierarchies() -> None:
    for hierarchy in (COMPOSITE, FLAT):
        assert level_zero_visible({**hierarchy, "ZE_AFFINITY_MASK": "2,0"}, (1, 1, 1)) == [0, 2]
    assert level_zero_visible({"ZE_AFFINITY_MASK": "0"}, (0, 0)) == [0], "a card tells no tiles: it is one"
