"""What a GPU is taken to draw, by the names that drivers print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli import data
from emt_cli.data.gpu_power import LAPTOP_W, MOST_LAPTOP_W, gpu_power

BOARDS = {
    "NVIDIA GB200": 1200,
    "NVIDIA B200": 1000,
    "NVIDIA H200": 700,
    "NVIDIA H200 NVL": 600,
    "NVIDIA H100 80GB HBM3": 700,
    "NVIDIA H100 PCIe": 350,
    "NVIDIA H100 NVL": 400,
    "NVIDIA GH200 480GB": 700,
    "NVIDIA A100-SXM4-80GB": 400,
    "NVIDIA A100-SXM4-40GB": 400,
    "A100-SXM4-40GB": 400,
    "NVIDIA A100 80GB PCIe": 300,
    "NVIDIA A100-PCIE-40GB": 250,
    "NVIDIA A40": 300,
    "NVIDIA A30": 165,
    "NVIDIA A10": 150,
    "NVIDIA A10G": 300,
    "NVIDIA A2": 60,
    "NVIDIA L40S": 350,
    "NVIDIA L40": 300,
    "NVIDIA L4": 72,
    "Tesla T4": 70,
    "NVIDIA T4": 70,
    "Tesla V100-SXM2-16GB": 300,
    "Tesla V100-SXM2-32GB": 300,
    "Tesla V100-SXM3-32GB": 350,
    "Tesla V100-PCIE-16GB": 250,
    "Tesla V100-DGXS-32GB": 250,
    "Tesla P100-SXM2-16GB": 300,
    "Tesla P100-PCIE-16GB": 250,
    "Tesla P40": 250,
    "Tesla P4": 75,
    "Tesla M60": 300,
    "Tesla K80": 300,
    "NVIDIA RTX A6000": 300,
    "NVIDIA RTX A4000": 140,
    "NVIDIA RTX 6000 Ada Generation": 300,
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": 600,
    "Quadro RTX 6000": 260,
    "Quadro P4000": 105,
    "NVIDIA TITAN RTX": 280,
    "TITAN V": 250,
    "NVIDIA TITAN Xp": 250,
    "GeForce GTX TITAN X": 250,
    "NVIDIA GeForce RTX 5090": 575,
    "NVIDIA GeForce RTX 4090": 450,
    "NVIDIA GeForce RTX 4080 SUPER": 320,
    "NVIDIA GeForce RTX 4080": 320,
    "NVIDIA GeForce RTX 4070 Ti": 285,
    "NVIDIA GeForce RTX 4070": 200,
    "NVIDIA GeForce RTX 3090 Ti": 450,
    "NVIDIA GeForce RTX 3090": 350,
    "NVIDIA GeForce RTX 2080 Ti": 250,
    "GeForce RTX 2080 Ti": 250,
    "GeForce GTX 1080 Ti": 250,
    "GeForce GTX 1080": 180,
    "GeForce GTX 980": 165,
    "AMD Instinct MI300X": 750,
    "Radeon RX 7900 XTX": 355,
    "Intel(R) Arc(TM) A770 Graphics": 225,
}
"""As nvmlDeviceGetName and its like print them, of drivers from 2014 to 2025."""

UNKNOWN = (
    "NVIDIA GeForce RTX 3060 Ti",
    "NVIDIA GeForce RTX 4070 Ti SUPER",
    "NVIDIA GeForce RTX 4090 D",
    "GeForce GTX 970",
    "TITAN X (Pascal)",
    "Tesla K40c",
    "NVIDIA Graphics Device",
    "",
)
"""Not in the table, although a name that is there may be a part of them."""


@pytest.mark.parametrize(("name", "tdp_w"), BOARDS.items())
def test_a_drivers_name_finds_its_board(name: str, tdp_w: float) -> None:
    power = gpu_power(name)
    assert (power.full_w, power.high_w) == (tdp_w, tdp_w)
    assert 0.05 * tdp_w < power.idle_w < 0.15 * tdp_w
    assert power.source.startswith("TDP of ")


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_board_of_a_similar_name_is_not_taken_for_it(name: str) -> None:
    power = gpu_power(name)
    assert power.source.startswith("generic GPU")
    assert "not in the table" in power.note
    assert power.low_w < 10, "bounds that hold for nearly all"
    assert power.high_w > 500
    assert gpu_power(name, 220.0).full_w == 220.0, "its own power limit says more"


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 3080 Laptop GPU", "NVIDIA GeForce RTX 2070 with Max-Q Design"]
)
def test_a_laptops_gpu_is_not_the_desktops(name: str) -> None:
    power = gpu_power(name)
    assert (power.full_w, power.high_w) == (LAPTOP_W, MOST_LAPTOP_W)
    assert gpu_power(name, 115.0)[1:4:2] == (115.0, 115.0)


@pytest.mark.parametrize(
    ("name", "full_w", "high_w"),
    [
        ("GRID T4-8C", 35, 70),
        ("GRID T4-16Q", 70, 70),
        ("NVIDIA A40-48Q", 300, 300),
        ("NVIDIA A100-40C", 200, 400),
        ("NVIDIA A100-1-5C", 25, 400),
        ("GRID V100DX-32Q", 350, 350),
        ("NVIDIA L40S-12Q", 87.5, 350),
    ],
)
def test_a_virtual_gpu_has_its_memorys_share_of_the_board_and_may_use_it_all(
    name: str, full_w: float, high_w: float
) -> None:
    power = gpu_power(name)
    assert (power.full_w, power.high_w, power.low_w) == (full_w, high_w, 0.0)


def test_a_virtual_gpu_of_an_unknown_board_is_any() -> None:
    assert gpu_power("NVIDIA A16-8Q").source.startswith("generic GPU")


def test_every_driver_name_of_the_table_finds_its_own_row() -> None:
    for row in data.rows("gpu_spec"):
        for name in filter(None, row["driver_names"].split(";")):
            assert gpu_power(name).full_w == float(row["tdp_w"]), name


@given(st.text(max_size=30), st.none() | st.floats(1.0, 2000.0))
def test_whatever_the_name_the_point_lies_within_its_bounds(name: str, limit_w: float | None) -> None:
    power = gpu_power(name, limit_w)
    assert 0 <= power.low_w <= power.idle_w <= power.full_w <= power.high_w
    assert power.source
