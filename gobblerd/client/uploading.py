# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 - names, order and defaults of the parameters are pygobbler's
"""The functions that upload: a place in staging, and a directory from there or from anywhere."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gobblerd.client.drops import submit
from gobblerd.client.errors import GobblerError, failure
from gobblerd.client.waiting import Waiting
from gobblerd.domain.where import written_in

if TYPE_CHECKING:
    from gobblerd.client.parallel import Progress


def allocate_upload_directory(staging: str, create: bool = True) -> str:
    """Make a new directory in staging for files to be uploaded, and return its path.

    Its rights come from the umask and from default ACLs: the daemon must be able to read it. With
    `create=False` only the name is chosen.
    """
    path = os.path.join(staging, f"upload-{os.urandom(8).hex()}")
    if create:
        os.mkdir(path)
    return path


def upload_directory(
    project: str,
    asset: str,
    version: str,
    directory: str,
    staging: str,
    url: str | None,
    probation: bool = False,
    consume: bool | None = None,
    ignore_dot: bool = True,
    spoof: str | None = None,
    concurrent: int = 1,
    *,
    timeout: float | None = None,
    progress: "Progress | None" = None,
    waiting: Waiting | None = None,
) -> None:
    """Upload a directory as a new version.

    One that lies directly in staging is taken as it is. Any other is copied there first, by `concurrent`
    threads, and the copy is removed in the end, also after an error or Ctrl-C; `progress` is told files
    done, files in all, bytes done, bytes in all, and `waiting`, as in `submit`, how far the daemon is.
    `consume` (default: for copies) lets the daemon take files away from what it was given. `ignore_dot`
    leaves out names that begin with a dot; `probation` uploads for approval. GobblerError if the upload is
    refused; ValueError for what cannot be copied.
    """
    fields = {
        "project": project,
        "asset": asset,
        "version": version,
        "on_probation": probation,
        "ignore_dot": ignore_dot,
    }
    name = name_in_staging(directory, staging)
    if name is not None:
        taken = {**fields, "source": name, "consume": bool(consume)}
        submit(staging, url, "upload", taken, spoof=spoof, timeout=timeout, waiting=waiting)
        return
    require_apart(directory, staging)
    from gobblerd.client.copying import copy_tree  # noqa: PLC0415 - needed only to copy

    copy = allocate_upload_directory(staging, create=False)
    try:
        os.mkdir(copy)
        with written_in(staging):
            copy_tree(directory, copy, ignore_dot=ignore_dot, concurrent=concurrent, progress=progress)
        taken = {**fields, "source": os.path.basename(copy), "consume": consume is None or consume}
        with _called(directory, copy):
            submit(staging, url, "upload", taken, spoof=spoof, timeout=timeout, waiting=waiting)
    finally:
        _remove(copy)


def upload_archive(
    project: str,
    asset: str,
    version: str,
    archive: str,
    staging: str,
    url: str | None,
    probation: bool = False,
    consume: bool | None = None,
    ignore_dot: bool = False,
    spoof: str | None = None,
    strip: int | None = None,
    *,
    timeout: float | None = None,
    progress: "Progress | None" = None,
    waiting: Waiting | None = None,
) -> None:
    """Upload an archive file (tar or zip, compressed or not) as a new version.

    One that lies directly in staging is taken as it is. Any other is copied there first, with its receipt if
    one lies beside it, and the copies are removed in the end, also after an error or Ctrl-C. `strip`: 1 to
    leave its one top directory out of all paths, 0 to keep it; by default it is left out if there is exactly
    one. The rest is as for `upload_directory`, but that names with a dot are taken unless `ignore_dot`.
    """
    fields = {
        "project": project,
        "asset": asset,
        "version": version,
        "on_probation": probation,
        "ignore_dot": ignore_dot,
    }
    if strip is not None:
        fields["strip"] = strip
    name = name_in_staging(archive, staging, is_archive=True)
    if name is not None:
        taken = {**fields, "source": name, "consume": bool(consume)}
        submit(staging, url, "upload", taken, spoof=spoof, timeout=timeout, waiting=waiting)
        return
    from gobblerd.client.copying import RECEIPT_SUFFIX, copy_archive  # noqa: PLC0415 - needed only to copy

    copy = allocate_upload_directory(staging, create=False)
    try:
        with written_in(staging):
            copy_archive(archive, copy, progress=progress)
        taken = {**fields, "source": os.path.basename(copy), "consume": consume is None or consume}
        with _called(archive, copy):
            submit(staging, url, "upload", taken, spoof=spoof, timeout=timeout, waiting=waiting)
    finally:
        for path in (copy, f"{copy}{RECEIPT_SUFFIX}"):
            with suppress(FileNotFoundError):
                os.unlink(path)


@contextmanager
def _called(source: str, copy: str) -> Iterator[None]:
    """Have a refusal call the copy what its user calls it: nobody knows the name in staging."""
    try:
        yield
    except GobblerError as error:
        reason = error.reason.replace(os.path.basename(copy), os.fspath(source))
        if error.code is None or reason == error.reason:
            raise
        raise failure(GobblerError, error.code, reason, error.answer) from None


def name_in_staging(source: str, staging: str, *, is_archive: bool = False) -> str | None:
    """Return the name of what is to be uploaded directly in staging; None if it is elsewhere, or a link."""
    path = os.path.abspath(source)
    if os.path.islink(path) or os.path.realpath(os.path.dirname(path)) != os.path.realpath(staging):
        return None
    if not is_archive and not os.path.isdir(path):
        raise NotADirectoryError(f"{source!r} is not a directory")
    return os.path.basename(path)


def require_apart(directory: str, staging: str) -> None:
    """Raise ValueError for a directory that holds the staging directory."""
    source, place = os.path.realpath(directory), os.path.realpath(staging)
    if os.path.commonpath((source, place)) == source:
        raise ValueError(f"{directory!r} holds the staging directory: copied there, it would hold itself")


def _remove(path: str) -> None:
    import shutil  # noqa: PLC0415 - 10 ms that are needed only after a copy

    shutil.rmtree(path, ignore_errors=True)
