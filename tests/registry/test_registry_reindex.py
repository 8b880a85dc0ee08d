"""What `Reindex` reads, and when it notices that it is not so any more."""

import os
from collections.abc import Callable

import pytest
from support.registries import Book, To

from gobblerd.domain.errors import Invalid
from gobblerd.domain.names import Address
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.reindex import Reindex

VERSION = Address("p", "a", "2")


@pytest.fixture
def book(tmp_path: os.PathLike[str]) -> Book:
    book = Book(os.path.join(tmp_path, "registry"))
    book.version("p/a/1", {"f": b"first"})
    book.version("p/a/2", {"g": b"second", "d/h": b"third", "l": To("p/a/1/f"), "d/e": None})
    return book


@pytest.fixture
def hashed() -> list[int]:
    return []


@pytest.fixture
def reindex(book: Book, hashed: list[int]) -> Reindex:
    return Reindex(Metadata(book.root), VERSION, [], lambda done, _total: hashed.append(done))


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def test_unchanged(reindex: Reindex) -> None:
    """What did not change is current, however often it is asked."""
    rebuilt = reindex.read()
    assert rebuilt.flaw is None
    assert reindex.is_current(rebuilt)
    assert reindex.is_current(rebuilt)


CHANGES: list[Callable[[Book], object]] = [
    lambda b: write(b.full("p/a/2/g"), b"sekond"),
    lambda b: os.chmod(b.full("p/a/2/g"), 0o600),
    lambda b: write(b.full("p/a/2/new"), b""),
    lambda b: os.mkdir(b.full("p/a/2/new")),
    lambda b: write(b.full("p/a/2/d/e/x"), b""),
    lambda b: os.unlink(b.full("p/a/2/l")),
    lambda b: write(b.full("p/a/2/d/..links"), b"{}"),
    lambda b: os.unlink(b.full("p/a/2/..links")),
    lambda b: b.edit("p/a/1/..manifest", {}),
    lambda b: b.edit("p/a/1/..summary", {}),
    lambda b: os.rename(b.full("p/a/1"), b.full("p/a/x")),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(book: Book, reindex: Reindex, change: Callable[[Book], object]) -> None:
    """Files, links, directories, ..links and the versions that are linked to: all are looked at again."""
    rebuilt = reindex.read()
    change(book)
    assert not reindex.is_current(rebuilt)


def test_only_what_changed_is_hashed_again(book: Book, reindex: Reindex, hashed: list[int]) -> None:
    """Starting over costs the stats, and the bytes of what is new."""
    reindex.read()
    assert hashed[-1] == len(b"second" + b"third")
    hashed.clear()
    write(book.full("p/a/2/new"), b"12345678")
    rebuilt = reindex.read()
    assert hashed == [8]
    assert set(rebuilt.manifest) == {"g", "d/h", "l", "d/e", "new"}
    assert set(rebuilt.checksums) == {"g", "d/h", "new"}


def test_flaw_is_kept_until_the_lock(book: Book, reindex: Reindex) -> None:
    """What stands in the way may be a change half seen: it is told, not raised."""
    os.symlink("/etc/passwd", book.full("p/a/2/bad"))
    rebuilt = reindex.read()
    assert isinstance(rebuilt.flaw, Invalid)
    assert reindex.is_current(rebuilt)
    os.unlink(book.full("p/a/2/bad"))
    assert not reindex.is_current(rebuilt)
    assert reindex.read().flaw is None


def test_what_is_gone_at_the_next_reading_is_forgotten(
    book: Book, reindex: Reindex, hashed: list[int]
) -> None:
    """And hashed afresh if it comes back, whatever stamp it has then."""
    assert sorted(reindex.read().checksums) == ["d/h", "g"]
    os.rename(book.full("p/a/2/g"), book.full("p/a/x"))
    rebuilt = reindex.read()
    assert rebuilt.flaw is None
    assert (sorted(rebuilt.manifest), sorted(rebuilt.checksums)) == (["d/e", "d/h", "l"], ["d/h"])
    assert reindex.is_current(rebuilt)
    hashed.clear()
    os.rename(book.full("p/a/x"), book.full("p/a/2/g"))
    rebuilt = reindex.read()
    assert (sorted(rebuilt.checksums), hashed) == (["d/h", "g"], [len(b"second")])
    assert reindex.is_current(rebuilt)
