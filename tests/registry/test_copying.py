"""What is hashed is what is written, and a file that does not hold still is refused."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash

from gobblerd.domain.errors import Stopped, Wrong
from gobblerd.registry import copying
from gobblerd.registry.copying import (
    CHUNK,
    IN_MEMORY,
    Digest,
    copy_file,
    digest_file,
    digest_of_bytes,
    fast_checksum,
    read_file,
)
from gobblerd.registry.source import Stamp
from gobblerd.storage.batches import write_new

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def opened(path: Path, size: int) -> int:
    path.write_bytes(os.urandom(size))
    return os.open(path, os.O_RDONLY)


def expected(path: Path) -> tuple[int, str, str]:
    data = path.read_bytes()
    return len(data), hashlib.md5(data).hexdigest(), xxhash.xxh3_128_hexdigest(data)


def found(digest: Digest) -> tuple[int, str, str]:
    return digest.size, digest.md5sum, digest.xxh128


@pytest.mark.parametrize("size", SIZES)
def test_all_ways_agree(tmp_path: Path, out: int, size: int) -> None:
    """Hashing, copying and reading whole give the same digest, the ticks add up, the copy is the file."""
    fd = opened(tmp_path / "f", size)
    ticks: list[int] = []
    digests = [digest_file(fd, "f", ticks.append), copy_file(fd, "f", "copy", out, ticks.append)]
    data, stamp = read_file(fd, "f")
    digests.append(digest_of_bytes(data, stamp))
    os.close(fd)
    assert {found(d) for d in digests} == {expected(tmp_path / "f")}
    assert {d.stamp for d in digests} == {Stamp.of(os.stat(tmp_path / "f"))}
    assert sum(ticks) == 2 * size
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "f").read_bytes() == data
    assert fast_checksum(str(tmp_path / "copy")) == (size, digests[0].xxh128)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * CHUNK)


def shrink(path: Path) -> None:
    os.truncate(path, CHUNK + 1)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, (2, 2))


@pytest.mark.parametrize("change", [grow, shrink, touch, rewrite])
@pytest.mark.parametrize("way", ["digest", "copy"])
def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, out: int, change: Callable[[Path], None], way: str
) -> None:
    """Whatever changes while it is read: Wrong names the file."""
    path = tmp_path / "f"
    fd = opened(path, 3 * CHUNK)

    def tick(_: int) -> None:
        change(path)

    with pytest.raises(Wrong, match=r'"d/f" changed'):
        digest_file(fd, "d/f", tick) if way == "digest" else copy_file(fd, "d/f", "copy", out, tick)
    os.close(fd)


def test_a_file_that_grows_for_ever_is_not_followed(tmp_path: Path, out: int) -> None:
    """Reading ends at the size that the file had when it was opened."""
    path = tmp_path / "f"
    fd = opened(path, CHUNK)
    seen: list[int] = []

    def tick(size: int) -> None:
        seen.append(size)
        grow(path)

    with pytest.raises(Wrong):
        copy_file(fd, "f", "copy", out, tick)
    os.close(fd)
    assert seen == [CHUNK]
    assert (tmp_path / "copy").stat().st_size == CHUNK


def test_what_is_small_no_more_is_not_read_into_memory(tmp_path: Path) -> None:
    """A file that grew between two looks costs no memory."""
    fd = opened(tmp_path / "f", 1)
    os.truncate(tmp_path / "f", IN_MEMORY + 1)
    with pytest.raises(Wrong, match="changed"):
        read_file(fd, "f")
    os.close(fd)


def test_a_tick_that_raises_stops_the_copy(tmp_path: Path, out: int) -> None:
    """That is how a daemon that stops ends a long upload."""
    fd = opened(tmp_path / "f", 3 * CHUNK)

    def stop(_: int) -> None:
        raise Stopped

    for work in (lambda: digest_file(fd, "f", stop), lambda: copy_file(fd, "f", "copy", out, stop)):
        with pytest.raises(Stopped):
            work()
    os.close(fd)


def test_new_files_are_new_and_0644(tmp_path: Path, out: int) -> None:
    """Nothing is overwritten, no link is followed, the mode is the registry's."""
    old = os.umask(0)
    try:
        write_new("new", b"1", out)
        fd = os.open(tmp_path / "new", os.O_RDONLY)
        copy_file(fd, "new", "copy", out, lambda _: None)
    finally:
        os.umask(old)
    assert {(tmp_path / name).stat().st_mode & 0o7777 for name in ("new", "copy")} == {0o644}
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("new", "link"):
        with pytest.raises(FileExistsError):
            write_new(name, b"2", out)
        with pytest.raises(FileExistsError):
            copy_file(fd, "new", name, out, lambda _: None)
    os.close(fd)


def test_a_checksum_of_what_is_no_file_never_blocks(tmp_path: Path) -> None:
    """A whitelisted file may have become a FIFO: OSError, at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "none", "."):
        with pytest.raises(OSError, match=r"."):
            fast_checksum(str(tmp_path / name))


def test_a_file_that_vanished_on_its_server_is_the_user_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESTALE, as a file server answers for a file that another client removed: Wrong, not a fault."""
    import errno

    def stale(*_: object) -> bytes:
        raise OSError(errno.ESTALE, "stale")

    fd = opened(tmp_path / "f", 10)
    monkeypatch.setattr(copying.os, "pread", stale)
    with pytest.raises(Wrong, match="changed"):
        digest_file(fd, "f", lambda _: None)
    monkeypatch.undo()
    os.close(fd)
