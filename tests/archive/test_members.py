"""What a member may be called: as the specification lists it, no more and no less."""

import pytest

from gobblerd.archive.members import (
    Names,
    check_prefix,
    flatten_path,
    flaw_of_path,
    flaw_of_target,
    relative_path,
)
from gobblerd.domain.errors import Wrong


@pytest.mark.parametrize(
    ("path", "flaw"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("a/../b", '".."'),
        ("..", '".."'),
        ("a/./b", '"."'),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("a\\b", "backslash"),
        ("C:/x", "drive letter"),
        ("c:x", "drive letter"),
        ("a/b\0c", "control character"),
        ("a\nb", "control character"),
        ("a\x7fb", "control character"),
        ("a/" + "x" * 256, "longer than 255"),
        ("ä" * 128, "longer than 255"),
        ("/".join(["x" * 200] * 21), "longer than 4096"),
        ("/".join(["x"] * 257), "deeper than 256"),
        ("a/\udcff", "UTF-8"),
    ],
)
def test_unsafe_paths_are_refused_with_the_reason(path: str, flaw: str) -> None:
    assert flaw in str(flaw_of_path(path))


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b.txt",
        "..manifest",
        "a/..links",
        "a b/ü:c",
        "ab:c",
        "x" * 255,
        "/".join(["x"] * 256),
        "a/..b..",
        "- -",
    ],
)
def test_everything_else_is_a_path(path: str) -> None:
    assert flaw_of_path(path) is None


@pytest.mark.parametrize(
    ("first", "second", "flaw"),
    [
        ("a", "a", "same name"),
        ("a/README", "a/readme", "case"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("stra\u00dfe", "STRASSE", "case"),
        ("a", "a/b", "not a directory"),
        ("a/b", "a", "lies in it"),
        ("A/x", "a/y", "case"),
        ("A", "a/y", "not a directory"),
        ("a/y", "A", "lies in it"),
    ],
)
def test_two_names_that_some_filesystem_takes_for_one_are_refused(first: str, second: str, flaw: str) -> None:
    names = Names()
    assert names.add(first) is None
    assert flaw in str(names.add(second))


def test_directories_may_hold_many_and_be_given_once() -> None:
    names = Names()
    assert [names.add("a", is_directory=True), names.add("a/b"), names.add("a/c/d")] == [None, None, None]
    assert names.add("a/c", is_directory=True) is None
    assert "same name" in str(names.add("a/c", is_directory=True))


@pytest.mark.parametrize(
    ("path", "target", "is_safe"),
    [
        ("app/x/l", "../y", True),
        ("app/x/l", "..", True),
        ("app/l", "../other", False),
        ("app/l", "/etc/passwd", False),
        ("app/l", "../../../etc", False),
        ("app/l", "x/../../app/y", True),
    ],
)
def test_links_stay_in_the_archive(path: str, target: str, is_safe: bool) -> None:  # noqa: FBT001
    assert (flaw_of_target(path, target, "app") is None) is is_safe


def test_paths_are_named_relative_to_a_base_or_by_their_last_part() -> None:
    assert relative_path("/data")("/data/a/../b/c") == "b/c"
    assert flatten_path("/data/b/c") == "c"
    with pytest.raises(Wrong, match='"/dat" does not lie in "/data"'):
        relative_path("/data")("/dat")


@pytest.mark.parametrize("prefix", ["", "a/b", "..", "..x", ".", "a\\b", "C:x"])
def test_a_prefix_is_one_safe_name(prefix: str) -> None:
    with pytest.raises(Wrong, match="cannot be the archive's top directory"):
        check_prefix(prefix)
