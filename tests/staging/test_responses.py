"""Response files: written beforehand with a transaction, and put in place when their time has come."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gobblerd.domain.messages import Identity, Response
from gobblerd.staging import responses as module
from gobblerd.staging.directory import Staging
from gobblerd.staging.responses import ResponseFiles
from gobblerd.storage import sync as syncing
from gobblerd.storage.files import Durability
from gobblerd.storage.sync import Disk

NAME = "request-a-1"
MOMENT = "2026-01-01T00:00:00Z"
DONE = Response(Identity(NAME, 1, 2, 3, "d"), "a", "alice", 200, {"status": "SUCCESS"}, MOMENT, MOMENT)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    opened = Staging.open(str(tmp_path), Durability.FULL)
    opened.disk = Disk(str(tmp_path), Durability.FULL, ordered=True, syncs_whole=True)
    yield opened
    opened.close()


@pytest.fixture
def files(staging: Staging) -> ResponseFiles:
    return ResponseFiles(staging)


def temporary(staging: Staging) -> list[str]:
    return [name for name in os.listdir(f"{staging.path}/responses") if name.startswith(".new-")]


def prepare(files: ResponseFiles, response: Response) -> int:
    """Prepare it, and return the inode of what was written."""
    fd = files.prepare(response)
    assert fd is not None
    inode = os.fstat(fd).st_ino
    os.close(fd)
    return inode


def test_what_was_prepared_is_only_renamed(staging: Staging, files: ResponseFiles) -> None:
    """It is nobody's response before that."""
    inode = prepare(files, DONE)
    assert files.read(NAME) is None
    assert list(files.names()) == []
    files.write(DONE, recorded=True)
    found = os.stat(f"{staging.path}/responses/{NAME}")
    assert (found.st_ino, found.st_mode & 0o7777) == (inode, 0o644)
    assert files.read(NAME) == DONE
    assert temporary(staging) == []


def test_another_response_is_written_anew(staging: Staging, files: ResponseFiles) -> None:
    """Of another outcome, of a touched file, and wherever no record holds it: what was prepared goes."""
    failed = replace(DONE, code=500, body={"status": "ERROR", "reason": "x"})
    touched = replace(DONE, identity=replace(DONE.identity, mtime_ns=9))
    for response, recorded in ((failed, True), (touched, True), (DONE, False)):
        for _ in range(2):  # the second time for a second try
            prepare(files, DONE)
        assert len(temporary(staging)) == 1
        files.write(response, recorded=recorded)
        assert files.read(NAME) == response
        assert temporary(staging) == []


def test_what_cannot_be_put_in_place_is_written_anew(
    staging: Staging, files: ResponseFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who tries again."""
    prepare(files, DONE)

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "rename", failing)
        with pytest.raises(OSError, match="broken"):
            files.write(DONE, recorded=True)
    files.write(DONE)
    assert files.read(NAME) == DONE
    assert temporary(staging) == []


def test_what_cannot_be_prepared_leaves_nothing(
    staging: Staging, files: ResponseFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it taken for prepared."""

    def failing(path: str, data: bytes, *, dir_fd: int) -> int:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, dir_fd=dir_fd))
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_opened", failing)
        with pytest.raises(OSError, match="full"):
            files.prepare(DONE)
    assert temporary(staging) == []
    files.write(DONE, recorded=True)
    assert files.read(NAME) == DONE


@pytest.mark.parametrize(("durability", "ordered"), [(Durability.PROCESS, True), (Durability.FULL, False)])
def test_nothing_is_prepared_where_that_saves_no_sync(
    staging: Staging, files: ResponseFiles, durability: Durability, *, ordered: bool
) -> None:
    """Without syncs, or where each name needs its own."""
    staging.disk = Disk(staging.path, durability, ordered=ordered, syncs_whole=True)
    assert files.prepare(DONE) is None
    files.write(DONE, recorded=True)
    assert files.read(NAME) == DONE


@pytest.mark.parametrize("ordered", [True, False])
def test_a_response_without_a_record_is_durable_bytes_first(
    staging: Staging, files: ResponseFiles, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    """One sync of the name commits both where one journal is in order; elsewhere the file has its own."""
    staging.disk = Disk(staging.path, Durability.FULL, ordered=ordered, syncs_whole=True)
    done: list[str] = []

    def note(how: str, fd: int) -> None:
        done.append(
            f"{how} {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))} {files.read(NAME) == DONE}"
        )

    monkeypatch.setattr(syncing, "write_back", lambda fds: note("settled", *fds))
    monkeypatch.setattr(os, "fsync", lambda fd: note("synced", fd))
    files.write(DONE)
    bytes_first = "settled .new-0 False" if ordered else "synced .new-0 False"
    assert done == [bytes_first, "synced responses True"]
