"""Manifests are found and read as they are on disk."""

import os
from pathlib import Path

import pytest
from support.registries import Book

from gobblerd.domain.names import ROOT, Address
from gobblerd.registry import listing, manifests
from gobblerd.registry.listing import directories_in
from gobblerd.registry.manifests import Versions, read_stamped, stamp_at
from gobblerd.registry.metadata import Metadata


@pytest.fixture
def root(tmp_path: Path) -> str:
    book = Book(str(tmp_path))
    for place in ("p/a/1", "p/a/2", "p/b/1", "q/a/1"):
        book.version(place, {"f": place.encode()})
    return str(tmp_path)


def test_every_version_is_found_with_the_path_of_its_manifest(root: str) -> None:
    os.unlink(f"{root}/p/a/2/..manifest")  # whether it is there is the caller's business
    metadata = Metadata(root)
    versions = Versions(root)
    assert list(versions.below(metadata.children(ROOT))) == [
        (*place.split("/"), f"{root}/{place}/..manifest") for place in ("p/a/1", "p/a/2", "p/b/1", "q/a/1")
    ]
    assert [found[:3] for found in versions.below([Address("q")])] == [("q", "a", "1")]


def test_what_came_and_went_is_noticed(root: str) -> None:
    versions = Versions(root)
    list(versions.below([Address("p")]))
    os.rename(f"{root}/p/a/1", f"{root}/p/a/3")
    os.rename(f"{root}/p/b", f"{root}/p/c")
    os.mkdir(f"{root}/p/a/..internal")
    assert ["/".join(found[:3]) for found in versions.below([Address("p")])] == ["p/a/2", "p/a/3", "p/c/1"]


def test_what_is_gone_holds_nothing_for_the_tolerant(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        list(Versions(root).below([Address("none")]))
    Path(root, "p", "file").touch()
    os.symlink("a", f"{root}/p/link")
    versions = Versions(root, tolerant=True)
    assert list(versions.below([Address("none")])) == []
    assert versions.projects() == [Address("p"), Address("q")]


@pytest.mark.parametrize("way", ["extension", "python"])
@pytest.mark.parametrize("page", [2, 10_000])
def test_directories_are_those_that_may_be_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, page: int
) -> None:
    """In order by name; no file, no link, nothing internal, nothing that is not UTF-8."""
    if way == "python":
        monkeypatch.setattr(listing, "NAMES", None)
    elif listing.NAMES is None:
        pytest.skip("the C extension was not built")
    monkeypatch.setattr(listing, "PAGE", page)
    internal = [b"..LOCK", b"..logs", b"..\xff", b"..."]
    wanted = ["-", ".hidden", ".~", "a", "a b", "é", "\U0001f600", ". .", ".-"]
    for name in (*internal, b"bad\xff", *map(os.fsencode, wanted)):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    (tmp_path / "file").touch()
    os.symlink("a", tmp_path / "link")
    assert directories_in(str(tmp_path)) == sorted(wanted)


def test_bytes_come_with_the_stamp_that_the_file_has(root: str) -> None:
    path = f"{root}/p/a/1/..manifest"
    stamp, data = read_stamped(path)
    assert data == Path(path).read_bytes()
    assert stamp == stamp_at(path)
    os.utime(path)
    assert stamp != stamp_at(path)


def test_no_file_has_no_stamp(root: str) -> None:
    assert stamp_at(f"{root}/p/a/1/nothing") is None
    assert stamp_at(f"{root}/p/a/1/..manifest/nothing") is None


def test_a_short_read_is_continued(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read returns 2 GiB at the most, and a file may grow."""
    path = f"{root}/p/a/1/..manifest"
    monkeypatch.setattr(manifests.os, "read", lambda fd, _count, real=os.read: real(fd, 3))
    assert read_stamped(path)[1] == Path(path).read_bytes()
