"""Receipts for archives that tests make member by member."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gobblerd.archive import Member, Options, Receipt, receipt_bytes, receipt_path, tree_checksum
from gobblerd.archive.formats import FORMATS
from gobblerd.archive.trees import tree_entries

MODES = {True: 0o755, False: 0o644}


def inventory(members: Iterable[Any]) -> tuple[Member, ...]:
    """Return what a receipt lists of members of `support.malice`; they all lie in `top`."""
    found = []
    for info, data in members:
        if info.issym():
            found.append(Member(info.name, "link", mode=0o755, target=info.linkname))
        elif info.isdir():
            found.append(Member(info.name, "directory", mode=0o755))
        else:
            found.append(Member(info.name, "file", len(data), hashlib.sha256(data).hexdigest(), info.mode))
    return tuple(found)


def with_receipt(archive: Path, members: Iterable[Any], **fields: Any) -> Path:
    """Write a receipt beside an archive, its digest and size the archive's unless given."""
    data = archive.read_bytes()
    listed = inventory(members)
    manifests = [member.sha256 for member in listed if member.path == "top/..manifest"]
    form = archive.name.partition(".")[2]
    known = {
        "name": archive.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "options": Options(form, FORMATS[form].level, "top"),
        "tree_checksum": tree_checksum(tree_entries(listed, "top")),
        "members": listed,
        "manifest": "".join(manifests),
    }
    path = Path(receipt_path(archive))
    path.write_bytes(receipt_bytes(Receipt(**{**known, **fields})))
    return path
