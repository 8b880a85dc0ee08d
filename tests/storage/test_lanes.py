"""MD5 side by side gives what hashlib gives, whatever the lengths, pieces and number of streams."""

import hashlib
import random
import threading

import pytest

from gobblerd.storage.lanes import md5_many, streams

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
