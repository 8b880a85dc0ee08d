"""The C extensions, if they were built and do what they should; everything works without, only slower.

Checksums are tried against hashlib and xxhash each time it is imported: a compiler that got them wrong costs
speed, not data.
"""

import hashlib
from types import ModuleType

import xxhash

# Lengths around MD5's padding, many enough for every lane, unequal so that lanes end at different times;
_LANES = (0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 191, 1000, 4096, 4097, 5000, 3, 64, 8191, 2, 700)
_LENGTHS = (*_LANES, 8, 16, 240)  # and where xxh3 goes another way


def _loaded() -> ModuleType | None:
    try:
        from gobblerd.storage import _native  # noqa: PLC0415 - optional, so not at the top
    except ImportError:
        return None
    is_old = not hasattr(_native, "digest_names")  # built from sources of before, in a checkout
    return _native if not is_old and agrees(_native) else None


def agrees(native: ModuleType) -> bool:
    """Tell whether the extension's digests are those of hashlib, in one go and in pieces, and of xxhash."""
    pattern = bytes(index * index % 251 for index in range(max(_LENGTHS)))
    texts = [pattern[:length] for length in _LENGTHS]
    expected = b"".join(hashlib.md5(text, usedforsecurity=False).digest() for text in texts)
    at_once, in_pieces = native.md5_start(len(texts)), native.md5_start(len(texts))
    native.md5_update(at_once, texts)
    for start, end in ((0, 1), (1, 70), (70, 3000), (3000, None)):
        native.md5_update(in_pieces, [text[start:end] for text in texts])
    return bool(
        native.md5_finish(at_once) == native.md5_finish(in_pieces) == expected
        and all(native.xxh3_128(text) == xxhash.xxh3_128_hexdigest(text) for text in texts)
    )


def _single() -> ModuleType | None:
    try:
        from gobblerd.storage import _single  # noqa: PLC0415 - optional, so not at the top
    except ImportError:
        return None
    return _single if hasattr(_single, "standing") else None  # not built from sources of before


NATIVE = _loaded()
SINGLE = _single()
