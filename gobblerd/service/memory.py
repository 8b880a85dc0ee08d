"""How the C library keeps memory: in few arenas, so that many threads do not each keep their own.

By default glibc gives every thread an arena, and what a thread has freed stays in it: a daemon of thirty
threads, of which each has once hashed or compressed something, keeps thirty times what one of them needs.
"""

import contextlib
import ctypes

_M_ARENA_MAX = -8  # mallopt(3)
_ARENAS = 2


def use_few_arenas() -> None:
    """Have all threads share two arenas; call it before there are any. Nothing happens without glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
