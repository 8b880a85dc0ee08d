"""A staging room as a daemon has it, and users who drop files into it."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gobblerd.domain.messages import Claim, Outcome, Response, success_body
from gobblerd.domain.times import format_time
from gobblerd.staging.directory import Staging
from gobblerd.staging.intake import Intake
from gobblerd.staging.look import Hint, Look, Refusal, Unsettled
from gobblerd.staging.settings import SpoolLimits
from gobblerd.staging.spool import Lane, Spool
from gobblerd.storage.files import Durability

ALICE, BOB, CAROL, ADMIN = 7001, 7002, 7003, 7009  # numeric: no such users need exist
SECONDS = 60  # how long a test waits for what must happen


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return what `condition` returns once it is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def done(claim: Claim, **answer: Any) -> Response:
    """Return the response of an executed claim."""
    moment = format_time(time.time_ns())
    return Response(
        claim.identity, claim.action, claim.user, 200, success_body(Outcome(answer)), moment, moment
    )


def attempts_in(path: Path) -> list[str]:
    """Return the names of requests that are begun and not answered, by what is on disk."""
    return [name for name in slots_in(path) if not (path / "responses" / name).exists()]


def slots_in(path: Path) -> list[str]:
    """Return the names in the slots of begun requests."""
    lines = (path / "responses" / ".attempts" / ".begun").read_bytes().replace(b"\0", b"\n").split(b"\n")
    return [json.loads(line)["name"] for line in lines if line.startswith(b"{")]


class Room:
    """The staging room as a daemon has it, with what was executed in it."""

    def __init__(self, path: Path, limits: SpoolLimits | None = None, **intake: Any) -> None:
        self.path = path
        self.limits = limits or SpoolLimits()
        self.staging = Staging.open(str(path), Durability.PROCESS)
        self.spool = Spool(
            self.staging,
            lambda: self.limits,
            lambda action: action in {"upload", "export_version"},
            lambda user: user == str(ADMIN),
            Intake(self.staging, lambda: self.limits, **intake),
        )
        self.executed: list[Claim] = []
        self.threads: list[threading.Thread] = []

    def start(self, workers: int = 1) -> "Room":
        self.spool.start()
        return self.work(workers)

    def ready(self) -> "Room":
        """Wait until all that lay in staging at the start has been seen."""
        wait_for(lambda: self.spool.snapshot().ready)
        return self

    def work(self, workers: int = 1) -> "Room":
        for _ in range(workers):
            for lane in Lane:
                self._worker(lane)
        return self

    def _worker(self, lane: Lane) -> None:
        def work() -> None:
            while (claim := self.take(lane)) is not None:
                self.executed.append(claim)
                self.spool.claims.answer(claim, done(claim, body=claim.body.decode()))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append(thread)

    def take(self, lane: Lane) -> Claim | None:
        """Wait for the next claim of a lane; None once draining."""
        claims = self.spool.claims
        while claims.wait(lane):
            if (claim := claims.take_now(lane)) is not None:
                return claim
        return None

    def write(self, name: str, content: object = None, uid: int = ALICE) -> str:
        """Write a request file in place."""
        data = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        path = self.path / name
        path.write_bytes(data)
        os.chown(path, uid, uid)
        return name

    def rename_in(self, name: str, content: object = None, uid: int = ALICE) -> str:
        """Drop a request file as the documentation says."""
        self.write(f"tmp-{name}", content, uid)
        os.rename(self.path / f"tmp-{name}", self.path / name)
        return name

    def post(self, name: str) -> Response:
        """POST, and wait for the answer."""
        future = self.spool.post(name)
        assert future is not None, f"{name} is not there"
        return future.result(timeout=SECONDS)

    def recorded(self, name: str) -> dict[str, Any]:
        """Wait for a response file and return its document."""
        path = self.path / "responses" / name
        wait_for(path.exists)
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document

    def has_response(self, name: str) -> bool:
        return (self.path / "responses" / name).exists()

    def names(self) -> list[str]:
        """Return the names of what was executed, in order."""
        return [claim.name for claim in self.executed]

    def die(self) -> None:
        """End as `kill -9` does: nothing is tidied up, the lock is gone."""
        self.spool._ledger.files.write = lambda _, **__: None  # type: ignore[method-assign]
        self.spool.stop()
        self.staging.close()

    def close(self) -> None:
        self.spool.drain()
        self.spool.stop()
        for thread in self.threads:
            thread.join(timeout=SECONDS)
        self.staging.close()


def taken(room: Room, lane: Lane = Lane.SHORT) -> Claim:
    """Take a claim that must be there."""
    claim = room.take(lane)
    assert claim is not None
    return claim


def unbegun(room: Room) -> Room:
    """Start without workers."""
    room.spool.start()
    return room.ready()


MakeRoom = Callable[..., Room]


NAME = "request-refresh_usage-1"
BODY = b'{"project": "p"}'


class Desk:
    """An intake on an open staging directory, and ways to drop files."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.limits = SpoolLimits()
        self.staging = Staging.open(str(place), Durability.PROCESS)
        self.intake = self.make()

    def make(self, **options: Any) -> Intake:
        return Intake(self.staging, lambda: self.limits, **options)

    def drop(self, name: str = NAME, body: bytes = BODY, uid: int = ALICE) -> Path:
        path = self.place / name
        path.write_bytes(body)
        os.chown(path, uid, uid)
        return path

    def look(self, name: str = NAME, hint: Hint = Hint.RENAMED, **more: Any) -> Look:
        return self.intake.look(name, hint, **more)

    def refused(self, name: str = NAME, hint: Hint = Hint.RENAMED) -> tuple[int, str]:
        look = self.look(name, hint)
        assert isinstance(look, Refusal), look
        assert look.identity.name == name
        return look.code, look.reason

    def claimed(self, name: str = NAME, hint: Hint = Hint.RENAMED) -> Claim:
        look = self.look(name, hint)
        assert isinstance(look, Claim), look
        return look

    def unsettled(self, name: str = NAME, hint: Hint = Hint.RENAMED, **more: Any) -> Unsettled:
        look = self.look(name, hint, **more)
        assert isinstance(look, Unsettled), look
        return look

    def age(self, seconds: float) -> None:
        """Let the file server's clock be that much later."""
        now = self.staging.clock.now
        self.staging.clock.now = lambda: now() + int(seconds * 1e9)  # type: ignore[method-assign]
