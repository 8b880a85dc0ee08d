"""Checksums: published vectors, computed here a second time from the definition alone."""

import hashlib
import os
from pathlib import Path

import pytest

from gobblerd.archive.checksums import TreeEntry, file_checksum, tree_checksum
from gobblerd.archive.members import Member
from gobblerd.archive.trees import tree_entries
from gobblerd.domain.errors import Invalid, Wrong

VECTORS: list[tuple[dict[str, bytes | None], str]] = [  # docs/archives.md shows the same
    ({}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ({"empty": None}, "6a1ca1f0df92cbf95c1568a469fa1ddf194438ab59125499218fb57ad1ffd0ba"),
    ({"a": b""}, "1d2ca376a327d2ad1a34c083f33430929937235be73ba89abd51a34c30c69461"),
    (
        {"hello.txt": b"hello\n", "a/b": None, "a-b": b"", "ä/µ.txt": b"x"},
        "568c2fa56a91d82482c950121324b463908a921bfd7622c284ecd1d8294d9c0b",
    ),
]


def by_the_book(tree: dict[str, bytes | None]) -> str:
    """Compute gobblerd-tree-1 as docs/archives.md tells it."""
    text = b""
    for path in sorted(tree, key=str.encode):
        name, data = path.encode(), tree[path]
        text += len(name).to_bytes(8, "big") + name
        text += b"d" + bytes(8) + bytes(32) if data is None else b""
        if data is not None:
            text += b"f" + len(data).to_bytes(8, "big") + hashlib.sha256(data).digest()
    return hashlib.sha256(text).hexdigest()


def entries_of(tree: dict[str, bytes | None]) -> list[TreeEntry]:
    return [
        TreeEntry(path, "directory")
        if data is None
        else TreeEntry(path, "file", len(data), hashlib.sha256(data).hexdigest())
        for path, data in tree.items()
    ]


def lay_out(root: Path, tree: dict[str, bytes | None]) -> None:
    for path, data in tree.items():
        target = root / path
        if data is None:
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


@pytest.mark.parametrize(("tree", "checksum"), VECTORS)
def test_published_vectors(tree: dict[str, bytes | None], checksum: str, tmp_path: Path) -> None:
    """Definition, entries and a directory on disk agree with what is published."""
    lay_out(tmp_path, tree)
    assert by_the_book(tree) == checksum
    assert tree_checksum(entries_of(tree)) == checksum
    assert tree_checksum(reversed(entries_of(tree))) == checksum
    assert tree_checksum(tmp_path) == checksum


def test_the_documentation_shows_the_same_vectors() -> None:
    page = Path(__file__).parents[2].joinpath("docs/archives.md").read_text(encoding="utf-8")
    assert [checksum for _, checksum in VECTORS if checksum not in page] == []


def test_only_names_and_contents_count(tmp_path: Path) -> None:
    """Times, modes and the registry's own files change nothing; a byte, a name and an empty directory do."""
    lay_out(tmp_path, {"d/a": b"1", "e": None})
    before = tree_checksum(tmp_path)
    os.chmod(tmp_path / "d/a", 0o755)
    os.utime(tmp_path / "d/a", (5, 5))
    lay_out(tmp_path, {"..manifest": b"{}", "d/..links": b"{}", "e/..x": b""})
    assert tree_checksum(tmp_path) == before
    (tmp_path / "d/a").write_bytes(b"2")
    assert tree_checksum(tmp_path) != before


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    """Also a link to a directory, and one out of the tree."""
    linked, plain = tmp_path / "linked", tmp_path / "plain"
    lay_out(plain, {"a": b"1", "b": b"1", "d/x": b"2", "e/x": b"2"})
    lay_out(linked, {"a": b"1", "d/x": b"2"})
    (linked / "b").symlink_to(plain / "b")
    (linked / "e").symlink_to("d")
    assert tree_checksum(linked) == tree_checksum(plain)


@pytest.mark.parametrize("target", ["nowhere", ".", "/dev/null"])
def test_what_cannot_be_a_tree_is_refused_by_name(target: str, tmp_path: Path) -> None:
    lay_out(tmp_path, {"d/a": b"1"})
    (tmp_path / "d/odd").symlink_to(target)
    with pytest.raises(Wrong, match='"d/odd" is'):
        tree_checksum(tmp_path)


def test_two_entries_of_one_path_are_refused() -> None:
    with pytest.raises(Wrong, match='two entries for "a"'):
        tree_checksum([TreeEntry("a", "directory"), TreeEntry("a", "directory")])


def test_members_of_an_archive_are_the_tree_of_the_directory(tmp_path: Path) -> None:
    """The prefix goes, links are followed, only empty directories count."""
    lay_out(tmp_path, {"a": b"1", "b": b"1", "d/x": b"2", "e/x": b"2", "none": None})
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"1", b"2"))
    members = [
        Member("app", "directory"),
        Member("app/..manifest", "file", 2, one),
        Member("app/a", "file", 1, one),
        Member("app/b", "link", target="a"),
        Member("app/d", "directory"),
        Member("app/d/x", "file", 1, two),
        Member("app/e", "link", target="d"),
        Member("app/none", "directory"),
    ]
    assert tree_checksum(tree_entries(members, "app")) == tree_checksum(tmp_path)


@pytest.mark.parametrize(("target", "why"), [("nothing", "to nothing"), ("l", "itself"), (".", "itself")])
def test_links_of_an_archive_that_lead_nowhere_are_refused(target: str, why: str) -> None:
    members = [Member("app/x", "file"), Member("app/l", "link", target=target)]
    with pytest.raises(Invalid, match=f'"app/l" leads .*{why}'):
        list(tree_entries(members, "app"))


@pytest.mark.parametrize(
    ("algorithm", "checksum"),
    [
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("xxh3_128", "06b05ab6733a618578af5f94892f3950"),
    ],
)
def test_checksums_of_files(algorithm: str, checksum: str, tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    seen: list[int] = []
    assert file_checksum(tmp_path / "abc", algorithm, tick=seen.append) == checksum
    assert sum(seen) == 3


@pytest.mark.parametrize("algorithm", ["crc0", "shake_128", "xxh999", ""])
def test_an_unknown_algorithm_is_refused(algorithm: str, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match="no checksum algorithm"):
        file_checksum(tmp_path, algorithm)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Wrong, match="not a regular file"):
        file_checksum(tmp_path / "fifo")
