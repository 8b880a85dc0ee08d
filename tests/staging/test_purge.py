"""What goes, by age; what never does."""

import os
import shutil
from pathlib import Path

import pytest
from registry.test_crash_steps import in_child
from staging.rooms import ALICE, MakeRoom, Room, done, wait_for

from gobblerd.staging.look import Hint
from gobblerd.staging.settings import PurgeAges
from gobblerd.staging.spool import Lane
from gobblerd.staging.status import PurgeCounts

DAY = 86_400 * 10**9
AGES = PurgeAges()
ACT = "request-a-1"


def is_archive(name: str) -> bool:
    return name.endswith((".tar", ".tar.receipt.json"))


def purged(room: Room, days: float, ages: PurgeAges = AGES) -> PurgeCounts:
    wait_for(
        lambda: not (room.path / "responses" / ".takeover").exists() and not room.spool._admission.listed
    )
    return room.spool.purge(room.staging.clock.now() + int(days * DAY), ages, is_archive)


def test_requests_go_before_their_responses(room: Room) -> None:
    """A request after 7 days; its response only once the request is gone, after a day."""
    room.post(room.write(ACT))
    assert purged(room, 6.9) == PurgeCounts()
    assert purged(room, 7.1) == PurgeCounts(requests=1, responses=1)
    assert not (room.path / ACT).exists()
    assert not room.has_response(ACT)
    assert room.spool.response(ACT) is None


def test_a_response_stays_for_a_day_after_its_request(room: Room) -> None:
    """A client that was away finds it."""
    room.post(room.write(ACT))
    (room.path / ACT).unlink()
    assert purged(room, 0.9) == PurgeCounts()
    assert purged(room, 1.1) == PurgeCounts(responses=1)


def test_a_response_stays_while_its_request_does(room: Room) -> None:
    """Else the request would be executed again."""
    room.post(room.write(ACT))
    assert purged(room, 6) == PurgeCounts()
    assert room.has_response(ACT)


def test_a_purged_request_stays_remembered_with_its_response(room: Room) -> None:
    """Renamed away before it was purged, it is no new request."""
    room.post(room.write(ACT, {"x": 1}))
    os.link(room.path / ACT, room.path / "kept")
    assert purged(room, 8, PurgeAges(responses=20 * 86_400)).requests == 1
    os.rename(room.path / "kept", room.path / "request-b-1")
    assert room.post("request-b-1").code == 400
    assert room.names() == [ACT]


def test_unanswered_and_running_requests_never_go(make_room: MakeRoom) -> None:
    """However old: they are the sweep's business, or the worker's."""
    room = make_room()
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    room.spool.offer(room.write(ACT), Hint.RENAMED)
    claim = room.take(Lane.SHORT)
    assert claim is not None
    room.write("request-a-2")
    room.write("unrelated")
    assert purged(room, 400) == PurgeCounts()
    room.spool.claims.answer(claim, done(claim))
    assert purged(room, 400).requests == 1
    assert (room.path / "unrelated").exists()


def upload(room: Room, name: str) -> Path:
    path = room.path / name
    (path / "sub" / "deeper").mkdir(parents=True)
    (path / "sub" / "deeper" / "file").write_text("x")
    (path / "file").write_text("x")
    return path


def test_abandoned_upload_directories_go(room: Room, tmp_path: Path) -> None:
    """With all that is in them; links are removed, not followed; `responses` never goes."""
    path = upload(room, "mine")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (path / "sub" / "link").symlink_to(tmp_path / "precious")
    (room.path / "link").symlink_to(tmp_path / "precious")
    assert purged(room, 6.9) == PurgeCounts()
    assert purged(room, 7.1) == PurgeCounts(uploads=1)
    assert not path.exists()
    assert (tmp_path / "precious" / "file").exists()
    assert (room.path / "link").is_symlink()
    assert (room.path / "responses").is_dir()


@pytest.mark.parametrize("file", ["file", "sub/deep/file"])
def test_a_directory_in_which_something_changed_is_in_use(room: Room, file: str) -> None:
    """Age is the newest ctime of all that is in it, which nobody can set."""
    path = upload(room, "mine")
    (path / "sub" / "deep").mkdir()
    (path / file).touch()
    os.utime(path, (1, 1))
    now = room.staging.clock.now()
    wait_for(lambda: room.staging.clock.now() - now > 10**8)
    (path / file).write_text("y")
    changed = (path / file).stat().st_ctime_ns
    ages = PurgeAges(uploads=1000.0)
    wait_for(lambda: not room.spool._admission.listed)
    assert room.spool.purge(changed + 1000 * 10**9 - 10**6, ages, is_archive).uploads == 0
    assert room.spool.purge(changed + 1000 * 10**9 + 10**7, ages, is_archive).uploads == 1


def test_abandoned_archives_go_and_what_killed_clients_left(room: Room) -> None:
    """Archives with their receipts, and unfinished files by their names; every other file stays."""
    gone = {"a.tar", "a.tar.receipt.json", ".gobbler-0123", ".gobblerd-01234567-89.partial"}
    kept = {"README", "tmp.Xa12", "a.txt", ".hidden"}
    for name in gone | kept:
        (room.path / name).touch()
    assert purged(room, 6.9) == PurgeCounts()
    assert purged(room, 7.1) == PurgeCounts(uploads=len(gone))
    assert {*os.listdir(room.path)} == kept | {"responses"}


@pytest.mark.parametrize("running", [True, False])
def test_an_archive_that_a_request_names_stays(make_room: MakeRoom, running: bool) -> None:  # noqa: FBT001  two cases
    """With its receipt, queued or running, however old; afterwards both go."""
    room = make_room()
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    for name in ("a.tar", "a.tar.receipt.json"):
        (room.path / name).touch()
    room.spool.offer(room.write("request-upload-1", {"source": "a.tar"}), Hint.RENAMED)
    claim = room.take(Lane.LONG) if running else None
    assert purged(room, 400).uploads == 0
    claim = claim or room.take(Lane.LONG)
    assert claim is not None
    room.spool.claims.answer(claim, done(claim))
    assert purged(room, 400).uploads == 2


@pytest.mark.parametrize("running", [True, False])
def test_a_directory_that_a_request_names_stays(make_room: MakeRoom, running: bool) -> None:  # noqa: FBT001  two cases
    """Queued or running, however old; afterwards it goes."""
    room = make_room()
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    upload(room, "mine")
    room.spool.offer(room.write("request-upload-1", {"source": "mine"}), Hint.RENAMED)
    room.spool.offer(room.write("request-upload-2", b"[" * 100_000), Hint.RENAMED)
    claim = room.take(Lane.LONG) if running else None
    assert purged(room, 400).uploads == 0
    claim = claim or room.take(Lane.LONG)
    assert claim is not None
    room.spool.claims.answer(claim, done(claim))
    assert purged(room, 400).uploads == 1


def test_uploads_stay_while_not_all_requests_are_known(make_room: MakeRoom) -> None:
    """Before loading, and while some files wait in staging for room, any directory may be named."""
    room = make_room()
    upload(room, "mine")
    assert room.spool.purge(room.staging.clock.now() + 400 * DAY, AGES, is_archive).uploads == 0
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    room.spool._admission.overflow.add(ALICE)
    assert purged(room, 400).uploads == 0


def test_what_cannot_be_removed_is_counted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the rest is purged all the same."""
    upload(room, "mine")
    room.post(room.write(ACT))

    def failing(dir_fd: int, name: str) -> None:
        raise OSError(13, "Permission denied", name)

    monkeypatch.setattr("gobblerd.staging.purge.remove_tree_beneath", failing)
    assert purged(room, 8) == PurgeCounts(requests=1, responses=1, failed=1)


def test_a_response_written_again_meanwhile_stays(room: Room) -> None:
    """A name dropped anew is queued before its response can be taken for an old one."""
    room.post(room.write(ACT, {"x": 1}))
    (room.path / ACT).unlink()
    room.post(room.write(ACT, {"x": 22}))
    assert purged(room, 2) == PurgeCounts()
    assert room.recorded(ACT)["body"] == '{"x": 22}'


def test_a_purge_that_was_killed_is_finished_by_the_next(room: Room) -> None:
    """What it had renamed goes at once: no request can name it any more."""
    path = upload(room, "mine")
    os.rename(path, room.path / "..purged-0011")
    (room.path / "..purged-0012").touch()
    assert purged(room, 0) == PurgeCounts(uploads=2)
    assert os.listdir(room.path) == ["responses"]


def test_no_request_finds_half_a_directory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is being removed has no name that a request could give."""
    upload(room, "mine")
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "gobblerd.staging.purge.remove_tree_beneath", lambda fd, name: seen.append([name, *os.listdir(fd)])
    )
    assert purged(room, 7.1) == PurgeCounts(uploads=1)
    assert seen[0][0].startswith("..purged-")
    assert "mine" not in seen[0]


def purged_by_a_new_daemon(path: Path) -> PurgeCounts:
    room = Room(path).start()
    try:
        return purged(room.ready(), 400)
    finally:
        room.close()


def paths(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def test_a_kill_at_any_step_of_a_purge(tmp_path: Path) -> None:
    """An upload is there whole under its name or not at all, no request outlives its response; then it goes on."""
    template, path = tmp_path / "template", tmp_path / "staging"
    template.mkdir()
    room = Room(template).start()
    room.post(room.write(ACT))
    mine = paths(upload(room, "mine"))
    (template / "unrelated").write_text("x")
    room.close()
    for step in range(1, 1000):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for name in (ACT, "mine", "unrelated"):
            os.rename(template / name, path / name)  # identities are kept: inodes and times
        shutil.copytree(template / "responses", path / "responses")
        finished = in_child(lambda: purged_by_a_new_daemon(path), step)
        if (path / "mine").exists():
            assert paths(path / "mine") == mine
        assert (path / "responses" / ACT).exists() or not (path / ACT).exists()
        purged_by_a_new_daemon(path)
        assert {name for name in os.listdir(path) if name != "responses"} == {"unrelated"}
        assert not (path / "responses" / ACT).exists()
        if finished:
            break
        os.rename(path / "unrelated", template / "unrelated")
        room = Room(template).start()
        room.post(room.write(ACT))
        upload(room, "mine")
        room.close()
    assert step > 10
