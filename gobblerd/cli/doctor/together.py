"""Checks that need two nodes: each doctor carries out its half, in this order, and tells the other.

Who begins is decided by the tokens. Both come to a report of their own; what one saw of the other is said
in both.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gobblerd import __version__
from gobblerd.cli.doctor.events import Listener
from gobblerd.cli.doctor.findings import (
    Check,
    Found,
    Line,
    Result,
    examine,
    fail,
    lines_without_looking,
    ok,
    warn,
)
from gobblerd.cli.doctor.meeting import Meeting, NobodyCameError
from gobblerd.cli.doctor.site import Site, made_meeting
from gobblerd.registry import layout
from gobblerd.storage.clock import FileClock
from gobblerd.storage.files import Durability, opened, write_file

NOT_ASKED = "only with --peer, run on two nodes at once"
_SKEW_WARN, _SKEW_FAIL = 2.0, 60.0  # seconds
_SLOW_SIGHT = 5.0  # seconds
_SIGHT_MOST = 30.0  # seconds
_LOOKS = 0.05  # seconds
_GOT, _REFUSED = "got", "refused"


@dataclass(frozen=True, slots=True)
class Pair:
    """This node's end of two."""

    site: Site
    meeting: Meeting
    scratch: str  # our directory in staging, which the partner writes to
    patience: float  # seconds

    def exchange(self, key: str, value: Any) -> Any:
        """Say our half and hear the other's."""
        self.meeting.say(key, value)
        return self.meeting.hear(key)


def _same_place(pair: Pair) -> Found:
    mine = {
        "host": socket.gethostname(),
        "version": __version__,
        "uid": os.geteuid(),
        "marker": _marker(pair.site),
    }
    theirs = pair.exchange("who", mine)
    if theirs["marker"] != mine["marker"]:
        return fail("the two nodes see different markers, so two different registries")
    if theirs["uid"] != mine["uid"]:
        return fail(f"the account is user {mine['uid']} here and {theirs['uid']} on {theirs['host']}")
    if theirs["version"] != mine["version"]:
        return warn(f"gobblerd is {mine['version']} here and {theirs['version']} on {theirs['host']}")
    return ok(f"{mine['host']} and {theirs['host']} run gobblerd {__version__} as user {mine['uid']}")


def _marker(site: Site) -> str:
    try:
        with open(layout.join(site.registry, layout.MARKER), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _owners(pair: Pair) -> Found:
    """See a file that the other made, and whose it is here."""
    name = f"owner-{pair.meeting.token}"
    write_file(os.path.join(made_meeting(pair.site), name), b"1", Durability.PROCESS)
    theirs = os.path.join(pair.site.meeting, pair.exchange("owner", name))
    waited = _wait_for(lambda: os.path.exists(theirs), pair.patience)
    uid = os.stat(theirs).st_uid if waited is not None else None
    pair.exchange("owner-seen", uid)
    os.unlink(os.path.join(pair.site.meeting, name))
    if waited is None:
        return fail(f"a file that the other node made was not seen here within {pair.patience:.0f} s")
    if uid != os.geteuid():
        return fail(f"a file that the account made on the other node belongs to user {uid} here")
    text = f"files made on the other node are seen after {waited:.1f} s, under the same owner"
    return warn(text) if waited > _SLOW_SIGHT else ok(text)


def _wait_for(condition: Callable[[], bool], patience: float) -> float | None:
    """Return how long in seconds it took for the condition to hold; None if it did not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            return None
        time.sleep(_LOOKS)
    return time.monotonic() - began


def _locks(pair: Pair) -> Found:
    """Hold a lock on the first node while the second tries to get it, and again once it is free."""
    path = os.path.join(pair.site.meeting, f"lock-{min(pair.meeting.token, pair.meeting.partner)}")
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) as fd:
        if pair.meeting.is_first:
            held = _flock(fd)
            pair.meeting.say("lock-held", held)
            while_held = pair.meeting.hear("lock-while-held")
            _unlock(fd)
            pair.meeting.say("lock-free")
            once_free = pair.meeting.hear("lock-once-free")
            os.unlink(path)
        else:
            held = pair.meeting.hear("lock-held")
            while_held = _flock(fd)
            pair.meeting.say("lock-while-held", while_held)
            _unlock(fd)
            pair.meeting.hear("lock-free")
            once_free = _flock(fd)
            pair.meeting.say("lock-once-free", once_free)
    return _judged(held, while_held, once_free)


def _judged(held: str, while_held: str, once_free: str) -> Found:
    """Judge three attempts: of the first node, of the second meanwhile, of the second afterwards."""
    for attempt in (held, while_held, once_free):
        if attempt not in {_GOT, _REFUSED}:
            return fail(f"flock does not work: {attempt}")
    if (held, while_held) == (_GOT, _GOT):
        return fail("both nodes held the same lock at once: flock is local to each node")
    if (held, once_free) != (_GOT, _GOT):
        return fail("a lock that nobody held could not be had")
    return ok("a lock held on one node is refused on the other")


def _flock(fd: int) -> str:
    """Try to get the lock; returns what came of it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _REFUSED
    except OSError as error:
        return error.strerror or str(error)
    return _GOT


def _unlock(fd: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


def _events(pair: Pair) -> Found:
    """Each writes into the other's directory, and listens in its own."""
    try:
        listener = Listener(pair.scratch)
    except OSError as error:
        pair.exchange("listening", "")
        pair.exchange("written", "nothing")
        return warn(f"no events can be had here ({error.strerror})")
    with listener:
        theirs = pair.exchange("listening", pair.scratch)
        wrote = _written(pair, theirs)
        if pair.exchange("written", wrote) != "done":
            return warn("the other node does not see the staging directory of this one")
        heard = listener.hears({"remote"})
    if heard:
        return ok("writes on the other node send events here")
    if pair.site.watch == "events":
        return fail(
            'writes on the other node send no events here, and the configuration says watch = "events"'
        )
    return ok("writes on the other node send no events here: requests dropped there wait for a sweep")


def _written(pair: Pair, theirs: str) -> str:
    if not theirs:
        return "nothing"
    # The same staging directory, perhaps mounted elsewhere here; or another daemon's, under its own path.
    places = (os.path.join(pair.site.staging, os.path.basename(theirs)), theirs)
    if _wait_for(lambda: any(map(os.path.isdir, places)), min(pair.patience, _SIGHT_MOST)) is None:
        return "nothing"
    directory = next(place for place in places if os.path.isdir(place))
    write_file(os.path.join(directory, "remote"), b"1", Durability.PROCESS)
    return "done"


def _clocks(pair: Pair) -> Found:
    """Compare both with the file server's, which does not need to be right itself."""
    probe = os.path.join(pair.site.meeting, f"clock-{pair.meeting.token}")
    mine = time.time() - FileClock(probe).now() / 1e9
    os.unlink(probe)
    theirs = pair.exchange("clock", mine)
    skew = abs(mine - theirs)
    text = f"the clocks of the two nodes differ by {skew:.1f} s"
    if skew > _SKEW_FAIL:
        return fail(text)
    return warn(text) if skew > _SKEW_WARN else ok(text)


CHECKS: tuple[Check[Pair], ...] = (
    Check(
        "peer-same",
        "both nodes serve the same registry as the same account",
        "Two registries under one path, or one account under two UIDs, would go wrong in silence.",
        "mount the same filesystem on both, and give the account one UID on all nodes",
        _same_place,
    ),
    Check(
        "peer-files",
        "files made on one node are soon seen on the other, with their owner",
        "The owner of a request file is who asks; what is not seen yet is answered later.",
        "look at ID mapping (NFSv4 idmapd, nodemaps, root_squash) and attribute caching (actimeo)",
        _owners,
    ),
    Check(
        "peer-locks",
        "locks exclude across nodes",
        "Daemons on two nodes change one registry only if flock reaches from one to the other.",
        "only one daemon may serve this registry, unless the filesystem is mounted with cluster-wide locks: "
        "docs/filesystems.md",
        _locks,
    ),
    Check(
        "peer-events",
        "whether writes on another node are noticed by events or by sweeps",
        "Without events of other nodes, requests dropped there wait for up to sweep_interval_remote.",
        'set watch = "auto"',
        _events,
    ),
    Check(
        "peer-clocks",
        "the clocks of both nodes agree",
        "Schedules run once per registry by the machines' clocks; logs of two nodes are compared by time.",
        "let chrony or ntpd set the clocks of all nodes",
        _clocks,
    ),
)


def examine_together(site: Site, patience: float, tell: Callable[[str], None]) -> list[Line]:
    """Wait for the other doctor and carry out these checks with it; without one, the first has failed."""
    meeting = Meeting(site.meeting, patience)
    tell(f"waiting for up to {patience:.0f} s for `gobblerd doctor --peer` on the other node")
    try:
        made_meeting(site)
        meeting.meet()
        with site.staging_scratch() as scratch:
            pair = Pair(site, meeting, scratch, patience)
            lines = examine(CHECKS, pair)
            pair.meeting.say("finished")
            with contextlib.suppress(NobodyCameError):  # it had heard our last word, and has left
                meeting.hear("finished")
            return lines
    except OSError as error:  # nobody came, or the place to meet cannot be used
        first, *others = lines_without_looking(CHECKS, error.strerror or str(error))
        alone = "start `gobblerd doctor --peer` on the other node within that time (--wait gives more)"
        return [replace(first, result=Result.FAIL, mend=alone), *others]
    finally:
        meeting.leave()
