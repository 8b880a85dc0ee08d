"""`validate_version` changes nothing and says everything."""

import dataclasses
import hashlib
import os
import threading

import pytest
from support.registries import Book, To, make_context, snapshot

from gobblerd.actions.action import Context
from gobblerd.actions.validate import Problems, ValidateVersion
from gobblerd.domain.errors import Absent, Busy
from gobblerd.domain.names import Address

REQUEST = ValidateVersion(project="p", asset="a", version="2")


@pytest.fixture
def book(tmp_path: os.PathLike[str]) -> Book:
    book = Book(os.path.join(tmp_path, "registry"))
    book.version("p/a/1", {"f": b"first"})
    book.version("p/a/2", {"f": To("p/a/1/f"), "g": b"second"})
    return book


@pytest.fixture
def context(book: Book) -> Context:
    return make_context(book.root)


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def test_sound_version(book: Book, context: Context) -> None:
    """Success has no keys of its own, and nothing on disk changes."""
    before = snapshot(book.root)
    assert REQUEST.perform(context).answer == {}
    assert snapshot(book.root) == before
    assert not os.path.exists(book.full("..transactions"))


def test_all_problems_are_in_the_answer(book: Book, context: Context) -> None:
    """The reason names the first fault and how many more there are; `problems` lists them all."""
    write(book.full("p/a/2/extra"), b"")
    write(book.full("p/a/2/g"), b"sekond")
    before = snapshot(book.root)
    with pytest.raises(Problems) as raised:
        REQUEST.perform(context)
    assert raised.value.kind == "invalid"
    assert raised.value.reason == (
        '"p/a/2" is not valid: extra file "extra": expected nothing, found a regular file (and 1 more problem)'
    )
    assert raised.value.details() == {
        "problems": [
            {"path": "extra", "kind": "extra file", "expected": "nothing", "found": "a regular file"},
            {
                "path": "g",
                "kind": "wrong MD5 checksum",
                "expected": hashlib.md5(b"second").hexdigest(),
                "found": hashlib.md5(b"sekond").hexdigest(),
            },
        ]
    }
    assert snapshot(book.root) == before


def test_no_such_version(context: Context) -> None:
    """What is not there is 404, at each level."""
    for names in (("p", "a", "9"), ("p", "b", "1"), ("q", "a", "1")):
        with pytest.raises(Absent):
            ValidateVersion(project=names[0], asset=names[1], version=names[2]).perform(context)


def test_bytes_are_read_without_a_lock(book: Book, context: Context) -> None:
    """While the bytes are read, others may change the registry."""
    entered = []

    def progress(_done: int, _total: int) -> None:
        with context.changing(Address()):
            entered.append(threading.get_ident())

    ValidateVersion.perform(REQUEST, dataclasses.replace(context, progress=progress))
    assert entered


def test_version_that_changes_meanwhile_is_read_again(book: Book, context: Context) -> None:
    """A check that mixes before and after counts for nothing; one that never holds still is 503."""
    rounds = []

    def replace_manifest() -> None:
        with open(book.full("p/a/2/..manifest"), "rb") as file:
            data = file.read()
        write(book.full("p/a/2/..new"), data)
        os.rename(book.full("p/a/2/..new"), book.full("p/a/2/..manifest"))

    def once(_done: int, _total: int) -> None:
        if not rounds:
            replace_manifest()
        rounds.append(1)

    REQUEST.perform(dataclasses.replace(context, progress=once))
    assert len(rounds) == 2
    with pytest.raises(Busy):
        REQUEST.perform(dataclasses.replace(context, progress=lambda _done, _total: replace_manifest()))


def test_version_deleted_meanwhile_is_absent(book: Book, context: Context) -> None:
    """What went away during the check is 404, not a list of missing files."""

    def gone(_done: int, _total: int) -> None:
        if os.path.exists(book.full("p/a/2")):
            os.rename(book.full("p/a/2"), book.full("gone"))

    with pytest.raises(Absent):
        REQUEST.perform(dataclasses.replace(context, progress=gone))


def test_progress_may_stop_it(context: Context) -> None:
    """A drain ends the check with 503."""

    def stop(_done: int, _total: int) -> None:
        raise Busy("shutting down")

    with pytest.raises(Busy, match="shutting down"):
        REQUEST.perform(dataclasses.replace(context, progress=stop))


def test_progress_tells_the_total(context: Context) -> None:
    """Progress is told of the bytes of the version's own files."""
    told: list[tuple[int, int]] = []
    REQUEST.perform(dataclasses.replace(context, progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (6, 6)
