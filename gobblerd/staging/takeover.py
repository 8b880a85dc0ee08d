"""The takeover list: which request files lay in staging before gobblerd first served it.

They are answered "drop it again", never executed: the service that ran there before may have done them
already (spec/requests.md, "Once and only once"). The list is responses/.takeover; it appears together with
`responses/` itself, and goes when all its files are answered. An entry is a name and its inode number.

Limit: a listed file that its owner renames or rewrites before its turn comes counts as dropped anew.
"""

import contextlib
import json
import os

from gobblerd.storage.files import READ_FILE, opened, read_all

TAKEOVER = ".takeover"
REASON = "was here before gobblerd first served this directory: drop it again"
_MOST_BYTES = 1 << 30

Listed = frozenset[tuple[str, int]]


def takeover_bytes(listed: Listed) -> bytes:
    """Return the list as JSON (ASCII: undecodable names survive as lone surrogates)."""
    return json.dumps(sorted(listed)).encode("ascii")


def read_takeover(responses_fd: int) -> Listed:
    """Return what is still to be answered; empty when there is no list. ValueError if it is damaged."""
    try:
        with opened(TAKEOVER, READ_FILE, dir_fd=responses_fd) as fd:
            data = read_all(fd, _MOST_BYTES)
    except FileNotFoundError:
        return frozenset()
    return frozenset((str(name), int(inode)) for name, inode in json.loads(data))


def remove_takeover(responses_fd: int) -> None:
    """Remove the list: everything on it is answered."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(TAKEOVER, dir_fd=responses_fd)
