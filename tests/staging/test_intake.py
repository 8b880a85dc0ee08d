"""One open, and judging what was opened: every row of the hostile table that concerns request files."""

import errno
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from staging.rooms import ALICE, BOB, BODY, NAME, Desk

from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Claim, check_request_name
from gobblerd.staging.look import Gone, Hint, Refusal
from gobblerd.staging.settings import SpoolLimits
from gobblerd.staging.users import NameServiceFailed, Users
from gobblerd.storage import native

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root (NOT TESTED on this run)")


def test_a_claim_tells_who_asks_for_what(desk: Desk) -> None:
    """Owner, bytes and identity come from the opened file."""
    path = desk.drop(uid=0)
    claim, status = desk.claimed(), path.stat()
    assert (claim.action, claim.uid, claim.user, claim.body) == ("refresh_usage", 0, "root", BODY)
    assert claim.identity.key == (NAME, status.st_ino, status.st_mtime_ns, len(BODY))
    assert len(claim.identity.digest) == 16


def test_a_uid_without_a_name_is_its_number(desk: Desk) -> None:
    """A UID without a passwd entry is no crash, but its decimal form."""
    desk.drop(uid=54321)
    assert desk.claimed().user == "54321"


@pytest.mark.parametrize("name", ["request-", "request-x", "request--1"])
def test_a_name_without_an_action_is_claimed_for_dispatch_to_refuse(desk: Desk, name: str) -> None:
    """Unknown actions are dispatch's business."""
    desk.drop(name)
    assert desk.claimed(name).action == ""


def test_what_is_not_there_is_gone(desk: Desk) -> None:
    """A name without a file is neither an error nor a request."""
    assert desk.look("request-a-1") == Gone("request-a-1")


@pytest.mark.parametrize("hint", list(Hint))
def test_a_symbolic_link_is_refused_unread(desk: Desk, tmp_path: Path, hint: Hint) -> None:
    """A link to a secret (or to a good request) is not followed; the refusal is about the link itself."""
    (tmp_path / "secret").write_bytes(BODY)
    link = desk.place / NAME
    link.symlink_to(tmp_path / "secret")
    os.chown(link, ALICE, ALICE, follow_symlinks=False)
    look = desk.look(NAME, hint)
    assert isinstance(look, Refusal)
    assert (look.code, look.uid, look.identity.inode) == (400, ALICE, link.lstat().st_ino)
    assert "symbolic link" in look.reason


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "directory"])
def test_what_is_no_regular_file_is_refused_and_never_blocks(desk: Desk, kind: str) -> None:
    """A FIFO must not hang the daemon."""
    path = desk.place / NAME
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.fspath(path))
    elif kind == "device":
        os.mknod(path, 0o20644, os.makedev(1, 5))
    else:
        path.mkdir()
    code, reason = desk.refused()
    assert code == 400
    assert "not a regular file" in reason


def test_a_hard_link_is_refused_unread(desk: Desk) -> None:
    """A second link to somebody's file is no request of theirs."""
    os.link(desk.drop("request-a-1"), desk.place / NAME)
    assert "hard link" in desk.refused()[1]


def test_a_huge_sparse_file_is_refused_unread(desk: Desk) -> None:
    """2 GiB of nothing: judged by its size, health check or not."""
    for name in (NAME, "request-health_check-1"):
        os.truncate(desk.drop(name), 2 << 30)
        began = time.process_time()
        assert desk.refused(name)[0] == 413
        assert time.process_time() - began < 0.5


def test_a_request_at_the_size_limit_is_taken(desk: Desk) -> None:
    """The limit itself is allowed, one byte more is not."""
    desk.limits = SpoolLimits(max_request_bytes=len(BODY))
    desk.drop()
    desk.claimed()
    desk.drop(body=BODY + b" ")
    assert desk.refused()[0] == 413


def test_nobody_is_refused(desk: Desk) -> None:
    """What root_squash makes of root is nobody in particular."""
    desk.drop(uid=65534)
    assert desk.refused()[0] == 403


def test_a_name_that_is_not_utf8_is_refused(desk: Desk) -> None:
    """Such a name could not be spoken of in JSON."""
    name = os.fsdecode(b"request-health_check-\xff")
    desk.drop(name)
    assert desk.refused(name) == (
        400,
        'the request file name "request-health_check-\\udcff" is not valid UTF-8',
    )


@pytest.mark.parametrize(
    "name", ["", "x", "..", "request", "request-a/b", "request-a\0", "request-" + "x" * 248, "../request-a"]
)
def test_only_plain_request_names_are_asked_for(name: str) -> None:
    """Anything but a plain file name beginning with `request-` is Wrong."""
    with pytest.raises(Wrong):
        check_request_name(name)


def test_names_with_controls_are_plain_names() -> None:
    """A name may hold anything else that a file's name can; reasons escape it."""
    check_request_name("request-a-\n\x1b[31m")


# Complete or not


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": 1}}', b"[]", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000]
)
def test_what_is_no_json_object_is_waited_for(desk: Desk, body: bytes) -> None:
    """Empty or unparsable content waits for `request_settle` of ctime, then dispatch says what is wrong."""
    desk.drop(body=body)
    assert 0 < desk.unsettled().wait <= 10
    desk.age(10.1)
    assert desk.claimed().body == body


def test_a_post_of_a_non_empty_file_judges_at_once(desk: Desk) -> None:
    """Who POSTs has finished writing; an empty file waits like the rest."""
    desk.drop(body=b"{")
    assert desk.claimed(hint=Hint.POSTED).body == b"{"
    desk.drop(body=b"")
    desk.unsettled(hint=Hint.POSTED)


@pytest.mark.parametrize("hint", [Hint.CLOSED, Hint.SWEPT])
def test_a_file_closed_in_place_is_taken_a_little_later(desk: Desk, hint: Hint) -> None:
    """`cp -p` changes owner and times after closing: `write_settle` of ctime must have passed."""
    desk.drop()
    assert 0 < desk.unsettled(hint=hint).wait <= 0.05
    desk.age(0.06)
    desk.claimed(hint=hint)


@pytest.mark.parametrize("hint", [Hint.RENAMED, Hint.POSTED])
def test_a_file_renamed_in_or_posted_is_taken_at_once(desk: Desk, hint: Hint) -> None:
    """There is nothing to wait for."""
    desk.drop()
    desk.claimed(hint=hint)


def test_a_writer_that_never_closes_does_not_hold_up(desk: Desk) -> None:
    """Content counts, not the close: no proper prefix of a JSON object is one."""
    with (desk.place / NAME).open("wb", buffering=0) as file:
        file.write(BODY[:5])
        desk.unsettled()
        file.write(BODY[5:])
        assert desk.claimed().body == BODY


def test_a_clock_that_stands_before_the_files_time_does_not_wait_for_ever(desk: Desk) -> None:
    """If the file server's clock is set back, what counts is how long we have waited."""
    desk.drop(body=b"")
    desk.age(-3600)
    first = desk.unsettled()
    assert first.wait <= 10
    desk.limits = SpoolLimits(request_settle=0.05)
    time.sleep(0.06)
    assert isinstance(desk.look(earlier=first), Claim)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes handed on are those of one state of the file."""
    path = desk.drop()
    read = os.read

    def slow(fd: int, count: int) -> bytes:
        data = read(fd, count)
        path.write_bytes(BODY + b" ")
        return data

    monkeypatch.setattr(native, "SINGLE", None)  # whose reading is not to be had from here
    monkeypatch.setattr(os, "read", slow)
    assert desk.unsettled(hint=Hint.POSTED).wait < 0.1
    monkeypatch.undo()
    assert desk.claimed().body == BODY + b" "


# Ages


@pytest.mark.parametrize("hint", [Hint.SWEPT, Hint.RENAMED, Hint.CLOSED])
def test_a_request_older_than_a_day_is_refused(desk: Desk, hint: Hint) -> None:
    """By ctime: setting the mtime does not make it younger."""
    path = desk.drop()
    desk.age(86_401)
    os.utime(path, (2**33, 2**33))
    now = desk.staging.clock.now
    desk.staging.clock.now = lambda: now() + 10**9  # type: ignore[method-assign]  after that ctime
    code, reason = desk.refused(hint=hint)
    assert code == 400
    assert "drop it again" in reason


def test_a_post_for_a_file_older_than_a_minute_is_refused(desk: Desk) -> None:
    """`post_expiry`; what the sweep finds may be a day old."""
    desk.drop()
    desk.age(61)
    assert desk.refused(hint=Hint.POSTED)[0] == 400
    desk.claimed(hint=Hint.SWEPT)


# Health checks, and files that are closed to us


@pytest.mark.parametrize("body", [b"", b"{", b"\xff" * 100])
def test_a_health_check_is_taken_whatever_it_holds(desk: Desk, body: bytes) -> None:
    """Its content is ignored, empty included; the claim says `{}`."""
    desk.drop("request-health_check-1", body)
    assert desk.claimed("request-health_check-1").body == b"{}"


def closed_to_us(path: str, flags: int, *, dir_fd: int) -> int:
    del flags, dir_fd
    raise PermissionError(errno.EACCES, "Permission denied", path)


def test_an_unreadable_request_is_told_to_chmod(desk: Desk) -> None:
    """0600 from mktemp: 400 that names the chmod, after its time to be chmodded has passed."""
    desk.drop().chmod(0o600)
    desk.intake = desk.make(opener=closed_to_us)
    desk.unsettled()
    code, reason = desk.refused(hint=Hint.POSTED)
    assert code == 400
    assert "mode 0600" in reason
    assert "chmod a+r" in reason
    desk.age(11)
    assert desk.refused() == (code, reason)


def test_an_unreadable_health_check_succeeds(desk: Desk) -> None:
    """Identity and owner are then those of lstat."""
    desk.drop("request-health_check-1", uid=BOB)
    desk.intake = desk.make(opener=closed_to_us)
    claim = desk.claimed("request-health_check-1")
    assert (claim.uid, claim.body, claim.identity.digest) == (BOB, b"{}", "")


@pytest.mark.skipif(not os.path.exists("/usr/bin/setpriv"), reason="setpriv is not installed (NOT TESTED)")
def test_a_daemon_without_privileges_says_the_same(place: Path) -> None:
    """The same with a real user who may not read the file, and a link and a FIFO beside it."""
    for name, action in (("request-a-1", 0o600), ("request-health_check-1", 0o600)):
        (place / name).write_bytes(BODY)
        (place / name).chmod(action)
    (place / "request-link-1").symlink_to("request-a-1")
    code = """if 1:
        import sys
        from gobblerd.staging.directory import Staging
        from gobblerd.staging.intake import Intake
        from gobblerd.staging.look import Hint
        from gobblerd.staging.settings import SpoolLimits
        from gobblerd.storage.files import Durability
        intake = Intake(Staging.open(sys.argv[1], Durability.PROCESS), SpoolLimits)
        for name in ("request-a-1", "request-health_check-1", "request-link-1"):
            look = intake.look(name, Hint.POSTED)
            print(type(look).__name__, look.uid, getattr(look, "reason", ""))
    """
    os.chown(place, 7050, 7050)
    for parent in place.parents:  # pytest keeps its directories to itself
        if parent.stat().st_mode & 0o077 == 0 and parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(0o711)
    packages = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run(
        ["setpriv", "--reuid=7050", "--regid=7050", "--clear-groups", sys.executable, "-c", code, str(place)],
        env={**os.environ, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    refused, checked, link = found.stdout.splitlines()
    assert refused.startswith("Refusal 0 gobblerd may not read the request file (mode 0600): chmod a+r")
    assert checked.split() == ["Found", "0"]
    assert link.startswith("Refusal 0 the request file is a symbolic link")


# Troubles of ours


def test_a_name_service_that_fails_is_no_answer(desk: Desk) -> None:
    """It is looked at again; only a POST, who waits, is told 503."""

    def failing(uid: int) -> str:
        raise NameServiceFailed(f"user {uid}")

    desk.intake = desk.make(users=Users(failing))
    desk.drop()
    for hint in (Hint.CLOSED, Hint.RENAMED, Hint.SWEPT):
        assert desk.unsettled(hint=hint).trouble
    assert desk.refused(hint=Hint.POSTED)[0] == 503
    desk.intake = desk.make()
    desk.claimed()


def test_failing_storage_is_no_answer(desk: Desk) -> None:
    """EIO, ESTALE and the like are waited out."""

    def failing(path: str, flags: int, *, dir_fd: int) -> int:
        raise OSError(errno.ESTALE, "Stale file handle")

    desk.intake = desk.make(opener=failing)
    desk.drop()
    look = desk.unsettled(hint=Hint.POSTED)
    assert "Stale file handle" in look.trouble


# The second look, when a claim's turn has come


def test_an_unchanged_file_is_the_same_claim(desk: Desk) -> None:
    """Neither age nor parsing counts again."""
    desk.drop(body=b"{")
    claim = desk.claimed(hint=Hint.POSTED)
    desk.age(10**6)
    assert desk.intake.again(claim) is claim


def test_a_late_touch_keeps_inode_and_digest(desk: Desk) -> None:
    """The claim then has the new mtime."""
    path = desk.drop()
    claim = desk.claimed()
    os.utime(path, (1, 1))
    again = desk.intake.again(claim)
    assert isinstance(again, Claim)
    assert (again.identity.digest, again.identity.mtime_ns) == (claim.identity.digest, 10**9)


def test_a_swap_between_the_looks_is_noticed(desk: Desk) -> None:
    """Removed, replaced by a link, or overwritten with other bytes."""
    path = desk.drop()
    claim = desk.claimed()
    path.write_bytes(b'{"project": "q"}')
    again = desk.intake.again(claim)
    assert isinstance(again, Claim)
    assert again.body == b'{"project": "q"}'
    path.unlink()
    assert isinstance(desk.intake.again(claim), Gone)
    path.symlink_to("elsewhere")
    assert isinstance(desk.intake.again(claim), Refusal)
