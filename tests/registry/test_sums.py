"""The extension's sums are those of the parser, or none at all: it never has an opinion of its own."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gobblerd.domain.manifest import Entry, FileAddress, Link
from gobblerd.registry import documents, sums
from gobblerd.registry.manifests import read_stamped, stamp_at
from gobblerd.registry.sums import Links, are_unchanged, links_at, stamps_at, sums_at

needs_extension = pytest.mark.skipif(sums.SUMS is None, reason="no C extension here (NOT TESTED on this run)")
RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

LINK = Link("p", "a", "1", "x", FileAddress("q", "b", "2", "y"))
PLAIN = {
    "a/b": Entry(5, "0" * 32),
    "c": Entry(0, ""),
    "d": Entry(7, "1" * 32, LINK),
    "e": Entry(11, "2" * 32),
}

names = st.text(min_size=0, max_size=8)
links = st.none() | st.fixed_dictionaries(
    {"project": names, "path": names},
    optional={"ancestor": st.none() | st.fixed_dictionaries({"path": names})},
)
entries = st.fixed_dictionaries(
    {}, optional={"size": st.integers(-2, 2**70), "md5sum": names, "link": links, "other": names}
)
manifests = st.dictionaries(names, entries, max_size=5)


def sum_of(path: Path, data: bytes) -> int | None:
    path.write_bytes(data)
    (found,) = sums_at([str(path)])
    if found is None:
        return None
    assert found[0] == read_stamped(str(path))[0]
    return found[1]


def parsed(data: bytes) -> int | None:
    try:
        return documents.read_stored_bytes(data)
    except documents.Unreadable:
        return None


@needs_extension
@pytest.mark.parametrize("indent", [None, 4])
def test_plain_manifests_need_no_parser(tmp_path: Path, indent: int | None) -> None:
    ours = documents.manifest_bytes(PLAIN)
    for data in (ours, json.dumps(json.loads(ours), indent=indent).encode(), ours + b"\n", b"{}", b" { } "):
        assert sum_of(tmp_path / "m", data) == parsed(data) is not None
    assert sum_of(tmp_path / "m", ours) == 16


@given(document=manifests, is_sorted=st.booleans(), indent=st.sampled_from([None, 1]))
@RELAXED
@example(document={"b": {"size": 1}, "a": {"size": 2}}, is_sorted=False, indent=None)
def test_any_manifest_gives_what_the_parser_says_or_nothing(
    tmp_path: Path, document: dict[str, Any], *, is_sorted: bool, indent: int | None
) -> None:
    data = json.dumps(document, sort_keys=is_sorted, indent=indent).encode()
    assert sum_of(tmp_path / "m", data) in {None, parsed(data)}


@given(at=st.integers(0, 10_000), replacement=st.binary(max_size=3), cut=st.integers(0, 3))
@RELAXED
def test_damage_is_never_overlooked(tmp_path: Path, at: int, replacement: bytes, cut: int) -> None:
    data = documents.manifest_bytes(PLAIN)
    at %= len(data) + 1
    damaged = data[:at] + replacement + data[at + cut :]
    assert sum_of(tmp_path / "m", damaged) in {None, parsed(damaged)}


def found_at(paths: list[str], projects: Sequence[str]) -> list[Links | None]:
    """Return what the extension finds in each."""
    return links_at([("", "", "", path) for path in paths], projects, lambda _, links: links)


def links_of(path: Path, data: bytes, *projects: str) -> dict[str, tuple[int, Link]] | None:
    """Return size and link by path, as the extension has them."""
    path.write_bytes(data)
    (found,) = found_at([str(path)], projects)
    if found is None:
        return None
    assert found[0] == stamp_at(str(path))
    links = {}
    for name, size, (project, asset, version, file, ancestor) in found[1]:
        link = Link(project, asset, version, file, FileAddress(*ancestor) if ancestor else None)
        links[name] = (size, link)
    return links


def parsed_links(data: bytes, *projects: str) -> dict[str, tuple[int, Link]]:
    """Return the same as the parser has it."""
    found = {}
    for path, entry in documents.read_manifest(data).items():
        link = entry.link
        if link and (link.project in projects or (link.ancestor and link.ancestor.project in projects)):
            found[path] = (entry.size, link)
    return found


@needs_extension
def test_links_into_the_projects_are_those_of_the_parser(tmp_path: Path) -> None:
    near, far = Link("p", "a", "1", "x"), Link("other", "a", "1", "x", FileAddress("p", "b", "2", "y"))
    manifest = {**PLAIN, "f": Entry(1, "", near), "g": Entry(2, "", far), "h": Entry(3, "", LINK)}
    data = documents.manifest_bytes(manifest)
    for projects in ((), ("p",), ("q",), ("p", "q"), ("other",), ("oth",), ("nothing",)):
        assert links_of(tmp_path / "m", data, *projects) == parsed_links(data, *projects)
    assert links_of(tmp_path / "m", data, "other") == {"g": (2, far)}
    assert links_of(tmp_path / "m", documents.manifest_bytes({}), "p") == {}


@given(at=st.integers(0, 10_000), replacement=st.binary(max_size=3), cut=st.integers(0, 3))
@RELAXED
def test_links_of_a_damaged_manifest_are_those_of_the_parser(
    tmp_path: Path, at: int, replacement: bytes, cut: int
) -> None:
    data = documents.manifest_bytes(PLAIN)
    at %= len(data) + 1
    damaged = data[:at] + replacement + data[at + cut :]
    found = links_of(tmp_path / "m", damaged, "p", "q")
    assert found is None or found == parsed_links(damaged, "p", "q")


@pytest.mark.parametrize(
    "link",
    [
        "null",
        "{}",
        '{"project": "p", "asset": "a", "version": "1"}',
        '{"project": "p", "asset": "a", "version": "1", "path": null}',
        '{"project": "p", "asset": "a", "version": "1", "path": "x", "path": "y"}',
        '{"project": "p", "asset": "a", "version": "1", "path": "x", "more": "y"}',
        '{"project": "p", "asset": "a", "version": "1", "path": "x", "ancestor": null}',
        '{"project": "p", "asset": "a", "version": "1", "path": "x", "ancestor": {"project": "p"}}',
        '{"project": "p", "asset": "a", "version": "1", "path": "\\u0061"}',
    ],
)
def test_links_that_are_not_plain_are_left_to_the_parser(tmp_path: Path, link: str) -> None:
    text = f'{{"a": {{"size": 1, "md5sum": "", "link": {link}}}}}'
    assert links_of(tmp_path / "m", text.encode(), "p") is None


def test_links_of_a_large_manifest_are_left_to_the_parser(tmp_path: Path) -> None:
    """What the extension returns takes several times the memory of the manifest."""
    data = documents.manifest_bytes({"f": Entry(1, "", LINK)})
    assert links_of(tmp_path / "m", data + b" " * (16 << 20), "p") is None


@needs_extension
def test_links_of_many_manifests_come_in_their_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"m{number}") for number in range(700)]
    for number, path in enumerate(paths):
        linked = {
            f"f{each:02}": Entry(number, "", Link("p", "a", "1", str(each))) for each in range(number % 40)
        }
        Path(path).write_bytes(documents.manifest_bytes(linked))
    found = found_at(paths, ["p"])
    for number, each in enumerate(found):
        assert each is not None
        assert each[1] == [(f"f{k:02}", number, ("p", "a", "1", str(k), None)) for k in range(number % 40)]


@needs_extension
def test_links_to_many_targets_are_told_apart(tmp_path: Path) -> None:
    """Those that were made a moment ago are made once; what differs in anything is another."""
    ancestors = (None, FileAddress("p", "a", "1", "x"), FileAddress("p", "a", "1", "y"))
    targets = [Link("p", "a", "1", f"{number % 37}", ancestors[number % 3]) for number in range(111)]
    manifest = {f"f{number:03}": Entry(number, "", targets[number % 111]) for number in range(300)}
    data = documents.manifest_bytes(manifest)
    assert links_of(tmp_path / "m", data, "p") == parsed_links(data, "p")
    (found,) = found_at([str(tmp_path / "m")], ["p"])
    assert found is not None
    assert len({target for _, _, target in found[1]}) == 111
    alike = documents.manifest_bytes({f"f{n}": Entry(n, "", targets[n % 2]) for n in range(9)})
    (tmp_path / "m").write_bytes(alike)
    (found,) = found_at([str(tmp_path / "m")], ["p"])
    assert found is not None
    assert len({id(target) for _, _, target in found[1]}) == 2


@pytest.mark.parametrize("with_extension", [True, False])
@pytest.mark.parametrize("many", [1, 100, 301])
def test_one_change_among_many_files_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int, *, with_extension: bool
) -> None:
    """Whichever it is, and whatever of it changed."""
    if not with_extension:
        monkeypatch.setattr(sums, "SUMS", None)
    paths = [
        f"{tmp_path}/d{number % 3}/m" if number < 3 else f"{tmp_path}/m{number}" for number in range(many)
    ]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(b"{}")
    stamps = [stamp for stamp in stamps_at(paths) if stamp is not None]
    assert are_unchanged([], [])
    assert are_unchanged(paths, stamps)
    for at in {0, many // 2, many - 1}:
        for part in range(4):
            other = tuple(value + (place == part) for place, value in enumerate(stamps[at]))
            assert not are_unchanged(paths, [*stamps[:at], other, *stamps[at + 1 :]])  # type: ignore[list-item]
    os.unlink(paths[-1])
    assert not are_unchanged(paths, stamps)


@needs_extension
def test_stamps_that_are_none_are_refused(tmp_path: Path) -> None:
    for stamps in ([], [(1, 2, 3)], [("1", 2, 3, 4)], [(2**64, 2, 3, 4)]):
        with pytest.raises((ValueError, TypeError, IndexError, OverflowError)):
            are_unchanged([str(tmp_path)], stamps)  # type: ignore[arg-type]
    assert not are_unchanged([str(tmp_path)], [(2**64 - 1, 2, 3, 4)])


@pytest.mark.parametrize("with_extension", [True, False])
def test_stamps_of_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_extension: bool
) -> None:
    if not with_extension:
        monkeypatch.setattr(sums, "SUMS", None)
    paths = [str(tmp_path / f"m{number}") for number in range(600)]
    for path in paths[::2]:
        Path(path).touch()
    found = stamps_at([*paths, f"{paths[0]}/below"])
    assert found == [*map(stamp_at, paths), None]
    assert None not in found[:600:2]
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        stamps_at([str(tmp_path / "loop")])


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"size": 1}, "a": {"size": 2}}',  # the last one counts
        '{"a": {"size": 1, "size": 2}}',
        '{"a": {"size": 01}}',
        '{"a": {"size": 1.0}}',
        '{"a": {"size": 1e2}}',
        '{"a": {"size": -1}}',
        '{"a": {"size": 9999999999999999999}}',
        '{"a": {"size": 1, "link": null}}',
        '{"a": {"size": 1, "link": []}}',
        '{"a": {"size": 1}} x',
        '{"a": {"size": 1},}',
        '{"a": {"size": 1}',
        '{"\\u0061": {"size": 1}}',
        '{"\n": {"size": 1}}',
        "",
        "[]",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(tmp_path: Path, text: str) -> None:
    assert sum_of(tmp_path / "m", text.encode()) is None


def test_what_is_no_readable_file_has_no_sum(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    paths = [str(tmp_path / name) for name in ("fifo", "directory", "nothing")]
    assert sums_at(paths) == [None, None, None]


@needs_extension
def test_each_is_found_whatever_came_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asset's directory is held open from one manifest to the next, and only as long as it is the same."""
    paths, expected = [], []
    for number, place in enumerate(("p/a/1", "p/a/2", "p/ab/1", "p/a/3", "q/a/1", "p", "p/a")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        path = tmp_path / place / "m"
        path.write_bytes(documents.manifest_bytes({"f": Entry(number, "0" * 32)}))
        paths += [str(path), f"{tmp_path}/none/{place}/m"]
        expected += [(stamp_at(str(path)), number), None]
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.chdir(tmp_path)
    for some in (paths, [os.path.relpath(path) for path in paths]):
        assert sums_at(some) == expected
        assert found_at(some, ["x"]) == [each and (each[0], []) for each in expected]
        assert stamps_at(some) == [each and each[0] for each in expected]
    assert sums_at(["m", "/m", ""]) == [None, None, None]
    assert len(os.listdir("/proc/self/fd")) == before


@needs_extension
def test_many_are_counted_in_batches_in_their_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"m{number}") for number in range(700)]
    for number, path in enumerate(paths):
        Path(path).write_bytes(documents.manifest_bytes({"f" * (number % 99 + 1): Entry(number, "")}))
    assert sums_at(paths) == [(stamp_at(path), number) for number, path in enumerate(paths)]


def test_without_the_extension_all_is_left_to_the_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "SUMS", None)
    assert sum_of(tmp_path / "m", documents.manifest_bytes(PLAIN)) is None
    assert links_of(tmp_path / "m", documents.manifest_bytes(PLAIN), "p") is None
