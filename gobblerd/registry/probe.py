"""Proving, before the first commit in a project, that a rename from `..transactions` reaches it.

Across project quotas or filesets of one filesystem rename gives EXDEV; after a commit point it would be too
late to learn that. A probe file is renamed into the project and removed; a note in `state/` lets the next
start remove a probe whose prober died.
"""

import contextlib
import os
import threading

from gobblerd.domain.errors import Fault, Plain
from gobblerd.registry import layout
from gobblerd.registry.transaction import make_transactions
from gobblerd.storage.files import Durability, write_file


class RenameProbe:
    """What one process has proved of a registry's projects; "" is the root itself."""

    def __init__(self, root: str, staging: str) -> None:
        self._root = root
        self._name = f"probe-{staging or 'jobs'}"
        self._note = layout.join(root, layout.STATE, f"{self._name}.note")
        self._proved: set[str] = set()
        self._lock = threading.Lock()

    def has_proved(self, project: str) -> bool:
        """Tell whether nothing is left to be checked."""
        return project in self._proved

    def check(self, project: str) -> None:
        """Raise Fault unless a file can be renamed from the transactions into the project."""
        with self._lock:
            if project in self._proved:
                return
            try:
                self._probe(project)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.clear()
                raise Fault(
                    "nothing can be renamed from the registry's ..transactions into {project}: {error}",
                    project=project or "the registry",
                    error=Plain(error.strerror or "unknown"),
                ) from error
            self._proved.add(project)

    def _probe(self, project: str) -> None:
        make_transactions(self._root)
        self.clear()
        write_file(self._note, project.encode(), Durability.FULL)  # an empty one could not say where to look
        probe = layout.join(self._root, layout.STATE, self._name)
        write_file(probe, b"", Durability.PROCESS)
        os.rename(probe, layout.join(self._root, project, f"..{self._name}"))
        self.clear()

    def clear(self) -> None:
        """Remove what a probe left, if there is anything."""
        with contextlib.suppress(FileNotFoundError):
            with open(self._note, encoding="utf-8") as file:
                project = file.read()
            for path in (
                layout.join(self._root, layout.STATE, self._name),
                layout.join(self._root, project, f"..{self._name}"),
            ):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    os.unlink(path)
            os.unlink(self._note)
