"""The receipt of an archive: what is in it, member by member (spec/archives.md, "The receipt").

An in-toto Statement v1 whose predicate is our own. It is written sorted and indented, so that equal archives
have equal receipts; it is read as something a stranger may have written: whatever is not exactly as written
here is refused (Invalid) with where and why. A receipt proves integrity, not authorship.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from gobblerd.archive.checksums import TREE_ALGORITHM
from gobblerd.archive.formats import format_named, format_of
from gobblerd.archive.members import (
    EXECUTABLE_MODE,
    FILE_MODE,
    Kind,
    Member,
    Names,
    check_prefix,
    flaw_of_path,
    flaw_of_target,
)
from gobblerd.domain.document import parse_object
from gobblerd.domain.errors import Invalid, Plain, Wrong, escaped, quoted
from gobblerd.domain.names import check_existing_name
from gobblerd.registry import layout
from gobblerd.storage.files import READ_FILE, opened, read_all

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:gobblerd:archive-receipt:v1"
FORMAT_VERSION = 1
RECEIPT_SUFFIX = ".receipt.json"
MAX_BYTES = 64 << 20
MAX_NESTING = 128

Links = Literal["files", "preserve", "bundle"]


@dataclass(frozen=True, slots=True)
class Options:
    """How an archive was made; what its bytes depend on besides the files.

    `level` is None where the format has none. `clamp_mtime` in seconds since the epoch, None where times were
    left. `links` is "bundle" for `bundle_links=True`.
    """

    format: str
    level: int | None
    prefix: str
    clamp_mtime: int | None = None
    links: Links = "files"
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of an archive. Size in bytes; checksums in hex.

    `name` is the archive's file name. `manifest` is the SHA-256 of its `..manifest`, "" where it has none;
    `left_out` are paths that the manifest lists and the archive lacks, `added` those that the manifest does
    not list, both without the prefix. `project`, `asset` and `version` are "" for other directories.
    """

    name: str
    sha256: str
    size: int
    options: Options
    tree_checksum: str
    members: tuple[Member, ...] = field(repr=False)
    project: str = ""
    asset: str = ""
    version: str = ""
    manifest: str = ""
    left_out: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def manifest_path(self) -> str:
        """The name of the `..manifest` in the archive."""
        return f"{self.options.prefix}/{layout.MANIFEST}"

    def renamed(self, name: str) -> "Receipt":
        """Return the receipt of the same archive under another file name."""
        return replace(self, name=name)


def receipt_path(archive: str | os.PathLike[str]) -> str:
    """Return where the receipt of an archive lies: beside it.

    >>> receipt_path("out/app.tar.zst")
    'out/app.tar.zst.receipt.json'
    """
    return f"{os.fspath(archive)}{RECEIPT_SUFFIX}"


def is_part_of_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive, or an archive's receipt.

    >>> is_part_of_archive("app.zip"), is_part_of_archive("app.zip.receipt.json"), is_part_of_archive("app")
    (True, True, False)
    """
    return format_of(name.removesuffix(RECEIPT_SUFFIX)) is not None


# ---- writing


def receipt_bytes(receipt: Receipt) -> bytes:
    """Return the receipt's document: keys sorted, indented by two spaces, with a final newline."""
    document = msgspec.json.encode(_statement(receipt), order="sorted")
    return msgspec.json.format(document, indent=2) + b"\n"


def _statement(receipt: Receipt) -> dict[str, Any]:
    subjects = [{"name": receipt.name, "digest": {"sha256": receipt.sha256}}]
    if receipt.manifest:
        subjects.append({"name": receipt.manifest_path, "digest": {"sha256": receipt.manifest}})
    return {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": subjects,
        "predicate": _predicate(receipt),
    }


def _predicate(receipt: Receipt) -> dict[str, Any]:
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "options": _options_document(receipt.options),
        "size": receipt.size,
        "entries": len(receipt.members),
        "tree_checksum": {TREE_ALGORITHM: receipt.tree_checksum},
        "members": [_member_document(member) for member in receipt.members],
        "left_out": list(receipt.left_out),
        "added": list(receipt.added),
    }
    if receipt.version:
        place = {"project": receipt.project, "asset": receipt.asset, "version": receipt.version}
        document.update(place)
    return document


def _options_document(options: Options) -> dict[str, Any]:
    return {
        "format": options.format,
        "level": options.level,
        "prefix": options.prefix,
        "clamp_mtime": options.clamp_mtime,
        "links": options.links,
        "excludes": list(options.excludes),
    }


def _member_document(member: Member) -> dict[str, Any]:
    document: dict[str, Any] = {"path": member.path, "type": member.kind, "mode": f"{member.mode:04o}"}
    if member.kind == "file":
        document.update(size=member.size, sha256=member.sha256)
    elif member.kind == "link":
        document["target"] = member.target
    return document


# ---- reading

_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_MODES = {f"{mode:04o}": mode for mode in (FILE_MODE, EXECUTABLE_MODE)}


class _Digests(msgspec.Struct):
    sha256: _Digest


class _Subject(msgspec.Struct):
    name: str
    digest: _Digests


class _TreeChecksum(msgspec.Struct):
    value: _Digest = msgspec.field(name=TREE_ALGORITHM)


class _Options(msgspec.Struct):
    format: str
    level: int | None
    prefix: str
    clamp_mtime: int | None
    links: Links
    excludes: tuple[str, ...]


class _Member(msgspec.Struct):
    path: str
    type: Kind
    mode: str
    size: _Count | msgspec.UnsetType = msgspec.UNSET
    sha256: _Digest | msgspec.UnsetType = msgspec.UNSET
    target: str | msgspec.UnsetType = msgspec.UNSET


class _Predicate(msgspec.Struct):
    format_version: int
    options: _Options
    size: _Count
    entries: _Count
    tree_checksum: _TreeChecksum
    members: list[_Member]
    left_out: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    project: str = ""
    asset: str = ""
    version: str = ""


class _Statement(msgspec.Struct, kw_only=True):
    type: str = msgspec.field(name="_type")
    predicate_type: str = msgspec.field(name="predicateType")
    subject: list[_Subject]
    predicate: _Predicate


def read_receipt(data: bytes) -> Receipt:
    """Return the receipt that `data` is; Invalid with what is the matter if it is no whole one."""
    if len(data) > MAX_BYTES:
        raise Invalid("the receipt is larger than {most} bytes", most=MAX_BYTES)
    try:
        document = parse_object(data, what="the receipt", nesting_max=MAX_NESTING)
        _check_kind(document)
        statement = msgspec.convert(document, _Statement)
        return _Reading(statement).receipt()
    except Wrong as error:
        raise Invalid("{reason}", reason=Plain(error.reason)) from None
    except msgspec.ValidationError as error:
        raise Invalid("the receipt is not as it must be: {error}", error=Plain(escaped(str(error)))) from None


def load_receipt(path: str | os.PathLike[str]) -> Receipt:
    """Read the receipt at `path`; Invalid if it is none, OSError if it cannot be read."""
    with opened(os.fspath(path), READ_FILE) as fd:
        data = read_all(fd, MAX_BYTES)
    try:
        return read_receipt(data)
    except Invalid as error:
        why = Plain(error.reason)
        raise Invalid("{path} is no sound receipt: {why}", path=os.fspath(path), why=why) from None


def _check_kind(document: Mapping[str, Any]) -> None:
    """Say first what kind of document it is, or of which version: its keys may be others."""
    predicate = document.get("predicate")
    found = (
        ("_type", document.get("_type"), STATEMENT_TYPE),
        ("predicateType", document.get("predicateType"), PREDICATE_TYPE),
        ("format_version", predicate.get("format_version") if isinstance(predicate, dict) else None, 1),
    )
    for key, value, wanted in found:
        if value != wanted or type(value) is not type(wanted):
            raise Wrong("{key} is {value}, not {wanted}", key=Plain(key), value=value, wanted=wanted)


class _Reading:
    """A statement of the right types, on its way to a receipt."""

    def __init__(self, statement: _Statement) -> None:
        self._statement = statement
        self._predicate = statement.predicate

    def receipt(self) -> Receipt:
        predicate, archive = self._predicate, self._statement.subject[:1]
        options = self._options()
        members = tuple(self._members(options.prefix))
        if len(members) != predicate.entries:
            raise Wrong("it counts {n} entries and lists {m}", n=predicate.entries, m=len(members))
        if not archive:
            raise Wrong("it has no subject")
        found = Receipt(
            name=self._file_name(archive[0].name),
            sha256=archive[0].digest.sha256,
            size=predicate.size,
            options=options,
            tree_checksum=predicate.tree_checksum.value,
            members=members,
            left_out=self._safe(predicate.left_out),
            added=self._safe(predicate.added),
            **self._place(),
        )
        return replace(found, manifest=self._manifest(found))

    def _options(self) -> Options:
        found = self._predicate.options
        form = format_named(found.format)
        if found.level != form.level:
            raise Wrong(
                "the level of {format} is {level}, not {found}",
                format=found.format,
                level=form.level,
                found=found.level,
            )
        prefix = check_prefix(found.prefix)
        return Options(found.format, found.level, prefix, found.clamp_mtime, found.links, found.excludes)

    def _place(self) -> dict[str, str]:
        predicate = self._predicate
        place = {"project": predicate.project, "asset": predicate.asset, "version": predicate.version}
        if any(place.values()):
            for level, name in place.items():
                check_existing_name(level, name)
        return place

    @staticmethod
    def _file_name(name: str) -> str:
        flaw = "it has a directory" if "/" in name else flaw_of_path(name)
        if flaw:
            raise Wrong("the subject {name} is no file name: {flaw}", name=name, flaw=Plain(flaw))
        return name

    def _members(self, prefix: str) -> Iterator[Member]:
        names = Names()
        for each in self._predicate.members:
            flaw = names.add(each.path, is_directory=each.type == "directory")
            if flaw is None and each.path.partition("/")[0] != prefix:
                flaw = f"it does not lie in {quoted(prefix)}"
            if flaw is None:
                flaw = _flaw_of_member(each, prefix)
            if flaw is not None:
                raise Wrong(
                    "the member {path} is not as it must be: {flaw}", path=each.path, flaw=Plain(flaw)
                )
            yield _member(each)

    @staticmethod
    def _safe(paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if flaw := flaw_of_path(path):
                raise Wrong("{path} cannot be left out or added: {flaw}", path=path, flaw=Plain(flaw))
        return paths

    def _manifest(self, receipt: Receipt) -> str:
        """Return the manifest's checksum as the second subject has it, which the inventory must confirm."""
        path = receipt.manifest_path
        listed = [member.sha256 for member in receipt.members if member.path == path]
        named = [(subject.name, subject.digest.sha256) for subject in self._statement.subject[1:]]
        if named != [(path, sha256) for sha256 in listed]:
            raise Wrong(
                "its subjects must be the archive and, where there is one, {path}, each once, with the "
                "inventory's checksum",
                path=path,
            )
        return "".join(listed)


def _flaw_of_member(member: _Member, prefix: str) -> str | None:
    """Return what its keys say that cannot be, or None."""
    if member.mode not in _MODES:
        return f"its mode is {quoted(member.mode)}"
    is_file, is_link = member.type == "file", member.type == "link"
    if (member.size is not msgspec.UNSET) != is_file or (member.sha256 is not msgspec.UNSET) != is_file:
        return "files have size and sha256, others have not"
    if (member.target is not msgspec.UNSET) != is_link:
        return "links have a target, others have not"
    if is_link:
        return flaw_of_target(member.path, str(member.target), prefix)
    return None


def _member(found: _Member) -> Member:
    return Member(
        found.path,
        found.type,
        found.size if isinstance(found.size, int) else 0,
        found.sha256 if isinstance(found.sha256, str) else "",
        _MODES[found.mode],
        found.target if isinstance(found.target, str) else "",
    )
