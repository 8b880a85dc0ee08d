"""gobblerd.cli.init: directories with the right modes, or adopted as they are."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.corpus import as_it_is
from support.places import Users, as_user, open_directory

from gobblerd.cli.main import command
from gobblerd.registry import layout
from gobblerd.staging.directory import Staging
from gobblerd.storage.files import Durability, replace_file

CORPUS = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "data", "corpus", "go-registry.tar.gz"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: it gives directories away (NOT TESTED)"
)


def run(*args: object) -> Result:
    return CliRunner().invoke(command, ["init", *map(str, args)])


def done(*args: object) -> str:
    found = run(*args)
    assert found.exit_code == 0, found.output
    return found.output


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def tree(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything of every file below a directory."""
    return {
        str(path.relative_to(root)): (
            info.st_mode,
            info.st_uid,
            info.st_mtime_ns,
            path.read_bytes() if stat.S_ISREG(info.st_mode) else b"",
        )
        for path in root.rglob("*")
        if (info := path.lstat())
    }


@pytest.fixture
def go_registry(tmp_path: Path) -> Path:
    """A registry as a Go service left it."""
    registry = tmp_path / "r"
    registry.mkdir()
    with tarfile.open(CORPUS) as archive:
        archive.extraction_filter = as_it_is
        archive.extractall(registry)
    registry.chmod(0o750)
    return registry


def test_both_directories_are_made(tmp_path: Path) -> None:
    """Staging for everyone and sticky, the registry for reading, with logs and marker."""
    staging, registry = tmp_path / "s", tmp_path / "r"
    umask = os.umask(0o077)
    try:
        said = done(staging, registry)
    finally:
        os.umask(umask)
    assert (mode(staging), mode(registry), mode(registry / layout.LOGS)) == (0o1777, 0o755, 0o755)
    assert set(os.listdir(registry)) == {layout.MARKER, layout.LOGS}
    marker = json.loads((registry / layout.MARKER).read_text())
    assert marker["format"] == layout.MARKER_FORMAT
    assert len(bytes.fromhex(marker["id"])) == 16
    assert mode(registry / layout.MARKER) == 0o644
    assert f"gobblerd serve --staging {staging} --registry {registry}" in said


def test_each_registry_has_an_id_of_its_own(tmp_path: Path) -> None:
    """Two registries are told apart."""
    done(tmp_path / "s", tmp_path / "r")
    done(tmp_path / "s2", tmp_path / "r2")
    assert (tmp_path / "r" / layout.MARKER).read_text() != (tmp_path / "r2" / layout.MARKER).read_text()


def test_empty_directories_are_taken(tmp_path: Path) -> None:
    """Also the root of a fresh filesystem, with its lost+found."""
    (tmp_path / "s").mkdir(mode=0o700)
    (tmp_path / "r" / "lost+found").mkdir(parents=True)
    done(tmp_path / "s", tmp_path / "r")
    assert mode(tmp_path / "s") == 0o1777


@pytest.mark.parametrize("full", ["s", "r"])
def test_what_is_not_empty_is_refused(tmp_path: Path, full: str) -> None:
    """Nothing is touched without --adopt."""
    (tmp_path / full / "x").mkdir(parents=True)
    before = tree(tmp_path)
    found = run(tmp_path / "s", tmp_path / "r")
    assert found.exit_code == 1
    assert f"{tmp_path / full} is not empty; to take it as it is, add --adopt" in found.output
    assert tree(tmp_path) == before


def test_a_go_registry_is_adopted_and_nothing_in_it_changes(tmp_path: Path, go_registry: Path) -> None:
    """The marker comes, and ..logs where there is none."""
    before = tree(go_registry)
    done(tmp_path / "s", go_registry, "--adopt")
    after = tree(go_registry)
    assert after.pop(layout.MARKER)
    assert after == before
    assert mode(go_registry) == 0o750


@pytest.mark.parametrize("document", ["..permissions", "..latest", "..manifest"])
def test_a_place_in_a_registry_is_none(tmp_path: Path, go_registry: Path, document: str) -> None:
    """One directory too deep, or two, or three: nothing is touched."""
    before = tree(go_registry)
    place = next(go_registry.rglob(document)).parent
    found = run(tmp_path / "s", place, "--adopt")
    assert found.exit_code == 1
    assert f"{place} holds {document}: it lies in a registry" in found.output.replace("\n", " ")
    assert tree(go_registry) == before
    assert not (tmp_path / "s").exists()


def test_adopting_makes_the_logs_directory(tmp_path: Path) -> None:
    """A registry that never had an event."""
    (tmp_path / "r" / "project").mkdir(parents=True)
    done(tmp_path / "s", tmp_path / "r", "--adopt")
    assert mode(tmp_path / "r" / layout.LOGS) == 0o755


def test_adopting_again_changes_nothing(tmp_path: Path, go_registry: Path) -> None:
    """The id stays for ever."""
    done(tmp_path / "s", go_registry, "--adopt")
    before = tree(tmp_path)
    assert "is there already" in done(tmp_path / "s", go_registry, "--adopt")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["", "{}", '{"format": "gobblerd-registry-2", "id": "0"}'])
def test_a_marker_of_something_else_is_refused(tmp_path: Path, go_registry: Path, text: str) -> None:
    """A newer format, or a broken file: not touched, nor anything else."""
    (go_registry / layout.MARKER).write_text(text)
    before = tree(tmp_path)
    found = run(tmp_path / "s", go_registry, "--adopt")
    assert found.exit_code == 1
    assert "is not a marker that this gobblerd knows" in found.output
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("staging", "registry", "said"),
    [
        ("s", "s/r", "must not lie within each other"),
        ("r/s", "r", "must not lie within each other"),
        ("s", "s", "must not lie within each other"),
        ("none/s", "r", "none is not there; make it first"),
        ("file", "r", "file is not a directory"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, staging: str, registry: str, said: str) -> None:
    """Refused before anything is made."""
    (tmp_path / "file").touch()
    found = run(tmp_path / staging, tmp_path / registry)
    assert found.exit_code == 1
    assert said in found.output
    assert os.listdir(tmp_path) == ["file"]


@needs_root
def test_an_owner_is_given_everything_new(tmp_path: Path) -> None:
    """Both directories, logs and marker belong to the service account."""
    said = done(tmp_path / "s", tmp_path / "r", "--owner", "daemon")
    owner = os.stat(tmp_path / "s")
    assert owner.st_uid != 0
    for path in ("r", f"r/{layout.LOGS}", f"r/{layout.MARKER}"):
        assert (os.stat(tmp_path / path).st_uid, os.stat(tmp_path / path).st_gid) == (
            owner.st_uid,
            owner.st_gid,
        )
    assert "(as daemon)" in said


@needs_root
def test_a_registry_stays_with_the_account_that_wrote_it(tmp_path: Path, go_registry: Path) -> None:
    """Adopting without --owner follows the registry; another owner is refused."""
    os.chown(go_registry, 1, 1)
    found = run(tmp_path / "s", go_registry, "--adopt", "--owner", "root")
    assert found.exit_code == 1
    assert "the account that wrote a registry continues it" in found.output
    done(tmp_path / "s", go_registry, "--adopt")
    assert os.stat(go_registry / layout.MARKER).st_uid == os.stat(tmp_path / "s").st_uid == 1


def test_an_owner_that_is_nobody(tmp_path: Path) -> None:
    """A name that does not resolve."""
    assert (
        "there is no user nobody-of-this-name"
        in run(tmp_path / "s", tmp_path / "r", "--owner", "nobody-of-this-name").output
    )


@needs_root
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('echo "$@" > {log}', "set default ACLs on"),
        (
            "echo Operation not supported >&2; exit 1",
            "could not set default ACLs on {staging}: Operation not supported",
        ),
        (None, "setfacl is not installed"),
    ],
)
def test_default_acls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str) -> None:
    """Set where there is a way to; else it is said what that means."""
    programs, log, staging = tmp_path / "bin", tmp_path / "log", tmp_path / "s"
    programs.mkdir()
    if script is not None:
        (programs / "setfacl").write_text(f"#!/bin/sh\n{script.format(log=log)}\n")
        (programs / "setfacl").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert said.format(staging=staging) in done(staging, tmp_path / "r", "--owner", "daemon")
    if log.exists():
        assert log.read_text() == f"-d -m u::rwx,g::---,o::---,m::rwx,u:daemon:rwx {staging}\n"


@pytest.mark.skipif(
    not shutil.which("setfacl"), reason="setfacl is not installed: default ACLs are NOT TESTED"
)
def test_default_acls_close_files_to_other_users(users: Users) -> None:
    """The account reads what a user writes under any umask; other users neither read nor write it."""
    with open_directory() as base:
        arguments = ["init", f"{base}/staging", f"{base}/registry", "--owner", users.carol]
        subprocess.run([sys.executable, "-m", "gobblerd", *arguments], check=True, stdout=subprocess.DEVNULL)
        for umask in ("000", "022", "077"):
            made = f"{base}/staging/{umask}"
            script = f"umask {umask}; mkdir {made} && echo mine > {made}/file"
            subprocess.run([*as_user(users.alice), "sh", "-c", script], check=True)
            for user, test, expected in (
                (users.carol, "-r", 0),
                (users.bob, "-r", 1),
                (users.bob, "-w", 1),
                (users.alice, "-w", 0),
            ):
                ran = subprocess.run([*as_user(user), "test", test, f"{made}/file"], check=False)
                assert ran.returncode == expected, (umask, user, test)


@pytest.mark.skipif(
    not shutil.which("setfacl"), reason="setfacl is not installed: default ACLs are NOT TESTED"
)
def test_responses_are_for_everybody_whatever_the_default_acl(users: Users) -> None:
    """The daemon's files inherit what `init` set for the users' files, and must be readable all the same."""
    with open_directory() as base:
        run(f"{base}/staging", f"{base}/registry", "--owner", users.carol)
        staging = Staging.open(f"{base}/staging", Durability.FULL)
        replace_file(staging.responses_fd, ".new", "request-x-1", b"{}", Durability.FULL)
        path = f"{base}/staging/responses/request-x-1"
        subprocess.run([*as_user(users.bob), "cat", path], check=True, stdout=subprocess.DEVNULL)
        staging.close()
