"""What a registry's projects use, for `gobblerd status`: read from the registry itself, as anyone may."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from gobblerd.cli.gobbler.text import counted, size
from gobblerd.domain.names import Address
from gobblerd.domain.times import year_of
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.survey import read_limit, read_usage

_SHOWN = 10  # projects


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """Bytes that a project stores, and may store this year; None: cannot be read, or is not limited."""

    project: str
    used: int | None
    limit: int | None

    def __str__(self) -> str:
        """Return it for people."""
        used = "?" if self.used is None else size(self.used)
        if self.limit is None:
            return f"{self.project}  {used}"
        part = f" ({(self.used or 0) / self.limit:.0%})" if self.limit else ""
        return f"{self.project}  {used} of {size(self.limit)}{part}"


@dataclass(frozen=True, slots=True)
class RegistryUsage:
    """How many projects there are, the bytes that all store by their usages, and those that store most."""

    projects: int
    stored: int
    most: tuple[ProjectUsage, ...]

    def __str__(self) -> str:
        """Return the sum for people."""
        return f"{size(self.stored)} in {counted(self.projects, 'project')}"

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "projects": self.projects,
            "stored": self.stored,
            "most": [asdict(each) for each in self.most],
        }


def read_registry_usage(root: str) -> RegistryUsage:
    """Read two small documents of each project; OSError where the registry cannot be listed."""
    metadata, year = Metadata(root), year_of(time.time_ns())
    every = [_usage_of(metadata, project, year) for project in metadata.projects()]
    most = sorted(every, key=lambda each: (-(each.used or 0), each.project))[:_SHOWN]
    return RegistryUsage(len(every), sum(each.used or 0 for each in every), tuple(most))


def _usage_of(metadata: Metadata, project: Address, year: int) -> ProjectUsage:
    name = project.project
    try:
        return ProjectUsage(name, read_usage(metadata, name), read_limit(metadata, name, year))
    except OSError:  # deleted meanwhile, or closed to this account
        return ProjectUsage(name, None, None)
