"""Dropping a request without waiting for its answer: it stays in staging when `gobbler` ends.

The client's own `submit` removes the request in the end, since an answer that nobody waits for is not
wanted; here somebody will, with `gobbler wait`.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from gobblerd.domain.where import made_in

COPY_PREFIX = "copy-"  # what `upload --no-wait` leaves in staging, and `wait` clears away
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def clear_copy(path: str) -> None:
    """Remove the copy of a directory, or of an archive with its receipt, if it is there."""
    import shutil  # noqa: PLC0415 - 10 ms that are needed only after a copy

    from gobblerd.client.copying import RECEIPT_SUFFIX  # noqa: PLC0415 - as above

    for each in (path, f"{path}{RECEIPT_SUFFIX}"):
        with contextlib.suppress(OSError):
            os.unlink(each)
    shutil.rmtree(path, ignore_errors=True)


def drop(staging: str, action: str, fields: Mapping[str, Any]) -> str:
    """Write a request under another name, then rename it; return its name."""
    token = os.urandom(8).hex()
    temporary, name = os.path.join(staging, f".gobbler-{token}"), f"request-{action}-{token}"
    try:
        with made_in(staging), open(os.open(temporary, _CREATE, 0o666), "w", encoding="ascii") as file:
            json.dump(fields, file)
        os.rename(temporary, os.path.join(staging, name))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return name
