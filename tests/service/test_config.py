"""gobblerd.service.config: what is accepted, what is refused and how it is said, what needs a restart."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gobblerd.domain.permissions import SpoofingRule
from gobblerd.service.config import Config, load, taken_over
from gobblerd.service.settings import ConfigError
from gobblerd.storage.files import Durability

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "..", "..", "config.example.toml")
Write = Callable[[str], str]
PLACES = {"staging": "/data/staging", "registry": "/data/registry"}


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """A configuration file with the two places and whatever a test adds."""

    def write(text: str) -> str:
        path = tmp_path / "config.toml"
        path.write_text(f'staging = "/data/staging"\nregistry = "/data/registry"\n{text}')
        return str(path)

    return write


def problems(
    file: str | None = None, options: dict[str, str] | None = None, environ: dict[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, {} if options is None else options, {} if environ is None else environ)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_defaults() -> None:
    """The defaults are the documented ones, and the Go service's where it has any."""
    config = load(None, PLACES, {})
    assert (config.port, config.host, config.prefix, config.administrators) == (8080, "0.0.0.0", "", ())
    assert config.durability is Durability.FULL
    assert (config.require_marker, config.quota_enforced, config.probation_days) == (False, False, 0)
    assert (config.lock_timeout, config.drain_timeout, config.request_settle) == (600, 20, 10)
    assert (config.max_request_bytes, config.write_settle, config.post_expiry) == (4 << 20, 0.05, 60)
    assert (config.whitelist, config.spoofing_rules) == ((), {})


def test_every_default_is_valid() -> None:
    """Defaults are not checked when a daemon starts."""
    required = {"staging": "/srv/staging", "registry": "/srv/registry"}
    defaults = {key: each.default for key, each in Config.model_fields.items() if key not in required}
    assert Config(**required, **defaults) == Config(**required)


def test_options_go_before_environment_before_file(written: Write) -> None:
    """Each source overrides the one below it, setting by setting."""
    file = written("port = 1\nlock_timeout = 1\ndrain_timeout = 1\n")
    environ = {"GOBBLERD_LOCK_TIMEOUT": "2", "GOBBLERD_DRAIN_TIMEOUT": "2", "HOME": "/"}
    config = load(file, {"drain_timeout": "3"}, environ)
    assert (config.port, config.lock_timeout, config.drain_timeout) == (1, 2, 3)


def test_texts_of_environment_and_options_are_converted() -> None:
    """Numbers, booleans, lists and tables may be written as text where there is nothing but text."""
    options = {
        "port": "0",
        "write_settle": "0.5",
        "require_marker": "yes",
        "administrators": "alice,bob",
        "whitelist_directories": '["/a,b", "/c/../d"]',
        "durability": "process",
        "spoofing": '{"portal": ["*", "-root"]}',
        "schedule_purge": "60",
    }
    config = load(None, PLACES | options, {})
    assert (config.port, config.write_settle, config.require_marker) == (0, 0.5, True)
    assert config.administrators == ("alice", "bob")
    assert config.whitelist == ("/a,b", "/d")
    assert config.durability is Durability.PROCESS
    assert config.spoofing_rules == {"portal": SpoofingRule(anyone=True, but=frozenset({"root"}))}
    assert config.schedule_purge == "60"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("60", "60"),
        ("90.0", "90"),
        ("1.5", "1.5"),
        ("2592000", "2592000"),
        ("1234567", "1234567"),
        ("1e6", "1000000"),
    ],
)
def test_an_interval_is_the_number_that_was_written(written: Write, number: str, text: str) -> None:
    """However large; that is also how it is shown."""
    assert load(written(f"schedule_scrub = {number}"), {}, {}).schedule_scrub == text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('port = "80"', 'port: should be a whole number, not "80"'),
        ("port = 80.0", "port: should be a whole number, not 80.0"),
        ("port = true", "port: should be a whole number, not True"),
        ("port = 65536", "port: should be less than or equal to 65535, not 65536"),
        ("require_marker = 1", "require_marker: should be true or false, not 1"),
        ("lock_timeout = true", "lock_timeout: should be a number, not True"),
        ("lock_timeout = 0", "lock_timeout: should be greater than 0, not 0"),
        (
            "lock_timeout = 1e11",
            "lock_timeout: should be less than or equal to 864000000, not 100000000000.0",
        ),
        ("lock_timeout = inf", "lock_timeout: should be a finite number, not inf"),
        ('administrators = "root"', 'administrators: should be a list, not "root"'),
        ('administrators = ["a", 1]', "administrators[1]: should be a text, not 1"),
        ('administrators = [" a"]', 'administrators[0]: " a" is empty or has white space around it'),
        ('durability = "none"', "durability: should be 'full' or 'process', not \"none\""),
        ('watch = "maybe"', "watch: should be 'auto', 'events' or 'sweep', not \"maybe\""),
        ('whitelist_directories = ["a"]', "whitelist_directories[0]: should be an absolute path, not 'a'"),
        ('whitelist_file = "w"', "whitelist_file: should be an absolute path, not 'w'"),
        ("spoof_file = 3", "spoof_file: should be a path, not 3"),
        ('prefix = "a b"', "prefix: should be a plain path such as /api/v2, not 'a b'"),
        ('prefix = "a/../b"', "prefix: should be a plain path such as /api/v2, not 'a/../b'"),
        ("max_queued = 0", "max_queued: should be greater than or equal to 1, not 0"),
        ("spoofing = 3", "spoofing: should be a table of lists: spoofer = [user, ...]"),
        ("spoofing.a = 'b'", "spoofing: a: should be a list of user names, not 'b'"),
        ("[spoofing]\nadministrators = ['b']", "spoofing: administrators: is a setting, not a user: put it"),
        ("[spoofing]\nport = 80", "spoofing: port: is a setting, not a user: put it above"),
        ('host = ""', 'host: should not be empty, not ""'),
        ('schedule_purge = "1 2 3"', 'schedule_purge: neither "off", nor a number of seconds, nor a cron'),
        (f"schedule_purge = 1{'0' * 400}", "schedule_purge: an interval is at least 1 second and at most"),
        ("schedule_purge = true", "schedule_purge: should be a text, not True"),
        ("prot = 1", "prot: there is no such setting; did you mean port?"),
        ("zzz = 1", "zzz: there is no such setting"),
        ("[whatever]\nport = 1", "whatever: there is no such setting"),
    ],
)
def test_a_wrong_line_is_refused_with_file_key_and_reason(written: Write, line: str, said: str) -> None:
    """Types are strict, keys are known, values are in range; and the problem names file and key."""
    file = written(line)
    found = problems(file)
    assert found[0].startswith(f"{file}: {said}")


def test_all_problems_of_all_sources_at_once(written: Write) -> None:
    """One start tells everything: each line names the file, the variable or the option to mend."""
    file = written('port = "80"\nprot = 1\nmax_queued = 10\n')
    environ = {"GOBBLERD_LOCK_TIMEOUT": "long", "GOBBLERD_LOCK_TIMEUOT": "1"}
    found = problems(file, {"require_marker": "perhaps"}, environ)
    assert [line.partition(": ")[0] for line in found] == [
        file,
        "environment variable GOBBLERD_LOCK_TIMEUOT",
        "option --require-marker",
        file,
        "environment variable GOBBLERD_LOCK_TIMEOUT",
        file,
    ]
    assert found[-1] == f"{file}: max_queued_per_user: is more than max_queued (10)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"registry": "/data/staging/x"}, "staging: /data/staging and the registry /data/staging/x must"),
        ({"staging": "/data/registry/../registry"}, "staging: /data/registry and the registry"),
        ({"max_queued": "5"}, "max_queued_per_user: is more than max_queued (5)"),
        ({"post_expiry": "86401"}, "post_expiry: is more than request_expiry (86400 s)"),
        ({"request_settle": "86400"}, "request_settle: is not less than request_expiry"),
        ({"purge_requests_days": "0.5"}, "purge_requests_days: is less than request_expiry"),
        ({"whitelist_directories": "/data/staging/u"}, "whitelist_directories: /data/staging/u lies in"),
    ],
)
def test_impossible_combinations_are_refused(options: dict[str, str], said: str) -> None:
    """Settings that are right each for itself, but cannot be together."""
    found = problems(None, PLACES | options)
    assert len(found) == 1
    assert said in found[0]


def test_both_places_are_required() -> None:
    """Without staging and registry nothing can be served, and it is said how to name them."""
    assert problems() == [
        "configuration: staging: is missing: set it in the file, as GOBBLERD_STAGING or with --staging",
        "configuration: registry: is missing: set it in the file, as GOBBLERD_REGISTRY or with --registry",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"port = ", "is not TOML: "),
        (b"port = 1\nport = 2", "is not TOML: "),
        (b'prefix = "\xff"', "is not UTF-8 (byte 10)"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, said: str) -> None:
    """The file is named with what is wrong."""
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    assert problems(str(path), PLACES)[0].startswith(f"{path}: {said}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A configuration file that was named must exist."""
    path = str(tmp_path / "none.toml")
    assert problems(path, PLACES) == [f"{path}: cannot be read: No such file or directory"]


def test_what_a_file_that_cannot_be_read_may_hold_is_not_called_missing(tmp_path: Path) -> None:
    """As at a reload with a slip in the file: the one thing to mend is the file."""
    path = tmp_path / "c.toml"
    path.write_text('staging = "/s"\nregistry = "/r"\nport =\n')
    (found,) = problems(str(path), {})
    assert "is not TOML" in found


@pytest.mark.parametrize(
    "line", ['watch = "a\\nforged: b\\u001b[31m"', '"a\\nforged: b\\u001b[31m" = 1', "prefix = 'a\u2028b'"]
)
def test_a_problem_stays_on_its_line(written: Write, line: str) -> None:
    """What a file holds cannot forge a line of the report, nor steer a terminal."""
    (found,) = problems(written(line))
    assert found.isprintable()


def test_paths_and_prefix_are_cleaned() -> None:
    """Paths are clean and absolute, the prefix begins with a slash and does not end with one."""
    config = load(None, {"staging": "//a/./s/", "registry": "/a/b/../r", "prefix": "api/v2/"}, {})
    assert (config.staging, config.registry, config.prefix) == ("/a/s", "/a/r", "/api/v2")
    assert load(None, PLACES | {"prefix": "/"}, {}).prefix == ""


def test_the_two_text_files_and_the_tables_add_up(tmp_path: Path) -> None:
    """Directories of both places count; of two rules for a spoofer the table's does."""
    whitelist, spoof = tmp_path / "w", tmp_path / "s"
    whitelist.write_text("/one\n")
    spoof.write_text("a:x\nb:y\n")
    options = {
        "whitelist_file": str(whitelist),
        "whitelist_directories": "/two",
        "spoof_file": str(spoof),
        "spoofing": '{"b": ["z"]}',
    }
    config = load(None, PLACES | options, {})
    assert sorted(config.whitelist) == ["/one", "/two"]
    assert config.spoofing_rules == {
        "a": SpoofingRule(frozenset({"x"})),
        "b": SpoofingRule(frozenset({"z"})),
    }


def test_a_bad_line_of_a_text_file_is_named(tmp_path: Path) -> None:
    """The daemon does not start, and says which line of which file."""
    spoof = tmp_path / "s"
    spoof.write_text("a:b\nno colon\n")
    found = problems(None, PLACES | {"spoof_file": str(spoof)})
    assert found == [
        f'option --spoof-file: spoof_file: {spoof}, line 2: "no colon" has not exactly one colon'
    ]


def test_the_configuration_cannot_be_changed() -> None:
    """A reload makes a new one; nobody sees half of it."""
    config = load(None, PLACES, {})
    with pytest.raises(ValueError, match="frozen"):
        config.port = 1


def test_changes_needing_restart_are_named() -> None:
    """What a running daemon cannot take over is named; the rest is not."""
    old = load(None, PLACES, {})
    new = load(None, {**PLACES, "registry": "/r", "port": "1", "long_workers": "9", "lock_timeout": "1"}, {})
    merged, waiting = taken_over(old, new)
    assert waiting == ["registry", "port", "long_workers"]
    assert merged == old.model_copy(update={"lock_timeout": 1.0})
    assert taken_over(old, old) == (old, [])


def test_what_does_not_go_together_with_what_waits_for_a_restart_is_not_taken_over() -> None:
    """Another registry and a whitelist with this one in it: right for the next start, not for this daemon."""
    old = load(None, PLACES, {})
    new = load(None, {**PLACES, "registry": "/r", "whitelist_directories": "/data/registry"}, {})
    with pytest.raises(ConfigError) as refused:
        taken_over(old, new)
    assert str(refused.value) == (
        "until a restart takes over registry: whitelist_directories: /data/registry lies in staging or registry"
    )


def test_nothing_of_the_environment_is_read_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a Config takes what it is given; the environment is for `load`."""
    monkeypatch.setenv("GOBBLERD_PORT", "1")
    monkeypatch.setenv("PORT", "1")
    assert Config(**PLACES).port == 8080
    assert load(None, PLACES).port == 1


def test_the_variable_that_names_the_file_is_no_setting() -> None:
    """GOBBLERD_CONFIG is for the command line."""
    assert load(None, PLACES, {"GOBBLERD_CONFIG": "/x"}).port == 8080


def uncommented() -> str:
    """The example with every commented setting switched on."""
    with open(EXAMPLE, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return "\n".join(
        line[1:] if line.startswith("#") and line[1:2] not in {"", " "} else line for line in lines
    )


def test_the_example_names_every_setting_and_nothing_else() -> None:
    """config.example.toml documents every key."""
    assert set(tomllib.loads(uncommented())) == set(Config.model_fields)


def test_the_example_loads_and_asks_for_the_marker() -> None:
    """The shipped configuration works as it is, and is careful about unmounted registries."""
    config = load(EXAMPLE, {}, {})
    assert config.require_marker
    differing = {key for key in Config.model_fields if getattr(config, key) != getattr(Config(**PLACES), key)}
    assert differing == {"staging", "registry", "require_marker"}


def test_commented_values_of_the_example_are_the_defaults(tmp_path: Path) -> None:
    """What the example shows as a default is one."""
    path = tmp_path / "all.toml"
    path.write_text(uncommented())
    assert load(str(path), {}, {}) == load(EXAMPLE, {}, {})


def shows(block: str, key: str) -> bool:
    lines = [line.removeprefix("#") for line in block.splitlines()]
    return any(line.startswith((f"{key} = ", f"[{key}]")) for line in lines)


def test_the_example_says_the_unit_of_every_setting_that_has_one() -> None:
    """Seconds, bytes, days: the comment above each key says which."""
    with open(EXAMPLE, encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    for key, setting in Config.model_fields.items():
        block = next(
            b
            for b in blocks
            if any(line.lstrip("#").startswith(f"{key} =") for line in b.splitlines())
            or b.endswith(f"[{key}]\n")
        )
        assert setting.json_schema_extra["unit"] in block, key
        assert ("(restart)" in block) == setting.json_schema_extra["restart"], key
