"""Which versions an expression means: `>=1.2,<2`, `^0.4`, `latest`, or a name (spec/archives.md, "Releases").

Names are compared by the precedence of Semantic Versioning 2.0.0 (semver.org, items 9 to 11). Read leniently:
a `v` before the number, one or two numbers instead of three (`3` is 3.0.0, `1.2` is 1.2.0), zeros before a
number (`2026.04`). A single number has neither pre-release nor build, so that `2026-11` is a name and not a
pre-release. Opens no file: `select` is told which names there are.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LATEST = "latest"
_LONGEST = 255  # bytes of a name, and so of a version
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"  # semver.org, item 9
_FORM = re.compile(
    r"[vV]?([0-9]+)(?:\.([0-9]+)(?:\.([0-9]+))?"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?)?"
)
_CLAUSE = re.compile(r"(==|!=|<=|>=|~=|<|>|\^)\s*(.*)", re.DOTALL)
_WILDCARD = re.compile(r"[vV]?[0-9]+(\.[0-9]+)*\.\*")

_Identifier = tuple[bool, int, str]  # numeric ones first and by number, the others by ASCII: item 11.4
_Precedence = tuple[tuple[int, int, int], bool, tuple[_Identifier, ...]]


@dataclass(frozen=True, slots=True)
class SemVer:
    """A name read as a version; `given` tells how many of its three numbers were written.

    >>> SemVer.read("v1.2") < SemVer.read("1.10.0-rc.1") < SemVer.read("1.10")
    True
    >>> SemVer.read("2026-11") is None
    True
    """

    core: tuple[int, int, int]
    pre: tuple[_Identifier, ...] = ()
    build: str = ""
    given: int = 3

    @classmethod
    def read(cls, name: str) -> "SemVer | None":
        """Return what version a name is; None if it is none."""
        found = _FORM.fullmatch(name) if len(name) <= _LONGEST else None
        if found is None:
            return None
        numbers = [int(part) for part in found.groups()[:3] if part is not None]
        core = (*numbers, 0, 0)[:3]
        pre = tuple(_identifier(part) for part in found[4].split(".")) if found[4] else ()
        return cls((core[0], core[1], core[2]), pre, found[5] or "", len(numbers))

    @property
    def precedence(self) -> _Precedence:
        """What is compared; builds do not count (item 10), a pre-release comes first (item 11.3)."""
        return self.core, not self.pre, self.pre

    def __lt__(self, other: "SemVer") -> bool:
        """Tell whether this has the lower precedence."""
        return self.precedence < other.precedence

    def __le__(self, other: "SemVer") -> bool:
        """Tell whether this has no higher precedence."""
        return self.precedence <= other.precedence

    def __str__(self) -> str:
        """Return the version with all of its three numbers, and without a `v`."""
        text = ".".join(str(number) for number in self.core)
        pre = ".".join(str(number) if not is_text else text for is_text, number, text in self.pre)
        return text + (f"-{pre}" if pre else "") + (f"+{self.build}" if self.build else "")


_NO_VERSION = SemVer((0, 0, 0))


def _identifier(text: str) -> _Identifier:
    return (False, int(text), "") if text.isdigit() else (True, 0, text)


class _Clause(NamedTuple):
    """One condition: an operator and a version, or (operator "") an exact name."""

    operator: str
    text: str
    version: SemVer | None

    def holds(self, name: str, version: SemVer | None, latest: str | None) -> bool:
        if self.operator == "":
            return name == (latest if self.text == LATEST else self.text)
        if self.version is None:  # == and != of a name that is no version
            return (name == self.text) == (self.operator == "==")
        if version is None:
            return False
        return _HOLDS[self.operator](version, self.version)

    def names(self, name: str) -> bool:
        """Tell whether exactly this name is asked for, whatever it is."""
        return self.operator == "" or (self.operator == "==" and name == self.text)

    def asks_for_pre_releases(self) -> bool:
        return self.operator != "!=" and self.version is not None and bool(self.version.pre)


def _is(version: SemVer, wanted: SemVer) -> bool:
    return version.precedence == wanted.precedence and wanted.build in {"", version.build}


def _is_below(version: SemVer, bound: SemVer) -> bool:
    """`<`: lower; 2.0.0-rc.1 is not meant by `<2` (as in PEP 440), only by a bound that is a pre-release."""
    return version < bound and (bool(bound.pre) or not version.pre or version.core != bound.core)


def _is_compatible(version: SemVer, wanted: SemVer) -> bool:
    """`~=`: not older, and the same but for the last number that was written (PEP 440)."""
    return wanted <= version and version.core[: wanted.given - 1] == wanted.core[: wanted.given - 1]


def _is_caret(version: SemVer, wanted: SemVer) -> bool:
    """`^`: not older, and the same up to the first number that is not zero (of those that were written)."""
    fixed = next((at for at in range(wanted.given) if wanted.core[at]), wanted.given - 1)
    return wanted <= version and version.core[: fixed + 1] == wanted.core[: fixed + 1]


_HOLDS: Mapping[str, Callable[[SemVer, SemVer], bool]] = {
    "==": _is,
    "!=": lambda version, wanted: not _is(version, wanted),
    "<": _is_below,
    "<=": lambda version, wanted: version <= wanted,
    ">": lambda version, wanted: wanted < version,
    ">=": lambda version, wanted: wanted <= version,
    "~=": _is_compatible,
    "^": _is_caret,
}


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """An expression, read. Made by `parse`; `text` is what was written.

    >>> spec = VersionSpec.parse(">=0.9, <1")
    >>> spec.select(["0.10.0", "1.0", "0.9.1", "0.11.0-rc.1", "draft"])
    ['0.9.1', '0.10.0']
    >>> VersionSpec.parse("latest").select(["1", "2", "3"], latest="2")
    ['2']
    """

    text: str
    clauses: tuple[_Clause, ...]

    @classmethod
    def parse(cls, expression: "str | Sequence[str] | VersionSpec | None") -> "VersionSpec":
        """Read an expression: text with commas between conditions that must all hold, or a list of them.

        None means every version. A text without any operator is one name, commas and all. ValueError says
        what is wrong with it.
        """
        if isinstance(expression, VersionSpec):
            return expression
        if expression is None:
            return cls("", ())
        parts = _split(expression) if isinstance(expression, str) else list(expression)
        text = expression if isinstance(expression, str) else ",".join(parts)
        return cls(text, tuple(_clause(part.strip(), text) for part in parts))

    @property
    def exact(self) -> str | None:
        """The one name that this is, and nothing else; None for whatever has to be looked up."""
        if len(self.clauses) != 1 or self.clauses[0].operator or self.clauses[0].text == LATEST:
            return None
        return self.clauses[0].text

    @property
    def needs_latest(self) -> bool:
        """Tell whether `select` has to know which version is the latest."""
        return any(clause.operator == "" and clause.text == LATEST for clause in self.clauses)

    def select(self, names: Iterable[str], latest: str | None = None) -> list[str]:
        """Return those of the names that are meant, from the oldest to the newest by precedence.

        `latest` is what that word stands for. A pre-release is meant only if a condition other than `!=`
        has one, or names it. What is no version is meant only by its exact name (or by None), and comes
        first.
        """
        return sorted((name for name in names if self.matches(name, latest)), key=precedence)

    def matches(self, name: str, latest: str | None = None) -> bool:
        """Tell whether this one name is meant."""
        version = SemVer.read(name)
        if not all(clause.holds(name, version, latest) for clause in self.clauses):
            return False
        is_named = not self.clauses or any(clause.names(name) for clause in self.clauses)
        if version is None:
            return is_named
        return is_named or not version.pre or any(c.asks_for_pre_releases() for c in self.clauses)

    def __str__(self) -> str:
        """Return the expression as it was written."""
        return self.text


def precedence(name: str) -> tuple[bool, _Precedence, str]:
    """Return what to sort names by: no versions first, then by precedence; of equal ones by name."""
    version = SemVer.read(name)
    return version is not None, (version or _NO_VERSION).precedence, name


def _split(text: str) -> list[str]:
    parts = text.split(",")
    has_operator = any(_CLAUSE.match(part.strip()) or part.strip() == LATEST for part in parts)
    return parts if has_operator else [text]


def _clause(part: str, whole: str) -> _Clause:
    found = _CLAUSE.fullmatch(part)
    if found is None:
        if not part:
            raise ValueError(f"the version expression {whole!r} has an empty condition")
        return _Clause("", part, None)
    operator, text = found[1], found[2].strip()
    if not text:
        raise ValueError(f"the version expression {whole!r} lacks a version after {operator!r}")
    if _WILDCARD.fullmatch(text):
        raise ValueError(f"{part!r} has a wildcard, which is not understood: write '~={text[:-1]}0' instead")
    version = SemVer.read(text)
    if version is None and operator not in {"==", "!="}:
        raise ValueError(f"{part!r} cannot be: {text!r} is no version, and such names have no order")
    if operator == "~=" and version is not None and version.given == 1:
        raise ValueError(f"{part!r} says too little: '~=' needs two numbers, as in '~={text}.0'")
    return _Clause(operator, text, version)
