"""Whether the daemon can serve: looked at in the housekeeping's rounds, logged, told to whoever asks.

What is told lies in memory. A look that does not come back, since a file server hangs, is a finding of its
own: it is told once the last one is too old.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

STALE_SECONDS = 30.0  # many rounds of the housekeeping


@dataclass(frozen=True, slots=True)
class Space:
    """What a filesystem has: bytes in all, bytes free to us, inodes in all, inodes free."""

    size: int
    free: int
    files: int
    free_files: int

    @classmethod
    def of(cls, path: str) -> "Space":
        """Look at the filesystem of a path; OSError."""
        found = os.statvfs(path)
        return cls(
            found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail
        )


class Vitals:
    """The last look at what the daemon lives on; `directories` are paths by what they are."""

    def __init__(
        self,
        directories: Mapping[str, str],
        examine: Callable[[], list[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directories = directories
        self._examine = examine
        self._clock = clock
        self._looked = clock()
        self._problems: list[str] = ["starting: what the last run left is being looked at"]
        self._announced = ""
        self._logged: list[str] = []
        self.unfinished = 0  # committed changes that are not applied yet
        self.spaces: Mapping[str, Space] = {}

    def look(self) -> None:
        """Look again; what cannot be looked at is a problem."""
        problems = self._examine()
        spaces = {}
        for what, path in self._directories.items():
            try:
                spaces[what] = Space.of(path)
            except OSError as error:
                problems.append(f"the {what} directory cannot be reached: {error.strerror}")
        self.spaces = spaces
        self._log(problems)
        self._problems = problems
        self._looked = self._clock()

    def _log(self, problems: list[str]) -> None:
        for each in problems:
            if each not in self._logged:
                log.error("cannot serve as it should", reason=each)
        if self._logged and not problems:
            log.info("serves as it should again")
        self._logged = problems

    def announce(self, problem: str) -> None:
        """Tell this from now on, whatever is found besides."""
        self._announced = problem

    def problems(self) -> list[str]:
        """Say what keeps the daemon from serving; nothing if all is well."""
        found = [self._announced] if self._announced else []
        age = self._clock() - self._looked
        if age > STALE_SECONDS:
            found.append(f"the storage has not answered for {age:.0f} s")
        return [*found, *self._problems]
