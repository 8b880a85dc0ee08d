"""The staging directory: what the daemon refuses to serve, and what it makes at its first start."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gobblerd.staging.directory import Staging, StagingUnusable
from gobblerd.storage.files import Durability, replace_file

HALF = Durability.PROCESS


def opened(path: Path) -> Staging:
    return Staging.open(str(path), HALF)


def test_an_absent_directory_is_refused(tmp_path: Path) -> None:
    """A missing staging directory is never created."""
    with pytest.raises(StagingUnusable, match="does not exist"):
        opened(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_file_is_no_staging_directory(tmp_path: Path) -> None:
    """What is no directory is refused with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StagingUnusable, match="Not a directory"):
        opened(tmp_path / "file")


def test_the_first_start_makes_responses(place: Path) -> None:
    """`responses/` appears with mode 0755 whatever the umask, and only the first start is one."""
    old = os.umask(0o077)
    try:
        staging = opened(place)
    finally:
        os.umask(old)
    assert staging.first_start
    assert (place / "responses").stat().st_mode & 0o7777 == 0o755
    staging.close()
    again = opened(place)
    assert not again.first_start
    again.close()
    assert [entry.name for entry in place.iterdir()] == ["responses"]


@pytest.mark.skipif(not shutil.which("setfacl"), reason="setfacl is not installed: ACLs are NOT TESTED")
@pytest.mark.parametrize("made_before", [False, True])
def test_stagings_default_acl_keeps_nobody_from_responses(place: Path, *, made_before: bool) -> None:
    """What `init` sets shuts out staging's group; responses go by their modes, for whoever is in it."""
    if made_before:  # by a release that left them to the ACL
        (place / "responses").mkdir(mode=0o755)
    rule = "u::rwx,g::---,o::---,m::rwx,u:1234:rwx"
    for each in [place, *place.iterdir()]:
        subprocess.run(["setfacl", "-d", "-m", rule, each], check=True)
    if made_before:
        subprocess.run(["setfacl", "-m", "g::---,u:1234:rwx,m::rx", place / "responses"], check=True)
    staging = opened(place)
    replace_file(staging.responses_fd, "new", "request-x", b"{}", HALF)
    staging.close()
    for path, mode in ((place / "responses", 0o755), (place / "responses/request-x", 0o644)):
        assert [name for name in os.listxattr(path) if "acl" in name] == []
        assert path.stat().st_mode & 0o7777 == mode


def test_the_id_is_for_ever(place: Path) -> None:
    """The staging id is 16 hexadecimal digits, the same at every start."""
    first = opened(place)
    first.close()
    second = opened(place)
    second.close()
    assert first.id == second.id
    assert len(bytes.fromhex(first.id)) == 8


def test_a_damaged_id_is_refused(place: Path) -> None:
    """Transactions are bound to the id: a damaged one must not be replaced silently."""
    opened(place).close()
    (place / "responses" / ".id").write_text("x")
    with pytest.raises(StagingUnusable, match="damaged"):
        opened(place)


def test_one_daemon_per_staging_directory(place: Path) -> None:
    """A second daemon is refused and told who serves; after the first is gone, it may."""
    first = opened(place)
    with pytest.raises(StagingUnusable, match=f"another gobblerd .*process {os.getpid()} on"):
        opened(place)
    first.close()
    opened(place).close()


def test_the_lock_ends_with_the_process(place: Path) -> None:
    """kill -9 leaves no lock behind."""
    code = (
        "import os, sys; from gobblerd.staging.directory import Staging;"
        "from gobblerd.storage.files import Durability;"
        "Staging.open(sys.argv[1], Durability.PROCESS); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(place)], check=False).returncode == -9
    opened(place).close()


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_responses_must_be_a_real_directory(place: Path, tmp_path: Path, kind: str) -> None:
    """A file or a symbolic link called `responses` is refused and left alone."""
    target = tmp_path / "elsewhere"
    if kind == "file":
        (place / "responses").touch()
    else:
        if kind == "link":
            target.mkdir()
        (place / "responses").symlink_to(target)
    with pytest.raises(StagingUnusable, match="not a directory of gobblerd's own"):
        opened(place)
    assert kind == "file" or (place / "responses").is_symlink()
    assert not target.exists() or not list(target.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root (NOT TESTED on this run)")
def test_responses_of_another_user_are_refused(place: Path) -> None:
    """In a directory of somebody else's, responses could be forged."""
    (place / "responses").mkdir()
    os.chown(place / "responses", 7001, 7001)
    with pytest.raises(StagingUnusable, match="belongs to user 7001"):
        opened(place)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_responses_writable_by_others_are_refused(place: Path, mode: int) -> None:
    """The same where others may write."""
    (place / "responses").mkdir()
    (place / "responses").chmod(mode)
    with pytest.raises(StagingUnusable, match=f"mode {mode:o}"):
        opened(place)


def test_responses_appears_together_with_its_takeover_list(place: Path) -> None:
    """Whenever `responses/` is there, so is the list of what was there before it."""
    (place / "request-a-1").touch()
    (place / "other").touch()
    opened(place).close()
    listed = json.loads((place / "responses" / ".takeover").read_text())
    assert listed == [["request-a-1", (place / "request-a-1").stat().st_ino]]


def test_a_start_killed_before_the_rename_is_made_again(place: Path) -> None:
    """A leftover of a first start that was killed is no obstacle."""
    (place / ".responses-1-abcd").mkdir()
    staging = opened(place)
    assert staging.first_start
    staging.close()


def test_losing_the_race_of_two_first_starts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another daemon makes `responses/` first, its list stands."""
    rename = os.rename

    def slower(*arguments: Any, **keywords: Any) -> None:
        monkeypatch.undo()
        (place / "responses").mkdir()
        (place / "responses" / ".takeover").write_text("[]")
        rename(*arguments, **keywords)

    monkeypatch.setattr(os, "rename", slower)
    (place / "request-a-1").touch()
    staging = opened(place)
    assert not staging.first_start
    assert (place / "responses" / ".takeover").read_text() == "[]"
    assert [entry.name for entry in place.iterdir() if entry.name.startswith(".")] == []
    staging.close()


def test_the_clock_is_the_file_servers(place: Path) -> None:
    """Now is between the ctimes of files made before and after."""
    staging = opened(place)
    (place / "before").touch()
    now = staging.clock.now()
    assert abs(now - (place / "before").stat().st_ctime_ns) < 10**10
    staging.close()


def test_responses_that_were_taken_away_are_noticed(place: Path) -> None:
    """Nobody could be answered, and the lock is gone with them: said until they are back."""
    staging = opened(place)
    (place / "responses").rename(place / "away")
    assert "responses/ was taken away" in staging.trouble()
    (place / "responses").mkdir()
    assert "responses/ was taken away" in staging.trouble()
    (place / "responses").rmdir()
    (place / "away").rename(place / "responses")
    assert staging.trouble() == ""
    staging.close()


def test_a_replaced_directory_is_noticed(place: Path) -> None:
    """`trouble` tells when the path no longer leads to what is open, and when it does again."""
    staging = opened(place)
    assert staging.trouble() == ""
    place.rename(place.with_name("aside"))
    assert "cannot be reached" in staging.trouble()
    place.mkdir()
    assert "replaced" in staging.trouble()
    place.rmdir()
    place.with_name("aside").rename(place)
    assert staging.trouble() == ""
    staging.close()
