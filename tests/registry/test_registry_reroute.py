"""What `Reroute` plans, and when it notices that the plan does not hold any more."""

import os
from collections.abc import Callable

import pytest
from support.registries import Book, To, read_json, write_json

from gobblerd.domain.errors import Fault
from gobblerd.domain.links import Doomed
from gobblerd.domain.names import Address
from gobblerd.registry.linkscan import LinkScan
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.registry import Registry
from gobblerd.registry.reroute import Reroute
from gobblerd.registry.transaction import Origin
from gobblerd.storage.files import Durability

DOOMED = Doomed([Address("gone")])


@pytest.fixture
def book(tmp_path: os.PathLike[str]) -> Book:
    book = Book(os.path.join(tmp_path, "registry"))
    book.version("gone/a/1", {"f": b"first", "g": b"second"})
    book.version("p/a/1", {"own": b"own", "f": To("gone/a/1/f")})
    book.version("p/a/2", {"own": To("p/a/1/own"), "f": To("p/a/1/f")})
    book.version("q/a/1", {"own": b"own"})
    return book


@pytest.fixture
def reroute(book: Book) -> Reroute:
    return Reroute(Metadata(book.root), DOOMED, [], lambda _done, _total: None)


def planned(reroute: Reroute) -> list[tuple[str, str]]:
    return [(change.path, str(change.new.parent) if change.new else "copy") for change in reroute.changes]


def replace(book: Book, path: str) -> None:
    """Write a document anew, as an atomic replacement with the same contents."""
    write_json(book.full(f"{path}.new"), read_json(book.full(path)))
    os.rename(book.full(f"{path}.new"), book.full(path))


def test_plan(reroute: Reroute) -> None:
    """The link loses its parent and becomes a copy; the link to it loses its ancestor and stays a link."""
    reroute.plan()
    assert planned(reroute) == [("p/a/1/f", "copy"), ("p/a/2/f", "p/a/1/f")]


def test_order_of_steps(book: Book, reroute: Reroute) -> None:
    """Whoever reads without locks finds the copy before ..links forget the link, and the manifest last."""
    reroute.plan()
    registry = Registry(book.root, staging="00", durability=Durability.PROCESS)
    with registry.transaction(Origin("00")) as transaction:
        reroute.stage(transaction)
        steps = [(step.kind, step.path) for step in transaction.plan.steps]
        usage = transaction.plan.values.usage_changes
    assert steps == [
        ("install", "p/a/1/f"),
        ("remove", "p/a/1/..links"),
        ("install", "p/a/1/..manifest"),
        ("install", "p/a/1/..checksums"),
        ("install", "p/a/2/f"),
        ("install", "p/a/2/..links"),
        ("install", "p/a/2/..manifest"),
    ]
    assert usage == {"p": 5}


UNRELATED: list[Callable[[Book], object]] = [
    lambda b: b.version("q/a/2", {"new": b"new", "own": To("q/a/1/own")}),
    lambda b: os.rename(b.full("q/a/1"), b.full("q/a/x")),
    lambda b: replace(b, "q/a/1/..manifest"),
    lambda b: replace(b, "gone/a/1/..manifest"),
    lambda b: b.version("gone/a/2", {"f": To("gone/a/1/f")}),
]


@pytest.mark.parametrize("change", UNRELATED)
def test_unrelated_changes_do_not_matter(
    book: Book, reroute: Reroute, change: Callable[[Book], object]
) -> None:
    """Bytes are not copied again because somebody uploads something else."""
    reroute.plan()
    registry = Registry(book.root, staging="00", durability=Durability.PROCESS)
    with registry.transaction(Origin("00")) as transaction:
        reroute.stage(transaction)
        change(book)
        assert reroute.is_current()
        assert reroute.is_current()


RELATED: list[Callable[[Book], object]] = [
    lambda b: b.version("q/a/2", {"new": To("gone/a/1/g")}),
    lambda b: b.version("r/a/1", {"new": To("p/a/2/f")}, on_probation=True),
    lambda b: os.rename(b.full("p/a/2"), b.full("p/gone")),
    lambda b: replace(b, "p/a/2/..manifest"),
    lambda b: b.edit("p/a/1/..manifest", {}),
]


@pytest.mark.parametrize("change", RELATED)
def test_changes_that_matter_are_noticed(
    book: Book, reroute: Reroute, change: Callable[[Book], object]
) -> None:
    """New links, gone links, and any change of a manifest that was rewritten."""
    reroute.plan()
    registry = Registry(book.root, staging="00", durability=Durability.PROCESS)
    with registry.transaction(Origin("00")) as transaction:
        reroute.stage(transaction)
        change(book)
        assert not reroute.is_current()
    reroute.plan()
    with registry.transaction(Origin("00")) as transaction:
        reroute.stage(transaction)
        assert reroute.is_current()


def test_names_that_are_written_with_escapes(tmp_path: os.PathLike[str]) -> None:
    """However JSON spells a project's name, links to it are found."""
    book = Book(os.path.join(tmp_path, "registry"))
    for number, name in enumerate(('quo"te', "back\\slash", "é日本", "<&>")):
        book.version(f"{name}/a/1", {"f": b"first"})
        place = book.version(f"p/a/{number}", {"f": To(f"{name}/a/1/f")})
        metadata = Metadata(book.root)
        for ascii_only in (True, False):
            path = book.full(f"{place}/..manifest")
            write_json(path, read_json(path), ascii_only=ascii_only)
            scan = LinkScan(metadata, Doomed([Address(name)]))
            scan.refresh()
            assert ["/".join((*found[:3], name)) for found, name, _, _ in scan.affected()] == [f"{place}/f"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b'{"f": {"size": 3', b"[]"])
def test_unreadable_manifest_is_a_fault(book: Book, damage: bytes) -> None:
    """Nobody knows where the links of a damaged manifest go."""
    with open(book.full("q/a/1/..manifest"), "wb") as file:
        file.write(damage)
    scan = LinkScan(Metadata(book.root), DOOMED)
    scan.refresh()
    with pytest.raises(Fault, match=r"q/a/1/\.\.manifest"):
        scan.require_readable()


def test_missing_manifest_is_a_fault_while_it_is_missing(book: Book) -> None:
    """An upload of a Go service may be under way; once its manifest is there, all is well."""
    os.rename(book.full("q/a/1/..manifest"), book.full("q/a/1/..later"))
    scan = LinkScan(Metadata(book.root), DOOMED)
    assert scan.refresh()
    with pytest.raises(Fault):
        scan.require_readable()
    assert not scan.refresh(), "still missing is no change"
    os.rename(book.full("q/a/1/..later"), book.full("q/a/1/..manifest"))
    assert scan.refresh()
    scan.require_readable()
    assert not scan.refresh()
