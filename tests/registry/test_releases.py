"""Expressions against an asset on disk: what is a version there, what is released, what is the latest."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.places import write_tree

from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.domain.version_spec import VersionSpec
from gobblerd.registry.browse import Browser
from gobblerd.registry.releases import resolve_versions


def summary(*, on_probation: bool = False) -> bytes:
    times = {"upload_start": "2026-01-01T00:00:00Z", "upload_finish": "2026-01-01T00:00:01Z"}
    return json.dumps({"upload_user_id": "anna", **times, "on_probation": on_probation}).encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = ("0.9.1", "0.10.0", "v1.0", "1.1.0-rc.1", "3", "draft")
    tree = {f"p/a/{name}/..summary": summary() for name in names}
    write_tree(str(tmp_path), tree)
    write_tree(
        str(tmp_path),
        {
            "p/a/9/..summary": summary(on_probation=True),
            "p/a/10/file": b"a directory without a summary is no version",
            "p/a/..latest": b'{"version": "v1.0"}',
            "p/a/..11/..summary": summary(),
            "p/a/12": b"a file",
            "p/empty": None,
        },
    )
    (tmp_path / "p" / "a" / "13").symlink_to("3")
    return tmp_path


def resolved(root: Path, spec: str | Sequence[str] | None, asset: str = "a") -> list[str]:
    return resolve_versions(Browser(str(root), list), "p", asset, VersionSpec.parse(spec))


def test_versions_that_are_meant(root: Path) -> None:
    """Oldest to newest by precedence; neither what is on probation nor what only lies there."""
    assert resolved(root, ">=0") == ["0.9.1", "0.10.0", "v1.0", "3"]
    assert resolved(root, ">=1.1.0-a") == ["1.1.0-rc.1", "3"]
    assert resolved(root, "latest") == ["v1.0"]
    assert resolved(root, "draft") == ["draft"]
    assert resolved(root, None) == ["draft", "0.9.1", "0.10.0", "v1.0", "1.1.0-rc.1", "3"]


@pytest.mark.parametrize("spec", ["9", "==9", "10", "..11", "12", "13", "absent", ">3"])
def test_what_is_not_released_is_never_meant(root: Path, spec: str) -> None:
    """Not by its exact name either."""
    assert resolved(root, spec) == []


def test_an_asset_without_versions(root: Path) -> None:
    """Nothing is meant, and there is no latest."""
    assert resolved(root, None, "empty") == []
    assert resolved(root, "latest", "empty") == []


def test_what_is_not_there(root: Path) -> None:
    """An asset that is not there, or cannot be, is said to be so."""
    with pytest.raises(Absent, match="p/none"):
        resolved(root, "1", "none")
    for asset in ("", ".", "..logs", "a/3"):
        with pytest.raises(Wrong, match="asset name"):
            resolved(root, "1", asset)


def test_unreadable_documents(root: Path) -> None:
    """A damaged document is a fault that names it, if it is needed."""
    (root / "p" / "a" / "3" / "..summary").write_bytes(b"{")
    assert resolved(root, "<3") == ["0.9.1", "0.10.0", "v1.0"]
    with pytest.raises(Fault, match=r"p/a/3/..summary"):
        resolved(root, ">=3")
    (root / "p" / "a" / "..latest").write_bytes(b"[]")
    with pytest.raises(Fault, match=r"p/a/..latest"):
        resolved(root, "latest")
