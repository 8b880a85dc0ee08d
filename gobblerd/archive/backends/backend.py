"""What every place that keeps releases can do, and how content is checked on its way out of one.

A backend names a release by project, asset and version, whatever it calls them itself.
"""

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from gobblerd.domain.errors import Invalid, Plain, Wrong
from gobblerd.domain.release import Release, ReleaseFile
from gobblerd.domain.version_spec import VersionSpec

Each = Callable[[str, int, int], None]  # path of a file, its bytes done, its size


class Unready(Wrong):
    """The place can take no release at all, as things are."""


class Content(Protocol):
    """The bytes of a file, read in order and then closed."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""

    def close(self) -> None:
        """Let go of it."""


class Backend(Protocol):
    """A place that keeps releases.

    What is wrong with a release is `Wrong`, what is wrong with the place's own files `Invalid`; reading and
    writing raise OSError (the client's GobblerError is one). Methods may be called from several threads.
    """

    @property
    def host(self) -> str:
        """What the place is called in messages: a path or a URL, never with a password."""

    def list_records(self, project: str, asset: str, spec: VersionSpec) -> Iterator[Release]:
        """Yield the releases that an expression means, oldest to newest by precedence.

        One after the other, because a release may have a hundred thousand files, and an asset as many
        releases as there were days.
        """

    def open_blob(self, release: Release, file: ReleaseFile, each: Each | None = None) -> Content:
        """Open a file of a release; `each` is told while it is being brought here."""

    def fit(self, release: Release) -> Release:
        """Return the release as it would be called here; Wrong if it cannot be kept."""

    def find_record(self, release: Release) -> Release | None:
        """Return what is here already in the place of a release that fits."""

    def put_blob(self, release: Release, file: ReleaseFile, content: Content) -> ReleaseFile:
        """Take a file's bytes, and return the file as it is kept.

        Reads until nothing comes before anything of it can be seen by others: the reading raises if it was
        not what it should be.
        """

    def put_record(self, release: Release) -> str:
        """Publish a release, all of whose files were put; return what else is to be known of it, or ""."""

    def abandon(self, release: Release) -> None:
        """Remove what was put for a release that will not be published; nothing if it was."""


class Checked:
    """Content that raises Invalid at its end, if it is not what the record of its release says.

    `tell` is told how many bytes came. What the record does not know is not checked.
    """

    def __init__(
        self, content: Content, place: str, file: ReleaseFile, tell: Callable[[int], None] | None = None
    ) -> None:
        self._content, self._place, self._file, self._tell = content, place, file, tell
        self._size = 0
        wanted = {"md5": file.md5sum, "sha256": file.sha256}
        self._digests = {
            name: (hashlib.new(name, usedforsecurity=False), value) for name, value in wanted.items() if value
        }

    def __enter__(self) -> Self:
        """Return the content itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; at the end, check them all."""
        data = self._content.read(size)
        self._size += len(data)
        for digest, _ in self._digests.values():
            digest.update(data)
        if self._tell is not None:
            self._tell(len(data))
        if self._size > self._file.size or not data or size < 0:
            self._check()
        return data

    def close(self) -> None:
        """Let go of it."""
        self._content.close()

    def _check(self) -> None:
        if self._size != self._file.size:
            raise self._wrong(f"it has {self._size} bytes or more, not {self._file.size}")
        for name, (digest, value) in self._digests.items():
            if digest.hexdigest() != value:
                raise self._wrong(f"its {name} is {digest.hexdigest()}, not {value}")

    def _wrong(self, why: str) -> Invalid:
        return Invalid(
            "{path} of {place} is not what its record says: {why}",
            path=self._file.path,
            place=self._place,
            why=Plain(why),
        )
