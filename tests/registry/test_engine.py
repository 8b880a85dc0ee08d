"""One engine reads, hashes and writes: every file once, whatever the sizes, the order and the troubles."""

import errno
import hashlib
import itertools
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from gobblerd.domain.errors import Stopped, Wrong
from gobblerd.registry import lane_group
from gobblerd.registry.copying import Digest
from gobblerd.registry.engine import SMALL
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.neighbours import Candidates, Neighbours
from gobblerd.registry.source import Limits, Reader, Source, SourceFile
from gobblerd.registry.source_files import SourceFiles
from gobblerd.registry.tree import digest_files
from gobblerd.storage import native
from gobblerd.storage.files import begin_write_back, forget_pages
from gobblerd.storage.lanes import FileSums

CHUNK = lane_group._CHUNK
ALICE, BOB = 61001, 61002


@pytest.fixture(params=["native", "plain"], autouse=True)
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything here runs with the C extension, and without it; and leaves neither threads nor files open."""
    if request.param == "plain":
        monkeypatch.setattr(native, "NATIVE", None)
    elif native.NATIVE is None:
        pytest.skip("the C extension was not built (no compiler?): only the plain way is tested")
    threads, descriptors = threading.active_count(), sorted(os.listdir("/proc/self/fd"))
    yield
    assert threading.active_count() <= threads  # one of an earlier test may have ended meanwhile
    assert sorted(os.listdir("/proc/self/fd")) == descriptors


MIXTURES: dict[str, list[int]] = {
    "none": [],
    "one small": [5],
    "one large": [3 * 1024 * 1024 + 7],
    "two large": [SMALL + 1, 5 * CHUNK],
    "at the edges": [0, 1, SMALL - 1, SMALL, SMALL + 1, 2 * CHUNK, 2 * CHUNK + 1, 4 * CHUNK - 1],
    "several large": [SMALL + 1 + 70_001 * n for n in range(7)],
    "more than lanes": [SMALL + 1 + (n * 7919) % 600_000 for n in range(45)],
    "many small": [(n * 131) % 3000 for n in range(900)],
    "mixed": [(n * 7919 * 31) % 900_000 for n in range(60)],
}


def make(top: Path, sizes: list[int]) -> dict[str, bytes]:
    """Make files of these sizes in a few directories; return their bytes by path."""
    chance, contents = random.Random(1), {}
    top.mkdir()
    for index, size in enumerate(sizes):
        path = f"d{index % 3}/e/f{index}" if index % 4 else f"f{index}"
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        contents[path] = chance.randbytes(size)
        (top / path).write_bytes(contents[path])
    return contents


def expected(data: bytes) -> tuple[int, str, str]:
    return len(data), hashlib.md5(data).hexdigest(), xxhash.xxh3_128_hexdigest(data)


def found(digest: Digest | str) -> Any:
    return digest if isinstance(digest, str) else (digest.size, digest.md5sum, digest.xxh128)


def no_candidates() -> Candidates:
    return Candidates("", None, Neighbours(Metadata("")))


def reading(contents: dict[str, bytes]) -> list[SourceFile]:
    return [SourceFile(path, len(data)) for path, data in contents.items()]


class Taking:
    """A source of these files, to be copied to `out`."""

    def __init__(self, base: Path, sizes: list[int], reader: Reader | None = None) -> None:
        self.contents = make(base / "s", sizes)
        self.top, self.out = base / "s", base / "out"
        self.ticks: list[tuple[int, int]] = []
        self.is_durable = True
        self.on_tick: Callable[[], None] = lambda: None
        self._reader = reader or Reader(os.getuid(), frozenset())

    def __call__(self, candidates: Candidates | None = None) -> dict[str, Any]:
        fd = os.open(self.top, os.O_RDONLY)
        try:
            source = Source(fd, "s", self._reader)
            survey = source.survey(Limits(), ignore_dot=False)
            files = SourceFiles(source, survey, self._tick, is_durable=self.is_durable)
            files.make_directories(str(self.out))
            taken = files.take(files.survey.files, str(self.out), candidates or no_candidates())
            return {each.path: found(each.digest) for each in taken}
        finally:
            os.close(fd)

    def _tick(self, done: int, total: int) -> None:
        self.ticks.append((done, total))
        self.on_tick()

    def copied(self) -> dict[str, bytes]:
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_file_is_copied_and_hashed_once(tmp_path: Path, mixture: str) -> None:
    """Bytes and both digests agree, and the progress adds up to all bytes."""
    taking = Taking(tmp_path, MIXTURES[mixture])
    assert taking() == {path: expected(data) for path, data in taking.contents.items()}
    assert taking.copied() == taking.contents
    total = sum(map(len, taking.contents.values()))
    assert (taking.ticks[-1] if taking.ticks else (0, 0)) == (total, total)
    assert taking.ticks == sorted(taking.ticks)


def test_reading_small_files_is_not_noted_in_them(tmp_path: Path) -> None:
    """Each would be an inode more for the sync to write; whoever looks for unused files is not misled either."""
    taking = Taking(tmp_path, MIXTURES["many small"])
    for path in taking.contents:
        os.utime(taking.top / path, (1000, 2000))
    taking()
    assert {(taking.top / path).stat().st_atime for path in taking.contents} == {1000}


@pytest.mark.parametrize("owner", ["daemon", "other"])
def test_files_that_only_others_may_read_unnoted_are_read(owner: str) -> None:
    """A daemon that is not root, and files of others beside its own or in a source of another."""
    with tempfile.TemporaryDirectory() as top:  # that others may enter, unlike pytest's
        os.chmod(top, 0o755)
        taking = Taking(Path(top), MIXTURES["mixed"] + MIXTURES["many small"], Reader(ALICE, frozenset()))
        taking.out = Path(top, "below", "out")
        taking.out.parent.mkdir()
        os.chmod(taking.out.parent, 0o777)
        for path in taking.contents:
            os.chown(taking.top / path, BOB, BOB)
        os.chown(taking.top, ALICE if owner == "daemon" else BOB, -1)
        os.seteuid(ALICE)
        try:
            assert taking() == {path: expected(data) for path, data in taking.contents.items()}
        finally:
            os.seteuid(0)
        assert taking.copied() == taking.contents


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_file_is_hashed_once(tmp_path: Path, mixture: str) -> None:
    """Reading alone, as validation does, gives the same."""
    contents = make(tmp_path / "v", MIXTURES[mixture])
    done: list[int] = []
    results = list(digest_files(str(tmp_path / "v"), list(contents), done.append))
    assert len(results) == len(contents)
    assert {path: found(digest) for path, digest in results} == {p: expected(d) for p, d in contents.items()}
    assert sum(done) == sum(map(len, contents.values()))


@pytest.mark.parametrize("size", [100, SMALL + 1, 2 * CHUNK, 10 * CHUNK])
@pytest.mark.parametrize("others", [0, 40])
def test_what_cannot_be_read_is_told_of_and_stops_nothing(tmp_path: Path, size: int, others: int) -> None:
    """Files that are gone, are links, or are of another size by now: a sentence, or what is there now."""
    contents = make(tmp_path / "v", [size] * (others + 4))
    paths = sorted(contents)
    gone, link, longer, shorter = (tmp_path / "v" / path for path in paths[:4])
    gone.unlink()
    link.unlink()
    link.symlink_to("f0")
    longer.write_bytes(b"x" * (size + 3))
    shorter.write_bytes(b"y" * (size // 2))
    results = dict(digest_files(str(tmp_path / "v"), list(contents), lambda _: None))
    assert results[paths[0]] == "No such file or directory"
    assert results[paths[1]] == "Too many levels of symbolic links"
    assert found(results[paths[2]]) == expected(b"x" * (size + 3))
    assert found(results[paths[3]]) == expected(b"y" * (size // 2))
    assert {path: found(results[path]) for path in paths[4:]} == {p: expected(contents[p]) for p in paths[4:]}


@pytest.mark.parametrize("mixture", ["one large", "several large", "more than lanes"])
def test_a_large_file_that_changes_meanwhile(
    tmp_path: Path, mixture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a part of it was read: an upload is refused, naming it."""
    taking = Taking(tmp_path, MIXTURES[mixture])
    largest = max(taking.contents, key=lambda path: len(taking.contents[path]))
    read = lane_group.Lane.read

    def then_change(lane: Any, place: memoryview) -> memoryview:
        found = read(lane, place[:100_000])
        if lane.file.path == largest and lane.done == 100_000:
            with (taking.top / largest).open("ab") as file:
                file.write(b"more")
        return found

    monkeypatch.setattr(lane_group.Lane, "read", then_change)
    with pytest.raises(Wrong, match=f'"{largest}" changed'):
        taking()


@pytest.mark.parametrize("change", ["more", "less", "other"])
def test_a_large_file_that_changes_while_the_extension_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """It is told of, and the others are hashed."""
    if native.NATIVE is None:
        pytest.skip("without the extension it is read as any other")
    contents = make(tmp_path / "v", [SMALL * 4 + n for n in range(45)])
    path = max(contents, key=lambda path: len(contents[path]))  # which is begun first
    changed, size = tmp_path / "v" / path, len(contents.pop(path))
    advance = FileSums.advance

    def then_change(sums: FileSums, files: list[tuple[int, int, int]]) -> list[int]:
        done = advance(sums, files)
        if size in {each[2] for each in files} and changed.stat().st_size == size:
            if change == "other":
                os.utime(changed)
            else:
                os.truncate(changed, size + 5 if change == "more" else 70_000)
        return done

    monkeypatch.setattr(FileSums, "advance", then_change)
    results = dict(digest_files(str(tmp_path / "v"), [path, *contents], lambda _: None))
    assert results.pop(path) == "it changed while it was read"
    assert {path: found(digest) for path, digest in results.items()} == {
        path: expected(data) for path, data in contents.items()
    }


@pytest.mark.parametrize("mixture", ["one small", "many small", "one large", "more than lanes", "mixed"])
def test_progress_that_raises_ends_the_work(tmp_path: Path, mixture: str) -> None:
    """At once, with nothing left running; so does whoever takes no more results."""
    taking = Taking(tmp_path, MIXTURES[mixture])

    def stop() -> None:
        raise Stopped

    taking.on_tick = stop
    with pytest.raises(Stopped):
        taking()
    some = digest_files(str(taking.top), list(taking.contents), lambda _: None)
    next(some)
    some.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [10, SMALL + 5])
def test_others_files_are_judged_by_their_mode(tmp_path: Path, size: int) -> None:
    """In a batch as in a lane: what the requester could not read is refused, the rest is taken."""
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    sizes = [size] * 40
    taking = Taking(tmp_path, sizes, Reader(12_345, frozenset()))
    assert taking() == {path: expected(data) for path, data in taking.contents.items()}
    secret = sorted(taking.contents)[17]
    os.chmod(taking.top / secret, 0o600)
    taking.out = tmp_path / "again"
    with pytest.raises(Wrong, match=f'"{secret}" is neither'):
        taking()
    os.chown(taking.top / secret, 12_345, 12_345)
    taking.out = tmp_path / "own"
    assert taking()[secret] == expected(taking.contents[secret])


@pytest.mark.parametrize("size", [10, SMALL + 5])
def test_an_error_of_the_disk_is_raised(tmp_path: Path, size: int) -> None:
    """A place that is taken already is an OSError, no refusal of the source."""
    taking = Taking(tmp_path, [size] * 40)
    make_directories = SourceFiles.make_directories

    def and_a_file(self: SourceFiles, path: str) -> None:
        make_directories(self, path)
        Path(path, "f0").write_bytes(b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SourceFiles, "make_directories", and_a_file)
        with pytest.raises(FileExistsError):
            taking()


@pytest.mark.parametrize("is_durable", [True, False])
def test_what_is_to_be_durable_goes_to_the_device_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_durable: bool
) -> None:
    """Every byte of a large file, once, in pieces; nothing where nothing will be synced."""
    begun: dict[int, list[tuple[int, int]]] = {}

    def begin(fd: int, start: int, size: int) -> None:
        begin_write_back(fd, start, size)
        begun.setdefault(os.fstat(fd).st_ino, []).append((start, size))

    monkeypatch.setattr(lane_group, "begin_write_back", begin)
    monkeypatch.setattr(lane_group, "_PIECE", 2 * CHUNK)
    taking = Taking(tmp_path, MIXTURES["mixed"])
    taking.is_durable = is_durable
    assert taking() == {path: expected(data) for path, data in taking.contents.items()}
    large = [path for path, data in taking.contents.items() if len(data) > SMALL]
    assert begun.keys() == {(taking.out / path).stat().st_ino for path in large if is_durable}
    for path in large if is_durable else ():
        pieces = begun[(taking.out / path).stat().st_ino]
        ends = [start + size for start, size in pieces]
        assert [start for start, _ in pieces] == [0, *ends[:-1]]
        assert ends[-1] == len(taking.contents[path])


def test_a_huge_file_leaves_the_page_cache_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, some way behind what is being written; smaller ones stay for those who read them next."""
    forgotten: dict[int, list[tuple[int, int]]] = {}

    def forget(fd: int, start: int, size: int) -> None:
        forget_pages(fd, start, size)
        forgotten.setdefault(os.fstat(fd).st_size, []).append((start, size))

    piece = 4 * CHUNK
    monkeypatch.setattr(lane_group, "forget_pages", forget)
    monkeypatch.setattr(lane_group, "_PIECE", piece)
    monkeypatch.setattr(lane_group, "_BEHIND", 2 * piece)
    monkeypatch.setattr(lane_group, "_HUGE", 5 * piece)
    taking = Taking(tmp_path, [5 * piece, 5 * piece - 1, 100])
    assert taking() == {path: expected(data) for path, data in taking.contents.items()}
    assert taking.copied() == taking.contents
    pieces = sorted(itertools.chain.from_iterable(forgotten.values()))
    assert pieces == [(0, piece), (piece, piece), (2 * piece, piece)]


def test_an_error_of_the_device_is_raised_while_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the device says of a piece ends the upload."""

    def fail(*_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(lane_group, "begin_write_back", fail)
    with pytest.raises(OSError, match="Input/output error"):
        Taking(tmp_path, MIXTURES["more than lanes"])()


def test_files_that_shrink_for_ever_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short read is read on; one that gives nothing before the end is a change."""
    preadv = os.preadv

    def short(fd: int, buffers: Any, offset: int) -> int:
        return preadv(fd, [memoryview(buffers[0])[: 1 + len(buffers[0]) // 2]], offset)

    monkeypatch.setattr(os, "preadv", short)
    contents = make(tmp_path / "v", [SMALL + 1, 2 * CHUNK, 100, 7])
    results = dict(digest_files(str(tmp_path / "v"), list(contents), lambda _: None))
    assert {path: found(digest) for path, digest in results.items()} == {
        p: expected(d) for p, d in contents.items()
    }
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    results = dict(digest_files(str(tmp_path / "v"), list(contents), lambda _: None))
    large = {path for path, data in contents.items() if len(data) > SMALL}
    assert {results[path] for path in large} == {"it changed while it was read"}
