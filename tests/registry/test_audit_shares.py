"""gobblerd.registry.audit_shares: shares are equal in bytes, and together they are the whole, whatever changes."""

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.corpus import Corpus, unpack

from gobblerd.domain.names import Address
from gobblerd.registry.audit import Part, Unit, units
from gobblerd.registry.audit_shares import (
    START,
    Position,
    Stretch,
    after,
    chosen,
    cuts,
    file_sizes,
    pieces,
    stretches,
)
from gobblerd.registry.audit_terms import Span
from gobblerd.registry.metadata import Metadata


@dataclass
class FakeMetadata:
    """As much of a registry as sharing asks for: the sizes of each version's files."""

    versions: dict[str, dict[str, int]] = field(default_factory=dict)

    def units(self) -> list[Unit]:
        found = [Unit(Part.REGISTRY)]
        for project in sorted({name.split("/")[0] for name in self.versions}):
            found += [Unit(Part.PROJECT, Address(project)), Unit(Part.ASSET, Address(project, "a"))]
            names = sorted(name for name in self.versions if name.startswith(f"{project}/"))
            found += [Unit(Part.VERSION, Address(*name.split("/"))) for name in names]
        return [*found, Unit(Part.EVENTS), Unit(Part.TRANSACTIONS)]

    def stored_bytes(self, version: Address) -> int:
        return sum(self.versions[str(version)].values())

    def file_sizes(self, version: Address) -> dict[str, int]:
        return self.versions[str(version)]


def made(source: random.Random) -> FakeMetadata:
    """Return a registry of versions of all sizes, some without bytes or files."""
    versions = {}
    for number in range(source.randrange(1, 40)):
        files = source.choice([0, 1, 3, 50])
        most = source.choice([0, 1, 1000])
        name = f"{source.choice('pq')}/a/{number}"
        versions[name] = {f"d/{n}": source.randint(0, most) for n in range(files)}
    return FakeMetadata(versions)


def shared(metadata: Any, shares: int, every: list[Unit] | None = None) -> list[list[Unit]]:
    found = metadata.units()
    return [list(chosen(every or found, each)) for each in stretches(cuts(metadata, found, shares))]


def covered(metadata: Any, part: list[Unit]) -> Counter[tuple[Any, ...]]:
    """Count what is looked at: each unit's rest, and each file's bytes."""
    found: Counter[tuple[Any, ...]] = Counter()
    for unit in part:
        found[unit.part, unit.place, ""] += unit.span.has_rest
        found.update((unit.part, unit.place, path) for path, _ in file_sizes(metadata, unit))
    return +found


def size(metadata: Any, part: list[Unit]) -> int:
    return sum(size for unit in part for _, size in file_sizes(metadata, unit))


@pytest.mark.parametrize("seed", range(40))
def test_shares_are_the_whole(seed: int) -> None:
    """Every unit's rest and every file's bytes are in one share, and in order."""
    source = random.Random(seed)
    metadata = made(source)
    whole = covered(metadata, metadata.units())
    for shares in (1, 2, 3, 8, 100):
        parts = shared(metadata, shares)
        assert len(parts) == shares
        assert sum((covered(metadata, part) for part in parts), Counter()) == whole
        assert set(whole.values()) == {1}
        places = [Position.of(unit) for part in parts for unit in part]
        assert places == sorted(places)


@pytest.mark.parametrize("seed", range(40))
def test_shares_are_equal_in_bytes(seed: int) -> None:
    """By no more than the largest file, which cannot be divided."""
    metadata = made(random.Random(seed))
    sizes = [each for files in metadata.versions.values() for each in files.values()]
    for shares in (2, 3, 8):
        found = [size(metadata, part) for part in shared(metadata, shares)]
        assert sum(found) == sum(sizes)
        assert all(abs(each - sum(sizes) / shares) <= max(sizes, default=0) + 1 for each in found), found


def test_a_registry_without_bytes_is_divided_by_units() -> None:
    """So that a registry of links alone is not all in one share."""
    metadata = FakeMetadata({f"p/a/{n}": {} for n in range(20)})
    assert max(len(part) for part in shared(metadata, 5)) <= 6


@pytest.mark.parametrize("seed", range(40))
def test_what_changes_after_the_cuts_is_in_one_share_still(seed: int) -> None:
    """New versions, deleted ones, others under an old name: with the same cuts nothing is missed or doubled."""
    source = random.Random(seed)
    before = made(source)
    marks = stretches(cuts(before, before.units(), 8))  # type: ignore[arg-type]  # a fake
    now = made(source)
    now.versions |= {name: files for name, files in before.versions.items() if source.random() < 0.5}
    found = [covered(now, list(chosen(now.units(), each))) for each in marks]
    assert sum(found, Counter()) == covered(now, now.units())


@pytest.mark.parametrize("seed", range(20))
def test_an_audit_goes_on_behind_what_is_done(seed: int) -> None:
    """Wherever it was killed: after a unit, or a piece of one, comes the next, and nothing else."""
    source = random.Random(seed)
    metadata: Any = made(source)
    metadata.manifest_path = lambda _: os.devnull
    every_unit = metadata.units()
    for share in stretches(cuts(metadata, every_unit, 3)):
        part = list(chosen(every_unit, share))
        every = [p for unit in part for p in pieces(metadata, unit, size=700, files=20)]
        assert covered(metadata, every) == covered(metadata, part)
        for number, done in enumerate(every[:-1], 1):
            rest = list(chosen(every_unit, Stretch(after(done), share.end)))
            assert covered(metadata, rest) == covered(metadata, every[number:])
            assert Position.of(rest[0]) == Position.of(every[number])


def test_pieces_have_a_file_at_least() -> None:
    """A file larger than a piece may be is a piece."""
    metadata: Any = FakeMetadata({"p/a/1": {"a": 5, "b": 50, "c": 5, "d": 5}})
    metadata.manifest_path = lambda _: os.devnull
    unit = Unit(Part.VERSION, Address("p", "a", "1"))
    spans = [each.span for each in pieces(metadata, unit, size=10)]
    assert spans == [Span("", "b"), Span("b", "c"), Span("c", None)]
    assert [each.span for each in pieces(metadata, unit, size=10_000)] == [Span()]


def test_positions_survive_json() -> None:
    """Whatever is in them; and nothing else is taken for one."""
    position = Position(1, "p", 'a"\n', "1\0", "ü/x")
    assert Position.parse(list(position)) == position
    for wrong in (None, [], [1, "p", "a", "1"], ["1", "p", "a", "1", ""], [True, "p", "a", "1", ""]):
        with pytest.raises(ValueError, match="no position"):
            Position.parse(wrong)
    assert min(START, position) == START


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory() as base:
        yield unpack(base)


def test_the_same_registry_is_always_cut_alike(corpus: Corpus) -> None:
    """Shares that each cut for themselves agree."""
    metadata = Metadata(corpus.registry)
    found = [cuts(metadata, list(units(metadata)), 8) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 7


def test_a_manifest_that_cannot_be_read_weighs_nothing(corpus: Corpus) -> None:
    """It is looked at all the same."""
    with open(f"{corpus.registry}/alpha/a/1/..manifest", "w", encoding="ascii") as file:
        file.write("{")
    metadata = Metadata(corpus.registry)
    every = list(units(metadata))
    parts = [list(chosen(every, each)) for each in stretches(cuts(metadata, every, 8))]
    assert sum(unit.place == Address("alpha", "a", "1") for part in parts for unit in part) == 1
