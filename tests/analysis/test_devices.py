"""Whose joules a GPU's are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.attribution import share_of_device
from emt_cli.model import DeviceUse, Host
from tests.analysis.examples import channel, energy_of, gpu_run, row_of, run_of, steady


def use(
    tree: tuple[int, ...] = (),
    others: tuple[int, ...] = (),
    *,
    tree_s: float | None = None,
    total_s: float | None = None,
) -> DeviceUse:
    return DeviceUse(
        device="gpu0", tree_pids=tree, other_pids=others, tree_busy_s=tree_s, total_busy_s=total_s
    )


def test_a_gpu_that_only_the_tree_used_is_the_trees_whole_whatever_the_cpu_share() -> None:
    row = row_of(gpu_run(use((1, 2))), "gpu0")
    assert (row.attributed_j, row.low_j, row.high_j) == pytest.approx((100.0, 100.0, 100.0))
    assert row.rule == "whole_device"


def test_a_shared_gpu_goes_by_compute_unit_time_between_that_and_equal_shares() -> None:
    assert share_of_device(use((1,), (2, 3), tree_s=6.0, total_s=8.0)) == (
        0.75,
        pytest.approx(1 / 3),
        0.75,
        "sm_time_share",
    )


def test_a_tree_that_held_a_context_and_did_nothing_is_charged_nothing_but_not_surely() -> None:
    assert share_of_device(use((1,), (2,), tree_s=0.0, total_s=8.0)) == (0.0, 0.0, 0.5, "sm_time_share")


@pytest.mark.parametrize(("tree_s", "total_s"), [(None, None), (None, 8.0), (2.0, None), (0.0, 0.0)])
def test_without_compute_unit_time_a_shared_gpu_goes_in_equal_parts(
    tree_s: float | None, total_s: float | None
) -> None:
    """All zero is not told either: the driver averages over about a second, a short run gets nothing else."""
    found = share_of_device(use((1, 2, 3), (4,), tree_s=tree_s, total_s=total_s))
    assert found == (0.75, 0.0, 1.0, "equal_share")


def test_a_gpu_that_the_tree_did_not_use_costs_it_nothing() -> None:
    assert share_of_device(use(others=(4,), tree_s=0.0, total_s=3.0)) == (0.0, 0.0, 0.0, "not_used_by_tree")
    row = row_of(gpu_run(use()), "gpu0")
    assert (row.machine_j, row.attributed_j, row.high_j) == pytest.approx((100.0, 0.0, 0.0))


def test_a_gpu_whose_driver_tells_no_processes_is_attributed_whole_and_maybe_not_at_all() -> None:
    row = row_of(gpu_run(None), "gpu0")
    assert (row.attributed_j, row.low_j, row.high_j) == pytest.approx((100.0, 0.0, 100.0))
    assert row.rule == "whole_device_unknown"


def test_in_a_container_the_hosts_pids_say_nothing_about_the_tree() -> None:
    run = gpu_run(use(others=(12345,), tree_s=0.0, total_s=9.0), host=Host(container="docker"))
    assert row_of(run, "gpu0").rule == "whole_device_unknown"
    exclusive = gpu_run(use((7,)), host=Host(container="docker"))
    assert row_of(exclusive, "gpu0").rule == "whole_device"


def test_where_pids_were_sorted_out_by_namespace_a_container_is_no_reason_for_doubt() -> None:
    ours = Host(container="docker", pid_namespace="own")
    others = gpu_run(use(others=(12,), tree_s=0.0, total_s=9.0), host=ours)
    assert row_of(others, "gpu0").rule == "not_used_by_tree"
    unknown = gpu_run(use(others=(0,)), host=ours)
    assert row_of(unknown, "gpu0").rule == "whole_device_unknown"


def test_somebody_unknown_may_be_the_tree_unless_the_tree_is_known_too() -> None:
    assert share_of_device(use(others=(0,))) == (1.0, 0.0, 1.0, "whole_device_unknown")
    assert share_of_device(use((1,), (0,))) == (0.5, 0.0, 1.0, "equal_share")


@pytest.mark.parametrize(
    ("tree", "others", "slices", "expected"),
    [
        ((1,), (0, 2), 0.4, (0.4, 0.0, 1.0, "mig_slice_share")),
        ((), (0,), 0.4, (0.4, 0.0, 1.0, "mig_slice_share")),  # instances of unknown use
        ((1,), (), 1.0, (1.0, 1.0, 1.0, "whole_device")),
        ((), (2, 0), 0.0, (0.0, 0.0, 0.0, "not_used_by_tree")),
        ((), (0,), 1.0, (1.0, 0.0, 1.0, "whole_device_unknown")),
    ],
)
def test_a_divided_gpu_goes_by_the_slices_of_its_instances(
    tree: tuple[int, ...], others: tuple[int, ...], slices: float, expected: tuple[float, float, float, str]
) -> None:
    assert share_of_device(replace(use(tree, others), slice_share=slices)) == expected


def test_more_busy_time_than_the_device_had_is_all_of_it() -> None:
    assert share_of_device(use((1,), (2,), tree_s=9.0, total_s=8.0))[0] == 1.0


@given(
    st.lists(st.integers(1, 99), max_size=4),
    st.lists(st.integers(1, 99), max_size=4),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)
def test_a_share_is_a_share_and_lies_within_its_bounds(
    tree: list[int], others: list[int], tree_s: float | None, total_s: float | None, sees_pids: bool
) -> None:
    share, low, high, _ = share_of_device(
        use(tuple(tree), tuple(others), tree_s=tree_s, total_s=total_s), sees_pids=sees_pids
    )
    assert 0.0 <= low <= share <= high <= 1.0


def test_a_module_goes_by_cpu_time_where_nobody_tells_its_users_and_by_them_elsewhere() -> None:
    run = run_of({"module0": steady(50.0)}, channels=[channel("module0")])
    assert row_of(run, "module0").rule == "cpu_share"
    assert row_of(run, "module0").attributed_j == pytest.approx(250.0)
    told = replace(run, devices=(DeviceUse(device="module0", tree_pids=(1,)),))
    assert row_of(told, "module0").rule == "whole_device"


def test_cpu_and_gpu_add_up_each_by_its_own_rule() -> None:
    energy = energy_of(gpu_run(use((1,), (2,), tree_s=3.0, total_s=4.0)))
    assert energy.machine_j == pytest.approx(200.0)
    assert energy.attributed_j == pytest.approx(50.0 + 75.0)
    assert energy.active_j is None


def test_where_other_accounts_are_out_of_sight_the_share_is_an_upper_bound() -> None:
    use = DeviceUse(device="gpu0", tree_busy_s=2.0, total_busy_s=2.0, tree_pids=(7,), sees_others=False)
    assert share_of_device(use) == (1.0, 0.0, 1.0, "whole_device")
