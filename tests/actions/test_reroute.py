"""`reroute_links`: after it, what was doomed can be deleted and nothing dangles."""

import dataclasses
import os
import shutil
from typing import Any

import pytest
from support import corpus
from support.checker import assert_clean
from support.registries import Book, To, Whitelisted, make_context, read_json, snapshot

from gobblerd.actions.reroute import RerouteLinks
from gobblerd.domain.errors import Busy, Fault, Invalid, Wrong
from gobblerd.domain.names import ROOT
from gobblerd.registry.checks import check_version
from gobblerd.registry.metadata import Metadata
from gobblerd.storage.files import Durability


def request(*places: str, dry_run: bool | None = None) -> RerouteLinks:
    to_delete = [
        dict(zip(("project", "asset", "version"), place.split("/"), strict=False)) for place in places
    ]
    document: dict[str, Any] = {"to_delete": to_delete}
    if dry_run is not None:
        document["dry_run"] = dry_run
    return RerouteLinks.model_validate(document)


@pytest.fixture
def outside(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(tmp_path, "outside")
    os.mkdir(path)
    with open(os.path.join(path, "big"), "wb") as file:
        file.write(b"whitelisted")
    return path


@pytest.fixture
def book(tmp_path: os.PathLike[str]) -> Book:
    return Book(os.path.join(tmp_path, "registry"))


def change(path: str, source: str, *, copied: int | None = None) -> dict[str, Any]:
    return {"path": path, "source": source, "copy": copied is not None, "usage": copied or 0}


def delete(book: Book, *places: str) -> None:
    """Take the places away for real; usage and latest follow."""
    for place in places:
        shutil.rmtree(book.full(place))
    metadata = Metadata(book.root)
    for project in metadata.projects():
        total = sum(metadata.stored_bytes(version) for version in metadata.versions_below(project))
        book.edit(f"{project}/..usage", {"total": total})
        for asset in metadata.children(project):
            latest = metadata.computed_latest(asset)
            if latest is None and os.path.exists(book.full(f"{asset}/..latest")):
                os.unlink(book.full(f"{asset}/..latest"))
            elif latest is not None:
                book.edit(f"{asset}/..latest", {"version": latest.version})


def run(book: Book, *places: str, whitelist: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Reroute as a dry run and for real, then delete the places; the registry must be sound all along."""
    context = make_context(book.root, whitelist=whitelist)
    before = snapshot(book.root)
    foreseen = request(*places, dry_run=True).perform(context)
    assert snapshot(book.root) == before, "a dry run changes nothing"
    done = request(*places).perform(context)
    context.registry.finish(context.origin)
    assert done == foreseen
    assert_sound(book, whitelist, places)
    after = snapshot(book.root)
    for path, content in before.items():
        if path.startswith(tuple(f"{place}/" for place in places)):
            assert after[path] == content, "what is to be deleted is not changed"
    delete(book, *(place for place in places if os.path.exists(book.full(place))))
    assert_sound(book, whitelist)
    return list(done.answer["changes"])


def assert_sound(book: Book, whitelist: tuple[str, ...] = (), doomed: tuple[str, ...] = ()) -> None:
    """Check everything but doomed versions: those are not changed, and may name ancestors of before."""
    inside = tuple(f"{place}/" for place in doomed)
    assert_clean(book.root, whitelist=whitelist, ignore=[corpus.NULL_UPLOADERS, *inside])
    metadata = Metadata(book.root)
    for version in metadata.versions_below(ROOT):
        if not f"{version}/".startswith(inside):
            assert check_version(metadata, version, whitelist, lambda *_: None) == []


def link(book: Book, path: str) -> dict[str, Any] | None:
    place, name = "/".join(path.split("/")[:3]), path.split("/", 3)[3]
    return read_json(book.full(f"{place}/..manifest"))[name].get("link")


def ends(book: Book, path: str) -> tuple[str, str | None] | None:
    """Return parent and ancestor of a link as paths."""
    found = link(book, path)
    if found is None:
        return None
    ancestor = found.get("ancestor")
    keys = ("project", "asset", "version", "path")
    return "/".join(found[k] for k in keys), ancestor and "/".join(ancestor[k] for k in keys)


def chain(book: Book, length: int = 4) -> None:
    """p/a/1 has the bytes of `f`, each later version links to the one before."""
    for number in range(1, length + 1):
        book.version(f"p/a/{number}", {"d/f": b"first" if number == 1 else To(f"p/a/{number - 1}/d/f")})


def test_parent_goes(book: Book) -> None:
    """The parent becomes the nearest living file, the ancestor stays the farthest."""
    chain(book)
    assert run(book, "p/a/3") == [change("p/a/4/d/f", "p/a/3/d/f")]
    assert ends(book, "p/a/4/d/f") == ("p/a/2/d/f", "p/a/1/d/f")


def test_several_doomed_in_a_row(book: Book) -> None:
    """A chain is followed through all that goes; an ancestor that is the parent is none."""
    chain(book)
    assert run(book, "p/a/3", "p/a/2") == [change("p/a/4/d/f", "p/a/3/d/f")]
    assert ends(book, "p/a/4/d/f") == ("p/a/1/d/f", None)


def test_ancestor_goes(book: Book) -> None:
    """The first living link becomes the copy, the others go there."""
    chain(book)
    assert run(book, "p/a/1") == [
        change("p/a/2/d/f", "p/a/1/d/f", copied=5),
        change("p/a/3/d/f", "p/a/1/d/f"),
        change("p/a/4/d/f", "p/a/1/d/f"),
    ]
    assert ends(book, "p/a/2/d/f") is None
    assert ends(book, "p/a/3/d/f") == ("p/a/2/d/f", None)
    assert ends(book, "p/a/4/d/f") == ("p/a/3/d/f", "p/a/2/d/f")
    full = book.full("p/a/2/d/f")
    assert not os.path.islink(full)
    assert os.stat(full).st_mode & 0o777 == 0o644
    assert not os.path.lexists(book.full("p/a/2/d/..links"))
    assert set(read_json(book.full("p/a/2/..checksums"))) == {"d/f"}


def test_first_and_third_go(book: Book) -> None:
    """Every second one goes: nearest and farthest are found across the gaps."""
    chain(book, 6)
    assert [each["path"] for each in run(book, "p/a/1", "p/a/3", "p/a/5")] == [
        f"p/a/{n}/d/f" for n in (2, 4, 6)
    ]
    assert ends(book, "p/a/6/d/f") == ("p/a/4/d/f", "p/a/2/d/f")
    assert ends(book, "p/a/4/d/f") == ("p/a/2/d/f", None)


def test_two_links_to_one_file_get_two_copies(book: Book) -> None:
    """Each link whose chain has nothing living gets its own copy, in whatever project; usage follows."""
    book.version("gone/a/1", {"f": b"12345"})
    book.version("p/a/1", {"x": To("gone/a/1/f"), "y": To("gone/a/1/f"), "z": To("p/a/1/y")})
    book.version("q/a/1", {"x": To("gone/a/1/f"), "own": b"own"})
    assert run(book, "gone") == [
        change("p/a/1/x", "gone/a/1/f", copied=5),
        change("p/a/1/y", "gone/a/1/f", copied=5),
        change("p/a/1/z", "gone/a/1/f"),
        change("q/a/1/x", "gone/a/1/f", copied=5),
    ]
    assert ends(book, "p/a/1/z") == ("p/a/1/y", None)
    assert read_json(book.full("p/..usage")) == {"total": 10}
    assert read_json(book.full("q/..usage")) == {"total": 8}


def test_probational_versions_are_included(book: Book) -> None:
    """A version on probation must not dangle either."""
    book.version("gone/a/1", {"f": b"12345"})
    book.version("p/a/1", {"f": To("gone/a/1/f")}, on_probation=True)
    assert run(book, "gone/a") == [change("p/a/1/f", "gone/a/1/f", copied=5)]


def test_links_in_doomed_versions_stay(book: Book) -> None:
    """What goes anyway is not changed, and no place in it is an answer."""
    book.version("gone/a/1", {"f": b"12345"})
    book.version("gone/a/2", {"f": To("gone/a/1/f")})
    assert run(book, "gone") == []


def test_whitelisted_parent(book: Book, outside: str) -> None:
    """A link to a whitelisted link becomes a regular file with its bytes."""
    book.version("gone/a/1", {"w": Whitelisted(os.path.join(outside, "big"))})
    book.version("p/a/1", {"w": To("gone/a/1/w")})
    assert run(book, "gone", whitelist=(outside,)) == [change("p/a/1/w", "gone/a/1/w", copied=11)]
    full = book.full("p/a/1/w")
    assert not os.path.islink(full)
    assert os.stat(full).st_mode & 0o777 == 0o644


def test_whitelisted_parent_that_may_not_be_read_any_more(book: Book, outside: str) -> None:
    """Outside the current whitelist nothing is read: 422, nothing changed."""
    book.version("gone/a/1", {"w": Whitelisted(os.path.join(outside, "big"))})
    book.version("p/a/1", {"w": To("gone/a/1/w")})
    before = snapshot(book.root)
    with pytest.raises(Invalid, match="p/a/1/w"):
        request("gone").perform(make_context(book.root))
    assert snapshot(book.root) == before


def test_mixed_version(book: Book) -> None:
    """Only the links that lose something change; ..links and manifest keep the others."""
    book.version("q/a/1", {"stays": b"stays"})
    book.version("gone/a/1", {"f": b"12345", "far": To("q/a/1/stays")})
    book.version(
        "p/a/1",
        {
            "d/f": To("gone/a/1/f"),
            "d/far": To("gone/a/1/far"),
            "d/other": To("q/a/1/stays"),
            "own": b"own",
            "e": None,
        },
    )
    text = os.readlink(book.full("p/a/1/d/far"))
    assert run(book, "gone/a/1") == [
        change("p/a/1/d/f", "gone/a/1/f", copied=5),
        change("p/a/1/d/far", "gone/a/1/far"),
    ]
    assert ends(book, "p/a/1/d/far") == ("q/a/1/stays", None)
    assert os.readlink(book.full("p/a/1/d/far")) == text
    assert set(read_json(book.full("p/a/1/d/..links"))) == {"far", "other"}


def test_places_need_not_exist(book: Book) -> None:
    """Nothing links to what is not there; project, asset and version each may be named."""
    chain(book)
    assert run(book, "nowhere", "p/b", "p/a/99", "p/nowhere/1") == []


def test_prefixes_are_not_places(book: Book) -> None:
    """Project `gone2` is not in project `gone`."""
    book.version("gone2/a/1", {"f": b"12345"})
    book.version("p/a/1", {"f": To("gone2/a/1/f")})
    assert run(book, "gone", "gone2/b", "gone2/a/11") == []


def test_damaged_links_heal_from_the_ancestor(book: Book) -> None:
    """Where the parent was deleted without rerouting, the ancestor is still known."""
    chain(book, 3)
    shutil.rmtree(book.full("p/a/2"))
    context = make_context(book.root)
    assert request("p/a/2").perform(context).answer["changes"] == [change("p/a/3/d/f", "p/a/2/d/f")]
    assert ends(book, "p/a/3/d/f") == ("p/a/1/d/f", None)
    context.registry.finish(context.origin)
    assert_sound(book)


def test_link_that_dangles_already(book: Book) -> None:
    """What has no bytes anywhere cannot be copied: 422 that names it, in the dry run too."""
    chain(book, 2)
    shutil.rmtree(book.full("p/a/1"))
    before = snapshot(book.root)
    for dry_run in (True, False):
        with pytest.raises(Invalid, match="p/a/2/d/f"):
            request("p/a/1", dry_run=dry_run).perform(make_context(book.root))
    assert snapshot(book.root) == before


def test_rot_is_not_copied(book: Book) -> None:
    """A file whose bytes are not those of its manifest is not spread: 422, nothing changed."""
    chain(book, 2)
    with open(book.full("p/a/1/d/f"), "wb") as file:
        file.write(b"fjrst")
    before = snapshot(book.root)
    with pytest.raises(Invalid, match="p/a/2/d/f"):
        request("p/a/1").perform(make_context(book.root))
    assert snapshot(book.root) == before


def test_link_that_is_none_on_disk(book: Book) -> None:
    """A directory in a link's place would stop the commit half way: 422 before it."""
    chain(book, 2)
    os.unlink(book.full("p/a/2/d/f"))
    os.mkdir(book.full("p/a/2/d/f"))
    with pytest.raises(Invalid, match="p/a/2/d/f"):
        request("p/a/1").perform(make_context(book.root))


def test_unreadable_manifest(book: Book) -> None:
    """Any version's damaged manifest may hide a link: 500 that names it, nothing changed."""
    chain(book, 2)
    book.version("q/a/1", {"x": b"x"})
    with open(book.full("q/a/1/..manifest"), "wb") as file:
        file.write(b'{"x": ')
    for dry_run in (True, False):
        with pytest.raises(Fault, match=r"q/a/1/\.\.manifest"):
            request("p/a/1", dry_run=dry_run).perform(make_context(book.root))


def test_usage(book: Book) -> None:
    """A dry run needs no ..usage; a copy does, and what only moves does not."""
    chain(book)
    os.unlink(book.full("p/..usage"))
    context = make_context(book.root)
    assert len(request("p/a/1", dry_run=True).perform(context).answer["changes"]) == 3
    request("p/a/3").perform(context)
    before = snapshot(book.root)
    with pytest.raises(Fault, match=r"\.\.usage"):
        request("p/a/1").perform(make_context(book.root))
    assert snapshot(book.root) == before


def test_no_events(book: Book) -> None:
    """Rerouting is not logged."""
    chain(book)
    run(book, "p/a/1")
    assert not os.path.isdir(book.full("..logs")) or os.listdir(book.full("..logs")) == []


def test_changes_while_staging(book: Book) -> None:
    """A link that appears while bytes are copied is rerouted too; copying needs no lock."""
    chain(book, 2)
    context = make_context(book.root)
    done: list[int] = []

    def progress(_done: int, _total: int) -> None:
        if not done:
            done.append(1)
            with context.changing(ROOT):
                book.version("q/a/1", {"late": To("p/a/1/d/f")})

    found = request("p/a/1").perform(dataclasses.replace(context, progress=progress)).answer["changes"]
    assert [each["path"] for each in found] == ["p/a/2/d/f", "q/a/1/late"]
    context.registry.finish(context.origin)
    assert_sound(book)


def test_registry_that_never_holds_still(book: Book) -> None:
    """After five tries it is done wholly under the lock, where nothing changes."""
    chain(book, 2)
    context = make_context(book.root, lock_timeout=0.05)
    count: list[int] = []

    def progress(done: int, total: int) -> None:
        if done < total:
            return
        try:
            with context.changing(ROOT):
                count.append(1)
                book.version(f"q/a/{len(count)}", {"late": To("p/a/1/d/f")})
        except Busy:
            count.append(0)

    request("p/a/1").perform(dataclasses.replace(context, progress=progress))
    assert 0 in count, "the last try held the lock"
    context.registry.finish(context.origin)
    assert_sound(book)


def test_progress_may_stop_it(book: Book) -> None:
    """A drain ends it with 503; nothing changed, nothing is left."""
    chain(book)
    before = snapshot(book.root)

    def stop(_done: int, _total: int) -> None:
        raise Busy("shutting down")

    with pytest.raises(Busy):
        request("p/a/1").perform(dataclasses.replace(make_context(book.root), progress=stop))
    assert snapshot(book.root) == before
    assert [name for name in os.listdir(book.full("..transactions")) if name.startswith("00-")] == []


def test_durable(book: Book) -> None:
    """With full durability the same happens."""
    chain(book, 40)
    context = make_context(book.root, durability=Durability.FULL)
    assert len(request("p/a/1").perform(context).answer["changes"]) == 39
    context.registry.finish(context.origin)
    assert_sound(book)


def test_documents() -> None:
    """`version` without `asset` is 400, null is absence, names follow the rules of what exists."""
    assert RerouteLinks.model_validate({"to_delete": [{"project": "p", "asset": None, "version": None}]})
    for place in (
        {"project": "p", "version": "1"},
        {"project": ".."},
        {"project": "p", "asset": ""},
        {"project": "p", "asset": "a/b"},
    ):
        with pytest.raises(Wrong):
            RerouteLinks.model_validate({"to_delete": [place]})


def test_corpus(tmp_path: os.PathLike[str]) -> None:
    """The registry that the Go service wrote can be taken apart, asset by asset."""
    found = corpus.unpack(os.fspath(tmp_path))
    book = Book(found.registry)
    changes = run(book, "alpha/a/1", whitelist=(found.whitelisted,))
    assert [(each["path"], each["source"], each["copy"]) for each in changes] == [
        ("alpha/a/2/moved/same", "alpha/a/1/same2", True),
        ("alpha/a/2/top.txt", "alpha/a/1/top.txt", True),
        ("alpha/a/3/link-to-v1", "alpha/a/1/d/e/deep.txt", True),
        ("alpha/a/3/link-to-v2", "alpha/a/1/top.txt", False),
        ("alpha/a/3/top.txt", "alpha/a/1/top.txt", False),
        ("alpha/b/1/cross", "alpha/a/1/top.txt", False),
    ]
    assert ends(book, "alpha/b/1/cross") == ("alpha/a/3/link-to-v2", "alpha/a/2/top.txt")
    changes = run(book, "alpha/a", "beta/data/v1", whitelist=(found.whitelisted,))
    assert [each["path"] for each in changes] == ["alpha/b/1/cross", "beta/data/v2/f", "beta/data/v2/link"]


def test_gone_as_the_go_service_did(book: Book) -> None:
    """The exchange of the corpus, with the same answer and the same outcome."""
    book.version("gone/x/1", {"f": b"from gone 1234"})
    book.version("alpha/d/1", {"from-gone": To("gone/x/1/f")})
    book.version("alpha/d/2", {"again": To("alpha/d/1/from-gone")})
    expected = [
        exchange["response"]["changes"]
        for exchange in corpus.exchanges()["requests"]
        if exchange["action"] == "reroute_links"
    ]
    dry_run = request("gone", dry_run=True).perform(make_context(book.root)).answer["changes"]
    assert [dry_run, run(book, "gone")] == expected
    assert ends(book, "alpha/d/2/again") == ("alpha/d/1/from-gone", None)
