"""Bringing a whole directory of the registry into a cache (see `fetching.fetch_directory`)."""

import hashlib
import os
from typing import NamedTuple

from gobblerd.client import download
from gobblerd.client.cache import Cache, is_same
from gobblerd.client.download import Changed, Expected, Manifests, Want, split_version
from gobblerd.client.errors import GobblerError, failure
from gobblerd.client.listing import remote_names
from gobblerd.client.parallel import Each, Meter, Progress, Stop, for_each
from gobblerd.client.reading import MANIFEST
from gobblerd.domain.where import written_in

_VERSION_SLASHES = 2  # project/asset/version
_ATTEMPTS = 2  # at a version that is uploaded anew meanwhile


class _Listing(NamedTuple):
    """What is to be had: files and empty directories, relative to the directory; what each file must be."""

    files: list[str]
    directories: list[str]
    expected: dict[str, Expected]
    manifests: Manifests


class Filling:
    """One directory of a service, and its copy; arguments as those of `fetching.fetch_directory`."""

    def __init__(
        self,
        url: str,
        path: str,
        cache: str | None,
        concurrent: int,
        progress: Progress | None,
        each: Each | None = None,
    ) -> None:
        self._url = url
        self._path = "/".join(part for part in path.split("/") if part not in {"", "."})
        self._cache = Cache(cache, url)
        self._final = self._cache.target(path)
        self._marker = self._cache.marker(path)
        self._concurrent, self._progress, self._each = concurrent, progress, each

    def fetch(self, *, overwrite: bool) -> str:
        """Have the directory in the cache; return where."""
        known = self._marked()
        if not overwrite and known is not None and os.path.exists(self._final) and self._is_current(known):
            return self._final
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with written_in(self._cache.root):
                    self._fetch(known or "", overwrite=overwrite)
                break
            except Changed as changed:
                if attempt == _ATTEMPTS:
                    raise failure(GobblerError, None, str(changed)) from None
        return self._final

    # ---- the marker: the MD5 of the version's manifest, or nothing where there is no one manifest

    def _marked(self) -> str | None:
        try:
            with open(self._marker, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _is_current(self, identity: str) -> bool:
        """Tell whether the manifest in the cache is (as far as can be told) the one that was fetched."""
        try:
            with open(self._cache.target(f"{self._version()}/{MANIFEST}"), "rb") as file:
                return not identity or _identity(file.read()) == identity
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _version(self) -> str:
        return split_version(self._path)[0]

    def _mark(self, identity: str) -> None:
        directory = os.path.dirname(self._marker)
        os.makedirs(directory, exist_ok=True)
        temporary = f"{self._marker}.{os.getpid()}.{os.urandom(4).hex()}"
        with open(temporary, "x", encoding="ascii") as file:
            file.write(identity)
        os.rename(temporary, self._marker)

    # ---- fetching

    def _fetch(self, known: str, *, overwrite: bool) -> None:
        listing = self._list()
        raw = listing.manifests.raw.get(self._version())
        identity = "" if raw is None else _identity(raw)
        if os.path.exists(self._marker):
            os.unlink(self._marker)
        if known and known != identity:
            self._drop_unlisted({*listing.files})
        for directory in (".", *listing.directories):
            os.makedirs(os.path.join(self._final, directory), exist_ok=True)
        self._fetch_files(listing, overwrite=overwrite)
        self._mark(identity)

    def _list(self) -> _Listing:
        manifests = Manifests(self._url)
        names = remote_names(self._url, self._path or ".", recursive=True)
        for name in names:
            if name.startswith("/") or ".." in name.split("/"):
                raise failure(GobblerError, None, f"the service lists a path that leads elsewhere: {name!r}")
        files = [name for name in names if not name.endswith("/")]
        found = {name: _expected(manifests, self._at(name)) for name in files}
        expected = {name: entry for name, entry in found.items() if entry is not None}
        return _Listing(files, [name for name in names if name.endswith("/")], expected, manifests)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _fetch_files(self, listing: _Listing, *, overwrite: bool) -> None:
        size = sum(entry.size for entry in listing.expected.values())
        meter = Meter(self._progress, len(listing.files), size, self._each)
        busy: list[str] = []  # what others are fetching: see to the rest first

        def fetch(name: str, stop: Stop, *, wait: bool) -> None:
            want = self._want(name, listing, overwrite=overwrite)
            if not download.fetch(self._cache, want, meter, stop, wait=wait):
                busy.append(name)

        done = self._fetch_packed(listing, meter, overwrite=overwrite)
        left = [name for name in listing.files if name not in done]
        for_each(left, lambda name, stop: fetch(name, stop, wait=False), self._concurrent)
        for_each(list(busy), lambda name, stop: fetch(name, stop, wait=True), self._concurrent)

    def _fetch_packed(self, listing: _Listing, meter: Meter, *, overwrite: bool) -> set[str]:
        """Fetch a version's many small files at once, where that pays; return which ones."""
        from gobblerd.client import packed  # noqa: PLC0415 - needed only for many files

        expected = listing.expected
        wanted = {
            name
            for name, entry in expected.items()
            if entry.size <= packed.SMALL
            and not name.startswith("..")
            and (overwrite or not os.path.exists(os.path.join(self._final, name)))
        }
        size = sum(expected[name].size for name in wanted)
        others = sum(entry.size for entry in expected.values()) - size
        is_version = self._path.count("/") == _VERSION_SLASHES
        if not is_version or len(wanted) < packed.FEWEST or others > size + len(wanted) * packed.SMALL:
            return set()
        wants = {name: self._want(name, listing, overwrite=overwrite) for name in wanted}
        found: set[str] = set()

        def fetch(_item: None, stop: Stop) -> None:
            found.update(packed.fetch_packed(self._cache, self._url, self._path, wants, meter, stop))

        for_each([None], fetch, 1)
        return found

    def _want(self, name: str, listing: _Listing, *, overwrite: bool) -> Want:
        expected = listing.expected.get(name)

        def accept(target: str) -> bool:
            if overwrite or expected is None:  # of the registry's own documents nothing is known
                return False
            return is_same(target, expected.size, expected.md5sum)

        return Want(self._url, self._at(name), accept, expected)

    def _drop_unlisted(self, files: set[str]) -> None:
        """Remove what the version does not hold any more: it was uploaded anew under its old name."""
        for directory, _, names in os.walk(self._final):
            for name in names:
                full = os.path.join(directory, name)
                if os.path.relpath(full, self._final) not in files:
                    os.unlink(full)
        _drop_empty(self._final)


def _drop_empty(root: str) -> None:
    directories = [directory for directory, _, _ in os.walk(root)]
    for directory in reversed(directories):
        if not os.listdir(directory):
            os.rmdir(directory)


def _identity(manifest: bytes) -> str:
    return hashlib.md5(manifest, usedforsecurity=False).hexdigest()


def _expected(manifests: Manifests, path: str) -> Expected | None:
    """Return what a file must be; a manifest must be the one that the others are checked against."""
    version, rest = split_version(path)
    if rest == MANIFEST:
        manifests.load(version)
        raw = manifests.raw.get(version)
        return None if raw is None else Expected(len(raw), _identity(raw))
    return None if any(part.startswith("..") for part in rest.split("/")) else manifests.expected(path)
