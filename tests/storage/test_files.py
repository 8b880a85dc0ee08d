"""Writing so that a reader sees the old bytes or the new ones; removing without following."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gobblerd.storage import files
from gobblerd.storage.files import (
    READ_DIRECTORY,
    Durability,
    begin_write_back,
    exists,
    opened,
    opened_beneath,
    read_all,
    rename,
    replace_file,
    sync_directory,
    sync_tree,
    write_all,
    write_back,
    write_file,
)
from gobblerd.storage.removal import remove_tree


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("durability", Durability)
def test_a_new_file_is_new(tmp_path: Path, here: int, durability: Durability) -> None:
    """0644, nothing overwritten, no link followed; by path or relative to a directory."""
    write_file(str(tmp_path / "a"), b"1", durability)
    write_file("b", b"2", durability, dir_fd=here)
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"12"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    (tmp_path / "l").symlink_to("target")
    for name in ("a", "l"):
        with pytest.raises(FileExistsError):
            write_file(str(tmp_path / name), b"3", durability)
    assert not (tmp_path / "target").exists()


def test_replacing(tmp_path: Path, here: int) -> None:
    """Old or new, whatever a crash left at the temporary name; a failure leaves the old and no rubbish."""
    (tmp_path / "tmp").write_bytes(b"left by a crash")
    replace_file(here, "tmp", "f", b"one", Durability.FULL)
    replace_file(here, "tmp", "f", b"two", Durability.PROCESS)
    assert (tmp_path / "f").read_bytes() == b"two"
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(here, "tmp", "d", b"three", Durability.FULL)
    assert sorted(os.listdir(tmp_path)) == ["d", "f"]


def test_reading_no_more_than_is_wanted(tmp_path: Path) -> None:
    """One byte more than the most tells that there is too much."""
    (tmp_path / "f").write_bytes(b"12345")
    for most, found in ((10, b"12345"), (5, b"12345"), (4, b"12345"), (2, b"123"), (0, b"1")):
        with files.opened(str(tmp_path / "f"), os.O_RDONLY) as fd:
            assert read_all(fd, most) == found


def test_writing_all_however_little_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short writes go on where they stopped."""
    taken: list[bytes] = []

    def write(_: int, data: memoryview) -> int:
        taken.append(bytes(data[:3]))
        return len(taken[-1])

    monkeypatch.setattr(os, "write", write)
    write_all(99, b"1234567")
    assert taken == [b"123", b"456", b"7"]


def test_removing_follows_nothing(tmp_path: Path) -> None:
    """A tree with links in it, a link to a tree, a file, and nothing at all."""
    (tmp_path / "kept" / "d").mkdir(parents=True)
    (tmp_path / "kept" / "f").write_bytes(b"1")
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "l").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "file").write_bytes(b"1")
    for name in ("tree", "link", "dangling", "file", "nothing", "nothing/below"):
        remove_tree(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["kept"]
    assert sorted(os.listdir(tmp_path / "kept")) == ["d", "f"]


def test_existence(tmp_path: Path) -> None:
    """Dangling links are something; below a file is nothing."""
    (tmp_path / "f").write_bytes(b"1")
    (tmp_path / "l").symlink_to("none")
    assert [exists(str(tmp_path / name)) for name in ("f", "l", "none", "f/x")] == [True, True, False, False]
    with pytest.raises(OSError, match="too long"):
        exists(str(tmp_path / ("x" * 300)))


def test_opening_beneath(tmp_path: Path, here: int) -> None:
    """Directory by directory, following no link on the way nor at the end; no descriptor stays."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_bytes(b"1")
    (tmp_path / "a" / "l").symlink_to("b")
    (tmp_path / "a" / "b" / "lf").symlink_to("f")
    before = len(os.listdir("/proc/self/fd"))
    with opened_beneath(here, ["a", "b", "f"]) as fd:
        assert os.read(fd, 5) == b"1"
    with opened_beneath(here, ["a", "b"], READ_DIRECTORY) as fd:
        assert sorted(os.listdir(fd)) == ["f", "lf"]
    for parts in (["a", "l", "f"], ["a", "b", "lf"], ["a", "none", "f"], ["a", "b", "f", "x"]):
        with pytest.raises(OSError, match=r"."), opened_beneath(here, parts):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_syncing_follows_nothing(tmp_path: Path) -> None:
    """Links, FIFOs and unreadable targets in a tree are passed over."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"1")
    (tmp_path / "d" / "l").symlink_to("/none")
    os.mkfifo(tmp_path / "d" / "pipe")
    sync_tree(str(tmp_path))
    sync_directory(str(tmp_path))


def test_a_rename_that_reports_failure_after_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS may: the inodes are believed, not the error."""
    real = os.rename

    def retransmitted(source: str, target: str) -> None:
        real(source, target)
        raise FileNotFoundError(errno.ENOENT, "retransmitted")

    (tmp_path / "a").write_bytes(b"1")
    monkeypatch.setattr(files.os, "rename", retransmitted)
    rename(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"1"


def test_a_rename_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies at the target is not taken for ours."""

    def failing(*_: str) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files.os, "rename", failing)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(OSError, match="broken"):
        rename(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(FileNotFoundError):
        rename(str(tmp_path / "none"), str(tmp_path / "b"))


def test_bytes_are_written_back(either: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no ranges, by a sync; an error of the storage is raised."""
    with opened(str(tmp_path / "f"), os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"1")
        begin_write_back(fd, 0, 1)
        write_back([fd])
        write_back([fd, fd])
    with pytest.raises(OSError, match="Bad file descriptor"):
        begin_write_back(-1, 0, 1)
    synced: list[int] = []
    monkeypatch.setattr(files, "sync", synced.append)
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_back([-1])
    reading, writing = os.pipe()  # has no ranges either: ESPIPE
    write_back([writing, writing])
    assert synced == [writing, writing]
    begin_write_back(writing, 0, 1)  # a hint that a pipe cannot take
    assert synced == [writing, writing]
    os.close(reading)
    os.close(writing)
