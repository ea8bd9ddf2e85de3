"""The replay sensor: what it plays from good files, and what it says of bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emt_cli.errors import UsageError
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.meters import meter
from emt_cli.sensors.replay import Replay, open_replay
from tests.sensors.contract import SensorContract

COUNTER = {"id": "cpu0/package", "kind": "counter"}
GAUGE = {"id": "gpu0", "kind": "gauge"}


class Clock:
    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


class Player:
    """A replay of a JSON file, asked for values at seconds since its first reading."""

    def __init__(self, folder: Path, channels: list[dict], readings: list[list], **more: object) -> None:
        path = folder / "readings.json"
        path.write_text(json.dumps({"channels": channels, "readings": readings, **more}))
        self.clock = Clock()
        self.sensor = open_replay(str(path), self.clock)
        self.sensor.read()

    def at(self, t_s: float) -> list[float | str]:
        """Each channel's value, or why there is none."""
        self.clock.now_s = 5000.0 + t_s
        readings = self.sensor.read()
        assert {reading.t_s for reading in readings} == {self.clock.now_s}
        return [reading.reason if isinstance(reading, Gap) else reading.value for reading in readings]


def written(folder: Path, text: str | bytes, name: str = "samples.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


class TestReplay(SensorContract):
    cannot_be_absent = "a file that is not there is the user's mistake, not missing hardware"
    cannot_be_locked = "a file that may not be read is the user's mistake, not a locked device"

    def open(self, folder: Path) -> Replay:
        readings = [[0, 0, 50.0], [3600, 10_000, 60.0]]
        path = written(folder, json.dumps({"channels": [COUNTER, GAUGE], "readings": readings}), "r.json")
        return open_replay(path)

    def open_vanishing(self, folder: Path) -> tuple[Replay, Callable[[], None]]:
        clock = Clock()
        sensor = open_replay(written(folder, "t_s,gpu0_j\n0,0\n1,5\n"), clock)

        def vanish() -> None:
            clock.now_s += 10
            sensor.read()  # the last row is told once

        return sensor, vanish


# --- playing ----------------------------------------------------------------------------------------


def test_the_last_row_is_told_at_its_own_time_however_late_it_is_asked_for(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER], [[0.0, 0.0], [1.0, 10.0]])
    player.at(0.0)
    player.at(0.75)
    player.clock.now_s += 5
    (reading,) = player.sensor.read()
    assert (reading.t_s, reading.value) == (5001.0, 10.0)
    assert player.sensor.read() == [Gap(player.clock.now_s, "replay ended")]


def test_a_rewound_player_begins_again(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER], [[0.0, 0.0], [1.0, 10.0]])
    player.at(0.0)
    player.at(0.5)
    player.sensor.rewind()
    (reading,) = player.sensor.read()
    assert reading.value == 0.0
    player.clock.now_s += 0.25
    (reading,) = player.sensor.read()
    assert reading.value == 2.5


def test_time_runs_from_the_first_read_whatever_the_first_row_says(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER], [[100.0, 7.0], [102.0, 27.0]])
    assert [player.at(t)[0] for t in (0, 0.5, 1, 2)] == [7, 12, 17, 27]


def test_a_counter_runs_straight_and_a_gauge_holds(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER, GAUGE], [[0, 0.0, 10.0], [1, 10.0, 20.0], [2, 40.0, 30.0]])
    assert [player.at(t) for t in (0.5, 1.0, 1.5, 2.0)] == [[5, 10], [10, 20], [25, 20], [40, 30]]


def test_whole_steps_stay_whole(tmp_path: Path) -> None:
    player = Player(tmp_path, [{**COUNTER, "unit": 1e-6, "range_raw": 100}], [[0, 0], [1, 10]])
    values = [player.at(t)[0] for t in (0, 0.19, 0.55, 1)]
    assert values == [0, 1, 5, 10]
    assert all(type(value) is int for value in values)


def test_a_wrap_between_two_rows_is_played_as_a_wrap(tmp_path: Path) -> None:
    player = Player(tmp_path, [{**COUNTER, "range_raw": 100}], [[0, 90], [1, 10]])
    assert [player.at(t)[0] for t in (0, 0.25, 0.75, 1)] == [90, 95, 5, 10]


def test_a_reset_without_a_range_is_played_as_a_reset(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER], [[0, 90], [1, 10], [2, 20]])
    assert [player.at(t)[0] for t in (0, 0.9, 1, 1.5)] == [90, 90, 10, 15]


def test_a_missing_value_is_a_gap_on_both_sides_for_a_counter_and_after_it_for_a_gauge(
    tmp_path: Path,
) -> None:
    player = Player(tmp_path, [COUNTER, GAUGE], [[0, 0, 5], [1, None, None], [2, 20, 6], [3, 30, 7]])
    missing = "missing in the replayed file"
    assert player.at(0.5) == [missing, 5]
    assert player.at(1.5) == [missing, missing]
    assert player.at(2.5) == [25, 6]


def test_after_the_end_there_are_only_gaps(tmp_path: Path) -> None:
    player = Player(tmp_path, [COUNTER, GAUGE], [[0, 0, 5], [1, 10, 5]])
    assert player.at(1.0) == [10, 5]
    assert player.at(1.001) == ["replay ended", "replay ended"]


def test_a_repeated_file_starts_over_and_its_counters_count_on(tmp_path: Path) -> None:
    readings = [[0, 100, 5], [1, 110, 6], [2, 130, 7]]
    player = Player(tmp_path, [COUNTER, GAUGE], readings, repeat=True)
    assert [player.at(t) for t in (2.5, 3.5, 4.5)] == [[135, 5], [150, 6], [165, 5]]


def test_a_repeated_file_with_a_wrap_keeps_wrapping_and_loses_nothing(tmp_path: Path) -> None:
    facts = {**COUNTER, "unit": 1.0, "range_raw": 1000, "max_power_w": 50}
    player = Player(tmp_path, [facts], [[0, 990], [1, 5], [2, 20]], repeat=True)
    books = meter(player.sensor.channels[0], 0.0, 0.5)
    for tick in range(201):
        (value,) = player.at(tick / 2)
        books.update(Reading(tick / 2, value))
    assert (books.resets, books.gaps) == (0, [])
    assert books.energy_j == 50 * 30


def test_going_back_in_a_repeat_finds_the_first_rows_again(tmp_path: Path) -> None:
    player = Player(tmp_path, [GAUGE], [[0, 1], [1, 2], [2, 3], [3, 4]], repeat=True)
    assert [player.at(t)[0] for t in (2.5, 3.5, 5.5, 6.1)] == [3, 1, 3, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 500)), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), max_size=20),
)
def test_however_it_is_read_the_whole_energy_comes_out(
    tmp_path: Path, steps: list[tuple[float, int]], shares: list[float]
) -> None:
    rows, t_s, total = [[0.0, 0]], 0.0, 0
    for elapsed_s, joules in steps:
        t_s, total = t_s + elapsed_s, total + joules
        rows.append([t_s, total])
    player = Player(tmp_path, [{**COUNTER, "max_power_w": 1e6}], [*rows, [t_s + 1, total]])
    books = meter(player.sensor.channels[0], 0.0, 1.0)
    for at_s in [0.0, *sorted(share * t_s for share in shares)]:
        (value,) = player.at(at_s)
        books.update(Reading(at_s, value))
    (value,) = player.at(t_s + 0.5)
    books.update(Reading(t_s + 0.5, value))
    assert books.energy_j == total


# --- what a file says -------------------------------------------------------------------------------


def channels_of(path: str) -> dict[str, Channel]:
    return {channel.id: channel for channel in open_replay(path).channels}


def test_a_runs_samples_are_played_and_its_cpu_columns_passed_over(tmp_path: Path) -> None:
    clock = Clock()
    text = "t_s,cpu0/package_j,gpu0_w,cpu_tree_s,cpu_machine_s\n0,0,50,0,0\n1,20.5,60,1,2\n\n2,41,,2,4\n"
    sensor = open_replay(written(tmp_path, text), clock)
    assert [(c.id, c.kind, c.device, c.domain, c.provenance) for c in sensor.channels] == [
        ("cpu0/package", "counter", "cpu0", "package", "measured"),
        ("gpu0", "gauge", "gpu0", "gpu", "integrated"),
    ]
    assert [reading.value for reading in sensor.read()] == [0, 50]
    clock.now_s += 1.5
    assert [reading.value for reading in sensor.read()] == [30.75, 60]
    clock.now_s += 0.5
    assert isinstance(sensor.read()[1], Gap)


def test_joules_win_over_watts_of_the_same_channel(tmp_path: Path) -> None:
    channels = channels_of(written(tmp_path, "t_s,gpu0_w,gpu0_j\n0,5,0\n1,5,5\n"))
    assert [channel.kind for channel in channels.values()] == ["counter"]


def test_the_runs_own_record_tells_the_channels_facts(tmp_path: Path) -> None:
    record = {
        "format": 1,
        "channels": [
            {"id": "cpu0/core", "kind": "counter", "within": "cpu0/package", "unit": 1e-6, "range_raw": 9,
             "sensor": "powercap", "counted": False, "resolution_j": 61e-6, "provenance": "measured"},
            {"id": "cpu0/package", "kind": "counter", "within": "node/psys", "new_in_format_9": 1},
            {"id": "gpu0", "kind": "gauge", "provenance": "integrated", "dropped": "a twin"},
            {"id": "cpu", "kind": "model", "provenance": "estimated", "low_w": 1, "high_w": 9},
        ],
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    header = "t_s,cpu0/core_j,cpu0/package_j,gpu0_j,cpu_j"
    written(tmp_path, f"{header}\n0,0,0,0,0\n1,2,3,4,5\n")
    channels = channels_of(str(tmp_path))
    assert {id: (c.kind, c.provenance, c.within, c.unit, c.range_raw) for id, c in channels.items()} == {
        "cpu0/core": ("counter", "measured", "cpu0/package", 1.0, None),
        "cpu0/package": ("counter", "measured", None, 1.0, None),
        "gpu0": ("counter", "integrated", None, 1.0, None),
        "cpu": ("model", "estimated", None, 1.0, None),
    }
    assert channels["gpu0"].dropped == "a twin"
    assert {channel.sensor for channel in channels.values()} == {"replay"}


def test_recorded_power_beyond_the_usual_is_still_plausible(tmp_path: Path) -> None:
    channels = channels_of(written(tmp_path, "t_s,node_j\n0,0\n1,9000\n"))
    assert channels["node"].max_power_w == 18_000


def test_the_file_may_say_all_that_a_channel_is(tmp_path: Path) -> None:
    facts = {
        "id": "acc1", "device": "acc1", "domain": "gpu", "kind": "gauge", "provenance": "configured",
        "unit": 1e-3, "resolution_j": 0.5, "update_period_s": 0.1, "accuracy": 0.05, "max_power_w": 300,
        "idle_w": 0, "low_w": 1.5, "high_w": 20, "note": "a note", "dropped": "an overlap",
    }  # fmt: skip
    path = written(tmp_path, json.dumps({"channels": [facts], "readings": [[0, 1]]}), "r.json")
    (channel,) = open_replay(path).channels
    assert channel == Channel(**facts, sensor="replay", source=path)


# --- bad files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "row 1: the file is empty"),
        ("a,b\n1,2\n", "row 1: there is no column t_s"),
        ("t_s,cpu_tree_s\n0,0\n", "row 1: there is no column <channel>_j"),
        ("t_s,a_j,a_j\n0,0,0\n", "row 1: column 'a_j' stands there twice"),
        ("t_s,a_j\n", "there are no readings"),
        ("t_s,a_j\n0,0\n1,1,1\n", "row 3: 3 cells where the header has 2"),
        ("t_s,a_j\n0,0\n1,abc\n", "row 3: 'abc' is not a number"),
        ("t_s,a_j\n0,0\n1,nan\n", "row 3: nan is not a value"),
        ("t_s,a_j\n0,0\n1,inf\n", "row 3: inf is not a value"),
        ("t_s,a_j\n0,0\n1,1e300\n", "row 3: a number beyond any device"),
        ("t_s,a_j\n0,5\n1,4\n", "row 3: a_j falls from 5 to 4"),
        ("t_s,a_j\n0,-1\n", "row 2: a: -1 is below zero"),
        ("t_s,a_j\n0,0\n0,1\n", "row 3: the time 0 s does not come after 0 s"),
        ("t_s,a_j\n,0\n", "row 2: the time is missing"),
        ("t_s,a b_j\n0,0\n", "channel 1: its id"),
        (b"t_s,a_j\n0,\xff\n", "row 2: '\ufffd' is not a number"),
        ("t_s,a_j\n0,\x00" + "9" * 200_000 + "\n", "row 2:"),
    ],
)
def test_a_bad_csv_is_refused_with_its_row(tmp_path: Path, text: str | bytes, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        open_replay(path)
    assert str(caught.value).startswith(f"{path}: {fault}")
    assert caught.value.hint


def json_with(**changes: object) -> str:
    return json.dumps({"channels": [COUNTER], "readings": [[0, 0], [1, 1]], **changes})


def channel_with(**changes: object) -> str:
    return json_with(channels=[{**COUNTER, **changes}])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"channels": [], "readings": [[NaN]]}', "NaN is not a value"),
        ("9" * 10_000, "no JSON"),
        ("[]", "the outermost value is no object"),
        ("{}", '"channels" and "readings" must both be there'),
        (json_with(channels=[]), "readings, row 1: 2 values, but time and channels make 1"),
        (json_with(channels=[], readings=[[0]]), "0 channels"),
        (json_with(extra=1), "'extra' is not known here"),
        (json_with(repeat="yes"), '"repeat" must be true or false'),
        (json_with(repeat=True, readings=[[0, 0]]), '"repeat" needs at least two readings'),
        (json_with(readings=[]), "there are no readings"),
        (json_with(readings=[0]), "readings, row 1: not a list"),
        (json_with(readings=[[0, 0], [1]]), "readings, row 2: 1 values, but time and channels make 2"),
        (json_with(readings=[[0, "0"]]), "readings, row 1: '0' is not a number"),
        (json_with(readings=[[0, True]]), "readings, row 1: 'True' is not a number"),
        (json_with(readings=[[0, [1]]]), "readings, row 1: '[1]' is not a number"),
        (json_with(readings=[[0, 2**70]]), "readings, row 1: a number beyond any device"),
        (json_with(readings=[[1, 0], [0, 0]]), "row 2: the time 0 s does not come after 1 s"),
        (json_with(channels=["cpu"]), "channel 1: not an object"),
        (json_with(channels=[{}]), "channel 1: its id"),
        (json_with(channels=[COUNTER, COUNTER], readings=[[0, 0, 0]]), "two channels are named"),
        (channel_with(id="../../x y"), "channel 1: its id"),
        (channel_with(id=5), "channel 1: its id"),
        (channel_with(kind="meter"), "cpu0/package: kind must be one of counter, gauge, model"),
        (channel_with(kind=[]), "cpu0/package: kind must be one of"),
        (channel_with(provenance="true"), "cpu0/package: provenance must be one of measured"),
        (channel_with(unit=0), "cpu0/package: unit must be above zero"),
        (channel_with(unit="J"), "cpu0/package: unit: 'J' is not a number"),
        (channel_with(max_power_w=-5), "cpu0/package: max_power_w must be above zero"),
        (channel_with(range_raw=0), "cpu0/package: range_raw must be a whole number"),
        (channel_with(range_raw=1.5), "cpu0/package: range_raw must be a whole number"),
        (channel_with(range_raw=True), "cpu0/package: range_raw must be a whole number"),
        (channel_with(range_raw=0.5, note=""), "cpu0/package: range_raw"),
        (channel_with(note=5), "cpu0/package: note must be a text"),
        (channel_with(watts=5), "cpu0/package: 'watts' is no field of a channel"),
        (channel_with(within="node"), "cpu0/package: it is within 'node', which is not there"),
        (channel_with(within="cpu0/package"), "cpu0/package: it is within itself"),
    ],
)
def test_bad_json_is_refused_with_what_is_wrong(tmp_path: Path, text: str, fault: str) -> None:
    path = written(tmp_path, text, "r.json")
    with pytest.raises(UsageError) as caught:
        open_replay(path)
    assert str(caught.value).startswith(f"{path}: {fault}")


def test_a_value_above_the_counters_range_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, channel_with(range_raw=1), "r.json")
    open_replay(path)
    path = written(tmp_path, json_with(channels=[{**COUNTER, "range_raw": 1}], readings=[[0, 2]]), "r.json")
    with pytest.raises(UsageError, match="above the range"):
        open_replay(path)


@pytest.mark.parametrize("name", ["missing.csv", "missing.json", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="No such file"):
        open_replay(str(tmp_path / name))


def test_a_damaged_record_beside_the_samples_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    written(tmp_path, "t_s,a_j\n0,0\n")
    with pytest.raises(UsageError, match=r"run\.json beside it: no JSON"):
        open_replay(str(tmp_path))


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({"channels": junk, "readings": junk}) | st.builds(
    lambda channel, rows: {"channels": [{**COUNTER, **channel}], "readings": rows},
    st.dictionaries(st.sampled_from(["unit", "within", "kind", "range_raw", "note", "accuracy"]), junk),
    st.lists(st.lists(junk, max_size=3), max_size=3),
))  # fmt: skip
def test_any_json_is_played_or_refused_never_a_crash(tmp_path: Path, raw: object) -> None:
    path = written(tmp_path, json.dumps(raw), "r.json")
    try:
        sensor = open_replay(path)
    except UsageError:
        return
    assert len(sensor.read()) == len(sensor.channels)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from([b"", b"t_s,a_j\n", b"t_s,a_j\n0,0\n"]))
def test_any_bytes_as_csv_are_played_or_refused_never_a_crash(
    tmp_path: Path, tail: bytes, head: bytes
) -> None:
    path = written(tmp_path, head + tail)
    try:
        sensor = open_replay(path)
    except UsageError:
        return
    assert len(sensor.read()) == len(sensor.channels)
