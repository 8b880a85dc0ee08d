"""Releases: what a version's documents make, and which paths cannot be."""

import doctest
import json

import pytest

from gobblerd.domain import release as release_module
from gobblerd.domain.release import Release, check_paths, flaw_of_path, release_of, release_title

LINK = {"project": "p", "asset": "a", "version": "1", "path": "f"}
MANIFEST = {
    "z/empty": {"size": 0, "md5sum": ""},
    "b": {"size": 3, "md5sum": "900150983cd24fb0d6963f7d28e17f72"},
    "a": {"size": 2, "md5sum": "0cc175b9c0f1b6a831c399e269772661", "link": LINK},
}
SUMMARY = {
    "upload_user_id": "anna",
    "upload_start": "2026-01-01T00:00:00Z",
    "upload_finish": "2026-01-01T00:00:01Z",
}


def test_a_release_has_what_the_documents_say() -> None:
    """Files by path, empty directories apart, the uploader and the times."""
    release = release_of("p", "a", "v1.2", MANIFEST, SUMMARY)
    assert [file.path for file in release.files] == ["a", "b"]
    assert release.directories == ("z/empty",)
    assert (release.size, release.title, str(release)) == (5, "a-v1.2", "p/a/v1.2")
    document = json.loads(json.dumps(release.document()))
    assert document["files"][0]["link"] == LINK
    assert "on_probation" not in document
    assert "link" not in document["files"][1]
    assert release_of("p", "a", "1", MANIFEST, {**SUMMARY, "on_probation": True}).document()["on_probation"]


def test_examples_of_the_docstrings() -> None:
    """What the docstrings show is what happens."""
    found = doctest.testmod(release_module)
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_an_empty_release() -> None:
    """A version may hold nothing."""
    document = Release("p", "a", "1", ()).document()
    assert (document["files"], document["directories"], document["size"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("version", "title"),
    [
        ("1.2", "m-v1.2"),
        ("v1.2", "m-v1.2"),
        ("V1", "m-v1"),
        ("vienna", "m-vvienna"),
        ("2026-11", "m-v2026-11"),
    ],
)
def test_titles(version: str, title: str) -> None:
    """The v of a version is not doubled; that of a word is its own."""
    assert release_title("m", version) == title


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "a//b", "a/", "../x", "a/../x", "..manifest", "a/..links", ".", "a/./b", "a\0b", "x" * 256,
     "/".join("x" * 200 for _ in range(21)), "\udcff"],
)  # fmt: skip
def test_paths_that_cannot_be(path: str) -> None:
    """No path of a foreign record leads out of its directory, or into what is the registry's own."""
    assert flaw_of_path(path)
    with pytest.raises(ValueError, match="p/a/1 has a file"):
        check_paths("p/a/1", [path], [])


def test_paths_that_do_not_go_together() -> None:
    """Two files of one path, or a file where another needs a directory, are refused by name."""
    check_paths("p/a/1", ["a/b", "a/c", "d"], ["e/f", ".hidden"])
    with pytest.raises(ValueError, match="two files 'a'"):
        check_paths("p/a/1", ["a", "a"], [])
    with pytest.raises(ValueError, match="'a' both"):
        check_paths("p/a/1", ["a/b/c", "a"], [])
