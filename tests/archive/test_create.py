"""What an archive holds: of a version, of a directory, of paths; and that nothing half made is left."""

import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.archives import (
    CONTENTS,
    FORMATS,
    TIME,
    leave_abandoned,
    make_directory,
    make_registry,
    members_of,
)
from support.registries import Book

from gobblerd.archive import (
    Absent,
    Extra,
    Invalid,
    Version,
    Wrong,
    create_archive,
    flatten_path,
    load_receipt,
    tree_checksum,
)
from gobblerd.archive.receipt import Links


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return make_registry(tmp_path)


@pytest.fixture
def version(book: Book) -> Version:
    return Version(book.root, "p", "a", "2")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for archives; at the end it holds nothing unfinished."""
    path = tmp_path / "out"
    path.mkdir()
    yield path
    assert [name for name in os.listdir(path) if name.startswith(".")] == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_version_is_its_files_its_manifest_and_its_summary(
    name: str, book: Book, version: Version, out: Path
) -> None:
    """Every link is the file itself; the empty directory is kept; the tree is that of the version's directory."""
    made = create_archive(version, out / "v", format=name)
    found = members_of(made.path)
    assert {path: data for path, data in found.items() if data is not None} == {
        **{f"p_a_2/{path}": data for path, data in CONTENTS.items()},
        **{
            f"p_a_2/{each}": Path(book.full(f"p/a/2/{each}")).read_bytes()
            for each in ("..manifest", "..summary")
        },
    }
    assert "p_a_2/none" in found
    assert list(found) == sorted(found, key=str.encode) == [member.path for member in made.members]
    assert made.tree_checksum == tree_checksum(book.full("p/a/2"))


@pytest.mark.parametrize("name", FORMATS)
def test_the_receipt_tells_what_is_in_the_archive(name: str, version: Version, out: Path) -> None:
    made = create_archive(version, out, format=name)
    receipt = load_receipt(made.receipt_path)
    assert receipt == made.receipt
    assert os.path.basename(made.path) == f"p_a_2_{made.tree_checksum[:16]}.{name}" == receipt.name
    assert (receipt.size, receipt.sha256) == (os.path.getsize(made.path), made.sha256)
    assert (receipt.project, receipt.asset, receipt.version) == ("p", "a", "2")
    assert receipt.options.clamp_mtime == TIME


@pytest.mark.parametrize("name", ["tar.zst", "zip"])
def test_links_within_the_version_can_stay_links(name: str, book: Book, version: Version, out: Path) -> None:
    """Relative ones, to the nearest file in the archive; links out of the version become files."""
    made = create_archive(version, out / "v", format=name, links="preserve")
    links = {path: text for path, text in members_of(made.path).items() if isinstance(text, str)}
    assert links == {"p_a_2/again": "data/new.txt", "p_a_2/linked/old": "../data/old.txt"}
    assert made.tree_checksum == tree_checksum(book.full("p/a/2"))


def test_what_links_out_of_the_version_lead_to_can_be_bundled(version: Version, out: Path) -> None:
    made = create_archive(version, out / "v", bundle_links=True)
    found = members_of(made.path)
    assert found["p_a_2/data/old.txt"] == "../linked/p/a/1/old.txt"
    assert found["p_a_2/linked/p/a/1/old.txt"] == b"old\n"
    assert load_receipt(made.receipt_path).options.links == "bundle"


def test_a_link_whose_target_is_excluded_becomes_a_file(version: Version, out: Path) -> None:
    """And the receipt lists what the manifest has and the archive has not."""
    made = create_archive(version, out / "v", links="preserve", excludes=["data", "*.nothing"])
    found = members_of(made.path)
    assert found["p_a_2/again"] == b"new\n"
    assert not [path for path in found if path.startswith("p_a_2/data")]
    receipt = load_receipt(made.receipt_path)
    assert receipt.left_out == ("data/new.bin", "data/new.txt", "data/old.txt")
    assert receipt.options.excludes == ("data", "*.nothing")


def test_members_can_be_added_where_the_caller_says(version: Version, out: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o700)
    extras = [Extra("postinstall", script), Extra("docs/NOTE", b"note"), Extra("go", b"x", executable=True)]
    made = create_archive(version, out / "v", extras=extras)
    assert members_of(made.path)["p_a_2/docs/NOTE"] == b"note"
    assert {m.path: m.mode for m in made.members if m.path in {"p_a_2/postinstall", "p_a_2/go"}} == {
        "p_a_2/postinstall": 0o755,
        "p_a_2/go": 0o755,
    }
    assert load_receipt(made.receipt_path).added == ("postinstall", "docs/NOTE", "go")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("README", "same name"),
        ("readme", "case"),
        ("README/x", "not a directory"),
        ("../x", ".."),
        ("..manifest", "registry's"),
    ],
)
def test_what_cannot_be_added_is_refused_by_name(path: str, why: str, version: Version, out: Path) -> None:
    with pytest.raises(Wrong, match=f".*{path}.*{why}"):
        create_archive(version, out / "v", extras=[Extra(path, b"")])
    assert os.listdir(out) == []


def test_files_are_named_by_the_callers_function(book: Book, version: Version, out: Path) -> None:
    """It gets the path of the file in the registry; two files for one name are refused."""
    made = create_archive(
        version, out / "v", name_of=lambda path: "x/" + os.path.relpath(path, book.root), prefix="top"
    )
    assert members_of(made.path)["top/x/p/a/2/README"] == b"read me\n"
    one = create_archive([book.full("p/a/2/data/new.bin")], out / "flat", name_of=flatten_path, prefix="f")
    assert list(members_of(one.path)) == ["f", "f/new.bin"]
    with pytest.raises(Wrong, match="same name"):
        create_archive(version, out / "w", name_of=lambda _: "one")


@pytest.mark.parametrize(
    "damage", ["changed", "shorter", "longer", "missing", "a link", "a directory", "a FIFO"]
)
@pytest.mark.parametrize("name", ["tar.zst", "zip"])
def test_a_rotten_byte_is_never_archived(
    damage: str, name: str, book: Book, version: Version, out: Path
) -> None:
    """The file is named, and nothing is left."""
    path = Path(book.full("p/a/2/data/new.bin"))
    data = path.read_bytes()
    path.unlink()
    {
        "changed": lambda: path.write_bytes(data[:-1] + b"!"),
        "shorter": lambda: path.write_bytes(data[:-1]),
        "longer": lambda: path.write_bytes(data + b"!"),
        "missing": lambda: None,
        "a link": lambda: path.symlink_to("../README"),
        "a directory": path.mkdir,
        "a FIFO": lambda: os.mkfifo(path),
    }[damage]()
    with pytest.raises((Invalid, Wrong), match=r"p_a_2/data/new\.bin"):
        create_archive(version, out / "v", format=name)
    assert os.listdir(out) == []


def test_fast_checksums_find_rot_too_and_give_way_to_the_manifest_where_they_are_older(
    book: Book, version: Version, out: Path
) -> None:
    """A Go service that reindexed a version leaves our `..checksums` as they were."""
    book.edit("p/a/2/..checksums", {"README": "0" * 32, "data/new.txt": "1" * 32})
    create_archive(version, out / "v")
    Path(book.full("p/a/2/README")).write_bytes(b"Read me\n")
    with pytest.raises(Invalid, match=r'"p_a_2/README" is not what the manifest says'):
        create_archive(version, out / "w")


def test_a_whitelisted_file_is_taken_only_from_a_whitelisted_directory(
    book: Book, tmp_path: Path, out: Path
) -> None:
    white = str(tmp_path / "white")
    create_archive(Version(book.root, "p", "a", "2", whitelist=[white]), out / "v")
    with pytest.raises(Invalid, match="p_a_2/outside"):
        create_archive(Version(book.root, "p", "a", "2", whitelist=[]), out / "w")


@pytest.mark.parametrize("place", [("p", "a", "3"), ("p", "b", "1"), ("q", "a", "1")])
def test_a_version_that_is_not_there_is_said_to_be_absent(
    place: tuple[str, str, str], book: Book, out: Path
) -> None:
    with pytest.raises(Absent, match="there is no version"):
        create_archive(Version(book.root, *place), out / "v")


@pytest.mark.parametrize("path", ["../../q/secret", "/etc/passwd", "..summary", "data/../x"])
def test_a_manifest_that_lists_what_cannot_be_is_refused(
    path: str, book: Book, version: Version, out: Path
) -> None:
    book.edit("p/a/2/..manifest", {path: {"size": 1, "md5sum": "0" * 32}})
    with pytest.raises(Invalid, match="the manifest of"):
        create_archive(version, out / "v")


def test_links_of_a_damaged_manifest_that_go_round_are_refused(
    book: Book, version: Version, out: Path
) -> None:
    def link(path: str) -> dict[str, object]:
        return {
            "size": 1,
            "md5sum": "0" * 32,
            "link": {"project": "p", "asset": "a", "version": "2", "path": path},
        }

    book.edit("p/a/2/..manifest", {"x": link("y"), "y": link("x")})
    with pytest.raises(Invalid, match="leads back to itself"):
        create_archive(version, out / "v", links="preserve")


# ---- plain directories


DIRECTORY = {
    "top/a.txt": b"hello\n",
    "top/bin/run": b"#!/bin/sh\n",
    "top/far": b"outside\n",
    "top/same": b"hello\n",
    "top/tools/run": b"#!/bin/sh\n",
}


@pytest.mark.parametrize(
    ("links", "kept"), [("files", {}), ("preserve", {"top/same": "a.txt", "top/tools": "bin"})]
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_directory_is_archived_as_it_lies_there(
    links: Links, kept: dict[str, str], name: str, tmp_path: Path, out: Path
) -> None:
    top = make_directory(tmp_path / "top")
    made = create_archive(top, out / "d", format=name, links=links)  # type: ignore[arg-type]
    found = {path: data for path, data in members_of(made.path).items() if data is not None}
    files = {
        path: data
        for path, data in DIRECTORY.items()
        if not (kept and path.startswith(("top/tools", "top/same")))
    }
    assert found == {**files, **kept}
    assert {member.path: member.mode for member in made.members if member.kind == "file"}[
        "top/bin/run"
    ] == 0o755
    assert made.tree_checksum == tree_checksum(top)


def test_a_directorys_times_stay_unless_they_are_clamped(tmp_path: Path, out: Path) -> None:
    """In whole seconds, and only later ones are changed."""
    top = make_directory(tmp_path / "top")
    os.utime(top / "a.txt", (5, 5.9))
    times = [dict.fromkeys(()), {}]
    for at, clamp in enumerate((None, 1_000)):
        made = create_archive(top, out / f"{at}.tar", clamp_mtime=clamp)
        with tarfile.open(made.path) as found:
            times[at] = {info.name: info.mtime for info in found}
    assert times[0]["top/a.txt"] == times[1]["top/a.txt"] == 5
    assert (times[0]["top/bin/run"], times[0]["top/bin"]) == (1_600_000_000, 1_600_000_001)
    assert times[1]["top/bin/run"] == times[1]["top"] == 1_000


@pytest.mark.parametrize("links", ["files", "preserve"])
@pytest.mark.parametrize(
    ("target", "why"), [("nowhere", "link to nothing"), (".", "above it"), ("../top", "above it")]
)
def test_links_that_cannot_be_archived_are_refused_by_name(
    target: str, why: str, links: Links, tmp_path: Path, out: Path
) -> None:
    top = make_directory(tmp_path / "top")
    (top / "odd").symlink_to(target)
    with pytest.raises(Wrong, match=f"odd.*{why}"):
        create_archive(top, out / "d", links=links)  # type: ignore[arg-type]


def test_a_fifo_and_a_name_that_is_not_utf8_are_refused(tmp_path: Path, out: Path) -> None:
    top = make_directory(tmp_path / "top")
    os.mkfifo(top / "fifo")
    with pytest.raises(Wrong, match=r"fifo.*neither"):
        create_archive(top, out / "d")
    os.unlink(top / "fifo")
    (Path(os.fsdecode(os.fsencode(top) + b"/\xff"))).touch()
    with pytest.raises(Wrong, match="not valid UTF-8"):
        create_archive(top, out / "d")
    assert os.listdir(out) == []


def test_any_paths_are_archived_relative_to_what_they_have_in_common(tmp_path: Path, out: Path) -> None:
    top = make_directory(tmp_path / "top")
    made = create_archive((top / name for name in ("bin", "a.txt")), out / "d.tar")
    assert list(members_of(made.path)) == ["top", "top/a.txt", "top/bin", "top/bin/run"]


@pytest.mark.parametrize("inside", ["top", "top/none"])
def test_an_archive_is_never_written_into_what_it_holds(inside: str, tmp_path: Path, book: Book) -> None:
    top = make_directory(tmp_path / "top")
    (tmp_path / "way").symlink_to(top)
    for source, target in (
        (top, tmp_path / inside),
        (tmp_path / "way", tmp_path / inside),
        (top, tmp_path / "way"),
    ):
        with pytest.raises(Wrong, match="lies in what is archived"):
            create_archive(source, target / "d.tar")
    with pytest.raises(Wrong, match="lies in what is archived"):
        create_archive([top / "a.txt", top], tmp_path / inside)
    with pytest.raises(Wrong, match="lies in what is archived"):
        create_archive(Version(book.root, "p", "a", "2"), Path(book.root) / "p")


# ---- destinations


def test_members_can_be_added_to_open_files(version: Version, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as target:
        target.writestr("first", b"1")
        made = create_archive(version, target)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        same = create_archive(version, tar)
    assert made == same
    assert (made.path, made.receipt) == ("", None)
    zipped, packed = members_of(str(tmp_path / "x.zip")), members_of(str(tmp_path / "x.tar"))
    assert zipped.pop("first") == b"1"
    assert zipped == packed
    assert packed["p_a_2/data/new.bin"] == CONTENTS["data/new.bin"]


def test_what_is_there_is_replaced_only_if_asked_for(version: Version, out: Path) -> None:
    (out / "v.tar").write_bytes(b"precious")
    with pytest.raises(Wrong, match="there already"):
        create_archive(version, out / "v.tar")
    assert (out / "v.tar").read_bytes() == b"precious"
    create_archive(version, out / "v.tar", overwrite=True)
    assert members_of(str(out / "v.tar"))
    first = create_archive(version, out)
    with pytest.raises(Wrong, match="there already"):
        create_archive(version, out)
    assert create_archive(version, out, overwrite=True).path == first.path


def test_work_can_be_done_elsewhere(version: Version, out: Path, tmp_path: Path) -> None:
    """As where the archive's own directory is slow, or another filesystem."""
    work = tmp_path / "work"
    work.mkdir()
    seen: list[list[str]] = []
    made = create_archive(
        version, out / "v", work_dir=work, progress=lambda *_: seen.append(os.listdir(work))
    )
    assert all(len(names) == 1 for names in seen)
    assert os.listdir(work) == []
    same = create_archive(version, out / "w", work_dir="/dev/shm")
    assert same.sha256 == made.sha256
    assert members_of(same.path) == members_of(made.path)


def test_progress_goes_up_to_all_bytes_and_can_stop_the_work(version: Version, out: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    create_archive(version, out / "v", progress=lambda *told: seen.append(told))
    done = [each[0] for each in seen]
    assert done == sorted(done)
    assert done[-1] == seen[0][1] == sum(m.size for m in create_archive(version, out / "w").members)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_archive(version, out / "x", progress=stop)
    assert sorted(os.listdir(out)) == [
        "v.tar.zst",
        "v.tar.zst.receipt.json",
        "w.tar.zst",
        "w.tar.zst.receipt.json",
    ]


def test_a_full_disk_leaves_nothing(version: Version, small_disk: Path) -> None:
    """Whether it runs full in the archive or in the receipt."""
    for name in ("tar", "tar.zst", "zip"):
        with pytest.raises(OSError, match="No space left"):
            create_archive(version, small_disk / "v", format=name)
        assert os.listdir(small_disk) == ["ballast"]


def test_what_a_killed_writer_left_is_cleared_away_and_what_is_being_written_is_not(
    version: Version, out: Path
) -> None:
    abandoned = leave_abandoned(out)
    beside: list[object] = []

    def make_another(*_: object) -> None:
        if not beside:
            beside.append(None)
            beside[0] = create_archive(version, out / "w").sha256

    made = create_archive(version, out / "v", progress=make_another)
    assert beside == [made.sha256]
    assert not abandoned & {*os.listdir(out)}


def test_the_receipt_counts_what_it_lists_and_is_plain_json(version: Version, out: Path) -> None:
    made = create_archive(version, out / "v")
    document = json.loads(Path(made.receipt_path).read_bytes())
    assert document["predicate"]["entries"] == len(document["predicate"]["members"]) == len(made.members)
