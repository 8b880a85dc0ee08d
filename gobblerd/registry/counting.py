"""Counting a project's bytes, reading again only the manifests that changed since the last count."""

import os

from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.source import Stamp


class UsageCount:
    """The usage of one project, by its manifests; `total` may be called again and again."""

    def __init__(self, metadata: Metadata, project: Address) -> None:
        self._metadata = metadata
        self._project = project
        self._known: dict[Address, tuple[Stamp, int]] = {}

    def total(self) -> int:
        """Return the bytes of all versions; Fault names a manifest that cannot be read."""
        known: dict[Address, tuple[Stamp, int]] = {}
        for version in self._metadata.versions_below(self._project):
            stamp = self._stamp(version)
            before = self._known.get(version)
            if before is not None and before[0] == stamp:
                known[version] = before
            else:
                known[version] = (stamp, self._metadata.stored_bytes(version))
        self._known = known
        return sum(size for _, size in known.values())

    def _stamp(self, version: Address) -> Stamp:
        path = self._metadata.path(layout.in_place(version, layout.MANIFEST))
        try:
            return Stamp.of(os.stat(path))
        except FileNotFoundError:
            return Stamp(0, 0, 0, 0)
