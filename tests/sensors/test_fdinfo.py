"""Shares of GPUs by process: folders that look like /proc, with the drivers' own texts in them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.sensors import fdinfo
from emt_cli.sensors.base import Machine
from emt_cli.sensors.fdinfo import DrmUse, parse

CARD, OTHER_CARD = "0000:03:00.0", "0000:43:00.0"
SECOND_NS = 1_000_000_000

I915 = """pos:	0
flags:	02100002
mnt_id:	26
ino:	563
drm-driver:	i915
drm-client-id:	35
drm-pdev:	0000:00:02.0
drm-total-system0:	125 MiB
drm-resident-system0:	125 MiB
drm-engine-render:	25662044495 ns
drm-engine-copy:	0 ns
drm-engine-video:	0 ns
drm-engine-capacity-video:	2
drm-engine-video-enhance:	7 ns
"""

XE = """drm-driver:	xe
drm-client-id:	3
drm-pdev:	0000:03:00.0
drm-total-system:	0
drm-cycles-rcs:	28257900
drm-total-cycles-rcs:	7655183225
drm-cycles-vcs:	0
drm-total-cycles-vcs:	7655183225
drm-engine-capacity-vcs:	2
"""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Proc:
    """Processes with descriptors, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()

    def use(self, *cards: str) -> DrmUse:
        devices = {card: f"gpu{number}" for number, card in enumerate(cards or (CARD,))}
        return DrmUse(Machine(str(self.root), environ={}), devices, clock=self.clock)

    def opens(self, pid: int, fd: int, text: str, target: str = "/dev/dri/renderD128") -> None:
        for folder in ("fd", "fdinfo"):
            (self.root / f"proc/{pid}/{folder}").mkdir(parents=True, exist_ok=True)
        link = self.root / f"proc/{pid}/fd/{fd}"
        if not link.is_symlink():
            link.symlink_to(target)
        (self.root / f"proc/{pid}/fdinfo/{fd}").write_text(text)

    def ends(self, pid: int) -> None:
        shutil.rmtree(self.root / f"proc/{pid}")

    def amd(self, pid: int, fd: int = 5, client: int = 1, card: str = CARD, **engine_s: float) -> None:
        lines = [f"drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{card}\npasid:\t32771"]
        lines += [f"drm-engine-{name}:\t{round(s * SECOND_NS)} ns" for name, s in engine_s.items()]
        self.opens(pid, fd, "\n".join(lines) + "\n")

    def xe(self, pid: int, cycles: int, total: int, fd: int = 5, client: int = 1) -> None:
        lines = [f"drm-driver: xe\ndrm-client-id: {client}\ndrm-pdev: {CARD}"]
        lines += [f"drm-cycles-ccs: {cycles}\ndrm-total-cycles-ccs: {total}"]
        self.opens(pid, fd, "\n".join(lines) + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def told(use: DrmUse) -> dict[tuple[str, int], float | None]:
    return {(each.device, each.pid): each.busy_s for each in use.usage()}


# --- the format -----------------------------------------------------------------------------------------


def test_i915_tells_nanoseconds_by_engine_and_how_many_engines_there_are() -> None:
    info = parse(I915)
    assert info is not None
    assert (info.driver, info.pci, info.client) == ("i915", "0000:00:02.0", "35")
    assert info.busy_ns == {"render": 25_662_044_495, "copy": 0, "video": 0, "video-enhance": 7}
    assert info.capacity == {"video": 2}
    assert info.cycles == {}


def test_xe_tells_busy_cycles_and_its_own_clock() -> None:
    info = parse(XE)
    assert info is not None
    assert info.cycles == {"rcs": (28_257_900, 7_655_183_225), "vcs": (0, 7_655_183_225)}
    assert info.busy_ns == {}
    assert info.capacity == {"vcs": 2}


@pytest.mark.parametrize(
    "text", ["", "pos:\t0\nflags:\t02\n", "drm-driver: panfrost\ndrm-engine-fragment: 5 ns\n", "drm-driver"]
)
def test_what_is_no_client_of_a_pci_card_is_passed_over(text: str) -> None:
    assert parse(text) is None


def test_numbers_that_are_none_are_left_out() -> None:
    text = "drm-driver: i915\ndrm-pdev: 0000:00:02.0\ndrm-engine-render: much ns\ndrm-engine-copy: -5 ns\n"
    info = parse(text + "drm-engine-capacity-video: 0\ndrm-cycles-rcs: 5\n")
    assert info is not None
    assert (info.busy_ns, info.capacity, info.cycles) == ({}, {}, {})


@given(st.text())
def test_any_text_is_a_client_or_none(text: str) -> None:
    parse(text)
    parse("drm-driver: i915\ndrm-pdev: 0000:00:02.0\n" + text)


# --- shares ---------------------------------------------------------------------------------------------


def test_what_was_done_before_the_first_look_is_nobodys(proc: Proc) -> None:
    proc.amd(7, gfx=50.0)
    use = proc.use()
    assert told(use) == {}
    proc.clock.now_s += 1
    proc.amd(7, gfx=50.4)
    assert told(use) == {("gpu0", 7): pytest.approx(0.4)}
    assert told(use) == {}, "only what is new"


def test_the_engines_of_a_process_add_up(proc: Proc) -> None:
    proc.amd(7, gfx=1.0, compute=1.0)
    use = proc.use()
    use.look()
    proc.amd(7, gfx=1.25, compute=1.5, dma=0.125)
    assert told(use) == {("gpu0", 7): pytest.approx(0.875)}, "an engine that is new was not used before"


def test_engines_behind_one_name_have_one_second_in_a_second_together(proc: Proc) -> None:
    head = f"drm-driver: i915\ndrm-client-id: 1\ndrm-pdev: {CARD}\ndrm-engine-capacity-video: 2\n"
    proc.opens(7, 5, head + "drm-engine-video: 0 ns\n")
    use = proc.use()
    use.look()
    proc.opens(7, 5, head + f"drm-engine-video: {2 * SECOND_NS} ns\n")
    assert told(use) == {("gpu0", 7): pytest.approx(1.0)}


def test_cycles_become_seconds_by_the_time_between_two_looks(proc: Proc) -> None:
    proc.xe(7, cycles=1_000, total=1_000_000)
    use = proc.use()
    use.look()
    proc.clock.now_s += 2
    proc.xe(7, cycles=1_000 + 19_200_000, total=1_000_000 + 2 * 19_200_000)
    assert told(use) == {("gpu0", 7): pytest.approx(1.0)}


def test_the_cycles_of_a_newborn_client_count_from_its_beginning(proc: Proc) -> None:
    use = proc.use()
    use.look()
    proc.clock.now_s += 1
    proc.xe(7, cycles=100, total=5_000)
    use.look()
    proc.clock.now_s += 1
    proc.xe(7, cycles=300, total=6_000)
    assert told(use) == {("gpu0", 7): pytest.approx(0.3)}


def test_a_client_is_counted_once_however_many_descriptors_and_processes_hold_it(proc: Proc) -> None:
    for pid, fd in ((7, 5), (7, 6), (9, 5)):
        proc.amd(pid, fd, client=1, gfx=0.0)
    use = proc.use()
    use.look()
    for pid, fd in ((7, 5), (7, 6), (9, 5)):
        proc.amd(pid, fd, client=1, gfx=0.5)
    assert told(use) == {("gpu0", 7): pytest.approx(0.5)}


def test_a_client_goes_on_counting_where_its_first_holder_has_ended(proc: Proc) -> None:
    proc.amd(7, gfx=4.0)
    proc.amd(9, gfx=4.0)
    use = proc.use()
    use.look()
    proc.ends(7)
    proc.amd(9, gfx=4.25)
    proc.clock.now_s += 20
    assert told(use) == {("gpu0", 9): pytest.approx(0.25)}


def test_two_clients_of_a_process_add_up_and_the_same_number_on_another_card_is_another_one(
    proc: Proc,
) -> None:
    use = proc.use(CARD, OTHER_CARD)
    use.look()
    proc.amd(7, 5, client=1, gfx=0.5)
    proc.amd(7, 6, client=2, gfx=0.25)
    proc.amd(7, 7, client=1, card=OTHER_CARD, gfx=2.0)
    assert told(use) == {("gpu0", 7): pytest.approx(0.75), ("gpu1", 7): pytest.approx(2.0)}


def test_two_dies_of_a_module_are_one_device(proc: Proc) -> None:
    use = DrmUse(Machine(str(proc.root)), {CARD: "gpu0", OTHER_CARD: "gpu0"}, clock=proc.clock)
    use.look()
    proc.amd(7, 5, client=1, gfx=0.5)
    proc.amd(7, 6, client=2, card=OTHER_CARD, gfx=0.25)
    assert told(use) == {("gpu0", 7): pytest.approx(0.75)}


def test_a_card_that_is_not_asked_for_is_nobodys(proc: Proc) -> None:
    use = proc.use(CARD)
    use.look()
    proc.amd(7, card=OTHER_CARD, gfx=0.5)
    assert told(use) == {}


def test_a_value_that_steps_back_waits_until_it_has_caught_up(proc: Proc) -> None:
    proc.amd(7, gfx=1.0)
    use = proc.use()
    use.look()
    for seconds in (2.0, 1.5, 1.75, 2.5):
        proc.clock.now_s += 1
        proc.amd(7, gfx=seconds)
        use.look()
    assert told(use) == {("gpu0", 7): pytest.approx(1.5)}


def test_a_process_that_holds_the_card_and_does_nothing_is_not_named(proc: Proc) -> None:
    proc.amd(7)
    proc.amd(8, client=2, gfx=3.0)
    use = proc.use()
    use.look()
    proc.amd(9, client=3)
    assert told(use) == {}


def test_a_driver_without_engine_times_leaves_the_use_unknown(proc: Proc) -> None:
    use = proc.use()
    proc.opens(7, 5, f"drm-driver: i915\ndrm-client-id: 1\ndrm-pdev: {CARD}\n")
    assert told(use) == {("gpu0", 7): None}


def test_what_a_process_did_before_its_end_is_kept(proc: Proc) -> None:
    use = proc.use()
    use.look()
    proc.amd(7, gfx=0.5)
    proc.clock.now_s += 1
    use.look()
    proc.ends(7)
    proc.clock.now_s += 1
    assert told(use) == {("gpu0", 7): pytest.approx(0.5)}
    proc.clock.now_s += 20
    assert told(use) == {}


def test_a_descriptor_number_that_is_used_again_is_another_client(proc: Proc) -> None:
    proc.amd(7, client=1, gfx=9.0)
    use = proc.use()
    use.look()
    proc.amd(7, client=2, gfx=0.25)
    proc.clock.now_s += 20
    assert told(use) == {("gpu0", 7): pytest.approx(0.25)}


def test_other_descriptors_are_not_even_opened(proc: Proc) -> None:
    text = f"drm-driver: i915\ndrm-client-id: 1\ndrm-pdev: {CARD}\ndrm-engine-render: 5 ns\n"
    proc.opens(7, 5, text, target="socket:[1234]")
    use = proc.use()
    use.look()
    proc.opens(7, 5, text.replace("5 ns", "500 ns"), target="socket:[1234]")
    assert told(use) == {}


def test_garbage_in_proc_is_passed_over(proc: Proc) -> None:
    proc.opens(7, 5, "")
    proc.opens(8, 5, "\x00\xff drm-driver")
    (proc.root / "proc/9").mkdir()
    (proc.root / "proc/cpuinfo").write_text("")
    assert told(proc.use()) == {}


# --- when it looks --------------------------------------------------------------------------------------


def test_looks_that_follow_at_once_are_one(proc: Proc) -> None:
    proc.amd(7, gfx=0.0)
    use = proc.use()
    use.look()
    proc.amd(7, gfx=0.5)
    use.look()
    proc.ends(7)
    assert told(use) == {}, "what came after the last look is lost"


def test_a_new_process_is_found_at_the_next_look_and_an_old_one_at_the_next_scan(proc: Proc) -> None:
    (proc.root / "proc/7").mkdir(parents=True)
    use = proc.use()
    use.look()
    proc.amd(7, client=1, gfx=0.5)
    proc.amd(8, client=2, gfx=0.25)
    proc.clock.now_s += fdinfo.LOOK_PERIOD_S
    use.look()
    assert told(use) == {("gpu0", 8): pytest.approx(0.25)}
    proc.clock.now_s += 10
    assert told(use) == {("gpu0", 7): pytest.approx(0.5)}


def test_a_young_process_that_opens_the_card_late_is_found_at_the_next_look(proc: Proc) -> None:
    (proc.root / "proc").mkdir()
    (proc.root / "proc/loadavg").write_text("0.1 0.1 0.1 1/80 7\n")
    use = proc.use()
    use.look()
    (proc.root / "proc/8").mkdir()
    (proc.root / "proc/loadavg").write_text("0.1 0.1 0.1 1/80 8\n")
    for _ in range(3):
        proc.clock.now_s += fdinfo.LOOK_PERIOD_S
        use.look()
    proc.amd(8, gfx=0.25)
    proc.clock.now_s += 0.2
    assert told(use) == {("gpu0", 8): pytest.approx(0.25)}


def test_proc_is_not_listed_while_the_kernel_gave_no_new_pid(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc.root / "proc").mkdir()
    (proc.root / "proc/loadavg").write_text("0.1 0.1 0.1 1/80 7\n")
    use = proc.use()
    use.look()
    listed: list[str] = []
    real = Machine.names
    monkeypatch.setattr(Machine, "names", lambda self, folder: listed.append(folder) or real(self, folder))
    for _ in range(3):
        proc.clock.now_s += fdinfo.LOOK_PERIOD_S
        use.look()
    assert listed == []
    (proc.root / "proc/loadavg").write_text("0.1 0.1 0.1 1/80 9\n")
    proc.clock.now_s += 0.2
    use.usage()
    assert listed == ["/proc"]


def test_clients_that_nobody_holds_are_forgotten(proc: Proc) -> None:
    use = proc.use()
    use.look()
    for pid in range(100, 200):
        proc.amd(pid, client=pid, gfx=0.1)
        use.usage()
        proc.ends(pid)
        proc.clock.now_s += 11
    use.usage()
    assert use._clients == {}
    assert use._held == {}


def test_closing_twice_is_closing_once(proc: Proc) -> None:
    (proc.root / "proc").mkdir()
    (proc.root / "proc/loadavg").write_text("0.1 0.1 0.1 1/80 7\n")
    use = proc.use()
    use.close()
    use.close()


def test_real_processes_are_looked_at_without_a_fault() -> None:
    use = DrmUse(Machine(environ={}), {CARD: "gpu0"})
    use.look()
    assert use.usage() == []
    use.close()


def test_an_ordinary_user_is_told_who_is_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert fdinfo.unseen() == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "other accounts" in fdinfo.unseen()
