"""Noticing new files: events, sweeps, the gate between them, and saying so when staging is gone."""

import os
import time
from collections.abc import Callable, Iterator

import pytest
from staging.rooms import ALICE, MakeRoom, Room, wait_for

from gobblerd.staging.look import Hint
from gobblerd.staging.mounts import Filesystem
from gobblerd.staging.settings import SpoolLimits, WatchSettings
from gobblerd.staging.watcher import Gate, Watcher, plan

NEVER = 1e6  # seconds
MakeWatcher = Callable[..., Watcher]


@pytest.fixture
def watch(room: Room) -> Iterator[MakeWatcher]:
    """Return a function that watches the room's directory."""
    made: list[Watcher] = []

    def make(mode: str = "auto", local: float = NEVER, remote: float = NEVER) -> Watcher:
        wait_for(lambda: room.spool._open)
        made.append(Watcher(room.staging, room.spool, lambda: WatchSettings(mode, local, remote)))
        made[-1].start()
        wait_for(lambda: made[-1].alive and made[-1]._due)
        return made[-1]

    yield make
    for watcher in made:
        watcher.stop()
        assert not watcher.alive


def test_events_lead_to_an_answer(room: Room, watch: MakeWatcher) -> None:
    """Renamed in, written in place, and moved over an old one; other names are nothing to us."""
    watch("events")
    names = [room.rename_in("request-a-1"), room.write("request-a-2"), room.write("other")]
    assert [room.recorded(name)["code"] for name in names[:2]] == [200, 200]
    room.rename_in("request-a-1", {"again": True})
    wait_for(lambda: room.recorded("request-a-1")["body"] == '{"again": true}')
    (room.path / "request-directory").mkdir()
    os.rename(room.path / "request-directory", room.path / "request-a-directory")
    room.recorded(room.rename_in("request-a-3"))
    assert not room.has_response("request-a-directory")


def test_a_file_closed_in_place_is_answered_by_the_spools_own_timer(room: Room, watch: MakeWatcher) -> None:
    """One close, no sweep: the spool looks again when `write_settle` is over."""
    watch("events")
    room.write("request-a-1")
    found = room.recorded("request-a-1")
    assert found["code"] == 200


def test_sweeps_alone_find_everything(room: Room, watch: MakeWatcher) -> None:
    """As where another node writes and no event comes: drops, fills, and what was there before."""
    room.write("request-a-0")
    watcher = watch("sweep", remote=0.02)
    assert (watcher.mode, watcher._inotify) == ("sweep", None)
    room.rename_in("request-a-1")
    room.write("request-a-2", b"")
    wait_for(lambda: room.has_response("request-a-1"))
    (room.path / "request-a-2").write_text("{}")
    assert [room.recorded(f"request-a-{n}")["code"] for n in range(3)] == [200] * 3


def test_an_overflow_of_the_kernels_queue_is_made_good(room: Room, watch: MakeWatcher) -> None:
    """Events that are lost cost no request: staging is swept at once."""
    watcher = watch("events")
    inotify = watcher._inotify
    assert inotify is not None
    inotify.handle_event = lambda event: None  # type: ignore[method-assign]  all events are lost
    names = [room.rename_in(f"request-a-{n}") for n in range(50)]
    watch_of_it = next(iter(inotify._watch_for_wd.values()))
    next(iter(watch_of_it.callbacks.values())).on_queue_overflow()
    wait_for(lambda: all(room.has_response(name) for name in names))
    assert len(room.executed) == 50


def test_nothing_known_is_opened_again(
    room: Room, watch: MakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many answered files a sweep opens none, and the gate saves even the listing."""
    for n in range(100):
        room.write(f"request-a-{n}")
    watcher = watch("sweep", remote=0.01)
    wait_for(lambda: len(room.executed) == 100 and room.spool.settled())
    ticked = watcher._ticked
    wait_for(lambda: watcher._ticked > ticked)  # a sweep under way may have a name of before in hand
    looks: list[str] = []
    monkeypatch.setattr(room.spool._intake, "look", lambda name, *_: looks.append(name))
    ticked = watcher._ticked
    watcher._gate = Gate()
    wait_for(lambda: watcher._ticked > ticked + 0.05)
    assert looks == []


def test_the_gate() -> None:
    """Closed only if nothing is unsettled, and the mtime is unchanged and was over 2 s old when listed."""
    gate = Gate()
    second = 10**9
    assert gate.is_open(5 * second, unsettled=False, now=0.0)
    gate.listed(5 * second, 6 * second, 0.0)  # the mtime is young: more may come within its tick
    assert gate.is_open(5 * second, unsettled=False, now=1.0)
    gate.listed(5 * second, 8 * second, 2.0)
    assert not gate.is_open(5 * second, unsettled=False, now=3.0)
    assert gate.is_open(5 * second, unsettled=True, now=3.0)
    assert gate.is_open(5 * second + 1, unsettled=False, now=3.0)
    assert gate.is_open(5 * second, unsettled=False, now=62.0)


def test_how_it_is_watched_follows_filesystem_and_configuration() -> None:
    """Local: events and rare sweeps. Remote: both, often. A reason for each."""
    settings = WatchSettings("auto", 30, 2)
    local = plan(settings, "ext4", is_local=True)
    assert (local.events, local.interval) == (True, 30)
    assert "ext4" in local.reason
    remote = plan(settings, "nfs4", is_local=False)
    assert (remote.events, remote.interval) == (True, 2)
    assert (plan(WatchSettings("sweep"), "ext4", is_local=True).mode) == "sweep"
    assert plan(WatchSettings("events"), "nfs4", is_local=False).interval == 30


def test_new_settings_are_followed(make_room: MakeRoom) -> None:
    """SIGHUP may change mode and intervals."""
    room = make_room().start()
    settings = [WatchSettings("sweep", 0.01, 0.01)]
    watcher = Watcher(room.staging, room.spool, lambda: settings[0])
    watcher.start()
    assert watcher.mode == "sweep"
    settings[0] = WatchSettings("events", 0.01, 0.01)
    wait_for(lambda: watcher.mode == "events" and watcher._inotify)
    settings[0] = WatchSettings("sweep", 0.01, 0.01)
    wait_for(lambda: watcher._inotify is None)
    room.staging.filesystem = Filesystem("fuse.bindfs")
    settings[0] = WatchSettings("auto", 0.01, 0.01)
    wait_for(lambda: "fuse.bindfs" in watcher.reason)
    watcher.stop()


def test_a_staging_directory_that_is_gone_is_reported_until_it_is_back(
    room: Room, watch: MakeWatcher
) -> None:
    """Not alive, with the reason; well again afterwards, with events."""
    watcher = watch("events", local=0.01)
    aside = room.path.with_name("aside")
    room.path.rename(aside)
    wait_for(lambda: not watcher.alive)
    assert "cannot be reached" in watcher.reason
    room.path.mkdir()
    wait_for(lambda: "replaced" in watcher.reason)
    room.path.rmdir()
    aside.rename(room.path)
    wait_for(lambda: watcher.alive)
    assert room.recorded(room.rename_in("request-a-1"))["code"] == 200


def test_without_events_it_sweeps_often(
    room: Room, watch: MakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's limit on watches may be reached: then the sweep does it, and the reason says so."""

    def refused(*_: object) -> int:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("gobblerd.staging.watcher.InotifyFD._create_inotify_fd", refused)
    watcher = watch("auto", remote=0.02)
    assert watcher.mode == "sweep"
    assert "limit reached" in watcher.reason
    assert room.recorded(room.rename_in("request-a-1"))["code"] == 200


def test_a_flood_through_events_loses_nothing(make_room: MakeRoom) -> None:
    """Two thousand drops at once, bounds far below: each is answered once."""
    room = make_room(SpoolLimits(max_queued=200, max_queued_per_user=50)).start(2)
    watcher = Watcher(room.staging, room.spool, lambda: WatchSettings("events", 0.5, 0.5))
    watcher.start()
    names = [room.rename_in(f"request-a-{n}", {}, ALICE + n % 7) for n in range(2000)]
    wait_for(lambda: len(room.executed) >= 2000)
    watcher.stop()
    assert sorted(room.names()) == sorted(names)


def test_what_was_posted_is_not_looked_at_again_for_an_event(
    room: Room, watch: MakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While clients POST, an event says nothing new of such a file; what nobody POSTs is found all the same."""
    posted = room.rename_in("request-a-posted")
    assert room.post(posted).code == 200
    monkeypatch.setattr(room.spool, "_last_post", time.monotonic() + NEVER)
    looks: list[str] = []
    look = room.spool._intake.look
    monkeypatch.setattr(
        room.spool._intake, "look", lambda name, *more: (looks.append(name), look(name, *more))[1]
    )
    room.spool.offer(posted, Hint.RENAMED)
    watch("events")
    assert room.recorded(room.rename_in("request-a-dropped"))["code"] == 200
    assert room.recorded(room.write("request-a-written"))["code"] == 200
    assert posted not in looks


def test_unsettled_files_keep_the_gate_open(room: Room, watch: MakeWatcher) -> None:
    """Filling a file in place does not change the directory's mtime."""
    watch("sweep", remote=0.02)
    room.write("request-a-1", b"")
    wait_for(lambda: room.spool.unsettled)
    time.sleep(0.1)
    (room.path / "request-a-1").write_text("{}")
    assert room.recorded("request-a-1")["code"] == 200
