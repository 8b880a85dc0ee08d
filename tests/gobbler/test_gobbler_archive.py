"""`gobbler archive create|export|rename|prune`, as users run them."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gobbler.shell import Shell, make_home
from support.archives import members_of
from support.daemon import StartDaemon
from support.places import make_directory

FILES = {"f": b"one", "d/g": b"two two"}


@pytest.fixture(scope="module")
def shell(base: str, start_module_daemon: StartDaemon) -> Shell:
    """Return a shell by a daemon that exports, and whose registry holds lab/set 1 and 2."""
    exports = make_directory(os.path.join(base, "exports"), 0o755)
    daemon = start_module_daemon(settings={"export_directory": exports}, http=False)
    daemon.done("create_project", {"project": "lab"})
    for version in ("1", "2"):
        daemon.upload(f"lab/set/{version}", {**FILES, "version": version.encode()})
    places = {"GOBBLER_STAGING": daemon.staging, "GOBBLER_REGISTRY": daemon.registry, "EXPORTS": exports}
    return Shell(make_home(base), daemon, places)


@pytest.fixture
def out(shell: Shell, tmp_path: Path) -> Iterator[str]:
    """Return a directory of the user's."""
    path = tmp_path / "out"
    path.mkdir()
    yield str(path)
    assert [name for name in os.listdir(path) if name.endswith(".partial")] == []


def test_the_latest_version_becomes_an_archive_here(shell: Shell) -> None:
    """Its path is printed, the receipt lies beside it; again is refused, --overwrite replaces it."""
    path = os.path.join(shell.home, shell.say("archive", "create", "lab", "set").strip())
    try:
        assert members_of(path)["lab_set_2/version"] == b"2"
        receipt = json.loads(Path(f"{path}.receipt.json").read_bytes())
        assert receipt["predicate"]["version"] == "2"
        assert "is there already" in shell.refused("archive", "create", "lab", "set", "2")
        shell.say("archive", "create", "lab", "set", "2", "--overwrite")
    finally:
        os.unlink(path)
        os.unlink(f"{path}.receipt.json")


def test_every_property_of_an_archive_has_its_option(shell: Shell, out: str) -> None:
    """And --json tells what was made."""
    note = os.path.join(out, "note")
    Path(note).write_bytes(b"n")
    options = [
        "--prefix",
        "top",
        "--exclude",
        "d",
        "--add",
        f"NOTE={note}",
        "--clamp-mtime",
        "5",
        "--threads",
        "2",
    ]
    made: Any = shell.json(
        "archive", "create", "lab", "set", "1", "-o", f"{out}/x.zip", "--links", "preserve", *options
    )
    assert made["archive"] == f"{out}/x.zip"
    assert made["receipt"] == f"{out}/x.zip.receipt.json"
    assert made["entries"] == 6
    assert set(members_of(made["archive"])) == {
        "top", "top/..manifest", "top/..summary", "top/NOTE", "top/f", "top/version",
    }  # fmt: skip
    named = shell.json(
        "archive",
        "create",
        "lab",
        "set",
        "1",
        "-o",
        out,
        "--name-template",
        "{asset}-{version}{suffix}",
        "--format",
        "tar",
    )
    assert os.path.basename(named["archive"]) == "set-1.tar"


def test_any_directory_or_files_can_be_archived(shell: Shell, out: str) -> None:
    top = os.path.join(out, "run")
    os.makedirs(f"{top}/sub")
    for name in ("a", "sub/b"):
        Path(f"{top}/{name}").write_bytes(b"x")
    assert shell.say("archive", "create", "-p", top, "-o", f"{out}/run.tar.gz").strip() == f"{out}/run.tar.gz"
    assert set(members_of(f"{out}/run.tar.gz")) == {"run", "run/a", "run/sub", "run/sub/b"}
    flat = ["-p", f"{top}/a", "-p", f"{top}/sub/b", "--flatten", "--prefix", "flat", "-o", f"{out}/flat.tar"]
    shell.say("archive", "create", *flat)
    assert set(members_of(f"{out}/flat.tar")) == {"flat", "flat/a", "flat/b"}


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["lab", "set", "9"], 1, 'no version "lab/set/9"'),
        (["lab", "none"], 1, "no latest version"),
        (["lab"], 2, "PROJECT ASSET"),
        ([], 2, "PROJECT ASSET"),
        (["lab", "set", "-p", "."], 2, "not both"),
        (["lab", "set", "--add", "x"], 2, "NAME=FILE"),
        (["lab", "set", "--add", "f=bin/gobbler"], 1, "same name"),
        (["lab", "set", "--name-template", "{x}"], 1, "no field"),
        (["lab", "set", "--registry", "/none"], 2, "gobbler archive export"),
        (["lab", "set", "-o", "/none/x.zip"], 1, "no directory"),
        (["lab", "set", "-o", "x.zip", "--format", "tar"], 1, "named as"),
    ],
)
def test_mistakes_have_their_exit_codes_and_sentences(
    arguments: list[str], code: int, why: str, shell: Shell
) -> None:
    assert why in shell.refused("archive", "create", *arguments, code=code)


def test_a_receipt_is_signed_by_the_sites_own_command(shell: Shell, out: str) -> None:
    """Which gets its path; where it fails, that is said, and the archive stays."""
    sign = Path(out, "sign")
    sign.write_text('#!/bin/sh\n[ "$1" = --key ] && echo signed >"$3.sig"\n')
    sign.chmod(sign.stat().st_mode | stat.S_IXUSR)
    shell.say("archive", "create", "lab", "set", "1", "-o", f"{out}/x.tar", "--sign-with", f"{sign} --key k")
    assert Path(f"{out}/x.tar.receipt.json.sig").read_text() == "signed\n"
    assert "signing failed" in shell.refused(
        "archive", "create", "lab", "set", "-o", f"{out}/y.tar", "--sign-with", "false"
    )
    assert os.path.exists(f"{out}/y.tar")
    assert "none" in shell.refused(
        "archive", "create", "lab", "set", "-o", f"{out}/z.tar", "--sign-with", "none"
    )


def test_the_service_writes_the_same_archive(shell: Shell, out: str) -> None:
    mine = shell.json("archive", "create", "lab", "set", "2", "-o", out)
    theirs = shell.json("archive", "export", "lab", "set")
    assert os.path.dirname(theirs["archive"]) == shell.exported["EXPORTS"]
    assert theirs["sha256"] == mine["sha256"]
    assert shell.say("archive", "export", "lab", "set", "1", "--format", "zip").strip().endswith(".zip")
    assert "lab/set/9" in shell.refused("archive", "export", "lab", "set", "9")


def test_a_version_is_copied_as_a_plain_directory(shell: Shell, out: str) -> None:
    said = shell.say("archive", "export", "lab", "set", "1", "--to", f"{out}/copy")
    assert said == f"5 files in {out}/copy\n"
    assert Path(out, "copy/d/g").read_bytes() == b"two two"
    assert "is there already" in shell.refused("archive", "export", "lab", "set", "1", "--to", f"{out}/copy")
    assert "has none" in shell.refused(
        "archive", "export", "lab", "set", "--to", "x", "--format", "zip", code=2
    )


def test_archives_are_renamed_and_pruned(shell: Shell, out: str) -> None:
    """Pruning says what it would do, and does it."""
    for version in ("1", "2"):
        shell.say("archive", "create", "lab", "set", version, "-o", f"{out}/{version}.tar")
    renamed = shell.say("archive", "rename", f"{out}/1.tar", f"{out}/2.tar").splitlines()
    assert [os.path.basename(path).rpartition("_")[0] for path in renamed] == ["lab_set_1", "lab_set_2"]
    assert sorted(os.listdir(out)) == sorted(
        os.path.basename(each) for path in renamed for each in (path, f"{path}.receipt.json")
    )
    planned = shell.json("archive", "prune", out, "--keep-last", "1", "--dry-run")
    assert (planned["removed"], planned["dry_run"]) == ([os.path.basename(renamed[0])], True)
    assert "1 archive removed, 1 kept" in shell.say("archive", "prune", out, "--keep-last", "1")
    assert sorted(os.listdir(out)) == [
        os.path.basename(renamed[1]),
        f"{os.path.basename(renamed[1])}.receipt.json",
    ]
    assert "--keep-last" in shell.refused("archive", "prune", out, code=2)
