"""The Go service's two text files: whitelisted directories and spoofing rules.

Form and fine print: spec/details.md, "REST". An empty file and blank lines at its end are fine; any other
line that is not of the form, and a file that cannot be read, keep the daemon from starting. Known limits:
a file must be UTF-8; white space around a name is refused, where the Go service would quietly match
nobody.
"""

import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gobblerd.domain.errors import quoted
from gobblerd.domain.permissions import SpoofingRule

ANYONE = "*"
EXCEPT = "-"


class BadFile(ValueError):
    """A text file cannot be read or holds a bad line; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class WhitelistFile:
    """A whitelist file as it was read."""

    path: str
    directories: tuple[str, ...]

    def __str__(self) -> str:
        """Return the file's path."""
        return self.path


@dataclass(frozen=True, slots=True)
class SpoofFile:
    """A file of spoofing rules as it was read."""

    path: str
    rules: Mapping[str, SpoofingRule]

    def __str__(self) -> str:
        """Return the file's path."""
        return self.path


def read_whitelist(path: str) -> WhitelistFile:
    """Read a whitelist file: one absolute path a line; BadFile if it cannot be."""
    found = []
    for number, line in _lines(path):
        if not os.path.isabs(line):
            raise BadFile(f"{path}, line {number}: {quoted(line)} is not an absolute path")
        if "\0" in line:
            raise BadFile(f"{path}, line {number}: {quoted(line)} holds a NUL character")
        found.append(cleaned(line))
    return WhitelistFile(path, tuple(found))


def read_spoofing(path: str) -> SpoofFile:
    """Read a file of spoofing rules: `spoofer:user,user` a line; BadFile if it cannot be."""
    rules: dict[str, SpoofingRule] = {}
    for number, line in _lines(path):
        spoofer, colon, users = line.partition(":")
        if not colon or ":" in users:
            raise BadFile(f"{path}, line {number}: {quoted(line)} has not exactly one colon")
        if not users:  # an empty list is skipped: an earlier line of this spoofer stays
            continue
        try:
            rules[checked_name(spoofer)] = spoofing_rule(users.split(","))
        except ValueError as error:
            raise BadFile(f"{path}, line {number}: {error}") from None
    return SpoofFile(path, rules)


def spoofing_rule(users: Iterable[str]) -> SpoofingRule:
    """Make the rule for a list of users: names, or `*` for anyone less the `-name` entries.

    Empty entries grant nothing and are passed over. Raises ValueError for a name in white space.
    """
    named = {checked_name(user) for user in users if user}
    return SpoofingRule(
        users=frozenset(user for user in named if user != ANYONE and not user.startswith(EXCEPT)),
        anyone=ANYONE in named,
        but=frozenset(user.removeprefix(EXCEPT) for user in named if user.startswith(EXCEPT)),
    )


def rule_entries(rule: SpoofingRule) -> list[str]:
    """Return the list of users that `spoofing_rule` makes this rule from, sorted."""
    return [
        *([ANYONE] if rule.anyone else []),
        *sorted(rule.users),
        *sorted(EXCEPT + user for user in rule.but),
    ]


def checked_name(name: str) -> str:
    """Return a user name; ValueError if it is empty or has white space around it."""
    if not name or name != name.strip():
        raise ValueError(f"{quoted(name)} is empty or has white space around it")
    return name


def cleaned(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes (lexically, as Go's Clean)."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _lines(path: str) -> Iterable[tuple[int, str]]:
    """Return the numbered lines, without the blank ones at the end."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [line.removesuffix("\r") for line in file.read().split("\n")]
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: is not UTF-8 (byte {error.start})") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return enumerate(lines, 1)
