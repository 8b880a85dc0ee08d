"""A CDCS instance (the data curation system of NIST) as a place that keeps releases, as rmellipse uses one.

A project is a workspace there. A release is a record of the template `Release`, JSON of `records.py`; a
file's content is a blob, called by its PID; a record of the template `BlobMetadata` says which PID has which
SHA-256 (under the key `sha1`, as rmellipse has it), so that nothing is uploaded twice.

Everything goes through the `cdcs` package (the extra of that name), with TLS verified. Known limits: that
package sends a whole file from memory; of blobs without such metadata only the size is checked; of several
records with one title the last one counts.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from gobblerd.archive.backends import records
from gobblerd.archive.backends.backend import Content, Each
from gobblerd.archive.backends.credentials import variable
from gobblerd.domain.errors import Absent, Forbidden, Invalid, Plain, Wrong
from gobblerd.domain.release import Release, ReleaseFile
from gobblerd.domain.version_spec import VersionSpec

_RELEASE, _METADATA = "Release", "BlobMetadata"  # templates
_CHUNK = 1 << 20
_IN_MEMORY = 1 << 24
_SHA256_LENGTH = 64
_FORBIDDEN = frozenset({401, 403})


class CDCSArchive:
    """A CDCS instance at the URL `host`; without a user only what is public can be read.

    Wrong if the package `cdcs` is not installed, Forbidden if the instance does not take the password.
    """

    def __init__(self, host: str, user: str | None = None, password: str | None = None) -> None:
        self.host = host
        try:
            import cdcs  # noqa: PLC0415 - an extra, and with pandas a second to import
        except ImportError:
            raise Wrong(
                "{host} needs the package cdcs: pip install 'gobblerd[cdcs]'", host=Plain(host)
            ) from None
        with _understandable(host):
            self._curator = _quiet(cdcs.CDCS)(host, username=user or "", password=password, verify=True)

    # ---- reading

    def list_records(self, project: str, asset: str, spec: VersionSpec) -> Iterator[Release]:
        """Yield the releases that an expression means, oldest to newest; `latest` is the newest release."""
        with _understandable(self.host):
            rows = self._query(_RELEASE, {"title_versionless": asset})
            workspace = self._workspace(project) if rows else None
        found: dict[str, Release] = {}
        for row in sorted(rows, key=lambda row: str(row.get("creation_date"))):
            if str(row.get("workspace")) != str(workspace):
                continue
            where = f"{row.get('title')} in {project} at {self.host}"
            release = records.release_of_record(_content(row, where), where, project, asset)
            found[release.version] = release
        latest = VersionSpec.parse(">=0").select(found)[-1:]
        meant = spec.select(found, latest[0] if latest else None)
        for name in meant:
            yield self._with_checksums(found[name])

    def _with_checksums(self, release: Release) -> Release:
        """Add what the metadata of the blobs say of their contents."""
        blobs = sorted({file.blob for file in release.files if file.blob})
        if not blobs:
            return release
        with _understandable(self.host):
            rows = self._query(_METADATA, {"blob/PID/": {"$in": blobs}})
        said = [_content(row, f"metadata at {self.host}") for row in rows]
        hashes = {one.get("blob/PID/"): str(one.get("sha1")) for one in said}
        files = (replace(file, sha256=_sha256(hashes.get(file.blob))) for file in release.files)
        return replace(release, files=tuple(files))

    def open_blob(self, release: Release, file: ReleaseFile, each: Each | None = None) -> Content:
        """Bring a blob here, and open it."""
        path = self._path_of(file, release) if file.size else ""
        with contextlib.ExitStack() as stack:
            spooled = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))
            done = 0
            for chunk in self._chunks(path) if path else ():
                spooled.write(chunk)
                done += len(chunk)
                if each is not None:
                    each(f"{release}/{file.path}", done, file.size)
            spooled.seek(0)
            stack.pop_all()  # the caller closes it
        return spooled

    def _chunks(self, path: str) -> Iterator[bytes]:
        with _understandable(self.host), contextlib.closing(self._curator.get(path, stream=True)) as reply:
            yield from reply.iter_content(_CHUNK)

    def _path_of(self, file: ReleaseFile, release: Release) -> str:
        """Return what is to be asked of this host for a blob; its password goes to no other."""
        host = self.host.rstrip("/")
        if not file.blob.startswith(f"{host}/"):
            raise Invalid(
                "{path} of {release} is not kept at {host}, but at {blob}",
                path=file.path,
                release=Plain(str(release)),
                host=Plain(host),
                blob=file.blob,
            )
        return file.blob.removeprefix(host)

    # ---- writing

    def fit(self, release: Release) -> Release:
        """Return the release under a version of three numbers, which is all that rmellipse reads."""
        return records.fitting(release)

    def find_record(self, release: Release) -> Release | None:
        """Return the release of that version, if there is one."""
        found = self.list_records(
            release.project, release.asset, VersionSpec.parse([f"=={release.version}", ">=0.0.0-0"])
        )
        return next((one for one in found if one.version == release.version), None)

    def put_blob(self, release: Release, file: ReleaseFile, content: Content) -> ReleaseFile:
        """Upload a file's bytes, unless they are there already."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spooled:
            digest = hashlib.sha256()
            while data := content.read(_CHUNK):
                digest.update(data)
                spooled.write(data)
            spooled.seek(0)
            if not file.size:  # rmellipse keeps no blob of an empty file
                return replace(file, blob="")
            sha256 = digest.hexdigest()
            with _understandable(self.host):
                pid = self._known(sha256) or self._upload(release, file, sha256, spooled)
        return replace(file, sha256=sha256, blob=pid)

    def _known(self, sha256: str) -> str | None:
        rows = self._query(_METADATA, {"sha1": sha256})
        said = [_content(row, f"metadata at {self.host}") for row in rows]
        return str(said[-1]["blob/PID/"]) if said else None

    def _upload(self, release: Release, file: ReleaseFile, sha256: str, content: Any) -> str:
        name = file.path.rpartition("/")[2]
        handle = self._curator.upload_blob(filename=name, blobbytes=content, workspace=release.project)
        blob = str(handle).rstrip("/").rpartition("/")[2]
        pid = str(self._curator.get_blob(id=blob, parse_dates=False)["pid"])
        metadata = {"sha1": sha256, "blob/PID/": pid, "/bytes/": file.size}
        record = self._post(f"{name}-meta", _METADATA, metadata, release.project)
        self._curator.post(f"/rest/blob/{blob}/metadata/{record['id']}/")
        return pid

    def put_record(self, release: Release) -> str:
        """Publish the release record."""
        record = records.record_of(release, {file.path: file.blob or None for file in release.files})
        with _understandable(self.host):
            self._post(release.title, _RELEASE, record, release.project)
        return ""

    def abandon(self, release: Release) -> None:
        """Leave the blobs: the next attempt finds them by their metadata."""

    # ---- what CDCS calls things

    def _post(self, title: str, template: str, content: Mapping[str, Any], project: str) -> Mapping[str, Any]:
        templates = self._curator.templates_dataframe(template=template)
        document = {
            "title": title,
            "template": str(max(int(one) for one in templates["id"])),
            "content": json.dumps(content),
            "workspace": str(self._workspace(project)),
        }
        found: Mapping[str, Any] = self._curator.post("/rest/data/", json=document).json()
        return found

    def _workspace(self, project: str) -> Any:
        workspaces = self._curator.get_workspaces(title=project)
        if len(workspaces) != 1:
            raise Absent(
                "{host} has {count} workspaces {project}, not one",
                host=Plain(self.host),
                count=len(workspaces),
                project=project,
            )
        return workspaces.iloc[0]["id"]

    def _query(self, template: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the records of a template that a query finds, older ones first."""
        found = self._curator.query(
            template=template, mongoquery=dict(query), current=False, parse_dates=False, progress_bar=False
        )
        rows: list[dict[str, Any]] = found.to_dict("records")
        return sorted(rows, key=lambda row: int(row["id"]))


def _quiet(kind: Any) -> Any:
    """Return the class of the package, less what it prints of refusals to standard output."""

    class Quiet(kind):  # type: ignore[misc]
        def request(self, *args: Any, checkstatus: bool = True, **kwargs: Any) -> Any:
            response = super().request(*args, checkstatus=False, **kwargs)
            if checkstatus:
                response.raise_for_status()
            return response

    return Quiet


def _content(row: Mapping[str, Any], where: str) -> Any:
    try:
        return json.loads(row.get("content") or row.get("xml_content") or "")
    except (TypeError, ValueError):
        raise Invalid("the record {where} is no JSON document", where=where) from None


def _sha256(found: str | None) -> str:
    """Return a hash if it is one of SHA-256; old metadata have SHA-1 under the same key."""
    return found if found is not None and len(found) == _SHA256_LENGTH else ""


@contextlib.contextmanager
def _understandable(host: str) -> Iterator[None]:
    """Turn what `requests` raises into sentences of ours."""
    import requests  # noqa: PLC0415 - the extra brings it

    try:
        yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in _FORBIDDEN:
            raise Forbidden(
                "{host} refuses this user and password ({code}): {variable} or ~/.netrc may hold others",
                host=Plain(host),
                code=code,
                variable=Plain(variable(urlsplit(host).hostname or "")),
            ) from None
        raise OSError(0, f"{host} answered {code}", None) from error
    except requests.exceptions.SSLError as error:
        raise OSError(0, f"the certificate of {host} is not trusted: {_first(error.args)}") from None
    except requests.RequestException as error:
        raise ConnectionError(0, f"cannot reach {host}: {_first(error.args)}") from None


def _first(arguments: Iterable[object]) -> str:
    return str(next(iter(arguments), "no reason given"))
