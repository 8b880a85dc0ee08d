"""The Python client of gobblerd (spec/client.md): pygobbler's functions, the `Gobbler` object, the errors.

Sees `gobblerd.domain` and the standard library at the most, and imports of both only what every use needs:
it stands at the head of thousands of batch jobs.
"""

import sys

from gobblerd import __version__
from gobblerd.client import actions, drops, fetching, listing, reading, releases, service, uploading
from gobblerd.client.actions import (
    approve_probation,
    create_project,
    refresh_latest,
    refresh_usage,
    reindex_version,
    reject_probation,
    remove_asset,
    remove_project,
    remove_version,
    reroute_links,
    set_permissions,
    validate_version,
)
from gobblerd.client.drops import submit
from gobblerd.client.errors import GobblerError, GobblerTimeout, GobblerUnreachable
from gobblerd.client.fetching import fetch_directory, fetch_file, version_path
from gobblerd.client.gobbler import Gobbler
from gobblerd.client.listing import list_assets, list_files, list_projects, list_versions
from gobblerd.client.reading import (
    clone_version,
    fetch_latest,
    fetch_manifest,
    fetch_permissions,
    fetch_summary,
    fetch_usage,
    service_info,
    unpack_path,
)
from gobblerd.client.releases import download_version, release_record, resolve_versions
from gobblerd.client.service import start_gobbler, stop_gobbler
from gobblerd.client.uploading import allocate_upload_directory, upload_archive, upload_directory

__all__ = [
    "Gobbler",
    "GobblerError",
    "GobblerTimeout",
    "GobblerUnreachable",
    "__version__",
    "allocate_upload_directory",
    "approve_probation",
    "clone_version",
    "create_project",
    "download_version",
    "fetch_directory",
    "fetch_file",
    "fetch_latest",
    "fetch_manifest",
    "fetch_permissions",
    "fetch_summary",
    "fetch_usage",
    "list_assets",
    "list_files",
    "list_projects",
    "list_versions",
    "refresh_latest",
    "refresh_usage",
    "reindex_version",
    "reject_probation",
    "release_record",
    "remove_asset",
    "remove_project",
    "remove_version",
    "reroute_links",
    "resolve_versions",
    "service_info",
    "set_permissions",
    "start_gobbler",
    "stop_gobbler",
    "submit",
    "unpack_path",
    "upload_archive",
    "upload_directory",
    "validate_version",
    "version_path",
]

_utils = drops

# pygobbler has a module per function, of the same name; a program may import from those as well. The
# attributes stay the functions, as there.
for _room in (actions, drops, fetching, listing, reading, releases, service, uploading):
    for _name in __all__:
        if getattr(vars(_room).get(_name), "__module__", None) == _room.__name__:
            sys.modules[f"{__name__}.{_name}"] = _room
sys.modules[f"{__name__}._utils"] = drops
