"""Settings: who beats whom, what is refused and how the message helps, and files that nobody should trust."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.config import Config, load, load_here, user_file
from emt_cli.config import keys as k
from emt_cli.config.toml_file import MAX_BYTES
from emt_cli.errors import ConfigError, UsageError

UID = os.getuid()


class Place:
    """A machine of its own: a system file, a home and a project folder below one temporary folder."""

    def __init__(self, base: Path) -> None:
        self.system = base / "etc/config.toml"
        self.home = base / "home"
        self.user = self.home / ".config/emt/config.toml"
        self.cwd = base / "project"
        self.project = self.cwd / "emt.toml"
        for folder in (self.system.parent, self.user.parent, self.cwd):
            folder.mkdir(parents=True)

    def load(self, environ: dict[str, str] | None = None, *, uid: int = UID, **flags: object) -> Config:
        return load(
            {name.replace("__", "."): value for name, value in flags.items()},
            environ=environ or {},
            cwd=str(self.cwd),
            home=str(self.home),
            system=str(self.system),
            uid=uid,
        )

    def error(self, environ: dict[str, str] | None = None) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.load(environ)
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- who beats whom ----------------------------------------------------------------------------------


def test_without_any_source_every_value_is_its_default(place: Place) -> None:
    config = place.load()
    assert config[k.FREQUENCY] == 10.0
    assert config[k.LOCATION] is None
    assert {config.source(key) for key in k.KEYS} == {"default"}
    assert config.notices == ()


def test_the_strongest_source_wins_and_is_named(place: Place) -> None:
    """Each source in turn sets the same key; the one before it must give way."""
    layers: list[tuple[Callable[[], Config], float, str]] = []
    for path in (place.system, place.user, place.project):
        value = 1.1 + len(layers) / 10
        path.write_text(f"[carbon]\npue = {value}\n")
        layers.append((place.load, value, str(path)))
        config = place.load()
        assert (config[k.PUE], config.source(k.PUE)) == (value, str(path))
    config = place.load({"EMT_PUE": "1.5"})
    assert (config[k.PUE], config.source(k.PUE)) == (1.5, "environment (EMT_PUE)")
    config = place.load({"EMT_PUE": "1.5"}, carbon__pue=1.6)
    assert (config[k.PUE], config.source(k.PUE)) == (1.6, "flag")
    assert [Path(file.path) for file in config.files] == [place.project, place.user, place.system]
    assert {file.state for file in config.files} == {"read"}


def test_files_that_set_different_keys_add_up(place: Place) -> None:
    place.system.write_text("[carbon]\npue = 1.5\n")
    place.project.write_text("[run]\nquiet = true\n")
    config = place.load()
    assert (config[k.PUE], config[k.QUIET]) == (1.5, True)


def test_a_flag_that_was_not_given_sets_nothing(place: Place) -> None:
    config = place.load({"EMT_QUIET": "yes"}, run__quiet=None)
    assert (config[k.QUIET], config.source(k.QUIET)) == (True, "environment (EMT_QUIET)")


def test_a_flag_that_says_no_beats_a_variable_that_says_yes(place: Place) -> None:
    assert place.load({"EMT_QUIET": "yes"}, run__quiet=False)[k.QUIET] is False


def test_an_empty_variable_counts_as_unset(place: Place) -> None:
    assert place.load({"EMT_PUE": "", "EMT_STORE": ""}).source(k.PUE) == "default"


def test_a_table_comes_whole_from_its_strongest_source(place: Place) -> None:
    place.user.write_text('[run.idle_w]\n"cpu0/package" = 12\n"cpu1/package" = 13.5\n')
    assert place.load()[k.IDLE_W] == {"cpu0/package": 12.0, "cpu1/package": 13.5}
    place.project.write_text("[run]\nidle_w = { gpu0 = 30 }\n")
    assert place.load()[k.IDLE_W] == {"gpu0": 30.0}


def test_the_user_s_file_follows_xdg_unless_it_is_relative(tmp_path: Path) -> None:
    assert user_file({"XDG_CONFIG_HOME": "/x"}, "/h") == "/x/emt/config.toml"
    assert user_file({"XDG_CONFIG_HOME": "x"}, "/h") == "/h/.config/emt/config.toml"
    assert user_file({}, "~") == ""


@pytest.mark.parametrize(
    "word, value", [("1", True), ("YES", True), ("on", True), ("off", False), ("0", False)]
)
def test_a_switch_understands_the_usual_words(place: Place, word: str, value: bool) -> None:
    assert place.load({"EMT_PERF": word})[k.PERF] is value


def test_a_path_starts_from_the_home_the_file_or_the_folder_it_was_given_in(place: Place) -> None:
    place.user.write_text('[store]\npath = "~/runs"\n[sensors]\nreplay = "r.csv"\n')
    config = place.load()
    assert config[k.STORE] == str(place.home / "runs")
    assert config[k.REPLAY] == str(place.user.parent / "r.csv")
    assert place.load({"EMT_STORE": "runs"})[k.STORE] == str(place.cwd / "runs")
    assert place.load(store__path="/abs/../runs")[k.STORE] == "/runs"


def test_this_process_s_own_settings_load_even_where_the_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_here({"carbon.pue": 2}).source(k.PUE) == "flag"


# --- what is refused ---------------------------------------------------------------------------------


def test_an_unknown_key_names_file_line_and_the_nearest_key(place: Place) -> None:
    place.project.write_text("# mine\n\n[carbon]\nlocation = 'FR'\npeu = 1.2\n")
    error = place.error()
    assert str(error) == f"{place.project}, line 5: unknown key carbon.peu"
    assert "did you mean carbon.pue?" in error.hint


@pytest.mark.parametrize(
    "text, name, near",
    [
        ("frequency_hz = 1", "frequency_hz", "run.frequency_hz"),
        ("[carbon]\nfrequency_hz = 1", "carbon.frequency_hz", "run.frequency_hz"),
        ("[run]\nfrequency = 1", "run.frequency", "run.frequency_hz"),
        ("[carbn]\npue = 1", "carbn", "carbon."),
    ],
)
def test_a_key_in_the_wrong_place_is_led_to_the_right_one(
    place: Place, text: str, name: str, near: str
) -> None:
    place.user.write_text(text)
    error = place.error()
    assert f"unknown key {name}" in str(error)
    assert f"did you mean {near}" in error.hint


@pytest.mark.parametrize(
    "name, value, expects",
    [
        ("run.frequency_hz", '"ten"', "a number from 0.1 to 1000"),
        ("run.frequency_hz", "true", "a number from 0.1 to 1000"),
        ("run.frequency_hz", "nan", "a number from 0.1 to 1000"),
        ("run.frequency_hz", "inf", "a number from 0.1 to 1000"),
        ("run.frequency_hz", "1000.5", "a number from 0.1 to 1000"),
        ("run.max_samples", "99", "a whole number of at least 100"),
        ("run.max_samples", "1e6", "a whole number of at least 100"),
        ("run.max_samples", "true", "a whole number of at least 100"),
        ("run.scope", '"both"', "one of tree, machine"),
        ("run.scope", "1", "one of tree, machine"),
        ("run.quiet", "1", "true or false"),
        ("run.idle_w", "12.5", "a table of channel = watts"),
        ("run.idle_w", '{ "cpu0" = "x" }', "a table of channel = watts"),
        ("run.idle_w", '{ "cpu0" = -1 }', "a table of channel = watts"),
        ("carbon.location", '""', "a text"),
        ("carbon.location", "2024-01-01", "a text"),
        ("carbon.intensity_g_per_kwh", "0", "a number above 0 up to 5000"),
        ("carbon.pue", "0.9", "a number from 1 to 5"),
        ("carbon.pue", "[1]", "a number from 1 to 5"),
        ("carbon.pue", "1" + "0" * 400, "a number from 1 to 5"),
        ("store.path", "true", "a path"),
    ],
)
def test_a_wrong_value_names_file_line_key_and_what_was_expected(
    place: Place, name: str, value: str, expects: str
) -> None:
    section, _, key = name.rpartition(".")
    place.user.write_text(f"[{section}]\n{key} = {value}\n")
    error = place.error()
    assert str(error).startswith(f"{place.user}, line 2: {name} = ")
    assert str(error).endswith(f" is not {expects}")
    assert f"under [{section}]: {key} = " in error.hint


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "ten", "0", "1e9"])
def test_a_wrong_variable_is_an_error_that_names_it(place: Place, text: str) -> None:
    error = place.error({"EMT_FREQUENCY": text})
    assert str(error) == f"EMT_FREQUENCY='{text}' is not a number from 0.1 to 1000"
    assert "run.frequency_hz" in error.hint


def test_a_wrong_flag_is_a_usage_error(place: Place) -> None:
    with pytest.raises(UsageError, match=r"--pue: nan is not a number from 1 to 5"):
        place.load(carbon__pue=float("nan"))


def test_a_section_written_as_a_value_is_explained(place: Place) -> None:
    place.user.write_text("carbon = 1\n")
    error = place.error()
    assert str(error).endswith("line 1: carbon is a section, not a value")
    assert "[carbon]" in error.hint


def test_broken_toml_names_file_line_and_column(place: Place) -> None:
    place.user.write_text("[carbon]\nlocation = FR\n")
    assert re.search(re.escape(str(place.user)) + r".*line 2, column 12", str(place.error()))


def test_a_key_is_found_on_its_line_even_below_a_text_that_looks_like_it(place: Place) -> None:
    place.user.write_text('[carbon]\nlocation = """\npeu = 1\n"""\npeu = 1\n')
    assert ", line 5: unknown key carbon.peu" in str(place.error())


def test_what_a_file_says_is_printed_short_and_harmless(place: Place) -> None:
    place.user.write_text('[carbon]\n"\\u001b[2J' + "x" * 500 + '" = 1\n')
    message = str(place.error())
    assert message.isprintable() and len(message) < 250
    place.user.write_text('[run]\nscope = "\\u001b[2J' + "x" * 500 + '"\n')
    message = str(place.error())
    assert message.isprintable() and len(message) < 250


@given(content=st.binary(max_size=200))
def test_any_bytes_give_settings_or_one_clear_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "config.toml"
    path.write_bytes(content)
    try:
        load({}, environ={}, cwd="", home="", system=str(path), uid=UID)
    except ConfigError as error:
        assert str(path) in str(error)


SECTIONS = ["", "[run]\n", "[carbon]\n", "[store]\n", "[run.idle_w]\n"]
NAMES = st.sampled_from([*{name.rpartition(".")[2]: 0 for name in k.BY_NAME}, "run", "other", "'a b'"])
VALUES = st.sampled_from(
    ["1", "-1", "0.5", "nan", "true", '"tree"', '"x"', "{ a = 1 }", "[1, 2]", "1979-05-27"]
)


@given(lines=st.lists(st.tuples(st.sampled_from(SECTIONS), NAMES, VALUES), max_size=4))
def test_any_toml_gives_valid_settings_or_one_clear_error(
    lines: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text("".join(f"{section}{name} = {value}\n" for section, name, value in lines))
    try:
        config = load({}, environ={}, cwd="", home="", system=str(path), uid=UID)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        for key in k.KEYS:
            value = config.settings[key.name].value
            assert value == key.default or key.kind.check(value) == value


# --- files that nobody should trust -------------------------------------------------------------------


def test_a_project_file_of_somebody_else_is_ignored_with_a_warning(place: Place) -> None:
    place.project.write_text("[carbon]\npue = 2\n")
    if UID == 0:
        os.chown(place.project, 4242, -1)
    config = place.load(uid=UID + 1)
    assert config.source(k.PUE) == "default"
    assert [notice.code for notice in config.notices] == ["foreign_config"]
    assert str(place.project) in config.notices[0].text
    assert config.files[0].state == "ignored"


def test_a_project_file_of_somebody_else_cannot_even_be_wrong(place: Place) -> None:
    place.project.write_text("this is no TOML")
    if UID == 0:
        os.chown(place.project, 4242, -1)
    assert [notice.code for notice in place.load(uid=UID + 1).notices] == ["foreign_config"]


@pytest.mark.skipif(UID != 0, reason="only root can give a file away")
def test_under_sudo_the_caller_s_project_file_counts(place: Place) -> None:
    place.project.write_text("[carbon]\npue = 2\n")
    os.chown(place.project, 4242, -1)
    assert place.load({"SUDO_UID": "4242"})[k.PUE] == 2.0
    assert place.load({"SUDO_UID": "4243"})[k.PUE] == 1.0
    assert place.load({"SUDO_UID": "4242"}, uid=7)[k.PUE] == 1.0


@pytest.mark.parametrize("key", [key for key in k.KEYS if not key.in_project])
def test_a_project_file_may_not_set_where_records_go_or_what_is_read(
    place: Place, key: k.Key[object]
) -> None:
    section, _, name = key.name.rpartition(".")
    text = f"[{section}]\n{name} = {key.example}\n"
    place.project.write_text(text)
    error = place.error()
    assert f"line 2: {key.name} may not stand in a project's emt.toml" in str(error)
    assert "~/.config/emt/config.toml" in error.hint
    place.project.unlink()
    place.user.write_text(text)
    assert place.load().source(key) == str(place.user)


def test_a_fifo_is_refused_and_does_not_hang(place: Place, tmp_path: Path) -> None:
    os.mkfifo(place.system)
    assert (
        unprivileged(tmp_path, uid=UID)
        == f"{place.system} is not a regular file: no settings can be read from it"
    )


def test_a_folder_a_huge_file_and_other_encodings_are_refused(place: Place) -> None:
    place.project.mkdir()
    assert "is a folder" in str(place.error())
    place.project.rmdir()
    place.project.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "larger than 1 MiB" in str(place.error())
    place.project.write_bytes(b"[carbon]\nlocation = '\xe9'\n")
    assert ", line 2: byte 0xe9 is not UTF-8" in str(place.error())


def test_a_file_of_just_the_largest_size_is_read_and_so_is_a_byte_order_mark(place: Place) -> None:
    text = b"\xef\xbb\xbf[carbon]\r\npue = 2\r\n"
    place.project.write_bytes(text + b"#" * (MAX_BYTES - len(text)))
    assert place.load()[k.PUE] == 2.0


def test_endless_brackets_and_endless_digits_are_clear_errors(place: Place) -> None:
    place.user.write_text("a = " + "[" * 100_000)
    assert str(place.user) in str(place.error())
    place.user.write_text("[carbon]\npue = " + "1" * 10_000)
    assert str(place.user) in str(place.error())


UNPRIVILEGED = """
import os, sys, tomllib_or_tomli
from emt_cli.config import load, toml_file
import emt_cli.notices
from emt_cli.errors import ConfigError
base = sys.argv[1]
os.setuid(int(sys.argv[2]))
try:
    config = load({}, environ={}, cwd=base + "/project", home=base + "/home",
                  system=base + "/etc/config.toml", uid=os.getuid())
    print([file.state for file in config.files])
except ConfigError as error:
    print(error)
"""


def unprivileged(base: Path, uid: int = UID or 4242) -> str:
    """What a user finds who may not do everything; root becomes one, once everything is imported."""
    parser = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED.replace("tomllib_or_tomli", parser), str(base), str(uid)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )
    return done.stdout.strip()


@pytest.fixture
def open_base() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        yield Path(base)


def test_an_unreadable_file_of_ours_is_an_error(open_base: Path) -> None:
    place = Place(open_base)
    place.system.write_text("")
    place.system.chmod(0)
    assert unprivileged(open_base) == f"{place.system} cannot be read: Permission denied"


@pytest.mark.skipif(UID != 0, reason="only root has somebody else's files at hand")
def test_an_unreadable_project_file_of_somebody_else_is_ignored(open_base: Path) -> None:
    place = Place(open_base)
    place.project.write_text("")
    place.project.chmod(0)
    os.chown(place.project, 4243, -1)
    assert unprivileged(open_base) == "['ignored', 'absent', 'absent']"


def test_a_folder_that_may_not_be_entered_does_not_stop_a_run(open_base: Path) -> None:
    """`sudo -u nobody emt run ...` from a private folder, with the caller's $HOME."""
    place = Place(open_base)
    place.home.chmod(0)
    place.cwd.chmod(0)
    try:
        assert unprivileged(open_base) == "['unreachable', 'unreachable', 'absent']"
    finally:
        place.home.chmod(0o700)
        place.cwd.chmod(0o700)


# --- variables that are no settings -------------------------------------------------------------------


def test_an_unknown_variable_only_warns_and_names_the_nearest(place: Place) -> None:
    config = place.load({"EMT_LOCATON": "FR", "EMT_ZZZZZZ": "1", "OTHER": "1"})
    assert [notice.code for notice in config.notices] == ["unknown_variable"] * 2
    assert config.notices[0].text.startswith("EMT_LOCATON is not a setting")
    assert config.notices[0].hint == "did you mean EMT_LOCATION?"
    assert config.notices[1].hint == "emt config lists every setting"


def test_variables_that_emt_itself_sets_do_not_warn(place: Place) -> None:
    assert place.load({"EMT_RUN_ID": "x", "EMT_FAKE_CLOCK": "1"}).notices == ()


# --- the table ----------------------------------------------------------------------------------------


def test_every_key_has_a_help_and_a_default_or_an_example_that_pass_its_own_check() -> None:
    from emt_cli.config.toml_file import parsed

    for key in k.KEYS:
        assert key.help.endswith(".") and len(key.help) <= 110
        text = key.example or k.literal(key.default)
        value = parsed("the example", f"x = {text}")["x"]
        assert key.kind.check(value) is not None
        if key.default is not None:
            assert key.kind.check(key.default) == key.default
    variables = [key.variable for key in k.KEYS if key.variable]
    assert len(set(variables)) == len(variables)


@given(
    st.recursive(
        st.booleans()
        | st.integers(-(2**62), 2**62)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
        max_leaves=5,
    )
)
def test_a_value_written_as_a_literal_reads_back_equal(value: object) -> None:
    from emt_cli.config.toml_file import parsed

    assert parsed("literal", f"x = {k.literal(value)}")["x"] == value


def test_older_pythons_read_toml_through_tomli(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomllib", None)
    place.user.write_text("[carbon]\npue = 2\n")
    assert place.load()[k.PUE] == 2.0
    place.user.write_text("[carbon]\nlocation = FR\n")
    assert "line 2, column 12" in str(place.error())


def test_without_a_file_no_parser_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from emt_cli.config import load;"
        f"load({{}}, environ={{}}, cwd={str(tmp_path)!r}, home={str(tmp_path)!r}, system='/nowhere', uid=0);"
        "heavy = {'tomllib', 'tomli', 'difflib', 'json', 'emt_cli.config.toml_file', 'emt_cli.notices'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == "[]"
