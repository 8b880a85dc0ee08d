"""`upload` of an archive file: what becomes of it, what is refused, and that nothing of a refused one stays."""

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from pydantic import ValidationError
from support.bench import Bench
from support.checker import assert_clean
from support.malice import MALICE, Evil, directory, file, link, tar, zipped

from gobblerd.actions.action import Policy
from gobblerd.archive import unpacking
from gobblerd.domain.errors import Exceeded, Forbidden, Refused, Stopped, Wrong
from gobblerd.registry.source import Limits

ALICE, BOB = 61001, 61002
BIG = os.urandom(unpacking.SMALL + 10)


@pytest.fixture(autouse=True)
def project(bench: Bench) -> str:
    bench.run("create_project", project="p")
    return "p"


def drop(bench: Bench, name: str, data: bytes, uid: int = 0) -> str:
    (bench.staging / name).write_bytes(data)
    os.chown(bench.staging / name, uid, uid)
    return name


def upload(bench: Bench, data: bytes, version: str = "1", name: str = "results.tar", **fields: Any) -> None:
    source = drop(bench, name, data)
    bench.run("upload", project="p", asset="a", version=version, source=source, **fields)
    assert_clean(str(bench.root))


def read(bench: Bench, *path: str) -> Any:
    return json.loads(bench.root.joinpath(*path).read_bytes())


def manifest(bench: Bench, version: str = "1") -> dict[str, Any]:
    found: dict[str, Any] = read(bench, "p/a", version, "..manifest")
    return found


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def staged(bench: Bench) -> list[str]:
    """Return what uncommitted work is left."""
    return [name for name in os.listdir(bench.root / "..transactions") if name.startswith("0")]


def refused(bench: Bench, data: bytes, names: str = "", kind: type[Refused] = Wrong, **fields: Any) -> str:
    """Upload what must be refused; nothing may have changed. Return the reason."""
    before = bench.snapshot()
    source = drop(bench, fields.pop("name", "results.tar"), data)
    with pytest.raises(kind) as error:
        bench.run("upload", project="p", asset="a", version="1", source=source, **fields)
    assert names in error.value.reason
    assert bench.snapshot() == before
    assert staged(bench) == []
    assert (bench.staging / source).read_bytes() == data
    return error.value.reason


# ---- what is refused


@pytest.mark.parametrize("evil", MALICE, ids=lambda evil: evil.id)
def test_malice_is_refused(bench: Bench, evil: Evil) -> None:
    """With the member named, nothing in the registry, and nothing staged."""
    refused(bench, evil.data, evil.says, Refused, name=f"evil.{evil.suffix}", consume=True)
    assert not (bench.root / "p/a").exists()


# ---- what becomes of it

TREE = [
    directory("top"),
    file("top/f", b"12345"),
    file("top/d/g", BIG),
    file("top/d/h", b""),
    directory("top/empty"),
    link("top/l", "d/g"),
    link("top/d/m", "../l"),
    link("top/d/n", "../../top/f"),
]
EXPECTED = {
    "f": (5, md5(b"12345"), None),
    "d/g": (len(BIG), md5(BIG), None),
    "d/h": (0, md5(b""), None),
    "empty": (0, "", None),
    "l": (len(BIG), md5(BIG), "d/g"),
    "d/m": (len(BIG), md5(BIG), "l"),
    "d/n": (5, md5(b"12345"), "f"),
}


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == "tar.zst":
        return zstandard.compress(data)
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=out, mode=f"w:{suffix.partition('.')[2]}") as target,
        tarfile.open(fileobj=io.BytesIO(data)) as source,
    ):
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    return out.getvalue()


def as_zip(members: list[Any]) -> bytes:
    entries = []
    for member, data in members:
        name = f"{member.name}/" if member.isdir() else member.name
        made = zipfile.ZipInfo(name)
        made.create_system = 3
        made.external_attr = (0o040755 if member.isdir() else 0o120777 if member.issym() else 0o100644) << 16
        entries.append((made, member.linkname.encode() if member.issym() else data))
    return zipped(*entries)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "zip"])
def test_a_version_of_an_archive(bench: Bench, suffix: str) -> None:
    """Files, empty directories, links within the version; bytes, documents and usage as of a directory."""
    data = as_zip(TREE) if suffix == "zip" else tar(*TREE)
    upload(bench, data if suffix in {"tar", "zip"} else compress(data, suffix), name="whatever")
    found = {
        path: (entry["size"], entry["md5sum"], entry.get("link", {}).get("path"))
        for path, entry in manifest(bench).items()
    }
    assert found == EXPECTED
    assert (bench.root / "p/a/1/d/g").read_bytes() == BIG
    assert os.readlink(bench.root / "p/a/1/d/m") == "g"
    assert set(read(bench, "p/a/1/..checksums")) == {"f", "d/g", "d/h"}
    assert read(bench, "p/..usage") == {"total": 5 + len(BIG)}
    assert read(bench, "p/a/..latest") == {"version": "1"}
    assert staged(bench) == []


def test_it_is_as_from_a_directory(bench: Bench) -> None:
    """The same files as a directory and as an archive give the same manifest, but for the addresses."""
    tree = {"f": b"1", "d/g": b"2", "e": None, "l": ("link", "d/g")}
    bench.upload("p/b/1", tree)
    upload(bench, tar(file("t/f", b"1"), file("t/d/g", b"2"), directory("t/e"), link("t/l", "d/g")))
    assert json.dumps(manifest(bench)) == json.dumps(read(bench, "p/b/1/..manifest")).replace('"b"', '"a"')


def test_modes_are_the_registry_s(bench: Bench) -> None:
    """0755 and 0644, whatever the archive says."""
    upload(bench, tar(file("t/x", mode=0o6777), file("t/y", mode=0o400), directory("t/d")))
    assert [(bench.root / "p/a/1" / name).stat().st_mode & 0o7777 for name in ("x", "y", "d")] == [
        0o644,
        0o644,
        0o755,
    ]


def test_duplicates_become_links(bench: Bench) -> None:
    """Small and large ones, as of a directory; no bytes of theirs stay."""
    bench.upload("p/a/0", {"f": b"same", "big": BIG, "other": b"5678"})
    upload(bench, tar(file("t/f", b"same"), file("t/x/big", BIG), file("t/new", b"1234")))
    links = {path: entry["link"]["path"] for path, entry in manifest(bench).items() if "link" in entry}
    assert links == {"f": "f", "x/big": "big"}
    assert os.readlink(bench.root / "p/a/1/x/big") == "../../0/big"
    assert read(bench, "p/..usage") == {"total": 8 + len(BIG) + 4}


def meanwhile(bench: Bench, doing: Callable[[], Any]) -> None:
    """Do something when the upload has read its first bytes."""

    def progress(_done: int, _total: int) -> None:
        bench.progress = lambda done, total: None
        doing()

    bench.progress = progress


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_the_duplicate_s_version_goes_meanwhile(bench: Bench, suffix: str) -> None:
    """The archive is read again for what is missing then."""
    bench.upload("p/a/0", {"f": b"same", "big": BIG})
    members = [file("t/d/f", b"same"), file("t/big", BIG), link("t/l", "big"), file("t/new", b"1")]
    meanwhile(bench, lambda: bench.run("delete_version", project="p", asset="a", version="0"))
    upload(bench, as_zip(members) if suffix == "zip" else tar(*members))
    assert {path for path, entry in manifest(bench).items() if "link" in entry} == {"l"}
    assert (bench.root / "p/a/1/d/f").read_bytes() == b"same"
    assert (bench.root / "p/a/1/big").read_bytes() == BIG
    assert read(bench, "p/..usage") == {"total": 4 + len(BIG) + 1}


def test_the_version_appears_meanwhile(bench: Bench) -> None:
    """One winner."""
    bench.source("other", {"f": b"other"})
    meanwhile(bench, lambda: bench.run("upload", project="p", asset="a", version="1", source="other"))
    with pytest.raises(Wrong, match="exists already"):
        upload(bench, tar(file("t/f", b"mine")))
    assert (bench.root / "p/a/1/f").read_bytes() == b"other"


def test_a_daemon_that_stops_leaves_nothing(bench: Bench) -> None:
    """Whatever was unpacked by then goes."""

    def stop() -> None:
        raise Stopped

    meanwhile(bench, stop)
    refused(bench, tar(*TREE), kind=Stopped, consume=True)


# ---- strip


@pytest.mark.parametrize(
    ("members", "strip", "paths"),
    [
        ([file("t/f"), file("t/d/g")], None, {"f", "d/g"}),
        ([file("t/f"), file("t/d/g")], 1, {"f", "d/g"}),
        ([file("t/f"), file("t/d/g")], 0, {"t/f", "t/d/g"}),
        ([file("t/f"), file("g")], None, {"t/f", "g"}),
        ([file("t/f"), file("u/g")], None, {"t/f", "u/g"}),
        ([file("f")], None, {"f"}),
        ([directory("t"), directory("t/e")], None, {"e"}),
        ([directory("t")], None, set()),
        ([directory("t")], 0, {"t"}),
        ([], None, set()),
        ([file("t/..links", b"{}"), file("t/f")], None, {"f"}),
        ([file("..links", b"{}"), file("t/f")], None, {"t/f"}),
        ([file("..own/x"), file("..own/y")], None, set()),
        ([directory("."), file("./f"), directory("./d"), file("./d/g")], None, {"f", "d/g"}),
        ([directory("."), directory("./d"), file("./d/g")], None, {"d/g"}),
        ([directory("."), file("./d/g")], 1, {"d/g"}),
        ([directory("."), file("./d/g")], 0, {"d/g"}),
    ],
)
def test_the_top_directory(bench: Bench, members: list[Any], strip: int | None, paths: set[str]) -> None:
    """It is left out if there is exactly one and nothing beside it, or as the request says."""
    upload(bench, tar(*members), **({} if strip is None else {"strip": strip}))
    assert set(manifest(bench)) == paths


@pytest.mark.parametrize("members", [[file("f")], [file("t/f"), file("u/f")], []])
def test_no_top_directory_to_strip(bench: Bench, members: list[Any]) -> None:
    """400 that says what there is."""
    refused(bench, tar(*members), "strip", strip=1)


def test_strip_is_for_archives(bench: Bench) -> None:
    """With a directory it is a mistake; only 0 and 1 are numbers of directories."""
    bench.source("s", {"f": b"1"})
    with pytest.raises(Wrong, match="strip"):
        bench.run("upload", project="p", asset="a", version="1", source="s", strip=1)
    for value in (2, -1, True, "1", 1.0):
        with pytest.raises(ValidationError):
            bench.run("upload", project="p", asset="a", version="1", source="s", strip=value)


# ---- names that are left out


def test_internal_names_are_never_taken(bench: Bench) -> None:
    """Files, directories and what is in them; a directory that holds nothing else is empty."""
    upload(bench, tar(file("t/..a"), file("t/d/..b/c"), file("t/e/f"), link("t/..l", "e/f")))
    assert set(manifest(bench)) == {"d", "e/f"}
    assert not any(part.startswith("..") for part in os.listdir(bench.root / "p/a/1/d"))


def test_ignore_dot(bench: Bench) -> None:
    """Names inside; the stripped directory's own does not count, that of one that stays does."""
    members = [file(".t/.x"), file(".t/d/.y/z"), file(".t/f"), link(".t/.l", "f")]
    upload(bench, tar(*members), ignore_dot=True)
    assert set(manifest(bench)) == {"d", "f"}
    more = [file("t/f"), file(".u/f"), file(".v"), link(".w", "t/f")]
    upload(bench, tar(*more), "2", ignore_dot=True)
    assert set(manifest(bench, "2")) == {"t/f"}
    assert not (bench.root / "p/a/2/.u").exists()
    upload(bench, tar(file(".t/f"), file(".t/.g")), "3", ignore_dot=True, strip=0)
    assert set(manifest(bench, "3")) == set()
    upload(bench, tar(file(".t/f"), file(".t/.g")), "4")
    assert set(manifest(bench, "4")) == {"f", ".g"}


def test_a_link_to_what_is_left_out(bench: Bench) -> None:
    """400 that names it."""
    refused(bench, tar(file("t/..a"), link("t/l", "..a")), '"l"')
    refused(bench, tar(file("t/.a"), link("t/l", ".a")), '"l"', ignore_dot=True)


def test_a_link_to_a_directory(bench: Bench) -> None:
    """400, as in a directory; extraction would take it."""
    refused(bench, tar(file("t/d/f"), link("t/l", "d")), '"l"')


# ---- what the archive says of itself


def listing(**files: bytes) -> bytes:
    return json.dumps(
        {path: {"size": len(data), "md5sum": md5(data)} for path, data in files.items()}
    ).encode()


def test_a_manifest_of_another_registry_is_checked(bench: Bench) -> None:
    """At the top, stripped or not; it is not taken."""
    upload(bench, tar(file("t/..manifest", listing(f=b"1")), file("t/f", b"1")))
    upload(bench, tar(file("..manifest", listing(f=b"1")), file("f", b"1")), "2")
    assert set(manifest(bench)) == set(manifest(bench, "2")) == {"f"}
    upload(bench, tar(file("t/d/..manifest", b"whatever"), file("t/f", b"2")), "3")


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (listing(f=b"2"), '"f"'),
        (listing(f=b"12"), '"f"'),
        (listing(), '"f"'),
        (listing(f=b"1", gone=b"1"), '"gone"'),
        (b"{", "..manifest"),
        (b"[]", "..manifest"),
    ],
)
def test_what_differs_from_it_is_refused(bench: Bench, listed: bytes, says: str) -> None:
    """Changed, not listed, missing, unreadable."""
    refused(bench, tar(file("t/..manifest", listed), file("t/f", b"1")), says)


def test_ignored_names_may_be_listed(bench: Bench) -> None:
    """What `ignore_dot` leaves out is not missing."""
    data = tar(file("t/..manifest", listing(f=b"1", **{".x": b"2"})), file("t/f", b"1"), file("t/.x", b"2"))
    upload(bench, data, ignore_dot=True)


# ---- the file in staging


def test_only_the_requester_s_own(bench: Bench) -> None:
    """403 for another's, also if they may read it."""
    bench.run("set_permissions", project="p", permissions={"uploaders": [{"id": "alice", "trusted": True}]})
    drop(bench, "t.tar", tar(*TREE), BOB)
    with pytest.raises(Forbidden, match="not owned"):
        bench.run("upload", "alice", ALICE, project="p", asset="a", version="1", source="t.tar")
    drop(bench, "t.tar", tar(*TREE), ALICE)
    bench.run("upload", "alice", ALICE, project="p", asset="a", version="1", source="t.tar")


def test_a_hard_link_is_refused(bench: Bench) -> None:
    """It may be somebody else's file."""
    drop(bench, "t.tar", tar(*TREE))
    os.link(bench.staging / "t.tar", bench.staging / "u.tar")
    with pytest.raises(Wrong, match="hard link"):
        bench.run("upload", project="p", asset="a", version="1", source="u.tar")


def test_what_is_no_file_is_refused(bench: Bench) -> None:
    """Links are not followed, a FIFO does not block, and nothing is nothing."""
    drop(bench, "t.tar", tar(*TREE))
    os.symlink("t.tar", bench.staging / "link")
    os.mkfifo(bench.staging / "fifo")
    for source in ("link", "fifo", "nothing"):
        with pytest.raises(Wrong, match=source):
            bench.run("upload", project="p", asset="a", version="1", source=source)


def test_what_is_no_archive_is_named(bench: Bench) -> None:
    """The request's `source` is a file by mistake, or was cut off: the sentence says which file."""
    for data, says in ((b"", "is empty"), (b"text\n", "no archive"), (tar(file("a", BIG))[:-2000], "")):
        with pytest.raises(Wrong, match=f'the source "results.tar": .*{says}'):
            upload(bench, data)


@pytest.mark.parametrize("suffix", ["tar", "zip"])
@pytest.mark.parametrize("change", ["append", "truncate", "rewrite", "touch"])
def test_an_archive_that_changes_is_refused(bench: Bench, suffix: str, change: str) -> None:
    """Whatever was read of it by then."""
    members = [file(f"t/{n}", os.urandom(600_000)) for n in range(4)]
    path = bench.staging / "results"

    def doing() -> None:
        if change == "truncate":
            os.truncate(path, 700_000)
        elif change == "touch":
            os.utime(path, ns=(1, 1))
        else:
            with open(path, "r+b" if change == "rewrite" else "ab") as opened:
                opened.write(b"changed")

    meanwhile(bench, doing)
    data = as_zip(members) if suffix == "zip" else tar(*members)
    source = drop(bench, "results", data)
    with pytest.raises(Wrong):
        bench.run("upload", project="p", asset="a", version="1", source=source)
    assert not (bench.root / "p/a").exists()
    assert staged(bench) == []


def test_a_swapped_archive_does_not_matter(bench: Bench) -> None:
    """What was opened is what is read; `consume` leaves the new one alone."""
    path = bench.staging / "results.tar"

    def swap() -> None:
        (bench.staging / "new").write_bytes(b"something else")
        os.rename(bench.staging / "new", path)

    meanwhile(bench, swap)
    with pytest.raises(Wrong, match="changed"):  # renaming over it changed its ctime
        upload(bench, tar(*TREE), consume=True)
    assert path.read_bytes() == b"something else"


# ---- limits and quota


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(files=8), "8 members"),
        (Limits(size=len(BIG)), "top/d/g"),
        (Limits(depth=1), "top/d/g"),
        (Limits(path=6), "top/d/g"),
    ],
)
def test_too_much_is_413(bench: Bench, limits: Limits, says: str) -> None:
    """The daemon's limits for uploads count for archives, and the reason names the member."""
    bench.policy = Policy(limits=limits)
    reason = refused(bench, tar(*TREE), kind=Exceeded)
    assert says in reason


def test_quota_stops_the_unpacking(bench: Bench) -> None:
    """Before the bytes that are too many are written; duplicates count for nothing."""
    bench.policy = Policy(enforce_quota=True)
    bench.upload("p/a/0", {"f": BIG})
    bench.run("set_quota", project="p", baseline=len(BIG) + 10, growth_rate=0)
    refused(bench, tar(file("t/a", b"123456"), file("t/b", b"789012")), kind=Exceeded)
    refused(bench, tar(file("t/f", os.urandom(len(BIG)))), kind=Exceeded)
    upload(bench, tar(file("t/a", b"123456"), file("t/b", b"1234")))
    assert read(bench, "p/..usage") == {"total": len(BIG) + 10}


def test_duplicates_take_no_quota(bench: Bench) -> None:
    """However large they are."""
    bench.policy = Policy(enforce_quota=True)
    bench.upload("p/a/0", {"f": BIG, "g": b"12345"})
    bench.run("set_quota", project="p", baseline=len(BIG) + 5, growth_rate=0)
    upload(bench, tar(file("t/f", BIG), file("t/g", b"12345")))
    assert read(bench, "p/..usage") == {"total": len(BIG) + 5}


# ---- consume


def test_consume_removes_the_archive(bench: Bench) -> None:
    """After the commit, and nothing else; without it the archive stays."""
    upload(bench, tar(*TREE), "1", "a.tar")
    upload(bench, tar(*TREE), "2", "b.tar", consume=True)
    assert os.listdir(bench.staging) == ["a.tar"]


def test_an_untrusted_upload_is_on_probation(bench: Bench) -> None:
    """As with a directory."""
    bench.run("set_permissions", project="p", permissions={"uploaders": [{"id": "alice"}]})
    drop(bench, "t.tar", tar(*TREE), ALICE)
    bench.run("upload", "alice", ALICE, project="p", asset="a", version="1", source="t.tar")
    assert read(bench, "p/a/1/..summary")["on_probation"] is True
