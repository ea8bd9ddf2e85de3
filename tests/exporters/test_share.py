"""A bundle for strangers: nothing that tells who, where or what, and the same joules."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from emt_cli import model
from emt_cli.analysis.comparable import differences
from emt_cli.exporters.share import WITHHELD, anonymous
from emt_cli.model import Channel, DeviceUse, GapSpan, Host, Job, Mark, Notice, Run, Settings
from emt_cli.store import decode, dump, encode
from tests.reports import conftest
from tests.store.examples import finished, runs

SHARED = {
    "Attribution.idle_source",
    "Attribution.rule",
    "Channel.dropped",
    "Channel.note",
    "Channel.source",
    "Carbon.dataset",
    "Carbon.intensity_source",
    "Carbon.location",
    "Carbon.location_name",
    "Carbon.location_source",
    "Carbon.pue_source",
    "Carbon.scope",
    "ChannelEnergy.rule",
    "CpuTime.refusals",
    "CpuTime.winner",
    "CpuTime.witnesses",
    "Energy.by_provenance",
    "Grid.dataset",
    "Grid.intensity_source",
    "Grid.location",
    "Grid.location_name",
    "Grid.location_source",
    "Grid.scope",
    "Host.architecture",
    "Host.container",
    "Host.cpu_model",
    "Host.emt_version",
    "Host.governor",
    "Host.hypervisor",
    "Host.os",
    "Host.pid_namespace",
    "Host.python",
    "Settings.idle_w_source",
    "Settings.pue_source",
    "Work.unit",
}
"""The texts of the model that may be told, each of them emt's or the machine's own words."""


def planted(hint: Any, field: str = "") -> Any:
    """A value of the model whose every text is the name of its field."""
    if dataclasses.is_dataclass(hint):
        kind = typing.cast(type, hint)
        return kind(
            **{
                name: planted(each, f"{kind.__name__}.{name}")
                for name, each in typing.get_type_hints(kind).items()
            }
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        return (planted(arguments[0], field),)
    if origin is dict:
        return {field: planted(arguments[1], field)}
    if arguments and type(None) in arguments:
        return planted(next(one for one in arguments if one is not type(None)), field)
    return field if hint is str else () if origin else hint(1)


def said(run: Run) -> str:
    return dump(encode(anonymous(run))).decode()


def everywhere(text: str) -> Run:
    """A run that tells `text` wherever a record tells anything in words."""
    run = conftest.measured()
    assert run.energy is not None and run.carbon is not None
    return replace(
        run,
        name=text,
        tags={text: text},
        command=(text, f"--key={text}"),
        host=replace(run.host, node=text, os=f"Linux of {text}", kernel=f"6.1.0-{text}", timezone=text),
        job=Job(scheduler="slurm", id=text, node=text, step=text, task=text),
        channels=tuple(replace(each, source=f"{text}, {each.source}", note=text) for each in run.channels),
        processes=tuple(replace(each, name=text, command=text) for each in run.processes),
        notices=(Notice(code="left_running", text=text, hint=text), Notice(code=text, text=text)),
        gaps=(GapSpan(channel="gpu0", start_s=1.0, end_s=2.0, reason=text),),
        settings=Settings(pue_source=text, idle_w_source=text),
        energy=replace(run.energy, channels=tuple(replace(each, note=text) for each in run.energy.channels)),
    )


def test_no_text_of_the_model_is_told_but_those_that_are_named_here() -> None:
    run = planted(Run)
    run = replace(
        run,
        channels=tuple(
            replace(each, sensor="powercap", id="cpu0/package", device="cpu0") for each in run.channels
        ),
    )
    text = said(run)
    names = {
        f"{kind.__name__}.{field.name}"
        for kind in vars(model).values()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    }
    assert {name for name in names if f'"{name}"' in text} <= SHARED


@pytest.mark.parametrize(
    "secret", ["alice-laptop", "/home/alice/thesis/train.py", "C:\\Users\\alice\\x", "~alice/x", "../alice"]
)
def test_a_host_and_a_path_are_in_no_byte_of_it(secret: str) -> None:
    text = said(everywhere(secret))
    assert "alice" not in text
    assert "thesis" not in text


def test_a_users_name_is_known_by_the_homes_in_the_record() -> None:
    run = replace(
        conftest.measured(),
        command=("/home/alice/run.sh",),
        host=Host(node="n", os="alice's Linux", cpu_model="Xeon"),
    )
    assert "alice" not in said(run)
    assert anonymous(run).host.cpu_model == "Xeon"


def test_the_full_name_of_a_host_hides_its_short_one_too() -> None:
    run = replace(conftest.measured(), host=Host(node="pinky.acme.example", hypervisor="KVM on PINKY"))
    assert "pinky" not in said(run).lower()


def test_serial_numbers_go_and_the_board_stays() -> None:
    run = conftest.measured()
    source = "NVML, NVIDIA A100-SXM4-40GB, GPU-3c1f4a2e-1111-2222-3333-444455556666"
    [*others, gpu] = run.channels
    told = anonymous(replace(run, channels=(*others, replace(gpu, source=source)))).channels[-1].source
    assert told == "NVML, NVIDIA A100-SXM4-40GB, "


def test_slashes_that_are_no_paths_are_told() -> None:
    run = conftest.measured()
    note = "0.3725 W/GB; Intel Haswell (E3/E5/E7 v3); codecarbon/amd.com"
    [first, *others] = run.channels
    bundle = anonymous(replace(run, channels=(replace(first, note=note), *others)))
    assert bundle.channels[0].note == note


def test_what_makes_runs_comparable_is_told() -> None:
    run = replace(conftest.measured(), host=replace(conftest.measured().host, kernel="6.8.0-45-acme"))
    bundle = anonymous(run)
    assert bundle.host.cpu_model == run.host.cpu_model
    assert bundle.host.kernel == "6.8.0"
    assert [channel.id for channel in bundle.channels] == [channel.id for channel in run.channels]
    assert [notice.code for notice in bundle.notices] == [notice.code for notice in run.notices]
    assert bundle.energy == run.energy
    assert bundle.started_at == run.started_at


@pytest.mark.parametrize("name", ["measured", "estimated", "killed"])
def test_a_bundle_may_be_compared_with_the_run_that_it_was_made_of(name: str) -> None:
    run = conftest.ALL[name]()
    assert {each.weight for each in differences(run, anonymous(run), "tree")} <= {"note"}


def test_devices_that_a_user_named_are_numbered_alike_in_every_place() -> None:
    channel = Channel(
        id="alices-fpga",
        sensor="configured",
        device="alices-fpga",
        domain="accelerator",
        kind="model",
        provenance="configured",
        source="sensors.devices: 20 W, stated by the user",
    )
    run = finished(
        channels=(channel, replace(channel, id="bobs-fpga", device="bobs-fpga", checks="alices-fpga")),
        observed=(),
        settings=Settings(idle_w={"alices-fpga": 3.0}),
        gaps=(GapSpan(channel="bobs-fpga", start_s=0.0, end_s=1.0, reason="x"),),
    )
    bundle = anonymous(run)
    assert [each.id for each in bundle.channels] == ["device1", "device2"]
    assert bundle.channels[1].checks == "device1"
    assert bundle.settings.idle_w == {"device1": 3.0}
    assert bundle.gaps[0].channel == "device2"
    assert bundle.channels[0].source == channel.source


def test_a_foreign_sensor_and_its_words_are_not_told() -> None:
    run = conftest.measured()
    foreign = replace(run.channels[0], sensor="acme-meter", id="acme/rail", device="acme", note="by Acme")
    assert "acme" not in said(replace(run, channels=(foreign,), energy=None)).lower()


def test_pids_become_their_places_and_nobody_known_stays_so() -> None:
    use = DeviceUse(device="gpu0", tree_pids=(4711, 4712), other_pids=(0, 999))
    [told] = anonymous(replace(conftest.measured(), devices=(use,))).devices
    assert (told.tree_pids, told.other_pids) == ((1, 2), (0, 4))


def test_marks_keep_their_times_and_which_of_them_are_alike() -> None:
    marks = tuple(Mark(t_s=at, name=name) for at, name in enumerate(["load", "epoch", "load"]))
    told = anonymous(replace(conftest.measured(), marks=marks)).marks
    assert [(mark.t_s, mark.name) for mark in told] == [(0, "mark 1"), (1, "mark 2"), (2, "mark 1")]


def test_a_run_is_always_the_same_bundle_and_two_are_two() -> None:
    run = conftest.measured()
    assert anonymous(run) == anonymous(run)
    assert anonymous(run).id != anonymous(replace(run, id="another")).id
    assert anonymous(run).id.startswith("20250102-101112-shared-")


def test_a_bundle_of_a_bundle_tells_nothing_more() -> None:
    bundle = anonymous(conftest.measured())
    assert replace(anonymous(bundle), id=bundle.id) == bundle


@settings(max_examples=25)
@given(runs())
def test_any_run_gives_a_record_that_can_be_read(run: Run) -> None:
    document = json.loads(dump(encode(anonymous(run))))
    again = decode(document, "bundle")
    assert again.command == (WITHHELD,)
    assert again.processes == ()
    assert again.host.node == ""
