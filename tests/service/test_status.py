"""gobblerd.service.status: what the daemon leaves for `gobblerd status`."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gobblerd import __version__
from gobblerd.service.schedule import JobStatus, Stamp
from gobblerd.service.status import (
    HEARTBEAT,
    STATUS_FILE,
    Serving,
    StatusFile,
    Watching,
    read_status,
    status_document,
    write_status,
)


@dataclass(frozen=True, slots=True)
class Spooled:
    """As the spool's snapshot: counts, and recent requests."""

    queued: int
    recent: tuple[tuple[str, int], ...]


@pytest.fixture
def responses(tmp_path: Path) -> Iterator[int]:
    os.mkdir(tmp_path / "responses")
    fd = os.open(tmp_path / "responses", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def write(responses: int) -> None:
    job = JobStatus(
        "purge", "3600", None, running=False, last=Stamp("2026-11-20T12:00:00Z"), runs=0, failures=0
    )
    document = status_document(
        Serving("serving", "2026-11-20T12:00:00Z", "/s", "/r", None),
        Watching("sweep", "the filesystem is nfs4", alive=True),
        Spooled(3, (("request-x\udc80", 200),)),
        [job],
        ["the watcher died"],
    )
    write_status(responses, document)


def test_what_is_written_can_be_read(tmp_path: Path, responses: int) -> None:
    """One JSON object, readable by everyone, replaced as a whole."""
    write(responses)
    write(responses)
    reading = read_status(str(tmp_path))
    assert reading.document is not None
    assert (reading.document["name"], reading.document["version"]) == ("gobblerd", __version__)
    assert (reading.document["state"], reading.document["pid"]) == ("serving", os.getpid())
    assert reading.document["watch"] == {"mode": "sweep", "reason": "the filesystem is nfs4", "alive": True}
    assert reading.document["spool"] == {"queued": 3, "recent": [["request-x\udc80", 200]]}
    assert reading.document["schedules"][0]["last"]["start"] == "2026-11-20T12:00:00Z"
    assert reading.document["problems"] == ["the watcher died"]
    assert stat.S_IMODE(os.stat(tmp_path / "responses" / STATUS_FILE).st_mode) == 0o644
    assert os.listdir(tmp_path / "responses") == [STATUS_FILE]


def test_the_lock_tells_whether_a_daemon_lives(tmp_path: Path, responses: int) -> None:
    """Not the document, which outlives it."""
    write(responses)
    path = tmp_path / "responses" / ".daemon"
    assert not read_status(str(tmp_path)).alive
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert not read_status(str(tmp_path)).alive
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert read_status(str(tmp_path)).alive
    os.close(fd)
    assert not read_status(str(tmp_path)).alive


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff"])
def test_a_document_that_cannot_be_read_is_none(
    tmp_path: Path, responses: int, content: bytes | None
) -> None:
    """Absent, empty, cut off or something else."""
    if content is not None:
        (tmp_path / "responses" / STATUS_FILE).write_bytes(content)
    assert read_status(str(tmp_path)).document is None


def test_a_staging_directory_that_is_not_there(tmp_path: Path) -> None:
    """That is an error, and not a daemon that is down."""
    with pytest.raises(FileNotFoundError):
        read_status(str(tmp_path / "none"))
    assert not read_status(str(tmp_path)).alive


def test_a_status_that_says_nothing_new_is_only_renewed(tmp_path: Path, responses: int) -> None:
    """Its mtime is the sign of life; it is written again if what it says has changed, or if it is gone."""
    path = tmp_path / "responses" / STATUS_FILE
    status = StatusFile(responses)
    made: list[int] = []

    def document() -> dict[str, object]:
        made.append(len(made))
        return {"made": len(made)}

    assert status.keep(("one", 1), document)
    os.utime(path, (0, 0))
    inode = path.stat().st_ino
    assert not status.keep(("one", 1), document)
    assert path.stat().st_mtime > 0
    assert status.touch()
    assert (path.stat().st_ino, len(made)) == (inode, 1)
    assert status.keep(("one", 2), document)
    assert read_status(str(tmp_path)).document == {"made": 2}
    path.unlink()
    assert not status.touch()
    assert status.keep(("one", 2), document)
    assert read_status(str(tmp_path)).document == {"made": 3}


def test_where_the_lock_may_not_be_asked_the_age_tells(tmp_path: Path, responses: int) -> None:
    """A daemon at rest gives its sign of life often enough for that."""
    write(responses)
    path = tmp_path / "responses" / STATUS_FILE
    os.symlink("elsewhere", tmp_path / "responses" / ".daemon")  # as good as one that may not be opened
    for age, alive in ((0.0, True), (2 * HEARTBEAT, True), (4 * HEARTBEAT, False)):
        os.utime(path, (path.stat().st_atime, time.time() - age))
        assert read_status(str(tmp_path)).alive is alive
