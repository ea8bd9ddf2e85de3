from __future__ import annotations

import json
import math
import tracemalloc
import typing
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emt_cli import model
from emt_cli.errors import RecordError
from emt_cli.model import Energy, Process, Run
from emt_cli.store import decode, dump, encode
from emt_cli.store.reading import LARGEST_FILE, parse, read
from emt_cli.store.record import written_names

from . import examples

SCHEMA = json.loads((resources.files("emt_cli.data") / "run-1.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
RELAXED = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    deadline=None,
    max_examples=50,
)


def again(run: Run) -> Run:
    document = parse(dump(encode(run)), "run.json")
    VALIDATOR.validate(document)
    return decode(document, "run.json")


def stored(run: Run) -> Any:
    return json.loads(dump(encode(run)))


def refusal(document: object) -> str:
    with pytest.raises(RecordError) as caught:
        decode(document, "run.json")
    return str(caught.value)


@RELAXED
@given(examples.runs())
def test_a_saved_and_loaded_run_is_equal_and_fits_the_schema(run: Run) -> None:
    assert again(run) == run


def test_the_finished_example_is_equal_after_a_round_trip() -> None:
    assert again(examples.finished()) == examples.finished()


def test_the_schema_is_a_schema_and_knows_every_field_of_the_model() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name, definition in SCHEMA["$defs"].items():
        written = {written for _, written in written_names(getattr(model, name))}
        assert written <= set(definition["properties"]), name
        for field, about in definition["properties"].items():
            assert about["description"], f"{name}.{field}"
    groups = {"warnings" if name == "notices" else name for name in Run.__dataclass_fields__} - {"samples"}
    assert groups < set(SCHEMA["properties"])
    assert set(encode(examples.finished())) == set(SCHEMA["properties"])


def test_the_schema_refuses_a_record_with_text_in_place_of_joules() -> None:
    document = stored(examples.finished())
    document["energy"]["machine_j"] = "many"
    assert not VALIDATOR.is_valid(document)


def test_the_fixed_names_are_where_other_programs_look() -> None:
    document = stored(examples.finished())
    assert document["format"] == 1
    assert document["exit"] == {"code": 3, "signal": None}
    assert document["energy"]["channels"][0]["counted"] is True
    assert document["channels"][0]["counted"] is True
    assert document["channels"][1]["counted"] is None
    assert document["warnings"][0]["code"] == "late_ticks"
    assert document["cpu_time"]["witnesses"] == {"perf": 0.8}
    assert document["carbon"]["co2e_g"] == 0.0005
    assert document["cost"] is None
    assert document["phases"] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_written_as_unknown(value: float) -> None:
    run = examples.begun(energy=Energy(machine_j=value, by_provenance={"measured": value}))
    assert stored(run)["energy"]["machine_j"] is None
    assert "NaN" not in dump(encode(run)).decode()


def test_only_the_busiest_processes_are_listed_and_all_are_counted() -> None:
    processes = tuple(Process(pid=at, ppid=1, name="p", cpu_s=float(at)) for at in range(80))
    group = stored(examples.finished(processes=processes))["processes"]
    assert group["count"] == 80
    assert [one["pid"] for one in group["listed"]] == list(range(30, 80))


def test_an_addition_of_a_later_release_is_ignored() -> None:
    document = stored(examples.finished())
    document["novelty"] = {"x": math.nan}
    document["energy"]["novelty_j"] = "?"
    document["functions"] = [{"name": "load"}]
    assert decode(document, "run.json") == examples.finished()


def test_a_record_without_the_optional_groups_gets_defaults() -> None:
    document = {
        name: value
        for name, value in stored(examples.begun()).items()
        if name in ("format", "id", "command", "started_at", "host", "sampling")
    }
    run = decode(document, "run.json")
    assert (run.state, run.energy, run.channels, run.suspended_s) == ("running", None, (), 0.0)


WRONG: list[tuple[str, Any, str]] = [
    ("energy.machine_j", "abc", 'energy.machine_j is "abc", expected a number'),
    ("energy.machine_j", math.nan, "energy.machine_j is nan, expected a finite number"),
    ("energy.machine_j", math.inf, "energy.machine_j is inf"),
    ("energy.machine_j", -1.1e18, "energy.machine_j is -1.1e+18"),
    ("energy.machine_j", True, "energy.machine_j is true, expected a number"),
    ("energy.machine_j", 10**400, "energy.machine_j is a whole number of more than 70 bits"),
    ("energy.channels.0.counted", 1, "energy.channels[0].counted is 1, expected true or false"),
    ("energy.channels.0.machine_j", None, "energy.channels[0].machine_j is null, expected a number"),
    ("energy.provenance", "guessed", 'energy.provenance is "guessed", expected one of measured'),
    ("energy.provenance", ["measured"], "energy.provenance is a list, expected one of"),
    ("command", "ls -l", 'command is "ls -l", expected a list'),
    ("command", ["a", 1], "command[1] is 1, expected a text"),
    ("tags", [1], "tags is a list, expected an object"),
    ("tags", {"a": {}}, "tags.a is an object, expected a text"),
    ("name", "x" * 1_100_000, "name is a text of 1,100,000 characters"),
    ("gaps", [0] * 1_000_001, "gaps is a list of 1,000,001"),
    ("gaps", [{"channel": "x", "start_s": 0, "end_s": 1, "reason": ""}], 'gaps[0].channel is "x"'),
    ("processes", [], "processes is a list, expected an object"),
    ("processes", {"listed": [{"pid": 1.5}]}, "processes[0].pid is 1.5, expected a whole number"),
    ("warnings", [{"code": 1}], "warnings[0].code is 1, expected a text"),
    ("started_at", "yesterday", 'started_at is "yesterday", expected a date'),
    ("started_at", "2026-02-30T00:00:00Z", "started_at is"),
    ("duration_s", -1, "duration_s is -1.0"),
    ("host.cpu_count", 0, "host.cpu_count is 0"),
    ("state", "\x1b[2J", r'state is "\x1b[2J", expected one of'),
    ("host", None, "host is null, expected an object"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), WRONG, ids=[f"{each[0]}-{at}" for at, each in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_by_its_name(path: str, value: Any, message: str) -> None:
    document = stored(examples.finished())
    *way, last = path.split(".")
    group: Any = document
    for step in way:
        group = group[int(step)] if step.isdigit() else group[step]
    group[last] = value
    assert refusal(document).startswith(f"run.json: {message}")


def test_a_missing_required_field_is_named() -> None:
    document = stored(examples.finished())
    del document["energy"]["channels"][0]["rule"]
    assert refusal(document) == "run.json: energy.channels[0].rule is missing"


def test_channels_that_lie_within_each_other_or_come_twice_are_refused() -> None:
    document = stored(examples.begun())
    document["channels"][0]["within"] = "cpu0/core"
    assert "within itself" in refusal(document)
    document = stored(examples.begun())
    document["channels"][1]["id"] = "cpu0/package"
    assert "twice" in refusal(document)


def test_a_newer_format_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        RecordError, match=r"written by a newer emt \(format 2\); this one reads up to 1"
    ) as caught:
        decode({"format": 2}, "run.json")
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("form", [None, 0, -1, 1.0, "1", True, [1]])
def test_a_document_that_names_no_format_is_no_record(form: object) -> None:
    assert "names no format" in refusal({"format": form})


def test_every_truncation_of_a_record_is_refused_and_names_the_byte() -> None:
    data = dump(encode(examples.finished()))
    for end in range(1, len(data.rstrip()), 7):
        with pytest.raises(RecordError, match=r"run.json is (truncated|not JSON).*byte \d+"):
            parse(data[:end], "run.json")
    with pytest.raises(RecordError, match="truncated: it breaks off at byte 2000"):
        parse(data[:2000], "run.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"1" * 5000,
        b"\0" * 100,
        b'"\xed\xa0\x80"',
    ],
    ids=lambda data: repr(data[:8]),
)
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode(parse(data, "run.json"), "run.json")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_give_a_clear_error(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode(parse(data, "run.json"), "run.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> typing.Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


@RELAXED
@given(st.data())
def test_any_value_in_any_place_is_read_or_refused_but_never_a_traceback(data: st.DataObject) -> None:
    document = stored(examples.finished())
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(document))))
        container[key] = data.draw(JSON)
    try:
        run = decode(document, "run.json")
    except RecordError:
        return
    assert again(run) == run


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Any) -> None:
    path = tmp_path / "huge.json"
    with open(path, "wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    with pytest.raises(RecordError, match="larger than a record can be"):
        read(str(path))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert LARGEST_FILE == 64 << 20


def test_a_pipe_in_place_of_a_record_is_refused_without_waiting(tmp_path: Any) -> None:
    import os

    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RecordError, match="not a regular file"):
        read(str(tmp_path / "run.json"))


def test_encoding_does_not_import_the_decoder() -> None:
    import subprocess
    import sys

    code = (
        "import sys, emt_cli.store as s; s.RunFolder, s.encode, s.create, s.new_id, s.root;"
        "print([m for m in sys.modules if m.startswith('emt_cli.store.') or m in ('csv', 'tempfile')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "reading" not in found
    assert "decoding" not in found
    assert "'csv'" not in found
    assert "'tempfile'" not in found


def test_the_face_knows_no_other_names() -> None:
    import emt_cli.store as face

    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(face, "nonsense")  # noqa: B009 (a name that type checkers would refuse)
