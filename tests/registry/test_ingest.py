"""Staging: from a source to the complete tree of a version, by the rules of spec/requests.md, "Upload"."""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench

from gobblerd.domain.errors import Exceeded, Wrong
from gobblerd.domain.manifest import Entry, FileAddress, Link
from gobblerd.domain.names import Address
from gobblerd.registry import copying, ingest, source_files
from gobblerd.registry.copying import IN_MEMORY
from gobblerd.registry.ingest import Ingest, Staged, Taken
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.neighbours import Candidates, GoneError, Neighbours
from gobblerd.registry.source import Limits, Reader, SourceFile, Stamp, Survey, open_source
from gobblerd.registry.source_files import SourceFiles
from gobblerd.registry.symlinks import Surroundings, aliases
from gobblerd.storage.sync import TreeSync

HERE = Address("p", "a", "new")
V1 = Address("p", "a", "1")
V2 = Address("p", "a", "2")
ROOT = Reader(0, frozenset())


@dataclass
class Stage:
    """A registry with a project, and the staging of sources as versions of p/a."""

    bench: Bench
    whitelist: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.bench.run("create_project", project="p")
        self.metadata = Metadata(str(self.bench.root))
        self.neighbours = Neighbours(self.metadata)
        self.made = 0
        self.ticks: list[tuple[int, int]] = []

    def ingest(self, tree: dict[str, Any], **survey: Any) -> Ingest:
        self.made += 1
        name = self.bench.source(f"s{self.made}", tree)
        self.source = open_source(self.bench.staging_fd, name, ROOT)
        here = tuple(f"{each}/{name}" for each in aliases(str(self.bench.staging)))
        around = Surroundings(here, aliases(str(self.bench.root)), self.whitelist)
        found = self.source.survey(Limits(), **{"ignore_dot": False, **survey})
        files = SourceFiles(self.source, found, lambda *tick: self.ticks.append(tick))
        return Ingest(HERE, files, self.neighbours, around)

    def candidates(self, latest: Address | None = None) -> Candidates:
        return Candidates(str(self.bench.root), latest, self.neighbours)

    def __call__(
        self, tree: dict[str, Any], latest: Address | None = None, **survey: Any
    ) -> tuple[Ingest, Staged, TreeSync]:
        work = self.ingest(tree, **survey)
        path = str(self.bench.base / f"out{self.made}" / "p" / "a" / "new")
        os.makedirs(os.path.dirname(path))
        sync = TreeSync(self.bench.registry.disk, path)
        with sync:
            return work, work.stage(path, self.candidates(latest), sync), sync

    def staged(self, tree: dict[str, Any], latest: Address | None = None, **survey: Any) -> Staged:
        return self(tree, latest, **survey)[1]


@pytest.fixture
def stage(bench: Bench) -> Stage:
    return Stage(bench)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def file(data: bytes) -> Entry:
    return Entry(len(data), md5(data))


def linked(data: bytes, parent: str, ancestor: str | None = None) -> Entry:
    return Entry(len(data), md5(data), Link.to(address(parent), address(ancestor) if ancestor else None))


def address(path: str) -> FileAddress:
    return FileAddress(*path.split("/", 3))


def on_disk(staged: Staged) -> dict[str, Any]:
    """Return what lies in the staged tree: path -> bytes, None or link's text; internal documents parsed."""
    found: dict[str, Any] = {}
    for path in sorted(Path(staged.path).rglob("*")):
        shown = str(path.relative_to(staged.path))
        if path.is_symlink():
            found[shown] = ("link", os.readlink(path))
        elif path.is_dir():
            if not any(path.iterdir()):
                found[shown] = None
        elif path.name.startswith(".."):
            found[shown] = json.loads(path.read_bytes())
        else:
            found[shown] = path.read_bytes()
    return found


def documents(staged: Staged) -> set[str]:
    return {path for path in on_disk(staged) if os.path.basename(path).startswith("..")}


# ---- files and directories


def test_files_and_empty_directories(stage: Stage) -> None:
    """Every file with size and MD5, every empty directory; what holds only `..` names is empty."""
    tree = {
        "f": b"1",
        "d/g": b"",
        "d/..x": b"x",
        "e": None,
        "n/e": None,
        "only/..x": b"x",
        "ü\n\\": b"odd",
        "..manifest": b"forged",
        "d/..links": b"forged",
    }
    staged = stage.staged(tree)
    assert staged.manifest == {
        "f": file(b"1"),
        "d/g": file(b""),
        "ü\n\\": file(b"odd"),
        "e": Entry(),
        "n/e": Entry(),
        "only": Entry(),
    }
    found = on_disk(staged)
    assert {path: found[path] for path in staged.manifest} == {
        "f": b"1",
        "d/g": b"",
        "ü\n\\": b"odd",
        "e": None,
        "n/e": None,
        "only": None,
    }
    assert documents(staged) == {"..manifest", "..checksums"}
    assert set(found["..checksums"]) == {"f", "d/g", "ü\n\\"} == set(staged.stored)
    assert found["..manifest"]["n/e"] == {"size": 0, "md5sum": ""}


def test_an_empty_source_is_an_empty_version(stage: Stage) -> None:
    """Nothing, and nothing but skipped names."""
    assert stage.staged({}).manifest == {}
    assert stage.staged({"..x": b"1", ".y": b"1"}, ignore_dot=True).manifest == {}


@pytest.mark.parametrize("umask", [0, 0o002, 0o022])
def test_modes_are_the_registry_s(stage: Stage, umask: int) -> None:
    """0755 and 0644, whatever the modes in the source."""
    work = stage.ingest({"d/f": b"1", "big": b"x" * (IN_MEMORY + 1), "l": ("link", "d/f")})
    top = stage.bench.staging / "s1"
    os.chmod(top / "d" / "f", 0o4777)
    os.chmod(top / "big", 0o400)
    os.chmod(top / "d", 0o1777)
    old = os.umask(umask)
    try:
        path = str(stage.bench.base / "out")
        with TreeSync(stage.bench.registry.disk, path) as sync:
            work.stage(path, stage.candidates(), sync)
    finally:
        os.umask(old)
    for each in (Path(path), *Path(path).rglob("*")):
        if not each.is_symlink():
            assert stat.S_IMODE(each.lstat().st_mode) == (0o755 if each.is_dir() else 0o644), each


def test_large_files_are_copied_in_pieces(stage: Stage) -> None:
    """What does not fit the memory bound is stored, compared and linked like the rest."""
    big, other = os.urandom(IN_MEMORY + 5), os.urandom(IN_MEMORY + 5)
    stage.bench.upload("p/a/1", {"big": big})
    staged = stage.staged({"same": big, "other": other}, V1)
    assert staged.manifest == {"same": linked(big, "p/a/1/big"), "other": file(other)}
    assert on_disk(staged)["other"] == other
    assert stage.ticks[-1] == (2 * len(big), 2 * len(big))


def test_progress_counts_the_bytes(stage: Stage) -> None:
    """Bytes done of bytes in all; a batch of small files is one step."""
    stage.staged({"f": b"123", "d/g": b"45"})
    assert stage.ticks == [(5, 5)]


@pytest.mark.parametrize("size", [5, IN_MEMORY + 1])
def test_a_file_that_is_not_as_surveyed_is_refused(stage: Stage, size: int) -> None:
    """Limits and quota were checked with the surveyed size: another one is 400."""
    work = stage.ingest({"d/f": b"1"})
    os.truncate(stage.bench.staging / "s1" / "d" / "f", size)
    with (
        TreeSync(stage.bench.registry.disk, "x") as sync,
        pytest.raises(Wrong, match='"d/f" changed'),
    ):
        work.stage(str(stage.bench.base / "out"), stage.candidates(), sync)


# ---- duplicates


def test_duplicates_become_links_to_the_first_by_path(stage: Stage) -> None:
    """Of several equal files of the latest version the first by path; only equal size and MD5 count."""
    stage.bench.upload("p/a/1", {"b": b"same", "a/z": b"same", "a-b": b"same", "c": b"else", "zero": b""})
    staged = stage.staged({"x": b"same", "d/y": b"same", "c": b"EL5E", "e": b""}, V1)
    assert staged.manifest == {
        "x": linked(b"same", "p/a/1/a-b"),
        "d/y": linked(b"same", "p/a/1/a-b"),
        "c": file(b"EL5E"),
        "e": linked(b"", "p/a/1/zero"),
    }
    assert set(staged.stored) == {"c"}
    found = on_disk(staged)
    assert found["x"] == ("link", "../1/a-b")
    assert found["d/y"] == ("link", "../../1/a-b")
    assert found["d/..links"] == {"y": {"project": "p", "asset": "a", "version": "1", "path": "a-b"}}
    assert set(found["..links"]) == {"x", "e"}
    assert documents(staged) == {"..manifest", "..checksums", "..links", "d/..links"}


def test_a_duplicate_of_a_link_gets_an_ancestor(stage: Stage) -> None:
    """The parent is the latest version's file; the symbolic link goes to the real one."""
    stage.bench.upload("p/a/1", {"f": b"data"})
    stage.bench.upload("p/a/2", {"g": b"data"})
    staged = stage.staged({"h": b"data"}, V2)
    assert staged.manifest == {"h": linked(b"data", "p/a/2/g", "p/a/1/f")}
    assert on_disk(staged)["h"] == ("link", "../1/f")


def test_a_duplicate_of_a_local_link(stage: Stage) -> None:
    """The first by path may be a link within its version."""
    stage.bench.upload("p/a/1", {"z": b"data", "a": ("link", "z")})
    assert stage.staged({"h": b"data"}, V1).manifest == {"h": linked(b"data", "p/a/1/a", "p/a/1/z")}


def test_without_a_latest_version_everything_is_stored(stage: Stage) -> None:
    """Equal files within one source are stored each."""
    staged = stage.staged({"a": b"same", "b": b"same"})
    assert staged.manifest == {"a": file(b"same"), "b": file(b"same")}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"dAta"),
        lambda path: path.write_bytes(b"data+"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
)
def test_rot_does_not_spread(stage: Stage, damage: Any) -> None:
    """A file of the latest version that is not what its manifest says is no duplicate's target."""
    stage.bench.upload("p/a/1", {"f": b"data"})
    damage(stage.bench.root / "p/a/1/f")
    assert stage.staged({"g": b"data"}, V1).manifest == {"g": file(b"data")}


@pytest.mark.parametrize("document", ["..manifest", "..summary"])
@pytest.mark.parametrize("content", [b"{", b"[]", None])
def test_a_damaged_latest_version_only_costs_the_duplicates(
    stage: Stage, document: str, content: bytes | None
) -> None:
    """Without its manifest or summary everything is stored."""
    stage.bench.upload("p/a/1", {"f": b"data"})
    path = stage.bench.root / "p/a/1" / document
    path.write_bytes(content) if content is not None else path.unlink()
    assert stage.staged({"g": b"data"}, V1).manifest == {"g": file(b"data")}


def test_a_latest_version_that_is_not_there(stage: Stage) -> None:
    """As above."""
    assert stage.staged({"g": b"data"}, Address("p", "a", "gone")).manifest == {"g": file(b"data")}


def test_only_what_no_duplicate_can_save_is_surely_stored(stage: Stage, tmp_path: Path) -> None:
    """Sizes that the latest version lacks, and whitelisted files, which count for usage."""
    stage.bench.upload("p/a/1", {"f": b"12345"})
    (tmp_path / "white").mkdir()
    (tmp_path / "white" / "w").write_bytes(b"1234567")
    stage.whitelist = (str(tmp_path / "white"),)
    work = stage.ingest({"x": b"54321", "y": b"123", "w": ("link", str(tmp_path / "white" / "w"))})
    assert work.surely_stored(stage.candidates(V1)) == 3 + 7


# ---- symbolic links


def test_links_within_the_source(stage: Stage) -> None:
    """Through chains in any order, absolute or relative, to the real file; each names its own parent."""
    data = b"data"
    tree = {
        "f": data,
        "d/1": ("link", "../z"),
        "z": ("link", "d/2"),
        "d/2": ("link", "./../d/e/../3"),
        "d/3": ("link", f"{stage.bench.staging}/s1/f"),
    }
    staged = stage.staged(tree)
    assert staged.manifest == {
        "f": file(data),
        "d/1": linked(data, "p/a/new/z", "p/a/new/f"),
        "z": linked(data, "p/a/new/d/2", "p/a/new/f"),
        "d/2": linked(data, "p/a/new/d/3", "p/a/new/f"),
        "d/3": linked(data, "p/a/new/f"),
    }
    found = on_disk(staged)
    assert {path: found[path][1] for path in ("d/1", "z", "d/2", "d/3")} == {
        "d/1": "../f",
        "z": "f",
        "d/2": "../f",
        "d/3": "../f",
    }


def test_a_chain_of_3000_links(stage: Stage) -> None:
    """Chains are settled without recursion."""
    tree: dict[str, Any] = {"0000": b"data"}
    tree.update({f"{n:04}": ("link", f"{n - 1:04}") for n in range(1, 3001)})
    manifest = stage.staged(tree).manifest
    assert manifest["3000"] == linked(b"data", "p/a/new/2999", "p/a/new/0000")
    assert manifest["0001"] == linked(b"data", "p/a/new/0000")


def test_a_link_to_a_deduplicated_file(stage: Stage) -> None:
    """Its ancestor is the other version's file."""
    stage.bench.upload("p/a/1", {"f": b"data"})
    staged = stage.staged({"g": b"data", "l": ("link", "g")}, V1)
    assert staged.manifest["l"] == linked(b"data", "p/a/new/g", "p/a/1/f")
    assert on_disk(staged)["l"] == ("link", "../1/f")


def test_links_into_the_registry(stage: Stage) -> None:
    """To any file that a manifest lists, links included; through any spelling of the registry."""
    bench = stage.bench
    bench.upload("p/a/1", {"d/f": b"data"})
    bench.upload("p/b/x y", {"l": ("link", str(bench.root / "p/a/1/d/f"))})
    (bench.base / "alias").symlink_to("registry")
    staged = stage.staged(
        {
            "one": ("link", str(bench.root / "p/a/1/d/f")),
            "two": ("link", f"{os.path.realpath(bench.root)}/p/b/./x y/l"),
            "d/three": ("link", "../../../registry/p/a/1/d/f"),
        }
    )
    assert staged.manifest == {
        "one": linked(b"data", "p/a/1/d/f"),
        "two": linked(b"data", "p/b/x y/l", "p/a/1/d/f"),
        "d/three": linked(b"data", "p/a/1/d/f"),
    }
    assert on_disk(staged)["two"] == ("link", "../1/d/f")


def test_whitelisted_files_stay_links(stage: Stage, tmp_path: Path) -> None:
    """An absolute symbolic link and a plain entry; a local link to it is a link within the version."""
    white = tmp_path / "white"
    white.mkdir()
    (white / "w").write_bytes(b"outside")
    stage.whitelist = (str(white),)
    staged = stage.staged(
        {"w": ("link", str(white / "w")), "l": ("link", "w"), "r": ("link", "../../white/./w")}
    )
    assert staged.manifest == {
        "w": file(b"outside"),
        "l": linked(b"outside", "p/a/new/w"),
        "r": file(b"outside"),
    }
    found = on_disk(staged)
    assert (found["w"], found["l"], found["r"]) == (
        ("link", str(white / "w")),
        ("link", "w"),
        ("link", str(white / "w")),
    )
    assert set(found["..links"]) == {"l"}


@pytest.mark.parametrize(
    "tree",
    [
        {"bad": ("link", "none")},
        {"bad": ("link", "bad")},
        {"bad": ("link", "bad2"), "bad2": ("link", "bad")},
        {"x": ("link", "bad1"), "bad1": ("link", "bad2"), "bad2": ("link", "bad1")},
        {"d/f": b"1", "bad": ("link", "d")},
        {"d": None, "bad": ("link", "d")},
        {"d": ("link", "e"), "e/f": b"1", "bad": ("link", "d/f")},
        {"..f": b"1", "bad": ("link", "..f")},
        {"bad": ("link", "/etc/passwd")},
        {"bad": ("link", "REGISTRY/p/a/trial/t")},
        {"bad": ("link", "REGISTRY/p/a/1/..manifest")},
        {"bad": ("link", "REGISTRY/p/a/1/d")},
        {"bad": ("link", "REGISTRY/p/a/1/empty")},
        {"bad": ("link", "REGISTRY/p/a/1/unlisted")},
        {"bad": ("link", "REGISTRY/p/a/none/f")},
        {"bad": ("link", "REGISTRY/q/a/1/f")},
    ],
)
def test_bad_links_are_refused_before_anything_is_read(stage: Stage, tree: dict[str, Any]) -> None:
    """Dangling, cyclic, to directories, skipped names, probational or internal files: 400 that names one."""
    bench = stage.bench
    bench.upload("p/a/1", {"d/f": b"1", "empty": None})
    bench.upload("p/a/trial", {"t": b"1"}, on_probation=True)
    (bench.root / "p/a/1/unlisted").write_bytes(b"1")
    tree = {
        path: ("link", c[1].replace("REGISTRY", str(bench.root))) if isinstance(c, tuple) else c
        for path, c in tree.items()
    }
    with pytest.raises(Wrong, match=r'"(bad|x|d)') as refused:
        stage.ingest(tree)
    assert "\\" not in refused.value.reason  # quoted once, not twice


def test_a_link_to_a_dot_file_that_is_ignored(stage: Stage) -> None:
    """What is skipped cannot be linked to."""
    with pytest.raises(Wrong, match='"bad"'):
        stage.ingest({".f": b"1", "bad": ("link", ".f")}, ignore_dot=True)


def test_a_link_to_a_link_whose_ancestor_is_gone(stage: Stage) -> None:
    """A dangling link of the registry is no file: 400, not a version of dangling links."""
    bench = stage.bench
    bench.upload("p/a/1", {"f": b"data"})
    bench.upload("p/b/1", {"l": ("link", str(bench.root / "p/a/1/f"))})
    bench.run("delete_version", project="p", asset="a", version="1")
    with pytest.raises(Wrong, match=r'"bad".*p/a/1/f'):
        stage.ingest({"bad": ("link", str(bench.root / "p/b/1/l"))})


def test_a_link_too_long_for_the_system_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit, not a fault of the storage."""
    monkeypatch.setattr(ingest, "SYMLINK_MAX_BYTES", 10)
    with pytest.raises(Exceeded, match='"l"'):
        stage.staged({"a-long-name": b"1", "l": ("link", "a-long-name")})


# ---- what was assumed


def test_neighbours_notice_what_changed(stage: Stage) -> None:
    """A version that was deleted, put on probation or rewritten since is reported, all at once."""
    bench = stage.bench
    for version in ("1", "2", "3", "4"):
        bench.upload(f"p/a/{version}", {"f": version.encode()})
    versions = [Address("p", "a", version) for version in ("1", "2", "3", "4")]
    for version in versions:
        stage.neighbours.manifest(version)
    stage.neighbours.check(versions)
    bench.run("delete_version", project="p", asset="a", version="1")
    summary = bench.root / "p/a/2/..summary"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "on_probation": True}))
    manifest = bench.root / "p/a/3/..manifest"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(GoneError) as caught:
        stage.neighbours.check(versions)
    assert caught.value.versions == set(versions[:3])


def test_a_version_deleted_while_it_is_read_is_absent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fault of the storage: the link that goes there is refused."""
    stage.bench.upload("p/a/1", {"f": b"data"})
    summary = stage.metadata.summary

    def then_delete(version: Address) -> Any:
        found = summary(version)
        stage.bench.run("delete_version", project="p", asset="a", version="1")
        return found

    monkeypatch.setattr(stage.metadata, "summary", then_delete)
    with pytest.raises(Wrong, match='"l"'):
        stage.ingest({"l": ("link", str(stage.bench.root / "p/a/1/f"))})


def test_restaging_copies_what_is_gone(stage: Stage) -> None:
    """Duplicates of a version that is gone are stored; no `..links` stays where no link is left."""
    bench = stage.bench
    bench.upload("p/b/1", {"kept": b"kept"})
    bench.upload("p/a/1", {"f": b"data", "g": b"more"})
    work, staged, sync = stage(
        {
            "only/f": b"data",
            "g": b"more",
            "l": ("link", "only/f"),
            "k": ("link", str(bench.root / "p/b/1/kept")),
            "new": b"new",
        },
        V1,
    )
    assert staged.linked_versions(HERE) == {V1, Address("p", "b", "1")}
    assert "only/..links" in documents(staged)
    bench.run("delete_version", project="p", asset="a", version="1")
    work.restage(staged, {V1}, sync)
    assert staged.manifest == {
        "only/f": file(b"data"),
        "g": file(b"more"),
        "l": linked(b"data", "p/a/new/only/f"),
        "k": linked(b"kept", "p/b/1/kept"),
        "new": file(b"new"),
    }
    found = on_disk(staged)
    assert (found["only/f"], found["g"], found["l"]) == (b"data", b"more", ("link", "only/f"))
    assert documents(staged) == {"..manifest", "..checksums", "..links"}
    assert set(found["..links"]) == {"l", "k"}
    assert set(found["..checksums"]) == {"only/f", "g", "new"} == set(staged.stored)
    assert staged.linked_versions(HERE) == {Address("p", "b", "1")}


def test_restaging_when_an_ancestor_is_gone(stage: Stage) -> None:
    """The duplicate's parent lives, but the real file does not."""
    bench = stage.bench
    bench.upload("p/a/1", {"f": b"data"})
    bench.upload("p/a/2", {"g": b"data"})
    work, staged, sync = stage({"h": b"data"}, V2)
    bench.run("delete_version", project="p", asset="a", version="1")
    with pytest.raises(GoneError) as gone:
        stage.neighbours.check(staged.linked_versions(HERE))
    work.restage(staged, gone.value.versions, sync)
    assert staged.manifest == {"h": file(b"data")}


def test_restaging_refuses_a_symbolic_link_into_what_is_gone(stage: Stage) -> None:
    """The user asked for that link: 400."""
    bench = stage.bench
    bench.upload("p/a/1", {"f": b"data"})
    work, staged, sync = stage({"l": ("link", str(bench.root / "p/a/1/f"))})
    bench.run("delete_version", project="p", asset="a", version="1")
    with pytest.raises(Wrong, match='"l"'):
        work.restage(staged, {V1}, sync)


def test_the_bytes_stored_are_the_bytes_hashed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file rewritten between comparing and copying is stored with the checksum of what was stored."""
    stage.bench.upload("p/a/1", {"f": b"x" * (IN_MEMORY + 1)})
    work = stage.ingest({"g": b"y" * (IN_MEMORY + 1)})
    path = stage.bench.staging / "s1" / "g"
    result = source_files.Comparing.result

    def then_rewrite(*arguments: Any) -> Any:
        found = result(*arguments)
        with path.open("r+b") as opened:
            opened.write(b"z" * 100)
        return found

    monkeypatch.setattr(source_files.Comparing, "result", then_rewrite)
    out = str(stage.bench.base / "out")
    with TreeSync(stage.bench.registry.disk, out) as sync:
        staged = work.stage(out, stage.candidates(V1), sync)
    stored = (Path(out) / "g").read_bytes()
    assert stored.startswith(b"z" * 100)
    assert staged.manifest == {"g": file(stored)}


def test_links_into_many_places_are_relative_to_theirs(stage: Stage) -> None:
    """To the same directory, below, beside and above, whatever names share a beginning."""
    bench = stage.bench
    bench.upload("p/a/1", {"f": b"1", "d/e/f": b"2", "new/f": b"3"})
    places = {"f": "f", "d/e/g": "d/e/f", "d/h": "f", "d/e/i/k": "new/f", "1": "d/e/f"}
    tree = {path: ("link", str(bench.root / "p/a/1" / to)) for path, to in places.items()}
    staged = stage.staged({**tree, "own/x": b"x", "own/y/z": ("link", "../x"), "w": ("link", "own/x")})
    for path, to in places.items():
        up = os.path.relpath(f"p/a/1/{to}", os.path.dirname(f"p/a/new/{path}"))
        assert os.readlink(f"{staged.path}/{path}") == up
    assert os.readlink(f"{staged.path}/own/y/z") == "../x"
    assert os.readlink(f"{staged.path}/w") == "own/x"


def test_equal_duplicates_are_verified_by_the_batch(stage: Stage) -> None:
    """Many copies of one file, of several files, and one that rotted: only what is sound is linked to."""
    data = {f"f{n}": os.urandom(1000 + n % 3) for n in range(60)}
    stage.bench.upload("p/a/1", data)
    (stage.bench.root / "p/a/1/f7").write_bytes(bytes(len(data["f7"])))
    staged = stage.staged({**data, "again": data["f1"], "rotten": data["f7"], "other": bytes(1000)}, V1)
    assert staged.duplicates == {*data, "again"} - {"f7"}
    assert staged.manifest["again"] == linked(data["f1"], "p/a/1/f1")
    assert staged.manifest["rotten"] == file(data["f7"])


# ---- another provider of files


class Unpacked:
    """Files that somebody else has put into the staged tree already, with their digests."""

    def __init__(self, path: str, contents: dict[str, bytes], symlinks: list[tuple[str, str]]) -> None:
        self.reader = ROOT
        self._contents = contents
        files = [SourceFile(name, len(data)) for name, data in sorted(contents.items())]
        size = sum(file.size for file in files)
        self.survey = Survey(files, symlinks, ["d", "e"], ["e"], size)
        for directory in ("d", "e"):
            os.makedirs(f"{path}/{directory}")
        self._write(path, contents)

    def _write(self, path: str, names: Iterable[str]) -> None:
        for name in names:
            Path(path, name).write_bytes(self._contents[name])

    def make_directories(self, path: str) -> None:
        """They are there."""

    def take(self, files: Collection[SourceFile], path: str, candidates: Candidates) -> Iterator[Taken]:
        for each in files:
            place = Path(path, each.path)
            if not place.exists():  # asked for again: what it was equal to is gone
                self._write(path, [each.path])
            digest = copying.digest_of_bytes(place.read_bytes(), Stamp.of(place.stat()))
            duplicate = candidates.equal(digest)
            if duplicate is not None:
                place.unlink()
            yield Taken(each.path, digest, duplicate)


def test_files_that_are_in_place_already_become_a_version_like_others(stage: Stage) -> None:
    """Duplicates, links and metadata are the same whoever provides the files; also when asked again."""
    stage.bench.upload("p/a/1", {"f": b"same"})
    out = str(stage.bench.base / "out")
    os.mkdir(out)
    unpacked = Unpacked(out, {"d/x": b"same", "y": b"new"}, [("l", "d/x")])
    around = Surroundings(("/staging/s",), aliases(str(stage.bench.root)), ())
    work = Ingest(HERE, unpacked, stage.neighbours, around)
    with TreeSync(stage.bench.registry.disk, out) as sync:
        staged = work.stage(out, stage.candidates(V1), sync)
        assert staged.manifest == {
            "d/x": linked(b"same", "p/a/1/f"),
            "y": file(b"new"),
            "e": Entry(),
            "l": linked(b"same", "p/a/new/d/x", "p/a/1/f"),
        }
        assert documents(staged) == {"..manifest", "..checksums", "..links", "d/..links"}
        work.restage(staged, {V1}, sync)
    assert staged.manifest["d/x"] == file(b"same")
    assert on_disk(staged)["d/x"] == b"same"
    assert on_disk(staged)["l"] == ("link", "d/x")
