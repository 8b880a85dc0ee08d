"""Events that downstream indexers read from `..logs` (spec/registry.md)."""

from dataclasses import dataclass
from typing import Literal

from gobblerd.domain.names import Address


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a place; `latest` tells whether it touches the asset's latest version."""

    type: Literal["add-version", "delete-version", "delete-asset", "delete-project", "reindex-version"]
    place: Address
    latest: bool | None = None

    def document(self) -> dict[str, str | bool]:
        """Return the JSON object of the event file."""
        found: dict[str, str | bool] = {"type": self.type}
        found.update(zip(("project", "asset", "version"), self.place, strict=False))
        if self.latest is not None:
            found["latest"] = self.latest
        return found
