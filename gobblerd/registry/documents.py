"""Reading and writing the registry's JSON documents: bytes on one side, domain values on the other.

Reading is as lenient as the format (unknown keys are ignored, null is absence where a key is optional)
and as strict as its types (1.0 is no integer). Writing gives exactly the documented keys, indented by
four spaces as the Go service does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from gobblerd.domain.manifest import Entry, FileAddress, Link, Manifest
from gobblerd.domain.permissions import Permissions, Uploader
from gobblerd.domain.usage import Quota, Usage
from gobblerd.domain.version import Latest, Summary

T = TypeVar("T")
_INDENT = 4
_SOME_LINK = Link("", "", "", "")


class Unreadable(ValueError):
    """A metadata document that does not parse, with where and why."""


def _decoded(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def encoded(document: Any) -> bytes:
    """Return JSON indented by four spaces."""
    return msgspec.json.format(msgspec.json.encode(document), indent=_INDENT)


class _Permissions(msgspec.Struct):
    """As the Go service may have written it: null where there is no uploader."""

    owners: list[str] | None = None
    uploaders: list[Uploader] | None = None
    global_write: bool | None = None


class _Summary(msgspec.Struct):
    upload_user_id: str
    upload_start: str
    upload_finish: str
    on_probation: bool | None = None


_NO_LINK = msgspec.Raw(b"null")


class _Size(msgspec.Struct, gc=False):
    """As much of a manifest entry as usage needs."""

    size: int = 0
    link: msgspec.Raw = _NO_LINK


class _Lean(msgspec.Struct, gc=False):
    """As much of a manifest entry as a look at its bytes needs."""

    size: int | None = None
    md5sum: str | None = None
    link: msgspec.Raw = _NO_LINK


class _Nothing(msgspec.Struct, gc=False):
    """Whatever an object holds."""


class _Entry(msgspec.Struct):
    """A manifest entry with null where there is no value."""

    size: int | None = None
    md5sum: str | None = None
    link: Link | None = None


class _File(msgspec.Struct, gc=False):
    """A manifest entry without a link, to be written."""

    size: int
    md5sum: str


class _Link(msgspec.Struct, gc=False, omit_defaults=True):
    """A link, to be written; without `ancestor` where there is none."""

    project: str
    asset: str
    version: str
    path: str
    ancestor: FileAddress | None = None


class _Linked(msgspec.Struct, gc=False):
    """A manifest entry with a link, to be written."""

    size: int
    md5sum: str
    link: _Link


_MANIFEST = msgspec.json.Decoder(dict[str, Entry])
_LENIENT_MANIFEST = msgspec.json.Decoder(dict[str, _Entry])
_SIZES = msgspec.json.Decoder(dict[str, _Size])
_LEAN = msgspec.json.Decoder(dict[str, _Lean])
_PATHS = msgspec.json.Decoder(dict[str, _Nothing])
_LINKS = msgspec.json.Decoder(dict[str, Link])
_CHECKSUMS = msgspec.json.Decoder(dict[str, str])
_PERMISSIONS = msgspec.json.Decoder(_Permissions)
_SUMMARY = msgspec.json.Decoder(_Summary)
_LATEST = msgspec.json.Decoder(Latest)
_USAGE = msgspec.json.Decoder(Usage)
_QUOTA = msgspec.json.Decoder(Quota)


def read_manifest(data: bytes) -> dict[str, Entry]:
    """Parse a `..manifest`; Unreadable if it is none."""
    try:
        return _MANIFEST.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a null somewhere, or it is none
        found: dict[str, Any] = cast("dict[str, Any]", _decoded(_LENIENT_MANIFEST, data))
    for path, entry in found.items():  # in place: there may be a million
        found[path] = Entry(entry.size or 0, entry.md5sum or "", entry.link)
    return found


def read_stored_bytes(data: bytes) -> int:
    """Sum the sizes of a `..manifest`'s entries without a link, reading no more of it than that."""
    sizes = _decoded(_SIZES, data).values()
    return sum([entry.size for entry in sizes if entry.link is _NO_LINK or bytes(entry.link) == b"null"])


def read_sizes(data: bytes) -> dict[str, int]:
    """Return the sizes of a `..manifest`'s entries without a link, reading no more of it than that."""
    sizes = _decoded(_SIZES, data)
    return {path: entry.size for path, entry in sizes.items() if bytes(entry.link) == b"null"}


def read_paths(data: bytes) -> list[str]:
    """Return the paths that a `..manifest` lists, reading no more of it than that."""
    found = _decoded(_PATHS, data)
    return list(found)


def read_manifest_where(data: bytes, wanted: Callable[[str], bool]) -> dict[str, Entry]:
    """Return the wanted entries of a `..manifest`; of a link is known only that it is one."""
    return {
        path: Entry(entry.size or 0, entry.md5sum or "", None if _is_null(entry.link) else _SOME_LINK)
        for path, entry in _decoded(_LEAN, data).items()
        if wanted(path)
    }


def _is_null(link: msgspec.Raw) -> bool:
    return link is _NO_LINK or bytes(link) == b"null"


def read_links(data: bytes) -> dict[str, Link]:
    """Parse a `..links`."""
    return _decoded(_LINKS, data)


def read_checksums(data: bytes) -> dict[str, str]:
    """Parse a `..checksums`: path -> xxh3-128 in hex."""
    return _decoded(_CHECKSUMS, data)


def read_permissions(data: bytes) -> Permissions:
    """Parse a `..permissions`."""
    found = _decoded(_PERMISSIONS, data)
    return Permissions(tuple(found.owners or ()), tuple(found.uploaders or ()), found.global_write)


def read_summary(data: bytes) -> Summary:
    """Parse a `..summary`; the times are checked too."""
    found = _decoded(_SUMMARY, data)
    summary = Summary(
        found.upload_user_id, found.upload_start, found.upload_finish, on_probation=bool(found.on_probation)
    )
    try:
        _ = summary.finish
    except ValueError as error:
        raise Unreadable(f"upload_finish is {error}") from None
    return summary


def read_latest(data: bytes) -> Latest:
    """Parse a `..latest`."""
    return _decoded(_LATEST, data)


def read_usage(data: bytes) -> Usage:
    """Parse a `..usage`."""
    return _decoded(_USAGE, data)


def read_quota(data: bytes) -> Quota:
    """Parse a `..quota`."""
    return _decoded(_QUOTA, data)


def _link_document(link: Link) -> _Link:
    return _Link(link.project, link.asset, link.version, link.path, link.ancestor)


def _entry_document(entry: Entry) -> Any:
    if entry.link is None:
        return _File(entry.size, entry.md5sum)
    return _Linked(entry.size, entry.md5sum, _link_document(entry.link))


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a `..manifest`, sorted by path."""
    return encoded({path: _entry_document(manifest[path]) for path in sorted(manifest)})


def links_bytes(links: Mapping[str, Link]) -> bytes:
    """Return a `..links`, sorted by name."""
    return encoded({name: _link_document(links[name]) for name in sorted(links)})


def checksums_bytes(checksums: Mapping[str, str]) -> bytes:
    """Return a `..checksums`, sorted by path."""
    return encoded({path: checksums[path] for path in sorted(checksums)})


def permissions_bytes(permissions: Permissions) -> bytes:
    """Return a `..permissions`: both arrays always, `global_write` when it was given."""
    document: dict[str, Any] = {
        "owners": permissions.owners,
        "uploaders": [_present(u) for u in permissions.uploaders],
    }
    if permissions.global_write is not None:
        document["global_write"] = permissions.global_write
    return encoded(document)


def _present(uploader: Uploader) -> dict[str, Any]:
    keys: Iterable[str] = ("id", "asset", "version", "until", "trusted")
    return {key: value for key in keys if (value := getattr(uploader, key)) is not None}


def summary_bytes(summary: Summary) -> bytes:
    """Return a `..summary`; `on_probation` only where it holds."""
    document: dict[str, Any] = {
        "upload_user_id": summary.upload_user_id,
        "upload_start": summary.upload_start,
        "upload_finish": summary.upload_finish,
    }
    if summary.on_probation:
        document["on_probation"] = True
    return encoded(document)


def latest_bytes(latest: Latest) -> bytes:
    """Return a `..latest`."""
    return encoded({"version": latest.version})


def usage_bytes(usage: Usage) -> bytes:
    """Return a `..usage`."""
    return encoded({"total": usage.total})


def quota_bytes(quota: Quota) -> bytes:
    """Return a `..quota`."""
    return encoded({"baseline": quota.baseline, "growth_rate": quota.growth_rate, "year": quota.year})
