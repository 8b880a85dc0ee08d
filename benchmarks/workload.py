"""What a workload is: what it needs made before, what is timed, and what is to be reached.

Each is run for every server and round on a staging directory and a registry of its own (`Run`), with what
can be shared between them (`Workshop`) made only once.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from benchmarks.asking import REST, Desk
from benchmarks.scratch import remove
from benchmarks.servers import Server, ServerCommand

_LEAST = 1e-9  # what is divided by where nothing could be measured


class Bound(StrEnum):
    """What a figure of the Go service is scaled by on another machine."""

    BYTES = "md5sum"  # of 1 GiB: bytes and computing
    FILES = "cp -r"  # of 10,000 files of 4 KiB: making files


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a workload: `unit` is s, ms, %, MiB (less is better), or ends with /s (more is).

    `go` is the Go service's on the reference machine. `reach` is how many times better ours is to be,
    `reach_full` the same for a server that is durable, where that differs; `most` is a bound by itself.
    """

    key: str
    unit: str = "s"
    go: float | None = None
    bound: Bound = Bound.FILES
    reach: float | None = None
    reach_full: float | None = None
    most: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Tell whether this is a rate."""
        return self.unit.endswith("/s")

    def times(self, value: float, other: float) -> float:
        """Return how many times better `value` is than `other`."""
        better, worse = (value, other) if self.more_is_better else (other, value)
        return better / max(worse, _LEAST)

    def go_here(self, factor: float, scale: float) -> float | None:
        """Return the Go figure for a machine `factor` times as slow, and a workload of that scale."""
        if self.go is None:
            return None
        return self.go / factor if self.more_is_better else self.go * factor * scale


@dataclass(frozen=True, slots=True)
class Limit:
    """What anyone can run on the same data; in the shell `command`, `{new}` is a path that is not there."""

    name: str
    command: str


@dataclass
class Workshop:
    """What the servers share: a directory for what is made once per workload."""

    directory: str
    scale: float
    _made: dict[str, str] = field(default_factory=dict)

    def count(self, number: int) -> int:
        """Return a number of things at this scale."""
        return max(1, round(number * self.scale))

    def material(self, name: str, make: Callable[[str], object]) -> str:
        """Return the path of some data, made by `make` at its first mention."""
        if name not in self._made:
            path = os.path.join(self.directory, name)
            make(path)
            self._made[name] = path
        return self._made[name]

    def forget(self, *, but: Sequence[str] = ()) -> None:
        """Remove what was made."""
        for name in [name for name in self._made if name not in but]:
            remove(self._made.pop(name))


@dataclass
class Run:
    """One server at one workload."""

    shop: Workshop
    directory: str
    command: ServerCommand
    server: Server
    by: str = REST
    _desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        """Where to ask the server; it must have been started."""
        if self._desk is None or self._desk.port != self.server.port:
            self._desk = Desk(self.server.staging, self.server.port, self.by)
        return self._desk

    def staged(self, name: str) -> str:
        """Return the path of something in the staging directory."""
        return os.path.join(self.server.staging, name)

    def stored(self, *parts: str) -> str:
        """Return the path of something in the registry."""
        return os.path.join(self.server.registry, *parts)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._desk is not None:
            self._desk.close()


Figures = Mapping[str, float]


class Workload(ABC):
    """One row, or a few, of the table."""

    name: ClassVar[str]
    title: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]]
    by_drop: ClassVar[bool] = True  # whether it makes sense without HTTP
    only_drop: ClassVar[bool] = False  # whether it makes no sense with it

    def registry(self, shop: Workshop) -> str | None:  # noqa: ARG002 - most need none
        """Return a registry that all servers share, None for an empty one for each."""
        return None

    def prepare(self, run: Run) -> None:  # noqa: B027 - most need none
        """Do what is not timed; the server runs."""

    @abstractmethod
    def measure(self, run: Run) -> Figures:
        """Time it, and return the figures by the keys of `measures`; WrongAnswer if an answer is wrong."""

    def limits(self, shop: Workshop) -> Sequence[Limit]:  # noqa: ARG002 - some have none
        """Return what anyone can run on the same data."""
        return ()
