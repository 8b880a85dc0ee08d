"""The commit record of a transaction: what recovery needs to finish it without its writer.

A record is one JSON file, renamed to `..transactions/committed/<id>` at the commit point and to
`applied/<id>` when every step is done. It is never changed in place. Small documents are in it; trees, and
what is removed, lie beside it in the transaction's directory.
"""

import os
from typing import Any, Literal

import msgspec

from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.locks import Ladder, Mode, Rung


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of one place in the registry.

    `install` moves `<directory>/<slot>` to `path`, `remove` moves `path` to `<directory>/<slot>`: where the
    slot lies tells whether the step was done. `write` replaces the document at `path` by `content`, however
    often that is done: nobody else can have changed it while the record is in `committed/`. `fresh` says that
    nothing may be at `path` before.
    """

    kind: Literal["install", "remove", "write"]
    path: str
    slot: str = ""
    fresh: bool = False
    content: str = ""


class Consume(msgspec.Struct, frozen=True):
    """Source files to unlink after the commit: listed in `slot`, below the directory `source` of staging."""

    source: str
    inode: int
    slot: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All changes of one request, its events and its response."""

    format: str
    id: str
    staging: str  # id of the staging directory whose daemon delivers the response; "" for scheduled jobs
    locks: list[tuple[str, Mode]]
    steps: list[Step]
    events: list[Step]
    usage: list[str]  # projects whose `..usage` follows
    latest: list[tuple[str, str]]  # assets whose `..latest` follows
    response: dict[str, Any] | None = None
    consume: Consume | None = None

    @property
    def ladder(self) -> Ladder:
        """The locks that the writer held."""
        return tuple(Rung(path, mode) for path, mode in self.locks)

    def recovery_ladder(self) -> Ladder:
        """Return the locks for applying it without its writer: a project whose usage follows exclusively."""
        if not self.usage or any(
            not r.path.rpartition("/")[0] and r.mode is Mode.EXCLUSIVE for r in self.ladder
        ):
            return self.ladder
        project = layout.in_place(Address(self.usage[0]), layout.LOCK)
        return (Rung(layout.LOCK, Mode.SHARED), Rung(project, Mode.EXCLUSIVE))

    def places(self) -> tuple[str, ...]:
        """Return the paths that it changes, for people."""
        return (
            tuple(step.path for step in self.steps) or tuple(self.usage) or tuple(map("/".join, self.latest))
        )


_DECODER = msgspec.json.Decoder(Record)


def read_record(path: str) -> Record | None:
    """Read the record at `path`; None if it is not there (any more); ValueError if it is none of ours."""
    try:
        with open(path, "rb") as file:
            record = _DECODER.decode(file.read())
    except FileNotFoundError:
        return None
    if record.format not in layout.RECORD_FORMATS:
        raise ValueError(
            f"transaction record {os.path.basename(path)} has the unknown format {record.format}"
        )
    return record


def record_bytes(record: Record) -> bytes:
    """Return the JSON of a record."""
    return msgspec.json.encode(record)
