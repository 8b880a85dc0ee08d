"""Batches of small files: only the ordinary is read, only what is new is written, whichever way."""

import errno
import hashlib
import itertools
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from gobblerd.storage.batches import (
    ANYBODY,
    HASHED,
    LARGE,
    STAMP,
    UNREAD,
    Piece,
    digest_files,
    digest_names,
    list_directories,
    make_links,
    read_files,
    survey_directory,
    unlink_files,
    write_files,
)
from gobblerd.storage.files import HERE, READ_DIRECTORY, READ_FILE, opened


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def stamp(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def test_files_come_one_after_the_other(either: str, tmp_path: Path, top: int) -> None:
    """Their stamps are those on disk; empty files take no room, odd names are names."""
    contents = {"a": b"alpha", "empty": b"", "ü\n \\": b"odd", "big": os.urandom(70_000)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    pieces = [(top, name, len(data)) for name, data in contents.items()]
    buffer = bytearray(sum(map(len, contents.values())) + 3)
    assert read_files(pieces, buffer, READ_FILE, ANYBODY) == [stamp(tmp_path / name) for name in contents]
    assert bytes(buffer) == b"".join(contents.values()) + bytes(3)
    assert read_files([(HERE, str(tmp_path / "a"), 5)], buffer, READ_FILE, os.getuid()) == [
        stamp(tmp_path / "a")
    ]
    assert read_files([], buffer, READ_FILE, ANYBODY) == []


def test_what_is_not_ordinary_is_left_to_the_caller(either: str, tmp_path: Path, top: int) -> None:
    """Links, FIFOs, sockets, directories, other sizes, other owners, nothing at all: None, without waiting."""
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("f")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        names = [
            ("f", 4),
            ("f", 6),
            ("link", 5),
            ("pipe", 0),
            ("socket", 0),
            ("d", 4096),
            ("none", 0),
            ("f", 5),
        ]
        pieces = [(top, name, size) for name, size in names]
        found = read_files(pieces, bytearray(10_000), READ_FILE, ANYBODY)
    assert found == [None] * 7 + [stamp(tmp_path / "f")]
    assert read_files([(top, "f", 5)], bytearray(5), READ_FILE, os.getuid() + 1) == [None]
    assert read_files([(HERE, str(tmp_path / "f"), 5)], bytearray(5), READ_FILE, ANYBODY) != [None]
    assert read_files([(9999, "f", 5)], bytearray(5), READ_FILE, ANYBODY) == [None]


@pytest.mark.parametrize("sizes", [[5], [2, 3], [0, 5], [2**40]])
def test_what_does_not_fit_is_a_mistake(either: str, tmp_path: Path, top: int, sizes: list[int]) -> None:
    """Nothing is read beyond the buffer, nor written from beyond it."""
    pieces = [(top, str(index), size) for index, size in enumerate(sizes)]
    for index in range(len(sizes)):
        (tmp_path / str(index)).write_bytes(b"12345")
    with pytest.raises(ValueError, match="do not fit"):
        read_files(pieces, bytearray(4), READ_FILE, ANYBODY)


def test_wanted_files_are_written(either: str, tmp_path: Path, top: int) -> None:
    """Each from its place in the buffer, mode 0644; the others are not touched."""
    pieces: list[Piece] = [(top, "a", 3), (top, "b", 2), (top, "c", 0), (top, "d", 100_000)]
    data = b"aaabb" + os.urandom(100_000)
    write_files(pieces, bytes([1, 0, 1, 1]), data + b"more")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"aaa",
        "c": b"",
        "d": data[5:],
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("there", ["file", "link", "dangling", "directory"])
def test_nothing_is_written_over(either: str, tmp_path: Path, top: int, there: str) -> None:
    """Whatever is there is left, and no link is followed; the error names the file."""
    place = tmp_path / "b"
    (tmp_path / "victim").write_bytes(b"precious")
    if there == "file":
        place.write_bytes(b"precious")
    elif there == "directory":
        place.mkdir()
    else:
        place.symlink_to("victim" if there == "link" else "nowhere")
    with pytest.raises(FileExistsError, match="b"):
        write_files([(top, "a", 1), (top, "b", 1), (top, "c", 1)], bytes([1, 1, 1]), b"xyz")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "c").exists()


def test_a_directory_that_is_gone(either: str) -> None:
    """An error of the system comes as it is."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_files([(9999, "a", 1)], b"\1", b"x")


def test_a_byte_for_each_file(either: str, top: int) -> None:
    """Fewer or more is a mistake."""
    for wanted in (b"", b"\1\1"):
        with pytest.raises(ValueError, match=r"."):
            write_files([(top, "a", 1)], wanted, b"x")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_files_are_read_and_hashed_in_one_go(either: str, tmp_path: Path, top: int, count: int) -> None:
    """Bytes and stamps as `read_files` has them, and the checksums of each; none where there is no stamp."""
    contents = {f"ü {index}": os.urandom(index * 997 % 9000) for index in range(count)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    pieces = [(top, name, len(data)) for name, data in contents.items()]
    pieces.insert(count // 2, (top, "none", 77))
    pieces.append((HERE, str(tmp_path), 5))
    size = sum(piece[2] for piece in pieces)
    here, there = bytearray(size), bytearray(size)
    stamps, md5sums, xxh128s = digest_files(pieces, here, READ_FILE, ANYBODY)
    assert stamps == read_files(pieces, there, READ_FILE, ANYBODY)
    assert here == there
    assert [stamp is None for stamp in stamps] == [not md5sum for md5sum in md5sums]
    digests = [hashlib.md5(contents[name]).hexdigest() if name in contents else "" for _, name, _ in pieces]
    assert md5sums == digests
    assert xxh128s == [
        xxhash.xxh3_128_hexdigest(contents[name]) if name in contents else "" for _, name, _ in pieces
    ]
    with pytest.raises(ValueError, match="buffer"):
        digest_files(pieces, bytearray(size - 1), READ_FILE, ANYBODY)


def digested(top: int, paths: list[str], buffer: bytearray, most: int) -> list[tuple[Any, ...]]:
    """Hash all the files, however many are hashed in one call; return state, stamp and what it hashes to."""
    found: list[tuple[Any, ...]] = []
    while len(found) < len(paths):
        some = digest_names(top, paths[len(found) :], buffer, READ_FILE, most)
        sums = ([data.hex()[at : at + 32] for at in range(0, 2 * len(data), 32)] for data in some[2:])
        found += zip(some.states, STAMP.iter_unpack(some.stamps), *sums, strict=True)
        assert some.states
    return found


@pytest.mark.parametrize("room", [5000, 20_000, 3 << 20])
def test_files_of_any_size_are_hashed_by_their_names(
    either: str, tmp_path: Path, top: int, room: int
) -> None:
    """Those that are small; of the larger ones there is a stamp, of what is no file nothing."""
    (tmp_path / "d").mkdir()
    lengths = [*range(0, 300, 7), *(n * 997 % 9000 for n in range(600)), 5000, 5001, 1_000_000]
    contents = {f"d/ü {index}": os.urandom(length) for index, length in enumerate(lengths)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "fifo")
    os.symlink("d/ü 1", tmp_path / "link")
    nothing = ["d", "fifo", "link", "none", "d/ü 1/none"]
    paths = [*nothing[:2], *contents, *nothing[2:]]
    found = dict(zip(paths, digested(top, paths, bytearray(room), 5000), strict=True))
    assert [found[name][0] for name in nothing] == [UNREAD] * len(nothing)
    for name, data in contents.items():
        status = os.stat(tmp_path / name)
        stamp = (status.st_ino, len(data), status.st_mtime_ns, status.st_ctime_ns)
        sums = hashlib.md5(data).hexdigest(), xxhash.xxh3_128_hexdigest(data)
        if len(data) <= 5000:
            assert found[name] == (HASHED, stamp, *sums), len(data)
        else:
            assert found[name][:2] == (LARGE, stamp)


def test_a_file_needs_room(either: str, top: int) -> None:
    """A buffer that is too small for a file is a mistake."""
    for most in (0, 11):
        with pytest.raises(ValueError, match="no room"):
            digest_names(top, ["a"], bytearray(10), READ_FILE, most)


NOTHING = (0, 0, 0, 0)


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


Listing = tuple[dict[str, tuple[int, int, int, int]], list[tuple[bool, list[Any], int]]]


def listed(top: Path, *paths: str, nothing: tuple[int, int, int, int] | None = None) -> Listing:
    """List directories below `top`: plain files, and what there is besides in each."""
    files: dict[str, tuple[int, int, int, int]] = {}
    with opened(str(top), os.O_PATH | os.O_DIRECTORY) as fd:
        before = len(os.listdir("/proc/self/fd"))
        found = list_directories(fd, paths, files, nothing)
        assert len(os.listdir("/proc/self/fd")) == before
    return files, [tuple(each) for each in found]


@pytest.mark.parametrize("below", ["", "above", "\u00e9/\U0001f600"])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_directory_is_listed_with_what_its_names_are(
    either: str, tmp_path: Path, count: int, below: str
) -> None:
    """Plain files apart, however many; all other names too, also those that are not UTF-8."""
    top = tmp_path / below
    top.mkdir(parents=True, exist_ok=True)
    plain = {f"a-name-of-some-length-{index}" for index in range(count)} | {"x" * 255, ".f", "a..", " \x7f\n"}
    odd = {"..internal", "\u00e9", "d", "link", "fifo", os.fsdecode(b"\xff\xfe"), "y" * 127 + "\u00fc"}
    for name in (plain | odd if count else set()) - {"d", "link", "fifo"}:
        (top / name).write_bytes(b"123")
    if count:
        (top / "d").mkdir()
        (top / "link").symlink_to("nowhere")
        os.mkfifo(top / "fifo")
    there = {name: os.lstat(top / name) for name in os.listdir(top)}
    prefix = f"{below}/" if below else ""
    files, [(holds_files, others, error)] = listed(tmp_path, below)
    assert files == {prefix + name: stamp_of(status) for name, status in there.items() if name in plain}
    assert sorted(others) == sorted((n, s.st_mode, stamp_of(s)) for n, s in there.items() if n in odd)
    assert (holds_files, error) == (bool(count), 0)
    assert len(files) + len(others) == len(there)
    kinds = [(name, stat.S_IFMT(mode), NOTHING) for name, mode, _ in others]
    assert listed(tmp_path, below, nothing=NOTHING) == (
        dict.fromkeys(files, NOTHING),
        [(holds_files, kinds, 0)],
    )


def test_many_directories_are_listed_in_their_order(either: str, tmp_path: Path) -> None:
    """Large and small, empty and missing ones beside each other."""
    sizes = [3, 0, 1, 4000, 2, 0, 5000, *[1] * 1500, 7]
    paths = [f"d{number}" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        (tmp_path / path / "below").mkdir(parents=True)
        for number in range(size):
            os.close(os.open(tmp_path / path / f"f{number}", os.O_CREAT))
    (tmp_path / "file").touch()
    files, found = listed(tmp_path, "missing", *paths, "file", "d0", nothing=NOTHING)
    assert files == {
        f"{path}/f{n}": NOTHING for path, size in zip(paths, sizes, strict=True) for n in range(size)
    }
    below = [("below", stat.S_IFDIR, NOTHING)]
    assert found == [
        (False, [], errno.ENOENT),
        *[(size > 0, below, 0) for size in sizes],
        (False, [], errno.ENOTDIR),
        (True, below, 0),
    ]
    assert listed(tmp_path) == ({}, [])


def test_what_cannot_be_listed_is_told_with_its_error(either: str, tmp_path: Path) -> None:
    """Never an empty list in place of an error."""
    with opened(str(tmp_path), READ_DIRECTORY) as fd:
        pass
    assert [each.error for each in list_directories(fd, ["", "x"], {})] == [errno.EBADF] * 2
    (tmp_path / "loop").symlink_to("loop")
    assert listed(tmp_path, "loop")[1] == [(False, [], errno.ELOOP)]


def test_a_directory_that_was_removed_is_empty(either: str, tmp_path: Path) -> None:
    """As everywhere else, or is not there; what is done with it next will fail."""
    (tmp_path / "d").mkdir()
    with opened(str(tmp_path / "d"), READ_DIRECTORY) as fd:
        (tmp_path / "d").rmdir()
        (found,) = list_directories(fd, [""], {})
    assert (found.holds_files, found.others) == (False, [])
    assert found.error in {0, errno.ENOENT}


def test_files_are_unlinked_if_they_are_the_same(either: str, tmp_path: Path, top: int) -> None:
    """What changed, went, or became something else stays, and stops nothing."""
    stamps = {}
    for name in ("same", "changed", "gone", "replaced", "ü\n", "directory"):
        (tmp_path / name).write_bytes(b"12345")
        stamps[name] = stamp(tmp_path / name)
    (tmp_path / "changed").write_bytes(b"54321")
    (tmp_path / "gone").unlink()
    (tmp_path / "replaced").rename(tmp_path / "kept")
    (tmp_path / "replaced").write_bytes(b"12345")
    (tmp_path / "directory").unlink()
    (tmp_path / "directory").mkdir()
    unlink_files(top, list(stamps.items()))
    assert {path.name for path in tmp_path.iterdir()} == {"changed", "replaced", "kept", "directory"}
    unlink_files(top, [])
    unlink_files(9999, list(stamps.items()))


@pytest.mark.parametrize("count", [1, 200])
def test_symbolic_links_are_made_and_read(either: str, tmp_path: Path, top: int, count: int) -> None:
    """Whatever they say, few or many; they are not followed, and odd names are names."""
    odd = [("ü\n", "../ä"), (os.fsdecode(b"\xff"), os.fsdecode(b"\xfe/x")), ("long", "x/" * 2047)]
    links = [*odd, *((f"l{index}", f"/nowhere/{index}") for index in range(count))]
    make_links(top, links)
    assert {name: os.readlink(tmp_path / name) for name in os.listdir(tmp_path)} == dict(links)
    make_links(top, [])
    assert surveyed(top) == {name: (stat.S_IFLNK, text) for name, text in links}


def surveyed(fd: int) -> dict[str, tuple[int, int | str | None]]:
    """Survey a directory by what is tested."""
    found = list(itertools.chain.from_iterable(survey_directory(fd)))
    assert list(itertools.chain.from_iterable(survey_directory(fd))) == found  # from the beginning again
    assert len({name for name, _, _ in found}) == len(found)
    return {name: (kind, what) for name, kind, what in found}


@pytest.mark.parametrize("count", [1, 3000])
def test_a_survey_has_sizes_and_texts(either: str, tmp_path: Path, top: int, count: int) -> None:
    """Of files and links, however many and whatever they say; links are not followed."""
    expected: dict[str, tuple[int, int | str | None]] = {}
    for index in range(count):
        (tmp_path / f"file-{index}").write_bytes(b"x" * index)
        (tmp_path / f"link-{index}").symlink_to(f"file-{index}")
        expected[f"file-{index}"] = stat.S_IFREG, index
        expected[f"link-{index}"] = stat.S_IFLNK, f"file-{index}"
    (tmp_path / "d").mkdir()
    (tmp_path / "long").symlink_to("x/" * 2047)
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "giant", "wb") as file:
        file.truncate(1 << 40)
    expected |= {"d": (stat.S_IFDIR, None), "fifo": (stat.S_IFIFO, None)}
    expected |= {"long": (stat.S_IFLNK, "x/" * 2047), "giant": (stat.S_IFREG, 1 << 40)}
    odd = os.fsdecode(b"\xff\n")
    os.symlink(os.fsdecode(b"\xfe/x"), tmp_path / odd)
    expected[odd] = stat.S_IFLNK, os.fsdecode(b"\xfe/x")
    assert surveyed(top) == expected


def test_what_cannot_be_surveyed_is_an_error(either: str, tmp_path: Path) -> None:
    """A file and a closed descriptor; a directory that was removed is empty."""
    (tmp_path / "f").touch()
    with opened(str(tmp_path / "f"), READ_FILE) as fd, pytest.raises(NotADirectoryError):
        list(survey_directory(fd))
    with pytest.raises(OSError, match="Bad file descriptor"):
        list(survey_directory(fd))
    (tmp_path / "d").mkdir()
    with opened(str(tmp_path / "d"), READ_DIRECTORY) as fd:
        (tmp_path / "d").rmdir()
        assert list(survey_directory(fd)) == []


def test_names_may_go_and_change_while_they_are_surveyed(either: str, tmp_path: Path, top: int) -> None:
    """A link that became something else, or nothing, has no text; a file that went is an error that names it."""
    stop = threading.Event()

    def swap() -> None:
        names = itertools.cycle(range(200))
        while not stop.is_set():
            path = tmp_path / f"l{next(names)}"
            path.unlink()
            path.write_bytes(b"12345")
            path.unlink()
            path.symlink_to("somewhere")

    for index in range(200):
        (tmp_path / f"l{index}").symlink_to("somewhere")
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(50):
            try:
                found = list(itertools.chain.from_iterable(survey_directory(top)))
            except FileNotFoundError as error:
                assert str(error.filename).startswith("l")  # noqa: PT017 - not every round has one
                continue
            allowed = {
                (stat.S_IFLNK, "somewhere"),
                (stat.S_IFLNK, None),
                (stat.S_IFREG, 5),
                (stat.S_IFREG, 0),
            }
            assert {(kind, what) for _, kind, what in found} <= allowed
    finally:
        stop.set()
        swapper.join()


@pytest.mark.parametrize("count", [1, 200])
def test_a_symbolic_link_is_new_or_an_error(either: str, tmp_path: Path, top: int, count: int) -> None:
    """Nothing is replaced; the error has its number; those before it are made."""
    (tmp_path / "there").write_bytes(b"1")
    links = [(f"l{index}", "x") for index in range(count)]
    with pytest.raises(FileExistsError):
        make_links(top, [*links, ("there", "x"), ("after", "x")])
    assert {*os.listdir(tmp_path)} == {"there", *(name for name, _ in links)}
    with pytest.raises(OSError, match="Bad file descriptor"):
        make_links(9999, links)
    with pytest.raises(OSError, match="too long"):
        make_links(top, [*((f"m{index}", "x") for index in range(count)), ("n", "x" * 5000)])
    with pytest.raises(ValueError, match="null"):
        make_links(top, [("a\0b", "x")] * count)
