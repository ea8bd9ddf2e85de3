"""Every warning that a run can carry: a closed list, each with a stable code, a text and a remedy.

Programs match the code; people read text and hint. A text may name facts in braces, filled in by
`notice(code, **facts)`.
"""

from __future__ import annotations

from emt_cli.model import Notice

_CATALOGUE: dict[str, tuple[str, str]] = {
    "estimated": (
        "no sensor could be read: {what} estimated from a model, not measured",
        "{remedy}",
    ),
    "sensor_denied": ("{sensor}: {reason}", "{remedy}"),
    "sensor_stuck": (
        "{sensor} did not answer within {limit_s:g} s and was left out",
        "check the driver (dmesg); the command itself was not held up",
    ),
    "sensor_gap": (
        "{channel}: {gap_s:.2f} s were not read ({reason}); the upper bound allows for them",
        "emt report --format json: energy.channels[].gap_s",
    ),
    "counter_reset": (
        "{channel}: the counter was reset {count} time(s) during the run; those stretches are gaps",
        "typical causes are suspend and a driver reload",
    ),
    "short_run": (
        "the run took {duration_s:.3f} s: too short to share energy out by CPU time with any precision",
        "repeat the command in one run, for example emt run -- sh -c 'for i in $(seq 100); do CMD; done'",
    ),
    "coverage": (
        "a part of the tree's CPU time could not be seen: {reason}",
        "{remedy}",
    ),
    "work_elsewhere": (
        "{launcher} hands work to processes outside this tree; their energy is not in the attributed figure",
        "{remedy}",
    ),
    "left_running": (
        "{count} process(es) of the tree were still running at the end: {names}",
        "emt run --wait-tree -- ... follows them to their end",
    ),
    "stolen_time": (
        "{share:.0%} of the CPU time was stolen by the hypervisor; shares and estimates are less certain",
        "measure on a host that is not shared",
    ),
    "suspended": (
        "the machine was suspended for {seconds:.1f} s during the run",
        "that time counts as a gap of every channel that was not read across it",
    ),
    "paused": ("emt itself was stopped for {seconds:.1f} s during the run", ""),
    "clock_changed": (
        "the wall clock was set by {seconds:+.1f} s during the run; durations come from the monotonic clock",
        "",
    ),
    "gpu_shared": (
        "{device} was also used by other processes ({pids}); shared out by {rule}",
        "",
    ),
    "gpu_whole_device": (
        "{device}: the driver does not tell processes apart here; the whole device is attributed",
        "",
    ),
    "gpu_sliced": (
        "{device} is divided by MIG and tells only the whole board's energy; {share:.0%} of it is "
        "attributed, by the slices of the instances",
        "",
    ),
    "late_ticks": (
        "{late} of {ticks} ticks came late: the machine is too busy for {frequency_hz:g} Hz",
        "energy is unaffected (it is read at the edges); use a lower -F for an even curve",
    ),
    "journal_failed": (
        "samples could not be written from {t_s:.1f} s on: {reason}",
        "the totals are complete; free space or choose another folder with EMT_STORE",
    ),
    "store_unwritable": (
        "the run could not be stored in {path}: {reason}",
        "set EMT_STORE to a folder that can be written, or use -o",
    ),
    "output_moved": (
        "{path} came into being during the run; the record is in {moved}",
        "look at both, and keep one",
    ),
    "samples_thinned": (
        "more than {limit} samples: the journal's rate was halved {times} time(s)",
        "energy is exact all the same; --max-samples sets the limit",
    ),
    "limit_exceeded": ("{option} {limit} was exceeded{where}: {found}", ""),
    "limit_stopped": (
        "the command was stopped after {seconds:.1f} s: {reason}",
        "what it had used by then is in the record; --on-exceed warn lets it go on",
    ),
    "watch_failed": (
        "the limits were not watched to the end: {reason}",
        "they were looked at once more when the run was over",
    ),
    "work_unknown": (
        "how much the command got done is not known: {reason}",
        "--units 50000:images states it; --units-from FILE:REGEX reads it from what the command writes",
    ),
    "watts_unused": ("{setting} was not used: {reason}", "{remedy}"),
    "not_here": (
        "--with {name}: it cannot be read here: {reason}",
        "emt doctor says what is missing",
    ),
    "nothing_excluded": (
        "--exclude {name}: there is nothing of that name here",
        "emt sensors lists channels, devices and sensors",
    ),
    "cross_check": (
        "{channel} and {check} should tell the same energy and differ by {share:.0%}",
        "{remedy}",
    ),
    "unknown_variable": ("{name} is not a setting of emt and was ignored", "{remedy}"),
    "foreign_config": (
        "{path} belongs to another user and was ignored",
        "copy the settings you trust to ~/.config/emt/config.toml",
    ),
    "not_idle": (
        "the machine was {share:.0%} busy during --idle-before: its idle power was not taken over",
        "try again when nothing else runs, or give it: [run] idle_w in the configuration",
    ),
    "location_unknown": (
        "nothing tells where this machine is: the world's mean carbon intensity was used",
        "set it once: --location FR, EMT_LOCATION, or carbon.location in ~/.config/emt/config.toml",
    ),
    "clamped": (
        "shares came out {joules:.3g} J outside of what {channel} used, and were cut back to it",
        "a longer run has a smaller error; an idle power that was given may be too high",
    ),
}

CODES = frozenset(_CATALOGUE)


def notice(code: str, **facts: object) -> Notice:
    """The warning of that code. Raises KeyError for a code or a fact that is not in the catalogue."""
    text, hint = _CATALOGUE[code]
    return Notice(code=code, text=text.format(**facts), hint=hint.format(**facts))
