"""Which identities are answered, and which inodes were seen under which name. Pure bookkeeping: no I/O.

Not thread-safe: the spool's lock guards it. Times are monotonic seconds.
"""

from dataclasses import dataclass

from gobblerd.domain.messages import Identity


@dataclass(frozen=True, slots=True)
class Answered:
    """The identity that a name's response file answers, with its code and when it was executed."""

    identity: Identity
    code: int
    at: float


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    digest: str
    handle: bytes
    at: float


def is_same(one: Identity, other: Identity) -> bool:
    """Tell whether two identities are one request: the same, or the same but for a late touch."""
    if one.key == other.key:
        return True
    same_bytes = bool(one.digest) and one.digest == other.digest
    return same_bytes and (one.name, one.inode) == (other.name, other.inode)


class Index:
    """Answered identities by name, and names by what was seen of an inode."""

    def __init__(self) -> None:
        self._answered: dict[str, Answered] = {}
        self._seen: dict[tuple[int, int, int], _Seen] = {}

    def __len__(self) -> int:
        """Count the answered names."""
        return len(self._answered)

    def record(self, identity: Identity, code: int, at: float) -> None:
        """Remember that `identity` is answered."""
        self._answered[identity.name] = Answered(identity, code, at)
        self.see(identity, b"", at)

    def see(self, identity: Identity, handle: bytes, at: float) -> None:
        """Remember under which name this inode was seen; the first name counts."""
        found = self._seen.get(_key(identity))
        if found is None or _is_other_file(found, identity, handle):
            self._seen[_key(identity)] = _Seen(identity.name, identity.digest, handle, at)

    def knows(self, identity: Identity) -> bool:
        """Tell whether exactly this identity is answered (its digest does not count)."""
        found = self._answered.get(identity.name)
        return found is not None and found.identity.key == identity.key

    def find(self, identity: Identity, now: float, settle: float) -> Answered | None:
        """Return the answer of this request: of its identity, or of that before a late touch or power cut."""
        found = self._answered.get(identity.name)
        if found is not None and _is_emptied(found.identity, identity):
            return found
        if found is None or not is_same(found.identity, identity):
            return None
        late = found.identity.key != identity.key
        return None if late and now - found.at > settle else found

    def other_name(self, identity: Identity, handle: bytes) -> str | None:
        """Return the other name under which this inode was seen at this mtime and size, or None."""
        found = self._seen.get(_key(identity))
        if found is None or found.name == identity.name or _is_other_file(found, identity, handle):
            return None
        return found.name

    def answered(self, name: str) -> Answered | None:
        """Return what is answered under a name."""
        return self._answered.get(name)

    def forget(self, name: str) -> None:
        """Forget a name whose response file is gone."""
        found = self._answered.pop(name, None)
        if found is None:
            return
        seen = self._seen.get(_key(found.identity))
        if seen is not None and seen.name == name:
            del self._seen[_key(found.identity)]

    def prune(self, before: float) -> None:
        """Forget inodes seen before that time which no response records (withdrawn and replaced ones)."""
        kept = {
            key: seen
            for key, seen in self._seen.items()
            if seen.at >= before or self._is_recorded(seen.name, key)
        }
        self._seen = kept

    def _is_recorded(self, name: str, key: tuple[int, int, int]) -> bool:
        found = self._answered.get(name)
        return found is not None and _key(found.identity) == key


def _key(identity: Identity) -> tuple[int, int, int]:
    return (identity.inode, identity.mtime_ns, identity.size)


def _is_emptied(answered: Identity, identity: Identity) -> bool:
    """Tell whether this is what a power cut left of a request whose client did not sync its bytes."""
    same_file = (answered.inode, answered.mtime_ns) == (identity.inode, identity.mtime_ns)
    return same_file and identity.size == 0


def _is_other_file(seen: _Seen, identity: Identity, handle: bytes) -> bool:
    """Tell whether this is certainly not the file that was seen, but one with its number and times.

    Only the owner can change bytes, so other bytes are another request of theirs.
    """
    if seen.handle and handle and seen.handle != handle:
        return True
    return bool(seen.digest and identity.digest) and seen.digest != identity.digest
