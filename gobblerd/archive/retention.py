"""Which archives of a directory are kept, and which are removed.

An archive is kept if any rule keeps it: it is of one of the newest versions of its asset, it is young, it is
pinned, or nothing says for certain what it is of.
"""

import fnmatch
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gobblerd.archive.exports import Found, archives_in, orphans_in
from gobblerd.archive.naming import DEFAULT_TEMPLATE, Template
from gobblerd.archive.receipt import receipt_path
from gobblerd.archive.writing import remove_abandoned
from gobblerd.domain.names import Address
from gobblerd.domain.times import NANOSECONDS

_DAY = 86_400 * NANOSECONDS
_HOUR = 3_600 * NANOSECONDS  # how long a receipt may be there before its archive is


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: archives of the `keep_last` newest versions of each asset, and those not `keep_days` old.

    None of a rule keeps nothing; with neither, nothing is removed. `pins` are patterns of file names or of
    `project/asset/version`, with `*`, `?` and `[...]`; what they mean is always kept.
    """

    keep_last: int | None = None
    keep_days: float | None = None
    pins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning removed (or would have, in a dry run), and kept: file names, sorted. `freed` in bytes.

    `unsure` are archives that nobody knows the version of; `failed` could not be removed.
    """

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    freed: int = 0


@dataclass(slots=True)
class _Of:
    """The archives of one asset, by version."""

    newest: dict[str, tuple[int, int]] = field(default_factory=dict)  # version -> its time, and the file's
    archives: list[tuple[Found, Address]] = field(default_factory=list)


def prune_archives(
    directory: str | os.PathLike[str],
    retention: Retention,
    *,
    dry_run: bool = False,
    now: int | None = None,
    name_template: str = DEFAULT_TEMPLATE,
) -> Pruned:
    """Remove the archives in `directory` that no rule keeps, each with its receipt.

    `now` is nanoseconds since the epoch, by default this machine's. What killed writers left is removed too.
    OSError if the directory cannot be read.

    >>> import tempfile
    >>> prune_archives(tempfile.mkdtemp(), Retention(keep_last=2)).removed
    ()
    """
    path, at = os.fspath(directory), time.time_ns() if now is None else now
    known, unsure = _sorted_out(archives_in(path), Template(name_template))
    doomed = [found for each in known.values() for found in _doomed(each, retention, at)]
    failed = set() if dry_run else {found.name for found in doomed if not _remove(found)}
    if not dry_run:
        remove_abandoned(path, at)
        for receipt in list(orphans_in(path, at - _HOUR)):
            _unlink(receipt)
    removed = [found for found in doomed if found.name not in failed]
    gone = {found.name for found in doomed}
    kept = [found.name for each in known.values() for found, _ in each.archives if found.name not in gone]
    return Pruned(
        tuple(sorted(found.name for found in removed)),
        tuple(sorted(kept)),
        tuple(sorted(unsure)),
        tuple(sorted(failed)),
        sum(found.size for found in removed),
    )


def place_of(found: Found, template: Template) -> Address | None:
    """Return the version that an archive is of, by its receipt, else by its name if that is unequivocal."""
    if found.receipt is not None and found.receipt.version:
        return Address(found.receipt.project, found.receipt.asset, found.receipt.version)
    parts = None if found.receipt is not None else template.read(found.name)
    return parts.place if parts is not None and parts.place.level == "version" else None


def _sorted_out(archives: Iterable[Found], template: Template) -> tuple[dict[Address, _Of], list[str]]:
    known: dict[Address, _Of] = {}
    unsure: list[str] = []
    for found in archives:
        place = place_of(found, template)
        if place is None:
            unsure.append(found.name)
            continue
        asset = known.setdefault(place.of_asset(), _Of())
        asset.archives.append((found, place))
        finish = found.receipt.options.clamp_mtime if found.receipt is not None else None
        at = (finish or 0, found.mtime_ns)
        asset.newest[place.version] = max(at, asset.newest.get(place.version, at))
    return known, unsure


def _doomed(asset: _Of, retention: Retention, now: int) -> list[Found]:
    if retention.keep_last is None and retention.keep_days is None:
        return []
    last = sorted(asset.newest, key=lambda version: (asset.newest[version], version), reverse=True)
    kept = set(last[: retention.keep_last or 0])
    young = now - int((retention.keep_days or 0) * _DAY)
    return [
        found
        for found, place in asset.archives
        if place.version not in kept
        and (retention.keep_days is None or found.mtime_ns <= young)
        and not _is_pinned(found, place, retention.pins)
    ]


def _is_pinned(found: Found, place: Address, pins: Sequence[str]) -> bool:
    names = (found.name, str(place))
    return any(fnmatch.fnmatchcase(name, pin) for name in names for pin in pins)


def _remove(found: Found) -> bool:
    """Remove an archive and its receipt, unless it was replaced since it was looked at."""
    try:
        status = os.lstat(found.path)
        if (status.st_ino, status.st_mtime_ns) != (found.inode, found.mtime_ns):
            return False
        os.unlink(found.path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    _unlink(receipt_path(found.path))
    return True


def _unlink(path: str) -> None:
    """Remove a receipt; one that stays is tried again next time."""
    try:
        os.unlink(path)
    except OSError:
        return
