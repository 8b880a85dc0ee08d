"""The parts of an audit that was shared out: a file each, which can be continued, and their merging.

A part is lines of JSON: a header that says which share of what it is, a line for each unit (or piece of a
version) that was looked at, with what was found there, and a last line. After a kill the last whole line
says where to go on. Merged parts give the report of an audit that was never shared out, byte for byte.
"""

import contextlib
import errno
import fcntl
import heapq
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from gobblerd.domain.errors import quoted
from gobblerd.registry.audit import Examined, Part, Tally
from gobblerd.registry.audit_findings import Severity
from gobblerd.registry.audit_shares import START, Position, Stretch, after

FORMAT = "gobblerd-audit-part-1"
_DONE = {"done": True}


class Unmergeable(ValueError):
    """Parts that are none, do not belong together, or leave something out; the message says which."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an audit was asked for; the parts of one report were asked for the same."""

    registry: str  # the id of its marker, "" where it bears none
    fast: bool
    whitelist: tuple[str, ...]
    projects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a part: share number `shard` (from 1) of `shards`."""

    terms: Terms
    shard: int
    shards: int
    stretch: Stretch

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "format": FORMAT,
            "shard": self.shard,
            "shards": self.shards,
            "begin": list(self.stretch.begin),
            "end": None if self.stretch.end is None else list(self.stretch.end),
            **asdict(self.terms),
        }

    @classmethod
    def parse(cls, document: Any) -> "Header":
        """Read what `document` gave; ValueError if it is something else."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError("it is no part of an audit")
        try:
            end = None if document["end"] is None else Position.parse(document["end"])
            terms = Terms(
                document["registry"],
                document["fast"],
                tuple(document["whitelist"]),
                tuple(document["projects"]),
            )
            stretch = Stretch(Position.parse(document["begin"]), end)
            return cls(terms, document["shard"], document["shards"], stretch)
        except (KeyError, TypeError) as error:
            raise ValueError(f"its header is damaged ({error})") from None


def line_of(examined: Examined) -> dict[str, Any]:
    """Return the line of one unit: where it begins, where to go on, how much it was, what is wrong."""
    unit = examined.unit
    return {
        "at": list(Position.of(unit)),
        "part": unit.part.value,
        "next": list(after(unit)),
        "files": examined.files,
        "size": examined.size,
        "findings": [finding.document() for finding in examined.findings],
    }


class PartFile:
    """A part that is being written; `todo` is what of its share is left to be looked at.

    Unmergeable if the file is something else, or the part of another audit; OSError if it cannot be written.
    """

    def __init__(self, path: str, header: Header) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 - closed by `close`
        try:
            self._lock(path)
            self.header, self.todo, self.is_done = self._begun(path, header)
        except BaseException:
            self._file.close()
            raise

    def _lock(self, path: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unmergeable(f"{path} is being written by another audit") from None
        except OSError as error:  # a filesystem without locks
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise

    def _begun(self, path: str, header: Header) -> tuple[Header, Stretch, bool]:
        """Read what an audit that was killed has done; the torn end of its last line goes."""
        self._file.seek(0)
        whole, last = 0, b""
        first = self._file.readline()
        if not first.endswith(b"\n"):
            if first and not first.startswith(b'{"format": "gobblerd-audit-part'[: len(first)]):
                raise Unmergeable(f"{path} is there already, and is no part of an audit: name another file")
            self._file.truncate(0)
            self._write(header.document())
            return header, header.stretch, False
        found = _parsed(path, first)
        wanted = (header.terms, header.shard, header.shards)
        if (found.terms, found.shard, found.shards) != wanted:
            raise Unmergeable(f"{path} is a part of another audit: remove it, or name another file")
        whole = len(first)
        for line in self._file:
            if line.endswith(b"\n"):
                whole, last = whole + len(line), line
        self._file.truncate(whole)
        document = json.loads(last) if last else {"next": list(found.stretch.begin)}
        if document == _DONE:
            return found, Stretch(START, START), True
        return found, Stretch(Position.parse(document["next"]), found.stretch.end), False

    def _write(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(document).encode("ascii") + b"\n")
        self._file.flush()

    def add(self, examined: Examined) -> None:
        """Note what came of one unit."""
        self._write(line_of(examined))

    def finish(self) -> None:
        """Note that the share is done, and make it durable."""
        self._write(_DONE)
        os.fsync(self._file.fileno())

    def tally(self) -> Tally:
        """Count everything that is in the part, whichever run it is from."""
        tally = Tally()
        self._file.seek(0)
        self._file.readline()
        lines = (json.loads(line) for line in self._file)
        for _, unit in itertools.groupby(
            (each for each in lines if each != _DONE), lambda each: each["at"][:4]
        ):
            _unit(list(unit), tally)
        return tally

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _parsed(path: str, line: bytes) -> Header:
    try:
        return Header.parse(json.loads(line))
    except json.JSONDecodeError:
        raise Unmergeable(f"{path}: it is no part of an audit") from None
    except ValueError as error:
        raise Unmergeable(f"{path}: {error}") from None


# -- merging ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """One part to be merged: its name for people, its header, and its lines, which can be read once."""

    name: str
    header: Header
    lines: Iterable[dict[str, Any]]


@contextlib.contextmanager
def opened_parts(paths: Sequence[str]) -> Iterator[list[Source]]:
    """Open parts to be merged; Unmergeable if one is none or is not finished."""
    with contextlib.ExitStack() as stack:
        yield [_opened(path, stack.enter_context(open(path, "rb"))) for path in paths]


def _opened(path: str, file: IO[bytes]) -> Source:
    header = _parsed(path, file.readline())
    return Source(path, header, _lines(path, file))


def _lines(path: str, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            document = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            document = None
        if document == _DONE:
            return
        if not isinstance(document, dict):
            break
        yield document
    raise Unmergeable(f"{path} is not finished: run its audit again, with the same options, to continue it")


def check_together(sources: Sequence[Source]) -> None:
    """Raise Unmergeable unless the parts are all the shares of one audit, and leave nothing between them."""
    first = sources[0]
    for source in sources:
        if (source.header.terms, source.header.shards) != (first.header.terms, first.header.shards):
            raise Unmergeable(f"{source.name} and {first.name} are not parts of the same audit")
    shards = sorted(source.header.shard for source in sources)
    for number in range(1, first.header.shards + 1):
        if shards.count(number) != 1:
            found = "missing" if number not in shards else "given twice"
            raise Unmergeable(f"part {number} of {first.header.shards} is {found}")
    ordered = sorted(sources, key=lambda source: source.header.shard)
    for one, other in itertools.pairwise(ordered):
        end, begin = one.header.stretch.end, other.header.stretch.begin
        if end is not None and end < begin:
            shown = quoted("/".join(filter(None, end[1:])))
            raise Unmergeable(
                f"the registry changed between the starts of {one.name} and {other.name}, and neither has "
                f"looked at what lies from {shown} on: give all parts the same --plan FILE"
            )


def merged(sources: Sequence[Source], tally: Tally) -> Iterator[dict[str, str]]:
    """Yield the findings of all parts in the order of one report; the tally counts what was looked at."""
    check_together(sources)
    every = heapq.merge(*(source.lines for source in sources), key=lambda line: line["at"])
    for _, lines in itertools.groupby(every, key=lambda line: line["at"][:4]):
        yield from _unit(list(lines), tally)


def _unit(lines: Sequence[dict[str, Any]], tally: Tally) -> list[dict[str, str]]:
    """Return the findings of one unit, which may have been looked at in pieces, or twice."""
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    for line in lines:
        for finding in line["findings"]:
            key = (finding["path"], finding["kind"], finding["expected"], finding["found"])
            seen[(*key, finding["severity"])] = finding
    rest = next((line for line in lines if not line["at"][4]), None)
    if rest is not None:
        tally.projects += rest["part"] == Part.PROJECT
        tally.versions += rest["part"] == Part.VERSION
        tally.files += rest["files"]
        tally.size += rest["size"]
    tally.faults += sum(each["severity"] == Severity.FAULT for each in seen.values())
    tally.notices += sum(each["severity"] == Severity.NOTICE for each in seen.values())
    return [seen[key] for key in sorted(seen)]
