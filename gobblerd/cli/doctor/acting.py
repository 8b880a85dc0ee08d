"""Doing something as another user: in a forked child, which gives up root for good before it begins.

What the child's function returns or raises comes back by a pipe. Only root can; a child that dies without
an answer is an error of its own. What the function needs must be imported already: Python's own library may
lie where only root can read it.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ChildDiedError(Exception):
    """The child ended without saying what it found."""


def acting_as(uid: int, gid: int, groups: list[int], do: Callable[[], T]) -> T:
    """Return what `do` returns when it is done by a user; raises what it raises."""
    if os.geteuid() == uid:
        return do()
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(uid, gid, groups, do, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise ChildDiedError(f"what was tried as user {uid} died")
    returned, value = pickle.loads(data)  # noqa: S301 - written by our own fork
    if not returned:
        raise value
    return cast("T", value)


def _be_child(uid: int, gid: int, groups: list[int], do: Callable[[], Any], write: int) -> None:
    """Become the user, do it, and end without returning."""
    try:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            # Not to be left behind by a killed parent.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            answer = (True, do())
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = (False, error)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stderr.flush()
    finally:
        os._exit(0)
