"""Examinations of what measures the CPU: RAPL and its rights, its module, and machines that have none.

Sources of the remedies: tmpfiles.d(5), udev(7); the mask of container engines is moby's and containerd's
answer to PLATYPUS (GHSA-jq35-85cj-fj4p, October 2023) and podman's (pull request 20501), lifted by
`systempaths=unconfined` (docker/cli pull request 1808) and `unmask=` (podman-run(1)); QEMU's manual, "RAPL
MSR support".
"""

from __future__ import annotations

from collections.abc import Iterator

from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding, ok

GROUP = "emt"
COUNTERS = "/sys/class/powercap/intel-rapl*/energy_uj"
UDEV_FILE = "/etc/udev/rules.d/70-emt.rules"
UDEV_RULE = (
    'SUBSYSTEM=="powercap", KERNEL=="intel-rapl*:*", ACTION=="add", '
    f"RUN+=\"/bin/sh -c 'chgrp {GROUP} /sys%p/energy_uj && chmod 0440 /sys%p/energy_uj'\""
)
"""`%p` is the device's path below /sys (udev(7)); a zone that appears later gets its rights then."""
TMPFILES_FILE = "/etc/tmpfiles.d/emt.conf"
TMPFILES_RULE = f"z {COUNTERS} 0440 root {GROUP}"

_PLATYPUS = (
    "Since Linux 5.10 only root may read them: whoever reads them all the time can work out keys that other "
    "programs compute with (PLATYPUS, CVE-2020-8694, CVE-2020-8695; AMD CVE-2020-12912). So let a group of "
    "people you trust read them, not everybody."
)
_METAL = {
    "amazon": "on AWS the .metal sizes of an instance family have the counters (m7i.metal-24xl)",
    "google": "on Google Cloud the bare-metal types have the counters (c3-highcpu-192-metal)",
    "microsoft": "Azure has no bare-metal type for everybody: the estimate is the best to be had there",
    "qemu": "on a host of your own, QEMU 9.2 or newer hands RAPL to a guest: "
    "-accel kvm,rapl=true,rapl-helper-socket=/run/qemu-vmsr-helper.sock",
}
"""What helps a guest, by a word of the maker's name in DMI."""


def unread(facts: Facts) -> Iterator[Finding]:
    """Channels that were opened and do not read."""
    by_reason: dict[str, list[str]] = {}
    for channel, reason in facts.judged.faults.items():
        by_reason.setdefault(reason, []).append(channel)
    for reason, channels in by_reason.items():
        yield Finding(
            code="unread",
            state="problem",
            text=f"{', '.join(channels)} cannot be read: {reason}",
            remedy=("sudo dmesg | tail -n 20",),
            why="The interface is there and fails: the driver's messages tell the cause.",
        )


def rapl_rights(facts: Facts) -> Iterator[Finding]:
    """Whether this user may read RAPL's counters."""
    total, locked = len(facts.zones), len(facts.locked)
    if total and not locked:
        yield ok("rapl", f"the CPU's energy counters (RAPL) are open to this user: {_zones(total)}")
    elif locked and locked == total and facts.cpu_sensors:
        by = ", ".join(facts.cpu_sensors)
        yield ok("rapl", f"the CPU's energy is read by {by}: RAPL's own files are not needed")
    elif locked:
        what = "any of" if locked == total else f"{locked} of"
        yield Finding(
            code="rapl_locked",
            state="problem",
            text=f"this user may not read {what} the CPU's {total} energy counters (RAPL)"
            if total > 1
            else "this user may not read the CPU's energy counter (RAPL)",
            remedy=_group_rule(facts),
            advice=_other_ways(facts),
            why=_PLATYPUS,
        )


def _zones(count: int) -> str:
    return "1 zone" if count == 1 else f"{count} zones"


def _group_rule(facts: Facts) -> tuple[str, ...]:
    """A group that reads the counters from now on and after every boot."""
    if facts.container:
        return ()
    member = (f"sudo usermod -aG {GROUP} {facts.user or '$USER'}",)
    make = (f"sudo groupadd -f {GROUP}", *member)
    if facts.services == "systemd":
        keep = (
            f"echo '{TMPFILES_RULE}' | sudo tee {TMPFILES_FILE}",
            f"sudo systemd-tmpfiles --create {TMPFILES_FILE}",
        )
    elif facts.services == "udev":
        quoted = UDEV_RULE.replace("'", "'\\''")
        keep = (
            f"echo '{quoted}' | sudo tee {UDEV_FILE}",
            "sudo udevadm control --reload; sudo udevadm trigger -c add -s powercap",
        )
    else:
        keep = (f"sudo chgrp {GROUP} {COUNTERS}", f"sudo chmod 0440 {COUNTERS}")
    return (*make, *keep, f"newgrp {GROUP}")


def _other_ways(facts: Facts) -> str:
    if facts.container:
        return (
            "run the container as root, or on the host let a group read them (emt doctor there) and start "
            "the container with --group-add and that group's number"
        )
    said = "the last line is for this shell: others need a new login"
    return said if facts.services else f"{said}; chgrp and chmod are needed after every boot"


def cpu_without_counter(facts: Facts) -> Iterator[Finding]:
    """Why there is no RAPL zone at all, where nothing else measures the CPU; the first cause only, since
    a container in a virtual machine is not helped by what helps a container."""
    if facts.zones or facts.cpu_sensors or facts.judged.is_measured:
        return
    if facts.hypervisor == "WSL2":
        yield _wsl()
    elif facts.hypervisor:
        yield _guest(facts)
    elif facts.container:
        yield _contained(facts)
    elif facts.is_x86:
        yield _module(facts)
    else:
        yield _unknown(facts)


def _wsl() -> Finding:
    return Finding(
        code="wsl2",
        state="problem",
        text="WSL2 has no energy counters of the CPU: its energy is estimated",
        advice="run emt under Windows itself, or boot Linux; NVIDIA GPUs are measured here all the same",
        why="WSL2 is a virtual machine, and Windows keeps the counters to itself.",
    )


def _guest(facts: Facts) -> Finding:
    maker = facts.hypervisor.lower()
    known = next((help for word, help in _METAL.items() if word in maker), "")
    return Finding(
        code="virtual_machine",
        state="problem",
        text=f"this is {_named(facts.hypervisor)}: the CPU's energy is estimated",
        advice=known or "a machine of its own (bare metal) has the counters; so has the host, if it is yours",
        why="A hypervisor hides the counters, since they would tell one guest of the others' work.",
    )


def _named(hypervisor: str) -> str:
    """host.py says `virtual machine` where DMI does not name the maker."""
    return "a virtual machine" + ("" if hypervisor == "virtual machine" else f" ({hypervisor})")


def _contained(facts: Facts) -> Finding:
    known = {
        "docker": ("docker run --security-opt systempaths=unconfined IMAGE ...",),
        "podman": ("sudo podman run --security-opt unmask=/sys/devices/virtual/powercap IMAGE ...",),
    }
    advice = "or run emt on the host, around the program itself"
    if facts.container == "kubernetes":
        advice = "in a pod: securityContext: {privileged: true}, which opens the whole node; " + advice
    elif facts.container == "apptainer":
        advice = "ask for /sys to be mounted (apptainer's `mount sys = yes`); " + advice
    elif facts.container == "docker":
        advice = f"a bind mount alone does not help: the mask lies over it; {advice}"
    return Finding(
        code="container",
        state="problem",
        text=f"this container ({facts.container}) does not show the CPU's energy counters: estimated",
        remedy=known.get(facts.container, ()),
        advice=advice,
        why="Container engines mask /sys/devices/virtual/powercap since 2023, because of PLATYPUS: open it "
        "only to images that you trust.",
    )


def _module(facts: Facts) -> Finding:
    if "intel_rapl_msr" in facts.modules:
        return Finding(
            code="rapl_unknown",
            state="problem",
            text="the RAPL driver is loaded and knows no counter of this CPU: its energy is estimated",
            remedy=("sudo dmesg | grep -i rapl",),
            advice="a newer kernel may know this CPU (AMD: 5.11 or newer), and firmware can switch RAPL off",
        )
    return Finding(
        code="rapl_module",
        state="problem",
        text="the kernel module that reads the CPU's energy counters (RAPL) is not loaded",
        remedy=(
            "sudo modprobe intel_rapl_msr",
            "echo intel_rapl_msr | sudo tee /etc/modules-load.d/emt.conf",
        ),
        advice="it serves AMD's CPUs, too; where modprobe does not find it, install the kernel's extra "
        "modules (on Ubuntu: linux-modules-extra-$(uname -r))",
    )


def _unknown(facts: Facts) -> Finding:
    return Finding(
        code="no_counter",
        state="problem",
        text=f"nothing measures the CPU here ({facts.architecture}): its energy is estimated",
        advice="if you know its power, say so: emt run --cpu-watts IDLE:FULL -- COMMAND",
    )


def refused(facts: Facts) -> Iterator[Finding]:
    """Sensors that are here and locked, broken or stuck, in the sensor's own words; not those that an
    examination of their own explains better."""
    told = {"nvml", "perf", "powercap"} if facts.locked else {"nvml", "perf"}
    for notice in facts.judged.notices:
        is_told = notice.text.partition(": ")[0] in told
        if notice.code in ("sensor_denied", "sensor_stuck") and not is_told:
            yield Finding(code=notice.code, state="problem", text=notice.text, advice=notice.hint)


def whole_node(facts: Facts) -> Iterator[Finding]:
    """A meter of the whole node where the components are estimated."""
    if facts.judged.is_measured or not facts.sensors("psys", "node"):
        return
    yield Finding(
        code="platform_only",
        state="note",
        text="a sensor measures the whole node, and nothing its components",
        remedy=("emt run --total platform -- COMMAND",),
        advice="makes the node's energy the headline; for good: run.total in ~/.config/emt/config.toml",
    )


def memory(facts: Facts) -> Iterator[Finding]:
    """A memory that is estimated from its size beside a CPU that is measured."""
    estimated = [
        channel
        for channel in facts.judged.channels
        if channel.id in facts.judged.counted
        and channel.domain == "dram"
        and channel.provenance == "estimated"
    ]
    if estimated and facts.judged.is_measured:
        yield Finding(
            code="memory_estimated",
            state="note",
            text="the memory's energy is estimated from its size: this machine has no counter for it",
            advice="nothing to do: servers have such a counter, most others have not. "
            "emt run --exclude dram leaves it out",
        )
