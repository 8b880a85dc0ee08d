"""Every kind of damage is found, each one named, and none hides another."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from support import corpus
from support.registries import Book, To, Whitelisted, read_json, write_json

from gobblerd.domain.errors import Busy
from gobblerd.domain.names import Address
from gobblerd.registry import tree
from gobblerd.registry.checks import check_version
from gobblerd.registry.flaws import Flaw, Problem
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.tree import digest_files
from gobblerd.storage.batches import UNREAD

VERSION = Address("p", "a", "2")


class Bench:
    """A registry with one version that has everything in it, and its checks."""

    def __init__(self, base: str) -> None:
        self.outside = os.path.join(base, "outside")
        os.mkdir(self.outside)
        with open(os.path.join(self.outside, "big"), "wb") as file:
            file.write(b"whitelisted")
        self.book = Book(os.path.join(base, "registry"))
        self.book.version("q/b/1", {"real": b"far away"})
        self.book.version("p/a/1", {"f": b"first", "far": To("q/b/1/real")})
        self.book.version(
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
                "white": Whitelisted(os.path.join(self.outside, "big")),
            },
        )
        self.metadata = Metadata(self.book.root)
        self.whitelist = [self.outside]

    def full(self, path: str) -> str:
        return self.book.full(f"p/a/2/{path}")

    def edit(self, document: str, change: Callable[[Any], object]) -> None:
        """Change a document of the version in place."""
        found = read_json(self.full(document))
        change(found)
        write_json(self.full(document), found)

    def problems(self) -> list[Problem]:
        return check_version(self.metadata, VERSION, self.whitelist, lambda *_: None)

    def kinds(self) -> list[tuple[str, Flaw]]:
        return [(problem.path, problem.kind) for problem in self.problems()]


@pytest.fixture
def bench(tmp_path: os.PathLike[str]) -> Bench:
    return Bench(os.fspath(tmp_path))


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def relink(path: str, text: str) -> None:
    os.unlink(path)
    os.symlink(text, path)


def test_nothing_to_report(bench: Bench) -> None:
    """A sound version has no problems; a link with a local parent and an ancestor elsewhere is sound."""
    entry = read_json(bench.full("..manifest"))["d/outward"]["link"]
    assert (entry["version"], entry["ancestor"]["project"]) == ("2", "q")
    assert bench.problems() == []


def test_corpus_is_valid(tmp_path: os.PathLike[str]) -> None:
    """What the Go service wrote is valid, whitelisted link included."""
    found = corpus.unpack(os.fspath(tmp_path))
    metadata = Metadata(found.registry)
    for version in corpus.versions(found.registry):
        assert check_version(metadata, Address(*version), [found.whitelisted], lambda *_: None) == []


def _set(path: str, key: str, value: Any) -> Callable[[Bench], None]:
    return lambda bench: bench.edit("..manifest", lambda m: m[path].update({key: value}))


def _link(path: str, key: str, value: Any) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        directory, name = os.path.split(path)
        bench.edit("..manifest", lambda m: m[path]["link"].update({key: value}))
        bench.edit(os.path.join(directory, "..links"), lambda m: m[name].update({key: value}))

    return change


DAMAGE: dict[str, tuple[Callable[[Bench], object], list[tuple[str, Flaw]]]] = {
    "no summary": (lambda b: os.unlink(b.full("..summary")), [("..summary", Flaw.MISSING)]),
    "summary cut short": (lambda b: write(b.full("..summary"), b'{"upl'), [("..summary", Flaw.UNREADABLE)]),
    "nobody's": (
        lambda b: b.edit("..summary", lambda s: s.update(upload_user_id="")),
        [("..summary", Flaw.SUMMARY)],
    ),
    "no start": (
        lambda b: b.edit("..summary", lambda s: s.update(upload_start="now")),
        [("..summary", Flaw.SUMMARY)],
    ),
    "no finish": (
        lambda b: b.edit("..summary", lambda s: s.pop("upload_finish")),
        [("..summary", Flaw.UNREADABLE)],
    ),
    "finish of another form": (
        lambda b: b.edit("..summary", lambda s: s.update(upload_finish="2026-11-20 10:00:00Z")),
        [("..summary", Flaw.UNREADABLE)],
    ),
    "probation a number": (
        lambda b: b.edit("..summary", lambda s: s.update(on_probation=1)),
        [("..summary", Flaw.UNREADABLE)],
    ),
    "no manifest": (lambda b: os.unlink(b.full("..manifest")), [("..manifest", Flaw.MISSING)]),
    "manifest no object": (lambda b: write(b.full("..manifest"), b"[]"), [("..manifest", Flaw.UNREADABLE)]),
    "size a float": (_set("d/deep", "size", 4.0), [("d/deep", Flaw.UNREADABLE)]),
    "wrong size": (_set("d/deep", "size", 10), [("d/deep", Flaw.SIZE)]),
    "size absent": (
        lambda b: b.edit("..manifest", lambda m: m["d/deep"].pop("size")),
        [("d/deep", Flaw.SIZE)],
    ),
    "upper case": (
        lambda b: b.edit("..manifest", lambda m: m["d/deep"].update(md5sum=m["d/deep"]["md5sum"].upper())),
        [("d/deep", Flaw.CHECKSUM)],
    ),
    "flipped bit": (lambda b: write(b.full("plain"), b"plain bytet"), [("plain", Flaw.CHECKSUM)]),
    "longer": (
        lambda b: write(b.full("d/deep"), b"deep and more"),
        [("d/deep", Flaw.CHECKSUM), ("d/deep", Flaw.SIZE)],
    ),
    "fast checksum": (
        lambda b: write_json(b.full("..checksums"), {"plain": "0" * 32}),
        [("plain", Flaw.FAST_CHECKSUM)],
    ),
    "missing file": (lambda b: os.unlink(b.full("d/deep")), [("d/deep", Flaw.MISSING)]),
    "missing link": (lambda b: os.unlink(b.full("linked")), [("linked", Flaw.MISSING)]),
    "missing directory": (lambda b: os.rmdir(b.full("d/empty")), [("d/empty", Flaw.MISSING)]),
    "extra file": (lambda b: write(b.full("d/more"), b""), [("d/more", Flaw.EXTRA)]),
    "extra link": (lambda b: os.symlink("plain", b.full("more")), [("more", Flaw.EXTRA)]),
    "extra directory": (lambda b: os.mkdir(b.full("more")), [("more", Flaw.EXTRA_DIRECTORY)]),
    "extra FIFO": (lambda b: os.mkfifo(b.full("more")), [("more", Flaw.EXTRA)]),
    "directory not empty": (
        lambda b: write(b.full("d/empty/x"), b""),
        [("d/empty", Flaw.TYPE), ("d/empty/x", Flaw.EXTRA)],
    ),
    "only internal names": (lambda b: write(b.full("d/empty/..x"), b""), []),
    "file for a directory": (
        lambda b: (os.rmdir(b.full("d/empty")), write(b.full("d/empty"), b"")),
        [("d/empty", Flaw.TYPE)],
    ),
    "directory for a file": (
        lambda b: (os.unlink(b.full("d/deep")), os.mkdir(b.full("d/deep"))),
        [("d/deep", Flaw.TYPE)],
    ),
    "file for a link": (
        lambda b: (os.unlink(b.full("linked")), write(b.full("linked"), b"first")),
        [("linked", Flaw.TYPE)],
    ),
    "link for a file": (lambda b: relink(b.full("d/deep"), "../plain"), [("d/deep", Flaw.TYPE)]),
    "link elsewhere": (lambda b: relink(b.full("linked"), "../1/far"), [("linked", Flaw.SYMLINK)]),
    "link to the parent": (lambda b: relink(b.full("chained"), "../1/far"), []),
    "link by a detour": (lambda b: relink(b.full("linked"), ".././2/d/../../1/f"), []),
    "link by way of nowhere": (
        lambda b: relink(b.full("linked"), "../nowhere/../1/f"),
        [("linked", Flaw.SYMLINK)],
    ),
    "link that leaves": (
        lambda b: relink(b.full("linked"), "../../../../" + os.path.basename(b.book.root) + "/p/a/1/f"),
        [("linked", Flaw.SYMLINK)],
    ),
    "absolute link": (lambda b: relink(b.full("linked"), b.book.full("p/a/1/f")), [("linked", Flaw.SYMLINK)]),
    "no ..links": (lambda b: os.unlink(b.full("d/..links")), [("d/..links", Flaw.MISSING)]),
    "..links unreadable": (lambda b: write(b.full("d/..links"), b"{"), [("d/..links", Flaw.UNREADABLE)]),
    "..links for nothing": (
        lambda b: write(b.full("d/empty/..links"), b"{}"),
        [("d/empty/..links", Flaw.EXTRA)],
    ),
    "..links lacks": (
        lambda b: b.edit("..links", lambda found: found.pop("linked")),
        [("linked", Flaw.LINKS)],
    ),
    "..links has more": (
        lambda b: b.edit("d/..links", lambda found: found.update(deep=found["local"])),
        [("d/deep", Flaw.LINKS)],
    ),
    "..links differs": (
        lambda b: b.edit("..links", lambda found: found["linked"].update(path="far")),
        [("linked", Flaw.LINKS)],
    ),
    "parent in no manifest": (_link("chained", "path", "none"), [("chained", Flaw.TARGET)]),
    "parent's version gone": (_link("chained", "version", "9"), [("chained", Flaw.TARGET)]),
    "parent nowhere": (_link("chained", "path", "../../../../etc/passwd"), [("chained", Flaw.TARGET)]),
    "ancestor lost": (
        lambda b: [
            b.edit(d, lambda m: (m["chained"].get("link") or m["chained"]).pop("ancestor"))
            for d in ("..manifest", "..links")
        ],
        [("chained", Flaw.ANCESTOR), ("chained", Flaw.SYMLINK), ("d/outward", Flaw.ANCESTOR)],
    ),
    "ancestor too many": (
        _link("linked", "ancestor", {"project": "q", "asset": "b", "version": "1", "path": "real"}),
        [("linked", Flaw.ANCESTOR), ("linked", Flaw.TARGET)],
    ),
    "link's size": (_set("linked", "size", 6), [("linked", Flaw.TARGET)]),
    "link's MD5": (_set("linked", "md5sum", "0" * 32), [("linked", Flaw.TARGET)]),
    "target gone from disk": (lambda b: os.unlink(b.book.full("p/a/1/f")), [("linked", Flaw.TARGET)]),
    "target cut short": (lambda b: write(b.book.full("p/a/1/f"), b"fir"), [("linked", Flaw.TARGET)]),
    "target's summary": (
        lambda b: write(b.book.full("q/b/1/..summary"), b""),
        [("chained", Flaw.TARGET), ("d/outward", Flaw.TARGET)],
    ),
    "whitelisted changed": (
        lambda b: write(os.path.join(b.outside, "big"), b"whitelistee"),
        [("white", Flaw.CHECKSUM)],
    ),
    "whitelisted gone": (lambda b: os.unlink(os.path.join(b.outside, "big")), [("white", Flaw.SYMLINK)]),
    "no longer whitelisted": (lambda b: b.whitelist.clear(), [("white", Flaw.SYMLINK)]),
    "whitelisted by prefix only": (
        lambda b: b.whitelist.__setitem__(0, b.outside[:-1]),
        [("white", Flaw.SYMLINK)],
    ),
    "whitelisted leads out": (
        lambda b: relink(os.path.join(b.outside, "big"), b.full("plain")),
        [("white", Flaw.SYMLINK)],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(bench: Bench, name: str) -> None:
    """Each kind of damage gives exactly its problems."""
    damage, expected = DAMAGE[name]
    damage(bench)
    assert bench.kinds() == sorted(expected)


def test_modes_owners_and_unknown_keys_are_not_looked_at(bench: Bench) -> None:
    """They are no problems."""
    os.chmod(bench.full("plain"), 0o600)
    bench.edit("..manifest", lambda found: found["plain"].update(colour="red"))
    bench.edit("..manifest", lambda found: found["plain"].update(link=None))
    bench.edit("..summary", lambda found: found.update(colour="red"))
    assert bench.problems() == []


def test_all_damage_at_once(bench: Bench) -> None:
    """No problem hides another; they come sorted by path, and each is one sentence."""
    write(bench.full("plain"), b"rotten bytes")
    write(bench.full("aaa\nbbb"), b"")
    write(os.fsencode(bench.full("d/")) + b"\xff", b"")
    os.unlink(bench.full("d/again"))
    relink(bench.full("linked"), "/etc/passwd")
    bench.edit("..manifest", lambda found: found["d/deep"].update(size="four"))
    write(bench.full("..summary"), b"")
    problems = bench.problems()
    assert [(problem.path, problem.kind) for problem in problems] == [
        ("..summary", Flaw.UNREADABLE),
        ("aaa\nbbb", Flaw.EXTRA),
        ("d/\\udcff", Flaw.EXTRA),
        ("d/again", Flaw.MISSING),
        ("d/again", Flaw.TARGET),
        ("d/deep", Flaw.UNREADABLE),
        ("d/local", Flaw.TARGET),
        ("linked", Flaw.SYMLINK),
        ("plain", Flaw.CHECKSUM),
        ("plain", Flaw.SIZE),
    ]
    assert 'extra file "aaa\\nbbb": expected nothing, found a regular file' in [p.sentence for p in problems]
    assert all("\n" not in problem.sentence for problem in problems)


def test_version_that_is_not_there(bench: Bench) -> None:
    """The caller has proved that there is one; if it goes meanwhile, everything is missing."""
    kinds = {p.kind for p in check_version(bench.metadata, Address("p", "a", "9"), [], lambda *_: None)}
    assert kinds == {Flaw.MISSING, Flaw.UNREADABLE}


def test_progress_counts_bytes_and_cancels(bench: Bench) -> None:
    """Progress is told of every byte that is hashed, and an exception from it goes through."""
    told: list[tuple[int, int]] = []
    check_version(bench.metadata, VERSION, bench.whitelist, lambda *counts: told.append(counts))
    expected = len(b"plain bytes" + b"deep" + b"whitelisted")
    assert told[-1] == (expected, expected)
    assert {total for _, total in told} == {expected}

    def stop(_done: int, _total: int) -> None:
        raise Busy("shutting down")

    with pytest.raises(Busy):
        check_version(bench.metadata, VERSION, bench.whitelist, stop)


def test_a_large_file_that_is_not_noted_is_not_read(bench: Bench) -> None:
    """It is told of, and costs nothing."""
    with open(bench.full("extra"), "wb") as file:
        file.truncate(50_000_000)
    told: list[int] = []
    problems = check_version(bench.metadata, VERSION, bench.whitelist, lambda done, _: told.append(done))
    assert [problem.kind for problem in problems] == [Flaw.EXTRA]
    assert max(told) == len(b"plain bytes" + b"deep" + b"whitelisted")


def test_file_that_cannot_be_read(bench: Bench) -> None:
    """Hashing gives the reason in place of a digest, and goes on with the next file."""
    paths = ["no/such", "white", "plain"]
    found = dict(digest_files(bench.full(""), paths, lambda _: None))
    assert found["no/such"] == "No such file or directory"
    assert isinstance(found["white"], str)  # a symbolic link is never followed
    assert not isinstance(found["plain"], str)
    nowhere = dict(digest_files(bench.full("no/such"), paths, lambda _: None))
    assert nowhere == dict.fromkeys(("no/such", "white", "plain"), "No such file or directory")


def test_reading_small_files_is_not_noted(bench: Bench) -> None:
    """Nor is any inode changed by it."""
    os.utime(bench.full("plain"), ns=(1, 2))
    before = os.stat(bench.full("plain"))
    assert not bench.problems()
    after = os.stat(bench.full("plain"))
    assert (after.st_atime_ns, after.st_ctime_ns) == (1, before.st_ctime_ns)


def test_files_that_are_not_ours_are_read_as_any_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an owner may read without a note in the inode; the rest of a batch is read many at a time, too."""
    read = tree.digest_names
    batches: list[list[str]] = []

    def refusing(top: int, paths: list[str], buffer: memoryview, flags: int, most: int) -> Any:
        batches.append(paths)
        found = read(top, paths, buffer, flags, most)
        refused = [bool(flags & os.O_NOATIME) and path != "plain" for path in paths]
        states = [UNREAD if each else state for each, state in zip(refused, found.states, strict=True)]
        return found._replace(states=bytes(states))

    files = ["d/deep", "plain", "gone"]
    expected = dict(digest_files(bench.full(""), files, lambda _: None))
    monkeypatch.setattr(tree, "digest_names", refusing)
    assert dict(digest_files(bench.full(""), files, lambda _: None)) == expected
    assert batches == [["d/deep", "plain", "gone"], ["d/deep", "gone"]]
