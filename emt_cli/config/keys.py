"""The table of settings: every key with its type, default, variable and one line of help.

A setting is added by one entry here; files, environment, `emt config`, its starter file and the man pages
all read it from this table. It stands apart from the loading so that it stays a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Literal, TypeVar, get_args

from emt_cli.model import CgroupUse, IdlePolicy, Scope, Total
from emt_cli.values import Value

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


# --- what may stand as a value ----------------------------------------------------------------------


class Kind(Value, Generic[T_co]):
    """What may stand as a value.

    `check` turns what TOML or a flag gave into the value, `parse` turns the text of a variable into what
    `check` takes; both raise ValueError for anything that is not what `expects` says.
    """

    expects: str
    check: Callable[[object], T_co]
    parse: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    is_path: bool = False


def _number(low: float, high: float, *, is_open: bool = False) -> Kind[float]:
    """A finite number from `low` to `high`, without `low` itself if `is_open`."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not low <= value <= high or (is_open and value == low):  # false for nan, too
            raise ValueError
        return float(value)

    return Kind(
        expects=f"a number {'above' if is_open else 'from'} {low:g} {'up ' if is_open else ''}to {high:g}",
        check=check,
        parse=float,
    )


def _count(low: int) -> Kind[int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError
        return value

    return Kind(expects=f"a whole number of at least {low}", check=check, parse=int)


def _switch() -> Kind[bool]:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Kind(expects="true or false", check=check, parse=lambda text: words.get(text.strip().lower()))


def _text(*, is_path: bool = False) -> Kind[str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError
        return value

    return Kind(expects="a path" if is_path else "a text", check=check, is_path=is_path)


def _one_of(choices: tuple[T, ...]) -> Kind[T]:
    def check(value: object) -> T:
        for choice in choices:
            if choice == value:
                return choice
        raise ValueError

    words = tuple(str(choice) for choice in choices)
    return Kind(expects="one of " + ", ".join(words), check=check, choices=words)


def _names() -> Kind[tuple[str, ...]]:
    """Names of sensors' channels: a list, or one text with commas."""

    def check(value: object) -> tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            raise ValueError
        names = tuple(word.strip() for word in words if isinstance(word, str))
        if len(names) != len(words) or not all(names):
            raise ValueError
        return names

    return Kind(expects='a list of names, as "cpu,gpu0"', check=check)


def _watts() -> Kind[Mapping[str, float]]:
    watts = _number(0, 100_000)

    def check(value: object) -> Mapping[str, float]:
        if not isinstance(value, Mapping):
            raise ValueError
        return {str(channel): watts.check(power) for channel, power in value.items()}

    return Kind(expects="a table of channel = watts", check=check)


def _range() -> Kind[tuple[float, float]]:
    """Watts of an idle and of a fully loaded device: `15:65`, or one number for both."""
    watts = _number(0, 100_000)

    def check(value: object) -> tuple[float, float]:
        words = value.split(":") if isinstance(value, str) else value if isinstance(value, list) else [value]
        numbers = [watts.check(float(word) if isinstance(word, str) else word) for word in words]
        if len(numbers) not in (1, 2) or numbers[0] > numbers[-1]:
            raise ValueError
        return numbers[0], numbers[-1]

    return Kind(
        expects="watts, idle and at full load, as 15:65 (or one number, whatever the load)", check=check
    )


def _devices() -> Kind[Mapping[str, tuple[float, float, str]]]:
    """Idle and full watts and the domain of each device, `device` unless it is said."""
    power = _range()

    def check(value: object) -> Mapping[str, tuple[float, float, str]]:
        if not isinstance(value, Mapping):
            raise ValueError
        return {_device_name(name): one(each) for name, each in value.items()}

    def one(value: object) -> tuple[float, float, str]:
        domain: object = "device"
        if isinstance(value, Mapping):
            if not value.keys() <= {"idle_w", "full_w", "domain"} or "full_w" not in value:
                raise ValueError
            domain = value.get("domain", domain)
            value = [value.get("idle_w", value["full_w"]), value["full_w"]]
        if not isinstance(domain, str) or not (domain.isascii() and domain.isalpha() and domain.islower()):
            raise ValueError
        return (*power.check(value), domain)

    return Kind(
        expects='a table of devices like fpga0 = "20:45", or fpga0 = { idle_w = 20, full_w = 45 }',
        check=check,
    )


def _device_name(name: object) -> str:
    """Lower-case letters and a number, as in every channel."""
    letters = str(name).rstrip("0123456789")
    if not (letters.isascii() and letters.isalpha() and letters.islower()):
        raise ValueError
    return str(name)


# --- the table of keys ------------------------------------------------------------------------------


class Key(Value, Generic[T_co]):
    """One setting. `default` None means unset; `example` is what the starter file shows then, as TOML.

    `variable` is empty where no EMT_* sets it, `flag` where no option of `emt run` takes a value for it;
    `in_project` False keeps it out of ./emt.toml, since somebody else's folder must not say where our
    records go or what is measured.
    """

    name: str
    kind: Kind[T_co]
    default: T_co
    help: str
    variable: str = ""
    flag: str = ""
    example: str = ""
    in_project: bool = True


FREQUENCY = Key(
    name="run.frequency_hz",
    kind=_number(0.1, 1000),
    default=10.0,
    variable="EMT_FREQUENCY",
    flag="--frequency",
    help="Samples per second. Changes the curve, not the joules.",
)
MAX_SAMPLES = Key(
    name="run.max_samples",
    kind=_count(100),
    default=1_000_000,
    variable="EMT_MAX_SAMPLES",
    flag="--max-samples",
    help="Rows kept before the rate of the recorded curve is halved.",
)
SCOPE: Key[Scope] = Key(
    name="run.scope",
    kind=_one_of(get_args(Scope)),
    default="tree",
    variable="EMT_SCOPE",
    flag="--scope",
    help="Whose energy the summary and the carbon figure tell: the command's share or the machine's.",
)
TOTAL: Key[Total] = Key(
    name="run.total",
    kind=_one_of(get_args(Total)),
    default="components",
    variable="EMT_TOTAL",
    flag="--total",
    help="The headline: the sum of the components, or what a whole-node sensor saw.",
)
IDLE_POLICY: Key[IdlePolicy | None] = Key(
    name="run.idle_policy",
    kind=_one_of(get_args(IdlePolicy)),
    default=None,
    example='"busy"',
    variable="EMT_IDLE_POLICY",
    flag="--idle-policy",
    help="Who bears the idle power. Unset: reserved where CPUs are reserved for the job, else busy.",
)
PERF = Key(
    name="run.perf",
    kind=_switch(),
    default=True,
    variable="EMT_PERF",
    help="Let a perf counter witness the CPU time; it slows programs that switch context very often.",
)
CGROUP: Key[CgroupUse] = Key(
    name="run.cgroup",
    kind=_one_of(get_args(CgroupUse)),
    default="auto",
    variable="EMT_CGROUP",
    help="Let a control group of its own witness the CPU time; auto: without perf, in a group of ours.",
)
QUIET = Key(
    name="run.quiet",
    kind=_switch(),
    default=False,
    variable="EMT_QUIET",
    help="Print no summary after a run.",
)
WAIT_TREE = Key(
    name="run.wait_tree",
    kind=_switch(),
    default=False,
    variable="EMT_WAIT_TREE",
    help="Measure until the last process of the tree has ended, not just the command itself.",
)
IDLE_W: Key[Mapping[str, float]] = Key(
    name="run.idle_w",
    kind=_watts(),
    default={},
    example='{ "cpu0/package" = 12.5 }',
    help="Known idle power in watts by channel; emt sensors lists the channels.",
)
LOCATION: Key[str | None] = Key(
    name="carbon.location",
    kind=_text(),
    default=None,
    example='"FR"',
    variable="EMT_LOCATION",
    flag="--location",
    help="The place whose grid feeds the machine: FR, US-CA, or a cloud's own name (aws:eu-west-3).",
)
INTENSITY: Key[float | None] = Key(
    name="carbon.intensity_g_per_kwh",
    kind=_number(0, 5000, is_open=True),
    default=None,
    example="56.0",
    variable="EMT_INTENSITY",
    flag="--intensity",
    help="Carbon intensity of the electricity in gCO2e/kWh, life-cycle; beats the tables.",
)
PUE = Key(
    name="carbon.pue",
    kind=_number(1, 5),
    default=1.0,
    variable="EMT_PUE",
    flag="--pue",
    help="Power usage effectiveness: energy of the whole data centre over that of its machines.",
)
STORE_ENABLED = Key(
    name="store.enabled",
    kind=_switch(),
    default=True,
    variable="EMT_STORE_ENABLED",
    help="Keep a record of every run in the store.",
)
STORE: Key[str | None] = Key(
    name="store.path",
    kind=_text(is_path=True),
    default=None,
    example='"~/.local/state/emt/runs"',
    variable="EMT_STORE",
    in_project=False,
    help="The folder of the store. Unset: emt/runs in $XDG_STATE_HOME or ~/.local/state.",
)
ONLY: Key[tuple[str, ...]] = Key(
    name="sensors.only",
    kind=_names(),
    default=(),
    example='["cpu", "gpu0"]',
    variable="EMT_ONLY",
    flag="--only",
    help="Read only these: channels, devices, domains or sensors, as emt sensors lists them.",
)
EXCLUDE: Key[tuple[str, ...]] = Key(
    name="sensors.exclude",
    kind=_names(),
    default=(),
    example='["dram"]',
    variable="EMT_EXCLUDE",
    flag="--exclude",
    help="Leave these out; nothing is estimated in their place.",
)
WITH: Key[tuple[str, ...]] = Key(
    name="sensors.with",
    kind=_names(),
    default=(),
    example='["ipmi"]',
    variable="EMT_WITH",
    flag="--with",
    help="Also read these sensors, which are slow and off by default: ipmi.",
)
REQUIRE: Key[Literal["measured"] | None] = Key(
    name="sensors.require",
    kind=_one_of(("measured",)),
    default=None,
    example='"measured"',
    variable="EMT_REQUIRE",
    flag="--require",
    help="Refuse to start a command whose energy could only be estimated.",
)
CPU_WATTS: Key[tuple[float, float] | None] = Key(
    name="sensors.cpu_watts",
    kind=_range(),
    default=None,
    example='"15:65"',
    variable="EMT_CPU_WATTS",
    flag="--cpu-watts",
    help="Watts of all CPUs together, idle and fully loaded, where no sensor measures them.",
)
RAM_W_PER_GB: Key[float | None] = Key(
    name="sensors.ram_w_per_gb",
    kind=_number(0, 100),
    default=None,
    example="0.3725",
    variable="EMT_RAM_W_PER_GB",
    flag="--ram-watts-per-gb",
    help="Watts of each gigabyte of memory, where no sensor measures it.",
)
DEVICES: Key[Mapping[str, tuple[float, float, str]]] = Key(
    name="sensors.devices",
    kind=_devices(),
    default={},
    example='{ fpga0 = "20:45" }',
    help="Further devices and their watts, idle and at full load of the CPUs.",
)
REPLAY: Key[str | None] = Key(
    name="sensors.replay",
    kind=_text(is_path=True),
    default=None,
    example='"recorded.csv"',
    variable="EMT_REPLAY",
    flag="--replay",
    in_project=False,
    help="Replay recorded readings from this file instead of reading the hardware.",
)

# Read off the names above, so that a new key is written down once.
KEYS: tuple[Key[object], ...] = tuple(value for value in list(globals().values()) if isinstance(value, Key))
BY_NAME: Mapping[str, Key[object]] = {key.name: key for key in KEYS}


def literal(value: object) -> str:
    """A value as it is written in TOML; None, which TOML lacks, is the word `unset`."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{literal(name)} = {literal(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
