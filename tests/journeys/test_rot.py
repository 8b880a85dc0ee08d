"""Rot is found: any bit that flips in a file's bytes, or in what manifests and links say of it.

One bit is flipped at a time, in place, anywhere in: the bytes of the files, the values in `..manifest`
and `..links`, the texts of symbolic links, the values in `..checksums`. An audit of the whole registry must
find each. `validate_version` must find those of the version's own bytes, manifest, links and symbolic links
(`..checksums` is optional for every reader; a damaged one may be taken for none). An audit also finds bits
that flip elsewhere in these documents: in paths, keys, quotes and spaces.

Counts and seed: GOBBLERD_FLIPS flips (default 60, and 20 for an audit in shares; 1,000 with `-m long`); GOBBLERD_SEED (default 20261120).
Not covered, because nothing could tell: summaries' texts, permissions, and quotas carry no checksum.
"""

import json
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.bench import Bench
from support.checker import audit as check

from gobblerd.actions.action import Policy
from gobblerd.actions.validate import Problems
from gobblerd.domain.names import Address
from gobblerd.registry.audit import Audit, Tally, units
from gobblerd.registry.audit_parts import Header, Source, Terms, line_of, merged
from gobblerd.registry.audit_shares import chosen, cuts, pieces, stretches
from gobblerd.registry.metadata import Metadata
from gobblerd.storage.files import Durability

FLIPS = int(os.environ.get("GOBBLERD_FLIPS", "60"))
FLIPS_SHARED = int(os.environ.get("GOBBLERD_FLIPS", "20"))
FULL = int(os.environ.get("GOBBLERD_FLIPS", "1000"))
SEED = int(os.environ.get("GOBBLERD_SEED", "20261120"))

LINK_KEYS = "project|asset|version|path"
VALUES = {
    "..manifest": re.compile(rb'"(?:size|md5sum|%s)": ("(?:[^"\\]|\\.)*"|\d+)' % LINK_KEYS.encode()),
    "..links": re.compile(rb'"(?:%s)": ("(?:[^"\\]|\\.)*")' % LINK_KEYS.encode()),
    "..checksums": re.compile(rb': ("[0-9a-f]{32}")'),
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Yield a registry with every kind of file and link, made by real uploads."""
    source = random.Random(SEED)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as base:
        outside = Path(base) / "outside"
        outside.mkdir()
        (outside / "big").write_bytes(source.randbytes(9000))
        policy = Policy(whitelist=(str(outside),))
        made = Bench(Path(base), policy=policy, durability=Durability.PROCESS)
        made.run("create_project", project="p")
        made.run("create_project", project="q")
        shared = source.randbytes(5000)
        root = str(made.root)
        made.upload("q/b/1", {"real": source.randbytes(700), "one": b"\0", "none": b"", "d/real": shared})
        made.upload("q/b/2", {"again": shared, "far": ("link", f"{root}/q/b/1/real")})
        made.upload(
            "p/a/1",
            {
                "plain.bin": source.randbytes(300_000),
                "text \u00fc.txt": "gr\u00fc\u00df dich\n".encode(),
                "deep/er/empty": None,
                "deep/er/local": ("link", "../../plain.bin"),
                "deep/chain": ("link", "er/local"),
                "other": ("link", f"{root}/q/b/2/far"),
                "white": ("link", str(outside / "big")),
                **{f"many/{n}": source.randbytes(n * 37) for n in range(1, 12)},
            },
        )
        made.upload("p/a/2", {f"kept/{n}": source.randbytes(50) for n in range(3)}, on_probation=True)
        yield made
        made.close()


@dataclass(frozen=True)
class Flip:
    """One bit: in a file or in a symbolic link's text, the n-th bit of it."""

    kind: str
    path: str  # relative to the registry
    bit: int

    @property
    def version(self) -> Address:
        return Address(*self.path.split("/")[:3])

    def flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self.bit // 8] ^= 1 << self.bit % 8
        return bytes(changed)


class Damage:
    """Does one flip, and undoes it; `is_possible` tells whether a filesystem could hold the result."""

    def __init__(self, root: Path, flip: Flip) -> None:
        self._full = root / flip.path
        self._is_link = flip.kind == "symbolic link"
        self._before = os.readlink(bytes(self._full)) if self._is_link else self._full.read_bytes()
        self._after = flip.flipped(self._before)
        self.is_possible = not (self._is_link and b"\0" in self._after)

    def __enter__(self) -> None:
        self._put(self._after)

    def __exit__(self, *_: object) -> None:
        self._put(self._before)

    def _put(self, data: bytes) -> None:
        if self._is_link:
            os.unlink(self._full)
            os.symlink(data, bytes(self._full))
        else:
            with open(self._full, "r+b") as file:
                file.write(data)


def places(root: Path) -> dict[str, list[tuple[str, range]]]:
    """Return, by kind, the paths and the ranges of bits in which a flip must be found."""
    found: dict[str, list[tuple[str, range]]] = {}
    for path in sorted(root.glob("*/*/*/**/*")):
        shown = str(path.relative_to(root))
        if path.is_symlink():
            found.setdefault("symbolic link", []).append((shown, range(8 * len(os.readlink(bytes(path))))))
        elif path.is_file() and path.name in VALUES:
            data = path.read_bytes()
            for value in VALUES[path.name].finditer(data):
                found.setdefault(path.name, []).append((shown, range(8 * value.start(1), 8 * value.end(1))))
            found.setdefault(f"anywhere in {path.name}", []).append((shown, range(8 * len(data))))
        elif path.is_file() and not path.name.startswith("..") and path.stat().st_size:
            found.setdefault("file", []).append((shown, range(8 * path.stat().st_size)))
    return found


def choose(root: Path, count: int, source: random.Random) -> Iterator[Flip]:
    """Yield flips: as many of each kind, every file and every value as likely as another."""
    known = places(root)
    kinds = sorted(known)
    assert [kind for kind in kinds if not kind.startswith("anywhere")] == [
        "..checksums", "..links", "..manifest", "file", "symbolic link",
    ]  # fmt: skip
    done = 0
    while done < count:
        kind = kinds[done % len(kinds)]
        path, bits = source.choice(known[kind])
        flip = Flip(kind, path, source.choice(bits))
        if Damage(root, flip).is_possible:
            done += 1
            yield flip


def audited(bench: Bench) -> list[str]:
    audit = Audit(str(bench.root), whitelist=bench.policy.whitelist, sleep=lambda _: None)
    return [f.path for f in audit.run(units(audit.metadata))]


def report(bench: Bench) -> list[str]:
    """Return the report of an audit that is not shared out, line by line."""
    audit = Audit(str(bench.root), whitelist=bench.policy.whitelist, sleep=lambda _: None)
    return [json.dumps(f.document()) for f in audit.run(units(audit.metadata))]


def shared_report(bench: Bench, shares: int) -> list[str]:
    """Return the report that is merged of so many shares, each looked at in small pieces."""
    parts = []
    for number in range(shares):
        audit = Audit(str(bench.root), whitelist=bench.policy.whitelist, sleep=lambda _: None)
        every = list(units(audit.metadata))
        share = stretches(cuts(audit.metadata, every, shares))[number]
        todo = [
            piece
            for unit in chosen(every, share)
            for piece in pieces(audit.metadata, unit, size=5000, files=4)
        ]
        header = Header(Terms("", fast=False, whitelist=(), projects=()), number + 1, shares, share)
        parts.append(Source(str(number), header, [line_of(each) for each in audit.examine(todo)]))
    return [json.dumps(document) for document in merged(parts, Tally())]


@pytest.mark.parametrize(
    "count",
    [pytest.param(FLIPS_SHARED, id="some"), pytest.param(FULL, id="full", marks=pytest.mark.long)],
)
@pytest.mark.timeout(3600)
def test_every_flipped_bit_is_found_by_shares(bench: Bench, count: int) -> None:
    """1 share and 8 give the same report, byte for byte, and the flip is in it."""
    print(f"GOBBLERD_SEED={SEED}")  # noqa: T201 - shown when the test fails
    found = Counter[str]()
    for flip in choose(bench.root, count, random.Random(SEED + 2)):
        with Damage(bench.root, flip):
            lines = shared_report(bench, 8)
            assert lines == report(bench) == shared_report(bench, 1)
            assert any(json.loads(each)["path"].startswith(f"{flip.version}/") for each in lines), flip
        found[flip.kind] += 1
    print(f"{count} flipped bits, all found by 8 shares: {dict(found)}")  # noqa: T201 - as above


def is_valid(bench: Bench, version: Address) -> bool:
    try:
        bench.run("validate_version", project=version.project, asset=version.asset, version=version.version)
    except Problems:
        return False
    return True


def must_be_invalid(flip: Flip) -> bool:
    """Tell whether validate_version must find the flip too."""
    return flip.kind in {"..links", "..manifest", "file"}


@pytest.mark.parametrize(
    "count", [pytest.param(FLIPS, id="some"), pytest.param(FULL, id="full", marks=pytest.mark.long)]
)
@pytest.mark.timeout(1800)
def test_every_flipped_bit_is_found(bench: Bench, count: int) -> None:
    """By an audit, below the version or the asset that it hurts; by validate_version in the version itself."""
    print(f"GOBBLERD_SEED={SEED}")  # noqa: T201 - shown when the test fails
    versions = list(map(str, _versions(bench)))
    assert audited(bench) == []
    assert all(is_valid(bench, version) for version in _versions(bench))
    missed, found = [], Counter[str]()
    for flip in choose(bench.root, count, random.Random(SEED)):
        damage = Damage(bench.root, flip)
        with damage:
            paths = audited(bench)
            if not any(path.startswith(f"{flip.version}/") for path in paths):
                missed.append(("audit", flip, paths))
            if must_be_invalid(flip) and is_valid(bench, flip.version):
                missed.append(("validate_version", flip, paths))
        found[flip.kind] += 1
    assert not missed, missed
    assert found.total() == count
    assert audited(bench) == []
    assert list(map(str, _versions(bench))) == versions
    print(f"{count} flipped bits, all found: {dict(found)}")  # noqa: T201 - the full form's report


def _versions(bench: Bench) -> list[Address]:
    metadata = Metadata(str(bench.root))
    return [version for project in metadata.projects() for version in metadata.versions_below(project)]


def test_a_flip_is_one_bit() -> None:
    """The instrument itself: exactly one bit differs."""
    flip = Flip("file", "p/a/1/x", 11)
    before = bytes(4)
    assert flip.flipped(before) == b"\0\x08\0\0"
    assert replace(flip, bit=0).flipped(before) == b"\1\0\0\0"


def test_rot_in_each_file_is_named(bench: Bench) -> None:
    """At the very path that rotted: the last bit of every file, whatever its size."""
    for path, bits in places(bench.root)["file"]:
        with Damage(bench.root, Flip("file", path, bits[-1])):
            assert set(audited(bench)) == {path}


def test_agrees_with_the_checker_on_rot(bench: Bench) -> None:
    """Every flip that the tests' own checker sees, an audit sees, and the reverse."""
    outside = bench.policy.whitelist
    assert check(str(bench.root), outside) == []
    for flip in choose(bench.root, 24, random.Random(SEED + 1)):
        with Damage(bench.root, flip):
            assert bool(check(str(bench.root), outside)) == bool(audited(bench)), flip
