"""gobblerd.cli.check_config: the effective configuration, or every problem."""

import os
import tomllib
from pathlib import Path

from click.testing import CliRunner

from gobblerd.cli.main import command
from gobblerd.service.config import Config, load

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "config.example.toml")


def test_the_shipped_configuration_is_right() -> None:
    """Exit code 0, and every setting shown."""
    shown = CliRunner().invoke(command, ["check-config", "--config", EXAMPLE])
    assert shown.exit_code == 0
    for key in Config.model_fields:
        assert key in shown.output


def test_what_is_shown_is_a_configuration_again(tmp_path: Path) -> None:
    """It can be kept as a file, and means the same."""
    (tmp_path / "w").write_text("/data\n")
    (tmp_path / "p").write_text("x:*,-root\n")
    options = {
        "staging": "/a/s",
        "registry": '/a/"r"\u00e9',
        "administrators": "alice,bob,\U0001f600\x7f\t.\\,\U000e0001",
        "spoofing": '{"portal": ["*", "-root"], "a b": ["c"]}',
        "whitelist_file": str(tmp_path / "w"),
        "spoof_file": str(tmp_path / "p"),
        "write_settle": "0.125",
        "require_marker": "true",
        "schedule_purge": "off",
    }
    args = [f"--{key.replace('_', '-')}={text}" for key, text in options.items() if key != "require_marker"]
    shown = CliRunner().invoke(command, ["check-config", *args, "--require-marker"])
    assert shown.exit_code == 0, shown.output
    assert '#   "/data"' in shown.output
    assert '#   "x" = ["*", "-root"]' in shown.output
    assert tomllib.loads(shown.output)["administrators"] == options["administrators"].split(",")
    file = tmp_path / "again.toml"
    file.write_text(shown.output)
    assert load(str(file), {}, {}) == load(None, options, {})


def test_every_problem_is_shown(tmp_path: Path) -> None:
    """Exit code 2, a line each."""
    file = tmp_path / "c.toml"
    file.write_text('port = "a"\nregistry = "r"\n')
    shown = CliRunner().invoke(command, ["check-config", "--config", str(file)])
    assert shown.exit_code == 2
    assert len(shown.output.splitlines()) == 3
