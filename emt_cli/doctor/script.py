"""`emt doctor --fix`: what the findings ask for, as one POSIX shell script for root to read and run.

The script is idempotent, says how each part is undone, and leaves out what would not help here. What only
makes runs comparable stands in it commented out: it costs power or speed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping

from emt_cli.doctor.conditions import GOVERNOR_FILES, SYSCTL_FILE
from emt_cli.doctor.counters import COUNTERS, GROUP, TMPFILES_FILE, TMPFILES_RULE, UDEV_FILE, UDEV_RULE
from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding

MODULES_FILE = "/etc/modules-load.d/emt.conf"

_HEAD = """\
#!/bin/sh
# What would let emt measure on this machine, by `emt doctor --fix`. Nothing has been changed yet.
# Read it, then run it as root:   emt doctor --fix > emt-fix.sh; sudo sh emt-fix.sh
# To run it twice does no harm, and each part says how to undo it.
"""

_ROOT = """
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo "this needs root: sudo sh $0" >&2
    exit 1
fi
"""

_FOOT = """
echo "done; emt doctor looks again"
"""

_NOTHING = """
# There is nothing here that a script could mend: emt doctor says what is left, if anything.
"""


def script(facts: Facts, findings: Iterable[Finding]) -> str:
    """The whole script; where nothing is to be done it says so and does nothing, as in a container, where
    rights and kernel settings are the host's."""
    codes = _codes(facts, findings)
    parts = [make(facts) for code, make in _PARTS.items() if code in codes]
    optional = [make(facts) for code, make in _OPTIONAL.items() if code in codes]
    if not parts and not optional:
        return _HEAD + _NOTHING
    return "".join([_HEAD, _ROOT, *parts, *optional, _FOOT if parts else ""])


def is_empty(facts: Facts, findings: Iterable[Finding]) -> bool:
    """Whether the script would do nothing."""
    return not _codes(facts, findings) & _PARTS.keys()


def _codes(facts: Facts, findings: Iterable[Finding]) -> set[str]:
    """The findings to write for."""
    codes = {finding.code for finding in findings} if not facts.container else set()
    if "rapl_module" in codes and not facts.is_root:
        codes.add("rapl_locked")  # what the module brings is root's alone
    return codes


def _rapl_group(facts: Facts) -> str:
    """Rights on RAPL's counters for a group: now, and by udev or systemd after every boot."""
    return f"""
# --- The CPU's energy counters (RAPL), readable for the group {GROUP} and nobody else ---
# They are root's alone because of PLATYPUS (CVE-2020-8694, CVE-2020-8695): who reads them all the time can
# work out other programs' keys. Put only people into the group whom you trust with that.
# Undo: rm -f {UDEV_FILE} {TMPFILES_FILE}; groupdel {GROUP}; and reboot
if ! grep -q '^{GROUP}:' /etc/group; then
    if command -v groupadd >/dev/null 2>&1; then
        groupadd -r {GROUP}
    else
        addgroup -S {GROUP}
    fi
fi
user=${{SUDO_USER:-{shlex.quote(facts.user)}}}
if [ -n "$user" ] && [ "$user" != root ]; then
    if command -v usermod >/dev/null 2>&1; then
        usermod -aG {GROUP} "$user"
    else
        addgroup "$user" {GROUP}
    fi
    echo "$user is in the group {GROUP} from the next login on; in this shell: newgrp {GROUP}"
fi
for counter in {COUNTERS}; do
    [ -e "$counter" ] || continue
    chgrp {GROUP} "$counter"
    chmod 0440 "$counter"
done
if command -v udevadm >/dev/null 2>&1; then
    mkdir -p {_folder(UDEV_FILE)}
    cat >{UDEV_FILE} <<'END'
{UDEV_RULE}
END
    udevadm control --reload || true
elif command -v systemd-tmpfiles >/dev/null 2>&1; then
    mkdir -p {_folder(TMPFILES_FILE)}
    echo '{TMPFILES_RULE}' >{TMPFILES_FILE}
else
    echo "neither udev nor systemd is here: run this script again after every boot" >&2
fi
"""


def _module(_: Facts) -> str:
    return f"""
# --- The module that reads the CPU's energy counters (RAPL), Intel's and AMD's; now and at every boot ---
# Undo: rm -f {MODULES_FILE}; modprobe -r intel_rapl_msr
modprobe intel_rapl_msr
mkdir -p {_folder(MODULES_FILE)}
echo intel_rapl_msr >{MODULES_FILE}
"""


def _perf(facts: Facts) -> str:
    return f"""
# --- perf, for users' own processes (the kernel's own default): exact CPU time of short processes ---
# Undo: rm -f {SYSCTL_FILE}; sysctl kernel.perf_event_paranoid={facts.paranoid}
mkdir -p {_folder(SYSCTL_FILE)}
echo 'kernel.perf_event_paranoid = 2' >{SYSCTL_FILE}
sysctl -q kernel.perf_event_paranoid=2
"""


def _governor(facts: Facts) -> str:
    return f"""
# --- Optional, for comparing runs: a fixed policy for the CPU's frequency, until the next boot ---
# Undo: the same with {facts.governors[0]}
# for file in {GOVERNOR_FILES}; do echo performance >"$file"; done
"""


def _turbo(facts: Facts) -> str:
    off, on = ("1", "0") if facts.turbo_file.endswith("no_turbo") else ("0", "1")
    return f"""
# --- Optional, for comparing runs: no turbo, until the next boot ---
# Undo: echo {on} >{facts.turbo_file}
# echo {off} >{facts.turbo_file}
"""


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


_PARTS: Mapping[str, Callable[[Facts], str]] = {
    "rapl_module": _module,
    "rapl_locked": _rapl_group,
    "perf_paranoid": _perf,
}
"""What to write for a finding, by its code, in the order in which it must be done."""

_OPTIONAL: Mapping[str, Callable[[Facts], str]] = {"governor": _governor, "turbo": _turbo}
