"""Manifests and links: parents, ancestors, and what counts for usage."""

import copy
import dataclasses
import pickle

import msgspec
import pytest

from gobblerd.domain.manifest import (
    Entry,
    FileAddress,
    Link,
    link_to,
    links_by_directory,
    stored_bytes,
)
from gobblerd.domain.names import Address

REAL = FileAddress("p", "a", "1", "d/f")
MIDDLE = FileAddress("p", "a", "2", "g")


def test_addresses_of_files() -> None:
    """A version and a path in it."""
    assert FileAddress.of(Address("p", "a", "1"), "d/f") == REAL
    assert REAL.place == Address("p", "a", "1")
    assert str(REAL) == "p/a/1/d/f"


def test_a_link_to_a_file() -> None:
    """No ancestor: the parent is the real file."""
    link = link_to(REAL, Entry(1, "x"))
    assert link == Link("p", "a", "1", "d/f")
    assert (link.parent, link.target) == (REAL, REAL)


def test_a_link_to_a_link() -> None:
    """The ancestor is the end of the chain, however long."""
    link = link_to(MIDDLE, Entry(1, "x", link_to(REAL, Entry(1, "x"))))
    assert (link.parent, link.ancestor, link.target) == (MIDDLE, REAL, REAL)
    last = FileAddress("p", "a", "3", "h")
    assert link_to(last, Entry(1, "x", link)) == Link.to(last, REAL)


def test_an_ancestor_that_is_the_parent_is_none() -> None:
    """One form for one thing."""
    assert Link.to(REAL, REAL) == Link.to(REAL)


def test_what_counts_for_usage() -> None:
    """Every entry without a link."""
    link = Link.to(REAL)
    assert stored_bytes({"f": Entry(3, "x"), "l": Entry(5, "y", link), "e": Entry()}) == 3
    assert stored_bytes({}) == 0


def test_empty_directories_and_empty_files() -> None:
    """An empty file has a checksum."""
    assert Entry().is_directory
    assert not Entry(0, "d41d8cd98f00b204e9800998ecf8427e").is_directory
    assert not Entry(0, "", Link.to(REAL)).is_directory


def test_links_by_directory() -> None:
    """Each directory that holds linked files itself, with their names."""
    link = Link.to(REAL)
    manifest = {"l": Entry(1, "x", link), "d/e/m": Entry(1, "x", link), "d/f": Entry(1, "x")}
    assert links_by_directory(manifest) == {"": {"l": link}, "d/e": {"m": link}}


def test_entries_are_values() -> None:
    """Whoever makes them: they compare, and stay as they are."""
    entry = Entry(3, "x", link_to(REAL, Entry(3, "x")))
    assert (Entry(), Entry(md5sum="x")) == (Entry(0, "", None), Entry(0, "x"))
    for same in (copy.deepcopy(entry), pickle.loads(pickle.dumps(entry)), dataclasses.replace(entry)):
        assert (same, hash(same), repr(same)) == (entry, hash(entry), repr(entry))
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
    assert dataclasses.replace(entry, size=4) == Entry(4, "x", entry.link)
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.size = 4  # type: ignore[misc]
