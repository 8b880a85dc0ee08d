"""Consuming removes exactly what was stored and is still what was stored; failing is no error."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gobblerd.registry.consume import consume, consume_listed, listing_bytes
from gobblerd.registry.source import Stamp


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "s" / "d").mkdir(parents=True)
    for name in ("a", "d/b", "d/c", "e"):
        (tmp_path / "s" / name).write_bytes(b"data")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def source(tmp_path: Path, staging: int) -> Iterator[int]:
    fd = os.open(tmp_path / "s", os.O_RDONLY)
    yield fd
    os.close(fd)


def stamps(top: Path, *names: str) -> dict[str, Stamp]:
    return {name: Stamp.of(os.lstat(top / "s" / name)) for name in names}


def left(top: Path) -> set[str]:
    return {str(p.relative_to(top / "s")) for p in (top / "s").rglob("*") if not p.is_dir()}


def test_only_listed_files_go(tmp_path: Path, source: int) -> None:
    """What is not listed stays, and so do directories."""
    consume(source, stamps(tmp_path, "a", "d/b"))
    assert left(tmp_path) == {"d/c", "e"}
    consume(source, stamps(tmp_path, "d/c", "e"))
    assert left(tmp_path) == set()
    assert (tmp_path / "s" / "d").is_dir()


def rewrite(path: Path) -> None:
    path.write_bytes(b"more data")


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"data")
    os.utime(path, (5, 5))


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def remove(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [rewrite, touch, replace, link, remove, directory])
def test_what_is_no_more_what_was_read_stays(
    tmp_path: Path, source: int, change: Callable[[Path], None]
) -> None:
    """A file that was changed since is not touched, and the rest still goes."""
    listed = stamps(tmp_path, "a", "d/b", "d/c", "e")
    change(tmp_path / "s" / "d" / "b")
    after = os.path.lexists(tmp_path / "s" / "d" / "b")
    consume(source, listed)
    assert os.path.lexists(tmp_path / "s" / "d" / "b") == after
    assert left(tmp_path) <= {"d/b"}


def test_directories_are_not_followed(tmp_path: Path, source: int) -> None:
    """A directory swapped for a link to another: nothing is removed there."""
    listed = stamps(tmp_path, "d/b", "e")
    (tmp_path / "s" / "d").rename(tmp_path / "moved")
    (tmp_path / "s" / "d").symlink_to(tmp_path / "moved")
    consume(source, listed)
    assert (tmp_path / "moved" / "b").exists()
    assert not (tmp_path / "s" / "e").exists()


def test_a_listing_is_finished_after_a_crash(tmp_path: Path, staging: int) -> None:
    """By name, if the directory is still the same one."""
    listed = stamps(tmp_path, "a", "d/b")
    listing = tmp_path / "listing"
    listing.write_bytes(listing_bytes(listed))
    inode = os.stat(tmp_path / "s").st_ino
    consume_listed(staging, "s", inode + 1, str(listing))
    assert left(tmp_path) == {"a", "d/b", "d/c", "e"}
    consume_listed(staging, "s", inode, str(listing))
    assert left(tmp_path) == {"d/c", "e"}
    consume_listed(staging, "s", inode, str(listing))


@pytest.mark.parametrize("listing", [b"", b"[]", b'{"a": 1}'])
def test_trouble_is_no_error(tmp_path: Path, staging: int, listing: bytes) -> None:
    """A listing that cannot be read, a source that is gone or a link: nothing happens."""
    (tmp_path / "listing").write_bytes(listing)
    inode = os.stat(tmp_path / "s").st_ino
    consume_listed(staging, "s", inode, str(tmp_path / "listing"))
    consume_listed(staging, "s", inode, str(tmp_path / "none"))
    consume_listed(staging, "gone", inode, str(tmp_path / "listing"))
    assert left(tmp_path) == {"a", "d/b", "d/c", "e"}


def test_a_source_that_became_a_link_is_left_alone(tmp_path: Path, staging: int) -> None:
    """The source's own name is not followed either."""
    (tmp_path / "listing").write_bytes(listing_bytes(stamps(tmp_path, "a")))
    (tmp_path / "s").rename(tmp_path / "other")
    (tmp_path / "s").symlink_to("other")
    consume_listed(staging, "s", os.stat(tmp_path / "s").st_ino, str(tmp_path / "listing"))
    assert (tmp_path / "other" / "a").exists()
