"""Verification: everything that differs from receipt and manifest is listed, and every damage is noticed."""

import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.malice import MALICE, Evil, directory, entry, file, link, tar, zipped
from support.receipts import with_receipt

from gobblerd.archive import Problem, extract_archive, tree_checksum, verify_archive
from gobblerd.archive.verify import Verified
from gobblerd.domain.errors import Exceeded, Invalid

DAMAGES = 40
MANY_DAMAGES = int(os.environ.get("GOBBLERD_DAMAGES", "1000"))
SEED = int(os.environ.get("GOBBLERD_SEED", "20261128"))


def listing(files: dict[str, bytes | None]) -> bytes:
    return json.dumps(
        {
            path: {"size": len(data or b""), "md5sum": "" if data is None else hashlib.md5(data).hexdigest()}
            for path, data in files.items()
        }
    ).encode()


VERSION: dict[str, bytes | None] = {"f": b"12345", "d/g": b"67", "empty": None, "l": b"67"}
MANIFEST = file("top/..manifest", listing(VERSION))
TREE = [
    directory("top"),
    MANIFEST,
    file("top/f", b"12345"),
    file("top/d/g", b"67"),
    directory("top/d"),
    directory("top/empty"),
    link("top/l", "d/g"),
]


def archive(tmp_path: Path, data: bytes, name: str = "x.tar") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def found(verified: Verified) -> set[tuple[str, str]]:
    return {(problem.path, problem.kind) for problem in verified.problems}


def test_a_sound_archive(tmp_path: Path) -> None:
    """With manifest and receipt: what it is, and no problem."""
    path = archive(tmp_path, tar(*TREE))
    with_receipt(path, TREE)
    verified = verify_archive(path)
    assert verified.is_sound
    assert (verified.format, verified.members, verified.has_manifest, verified.has_receipt) == (
        "tar",
        7,
        True,
        True,
    )
    assert verified.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert verified.size == path.stat().st_size


def test_the_tree_checksum_is_that_of_the_directory(tmp_path: Path) -> None:
    """Whatever the format, and wherever it lies in it."""
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "f").write_bytes(b"12345")
    (top / "d/g").write_bytes(b"67")
    (top / "l").symlink_to("d/g")
    expected = tree_checksum(top)
    as_zip = zipped(
        ("top/f", b"12345"),
        ("top/d/g", b"67"),
        (entry("top/empty/", 0o040755), b""),
        (entry("top/l", 0o120777), b"d/g"),
    )
    for name, data in {"x.tar": tar(*TREE), "x.zip": as_zip}.items():
        assert verify_archive(archive(tmp_path, data, name)).tree_checksum == expected


@pytest.mark.parametrize("evil", MALICE, ids=lambda evil: evil.id)
def test_malice_is_a_problem(tmp_path: Path, evil: Evil) -> None:
    """The member is named; too much is too much."""
    path = archive(tmp_path, evil.data, f"evil.{evil.suffix}")
    if evil.name == "zstd window":
        with pytest.raises(Exceeded, match=evil.says):
            verify_archive(path)
        return
    verified = verify_archive(path)
    assert [problem.kind for problem in verified.problems] == ["unreadable"]
    assert evil.says in verified.problems[0].found


# ---- the receipt


def test_what_differs_from_the_receipt(tmp_path: Path) -> None:
    """Digest first, then every member: missing, extra, changed in bytes, mode, kind or target."""
    said = [
        file("top/same"),
        file("top/bytes", b"1234"),
        file("top/mode", mode=0o755),
        file("top/kind", b""),
        link("top/target", "same"),
        file("top/missing"),
    ]
    really = [
        file("top/same"),
        file("top/bytes", b"12E4"),
        file("top/mode"),
        directory("top/kind"),
        link("top/target", "bytes"),
        file("top/extra"),
    ]
    path = archive(tmp_path, tar(*really))
    with_receipt(path, said, sha256="1" * 64)
    verified = verify_archive(path)
    assert verified.problems[0] == Problem("x.tar", "digest", "1" * 64, verified.sha256)
    assert found(verified) == {
        ("x.tar", "digest"),
        ("top/bytes", "changed"),
        ("top/mode", "changed"),
        ("top/kind", "changed"),
        ("top/target", "changed"),
        ("top/missing", "missing"),
        ("top/extra", "extra"),
    }
    assert "expected" in str(verified.problems[0])


def test_a_receipt_of_another_size(tmp_path: Path) -> None:
    """The members are looked at all the same."""
    path = archive(tmp_path, tar(*TREE))
    with_receipt(path, TREE, size=5)
    assert found(verify_archive(path)) == {("x.tar", "digest")}


def test_a_receipt_from_elsewhere(tmp_path: Path) -> None:
    """Given by path; without one and none beside, only `require_sha256` minds."""
    path = archive(tmp_path, tar(*TREE))
    moved = with_receipt(path, TREE).rename(tmp_path / "elsewhere.json")
    assert not verify_archive(path).has_receipt
    assert verify_archive(path, receipt=moved).has_receipt
    with pytest.raises(Invalid, match="no receipt"):
        verify_archive(path, require_sha256=True)


# ---- the manifest


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"f": b"12E45"}, ("top/f", "changed")),
        ({"f": b"123456"}, ("top/f", "changed")),
        ({"l": b"68"}, ("top/l", "changed")),
        ({"empty": b"1"}, ("top/empty", "changed")),
        ({"more": b"1"}, ("top/more", "missing")),
        ({"f": ...}, ("top/f", "extra")),
        ({"empty": ...}, ("top/empty", "extra")),
    ],
)
def test_what_differs_from_the_manifest(
    tmp_path: Path, change: dict[str, Any], problem: tuple[str, str]
) -> None:
    """Each by itself."""
    said = {path: data for path, data in {**VERSION, **change}.items() if data is not ...}
    tree = [member for member in TREE if member is not MANIFEST]
    path = archive(tmp_path, tar(*tree, file("top/..manifest", listing(said))))
    assert found(verify_archive(path)) == {problem}


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    """Is a problem of its own."""
    path = archive(tmp_path, tar(file("top/..manifest", b"{"), file("top/f")))
    assert found(verify_archive(path)) == {("top/..manifest", "unreadable")}


def test_internal_files_are_not_listed(tmp_path: Path) -> None:
    """`..links` and the like are no extra files; a directory that holds nothing else is empty."""
    data = tar(file("top/..manifest", listing({"e": None})), file("top/..summary"), file("top/e/..links"))
    assert verify_archive(archive(tmp_path, data)).is_sound


def test_a_tree_checksum_that_is_not_the_members(tmp_path: Path) -> None:
    """Archives are named after it, so a false one is a problem though every member is right."""
    path = archive(tmp_path, tar(*TREE))
    with_receipt(path, TREE, tree_checksum="0" * 64)
    (problem,) = verify_archive(path).problems
    assert (problem.path, problem.kind, problem.expected) == ("x.tar", "tree", "0" * 64)
    with pytest.raises(Invalid, match="has another tree checksum"):
        extract_archive(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_the_receipt_leaves_out_or_adds(tmp_path: Path) -> None:
    """An archive of a part of a version, with a script put beside, is sound."""
    tree = [*TREE[:2], *TREE[3:], file("top/install.sh")]
    path = archive(tmp_path, tar(*tree))
    assert found(verify_archive(path)) == {("top/f", "missing"), ("top/install.sh", "extra")}
    with_receipt(path, tree, left_out=("f",))
    assert verify_archive(path).is_sound


# ---- damage


def formats() -> tuple[list[Any], dict[str, bytes]]:
    """Return the members of one version, and an archive of them in every format."""
    members = [*TREE, file("top/big", random.Random(1).randbytes(20_000)), file("top/zeros", bytes(9_000))]
    members[1] = file("top/..manifest", listing({**VERSION, "big": members[-2][1], "zeros": bytes(9_000)}))
    plain = tar(*members)
    made = {"tar": plain, "tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress(plain)}
    for name in ("gz", "bz2", "xz"):
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=out, mode=f"w:{name}") as target,
            tarfile.open(fileobj=io.BytesIO(plain)) as source,
        ):
            for member in source:
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
        made[f"tar.{name}"] = out.getvalue()
    entries: list[Any] = []
    for info, data in members:
        mode = 0o040755 if info.isdir() else 0o120777 if info.issym() else 0o100644
        name = f"{info.name}/" if info.isdir() else info.name
        entries.append((entry(name, mode), info.linkname.encode() if info.issym() else data))
    return members, {**made, "zip": zipped(*entries)}


MEMBERS, FORMATS = formats()


def damaged(data: bytes, choice: random.Random) -> bytes:
    """Return the archive with one byte changed, one added or lost, the end cut off, or something behind."""
    at = choice.randrange(len(data))
    kind = choice.choice(("change", "change", "change", "lose", "add", "cut", "append"))
    if kind == "change":
        return data[:at] + bytes([data[at] ^ choice.randrange(1, 256)]) + data[at + 1 :]
    if kind == "lose":
        return data[:at] + data[at + 1 :]
    if kind == "add":
        return data[:at] + choice.randbytes(1) + data[at:]
    return data[:at] if kind == "cut" else data + choice.randbytes(choice.randrange(1, 600))


def run(tmp_path: Path, suffix: str, count: int) -> None:
    """With the receipt every damage is noticed; without, none changes what would be extracted."""
    choice = random.Random(f"{SEED} {suffix}")
    data = FORMATS[suffix]
    path = archive(tmp_path, data, f"x.{suffix}")
    receipt = with_receipt(path, MEMBERS).rename(tmp_path / "receipt.json")
    whole = verify_archive(path, receipt=receipt)
    assert whole.is_sound, whole.problems
    noticed = 0
    for number in range(count):
        bad = damaged(data, choice)
        assert bad != data
        path.write_bytes(bad)
        assert not verify_archive(path, receipt=receipt).is_sound, number
        alone = verify_archive(path)
        noticed += not alone.is_sound
        assert not alone.is_sound or alone.tree_checksum == whole.tree_checksum, number
    said = f"{suffix}: {count} noticed with the receipt, {noticed} without (the others change no file)"
    print(f"COUNT damage: {said}")  # noqa: T201 - a count for docs/reliability.md
    assert noticed >= count * 3 // 4


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_damage_is_noticed(tmp_path: Path, suffix: str) -> None:
    """A few."""
    run(tmp_path, suffix, DAMAGES)


@pytest.mark.long
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_one_of_many_damages_is_noticed(tmp_path: Path, suffix: str) -> None:
    """GOBBLERD_DAMAGES of each format (default 1,000)."""
    run(tmp_path, suffix, MANY_DAMAGES)
