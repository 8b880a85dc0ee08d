"""File handles: what tells a file from a later one that was given the same inode number.

A client that drops, awaits and removes requests in a tight loop gets the same inode number each time, and,
with kernels whose clock ticks every 4 ms, often the same mtime too. The handle of name_to_handle_at(2)
holds the inode's generation as well. Kept in memory only, and only for filesystems known to give stable
handles (staging/mounts.py, `has_generations`).
"""

import ctypes

_AT_EMPTY_PATH = 0x1000
_HANDLE_MAX = 128  # MAX_HANDLE_SZ
_HEADER_BYTES = 8  # struct file_handle: unsigned handle_bytes; int handle_type
_CALL = getattr(ctypes.CDLL(None), "name_to_handle_at", None)


def handle_of(fd: int) -> bytes:
    """Return the handle of an open file, b"" where there is none to be had."""
    if _CALL is None:
        return b""
    buffer = ctypes.create_string_buffer(_HEADER_BYTES + _HANDLE_MAX)
    length = ctypes.c_uint.from_buffer(buffer)
    length.value = _HANDLE_MAX
    mount = ctypes.c_int()
    if _CALL(fd, b"", buffer, ctypes.byref(mount), _AT_EMPTY_PATH):
        return b""
    return bytes(buffer.raw[4 : _HEADER_BYTES + length.value])
