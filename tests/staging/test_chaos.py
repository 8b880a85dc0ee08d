"""Users who do everything at once, with watcher, sweeps and POSTs racing: at most once, and nothing is lost."""

import itertools
import json
import os
import random
import threading
from collections import Counter

import pytest
from staging.rooms import ALICE, MakeRoom, Room, attempts_in, wait_for

from gobblerd.staging.settings import SpoolLimits, WatchSettings
from gobblerd.staging.watcher import Watcher

ROUNDS = int(os.environ.get("GOBBLERD_CHAOS_ROUNDS", "150"))
NAMES = [f"request-{action}-{n}" for action in ("a", "upload", "health_check") for n in range(3)]


class User:
    """Writes, fills, renames, replaces, links, removes and POSTs a few shared names."""

    def __init__(self, room: Room, seed: int, nonces: "itertools.count[int]") -> None:
        self.room, self.random, self.nonces = room, random.Random(seed), nonces
        self.uid = ALICE + seed

    def content(self) -> bytes:
        return json.dumps({"nonce": next(self.nonces)}).encode()

    def fill(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK  # it may be a FIFO
        fd = os.open(self.room.path / name, flags)
        os.write(fd, content)
        os.close(fd)

    def act(self) -> None:
        name, path = self.random.choice(NAMES), self.room.path
        match self.random.randrange(9):
            case 0 | 1:
                self.room.rename_in(name, self.content(), self.uid)
            case 2:
                self.fill(name, self.content())
            case 3:
                self.fill(name, b"")
            case 4:
                (path / name).unlink()
            case 5:
                os.rename(path / name, path / self.random.choice(NAMES))
            case 6:
                os.link(path / name, path / self.random.choice(NAMES))
            case 7:
                os.mkfifo(path / name)
            case 8:
                self.room.spool.post(name)

    def run(self) -> None:
        for _ in range(ROUNDS):
            try:
                self.act()
            except OSError:
                continue


@pytest.mark.parametrize("seed", range(2))
def test_everything_at_once(make_room: MakeRoom, seed: int) -> None:
    """Each content is executed at most once; in the end every file has its own answer, and nothing waits."""
    room = make_room(SpoolLimits(request_settle=0.3, max_queued=8, max_queued_per_user=3)).start(2)
    watcher = Watcher(room.staging, room.spool, lambda: WatchSettings("events", 0.05, 0.05))
    watcher.start()
    nonces = itertools.count()
    users = [threading.Thread(target=User(room, seed * 10 + n, nonces).run) for n in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    wait_for(lambda: all(is_answered(room, name) for name in NAMES))
    wait_for(lambda: room.spool.settled() and not room.spool.unsettled)
    watcher.stop()
    bodies = Counter(claim.body for claim in room.executed if b"nonce" in claim.body)
    assert bodies
    assert max(bodies.values()) == 1
    status = room.spool.snapshot()
    assert (status.queued, status.running) == ({"short": 0, "long": 0}, {"short": 0, "long": 0})
    assert attempts_in(room.path) == []


def is_answered(room: Room, name: str) -> bool:
    """Tell whether the file of that name, if there is one, has a response of its own."""
    try:
        status = (room.path / name).lstat()
        found = json.loads((room.path / "responses" / name).read_bytes())["identity"]
    except FileNotFoundError:
        return not os.path.lexists(room.path / name)
    return (found["inode"], found["mtime_ns"]) == (status.st_ino, status.st_mtime_ns)
