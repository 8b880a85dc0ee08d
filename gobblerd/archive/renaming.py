"""Giving an archive the name that a template makes of what it is, and clearing away its predecessors.

Predecessors are archives of exactly the same project and asset in the same format: by their receipts, else by
a name that can be read in one way only. `app` never takes `app_server` with it.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from gobblerd.archive.checksums import file_checksum
from gobblerd.archive.exports import Found, archives_in, receipt_beside
from gobblerd.archive.formats import format_of
from gobblerd.archive.naming import CHECKSUM_DIGITS, DEFAULT_TEMPLATE, NameParts, Template
from gobblerd.archive.receipt import Receipt, receipt_bytes, receipt_path
from gobblerd.archive.verify import verify_archive
from gobblerd.archive.writing import Temporary, publish, temporary
from gobblerd.domain.errors import Invalid, Wrong
from gobblerd.storage.files import sync_directory

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Updated:
    """Where an archive is now, and which older ones are gone (file names)."""

    path: str
    removed: tuple[str, ...] = ()


def rename_archive(
    archive: Path, version: str | None = None, *, name_template: str = DEFAULT_TEMPLATE
) -> str:
    """Rename an archive and its receipt where they lie; return the new path (see `update_archive`)."""
    return update_archive(archive, version, name_template=name_template, keep=False).path


def update_archive(
    archive: Path,
    version: str | None = None,
    *,
    checksum: Literal["tree", "file"] = "tree",
    destdir: Path | None = None,
    clean: bool = False,
    keep: bool = True,
    name_template: str = DEFAULT_TEMPLATE,
) -> Updated:
    """Put an archive into `destdir` (by default where it lies) under the name that `name_template` makes.

    Project, asset and version are those of its receipt. An archive without one is called after its file name,
    and needs `version`. `checksum` says of what the digits in the name are: of the tree that it holds, or of
    the file. With `keep` the archive is copied, else moved. `clean` removes older archives of exactly the
    same project and asset, of the same format, from `destdir`.

    Wrong if it cannot be named so, or another file has the name; Invalid if it is not what its receipt says,
    or damaged; OSError where the storage fails.
    """
    source = os.path.abspath(archive)
    form = format_of(source)
    if form is None or not os.path.isfile(source):
        raise Wrong("{path} is no archive", path=source)
    template, receipt = Template(name_template), receipt_beside(source)
    parts = _parts(source, form, receipt, version)
    parts = replace(parts, checksum=_checksum(source, checksum)[:CHECKSUM_DIGITS])
    directory = os.path.dirname(source) if destdir is None else os.path.abspath(destdir)
    target = os.path.join(directory, template.name(parts))
    if target != source:
        if os.path.lexists(target) and file_checksum(target) != file_checksum(source):
            raise Wrong("{path} is there already, and is another archive", path=target)
        _put(source, target, receipt, keep=keep)
    removed = tuple(_clean(directory, target, parts, template)) if clean else ()
    return Updated(target, removed)


def _parts(source: str, form: str, receipt: Receipt | None, version: str | None) -> NameParts:
    if receipt is not None and receipt.version:
        if version not in {None, receipt.version}:
            raise Wrong(
                "{path} is of version {found}, not {version}",
                path=source,
                found=receipt.version,
                version=version,
            )
        return NameParts(receipt.project, receipt.asset, receipt.version, "", f".{form}")
    if version is None:
        raise Wrong("{path} has no receipt of a version: say which version it is", path=source)
    name = receipt.options.prefix if receipt is not None else os.path.basename(source)[: -len(form) - 1]
    return NameParts(name, "", version, "", f".{form}")


def _checksum(source: str, of: str) -> str:
    """Return the checksum of the archive, which must be sound."""
    found = verify_archive(source, allow_large=True)
    if not found.is_sound:
        raise Invalid("{path} is not what is said of it: {why}", path=source, why=str(found.problems[0]))
    return found.sha256 if of == "file" else found.tree_checksum


def _put(source: str, target: str, receipt: Receipt | None, *, keep: bool) -> None:
    """Give the archive its new place; both files appear whole, and the old ones go last."""
    directory = os.path.dirname(target)
    with temporary(directory) as copy, open(source, "rb") as file:
        shutil.copyfileobj(file, copy.file, 1 << 20)
        if receipt is None:
            publish([(copy, target)])
        else:
            _publish_with(copy, target, receipt.renamed(os.path.basename(target)))
    if not keep:
        os.unlink(source)
        if receipt is not None:
            os.unlink(receipt_path(source))
        sync_directory(os.path.dirname(source))


def _publish_with(copy: Temporary, target: str, receipt: Receipt) -> None:
    with temporary(os.path.dirname(target)) as beside:
        beside.file.write(receipt_bytes(receipt))
        publish([(beside, receipt_path(target)), (copy, target)])


def _clean(directory: str, target: str, parts: NameParts, template: Template) -> Iterator[str]:
    for found in archives_in(directory):
        if found.path == target or not found.name.endswith(parts.suffix):
            continue
        if _is_of(found, parts, template):
            os.unlink(found.path)
            if os.path.lexists(receipt_path(found.path)):
                os.unlink(receipt_path(found.path))
            yield found.name


def _is_of(found: Found, parts: NameParts, template: Template) -> bool:
    """Tell whether an archive is of the same project and asset, for certain."""
    if found.receipt is not None and found.receipt.version:
        return (found.receipt.project, found.receipt.asset) == (parts.project, parts.asset)
    read = template.without_empty(parts).read(found.name)
    return read is not None and (read.project, read.asset) == (parts.project, parts.asset)
