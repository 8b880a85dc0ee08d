"""`reindex_version` rebuilds what can be rebuilt from the files, and touches nothing else."""

import dataclasses
import json
import os
from collections.abc import Callable

import pytest
from support import corpus
from support.bench import Bench
from support.checker import audit
from support.registries import Book, To, Whitelisted, make_context, read_json, snapshot

from gobblerd.actions.action import Context
from gobblerd.actions.reindex import ReindexVersion
from gobblerd.actions.validate import ValidateVersion
from gobblerd.domain.errors import Absent, Busy, Invalid

REQUEST = ReindexVersion(project="p", asset="a", version="2")


@pytest.fixture
def book(tmp_path: os.PathLike[str]) -> Book:
    outside = os.path.join(tmp_path, "outside")
    os.mkdir(outside)
    write(os.path.join(outside, "big"), b"whitelisted")
    book = Book(os.path.join(tmp_path, "registry"))
    book.version("q/b/1", {"real": b"far away"})
    book.version("p/a/1", {"f": b"first", "far": To("q/b/1/real")})
    book.version(
        "p/a/2",
        {
            "plain": b"plain bytes",
            "d/deep": b"deep",
            "d/empty": None,
            "linked": To("p/a/1/f"),
            "chained": To("p/a/1/far"),
            "d/local": To("p/a/2/plain"),
            "d/again": To("p/a/2/d/local"),
            "d/outward": To("p/a/2/chained"),
            "white": Whitelisted(os.path.join(outside, "big")),
        },
    )
    return book


@pytest.fixture
def context(book: Book, tmp_path: os.PathLike[str]) -> Context:
    return make_context(book.root, whitelist=[os.path.join(tmp_path, "outside")])


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def finish(context: Context) -> None:
    context.registry.finish(context.origin)
    context.registry.close()


def documents(book: Book, place: str = "p/a/2") -> dict[str, object]:
    """Return the parsed manifest and ..links of a version."""
    found = {}
    for directory, _, names in os.walk(book.full(place)):
        for name in names:
            if name in {"..manifest", "..links"}:
                full = os.path.join(directory, name)
                found[os.path.relpath(full, book.full(place))] = read_json(full)
    return found


def texts(book: Book) -> dict[str, str]:
    return {path: entry[1] for path, entry in snapshot(book.root).items() if isinstance(entry, tuple)}


def event(book: Book) -> list[dict[str, object]]:
    logs = book.full("..logs")
    return [read_json(os.path.join(logs, name)) for name in os.listdir(logs)] if os.path.isdir(logs) else []


@pytest.mark.parametrize(
    "damage", ["none", "no manifest", "empty manifest", "manifest cut short", "wrong entries"]
)
def test_manifest_and_links_are_restored(book: Book, context: Context, damage: str) -> None:
    """Whatever happened to the manifest, it comes back exactly: parents by ..links, ancestors by walking."""
    expected, links = documents(book), texts(book)
    path = book.full("p/a/2/..manifest")
    if damage == "no manifest":
        os.unlink(path)
    elif damage != "none":
        write(
            path,
            {"empty manifest": b"{}", "manifest cut short": b'{"a":', "wrong entries": b'{"x": {"size": 1}}'}[
                damage
            ],
        )
    REQUEST.perform(context)
    finish(context)
    assert documents(book) == expected
    assert texts(book) == links
    assert audit(book.root, context.policy.whitelist) == []
    ValidateVersion(project="p", asset="a", version="2").perform(context)


def test_event_and_what_is_not_touched(book: Book, context: Context) -> None:
    """One event, with the latest flag; usage, latest and summary stay even where they are wrong."""
    book.edit("p/..usage", {"total": 7})
    book.edit("p/a/..latest", {"version": "1"})
    before = snapshot(book.root)
    REQUEST.perform(context)
    finish(context)
    assert event(book) == [
        {"type": "reindex-version", "project": "p", "asset": "a", "version": "2", "latest": False}
    ]
    after = snapshot(book.root)
    for path in ("p/..usage", "p/a/..latest", "p/a/2/..summary"):
        assert after[path] == before[path]


def test_latest_flag(book: Book, context: Context) -> None:
    """The event of the latest version says so."""
    REQUEST.perform(context)
    assert [found["latest"] for found in event(book)] == [True]


def test_probational_version_has_no_event(book: Book, context: Context) -> None:
    """A version on probation is reindexed silently; its links to itself are no links to probation."""
    book.edit("p/a/2/..summary", {**read_json(book.full("p/a/2/..summary")), "on_probation": True})
    os.unlink(book.full("p/a/2/..manifest"))
    REQUEST.perform(context)
    assert event(book) == []
    assert len(read_json(book.full("p/a/2/..manifest"))) == 9


def test_changed_files_are_taken_as_they_are(book: Book, context: Context) -> None:
    """New, changed and removed files, and a link that was replaced by its bytes: the files are the truth."""
    place = book.full("p/a/2")
    write(f"{place}/plain", b"other bytes!")
    write(f"{place}/new", b"new")
    os.unlink(f"{place}/d/deep")
    os.unlink(f"{place}/linked")
    write(f"{place}/linked", b"first")
    os.chmod(f"{place}/new", 0o640)
    for name in ("d/again", "d/local", "d/outward"):
        os.unlink(f"{place}/{name}")
    REQUEST.perform(context)
    finish(context)
    manifest = read_json(f"{place}/..manifest")
    assert set(manifest) == {"plain", "new", "linked", "chained", "d/empty", "white"}
    assert manifest["plain"]["size"] == 12
    assert "link" not in manifest["linked"]
    assert set(read_json(f"{place}/..links")) == {"chained"}
    assert not os.path.lexists(f"{place}/d/..links"), "no linked file is in that directory any more"
    assert set(read_json(f"{place}/..checksums")) == {"plain", "new", "linked"}
    assert os.stat(f"{place}/new").st_mode & 0o777 == 0o640
    ValidateVersion(project="p", asset="a", version="2").perform(context)


def test_links_without_links_files_follow_the_upload_rules(book: Book, context: Context) -> None:
    """Without ..links a link's parent is where it goes; relative or absolute, it becomes relative."""
    place = book.full("p/a/2")
    os.unlink(f"{place}/..links")
    os.unlink(f"{place}/d/..links")
    os.unlink(f"{place}/chained")
    os.symlink(book.full("p/a/1/far"), f"{place}/chained")
    REQUEST.perform(context)
    finish(context)
    manifest = read_json(f"{place}/..manifest")
    assert manifest["chained"]["link"]["version"] == "1"
    assert manifest["chained"]["link"]["ancestor"]["project"] == "q"
    assert os.readlink(f"{place}/chained") == "../../../q/b/1/real"
    assert manifest["d/again"]["link"] == {"project": "p", "asset": "a", "version": "2", "path": "plain"}
    assert manifest["d/outward"]["link"] == {"project": "q", "asset": "b", "version": "1", "path": "real"}
    assert audit(book.root, context.policy.whitelist) == []


def test_wrong_ancestors_are_worked_out_again(book: Book, context: Context) -> None:
    """..links are believed for the parent only."""
    expected = documents(book)
    links = read_json(book.full("p/a/2/..links"))
    links["chained"]["ancestor"]["path"] = "other"
    book.edit("p/a/2/..links", links)
    os.unlink(book.full("p/a/2/chained"))
    os.symlink("../1/far", book.full("p/a/2/chained"))  # to the parent: also right
    REQUEST.perform(context)
    assert documents(book) == expected
    assert os.readlink(book.full("p/a/2/chained")) == "../../../q/b/1/real"


def _relink(text: str) -> Callable[[Book], None]:
    def damage(book: Book) -> None:
        os.unlink(book.full("p/a/2/linked"))
        os.symlink(text, book.full("p/a/2/linked"))

    return damage


REFUSED = {
    "neither parent nor ancestor": (_relink("../1/far"), "linked"),
    "forbidden": (_relink("/etc/passwd"), "linked"),
    "whitelisted instead": (lambda b: _relink(os.readlink(b.full("p/a/2/white")))(b), "linked"),
    "dangling": (_relink("../1/none"), "linked"),
    "..links unreadable": (lambda b: write(b.full("p/a/2/d/..links"), b"{"), "d/..links"),
    "summary unreadable": (lambda b: write(b.full("p/a/2/..summary"), b"{"), "..summary"),
    "summary missing": (lambda b: os.unlink(b.full("p/a/2/..summary")), "..summary"),
    "FIFO": (lambda b: os.mkfifo(b.full("p/a/2/d/pipe")), "d/pipe"),
    "cycle": (lambda b: os.symlink("circle", b.full("p/a/2/circle")), "circle"),
    "directory": (lambda b: os.symlink("d", b.full("p/a/2/directory")), "directory"),
    "parent's version gone": (lambda b: os.rename(b.full("p/a/1"), b.full("p/gone")), "p/a/1/far"),
    "parent's manifest": (lambda b: write(b.full("p/a/1/..manifest"), b"{"), "..manifest"),
    "to a probational version": (
        lambda b: (
            b.version("p/a/3", {"x": b"x"}, on_probation=True),
            os.symlink("../3/x", b.full("p/a/2/new")),
        ),
        "new",
    ),
    "not UTF-8": (lambda b: write(os.fsencode(b.full("p/a/2/")) + b"\xff", b""), "not valid UTF-8"),
    "whitelisted gone": (lambda b: os.unlink(os.readlink(b.full("p/a/2/white"))), "white"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_nothing_changed(book: Book, context: Context, name: str) -> None:
    """What stands in the way is 422, named, and nothing changes."""
    damage, named = REFUSED[name]
    damage(book)
    before = snapshot(book.root)
    with pytest.raises(Invalid) as raised:
        REQUEST.perform(context)
    assert named in raised.value.reason
    assert snapshot(book.root) == before
    assert not os.path.exists(book.full("..transactions")), "nothing was staged either"


def test_no_such_version(context: Context) -> None:
    """What is not there is 404."""
    with pytest.raises(Absent):
        ReindexVersion(project="p", asset="a", version="9").perform(context)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: write(b.full("p/a/2/plain"), b"plain bytet"),
        lambda b: write(b.full("p/a/2/late"), b"late"),
        lambda b: os.unlink(b.full("p/a/2/d/deep")),
        lambda b: b.edit("p/a/2/d/..links", read_json(b.full("p/a/2/d/..links"))),
        lambda b: os.mkdir(b.full("p/a/2/d/empty/x")),
        lambda b: b.edit("p/a/1/..manifest", json.loads(json.dumps(b.manifests["p/a/1"]))),
        lambda b: (os.unlink(b.full("p/a/2/d/local")), os.symlink(".././plain", b.full("p/a/2/d/local"))),
    ],
)
def test_changes_while_reading_are_seen(
    book: Book, context: Context, change: Callable[[Book], object]
) -> None:
    """Whatever changes between reading and commit is read again before anything is written."""
    done = []

    def progress(bytes_done: int, bytes_total: int) -> None:
        if bytes_done == bytes_total and not done:
            done.append(1)
            change(book)

    REQUEST.perform(dataclasses.replace(context, progress=progress))
    finish(context)
    assert done
    ValidateVersion(project="p", asset="a", version="2").perform(context)


def test_version_that_never_holds_still(book: Book, context: Context) -> None:
    """After five tries it is 503, and nothing changed in the metadata."""
    manifest = snapshot(book.root)["p/a/2/..manifest"]
    count = [0]

    def progress(_done: int, _total: int) -> None:
        count[0] += 1
        write(book.full("p/a/2/plain"), b"%11d" % count[0])

    with pytest.raises(Busy):
        REQUEST.perform(dataclasses.replace(context, progress=progress))
    assert snapshot(book.root)["p/a/2/..manifest"] == manifest


def test_corpus(tmp_path: os.PathLike[str]) -> None:
    """What the Go service wrote comes out with the same manifests and links."""
    found = corpus.unpack(os.fspath(tmp_path))
    book = Book(found.registry)
    context = make_context(found.registry, whitelist=[found.whitelisted])
    for version in corpus.versions(found.registry):
        place = "/".join(version)
        expected = documents(book, place)
        links = texts(book)
        os.unlink(book.full(f"{place}/..manifest"))
        ReindexVersion(project=version[0], asset=version[1], version=version[2]).perform(context)
        assert documents(book, place) == expected
        assert texts(book) == links
    finish(context)
    assert [
        f for f in audit(found.registry, [found.whitelisted]) if not f.startswith(corpus.NULL_UPLOADERS)
    ] == []


@pytest.mark.parametrize("name", ["..manifest", "..checksums"])
def test_a_document_that_cannot_be_read_is_written_anew(bench: Bench, name: str) -> None:
    """As a link in a circle in its place: the files say what it should say."""
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1"})
    before = bench.snapshot()
    place = bench.root / "p/a/1" / name
    place.unlink()
    place.symlink_to(name)
    bench.run("reindex_version", project="p", asset="a", version="1")
    assert {k: v for k, v in bench.snapshot().items() if k != "events"} == {
        k: v for k, v in before.items() if k != "events"
    }
