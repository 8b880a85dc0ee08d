"""The way of a request: heard of, waited for, executed once, answered; and what recovery adds."""

import errno
import shutil
import threading

import pytest
from staging.rooms import ALICE, SECONDS, MakeRoom, Room, attempts_in, done, taken, unbegun, wait_for

from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Response
from gobblerd.staging.look import Hint
from gobblerd.staging.spool import Lane

ACT = "request-refresh_usage-1"


def test_a_drop_is_executed_and_answered_in_a_file(room: Room) -> None:
    """The response file names request, action, user, code and identity, and is world-readable."""
    room.spool.offer(room.rename_in(ACT, {"project": "p"}), Hint.RENAMED)
    found = room.recorded(ACT)
    assert (found["status"], found["code"], found["user"]) == ("SUCCESS", 200, str(ALICE))
    assert (found["request"], found["action"]) == (ACT, "refresh_usage")
    assert found["identity"]["inode"] == (room.path / ACT).stat().st_ino
    assert (room.path / "responses" / ACT).stat().st_mode & 0o7777 == 0o644
    assert room.has_response(ACT)
    assert attempts_in(room.path) == []


def test_a_post_is_told_after_the_file_is_there(room: Room) -> None:
    """What a POST is told is recorded."""
    response = room.post(room.write(ACT, {"x": 1}))
    assert response.code == 200
    assert room.has_response(ACT)
    assert room.spool.response(ACT) == response


def test_watcher_sweep_and_posts_lead_to_one_execution(room: Room) -> None:
    """However often and from wherever a name is heard of."""
    room.write(ACT, {"x": 1})
    futures = [room.spool.post(ACT) for _ in range(10)]
    for hint in (Hint.RENAMED, Hint.SWEPT, Hint.CLOSED, Hint.RENAMED):
        room.spool.offer(ACT, hint)
    answers = {str(future and future.result(10).finished) for future in futures}
    assert len(answers) == 1
    room.post(ACT)
    assert room.names() == [ACT]


def test_a_race_of_hints_and_posts_executes_each_once(room: Room) -> None:
    """Forty requests, each mentioned by six threads at once."""
    names = [room.write(f"request-a-{n}", {"n": n}) for n in range(40)]

    def mention(hint: Hint) -> None:
        for name in names:
            room.spool.offer(name, hint)
            room.spool.post(name)

    threads = [threading.Thread(target=mention, args=[hint]) for hint in [*Hint, Hint.RENAMED, Hint.SWEPT]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: len(room.executed) >= 40)
    assert sorted(room.names()) == sorted(names)


@pytest.mark.parametrize("name", ["", "x", "request-a/../b", "../request-a", "request-\udcff"])
def test_a_post_of_another_name_is_wrong(room: Room, name: str) -> None:
    """Only plain names beginning with `request-`."""
    with pytest.raises(Wrong):
        room.spool.post(name)


def test_a_post_without_a_file_is_none(room: Room) -> None:
    """It may become visible yet: who asks looks again."""
    assert room.spool.post(ACT) is None
    assert room.spool.response(ACT) is None
    assert room.spool.progress(ACT) is None


def test_a_post_after_the_client_removed_its_file_repeats(room: Room) -> None:
    """What is recorded stays."""
    first = room.post(room.write(ACT, {"x": 1}))
    (room.path / ACT).unlink()
    assert room.post(ACT) == first


def test_a_file_recreated_under_its_name_is_a_new_request(room: Room) -> None:
    """Its response replaces the old one."""
    room.post(room.write(ACT, {"x": 1}))
    (room.path / ACT).unlink()
    room.post(room.write(ACT, {"x": 22}))
    assert [claim.body for claim in room.executed] == [b'{"x": 1}', b'{"x": 22}']
    assert room.recorded(ACT)["body"] == '{"x": 22}'


def test_pygobblers_shuffle_executes_once(room: Room) -> None:
    """mkstemp, remove, open again, write, POST: the empty file of the first name is never answered."""
    room.write(ACT, b"")
    room.spool.offer(ACT, Hint.CLOSED)
    (room.path / ACT).unlink()
    with (room.path / ACT).open("wb") as file:
        room.spool.offer(ACT, Hint.SWEPT)
        file.write(b'{"x":')
        file.flush()
        room.spool.offer(ACT, Hint.SWEPT)
        file.write(b"1}")
    room.spool.offer(ACT, Hint.CLOSED)
    assert room.post(ACT).code == 200
    assert [claim.body for claim in room.executed] == [b'{"x":1}']


def test_an_empty_file_that_is_filled_is_taken_without_being_mentioned_again(room: Room) -> None:
    """The spool looks again by itself: on some filesystems nobody tells."""
    room.spool.offer(room.write(ACT, b""), Hint.SWEPT)
    wait_for(lambda: room.spool.unsettled)
    assert not room.has_response(ACT)
    with (room.path / ACT).open("wb") as file:
        file.write(b'{"x": 1}')
    assert room.recorded(ACT)["code"] == 200


def test_a_post_of_an_empty_file_waits_for_its_content(room: Room) -> None:
    """It is answered once the file is filled; half of the content is not the content."""
    future = room.spool.post(room.write(ACT, b""))
    with (room.path / ACT).open("wb", buffering=0) as file:
        file.write(b'{"x":')
        room.spool.offer(ACT, Hint.CLOSED)
        file.write(b"1}")
    assert future is not None
    assert future.result(10).body["body"] == '{"x":1}'


def test_whoever_sees_the_content_first_tells_the_post(room: Room) -> None:
    """The file is filled, and an event says so before the spool looks again."""
    future = room.spool.post(room.write(ACT, b""))
    room.write(ACT, {"x": 1})
    room.spool.offer(ACT, Hint.RENAMED)
    assert future is not None
    assert future.result(10).code == 200
    assert room.names() == [ACT]


def test_what_stays_incomplete_is_claimed_after_its_time(quick: Room) -> None:
    """So that dispatch answers with the precise reason; the POST that waited hears it too."""
    future = quick.spool.post(quick.write(ACT, b""))
    quick.spool.offer(quick.write("request-a-2", b'{"x"'), Hint.CLOSED)
    assert future is not None
    assert future.result(10).body["body"] == ""
    assert quick.recorded("request-a-2")["body"] == '{"x"'


def test_a_writer_that_never_closes_is_answered(room: Room) -> None:
    """The sweep finds it; its content is complete."""
    with (room.path / ACT).open("wb", buffering=0) as file:
        file.write(b"{}")
        room.spool.offer(ACT, Hint.SWEPT)
        assert room.recorded(ACT)["code"] == 200


def test_an_incomplete_file_that_goes_away_leaves_nothing(quick: Room) -> None:
    """Its POST is told so; there is no identity to record it for."""
    future = quick.spool.post(quick.write(ACT, b""))
    (quick.path / ACT).unlink()
    assert future is not None
    response = future.result(10)
    assert (response.code, "gone" in str(response.body["reason"])) == (400, True)
    assert not quick.has_response(ACT)
    assert not quick.spool.unsettled


# What recovery and dispatch do besides answering


def test_a_delivered_response_is_the_identitys_answer(make_room: MakeRoom) -> None:
    """Recovery delivers before anything is executed; delivering twice changes nothing."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    claim = taken(room)
    room.die()
    after = make_room()
    after.spool.claims.deliver(done(claim, by="recovery"))
    after.start()
    assert after.post(ACT).body["by"] == "recovery"
    after.spool.claims.deliver(done(claim, by="again"))
    assert after.recorded(ACT)["by"] == "recovery"
    assert after.names() == []


def test_what_is_committed_and_not_finished_is_not_executed_again(make_room: MakeRoom) -> None:
    """A start finds it so, before anything is looked at: POSTs are told, and delivery ends it."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    claim = taken(room)
    room.die()
    after = make_room()
    for _ in range(2):
        after.spool.claims.pending(done(claim))
    after.start()
    assert after.post(after.write("request-act-2", {"x": 2})).code == 200
    told = after.post(ACT)
    assert (told.code, "not finished" in told.body["reason"]) == (500, True)
    assert not after.has_response(ACT)
    assert after.names() == ["request-act-2"]
    after.spool.claims.deliver(done(claim, by="recovery"))
    assert after.post(ACT).body["by"] == "recovery"
    assert after.names() == ["request-act-2"]
    assert after.spool.settled()


def test_an_old_delivery_does_not_replace_a_newer_response(room: Room) -> None:
    """A record that lingers must not undo what a later request of that name was answered."""
    room.post(room.write(ACT, {"x": 1}))
    late = done(room.executed[0], by="recovery")
    (room.path / ACT).unlink()
    room.post(room.write(ACT, {"x": 22}))
    room.spool.claims.deliver(late)
    assert room.recorded(ACT)["body"] == '{"x": 22}'


def test_unfinished_is_told_at_once_and_answered_later(make_room: MakeRoom) -> None:
    """Committed, not applied: POSTs get the 500, now and later; delivery ends it."""
    room = unbegun(make_room())
    future = room.spool.post(room.write(ACT, {"x": 1}))
    claim = taken(room)
    interim = done(claim)
    room.spool.claims.unfinished(claim, interim)
    assert future is not None
    assert future.result(10) is interim
    assert room.post(ACT) is interim
    assert not room.has_response(ACT)
    assert not room.spool.settled()
    room.spool.claims.deliver(done(claim, by="recovery"))
    assert room.spool.settled()
    assert room.post(ACT).body["by"] == "recovery"


def test_who_asks_while_recovery_writes_the_response_gets_that_response(make_room: MakeRoom) -> None:
    """Once a response can be seen, nobody is told "committed, not finished" any more."""
    room = unbegun(make_room())
    room.write(ACT, {"x": 1})
    room.spool.offer(ACT, Hint.RENAMED)
    claim = taken(room)
    room.spool.claims.unfinished(claim, done(claim))
    write, asked = room.spool._ledger.files.write, []

    def write_and_ask(response: Response) -> None:
        write(response)
        asked.append(room.spool.post(ACT))

    room.spool._ledger.files.write = write_and_ask  # type: ignore[method-assign]
    room.spool.claims.deliver(done(claim, by="recovery"))
    (waiter,) = asked
    assert waiter is not None
    assert waiter.result(SECONDS).body["by"] == "recovery"


def test_a_response_that_recovery_cannot_write_leaves_the_interim_answer(make_room: MakeRoom) -> None:
    """Who asked meanwhile, and who asks later, is told what is known so far."""
    room = unbegun(make_room())
    room.write(ACT, {"x": 1})
    room.spool.offer(ACT, Hint.RENAMED)
    claim = taken(room)
    interim, asked = done(claim), []
    room.spool.claims.unfinished(claim, interim)

    def ask_and_fail(_: Response) -> None:
        asked.append(room.spool.post(ACT))
        raise OSError(errno.ENOSPC, "no space")

    room.spool._ledger.files.write = ask_and_fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space"):
        room.spool.claims.deliver(done(claim, by="recovery"))
    (waiter,) = asked
    assert waiter is not None
    assert waiter.result(SECONDS) is interim
    assert room.post(ACT) is interim


def test_progress_is_reported_while_it_runs(make_room: MakeRoom) -> None:
    """Queued with how many are ahead, running with bytes, then nothing."""
    room = unbegun(make_room())
    for n in (1, 2, 3):
        room.spool.offer(room.write(f"request-upload-{n}"), Hint.RENAMED)
    progress = room.spool.progress("request-upload-3")
    assert progress is not None
    assert (progress.state, progress.ahead) == ("queued", 2)
    claim = taken(room, Lane.LONG)
    room.spool.claims.report_progress(claim.name, 5, 10)
    progress = room.spool.progress(claim.name)
    assert progress is not None
    assert (progress.state, progress.bytes_done, progress.bytes_total) == ("running", 5, 10)
    room.spool.claims.answer(claim, done(claim))
    assert room.spool.progress(claim.name) is None
    status = room.spool.snapshot()
    assert status.queued == {"short": 0, "long": 2}
    assert [recent.name for recent in status.recent] == [claim.name]


def test_staging_that_goes_away_does_not_end_the_spool(room: Room) -> None:
    """The descriptor stays; names that are not there are not there."""
    moved = room.path.with_name("moved")
    room.path.rename(moved)
    room.spool.offer(ACT, Hint.SWEPT)
    moved.rename(room.path)
    assert room.post(room.write(ACT)).code == 200
    shutil.rmtree(room.path / "responses" / ".attempts")
    assert room.post(room.write("request-a-2")).code == 200
