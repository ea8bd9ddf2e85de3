"""Examinations of what makes figures exact and runs comparable: perf, /proc, clock and the CPU's moods.

Docker lets a container with CAP_PERFMON use perf since version 23 (moby pull request 43987).
"""

from __future__ import annotations

from collections.abc import Iterator

from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding, ok

SYSCTL_FILE = "/etc/sysctl.d/70-emt.conf"
GOVERNOR_FILES = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_WITNESS_LEVEL = 2
"""Up to this perf_event_paranoid a process may count its own CPU time (perf_event_open(2)); Debian (3) and
Ubuntu (4) forbid it."""
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")


def perf(facts: Facts) -> Iterator[Finding]:
    """Whether perf's counter can witness the tree's CPU time."""
    level = facts.paranoid
    is_refused = bool(facts.perf_fault)
    if level is not None and facts.perf_fault is None:
        is_refused = level > _WITNESS_LEVEL and not facts.may_perf
    if level is None and not is_refused:
        return
    if not is_refused:
        yield ok("perf", "perf may count the CPU time of the command and of all it starts")
    elif level is not None and level > _WITNESS_LEVEL and not facts.may_perf:
        yield Finding(
            code="perf_paranoid",
            state="note",
            text=f"perf is closed to users (kernel.perf_event_paranoid is {level})",
            remedy=(
                f"sudo sysctl kernel.perf_event_paranoid={_WITNESS_LEVEL}",
                f"echo kernel.perf_event_paranoid={_WITNESS_LEVEL} | sudo tee {SYSCTL_FILE}",
            ),
            advice=_power_advice(facts),
            why="With it emt sees the CPU time of very short and of detached processes exactly; 2 is the "
            "kernel's own default and shows users their own processes only.",
        )
    else:
        yield Finding(
            code="perf_refused",
            state="note",
            text=f"perf is refused here ({facts.perf_fault})",
            remedy=("docker run --cap-add PERFMON IMAGE ...",) if facts.container == "docker" else (),
            advice="emt takes the CPU time from /proc and rusage instead"
            + (", which may miss detached processes" if facts.container else ""),
            why="Containers forbid perf_event_open as a rule." if facts.container else "",
        )


def _power_advice(facts: Facts) -> str:
    if not facts.has_power_pmu:
        return ""
    return "perf's own energy counters need 0: that shows users the whole machine, and RAPL has the same"


def hidden_processes(facts: Facts) -> Iterator[Finding]:
    """A /proc that hides other users' processes; root sees them all the same."""
    if not facts.hidepid or facts.is_root:
        return
    # the group is asked in the modes 1 and 2 alone (fs/proc/base.c, has_pid_permissions)
    has_group = facts.hidepid.partition("=")[2] not in ("4", "ptraceable")
    yield Finding(
        code="hidepid",
        state="note",
        text=f"/proc hides other users' processes ({facts.hidepid})",
        remedy=(
            "sudo groupadd -f emt",
            f"sudo usermod -aG emt {facts.user or '$USER'}",
            "sudo mount -o remount,gid=$(getent group emt | cut -d: -f3) /proc",
        )
        if has_group
        else (),
        advice="until the next boot; for good, the same option for /proc in /etc/fstab" if has_group else "",
        why="What sudo starts within the command, and who else uses a GPU, cannot be seen.",
    )


def power_supply(facts: Facts) -> Iterator[Finding]:
    """Battery or mains."""
    if facts.is_on_battery is None:
        return
    if facts.is_on_battery:
        yield Finding(
            code="on_battery",
            state="note",
            text="this machine runs on its battery",
            advice="plug it in before you compare runs",
            why="On a battery the CPU is slowed down.",
        )
    else:
        yield ok("mains", "this machine is on mains power")


def governor(facts: Facts) -> Iterator[Finding]:
    """The policy that sets the CPU's frequency."""
    if not facts.governors:
        return
    said = ", ".join(facts.governors)
    if facts.governors == ("performance",):
        yield ok("governor", "all CPUs have the governor performance")
        return
    yield Finding(
        code="governor",
        state="note",
        text=f"the CPU's frequency follows its load (governor {said})",
        remedy=(f"echo performance | sudo tee {GOVERNOR_FILES}",),
        advice=f"until the next boot; back with {facts.governors[0]} in its place",
        why="For comparing runs only: a fixed policy makes them repeat better. It costs power when idle.",
    )


def turbo(facts: Facts) -> Iterator[Finding]:
    """Frequencies beyond the rated one."""
    if facts.is_turbo_on is None:
        return
    if not facts.is_turbo_on:
        yield ok("turbo", "turbo is off")
        return
    off, on = ("1", "0") if facts.turbo_file.endswith("no_turbo") else ("0", "1")
    yield Finding(
        code="turbo",
        state="note",
        text="turbo is on: how fast the CPU runs depends on how warm it is",
        remedy=(f"echo {off} | sudo tee {facts.turbo_file}",),
        advice=f"until the next boot; back with {on} in its place",
        why="For comparing runs only.",
    )


def smt(facts: Facts) -> Iterator[Finding]:
    """Two threads on a core."""
    if facts.is_smt_on:
        yield ok("smt", "SMT is on: two threads share a core, and CPU time counts threads")


def clock(facts: Facts) -> Iterator[Finding]:
    """The clock that every time stamp comes from."""
    if not facts.clock:
        return
    if facts.clock not in _SLOW_CLOCKS:
        yield ok("clock", f"the clock is fast ({facts.clock})")
        return
    yield Finding(
        code="clock",
        state="note",
        text=f"the kernel's clock is slow to read ({facts.clock})",
        remedy=("sudo dmesg | grep -iE 'tsc|clocksource'",),
        advice="the kernel left the TSC for a reason: firmware and hypervisor settings can mend it",
        why="Each time stamp then costs microseconds, in emt and in the command itself.",
    )
