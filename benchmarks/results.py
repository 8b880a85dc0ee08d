"""What was measured: plain values, and their medians and ratios."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.workload import Measure


@dataclass
class Contest:
    """One server at one figure: its values, and by how many times they beat Go's and the first server's."""

    values: list[float] = field(default_factory=list)
    times_go: list[float] = field(default_factory=list)  # of each round, with that round's calibration
    times_first: list[float] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        medians = {f"median_{key}": _median(values) for key, values in asdict(self).items()}
        return {**asdict(self), **medians}


@dataclass
class Row:
    """One figure of one workload."""

    workload: str
    title: str
    measure: Measure
    go_here: list[float] = field(default_factory=list)  # Go's figure on this machine, estimated each round
    contests: dict[str, Contest] = field(default_factory=dict)
    limits: dict[str, list[float]] = field(default_factory=dict)  # seconds

    def add(self, contender: str, value: float, first: float | None) -> None:
        """Note one round's value; `first` is that of the first server in the same round."""
        contest = self.contests.setdefault(contender, Contest())
        contest.values.append(value)
        if self.go_here:
            contest.times_go.append(self.measure.times(value, self.go_here[-1]))
        if first is not None:
            contest.times_first.append(self.measure.times(value, first))

    def reach(self, *, full: bool) -> float | None:
        """Return how many times better than Go a server is to be."""
        wanted = self.measure.reach_full if full else None
        return self.measure.reach if wanted is None else wanted

    def falls_short(self, contender: str, *, full: bool) -> bool:
        """Tell whether a server misses what is to be reached."""
        contest = self.contests[contender]
        reach, most = self.reach(full=full), self.measure.most
        if most is not None and statistics.median(contest.values) > most:
            return True
        return reach is not None and bool(contest.times_go) and statistics.median(contest.times_go) < reach

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "workload": self.workload,
            "title": self.title,
            **{key: value for key, value in asdict(self.measure).items() if value is not None},
            "go_here": _median(self.go_here),
            "servers": {name: contest.document() for name, contest in self.contests.items()},
            "limits": {name: _median(values) for name, values in self.limits.items()},
        }


@dataclass
class Results:
    """All rows, peak memory by workload and server in bytes, and what went wrong."""

    rows: list[Row] = field(default_factory=list)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note_memory(self, workload: str, contender: str, peak: int) -> None:
        """Note a server's peak memory at a workload."""
        self.memory.setdefault(workload, {})[contender] = peak


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
