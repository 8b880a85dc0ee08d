"""Names of projects, assets and versions (spec/registry.md, "Layout")."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.domain.errors import Wrong
from gobblerd.domain.names import (
    ROOT,
    Address,
    check_existing_name,
    check_name,
    flaw_of_name,
    is_internal,
    is_readable_name,
)

GOOD = [
    "a",
    "a.b",
    ".a",
    "a..b",
    " ",
    "-",
    "é",
    "x" * 255,
    "é" * 127,
    "🙂",
    "a:b*?",
    "...".replace("..", ".-"),
]
NEVER = ["", ".", "..", "..a", "...", "a/b", "/", "a\0b", "x" * 256, "é" * 128, "\ud800"]
NO_MORE = ["a\\b", "\\", "a\nb", "\t", "a\x7fb", "a\x9fb"]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    """They may be given, and are returned."""
    assert check_name("asset", name) == name == check_existing_name("asset", name)
    assert is_readable_name(name)


@pytest.mark.parametrize("name", NEVER)
def test_names_that_nothing_can_have(name: str) -> None:
    """Refused as new and as existing names; the refusal says which field and why."""
    for check in (check_name, check_existing_name):
        with pytest.raises(Wrong, match=r"invalid asset name .*: it "):
            check("asset", name)
    assert not is_readable_name(name)


@pytest.mark.parametrize("name", NO_MORE)
def test_names_of_older_rules(name: str) -> None:
    """They may exist, but not be given."""
    assert check_existing_name("asset", name) == name
    assert is_readable_name(name)
    with pytest.raises(Wrong, match="invalid asset name"):
        check_name("asset", name)


@given(st.text())
def test_a_good_name_is_a_good_name_of_a_directory(name: str) -> None:
    """Whatever passes has no separator, no control character, fits, and is nobody's special name."""
    if flaw_of_name(name) is None:
        assert 1 <= len(name.encode()) <= 255
        assert not set(name) & {"/", "\\", "\0"}
        assert not any(unicodedata.category(c) == "Cc" for c in name)
        assert not name.startswith("..")
        assert name != "."
        assert is_readable_name(name)


@pytest.mark.parametrize(("name", "internal"), [("..", True), ("..x", True), (".x", False), ("x..", False)])
def test_internal_names(name: str, *, internal: bool) -> None:
    """Those that begin with two dots."""
    assert is_internal(name) is internal


@pytest.mark.parametrize(
    ("address", "text", "level"),
    [
        (ROOT, "", "registry"),
        (Address("p"), "p", "project"),
        (Address("p", "a"), "p/a", "asset"),
        (Address("p", "a", "v"), "p/a/v", "version"),
    ],
)
def test_addresses(address: Address, text: str, level: str) -> None:
    """An address is a path relative to the registry, and knows its level."""
    assert str(address) == text
    assert address.level == level
    assert "/".join(address) == text


def test_addresses_within_addresses() -> None:
    """What holds a place, and what it holds."""
    version = Address("p", "a", "v")
    assert version.of_project() == Address("p")
    assert version.of_asset() == Address("p", "a")
    assert ROOT.child("p").child("a").child("v") == version
