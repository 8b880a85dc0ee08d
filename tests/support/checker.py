"""Checks a whole registry against spec/registry.md, from the files alone, and lists what is wrong.

Knows nothing of gobblerd's code: only the format page, the standard library, and `xxhash` for the optional
`..checksums`. Reads every byte. Each finding is one sentence that begins with the path at fault. Limits: the
registry must be at rest (no locks are taken), and links to whitelisted directories are accepted only into
those given.
"""

import contextlib
import hashlib
import os
import posixpath
import re
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import xxhash
from support.documents import DOCUMENTS, event, nanoseconds, parse

LOCKS = {
    "..LOCK": "registry project asset",
    "..LOCK_NEWDIR": "registry project asset",
    "..LOCK_USAGE": "project",
}
LOG_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)_[1-9]\d{5}", re.ASCII)
DOCUMENT_LEVEL = {
    "..latest": "asset",
    "..permissions": "project asset",
    "..usage": "project",
    "..quota": "project",
}


class Version(NamedTuple):
    """What a version's own documents say."""

    path: str
    manifest: dict[str, Any]
    summary: dict[str, Any]


class Checker:
    """One look at one registry; `findings` fills up as the checks run."""

    def __init__(self, registry: str, whitelist: Sequence[str] = ()) -> None:
        """Take the registry's path and the directories that links may leave it for."""
        self.registry = os.path.abspath(registry)
        self.whitelist = [os.path.normpath(path) for path in whitelist]
        self.owner = os.stat(registry).st_uid
        self.findings: list[str] = []
        self.versions: dict[str, Version] = {}

    # ---- small tools

    def found(self, path: str, flaw: str) -> None:
        """Note that something is wrong with `path` (relative to the registry)."""
        self.findings.append(f"{path}: {flaw}")

    def full(self, path: str) -> str:
        """Return the absolute path."""
        return os.path.join(self.registry, path)

    def document(self, path: str, kind: str | None = None) -> Any:
        """Parse and check a metadata document; None if it is unusable."""
        self.mode(path, 0o644)
        try:
            with open(self.full(path), "rb") as file:
                found = parse(file.read())
        except (OSError, ValueError) as error:
            self.found(path, f"cannot be parsed: {error}")
            return None
        flaws = DOCUMENTS[kind or posixpath.basename(path)](found)
        for flaw in flaws:
            self.found(path, flaw)
        return None if flaws else found

    def mode(self, path: str, *allowed: int) -> None:
        """Check kind, mode bits and owner of a file or directory."""
        status = os.lstat(self.full(path))
        if status.st_uid != self.owner:
            self.found(path, f"owned by {status.st_uid}, not by the registry's owner {self.owner}")
        if stat.S_IMODE(status.st_mode) not in allowed:
            self.found(path, f"mode {stat.S_IMODE(status.st_mode):04o}, expected {allowed[0]:04o}")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            self.found(path, "neither a regular file nor a directory")

    def entries(self, path: str) -> tuple[list[str], list[str]]:
        """List a directory: names of directories, names of everything else; both sorted."""
        with os.scandir(self.full(path)) as found:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        return [name for name, is_dir in listed if is_dir], [name for name, is_dir in listed if not is_dir]

    # ---- the levels above versions

    def run(self) -> list[str]:
        """Check everything and return the findings."""
        directories, files = self.entries("")
        self.internal_files("", files, "registry")
        for name in directories:
            if not name.startswith(".."):
                self.project(name)
            elif name not in {"..logs", "..transactions"}:
                self.found(name, "not a documented directory")
        for version in self.versions.values():
            self.links(version)
        self.logs()
        self.transactions()
        return self.findings

    def internal_files(self, place: str, names: Sequence[str], level: str) -> None:
        """Check the files directly in the registry, a project or an asset."""
        for name in names:
            path = posixpath.join(place, name)
            if level in LOCKS.get(name, "").split():
                self.mode(path, 0o644, 0o600)
                if os.path.getsize(self.full(path)):
                    self.found(path, "a lock file that holds data")
            elif level in DOCUMENT_LEVEL.get(name, "").split():
                self.document(
                    path, "asset's ..permissions" if (level, name) == ("asset", "..permissions") else None
                )
            elif (level, name) != ("registry", "..gobblerd"):
                self.found(path, f"not a documented file of a {level}")

    def project(self, project: str) -> None:
        """Check a project, its assets and versions, and its usage."""
        self.mode(project, 0o755)
        assets, files = self.entries(project)
        self.internal_files(project, files, "project")
        for name in ("..permissions", "..usage"):
            if name not in files:
                self.found(f"{project}/{name}", "missing")
        for asset in assets:
            self.asset(f"{project}/{asset}")
        usage = self.document(f"{project}/..usage") if "..usage" in files else None
        total = sum(
            entry["size"]
            for path, version in self.versions.items()
            if path.startswith(f"{project}/")
            for entry in version.manifest.values()
            if "link" not in entry
        )
        if usage is not None and usage["total"] != total:
            self.found(f"{project}/..usage", f"says {usage['total']}, but the manifests sum up to {total}")

    def asset(self, asset: str) -> None:
        """Check an asset, its versions, and its latest."""
        self.mode(asset, 0o755)
        if posixpath.basename(asset).startswith(".."):
            self.found(asset, "not a documented directory")
            return
        versions, files = self.entries(asset)
        self.internal_files(asset, files, "asset")
        for version in versions:
            self.version(f"{asset}/{version}")
        finishes = {
            version: nanoseconds(known.summary["upload_finish"])
            for version in versions
            if (known := self.versions.get(f"{asset}/{version}"))
            and not known.summary.get("on_probation", False)
        }
        latest = self.document(f"{asset}/..latest") if "..latest" in files else None
        if latest is None:
            if finishes and "..latest" not in files:
                self.found(f"{asset}/..latest", f"missing, though there is {max(finishes)}")
        elif finishes.get(latest["version"]) != max(finishes.values(), default=0):
            self.found(
                f"{asset}/..latest", f"names {latest['version']!r}, which is not the latest of {finishes}"
            )

    # ---- versions

    def version(self, path: str) -> None:
        """Check a version's documents and files; its links are followed when all versions are known."""
        if posixpath.basename(path).startswith(".."):
            self.found(path, "not a documented directory")
            return
        _, files = self.entries(path)
        documents: dict[str, Any] = {}
        for name in ("..manifest", "..summary"):
            if name in files:
                documents[name] = self.document(f"{path}/{name}")
            else:
                self.found(f"{path}/{name}", "missing")
        if documents.get("..manifest") is None or documents.get("..summary") is None:
            return
        version = Version(path, documents["..manifest"], documents["..summary"])
        self.versions[path] = version
        on_disk = dict(self.walk(version, ""))
        for name in version.manifest.keys() - on_disk.keys():
            self.found(f"{path}/{name}", "in the manifest, but not on disk")
        for name in on_disk.keys() - version.manifest.keys():
            self.found(f"{path}/{name}", "on disk, but not in the manifest")
        for name in on_disk.keys() & version.manifest.keys():
            self.file(version, name, on_disk[name])
        if "..checksums" in files:
            self.checksums(version)

    def walk(self, version: Version, inside: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield every file, link and empty directory below `inside`; check the `..links` of each directory."""
        here = posixpath.join(version.path, inside)
        self.mode(here.rstrip("/"), 0o755)
        directories, files = self.entries(here)
        own = {"..links"} if inside else {"..links", "..manifest", "..summary", "..checksums"}
        empty = True
        for name in (*files, *directories):
            path = posixpath.join(inside, name)
            if name.startswith(".."):
                if name not in own or name in directories:
                    self.found(f"{version.path}/{path}", "not a documented file of a version")
                continue
            empty = False
            if name in directories:
                yield from self.walk(version, path)
            else:
                yield path, os.lstat(self.full(f"{version.path}/{path}"))
        if empty and inside:
            yield inside, os.lstat(self.full(here))
        self.links_file(version, inside, present="..links" in files)

    def links_file(self, version: Version, inside: str, *, present: bool) -> None:
        """Check that a directory's `..links` says what the manifest says, and is there only if needed."""
        expected = {
            posixpath.basename(path): entry["link"]
            for path, entry in version.manifest.items()
            if posixpath.dirname(path) == inside and "link" in entry
        }
        path = posixpath.join(version.path, inside, "..links")
        found = self.document(path) if present else {}
        if present and not expected:
            self.found(path, "not needed: no linked file is directly in its directory")
        elif found is not None and found != expected:
            self.found(path, f"says {found}, but the manifest {expected}")

    def file(self, version: Version, name: str, status: os.stat_result) -> None:
        """Compare one path on disk with its manifest entry."""
        path, entry = f"{version.path}/{name}", version.manifest[name]
        if any(part in {"", ".", ".."} for part in name.split("/")):
            self.found(path, "not a clean relative path")
        if stat.S_ISLNK(status.st_mode):
            self.symlink(path, entry)
        elif "link" in entry:
            self.found(path, "a link in the manifest, but no symbolic link on disk")
        elif stat.S_ISDIR(status.st_mode):
            if entry != {"size": 0, "md5sum": ""}:
                self.found(path, f"an empty directory on disk, but {entry} in the manifest")
        elif stat.S_ISREG(status.st_mode):
            self.mode(path, 0o644)
            self.content(path, entry)
            if status.st_nlink != 1:
                self.found(path, f"has {status.st_nlink} hard links")
        else:
            self.found(path, "neither file nor link nor directory")

    def content(self, path: str, entry: Mapping[str, Any]) -> None:
        """Compare a file's bytes, links followed, with size and MD5 of its entry."""
        try:
            with open(self.full(path), "rb") as file:
                digest = hashlib.file_digest(file, "md5").hexdigest()
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            self.found(path, f"cannot be read: {error.strerror}")
            return
        if (size, digest) != (entry["size"], entry["md5sum"]):
            self.found(path, f"holds {size} bytes with MD5 {digest}, but the manifest says {entry}")

    def checksums(self, version: Version) -> None:
        """Compare each xxh3-128 that is noted with the bytes."""
        noted = self.document(f"{version.path}/..checksums") or {}
        for name, expected in noted.items():
            path = f"{version.path}/{name}"
            if name not in version.manifest:
                self.found(path, "in ..checksums, but not in the manifest")
                continue
            try:
                with open(self.full(path), "rb") as file:
                    digest = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
            except OSError as error:
                self.found(path, f"in ..checksums, but cannot be read: {error.strerror}")
                continue
            if digest != expected:
                self.found(path, f"xxh3-128 is {digest}, but ..checksums says {expected}")

    # ---- links

    def symlink(self, path: str, entry: Mapping[str, Any]) -> None:
        """Check where a symbolic link on disk goes."""
        text = os.readlink(self.full(path))
        link = entry.get("link")
        if link is None:
            inside = any(
                os.path.commonpath([root, text]) == root for root in self.whitelist if text[:1] == "/"
            )
            if not inside:
                self.found(path, f"a symbolic link to {text!r} that the manifest does not know as a link")
        else:
            target = _address(link.get("ancestor", link))
            expected = posixpath.relpath(target, posixpath.dirname(path))
            if text != expected:
                self.found(path, f"a symbolic link to {text!r}, expected {expected!r}")
        self.content(path, entry)

    def links(self, version: Version) -> None:
        """Check that each link's parent and ancestor are there and agree."""
        for name, entry in version.manifest.items():
            if "link" not in entry:
                continue
            path, link = f"{version.path}/{name}", entry["link"]
            parent = self.entry_of(link)
            if parent is None:
                self.found(path, f"links to {_address(link)}, which is in no manifest")
                continue
            end = parent.get("link")
            expected = None if end is None else end.get("ancestor") or {k: end[k] for k in _FILE_KEYS}
            if link.get("ancestor") != expected:
                self.found(path, f"names the ancestor {link.get('ancestor')}, expected {expected}")
            if (entry["size"], entry["md5sum"]) != (parent["size"], parent["md5sum"]):
                self.found(path, f"{entry} differs from what it links to: {parent}")
            last = self.entry_of(expected) if expected else parent
            if last is None or "link" in last or not last["md5sum"]:
                self.found(path, "does not end at a file of its own")

    def entry_of(self, file: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the manifest entry that a link names; None if there is none."""
        version = self.versions.get(f"{file['project']}/{file['asset']}/{file['version']}")
        return None if version is None else version.manifest.get(file["path"])

    # ---- logs and transactions

    def logs(self) -> None:
        """Check that each file in `..logs` is a documented event."""
        if not os.path.isdir(self.full("..logs")):
            return
        self.mode("..logs", 0o755)
        directories, files = self.entries("..logs")
        for name in (*directories, *files):
            path = f"..logs/{name}"
            if not LOG_NAME.fullmatch(name):
                self.found(path, "not a name of an event")
                continue
            self.mode(path, 0o644)
            try:
                with open(self.full(path), "rb") as file:
                    flaws = event(parse(file.read()))
            except (OSError, ValueError) as error:
                flaws = [f"cannot be parsed: {error}"]
            for flaw in flaws:
                self.found(path, flaw)

    def transactions(self) -> None:
        """Check that no transaction is left: empty folders, and what schedules remember."""
        if not os.path.isdir(self.full("..transactions")):
            return
        self.mode("..transactions", 0o700)
        directories, files = self.entries("..transactions")
        for name in files:
            self.found(f"..transactions/{name}", "left over")
        for name in directories:
            inside: list[str] = []
            with contextlib.suppress(FileNotFoundError):  # removed in the background just now
                inside = [] if name == "state" else sorted(os.listdir(self.full(f"..transactions/{name}")))
            if inside:
                self.found(f"..transactions/{name}", f"left over: {inside[:5]}")


_FILE_KEYS = ("project", "asset", "version", "path")


def _address(file: Mapping[str, Any]) -> str:
    return "/".join(str(file[key]) for key in _FILE_KEYS)


def audit(registry: str, whitelist: Sequence[str] = ()) -> list[str]:
    """Return everything that is wrong with a registry; an empty list if nothing is."""
    return Checker(registry, whitelist).run()


def assert_clean(
    registry: str, *, whitelist: Sequence[str] = (), ignore: Collection[str] = (), patience: float = 10
) -> None:
    """Fail unless the registry is clean, apart from findings that begin with one of `ignore`.

    Removed trees are deleted in the background: findings in `..transactions` get `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        found = [f for f in audit(registry, whitelist) if not f.startswith(tuple(ignore))]
        passing = all(f.startswith("..transactions/") for f in found)
        if not found or not passing or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not found, "the registry is not clean:\n" + "\n".join(found)
