"""Temporary files and directories: theirs who write them, whoever clears up meanwhile."""

import errno
import fcntl
import itertools
import os
import stat
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.archives import leave_abandoned
from support.images import small_disk
from support.places import Users, give_to

from gobblerd.archive import writing
from gobblerd.archive.writing import is_temporary, permitted, remove_abandoned, temporary, temporary_directory


def test_what_is_being_written_survives_those_who_clear_up(tmp_path: Path) -> None:
    """Also in the moment between its creation and its lock."""
    stop = threading.Event()

    def clear_up() -> None:
        while not stop.is_set():
            remove_abandoned(str(tmp_path))

    threads = [threading.Thread(target=clear_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for at in range(300):
            with temporary(str(tmp_path)) as found:
                found.file.write(b"x")
                found.rename(str(tmp_path / f"file-{at}"))
            with temporary_directory(str(tmp_path)) as path:
                os.rename(path, tmp_path / f"directory-{at}")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert len(os.listdir(tmp_path)) == 600


@pytest.mark.parametrize("size", [5000, 500_000])
def test_a_full_disk_is_named(size: int) -> None:
    """Also if what did not fit is still in the file's buffer when the file is closed."""

    def write(directory: str) -> None:
        with temporary(directory) as found:
            found.file.write(bytes(size))
            found.sync()

    with small_disk("4k") as disk:
        with pytest.raises(OSError, match="No space left") as caught:
            write(disk)
        assert caught.value.filename == disk
        assert os.listdir(disk) == []


def test_what_nobody_writes_any_more_goes(tmp_path: Path) -> None:
    """And nothing but that, whatever it is called."""
    (tmp_path / "gobblerd.partial").touch()
    leave_abandoned(tmp_path)
    with temporary(str(tmp_path)) as found, temporary_directory(str(tmp_path)) as path:
        assert remove_abandoned(str(tmp_path)) == 0
        assert sorted(os.listdir(tmp_path)) == sorted(
            ["gobblerd.partial", *map(os.path.basename, (found.path, path))]
        )
    assert os.listdir(tmp_path) == ["gobblerd.partial"]
    assert is_temporary(os.path.basename(path))


def test_what_another_machine_left_goes_after_a_day(tmp_path: Path) -> None:
    """Its locks may not reach here, so it must have been left alone: in its depths, too."""
    (tmp_path / ".gobblerd-00000000-01.partial").touch()
    (tmp_path / ".gobblerd-00000000-02.partial/deep").mkdir(parents=True)
    now = time.time_ns()
    with temporary(str(tmp_path)):
        pass
    assert remove_abandoned(str(tmp_path), now + 86_000 * 10**9) == 0
    assert len(os.listdir(tmp_path)) == 2
    assert remove_abandoned(str(tmp_path), now + 87_000 * 10**9) == 2
    assert os.listdir(tmp_path) == []


def test_what_another_user_left_stays(tmp_path: Path, users: Users) -> None:
    """Also where root looks."""
    left = leave_abandoned(tmp_path)
    for name in left:
        give_to(str(tmp_path / name), users.bob)
    assert remove_abandoned(str(tmp_path), time.time_ns() * 2) == 0
    assert {*os.listdir(tmp_path)} == left


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Lustre without `-o flock`: it is written all the same, and what is left goes after a day."""
    leave_abandoned(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary(str(tmp_path)) as found:
        found.rename(str(tmp_path / "whole"))
    assert len(os.listdir(tmp_path)) == 3
    assert remove_abandoned(str(tmp_path), time.time_ns() + 87_000 * 10**9) == 2
    assert os.listdir(tmp_path) == ["whole"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_says_who_may_read_it(tmp_path: Path, umask: int) -> None:
    """An archive of private files is private where whoever makes it works so."""
    old = os.umask(umask)
    try:
        with temporary(str(tmp_path)) as found:
            assert stat.S_IMODE(os.fstat(found.file.fileno()).st_mode) == 0o666 & ~umask
        assert permitted(0o777) == 0o777 & ~umask
    finally:
        os.umask(old)


# From Python 3.13 on it may come between a scandir's last entry and its end: then whoever collects it closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    """From before the file or directory is made until the block is left."""

    class Interrupted(BaseException):
        """As Ctrl-C is one."""

    before = sys.gettrace()
    for make in (temporary, temporary_directory):
        for steps in itertools.count():
            left = [steps]

            def trace(frame: FrameType, event: str, _arg: object, left: list[int] = left) -> Any:
                if frame.f_code.co_filename == writing.__file__ and event == "line":
                    left[0] -= 1
                    if left[0] < 0:
                        sys.settrace(None)
                        raise Interrupted
                return trace

            sys.settrace(trace)
            try:
                with make(str(tmp_path)):
                    sys.settrace(None)
            except Interrupted:
                assert os.listdir(tmp_path) == [], steps
            else:
                break
            finally:
                sys.settrace(before)
        assert steps > 5
