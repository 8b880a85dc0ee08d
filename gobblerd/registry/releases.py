"""Which versions of an asset an expression means, for readers over REST (spec/archives.md, "Releases")."""

import os

from gobblerd.domain.errors import Absent, Fault, Plain
from gobblerd.domain.names import check_existing_name, is_readable_name
from gobblerd.domain.version_spec import VersionSpec
from gobblerd.registry import layout
from gobblerd.registry.browse import Browser
from gobblerd.registry.documents import Unreadable, read_latest, read_summary

_MOST = 1 << 20  # bytes of a summary


def resolve_versions(browser: Browser, project: str, asset: str, spec: VersionSpec) -> list[str]:
    """Return the versions that are meant, oldest to newest by precedence, without those on probation.

    Wrong or Absent if there cannot be such an asset, or is none. A directory without a summary is no
    version; one whose summary cannot be read is a Fault, if it is meant.
    """
    check_existing_name("project", project)
    check_existing_name("asset", asset)
    place = f"{project}/{asset}"
    names = [name[:-1] for name in browser.list(place, recursive=False) if name.endswith("/")]
    latest = _latest(browser, place) if spec.needs_latest else None
    found = spec.select((name for name in names if is_readable_name(name)), latest)
    return [name for name in found if _is_released(browser, f"{place}/{name}")]


def _latest(browser: Browser, place: str) -> str | None:
    data = _document(browser, f"{place}/{layout.LATEST}")
    try:
        return None if data is None else read_latest(data).version
    except Unreadable as error:
        raise _unreadable(f"{place}/{layout.LATEST}", error) from error


def _is_released(browser: Browser, place: str) -> bool:
    data = _document(browser, f"{place}/{layout.SUMMARY}")
    try:
        return data is not None and not read_summary(data).on_probation
    except Unreadable as error:
        raise _unreadable(f"{place}/{layout.SUMMARY}", error) from error


def _document(browser: Browser, path: str) -> bytes | None:
    try:
        with browser.open(path) as file:
            return os.pread(file.fd, _MOST, 0)
    except Absent:
        return None


def _unreadable(path: str, error: Unreadable) -> Fault:
    return Fault("{path} is not readable: {why}", path=path, why=Plain(str(error)))
