"""Which channels a total adds up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.cover import counted, is_measured, platform_channel
from emt_cli.model import Channel
from tests.analysis.examples import channel

PSYS = channel("node/psys")
PACKAGE = channel("cpu0/package")
CORE = channel("cpu0/core", within="cpu0/package")
UNCORE = channel("cpu0/uncore", within="cpu0/package")
DRAM = channel("cpu0/dram")
GPU = channel("gpu0")


def test_core_and_uncore_are_inside_the_package_and_dram_lies_beside_it() -> None:
    assert counted([PSYS, PACKAGE, CORE, UNCORE, DRAM, GPU]) == {"cpu0/package", "cpu0/dram", "gpu0"}


def test_components_count_even_where_psys_says_that_it_contains_them() -> None:
    package = channel("cpu0/package", within="node/psys")
    dram = channel("cpu0/dram", within="node/psys")
    assert counted([PSYS, package, CORE, dram]) == {"cpu0/package", "cpu0/dram"}


def test_a_module_contains_its_packages_memory_and_gpu() -> None:
    inside = [channel(id, within="module0") for id in ("cpu0/package", "cpu0/dram", "gpu0")]
    assert counted([channel("module0"), *inside, CORE]) == {"module0"}


def test_a_dropped_module_leaves_what_is_inside_to_be_counted() -> None:
    assert counted([channel("module0", dropped="mirror"), channel("gpu0", within="module0")]) == {"gpu0"}


def test_a_core_counts_where_its_package_is_not_among_the_channels() -> None:
    assert counted([CORE, DRAM]) == {"cpu0/core", "cpu0/dram"}


def test_mirrors_are_in_no_total_and_hide_nothing() -> None:
    mirror = channel("cpu0/package-mmio", domain="package", dropped="mirror of cpu0/package")
    assert counted([mirror, PACKAGE, CORE]) == {"cpu0/package"}


def test_the_platform_counts_where_nothing_else_exists() -> None:
    assert counted([PSYS]) == {"node/psys"}
    assert counted([PSYS, channel("cpu0/package", dropped="mirror")]) == {"node/psys"}


def test_total_platform_makes_the_platform_the_only_one_counted() -> None:
    assert counted([PSYS, PACKAGE, DRAM, GPU], "platform") == {"node/psys"}


def test_total_platform_without_a_platform_counts_the_components() -> None:
    assert counted([PACKAGE, DRAM], "platform") == {"cpu0/package", "cpu0/dram"}


def test_a_node_meter_goes_before_psys_and_psys_before_a_battery() -> None:
    node, battery = channel("node/node"), channel("node/battery")
    assert platform_channel([battery, PSYS, node]) == node
    assert platform_channel([battery, PSYS]) == PSYS
    assert platform_channel([battery, channel("node/psys", dropped="dead")]) == battery
    assert platform_channel([PACKAGE]) is None


def test_no_channels_cover_nothing() -> None:
    assert counted([]) == frozenset()


def test_a_circle_of_containment_ends_and_counts_nothing_twice() -> None:
    circle = [channel("a/package", within="b/package"), channel("b/package", within="a/package")]
    assert len(counted(circle)) <= 1
    assert len(counted([channel("a/package", within="a/package")])) <= 1


DOMAINS = ("package", "core", "dram", "gpu", "module", "psys", "node", "battery", "nonsense")


@st.composite
def any_channels(draw: st.DrawFn) -> list[Channel]:
    names = [f"c{n}" for n in range(draw(st.integers(0, 8)))]
    return [
        channel(
            name,
            domain=draw(st.sampled_from(DOMAINS)),
            within=draw(st.sampled_from([None, "missing", *names])),
            dropped=draw(st.sampled_from(["", "", "mirror"])),
        )
        for name in names
    ]


def outers(inner: Channel, channels: list[Channel]) -> set[str]:
    by_id = {each.id: each for each in channels}
    found: set[str] = set()
    outer = inner.within
    while outer in by_id and outer not in found:
        assert outer is not None
        found.add(outer)
        outer = by_id[outer].within
    return found


@given(any_channels(), st.sampled_from(["components", "platform"]))
def test_no_two_counted_channels_overlap_and_no_mirror_counts(channels: list[Channel], total: str) -> None:
    ids = counted(channels, total)  # type: ignore[arg-type]
    chosen = [each for each in channels if each.id in ids]
    assert len(chosen) == len(ids)
    assert not any(each.dropped for each in chosen)
    assert not any(outers(each, channels) & ids for each in chosen)
    assert len({each.is_platform for each in chosen}) <= 1
    assert sum(each.is_platform for each in chosen) <= 1


@given(any_channels())
def test_every_component_is_counted_itself_or_through_one_that_contains_it(channels: list[Channel]) -> None:
    ids = counted(channels)
    for each in channels:
        is_circular = each.id in outers(each, channels) or any(
            outer in outers(next(c for c in channels if c.id == outer), channels)
            for outer in outers(each, channels)
        )
        if not (each.dropped or each.is_platform or is_circular):
            assert each.id in ids or outers(each, channels) & ids


# --- measured or not --------------------------------------------------------------------------------

MEMORY = channel("ram", domain="dram", provenance="estimated")
MODEL = channel("cpu", domain="cpu", provenance="estimated")


def test_a_counter_and_power_over_time_are_measurements() -> None:
    assert is_measured([PACKAGE])
    assert is_measured([PACKAGE, channel("gpu0", provenance="integrated")])


def test_nothing_at_all_is_no_measurement() -> None:
    assert not is_measured([])
    assert not is_measured([channel("cpu0/package", dropped="excluded")])


def test_a_memory_estimated_by_its_size_is_let_pass_but_is_no_measurement_by_itself() -> None:
    assert is_measured([PACKAGE, MEMORY])
    assert not is_measured([MEMORY])


def test_one_estimated_or_stated_part_spoils_the_whole() -> None:
    assert not is_measured([MODEL, GPU])
    assert not is_measured([channel("cpu", domain="cpu", provenance="configured"), GPU])
    assert not is_measured([PACKAGE, channel("dram", domain="dram", provenance="configured")])


def test_what_does_not_count_needs_no_measurement() -> None:
    assert is_measured([PACKAGE, channel("cpu", domain="cpu", provenance="estimated", dropped="mirror")])
    node = channel("node", domain="node")
    assert not is_measured([node, MODEL])
    assert is_measured([node, MODEL], "platform")
