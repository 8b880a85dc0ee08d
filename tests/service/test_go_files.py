"""gobblerd.service.go_files: the Go service's two text files, line by line."""

from pathlib import Path

import pytest

from gobblerd.domain.permissions import SpoofingRule
from gobblerd.service.go_files import BadFile, read_spoofing, read_whitelist, rule_entries, spoofing_rule


def users(*names: str) -> SpoofingRule:
    return SpoofingRule(frozenset(names))


def anyone(*but: str) -> SpoofingRule:
    return SpoofingRule(anyone=True, but=frozenset(but))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("\n\n", ()),
        ("/a", ("/a",)),
        ("/a\n", ("/a",)),
        ("/a\r\n/b\r\n\r\n", ("/a", "/b")),
        ("/a/../b//c/./d/\n//e\n\n", ("/b/c/d", "/e")),
        ("/with space \n/\n", ("/with space ", "/")),
        ("/dätä\n", ("/dätä",)),
    ],
)
def test_whitelist(tmp_path: Path, text: str, found: tuple[str, ...]) -> None:
    """One absolute path a line, cleaned; an empty file and blank lines at the end are fine."""
    path = tmp_path / "w"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_whitelist(str(path)).directories == found


@pytest.mark.parametrize("text", ["/a\nb\n", "/a\n\n/b", "/a\n ./b", "/a\n# comment", "/a\n/b\0c"])
def test_a_bad_line_of_the_whitelist(tmp_path: Path, text: str) -> None:
    """The second line is at fault, and is named with the file."""
    path = tmp_path / "w"
    path.write_text(text)
    with pytest.raises(BadFile, match=f"{path}, line 2: "):
        read_whitelist(str(path))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("alpha:bravo,charlie\ndelta:echo\n", {"alpha": users("bravo", "charlie"), "delta": users("echo")}),
        ("foxtrot:*\n\n\n", {"foxtrot": anyone()}),
        ("hotel:-india,*", {"hotel": anyone("india")}),
        ("hotel:*,x", {"hotel": SpoofingRule(frozenset({"x"}), anyone=True)}),
        ("golf:\n", {}),
        ("a:b\na:c\n", {"a": users("c")}),
        ("a:b\na:\n", {"a": users("b")}),
        ("a:b,\r\n", {"a": users("b")}),
        ("a:-b", {"a": SpoofingRule(but=frozenset({"b"}))}),
    ],
)
def test_spoofing(tmp_path: Path, text: str, found: dict[str, SpoofingRule]) -> None:
    """Lists, `*` and `-user`; an empty list is skipped; the last line of a spoofer wins."""
    path = tmp_path / "s"
    path.write_text(text, newline="")
    assert read_spoofing(str(path)).rules == found


@pytest.mark.parametrize("line", ["no colon", "a:b:c", ":b", "a: b", " a:b", "a:b ,c", "", "   "])
def test_a_bad_line_of_the_spoofing_rules(tmp_path: Path, line: str) -> None:
    """Exactly one colon, and no white space that would quietly match nobody."""
    path = tmp_path / "s"
    path.write_text(f"fine:x\n{line}\nfine:y\n")
    with pytest.raises(BadFile, match=f"{path}, line 2: "):
        read_spoofing(str(path))


@pytest.mark.parametrize("read", [read_whitelist, read_spoofing])
def test_files_that_cannot_be_read(tmp_path: Path, read: object) -> None:
    """A missing file, a directory and bytes that are no text are named."""
    assert callable(read)
    binary = tmp_path / "b"
    binary.write_bytes(b"/a\n\xff")
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), (binary, "UTF-8")):
        with pytest.raises(BadFile, match=f"^{path}: .*{said}"):
            read(str(path))


def test_an_excluded_user_may_not_be_acted_as() -> None:
    """What the rule means in the end."""
    rule = spoofing_rule(["*", "-root"])
    assert rule.allows("nobody-in-particular")
    assert not rule.allows("root")


def test_a_rule_can_be_written_as_it_was_read() -> None:
    """For showing the effective configuration."""
    for entries in (["a", "b"], ["*", "-a", "-b"], ["*"], []):
        assert rule_entries(spoofing_rule(entries)) == entries
