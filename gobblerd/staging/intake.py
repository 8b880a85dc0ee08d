"""One open, and judging what was opened: whose request it is, whether it is complete, whether it may be.

The file is opened once, by its single name relative to the staging directory, without following a link
and without blocking; owner, size, links and bytes come from that descriptor. No later room touches the
path again. What could not be opened is judged by lstat, and only ever refused (or is a health check).

Known limit: a file that is rewritten without end is read again about once a second.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import xxhash

from gobblerd.domain.document import parse_object
from gobblerd.domain.errors import Busy, Exceeded, Forbidden, Plain, Refused, Wrong
from gobblerd.domain.messages import Claim, Identity, action_of, check_request_name
from gobblerd.domain.times import NANOSECONDS
from gobblerd.staging.directory import Staging
from gobblerd.staging.index import is_same
from gobblerd.staging.look import Found, Gone, Hint, Look, Refusal, Stamp, Unsettled
from gobblerd.staging.settings import SpoolLimits
from gobblerd.staging.users import NOBODY, NameServiceFailed, Users
from gobblerd.storage.files import READ_FILE, read_all
from gobblerd.storage.handles import handle_of
from gobblerd.storage.single import LOST, Status, has_lost_its_name, read_whole

HEALTH_CHECK = "health_check"
_CHANGING_WAIT = 0.02  # seconds; it changed while we looked
_TROUBLE_WAIT = 1.0  # seconds; storage or name service
_JUDGED_UNOPENED = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV})


class Opener(Protocol):
    """What opens request files: `os.open`."""

    def __call__(self, path: str, flags: int, *, dir_fd: int) -> int:
        """Return a descriptor; raises OSError."""
        ...


class _Sighting(NamedTuple):
    """A file at one moment, with what the refusals need."""

    identity: Identity
    status: Status
    user: str
    nameless: str  # why the user's name is not known
    age: float  # seconds
    stamp: Stamp
    since: float
    handle: bytes

    @property
    def action(self) -> str:
        return action_of(self.identity.name) or ""

    def refusal(self, code: int, error: Refused) -> Refusal:
        uid = self.status.uid
        return Refusal(self.identity, self.action, uid, self.user, code, error.reason, self.handle)

    def unsettled(self, wait: float) -> Unsettled:
        return Unsettled(
            self.identity.name,
            wait,
            "",
            self.identity,
            self.status.uid,
            self.user,
            self.stamp,
            self.since,
        )

    def digested(self, body: bytes) -> Identity:
        name, inode, mtime_ns, size = self.identity.key
        return Identity(name, inode, mtime_ns, size, xxhash.xxh3_64_hexdigest(body))

    def claim(self, identity: Identity, body: bytes) -> Found:
        return Found(identity, self.action, self.status.uid, self.user, body, self.handle)


class _Ask(NamedTuple):
    """What is to be looked at, and what is known of it."""

    name: str
    hint: Hint
    earlier: Unsettled | None = None  # what the last look said
    known: Claim | None = None  # a queued claim that is looked at again


class Intake:
    """Looks at request files; thread-safe, keeps nothing of them."""

    def __init__(
        self,
        staging: Staging,
        limits: Callable[[], SpoolLimits],
        users: Users | None = None,
        opener: Opener = os.open,
    ) -> None:
        self._staging = staging
        self._limits = limits
        self._users = users or Users()
        self._open = opener
        self._handles = staging.filesystem.has_generations

    def look(self, name: str, hint: Hint, earlier: Unsettled | None = None) -> Look:
        """Open the file and judge it; `earlier` is what the last look at it said, if it was unsettled."""
        return self._guarded(_Ask(name, hint, earlier))

    def again(self, claim: Claim) -> Look:
        """Look once more at a queued claim's file; ages no longer count.

        The result is that claim if nothing changed, a claim of the same inode and digest after a late
        touch, and what `look` says if it is another request by now.
        """
        return self._guarded(_Ask(claim.name, Hint.RENAMED, known=claim))

    def sight(self, name: str, reason: str) -> Refusal | None:
        """Return the refusal, for `reason`, of whatever is there, unopened; None if nothing is. OSError."""
        try:
            status = self._unopened_status(name)
        except FileNotFoundError:
            return None
        seen = self._sighting(_Ask(name, Hint.POSTED), status, b"")
        return seen.refusal(400, Wrong("{reason}", reason=Plain(reason)))

    def name_of(self, uid: int) -> str:
        """Return a user's name; NameServiceFailed."""
        return self._users.name(uid)

    def _guarded(self, ask: _Ask) -> Look:
        try:
            return self._opened(ask)
        except FileNotFoundError:
            return Gone(ask.name)
        except NameServiceFailed as error:
            return Unsettled(ask.name, _TROUBLE_WAIT, str(error))
        except OSError as error:
            return Unsettled(ask.name, _TROUBLE_WAIT, f"the request file cannot be read: {error.strerror}")

    def _opened(self, ask: _Ask) -> Look:
        if self._open is os.open and (look := self._ordinary(ask)):
            return look
        try:
            fd = self._open(ask.name, READ_FILE, dir_fd=self._staging.fd)
        except OSError as error:
            if error.errno in _JUDGED_UNOPENED:
                return self._unopened(ask, error)
            raise
        try:
            return self._judged(ask, fd)
        finally:
            os.close(fd)

    def _ordinary(self, ask: _Ask) -> Look | None:
        """Read and judge a file in one go; None if anything about it is out of the ordinary."""
        most = self._limits().max_request_bytes
        found = read_whole(ask.name, READ_FILE, most, dir_fd=self._staging.fd, handles=self._handles)
        if found is None:
            return None
        seen = self._sighting(ask, found.status, found.handle)
        return self._refusal(seen, ask) or self._unwritten(seen, ask) or self._settled(ask, seen, found.body)

    def _judged(self, ask: _Ask, fd: int) -> Look:
        status = Status.of(os.fstat(fd))
        if status.links == 0 or (not ask.name.endswith(LOST) and has_lost_its_name(fd)):
            return Gone(ask.name)
        seen = self._sighting(ask, status, handle_of(fd) if self._handles else b"")
        if look := self._refusal(seen, ask) or self._unwritten(seen, ask):
            return look
        body = read_all(fd, self._limits().max_request_bytes)
        if len(body) != status.size or _stamp(Status.of(os.fstat(fd))) != seen.stamp:
            return seen.unsettled(_CHANGING_WAIT)
        return self._settled(ask, seen, body)

    def _unwritten(self, seen: _Sighting, ask: _Ask) -> Unsettled | None:
        """Return for how long a file that may still be written to is to be left alone, or None."""
        settle = self._limits().write_settle
        if ask.hint in {Hint.CLOSED, Hint.SWEPT} and seen.age < settle:
            return seen.unsettled(settle - seen.age)
        return None

    def _settled(self, ask: _Ask, seen: _Sighting, body: bytes) -> Look:
        """Return the claim if the bytes are a whole request, or nothing more is to be waited for."""
        known = ask.known
        if known is not None and _unchanged(known, seen, body):
            return known
        identity = seen.digested(body)
        if seen.action == HEALTH_CHECK:
            return seen.claim(identity, b"{}")
        claim = seen.claim(identity, body)
        touched = known is not None and is_same(known.identity, identity)
        if touched or (ask.hint is Hint.POSTED and body):
            return claim
        left = self._limits().request_settle - seen.age
        return claim if left <= 0 or _is_complete(body) else seen.unsettled(left)

    def _unopened(self, ask: _Ask, error: OSError) -> Look:
        """Judge a file that cannot be opened: no regular file, or one that is closed to us."""
        status = self._unopened_status(ask.name)
        seen = self._sighting(ask, status, b"")
        if refusal := self._refusal(seen, ask):
            return refusal
        if error.errno not in {errno.EACCES, errno.EPERM}:  # it was something else when we opened it
            return seen.unsettled(_CHANGING_WAIT)
        if seen.action == HEALTH_CHECK:
            return seen.claim(seen.identity, b"{}")
        left = self._limits().request_settle - seen.age
        if left > 0 and not (ask.hint is Hint.POSTED and status.size):  # its chmod may follow
            return seen.unsettled(left)
        return seen.refusal(
            400,
            Wrong(
                "gobblerd may not read the request file (mode {mode}): chmod a+r {name} before renaming it",
                mode=Plain(f"{stat.S_IMODE(status.mode):04o}"),
                name=ask.name,
            ),
        )

    def _unopened_status(self, name: str) -> Status:
        return Status.of(os.stat(name, dir_fd=self._staging.fd, follow_symlinks=False))

    def _sighting(self, ask: _Ask, status: Status, handle: bytes) -> _Sighting:
        user, nameless = self._user(status.uid, ask)
        stamp, now, earlier = _stamp(status), time.monotonic(), ask.earlier
        since = earlier.since if earlier is not None and earlier.stamp == stamp else now
        age = (self._staging.clock.now() - status.ctime_ns) / NANOSECONDS
        return _Sighting(
            identity=Identity(ask.name, status.inode, status.mtime_ns, status.size),
            status=status,
            user=user,
            nameless=nameless,
            age=max(age, now - since),  # the file server's clock may have been set back
            stamp=stamp,
            since=since,
            handle=handle,
        )

    def _user(self, uid: int, ask: _Ask) -> tuple[str, str]:
        """Return the user's name and ""; for a POST, who waits, the UID and why there is no name."""
        if ask.known is not None and ask.known.uid == uid:
            return ask.known.user, ""
        try:
            return self._users.name(uid), ""
        except NameServiceFailed as error:
            if ask.hint is not Hint.POSTED:
                raise
            return str(uid), str(error)

    def _refusal(self, seen: _Sighting, ask: _Ask) -> Refusal | None:
        """Return why the request is refused unread, or None."""
        status, limits = seen.status, self._limits()
        if seen.nameless:
            return seen.refusal(503, Busy("{why}; nothing was done, drop it again", why=Plain(seen.nameless)))
        if not stat.S_ISREG(status.mode):
            what = "a symbolic link" if stat.S_ISLNK(status.mode) else "not a regular file"
            return seen.refusal(400, Wrong("the request file is {what}", what=Plain(what)))
        if status.links > 1:
            return seen.refusal(400, Wrong("the request file has more than one hard link"))
        if status.size > limits.max_request_bytes:
            return seen.refusal(
                413,
                Exceeded(
                    "the request file has {size} bytes, and at most {most} are allowed",
                    size=status.size,
                    most=limits.max_request_bytes,
                ),
            )
        if status.uid == NOBODY:
            return seen.refusal(
                403,
                Forbidden(
                    "requests of nobody (user {uid}) are not taken: use an account of your own", uid=NOBODY
                ),
            )
        return _misnamed(seen) or (_too_old(seen, ask.hint, limits) if ask.known is None else None)


def _stamp(status: Status) -> Stamp:
    return Stamp(status.inode, status.mtime_ns, status.size, status.ctime_ns)


def _unchanged(known: Claim, seen: _Sighting, body: bytes) -> bool:
    if known.identity.key != seen.identity.key or known.uid != seen.status.uid:
        return False
    return known.action == HEALTH_CHECK or known.body == body


def _is_complete(body: bytes) -> bool:
    """Tell whether the bytes are one JSON object; no proper prefix of one is."""
    try:
        parse_object(body)
    except Wrong:
        return False
    return True


def _misnamed(seen: _Sighting) -> Refusal | None:
    if seen.identity.name.endswith(LOST):
        return seen.refusal(400, Wrong("a request file's name may not end in {ending}", ending=LOST))
    try:
        check_request_name(seen.identity.name)
    except Wrong as error:
        return seen.refusal(400, error)
    return None


def _too_old(seen: _Sighting, hint: Hint, limits: SpoolLimits) -> Refusal | None:
    most = limits.request_expiry
    if hint is Hint.POSTED:
        most = min(most, limits.post_expiry)
    if seen.age <= most:
        return None
    return seen.refusal(
        400,
        Wrong(
            "the request file is {age} s old, more than the {most} s in which it is executed: drop it again",
            age=int(seen.age),
            most=Plain(f"{most:g}"),
        ),
    )
