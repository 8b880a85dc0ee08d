"""gobblerd.cli.recover: what was found, as a table, and an exit code."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.places import Users, give_to

from gobblerd.cli.main import command
from gobblerd.domain.errors import Fault, told
from gobblerd.registry import recovery_report
from gobblerd.registry.recovery_report import RecoveryFinding

ID = "0123456789abcdef"
FINISHED = RecoveryFinding("aa11", "committed", ("p/a/1", "p"), "finish the committed change", "finished")
LEFT = RecoveryFinding("b2", "uncommitted", (), "discard when its daemon starts", "left to its daemon")
FAILED = RecoveryFinding("c3", "committed", ("q\n\x1b[31m",), "finish", "failed: q stayed locked")


@pytest.fixture
def finding(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Make recovery find things; returns the dry-run flags that it was called with."""

    def find(*findings: RecoveryFinding) -> list[bool]:
        asked: list[bool] = []

        def recover_all(root: str, *, dry_run: bool, gone: str | None) -> list[RecoveryFinding]:
            assert os.path.isabs(root)
            assert gone in {None, ID}
            asked.append(dry_run)
            return list(findings)

        monkeypatch.setattr(recovery_report, "recover_all", recover_all)
        return asked

    return find


def test_a_registry_at_rest(tmp_path: Path) -> None:
    """With the real recovery: nothing to do, and nothing made."""
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert (shown.exit_code, shown.output) == (0, f"nothing to recover in {tmp_path}\n")
    assert os.listdir(tmp_path) == []


def test_the_table(tmp_path: Path, finding: Callable[..., list[bool]]) -> None:
    """A line per transaction, in columns."""
    asked = finding(FINISHED, LEFT)
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert shown.exit_code == 0
    assert asked == [False]
    assert shown.output.splitlines() == [
        "transaction  state        places    action                          done",
        "aa11         committed    p/a/1, p  finish the committed change     finished",
        "b2           uncommitted  -         discard when its daemon starts  left to its daemon",
    ]


def test_a_dry_run_is_passed_on(tmp_path: Path, finding: Callable[..., list[bool]]) -> None:
    """Nothing is done then."""
    asked = finding()
    assert CliRunner().invoke(command, ["recover", "--dry-run", str(tmp_path)]).exit_code == 0
    assert asked == [True]


def test_what_waits_for_a_daemon_has_a_way_out(tmp_path: Path, finding: Callable[..., list[bool]]) -> None:
    """One sentence for each staging directory; what waits for no daemon has none."""
    waits = RecoveryFinding(
        "d4", "applied", ("p",), "answer x when its daemon starts", "waits for its daemon", ID
    )
    finding(FINISHED, waits, waits)
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) == 5
    assert shown.output.splitlines()[-1].endswith(f"gobblerd recover --gone {ID} {tmp_path}")
    finding(FINISHED)
    shown = CliRunner().invoke(command, ["recover", "--gone", ID, str(tmp_path)])
    assert (shown.exit_code, len(shown.output.splitlines())) == (0, 2)


@pytest.mark.parametrize("given", ["", "x" * 16, "0123", ID.upper()])
def test_what_is_no_staging_directory_s_id(tmp_path: Path, given: str) -> None:
    """A usage error that says where to find one."""
    shown = CliRunner().invoke(command, ["recover", "--gone", given, str(tmp_path)])
    assert shown.exit_code == 2
    assert "responses/.id" in shown.output


def test_what_could_not_be_done_is_exit_code_1(tmp_path: Path, finding: Callable[..., list[bool]]) -> None:
    """And names on disk cannot steer the terminal."""
    finding(FINISHED, FAILED)
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert shown.exit_code == 1
    assert "failed: q stayed locked" in shown.output
    assert "\x1b" not in shown.output
    assert len(shown.output.splitlines()) == 3


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    """Said in a sentence, and not made."""
    shown = CliRunner().invoke(command, ["recover", str(tmp_path / "none")])
    assert shown.exit_code == 1
    assert shown.output == f"Error: the registry {tmp_path}/none is not there\n"


def test_it_is_the_accounts_to_run(tmp_path: Path, users: Users, finding: Callable[..., list[bool]]) -> None:
    """What root made there, a lock perhaps, the daemon could not open; only to look does no harm."""
    asked = finding()
    give_to(str(tmp_path), users.bob)
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert shown.exit_code == 1
    assert (
        f"is {users.bob}'s, and all in it must be: run this as that account (runuser -u {users.bob}"
        in shown.output
    )
    assert asked == []
    assert CliRunner().invoke(command, ["recover", "--dry-run", str(tmp_path)]).exit_code == 0
    assert asked == [True]


@pytest.mark.parametrize("error", [Fault("the disk is gone"), OSError(5, "Input/output error")])
def test_a_failing_recovery_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Fault | OSError
) -> None:
    """No traceback."""

    def recover_all(root: str, *, dry_run: bool, gone: str | None) -> list[RecoveryFinding]:
        raise error

    monkeypatch.setattr(recovery_report, "recover_all", recover_all)
    shown = CliRunner().invoke(command, ["recover", str(tmp_path)])
    assert shown.exit_code == 1
    assert shown.output == f"Error: {told(error)}\n"
