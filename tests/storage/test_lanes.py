"""MD5 side by side gives what hashlib gives, whatever the lengths, pieces and number of streams."""

import errno
import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
import xxhash

from gobblerd.storage import native
from gobblerd.storage.lanes import FileSums, md5_many, streams

AROUND_PADDING = [0, 1, 54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 121, 127, 128, 129, 4095, 4096, 4097]


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 17, 33, 300])
def test_many_texts_of_any_length(either: str, count: int) -> None:
    """Lengths around the padding's edges and at random, fewer and more than there are lanes."""
    chance = random.Random(count)
    lengths = [chance.choice([*AROUND_PADDING, chance.randrange(20_000)]) for _ in range(count)]
    texts = [chance.randbytes(length) for length in lengths]
    assert md5_many(texts) == [md5(text) for text in texts]
    assert md5_many([memoryview(bytearray(text)) for text in texts]) == [md5(text) for text in texts]


@pytest.mark.parametrize("seed", range(20))
def test_streams_in_pieces(either: str, seed: int) -> None:
    """Pieces of any length, empty ones too; a stream that is taken begins afresh beside the others."""
    chance = random.Random(seed)
    count = chance.choice([1, 2, 3, 5, 16, 21])
    under_way, texts = streams(count), [b""] * count
    for _ in range(40):
        pieces = [chance.randbytes(chance.choice([0, 1, 63, 64, 65, chance.randrange(700)])) for _ in texts]
        under_way.update(pieces)
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        if chance.random() < 0.3:
            index = chance.randrange(count)
            assert under_way.take(index) == md5(texts[index])
            texts[index] = b""
    assert [under_way.take(index) for index in range(count)] == [md5(text) for text in texts]


def test_every_stream_needs_its_piece(either: str) -> None:
    """Fewer or more pieces than streams are a mistake, not a wrong digest."""
    for pieces in ([b"1"] * 3, [b"1"] * 5):
        with pytest.raises(ValueError, match=r"."):
            streams(4).update(pieces)


def test_only_bytes_are_hashed(either: str) -> None:
    """Anything else is a TypeError, also among bytes."""
    with pytest.raises(TypeError):
        md5_many([b"1", b"2", "3", b"4"])  # type: ignore[list-item]


def test_threads_do_not_disturb_each_other(either: str) -> None:
    """The extension runs without the interpreter's lock, and keeps nothing between calls."""
    texts = [random.Random(n).randbytes(n * 997 % 50_000) for n in range(40)]
    expected, found = [md5(text) for text in texts], []

    def work() -> None:
        found.extend([md5_many(texts) == expected for _ in range(20)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def summed(paths: list[Path], room: int, sizes: dict[Path, int] | None = None) -> list[tuple[str, str] | int]:
    """Hash files side by side, all at once; an error's number in place of checksums."""
    if native.NATIVE is None:
        pytest.skip("the C extension was not built (no compiler?)")
    sums, done = FileSums(len(paths), bytearray(room)), [0] * len(paths)
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    found: list[tuple[str, str] | int | None] = [None] * len(paths)
    try:
        while None in found:
            size_of = {path: path.stat().st_size for path in paths} | (sizes or {})
            files = [
                (-1, 0, 0) if ended is not None else (fd, read, size_of[path])
                for fd, read, path, ended in zip(fds, done, paths, found, strict=True)
            ]
            now = sums.advance(files)
            for index, (path, read) in enumerate(zip(paths, now, strict=True)):
                if found[index] is None and (read < 0 or read == size_of[path]):
                    found[index] = sums.take(index) if read >= 0 else -read
            done = now
    finally:
        for fd in fds:
            os.close(fd)
    return [each for each in found if each is not None]


@pytest.mark.parametrize("seed", range(12))
def test_large_files_side_by_side(tmp_path: Path, seed: int) -> None:
    """Files of any length in chunks of any, each read to its end: as the libraries have it."""
    chance = random.Random(seed)
    count = chance.choice([1, 2, 5, 16, 20])
    edges = [0, 1, 240, 241, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4096 + 63, 5000, 65_536, 65_537]
    texts = [chance.randbytes(chance.choice([*edges, chance.randrange(90_000)])) for _ in range(count)]
    paths = [tmp_path / str(index) for index in range(count)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    room = chance.choice([1024, 3000, 4096, 70_000]) * count
    assert summed(paths, room) == [(md5(text), xxhash.xxh3_128_hexdigest(text)) for text in texts]


def test_a_large_file_that_ends_early_or_cannot_be_read(tmp_path: Path) -> None:
    """Has an error's number, and the others their checksums."""
    paths = [tmp_path / name for name in ("short", "whole")]
    for path in paths:
        path.write_bytes(b"x" * 5000)
    paths.append(tmp_path)  # a directory can be opened, and not be read
    found = summed(paths, 3 * 1024, {paths[0]: 6000, tmp_path: 10})
    whole = (md5(b"x" * 5000), xxhash.xxh3_128_hexdigest(b"x" * 5000))
    assert found == [errno.ESTALE, whole, errno.EISDIR]


def test_large_files_need_room() -> None:
    """For a block of each, and for the checksums of each."""
    if native.NATIVE is None:
        pytest.skip("the C extension was not built (no compiler?)")
    for files, room in ([(-1, 0, 0)] * 2, 2047), ([(-1, 0, 0)] * 3, 100_000):
        with pytest.raises(ValueError, match="room"):
            FileSums(2, bytearray(room)).advance(files)
    with pytest.raises(IndexError):
        FileSums(2, bytearray(2048)).take(2)
