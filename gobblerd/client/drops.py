"""Requests by file (spec/requests.md): write, rename, wait for the answer, clean up.

`submit` is the one way by which every request of this package goes; with a URL the answer comes by POST,
and if that connection is lost, by file after all. Nothing here lists a directory: a staging directory may
hold a hundred thousand entries. Limit: a request that is interrupted after it has begun is carried out.
"""

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gobblerd.client.errors import GobblerTimeout, GobblerUnreachable, failure, refusal
from gobblerd.client.waiting import Waiting, told
from gobblerd.domain.where import made_in

RESPONSES = "responses"
SILENCE = 60.0  # seconds without an answer or any sign of life, after which nobody is waited for
_STATUS = ".status.json"  # what the daemon renews every few seconds: its sign of life
_FIRST_PAUSE = 0.001  # seconds between two looks for the answer, growing to the last
_LAST_PAUSE = 0.25
_GROWTH = 1.5
_OK = 200
_ERRORS_FROM = 300  # pygobbler's bound
_ENVELOPE = frozenset(  # keys of a response file that are about the request, not of the action's answer
    {"status", "request", "action", "user", "code", "started", "finished", "identity", "ignored"}
)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Answer(NamedTuple):
    """The code of an answer, and its document without what is about the request."""

    code: int
    body: Mapping[str, Any]


class Dropped(NamedTuple):
    """A request file in staging; `private`: others, perhaps the daemon, may not read it."""

    name: str
    private: bool


def submit(
    staging: str | None,
    url: str | None,
    action: str,
    fields: Mapping[str, Any],
    *,
    spoof: str | None = None,
    timeout: float | None = None,
    waiting: Waiting | None = None,
) -> dict[str, Any]:
    """Ask for `action` and return the answer's own keys.

    With `url=None` nothing but the staging directory is needed. `timeout`: seconds to wait for the answer;
    by default for as long as the daemon shows signs of life; math.inf: for ever. `waiting` is called
    about once a second, from another thread, with the bytes that the daemon has done, and has to do (0: not
    known). Raises GobblerError if the request is refused, GobblerTimeout without an answer. The request file
    is removed in every case: what has not begun is thereby withdrawn.
    """
    if not staging:
        raise failure(GobblerUnreachable, None, "requests need a staging directory, and none is given")
    if not url:
        _require_served(staging)
    document = fields if spoof is None else {**fields, "spoof": spoof}
    with _dropped(staging, action, document) as request:
        ask = functools.partial(_posted, url) if url else wait
        answer = ask(staging, request.name, timeout, waiting)
    if answer.code >= _ERRORS_FROM:
        raise refusal(answer.code, _explained(answer.body, request))
    return {key: value for key, value in answer.body.items() if key not in _ENVELOPE}


def dump_request(
    staging: str, url: str, action: str, payload: Mapping[str, Any], spoof: str | None = None
) -> dict[str, Any]:
    """Do what the function of this name in pygobbler's `_utils` does: return the answer with its status."""
    return {"status": "SUCCESS", **submit(staging, url, action, payload, spoof=spoof)}


def wait(staging: str, name: str, timeout: float | None = None, waiting: Waiting | None = None) -> Answer:
    """Wait for the response file of a request that lies in staging; GobblerTimeout as in `submit`."""
    patience = _Patience(staging, name, timeout)
    pause = _FIRST_PAUSE
    with told(_status(staging), name, waiting):
        while (answer := recorded(staging, name)) is None:
            time.sleep(min(pause, patience.left()))
            pause = min(pause * _GROWTH, _LAST_PAUSE)
    return answer


def recorded(staging: str, name: str) -> Answer | None:
    """Return what the response file of a request says; None while there is none."""
    try:
        # Opening the directory makes NFS ask the server whether its entries have changed.
        directory = os.open(os.path.join(staging, RESPONSES), _READ_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    finally:
        os.close(directory)
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        document = json.load(file)
    code = document.get("code", _OK)
    return Answer(code, {key: value for key, value in document.items() if key not in _ENVELOPE})


@contextlib.contextmanager
def _dropped(staging: str, action: str, document: Mapping[str, Any]) -> Iterator[Dropped]:
    """Have a request file in staging for the length of a block."""
    if "/" in action or not action:
        raise ValueError(f"{action!r} is not the name of an action")
    body = json.dumps(document, allow_nan=False).encode("ascii")
    token = os.urandom(8).hex()
    temporary = os.path.join(staging, f".gobbler-{token}")
    request = os.path.join(staging, f"request-{action}-{token}")
    try:
        with made_in(staging):
            private = _write(temporary, body)
        os.rename(temporary, request)
        yield Dropped(os.path.basename(request), private)
    finally:
        for path in (request, temporary):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _write(path: str, body: bytes) -> bool:
    """Write a file with the rights that umask and default ACLs give; tell whether others may not read it.

    No chmod: where there is an ACL, it would change the mask, and with it everybody's rights.
    """
    with open(os.open(path, _CREATE, 0o666), "wb") as file:
        file.write(body)
        return not os.fstat(file.fileno()).st_mode & 0o044


def _posted(url: str, staging: str, name: str, timeout: float | None, waiting: Waiting | None) -> Answer:
    from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

    try:
        with told(_status(staging), name, waiting):
            code, body = transport.post(url, f"/new/{name}", timeout)
    except transport.Lost as lost:
        # The daemon went away, or a proxy lost patience. The request is still there, and so is the answer
        # or will be, once a daemon serves again; if it is not a service that leaves none.
        if not _is_served(staging):
            raise lost.error from None
        return wait(staging, name, timeout, waiting)
    return Answer(code, body)


def _status(staging: str) -> str:
    return os.path.join(staging, RESPONSES, _STATUS)


def _is_served(staging: str) -> bool:
    os.close(os.open(staging, _READ_DIRECTORY))  # NFS asks again; a wrong path shows
    return os.path.isdir(os.path.join(staging, RESPONSES))


def _require_served(staging: str) -> None:
    if not _is_served(staging):
        reason = f"no gobblerd has served {staging} yet (it holds no directory {RESPONSES}): is this the "
        raise failure(GobblerUnreachable, None, reason + "staging directory, and was the daemon started?")


def _explained(body: Mapping[str, Any], request: Dropped) -> Mapping[str, Any]:
    """Add to a refusal what only the client knows."""
    if not request.private:
        return body
    hint = "this process's umask keeps its files from everybody else: try again with umask 022"
    return {**body, "reason": f"{body.get('reason', '')} ({hint})"}


class _Patience:
    """How long an answer is waited for: a bound of the caller's, or until the daemon is silent for long."""

    def __init__(self, staging: str, name: str, timeout: float | None) -> None:
        self._staging = staging
        self._name = name
        self._begun = time.monotonic()
        self._bound = timeout
        self._silence = SILENCE
        self._sign = self._sign_of_life()
        self._deadline = self._begun + (SILENCE if timeout is None else timeout)

    def left(self) -> float:
        """Return how many seconds are left; GobblerTimeout if none."""
        now = time.monotonic()
        if now >= self._deadline and self._bound is None and (sign := self._sign_of_life()) != self._sign:
            self._sign, self._deadline = sign, now + self._silence
        if now >= self._deadline:
            raise self._exhausted(now - self._begun)
        return self._deadline - now

    def _sign_of_life(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            status = os.stat(_status(self._staging))
            return status.st_ino, status.st_mtime_ns
        return None

    def _exhausted(self, seconds: float) -> GobblerTimeout:
        reason = f"no gobblerd has answered {self._name} within {seconds:.0f} s: is the daemon watching "
        reason += f"{self._staging}? `gobblerd status {self._staging}` tells. The request is withdrawn, if "
        error = failure(GobblerTimeout, None, reason + "it had not begun.")
        assert isinstance(error, GobblerTimeout)
        return error
