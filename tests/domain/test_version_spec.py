"""Version expressions against the precedence of SemVer 2.0.0 and, where both speak, against `packaging`."""

import doctest
import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from gobblerd.domain import version_spec
from gobblerd.domain.version_spec import SemVer, VersionSpec, precedence

# Oldest to newest: the examples of semver.org (items 10 and 11), and what lies between and beyond them.
ASCENDING = (
    "0.0.0-0",
    "0.0.0",
    "0.0.1-alpha",
    "0.0.1",
    "0.9.1",
    "0.10.0",
    "0.11.0-rc.9",
    "0.11.0-rc.10",
    "1.0.0-0",
    "1.0.0-1",
    "1.0.0-9",
    "1.0.0-10",
    "1.0.0-10.0",
    "1.0.0--",
    "1.0.0-A",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.1.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0-rc10",
    "1.0.0-rc9",
    "1.0.0",
    "1.0.1",
    "1.1",
    "v1.2-rc.1",
    "v1.2",
    "1.10",
    "V2.0.0",
    "2.1.0",
    "3",
    "10",
    "2026.04",
    "20261128",
)
# Of each row all have the same precedence.
EQUAL = (
    ("1", "1.0", "1.0.0", "v1", "V1.0", "1.0.0+build", "1.0.0+001", "01.0", "1.00.0"),
    ("1.2", "v1.2.0", "1.2+a.b", "1.2.0+5114f85"),
    ("1.2-rc.1", "v1.2.0-rc.1", "1.2.0-rc.1+x"),
    ("2026.04", "2026.4.0", "v2026.04"),
)
NO_VERSIONS = (
    "", "v", "draft", "latest", "1.", ".1", "1.2.3.4", "1.2.x", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a..b",
    "1.2.3-a_b", "2026-11", "2026-11-28", "3-rc1", "3+build", "1.0rc1", "1.0.post1", "-1.2", "+1.2", " 1.2",
    "1.2 ", "1.2\n", "\u0661.2", "1,2", "vv1.2", "1.2.3-é", "1" * 256,
)  # fmt: skip


def test_examples_of_the_docstrings() -> None:
    """What the docstrings show is what happens."""
    found = doctest.testmod(version_spec)
    assert found.attempted >= 4
    assert found.failed == 0


def test_precedence() -> None:
    """Every pair of the ascending row is in order, and sorting any shuffle restores it."""
    for lower, higher in itertools.combinations(ASCENDING, 2):
        one, other = SemVer.read(lower), SemVer.read(higher)
        assert one is not None
        assert other is not None
        assert one <= other, (lower, higher)
        assert not other < one, (lower, higher)
    shuffled = random.Random(3).sample(ASCENDING, len(ASCENDING))
    assert sorted(shuffled, key=precedence) == list(ASCENDING)


@pytest.mark.parametrize("row", EQUAL)
def test_equal_precedence(row: tuple[str, ...]) -> None:
    """Leniently read names and builds have their full form's precedence; ties are broken by name."""
    for one, other in itertools.permutations(row, 2):
        first, second = SemVer.read(one), SemVer.read(other)
        assert first is not None
        assert second is not None
        assert first.precedence == second.precedence
    assert sorted(row, key=precedence) == sorted(row)
    assert VersionSpec.parse(f"=={row[0]}").select(row) == sorted(row)


@pytest.mark.parametrize("name", NO_VERSIONS)
def test_no_versions(name: str) -> None:
    """Names that are no versions match only themselves, exactly."""
    assert SemVer.read(name) is None
    assert VersionSpec.parse(">=0.0.0-0").select([name, "1"]) == ["1"]
    assert VersionSpec.parse("!=2").select([name, "1"]) == ["1"]
    assert VersionSpec.parse(None).select(["1", name]) == [name, "1"]
    if name.strip() == name and name not in {"", "latest"}:
        assert VersionSpec.parse(name).select([name, f"{name}0", "1"]) == [name]
        assert VersionSpec.parse([f"=={name}"]).select([name, f"{name}0", "1"]) == [name]
        assert VersionSpec.parse([f"!={name}", ">=1"]).select([name, "1"]) == ["1"]


GRID_NAMES = (
    "0.0.1", "0.9.1", "0.10.0", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0", "1.0.1", "1.2", "1.2.3-beta.1", "1.2.3",
    "1.10", "2.0.0-rc.1", "2.0.0-rc.10", "2.0.0", "v2.1", "3",
)  # fmt: skip
GRID_SPECS = (
    *(
        f"{operator}{version}"
        for operator in ("==", "!=", "<", "<=", ">", ">=", "~=")
        for version in ("0.9.1", "1.0", "1.0.0-rc.2", "1.2", "1.2.3", "2", "2.0.0-rc.9")
        if (operator, version) != ("~=", "2")
    ),
    ">=1.0,<2", ">=1.2,!=1.2.3,<3", ">=2.0.0-rc.1,<2.1", "~=1.2,<1.10", ">0.9.1,<=1.0.0-rc.2", "~=1.0.0-alpha.1",
)  # fmt: skip


@pytest.mark.parametrize("spec", GRID_SPECS)
def test_agrees_with_packaging(spec: str) -> None:
    """Where PEP 440 knows the operator and the spelling, exactly the same versions are meant, in its order."""
    theirs = SpecifierSet(spec)
    allowed = any(part.version and "-" in part.version and part.operator != "!=" for part in theirs)
    expected = [name for name in GRID_NAMES if theirs.contains(name, prereleases=allowed)]
    assert VersionSpec.parse(spec).select(reversed(GRID_NAMES)) == sorted(expected, key=Version)


def test_order_agrees_with_packaging() -> None:
    """Every pair of names that both can read compares the same way (alpha.N, beta.N, rc.N and numbers)."""
    numbers = ("0.0.1", "0.9.1", "0.10.0", "1.0.0", "1.2.3", "1.2.10", "2.0.0", "10.0.0")
    names = [
        f"{n}{pre}" for n in numbers for pre in ("", "-alpha.1", "-alpha.10", "-beta.2", "-rc.1", "-rc.2")
    ]
    pairs = list(itertools.combinations(names, 2))
    assert len(pairs) > 1000
    for one, other in pairs:
        assert (precedence(one) < precedence(other)) == (Version(one) < Version(other)), (one, other)


NAMES = r"v?[0-9]{1,2}(\.[0-9]{1,2}){1,2}(-(alpha|beta|rc)\.(0|[1-9][0-9]?))?"


@given(st.lists(st.from_regex(NAMES, fullmatch=True)))
def test_any_names_are_sorted_as_packaging_sorts_them(names: list[str]) -> None:
    """Whatever their order was; ties stay ties."""
    ours = [Version(name) for name in sorted(names, key=precedence)]
    assert ours == sorted(Version(name) for name in names)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # ^: what does not change the first number that is not zero
        ("^1.2.3", ["1.2.3", "1.2.4", "1.10.0"]),
        ("^1.2", ["1.2.0", "1.2.3", "1.2.4", "1.10.0"]),
        ("^1", ["1.0.0", "1.2.0", "1.2.3", "1.2.4", "1.10.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"]),
        ("^0.2", ["0.2.0", "0.2.3", "0.2.9"]),
        ("^0.0.3", ["0.0.3"]),
        ("^0.0", ["0.0.3", "0.0.4"]),
        ("^0", ["0.0.3", "0.0.4", "0.2.0", "0.2.3", "0.2.9", "0.3.0"]),
        ("^1.2.3-beta.2", ["1.2.3-beta.10", "1.2.3", "1.2.4-rc.1", "1.2.4", "1.10.0"]),
        ("^2", ["2.0.0"]),
        # an exact name, also of a pre-release; a single number is a name too
        ("1.2.3-beta.1", ["1.2.3-beta.1"]),
        ("1.2", []),
        ("==1.2", ["1.2.0"]),
        ("==1.2.3-beta.1", ["1.2.3-beta.1"]),
        # pre-releases only when asked for; those of the upper bound never
        (">=1.2,<2", ["1.2.0", "1.2.3", "1.2.4", "1.10.0"]),
        (">=1.2.4-a,<2", ["1.2.4-rc.1", "1.2.4", "1.10.0"]),
        (">=2.0.0-a", ["2.0.0-rc.1", "2.0.0"]),
        ("<=2.0.0-rc.1,>1.10", ["2.0.0-rc.1"]),
        ("!=2.0.0-rc.1,>=2", ["2.0.0"]),
        # blanks do not matter, commas join
        (" >= 1.2 , < 1.3 ", ["1.2.0", "1.2.3", "1.2.4"]),
    ],
)  # fmt: skip
def test_operators(spec: str, expected: list[str]) -> None:
    """Operators mean what docs/releases.md says."""
    names = (
        "0.0.3", "0.0.4", "0.2.0", "0.2.3", "0.2.9", "0.3.0", "1.0.0", "1.2.0", "1.2.3-beta.1", "1.2.3-beta.10",
        "1.2.3", "1.2.4-rc.1", "1.2.4", "1.10.0", "2.0.0-rc.1", "2.0.0", "draft",
    )  # fmt: skip
    shuffled = random.Random(7).sample(names, len(names))
    assert VersionSpec.parse(spec).select(shuffled) == expected
    if "," in spec:
        assert VersionSpec.parse(spec.split(",")).select(shuffled) == expected


def test_latest() -> None:
    """`latest` is whatever it is said to be, also a pre-release or a word, and joins with conditions."""
    names = ["1", "2", "3.0-rc.1", "draft"]
    assert VersionSpec.parse("latest").select(names, "2") == ["2"]
    assert VersionSpec.parse("latest").select(names, "3.0-rc.1") == ["3.0-rc.1"]
    assert VersionSpec.parse("latest").select(names, "draft") == ["draft"]
    assert VersionSpec.parse("latest").select(names, None) == []
    assert VersionSpec.parse("latest,<2").select(names, "2") == []
    assert VersionSpec.parse("latest,<2").select(names, "1") == ["1"]
    assert VersionSpec.parse("latest").needs_latest
    assert not VersionSpec.parse("==latest").needs_latest


def test_exact() -> None:
    """Whether an expression is just a name can be asked; a name may hold commas."""
    assert VersionSpec.parse("1.2").exact == "1.2"
    assert VersionSpec.parse("a,b").exact == "a,b"
    assert VersionSpec.parse("a,b").select(["a", "b", "a,b"]) == ["a,b"]
    assert VersionSpec.parse("latest").exact is None
    assert VersionSpec.parse("==1.2").exact is None
    assert VersionSpec.parse(None).exact is None


def test_builds() -> None:
    """A build that is asked for must be that one; none asked for is any."""
    names = ["1.0.0+a", "1.0.0+b", "1.0.0"]
    assert VersionSpec.parse("==1.0.0+a").select(names) == ["1.0.0+a"]
    assert VersionSpec.parse("!=1.0.0+a").select(names) == ["1.0.0", "1.0.0+b"]
    assert VersionSpec.parse("==1").select(names) == ["1.0.0", "1.0.0+a", "1.0.0+b"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (">=", "lacks a version after '>='"),
        (">=1,,<2", "empty condition"),
        (">=1,", "empty condition"),
        ("", "empty condition"),
        (">=draft", "'draft' is no version"),
        ("<2026-11", "'2026-11' is no version"),
        ("~=1", "'~=1.0'"),
        ("==1.2.*", "'~=1.2.0'"),
        (">=" + "9" * 5000, "no version"),
    ],
)
def test_refusals(spec: str, said: str) -> None:
    """What cannot be meant is refused with what to write instead."""
    with pytest.raises(ValueError, match=re.escape(said)):
        VersionSpec.parse(spec)
