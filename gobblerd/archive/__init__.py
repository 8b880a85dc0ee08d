"""Archives of versions and of directories: made, looked at, checked, taken out again; and releases.

The public names are below; each is imported when it is first asked for, so that whoever needs one pays for
that one. Modules of this project import from the module itself, not from here.

Everything here raises `GobblerdError` (its kinds: `Wrong`, `Invalid`, `Exceeded`, `Absent`, ...) whose
`reason` is a sentence for people, and `OSError` where the storage fails.

Must not live here: anything of requests (`actions/`), of HTTP and schedules (`service/`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see; a test holds it against the table below
    from gobblerd.archive.backends.backend import Backend as Backend
    from gobblerd.archive.backends.cdcs import CDCSArchive as CDCSArchive
    from gobblerd.archive.backends.choosing import get_backend as get_backend
    from gobblerd.archive.backends.gobbler import GobblerArchive as GobblerArchive
    from gobblerd.archive.backends.rmellipse import FileSystemArchive as FileSystemArchive
    from gobblerd.archive.checksums import TREE_ALGORITHM as TREE_ALGORITHM
    from gobblerd.archive.checksums import TreeEntry as TreeEntry
    from gobblerd.archive.checksums import file_checksum as file_checksum
    from gobblerd.archive.checksums import tree_checksum as tree_checksum
    from gobblerd.archive.create import Created as Created
    from gobblerd.archive.create import create_archive as create_archive
    from gobblerd.archive.directories import Exported as Exported
    from gobblerd.archive.directories import Portable as Portable
    from gobblerd.archive.directories import export_directory as export_directory
    from gobblerd.archive.directories import make_portable as make_portable
    from gobblerd.archive.extract import Extracted as Extracted
    from gobblerd.archive.extract import extract_archive as extract_archive
    from gobblerd.archive.formats import FORMATS as FORMATS
    from gobblerd.archive.formats import archive_path as archive_path
    from gobblerd.archive.formats import format_of as format_of
    from gobblerd.archive.inspect import Inspection as Inspection
    from gobblerd.archive.inspect import inspect_archive as inspect_archive
    from gobblerd.archive.install import Installed as Installed
    from gobblerd.archive.install import PathReferences as PathReferences
    from gobblerd.archive.install import install_archive as install_archive
    from gobblerd.archive.install import path_references as path_references
    from gobblerd.archive.members import Member as Member
    from gobblerd.archive.members import flatten_path as flatten_path
    from gobblerd.archive.members import relative_path as relative_path
    from gobblerd.archive.mirroring import Mirrored as Mirrored
    from gobblerd.archive.mirroring import mirror as mirror
    from gobblerd.archive.mirroring import verify_releases as verify_releases
    from gobblerd.archive.naming import Template as Template
    from gobblerd.archive.plan import Extra as Extra
    from gobblerd.archive.receipt import Options as Options
    from gobblerd.archive.receipt import Receipt as Receipt
    from gobblerd.archive.receipt import load_receipt as load_receipt
    from gobblerd.archive.receipt import read_receipt as read_receipt
    from gobblerd.archive.receipt import receipt_bytes as receipt_bytes
    from gobblerd.archive.receipt import receipt_path as receipt_path
    from gobblerd.archive.refusals import Damaged as Damaged
    from gobblerd.archive.refusals import Unsafe as Unsafe
    from gobblerd.archive.releases import download_version as download_version
    from gobblerd.archive.releases import release_record as release_record
    from gobblerd.archive.releases import resolve_versions as resolve_versions
    from gobblerd.archive.renaming import Updated as Updated
    from gobblerd.archive.renaming import rename_archive as rename_archive
    from gobblerd.archive.renaming import update_archive as update_archive
    from gobblerd.archive.retention import Pruned as Pruned
    from gobblerd.archive.retention import Retention as Retention
    from gobblerd.archive.retention import prune_archives as prune_archives
    from gobblerd.archive.trees import tree_entries as tree_entries
    from gobblerd.archive.verify import Problem as Problem
    from gobblerd.archive.verify import Verified as Verified
    from gobblerd.archive.verify import verify_archive as verify_archive
    from gobblerd.archive.version_plan import Version as Version
    from gobblerd.domain.errors import Absent as Absent
    from gobblerd.domain.errors import Exceeded as Exceeded
    from gobblerd.domain.errors import Forbidden as Forbidden
    from gobblerd.domain.errors import GobblerdError as GobblerdError
    from gobblerd.domain.errors import Invalid as Invalid
    from gobblerd.domain.errors import Wrong as Wrong
    from gobblerd.domain.release import Release as Release
    from gobblerd.domain.release import ReleaseFile as ReleaseFile
    from gobblerd.domain.version_spec import VersionSpec as VersionSpec

# Public name -> the module that has it. One line each, sorted by module: several people add to it.
_PUBLIC = {
    "Backend": "gobblerd.archive.backends.backend",
    "CDCSArchive": "gobblerd.archive.backends.cdcs",
    "get_backend": "gobblerd.archive.backends.choosing",
    "GobblerArchive": "gobblerd.archive.backends.gobbler",
    "FileSystemArchive": "gobblerd.archive.backends.rmellipse",
    "TREE_ALGORITHM": "gobblerd.archive.checksums",
    "TreeEntry": "gobblerd.archive.checksums",
    "file_checksum": "gobblerd.archive.checksums",
    "tree_checksum": "gobblerd.archive.checksums",
    "Created": "gobblerd.archive.create",
    "create_archive": "gobblerd.archive.create",
    "Exported": "gobblerd.archive.directories",
    "Portable": "gobblerd.archive.directories",
    "export_directory": "gobblerd.archive.directories",
    "make_portable": "gobblerd.archive.directories",
    "Extracted": "gobblerd.archive.extract",
    "extract_archive": "gobblerd.archive.extract",
    "FORMATS": "gobblerd.archive.formats",
    "archive_path": "gobblerd.archive.formats",
    "format_of": "gobblerd.archive.formats",
    "Inspection": "gobblerd.archive.inspect",
    "inspect_archive": "gobblerd.archive.inspect",
    "Installed": "gobblerd.archive.install",
    "PathReferences": "gobblerd.archive.install",
    "install_archive": "gobblerd.archive.install",
    "path_references": "gobblerd.archive.install",
    "Member": "gobblerd.archive.members",
    "flatten_path": "gobblerd.archive.members",
    "relative_path": "gobblerd.archive.members",
    "Mirrored": "gobblerd.archive.mirroring",
    "mirror": "gobblerd.archive.mirroring",
    "verify_releases": "gobblerd.archive.mirroring",
    "Template": "gobblerd.archive.naming",
    "Extra": "gobblerd.archive.plan",
    "Options": "gobblerd.archive.receipt",
    "Receipt": "gobblerd.archive.receipt",
    "load_receipt": "gobblerd.archive.receipt",
    "read_receipt": "gobblerd.archive.receipt",
    "receipt_bytes": "gobblerd.archive.receipt",
    "receipt_path": "gobblerd.archive.receipt",
    "Damaged": "gobblerd.archive.refusals",
    "Unsafe": "gobblerd.archive.refusals",
    "download_version": "gobblerd.archive.releases",
    "release_record": "gobblerd.archive.releases",
    "resolve_versions": "gobblerd.archive.releases",
    "Updated": "gobblerd.archive.renaming",
    "rename_archive": "gobblerd.archive.renaming",
    "update_archive": "gobblerd.archive.renaming",
    "Pruned": "gobblerd.archive.retention",
    "Retention": "gobblerd.archive.retention",
    "prune_archives": "gobblerd.archive.retention",
    "tree_entries": "gobblerd.archive.trees",
    "Problem": "gobblerd.archive.verify",
    "Verified": "gobblerd.archive.verify",
    "verify_archive": "gobblerd.archive.verify",
    "Version": "gobblerd.archive.version_plan",
    "Absent": "gobblerd.domain.errors",
    "Exceeded": "gobblerd.domain.errors",
    "Forbidden": "gobblerd.domain.errors",
    "GobblerdError": "gobblerd.domain.errors",
    "Invalid": "gobblerd.domain.errors",
    "Wrong": "gobblerd.domain.errors",
    "Release": "gobblerd.domain.release",
    "ReleaseFile": "gobblerd.domain.release",
    "VersionSpec": "gobblerd.domain.version_spec",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_PUBLIC)
