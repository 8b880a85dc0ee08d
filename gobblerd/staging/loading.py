"""What a starting daemon learns before anything is handed out: answers, begun attempts, the takeover."""

import time

import structlog

from gobblerd.domain.times import NANOSECONDS
from gobblerd.staging.directory import Staging
from gobblerd.staging.intake import Intake
from gobblerd.staging.ledger import Ledger
from gobblerd.staging.takeover import REASON, Listed, read_takeover, remove_takeover

_log = structlog.get_logger()


def load(staging: Staging, ledger: Ledger) -> Listed:
    """Fill the index from the response files, and return what is to be taken over. OSError."""
    ledger.files.remove_leftovers()
    now, then = time.monotonic(), staging.clock.now()
    for recorded in ledger.files.load():
        identity = recorded.response.identity
        at = now - max(0, then - recorded.written_ns) / NANOSECONDS
        with ledger.lock:
            if ledger.index.answered(identity.name) is None:  # else delivered just now
                ledger.index.record(identity, recorded.response.code, at)
    _load_attempts(ledger)
    listed = _listed(staging)
    _log.info("responses loaded", answered=len(ledger.index), to_take_over=len(listed))
    return listed


def _load_attempts(ledger: Ledger) -> None:
    ledger.attempts.load()
    for name in ledger.attempts.left():
        with ledger.lock:
            answered = ledger.index.answered(name)
        if answered is not None and ledger.attempts.is_of(answered.identity):
            ledger.attempts.clear(name)


def _listed(staging: Staging) -> Listed:
    try:
        return read_takeover(staging.responses_fd)
    except (ValueError, TypeError) as error:
        _log.warning("takeover list is damaged: all that is here now counts as on it", error=repr(error))
        with staging.entries() as entries:
            return frozenset((entry.name, entry.inode()) for entry in entries)


def take_over(ledger: Ledger, intake: Intake, name: str, inode: int) -> None:
    """Answer one file that was here before gobblerd, unless it is gone or answered. OSError."""
    look = intake.sight(name, REASON)
    if look is None or look.identity.inode != inode:
        return
    entry = ledger.entry(look, [])
    with ledger.lock:
        if ledger.index.knows(look.identity) or name in ledger.running:
            return
        ledger.running[name] = entry
        ledger.index.see(look.identity, b"", time.monotonic())
    ledger.write_or_retry(entry, ledger.response(entry, look.code, REASON))


def finish_takeover(staging: Staging, ledger: Ledger, listed: Listed) -> bool:
    """Remove the list if everything on it is answered durably; False if it must stay."""
    with ledger.lock:
        if any(name in ledger.running for name, _ in listed):
            return False
    remove_takeover(staging.responses_fd)
    return True
