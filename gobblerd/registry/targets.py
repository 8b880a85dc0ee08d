"""What links go to, as the manifests of other versions and the disk have it; for checking links."""

import os
import stat
from collections.abc import Mapping

from gobblerd.domain.errors import Fault
from gobblerd.domain.links import is_proper
from gobblerd.domain.manifest import Entry, FileAddress
from gobblerd.domain.names import Address
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.tree import EMPTY


class Targets:
    """What the manifests of other versions, and the disk, say of the files that links go to.

    Each version's manifest is read once, and only the entries that are asked for are kept.
    """

    def __init__(self, metadata: Metadata, here: Address, manifest: Mapping[str, Entry]) -> None:
        self._metadata = metadata
        self._here = here
        self._manifest = manifest
        self._found: dict[FileAddress, Entry | str] = {}

    def entry(self, file: FileAddress) -> Entry | str:
        """Return the file's entry in its version's manifest, or what is wrong with it."""
        return self._found[file]

    def read(self, files: set[FileAddress]) -> None:
        """Look at the files, version by version."""
        proper: dict[Address, list[FileAddress]] = {}
        for file in files:
            if is_proper(file):
                proper.setdefault(file.place, []).append(file)
            else:
                self._found[file] = "no file that could be in a registry"
        for version, wanted in proper.items():
            manifest = self._manifest_of(version)
            for file in wanted:
                self._found[file] = manifest if isinstance(manifest, str) else self._judged(file, manifest)

    def _manifest_of(self, version: Address) -> Mapping[str, Entry] | str:
        if version == self._here:
            return self._manifest
        try:
            if not self._metadata.has(version):
                return "no such version in the registry"
            self._metadata.summary(version)
            return self._metadata.manifest(version)
        except Fault as error:
            return error.reason
        except OSError as error:
            return error.strerror or "a version that cannot be read"

    def _judged(self, file: FileAddress, manifest: Mapping[str, Entry]) -> Entry | str:
        entry = manifest.get(file.path)
        if entry is None:
            return "no such file in its manifest"
        if entry.is_directory:
            return EMPTY
        path = self._metadata.path(str(file))
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                os.stat(path)
        except OSError as error:
            return f"no such file on disk ({error.strerror})"
        if stat.S_ISREG(status.st_mode) and status.st_size != entry.size:
            return f"a file of {status.st_size} bytes on disk"
        if stat.S_ISDIR(status.st_mode):
            return "a directory on disk"
        return entry
