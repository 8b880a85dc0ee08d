"""Inspection: what an archive holds and would become, without a file being written."""

import json
from pathlib import Path

import pytest
from support.malice import MALICE, Evil, directory, file, link, tar
from support.receipts import with_receipt

from gobblerd.archive import inspect_archive
from gobblerd.domain.errors import Absent

SUMMARY = {"upload_user_id": "anna", "upload_start": "2026-01-01T00:00:00Z"}
TREE = [
    directory("top"),
    file("top/..manifest", b"{}"),
    file("top/..summary", json.dumps(SUMMARY).encode()),
    file("top/f", b"12345"),
    link("top/l", "f"),
]


def test_what_an_archive_holds(tmp_path: Path) -> None:
    """Counts, sizes, its top directory, what it says of the version, its receipt; nothing is written."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar(*TREE))
    with_receipt(path, TREE, project="p", asset="a", version="1")
    found = inspect_archive(path)
    assert [member.path for member in found.members] == [info.name for info, _ in TREE]
    assert {kind: found.count(kind) for kind in ("file", "directory", "link")} == {
        "file": 3,
        "directory": 1,
        "link": 1,
    }
    assert (found.format, found.size, found.top) == ("tar", path.stat().st_size, "top")
    assert found.extracted == sum(len(data) for _, data in TREE)
    assert found.has_manifest
    assert found.summary == SUMMARY
    assert found.receipt is not None
    assert found.receipt.version == "1"
    assert found.refusal is None
    assert len(list(tmp_path.iterdir())) == 2


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    """No metadata, no receipt, no single top; a summary that is none is none."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar(file("a"), file("b/..summary", b"[]")))
    found = inspect_archive(path)
    assert (found.top, found.has_manifest, found.summary, found.receipt) == ("", False, None, None)


@pytest.mark.parametrize("evil", MALICE, ids=lambda evil: evil.id)
def test_what_would_be_refused_is_said(tmp_path: Path, evil: Evil) -> None:
    """With the members before it."""
    path = tmp_path / "evil"
    path.write_bytes(evil.data)
    refusal = inspect_archive(path).refusal
    assert refusal is not None
    assert evil.says in refusal


def test_size_is_limited_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for extraction."""
    monkeypatch.setattr("gobblerd.archive.limits.SIZE", 10)
    path = tmp_path / "x.tar"
    path.write_bytes(tar(*TREE))
    refusal = inspect_archive(path).refusal
    assert refusal is not None
    assert "10 bytes" in refusal
    assert "--allow-large" in refusal
    assert inspect_archive(path, allow_large=True).refusal is None


def test_no_archive(tmp_path: Path) -> None:
    """404."""
    with pytest.raises(Absent):
        inspect_archive(tmp_path / "none")
