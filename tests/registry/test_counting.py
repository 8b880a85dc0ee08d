"""Usage is what the manifests on disk say, however much of it is remembered."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench
from support.registries import write_json

from gobblerd.domain.errors import Fault
from gobblerd.domain.names import Address
from gobblerd.registry import counting, documents, sums
from gobblerd.registry.counting import Counted, UsageCount

SECOND = 1_000_000_000
PROJECT = Address("p")


class Clock:
    """The file server's clock, ahead by what a test says."""

    def __init__(self) -> None:
        self.ahead = 3600 * SECOND

    def __call__(self) -> int:
        return self.newest + self.ahead

    newest = 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def filled(bench: Bench, clock: Clock) -> Bench:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1"})
    bench.upload("p/a/2", {"f": b"1", "g": b"23"})
    bench.upload("p/b/1", {"f": b"456"})
    clock.newest = manifest(bench, "b/1").stat().st_ctime_ns
    return bench


@pytest.fixture(params=["extension", "parser"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with the C extension and without."""
    if request.param == "parser":
        monkeypatch.setattr(sums, "SUMS", None)
    elif sums.SUMS is None:
        pytest.skip("no C extension here (NOT TESTED on this run)")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that were read, as `asset/version`."""
    paths: list[str] = []
    real = counting.sums_at

    def noted(paths_wanted: Iterable[str]) -> Any:
        wanted = list(paths_wanted)
        paths.extend("/".join(path.split("/")[-3:-1]) for path in wanted)
        return real(wanted)

    monkeypatch.setattr(counting, "sums_at", noted)
    return paths


def manifest(bench: Bench, version: str) -> Path:
    return bench.root / "p" / version / "..manifest"


def total(bench: Bench, counted: Counted) -> int:
    return UsageCount(bench.registry.metadata, PROJECT, counted).total()


def test_a_second_count_reads_nothing(filled: Bench, clock: Clock, read: list[str]) -> None:
    counted = Counted(clock)
    assert total(filled, counted) == 6
    assert sorted(read) == ["a/1", "a/2", "b/1"]
    read.clear()
    assert total(filled, counted) == 6
    assert read == []


def replace(path: Path) -> None:
    write_json(f"{path}.new", {"f": {"size": 100, "md5sum": "0" * 32}})
    os.rename(f"{path}.new", path)


def replace_with_old_times(path: Path) -> None:
    """Of the same size and mtime: only the inode and ctime tell."""
    status, text = path.stat(), path.read_bytes().replace(b'"size": 1', b'"size": 4', 1)
    assert len(text) == status.st_size
    (path.parent / "..new").write_bytes(text)
    os.utime(path.parent / "..new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(path.parent / "..new", path)


def overwrite_with_old_times(path: Path) -> None:
    """In place, as no one should: only the ctime tells."""
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"size": 1', b'"size": 4', 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "expected"), [(replace, 105), (replace_with_old_times, 9), (overwrite_with_old_times, 9)]
)
def test_what_changed_is_read_again_and_nothing_else(
    filled: Bench, clock: Clock, read: list[str], change: Callable[[Path], None], expected: int
) -> None:
    counted = Counted(clock)
    total(filled, counted)
    read.clear()
    change(manifest(filled, "a/1"))
    assert total(filled, counted) == expected
    assert read == ["a/1"]


def test_what_is_gone_or_new_is_told_by_the_disk(filled: Bench, clock: Clock, read: list[str]) -> None:
    counted = Counted(clock)
    total(filled, counted)
    read.clear()
    filled.run("delete_asset", project="p", asset="a")
    filled.upload("p/b/2", {"f": b"7890"})
    assert total(filled, counted) == 7
    assert read == ["b/2"]
    assert len(counted.of("p")) == 2


def test_a_manifest_as_new_as_the_reading_is_not_remembered(
    filled: Bench, clock: Clock, read: list[str]
) -> None:
    """It could change once more within the resolution of the file server's clock."""
    clock.ahead = SECOND // 2
    counted = Counted(clock)
    total(filled, counted)
    assert manifest(filled, "b/1") not in map(Path, counted.of("p"))
    read.clear()
    assert total(filled, counted) == 6
    assert "b/1" in read


def test_one_that_cannot_be_read_is_a_fault_each_time(filled: Bench, clock: Clock) -> None:
    counted = Counted(clock)
    total(filled, counted)
    manifest(filled, "a/2").write_text("{")
    for _ in range(2):
        with pytest.raises(Fault, match=r"p/a/2/\.\.manifest. cannot be read"):
            total(filled, counted)
    manifest(filled, "a/2").unlink()
    with pytest.raises(Fault, match=r"p/a/2/\.\.manifest. is missing"):
        total(filled, counted)


def test_without_a_clock_nothing_is_remembered(filled: Bench, read: list[str]) -> None:
    def no_clock() -> int:
        raise OSError(28, "No space left on device")

    counted = Counted(no_clock)
    assert total(filled, counted) == total(filled, counted) == 6
    assert len(read) == 6


def test_memory_is_bounded_by_versions_the_oldest_project_going_first() -> None:
    counted = Counted(lambda: SECOND * 10, most=5)

    def known(project: str, versions: int) -> None:
        counted.keep(project, {f"{project}/{n}": ((1, 2, 3, 4), 5) for n in range(versions)})

    known("old", 2)
    known("new", 3)
    assert (len(counted.of("old")), len(counted.of("new"))) == (2, 3)
    known("newest", 1)
    assert (len(counted.of("old")), len(counted.of("new")), len(counted.of("newest"))) == (0, 3, 1)
    known("new", 6)
    assert (len(counted.of("new")), len(counted.of("newest"))) == (0, 1)


def test_a_refresh_uses_what_the_last_one_counted(
    filled: Bench, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = filled.registry.clock
    monkeypatch.setattr(filled.registry, "counted", Counted(lambda: clock.now() + 60 * SECOND))
    assert filled.run("refresh_usage", project="p") == {"total": 6}
    read.clear()
    assert filled.run("refresh_usage", project="p") == {"total": 6}
    assert read == []


@pytest.mark.parametrize(
    ("link", "size"),
    [("null", 7), ('{"project": "p"}', 0), ("[]", 0), ('"null"', 0)],
)
def test_only_null_is_no_link(link: str, size: int) -> None:
    entry = f'{{"size": 7, "md5sum": "", "link": {link}}}'
    assert documents.read_stored_bytes(f'{{"f": {entry}}}'.encode()) == size
