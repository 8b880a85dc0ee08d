"""What can be the matter with a version, and what of it one file or one manifest shows by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from gobblerd.domain.errors import escaped, quoted
from gobblerd.domain.manifest import Entry
from gobblerd.registry import documents
from gobblerd.registry.copying import Digest


class Flaw(StrEnum):
    """What is the matter with a path."""

    UNREADABLE = "unreadable file"
    SUMMARY = "wrong value in the summary"
    MISSING = "missing file"
    EXTRA = "extra file"
    EXTRA_DIRECTORY = "extra empty directory"
    TYPE = "wrong file type"
    SIZE = "wrong size"
    CHECKSUM = "wrong MD5 checksum"
    FAST_CHECKSUM = "wrong fast checksum"
    SYMLINK = "wrong symbolic link"
    LINKS = "wrong entry in ..links"
    TARGET = "wrong link target"
    ANCESTOR = "wrong ancestor"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: where (relative to the version), what, what should be, and what is there."""

    path: str
    kind: Flaw
    expected: str
    found: str

    @property
    def sentence(self) -> str:
        """One line for people."""
        expected, found = escaped(self.expected), escaped(self.found)
        return f"{self.kind} {quoted(self.path)}: expected {expected}, found {found}"

    def document(self) -> dict[str, str]:
        """Return the JSON object of an answer."""
        return {"path": self.path, "kind": self.kind, "expected": self.expected, "found": self.found}


def differences(
    digest: Digest | str, entry: Entry, fast: str | None
) -> Iterator[tuple[Flaw, object, object]]:
    """Yield what differs between a file, or why it could not be read, and what is noted of it."""
    if isinstance(digest, str):
        yield Flaw.UNREADABLE, "a file that can be read", digest
        return
    if digest.size != entry.size:
        yield Flaw.SIZE, entry.size, digest.size
    if digest.md5sum != entry.md5sum:
        yield Flaw.CHECKSUM, entry.md5sum or '""', digest.md5sum
    if fast is not None and digest.xxh128 != fast:
        yield Flaw.FAST_CHECKSUM, fast, digest.xxh128


class _RawManifest:
    """Decoders for a manifest of which some entries cannot be read."""

    whole = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_entries(data: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """Parse a `..manifest` entry by entry; return those that can be read, and why the others cannot.

    Raises Unreadable where it is no object at all.
    """
    try:
        return documents.read_manifest(data), {}
    except documents.Unreadable:
        pass
    try:
        raw = _RawManifest.whole.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise documents.Unreadable(str(error)) from None
    entries: dict[str, Entry] = {}
    unreadable: dict[str, str] = {}
    for path, each in raw.items():
        try:
            entries[path] = documents.read_manifest(b'{"it":' + bytes(each) + b"}")["it"]
        except documents.Unreadable as error:
            unreadable[path] = str(error)
    return entries, unreadable
