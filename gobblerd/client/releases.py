"""The functions about releases: which versions an expression means, what a version is, a verified copy of it.

Parameters as in `reading`; an expression is what `VersionSpec` reads, `>=1.2,<2` or `latest` for example.
"""

from typing import TYPE_CHECKING, Any

from gobblerd.client.errors import GobblerError, GobblerUnreachable, failure
from gobblerd.client.listing import list_versions
from gobblerd.client.reading import (
    SUMMARY,
    document_or_none,
    fetch_latest,
    fetch_manifest,
    fetch_summary,
    is_local,
    require_url,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gobblerd.client.parallel import Each, Progress
    from gobblerd.domain.version_spec import VersionSpec

_NOT_FOUND = 404


def resolve_versions(
    project: str,
    asset: str,
    spec: "str | Sequence[str] | VersionSpec | None",
    registry: str | None,
    url: str | None,
    force_remote: bool = False,  # noqa: FBT001, FBT002 - as the functions of `reading` have it
) -> list[str]:
    """Return the versions that an expression means, oldest to newest by precedence; never ones on probation.

    None: every version. ValueError if the expression is wrong; FileNotFoundError, or GobblerError with
    code 404 over REST, if there is no such asset.
    """
    from gobblerd.domain.version_spec import VersionSpec  # noqa: PLC0415 - needed only here

    wanted = VersionSpec.parse(spec)
    if not is_local(registry, force_remote=force_remote):
        answered = _asked(project, asset, wanted, require_url(registry, url))
        if answered is not None:
            return answered
    places: dict[str, Any] = {"registry": registry, "url": url, "force_remote": force_remote}
    names = [name for name in list_versions(project, asset, **places) if not name.startswith("..")]
    latest = fetch_latest(project, asset, **places) if wanted.needs_latest else None
    meant = wanted.select(names, latest)
    return [name for name in meant if _is_released(f"{project}/{asset}/{name}", places)]


def _asked(project: str, asset: str, spec: "VersionSpec", url: str) -> list[str] | None:
    """Ask the service; None if it does not know the question (an older one, or Go's), or the asset."""
    from urllib.parse import quote, urlencode  # noqa: PLC0415 - for readers over REST only

    from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

    asked = {"project": project, "asset": asset, **({"spec": spec.text} if spec.clauses else {})}
    try:
        path = f"/resolve?{urlencode(asked, quote_via=quote)}"
        names: list[str] = transport.get_json(url, path)["versions"]
    except GobblerError as error:
        if error.code == _NOT_FOUND:
            return None
        raise
    return names


def _is_released(place: str, places: dict[str, Any]) -> bool:
    summary = document_or_none(f"{place}/{SUMMARY}", **places)
    return summary is not None and not summary.get("on_probation")


def newest_version(
    project: str,
    asset: str,
    spec: "str | Sequence[str] | VersionSpec | None",
    registry: str | None,
    url: str | None,
) -> str:
    """Return the newest version that an expression means; a plain name is returned without being looked for.

    GobblerError with code 404 if there is none.
    """
    from gobblerd.domain.version_spec import VersionSpec  # noqa: PLC0415 - needed only here

    wanted = VersionSpec.parse(spec)
    if wanted.exact is not None:
        return wanted.exact
    found = resolve_versions(project, asset, wanted, registry, url)
    if not found:
        raise failure(GobblerError, _NOT_FOUND, _no_match(project, asset, wanted))
    return found[-1]


def _no_match(project: str, asset: str, wanted: "VersionSpec") -> str:
    place = f"{project}/{asset}"
    if wanted.text in {"", "latest"}:
        return f"there is no latest version of {place}: none was uploaded, or all are on probation"
    return f"no version of {place} is {wanted}: `gobbler ls {place}` shows what there is"


def release_record(
    project: str,
    asset: str,
    version: str,
    registry: str | None,
    url: str | None,
    force_remote: bool = False,  # noqa: FBT001, FBT002 - as above
) -> dict[str, Any]:
    """Return a version as one document: `title`, `version`, `uploader`, times, and `files` with checksums.

    Made of its manifest and its summary; docs/releases.md lists the keys. `size` is in bytes.
    """
    from gobblerd.domain.release import release_of  # noqa: PLC0415 - needed only here

    manifest = fetch_manifest(project, asset, version, registry, url, force_remote=force_remote)
    summary = fetch_summary(project, asset, version, registry, url, force_remote=force_remote)
    return release_of(project, asset, version, manifest, summary).document()


def download_version(
    project: str,
    asset: str,
    version: "str | Sequence[str] | VersionSpec",
    url: str | None,
    cache: str | None = None,
    *,
    max_workers: int = 4,
    progress: "Progress | None" = None,
    each: "Each | None" = None,
) -> str:
    """Copy a version over REST into `cache`, with `max_workers` downloads at a time; return where it is.

    `version` is a name, or an expression, of which the newest is taken. Every file is checked against the
    manifest as it arrives, and gets its name only then; parts of files stay, and the next call goes on with
    their next byte, whatever ended this one. What was copied whole is marked, and not asked for again.
    `progress` is told files done, files in all, bytes done, bytes in all; `each` the path of a file, its
    bytes done and its size. `cache` is by default in the user's data directory.
    """
    from gobblerd.client.filling import Filling  # noqa: PLC0415 - needed only to fetch

    if not url:
        raise failure(GobblerUnreachable, None, "a download needs the URL of a service, and none is given")
    name = newest_version(project, asset, version, None, url)
    return Filling(url, f"{project}/{asset}/{name}", cache, max_workers, progress, each).fetch(
        overwrite=False
    )
