"""Response files: `responses/<request file name>`, written atomically, mode 0644, by us alone.

Names beginning with "." in `responses/` are the daemon's own. Knows nothing of who waits for a response.
"""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from gobblerd.domain.messages import REQUEST_PREFIX, Identity, Response, error_body
from gobblerd.domain.times import format_time, parse_time
from gobblerd.staging.directory import RESPONSES, Staging
from gobblerd.storage.files import (
    READ_DIRECTORY,
    READ_FILE,
    opened,
    read_all,
    replace_file,
    sync,
    write_opened,
)

_log = structlog.get_logger()
_TEMPORARY = ".new-"
_MOST_BYTES = 1 << 30
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)  # an odd answer is an answer


@dataclass(frozen=True, slots=True)
class Recorded:
    """A response file found at start; `written_ns` is its mtime."""

    response: Response
    written_ns: int


def error_response(
    identity: Identity, action: str, user: str, code: int, reason: str, *, now: int
) -> Response:
    """Return the response of a request that was not executed, at `now` (nanoseconds)."""
    moment = format_time(now)
    return Response(identity, action, user, code, error_body(reason), moment, moment)


def response_bytes(response: Response) -> bytes:
    """Return the JSON of a response file, with "?" for the undecodable bytes of a file's name."""
    document = response.document()
    try:
        data = msgspec.json.encode(document, enc_hook=str)
    except UnicodeEncodeError:
        data = _ENCODER.encode(document).encode("utf-8", "replace")
    return msgspec.json.format(data, indent=4)


def is_later(one: Response, other: Response) -> bool:
    """Tell whether a response was finished after another."""
    try:
        return parse_time(one.finished) > parse_time(other.finished)
    except ValueError:
        return False


class ResponseFiles:
    """Writes, reads and removes response files; thread-safe."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._fd = staging.responses_fd
        self._number = itertools.count()
        self._prepared: dict[str, tuple[str, Response]] = {}  # request -> temporary file, what it holds

    def prepare(self, response: Response) -> int | None:
        """Write the bytes beforehand, so that they are settled together with the transaction's; OSError.

        Returns the descriptor to be settled and closed; None where that would save nothing.
        """
        disk, name = self._staging.disk, response.identity.name
        if not disk.is_durable or disk.syncs_names:
            return None
        self._discard(name)
        temporary = self._temporary()
        try:
            fd = write_opened(temporary, response_bytes(response), dir_fd=self._fd)
        except OSError:
            self._unlink(temporary)
            raise
        self._prepared[name] = temporary, response
        return fd

    def _temporary(self) -> str:
        return f"{_TEMPORARY}{next(self._number)}"

    def _discard(self, name: str) -> None:
        if (prepared := self._prepared.pop(name, None)) is not None:
            self._unlink(prepared[0])

    def _unlink(self, temporary: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=self._fd)

    def write(self, response: Response, *, recorded: bool = False) -> None:
        """Write the file durably, replacing what an older request of that name was answered; OSError.

        Its bytes are durable no later than its name, lest a power cut leave an empty file. `recorded`: a
        transaction's record holds it too, and stays until `sync`; so its name need not be durable yet. What
        was prepared for that transaction is only renamed.
        """
        name, disk = response.identity.name, self._staging.disk
        temporary, prepared = self._prepared.get(name, ("", None))
        if recorded and prepared == response:
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            del self._prepared[name]
            return
        self._discard(name)
        temporary, data, names = self._temporary(), response_bytes(response), not recorded
        try:
            replace_file(self._fd, temporary, name, data, disk.durability, settle=disk.settle, names=names)
        except OSError as error:
            raise OSError(error.errno, error.strerror, RESPONSES) from error

    def sync(self) -> None:
        """Make all that was written durable; OSError."""
        sync(self._fd)

    def read(self, name: str) -> Response | None:
        """Return what is recorded under a request's file name; OSError if that cannot be told."""
        try:
            return self._read(name).response
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("response file is unreadable", request=name, error=repr(error))
            return None

    def remove(self, name: str) -> None:
        """Remove the file; OSError."""
        os.unlink(name, dir_fd=self._fd)

    def names(self) -> Iterator[str]:
        """Yield the names of the response files."""
        with opened(".", READ_DIRECTORY, dir_fd=self._fd) as fd, os.scandir(fd) as entries:
            yield from (entry.name for entry in entries if entry.name.startswith(REQUEST_PREFIX))

    def load(self) -> Iterator[Recorded]:
        """Yield what is recorded; unreadable files are logged and passed over."""
        for name in self.names():
            try:
                yield self._read(name)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("response file is unreadable", request=name, error=repr(error))

    def remove_leftovers(self) -> None:
        """Remove half-written files of a daemon that was killed."""
        with opened(".", READ_DIRECTORY, dir_fd=self._fd) as fd, os.scandir(fd) as entries:
            for entry in entries:
                if entry.name.startswith(_TEMPORARY):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.name, dir_fd=self._fd)

    def _read(self, name: str) -> Recorded:
        with opened(name, READ_FILE, dir_fd=self._fd) as fd:
            written = os.fstat(fd).st_mtime_ns
            document = json.loads(read_all(fd, _MOST_BYTES))
        response = Response.from_document(_checked(document))
        return Recorded(_addressed(response, name), written)


def _checked(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get("code"), int):
        raise TypeError("not a response")
    return document


def _addressed(response: Response, name: str) -> Response:
    """Let the file's own name count: it is what the request is known by."""
    return replace(response, identity=replace(response.identity, name=name))
