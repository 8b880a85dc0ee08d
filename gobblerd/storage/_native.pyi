# What _native.c offers; native.py says when it is used.
from collections.abc import Sequence
from typing import TypeAlias

Piece: TypeAlias = tuple[int, str, int]  # directory's descriptor, name, size in bytes
RawStamp: TypeAlias = tuple[int, int, int, int]  # inode, size, mtime and ctime in nanoseconds
Name: TypeAlias = tuple[str, int, RawStamp]  # name, mode

def md5_start(count: int, /) -> bytearray: ...
def md5_update(states: bytearray, buffers: Sequence[bytes | bytearray | memoryview], /) -> None: ...
def md5_finish(states: bytes | bytearray | memoryview, /) -> bytes: ...
def read_files(
    files: Sequence[Piece], buffer: bytearray | memoryview, flags: int, owner: int, /
) -> list[RawStamp | None]: ...
def write_files(
    files: Sequence[Piece],
    wanted: bytes | bytearray,
    buffer: bytearray | memoryview,
    flags: int,
    mode: int,
    /,
) -> None: ...
def list_directories(
    top_fd: int, paths: Sequence[str], nothing: RawStamp | None, files: dict[str, RawStamp], /
) -> list[tuple[bool, list[Name], int]]: ...
def survey_directory(fd: int, /) -> list[tuple[str, int, int | str | None]]: ...
def unlink_files(dir_fd: int, files: Sequence[tuple[str, RawStamp]], /) -> None: ...
