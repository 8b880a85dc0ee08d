"""Many small files by one answer: the version as an archive, each file checked and published like any other.

One request for each of ten thousand files takes longer than all of their bytes. What does not come this way
(a service that has no archives or too many at once, a file that is not what the manifest says, the rest after
a broken connection) is left to be asked for one by one.
"""

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Mapping
from http.client import HTTPResponse
from urllib.parse import quote

from gobblerd.client import transport
from gobblerd.client.cache import Cache
from gobblerd.client.download import Want
from gobblerd.client.errors import GobblerError
from gobblerd.client.parallel import Meter, Stop

SMALL = 1 << 16  # bytes of a file that is better fetched with others
FEWEST = 100  # for so many files this is worth it
_OK = 200


class _Answer:
    """An answer as `tarfile` reads it."""

    def __init__(self, reply: HTTPResponse, stop: Stop) -> None:
        self._reply, self._stop = reply, stop

    def read(self, size: int) -> bytes:
        self._stop.check()
        return transport.receive(self._reply, size)


def fetch_packed(
    cache: Cache, url: str, version: str, wants: Mapping[str, Want], meter: Meter, stop: Stop
) -> set[str]:
    """Have as many as possible of a version's files in the cache; return which ones there are now.

    `wants` has what is wanted by its path in the version; all of them have something `expected`.
    """
    done: set[str] = set()
    with contextlib.suppress(transport.Lost, tarfile.TarError, GobblerError):
        path = f"/archive/{quote(version, errors='surrogateescape')}.tar"
        with transport.get(url, path) as reply:
            if reply.status != _OK:
                transport.receive(reply)
                return done
            with tarfile.open(fileobj=_Answer(reply, stop), mode="r|") as archive:  # type: ignore[call-overload]  # it only reads
                for member in archive:
                    archive.members = []  # or it keeps all of them
                    name = member.name.partition("/")[2]
                    if member.isreg() and name in wants and member.size == _size(wants[name]):
                        content = archive.extractfile(member)
                        if content is not None and _keep(cache, wants[name], content.read(), stop):
                            done.add(name)
                            meter.add(1, member.size)
    return done


def _size(want: Want) -> int:
    return -1 if want.expected is None else want.expected.size


def _keep(cache: Cache, want: Want, data: bytes, stop: Stop) -> bool:
    """Publish a file; False, and nothing done, if it is another or somebody else is at it."""
    expected = want.expected
    if expected is None or hashlib.md5(data, usedforsecurity=False).hexdigest() != expected.md5sum:
        return False
    target = cache.target(want.path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with cache.part(want.path, stop, wait=False) as part:
        if part is None:
            return False
        part.fill(data)
        part.publish(target)
    return True
