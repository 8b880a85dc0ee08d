"""Directories to upload: many files whose bytes differ, written as fast as a disk takes them."""

import os
from collections.abc import Iterator

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_BLOCK = os.urandom(MIB)  # random, so that nothing on the way can make it smaller


def write_files(top: str, count: int, size: int, *, per_directory: int = 0, seed: int = 0) -> int:
    """Write `count` files of `size` bytes, no two alike; return the bytes of all.

    With `per_directory`, in subdirectories of so many. Equal seeds give equal files within one process.
    """
    os.makedirs(top)
    for number in range(count):
        directory = os.path.join(top, f"d{number // per_directory:04}") if per_directory else top
        if per_directory and number % per_directory == 0:
            os.mkdir(directory)
        with open(os.path.join(directory, f"f{number:06}"), "wb", buffering=0) as file:
            file.writelines(_content(number, size, seed))
    return count * size


def _content(number: int, size: int, seed: int) -> Iterator[bytes | memoryview]:
    head = f"{seed}-{number}-".encode()[:size]
    yield head
    left = size - len(head)
    block = memoryview(_BLOCK)
    while left > 0:
        yield block[: min(left, MIB)]
        left -= MIB


def write_symlinks(top: str, target: str, names: list[str]) -> None:
    """Write symbolic links of these names to the files of the same names below `target`."""
    os.makedirs(top)
    for name in names:
        os.symlink(os.path.join(target, name), os.path.join(top, name))
