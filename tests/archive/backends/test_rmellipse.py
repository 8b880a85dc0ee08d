"""Archives in rmellipse's layout: what was written by hand is read and continued, and what is written is read."""

import io
import os
from pathlib import Path

import pytest
from archive.backends.shelf import CONTENT, TREE, read_archive, sha256, strays, write_archive, write_blob

from gobblerd.archive import FileSystemArchive, Invalid, Wrong, mirror, verify_releases
from gobblerd.domain.release import Release, ReleaseFile
from gobblerd.domain.version_spec import VersionSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_archive(tmp_path / "here", "lab", "fit", "0.9.1", "0.10.0", "1.0.0-rc.1")
    return tmp_path / "here"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    place = tmp_path / "there"
    place.mkdir()
    (place / ".rmearchive").touch()
    return place


def listed(root: Path, expression: str | None, title: str = "fit") -> list[Release]:
    return list(FileSystemArchive(str(root)).list_records("lab", title, VersionSpec.parse(expression)))


def record(root: Path) -> Path:
    return root / "lab" / "fit" / "fit-v0.9.1.yml"


def test_an_archive_by_hand_is_read(root: Path) -> None:
    """Files, HDF5 ones too, and empty directories, with sizes and checksums; versions by precedence."""
    assert [one.version for one in listed(root, None)] == ["0.9.1", "0.10.0", "1.0.0-rc.1"]
    assert [one.version for one in listed(root, ">=0.9,<1")] == ["0.9.1", "0.10.0"]
    assert [one.version for one in listed(root, "latest")] == ["0.10.0"]
    assert listed(root, ">9") == listed(root, None, "none") == []
    release = listed(root, "0.9.1")[0]
    assert [file.path for file in release.files] == sorted(
        path for path, data in TREE.items() if data is not None
    )
    assert release.directories == ("logs",)
    assert release.title == "fit-v0.9.1"
    archive = FileSystemArchive(str(root))
    for file in release.files:
        content = archive.open_blob(release, file)
        assert content.read() == TREE[file.path]
        content.close()
        assert (file.size, file.sha256) == (len(TREE[file.path] or b""), sha256(TREE[file.path] or b""))


def test_what_is_copied_has_exactly_that_layout(root: Path, other: Path) -> None:
    """Read without our code, the copy is the original: records, blobs, and nothing else."""
    done = mirror(str(root), str(other), "lab/fit")
    assert [(one.version, one.outcome) for one in done] == [
        ("0.9.1", "copied"),
        ("0.10.0", "copied"),
        ("1.0.0-rc.1", "copied"),
    ]
    assert read_archive(other, "lab", "fit") == read_archive(root, "lab", "fit")
    assert read_archive(other, "lab", "fit")["0.10.0"] == TREE
    assert strays(other) == []
    assert {one.outcome for one in mirror(str(root), str(other), "lab/fit")} == {"there"}


def test_an_archive_by_hand_is_continued(root: Path, other: Path) -> None:
    """A release is added beside those that were there; what is there already is stored once."""
    write_archive(other, "lab", "fit", "1.0.0", content={**CONTENT, "csv": b"5,6\n"})
    mirror(str(other), str(root), "lab/fit/1.0.0")
    found = read_archive(root, "lab", "fit")
    assert set(found) == {"0.9.1", "0.10.0", "1.0.0-rc.1", "1.0.0"}
    assert found["1.0.0"]["data/spectrum.csv"] == b"5,6\n"
    assert len(list(root.glob("lab/fit/blobs/*/*"))) == len(CONTENT) + 1
    write_archive(root, "lab", "fit", "1.1.0")  # and the other tool goes on
    assert [one.version for one in listed(root, ">=1")] == ["1.0.0", "1.1.0"]


def test_every_byte_is_verified(root: Path, other: Path) -> None:
    """A blob with another content is noticed, by verifying and by copying, which publishes nothing."""
    blob = write_blob(root / "lab" / "fit", CONTENT["csv"])
    assert [one.outcome for one in verify_releases(str(root), "lab/fit/<1")] == ["there", "there"]
    blob.write_bytes(b"1,3\n")
    [flaw] = verify_releases(str(root), "lab/fit/0.9.1")
    assert flaw.outcome == "failed"
    assert (
        "data/spectrum.csv of lab/fit/0.9.1 is not what its record says: its sha256"
        in flaw.reason.replace('"', "")
    )
    [failed] = mirror(str(root), str(other), "lab/fit/0.9.1")
    assert (failed.outcome, failed.reason) == ("failed", flaw.reason)
    assert read_archive(other, "lab", "fit") == {}
    assert strays(other) == []
    blob.write_bytes(b"1,2\n3")
    assert "it has 5 bytes or more, not 4" in verify_releases(str(root), "lab/fit/0.9.1")[0].reason
    blob.unlink()
    assert verify_releases(str(root), "lab/fit/0.9.1")[0].outcome == "failed"


def test_a_blob_that_somebody_was_killed_over_is_replaced(root: Path, other: Path) -> None:
    """rmellipse copies blobs in place: one that is too short is not believed."""
    write_archive(other, "lab", "fit")
    blob = write_blob(other / "lab" / "fit", CONTENT["readme"])
    blob.write_bytes(b"hel")
    mirror(str(root), str(other), "lab/fit/0.9.1")
    assert read_archive(other, "lab", "fit")["0.9.1"] == TREE


def test_another_release_of_that_version_is_never_overwritten(root: Path, other: Path) -> None:
    """The difference is named, and nothing changes."""
    write_archive(other, "lab", "fit", "0.9.1", content={**CONTENT, "readme": b"HELLO\n"})
    before = record(other).read_bytes()
    [failed, copied] = mirror(str(root), str(other), "lab/fit/<1")
    assert failed.outcome == "failed"
    assert "'README.md' has other contents" in failed.reason
    assert copied.outcome == "copied"
    assert record(other).read_bytes() == before
    archive = FileSystemArchive(str(other))
    with pytest.raises(FileExistsError):
        archive.put_record(listed(root, "0.9.1")[0])
    assert record(other).read_bytes() == before


def test_records_are_written_where_there_are_no_hard_links(
    root: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some filesystems have none."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    mirror(str(root), str(other), "lab/fit/0.9.1")
    assert read_archive(other, "lab", "fit") == {"0.9.1": TREE}
    assert strays(other) == []


@pytest.mark.parametrize(
    ("version", "kept"),
    [("1", "1.0.0"), ("v1.2", "1.2.0"), ("2026.04-rc.1", "2026.4.0-rc.1"), ("1.2.3+b.1", "1.2.3+b.1")],
)
def test_versions_get_three_numbers(other: Path, version: str, kept: str) -> None:
    """rmellipse fails on a directory that has any other."""
    archive = FileSystemArchive(str(other))
    release = Release("lab", "fit", version, (ReleaseFile("f", 1),))
    fitted = archive.fit(release)
    assert fitted.version == kept
    file = archive.put_blob(fitted, fitted.files[0], io.BytesIO(b"x"))
    archive.put_record(Release("lab", "fit", kept, (file,)))
    assert read_archive(other, "lab", "fit") == {kept: {"f": b"x"}}
    found = archive.find_record(fitted)
    assert found is not None
    assert found.files == (file,)


def test_no_release_is_written_outside(other: Path) -> None:
    """Names are names."""
    for project, asset in (("..", "fit"), ("lab", ".."), (".", "fit")):
        with pytest.raises(Wrong, match="name"):
            FileSystemArchive(str(other)).fit(Release(project, asset, "1", ()))


@pytest.mark.parametrize(("asset", "version"), [("fit", "2026-11"), ("fit", "draft"), ("a>=b", "1")])
def test_what_rmellipse_could_not_ask_for_is_refused(other: Path, asset: str, version: str) -> None:
    """Before a byte is copied."""
    with pytest.raises(Wrong, match="rmellipse's layout"):
        FileSystemArchive(str(other)).fit(Release("lab", asset, version, ()))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("/path/: README.md", "/path/: ../../../etc/passwd", "cannot be"),
        ("/path/: README.md", "/path/: /etc/passwd", "cannot be"),
        ("/path/: README.md", "/path/: data", "both as a file and as a directory"),
        ("/path/: README.md", "/path/: data/spectrum.csv", "two files"),
        ("/path/: README.md", "/path/: [README.md]", "is no text"),
        ("/bytes/: 6", "/bytes/: -6", "cannot be"),
        ("/bytes/: 6", "/bytes/: true", "cannot be"),
        ("/bytes/: 6", "/other/: 6", "cannot be"),
        ("/item/: Directory\n    /path/: data", "/item/: Cupboard\n    /path/: data", "neither a file nor"),
        ("README.md:", "1:", "lacks quotes"),
        ("version: 0.9.1", "version: 0.9", "no semantic version"),
        ("version: 0.9.1", "version: spring", "no semantic version"),
        ("title_versionless: fit", "title_versionless: misfit", "it is of 'misfit'"),
        ("project:", "projects:", "no release record"),
        ("datasets:", "datasets: [", "no YAML document"),
        ("datasets:", "datasets: !!python/object/apply:os.system [exit]\nx:", "no YAML document"),
    ],
)
def test_records_that_cannot_be(root: Path, old: str, new: str, said: str) -> None:
    """A record is data: it names no file outside, runs nothing, and is refused by its own path."""
    text = record(root).read_text(encoding="utf-8")
    assert old in text
    record(root).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Invalid, match=said) as error:
        listed(root, "0.9.1")
    assert str(record(root)) in error.value.reason


def test_blobs_are_found_by_hash_only(root: Path, other: Path) -> None:
    """A blob's name is no path."""
    text = record(root).read_text(encoding="utf-8")
    record(root).write_text(
        text.replace(sha256(CONTENT["readme"]), "../../../../etc/passwd"), encoding="utf-8"
    )
    [failed] = mirror(str(root), str(other), "lab/fit/0.9.1")
    assert "is no SHA-256" in failed.reason


def test_a_tree_of_aliases_ends(root: Path) -> None:
    """YAML can name one node many times, also inside itself."""
    record(root).write_text(
        "title_versionless: fit\nversion: 0.9.1\nproject: &p\n  a: &a\n    /item/: Directory\n    /path/: a\n    b: *a\n",
        encoding="utf-8",
    )
    with pytest.raises(Invalid, match="deeper than 256"):
        listed(root, "0.9.1")


def test_a_directory_without_the_mark_is_no_archive(tmp_path: Path) -> None:
    """As rmellipse has it."""
    with pytest.raises(Wrong, match=r"no file \.rmearchive"):
        FileSystemArchive(str(tmp_path))
