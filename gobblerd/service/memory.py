"""How the C library keeps memory: in few arenas, and not for ever what was freed in them.

By default glibc gives every thread an arena, and what a thread has freed stays in it: a daemon of thirty
threads, of which each has once hashed or compressed something, keeps thirty times what one of them needs.
And what is freed between things that stay is kept, too: for weeks a daemon grows, if less and less.
"""

import contextlib
import ctypes

_M_ARENA_MAX = -8  # mallopt(3)
_ARENAS = 2


def use_few_arenas() -> None:
    """Have all threads share two arenas; call it before there are any. Nothing happens without glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give the system back what was freed; takes some milliseconds. Nothing happens without glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
