"""What an archive holds, without extracting it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gobblerd.archive.judged import Judged
from gobblerd.archive.limits import ArchiveLimits
from gobblerd.archive.opening import opened_archive
from gobblerd.archive.reader import Reading
from gobblerd.archive.receipt import Receipt
from gobblerd.archive.source import ArchiveFile, Progress, silent
from gobblerd.domain.errors import Refused
from gobblerd.registry import layout

_SUMMARY_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an archive holds. Sizes in bytes: `size` of the archive, `extracted` of its files together.

    `top` is its one top directory, "" if there is not exactly one. `summary` is the `..summary` of the
    version that it was made of. `refusal` says why `extract_archive` would refuse it; `members` are those
    before what is refused then.
    """

    format: str
    size: int
    members: tuple[Judged, ...]
    extracted: int
    top: str
    has_manifest: bool
    summary: Mapping[str, Any] | None
    receipt: Receipt | None
    refusal: str | None

    def count(self, kind: str) -> int:
        """Return how many members are of a kind: "file", "directory" or "link"."""
        return sum(member.kind == kind for member in self.members)


def inspect_archive(
    archive: str | os.PathLike[str],
    *,
    receipt: str | os.PathLike[str] | None = None,
    allow_large: bool = False,
    progress: Progress = silent,
) -> Inspection:
    """Read an archive once, keeping only what its members are called and are.

    Nothing is checked against the receipt (`verify_archive` does that). Absent if there is no archive,
    Invalid for a receipt that is none, OSError where it cannot be read.
    """
    with opened_archive(archive, receipt) as opened:
        file = ArchiveFile(opened.fd, progress)
        reading = Reading(file, ArchiveLimits.extracting(allow_large=allow_large))
        members: list[Judged] = []
        summary, refusal = None, None
        try:
            for member, content in reading.members():
                members.append(member)
                if _is_metadata(member, layout.SUMMARY) and member.size <= _SUMMARY_MAX_BYTES:
                    summary = _object(content.whole())
        except Refused as error:
            refusal = error.reason
        tops = reading.names.names.tops()
        return Inspection(
            reading.format,
            file.size,
            tuple(members),
            sum(member.size for member in members),
            tops[0] if len(tops) == 1 and reading.names.names.is_directory(tops[0]) else "",
            any(_is_metadata(member, layout.MANIFEST) for member in members),
            summary,
            opened.receipt,
            refusal,
        )


def _is_metadata(member: Judged, name: str) -> bool:
    """Tell whether a member is a document of the version that the archive was made of."""
    directory, _, last = member.path.rpartition("/")
    return member.kind == "file" and last == name and "/" not in directory


def _object(data: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
