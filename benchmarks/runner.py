"""Runs workloads: all servers alternately in each round, everything fresh for each.

A first round is not timed: it warms the page cache, and the servers' memory is watched during it, which
would cost time in the others.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.asking import DROP, REST, WrongAnswer
from benchmarks.machine import CALIBRATION, Calibration, timed
from benchmarks.processes import MIB, PeakMemory
from benchmarks.results import Results, Row
from benchmarks.scratch import remove, settle
from benchmarks.servers import Server, ServerCommand
from benchmarks.workload import Figures, Run, Workload, Workshop


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, asked in one way."""

    command: ServerCommand
    by: str

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.command.name + ("" if self.by == REST else " (drop)")


def contenders(servers: Sequence[ServerCommand], ways: Sequence[str], workload: Workload) -> list[Contender]:
    """Return who takes part in a workload."""
    if workload.only_drop:
        ways = (DROP,)
    elif not workload.by_drop:
        ways = (REST,)
    durable = [server for server in servers if not server.is_process_durable]
    if durable and all(measure.reach_full is None for measure in workload.measures):
        servers = durable  # no figure may be bought with durability
    return [Contender(server, by) for by in ways for server in servers]


def say(text: str) -> None:
    """Tell the one who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Runner:
    """One run of the benchmarks in a scratch directory."""

    def __init__(
        self, path: str, servers: Sequence[ServerCommand], ways: Sequence[str], *, scale: float, rounds: int
    ) -> None:
        self.results = Results()
        self.shop = Workshop(os.path.join(path, "shop"), scale)
        self.calibration = Calibration(self.shop)
        self.watch_memory = True
        self.with_limits = True
        self._path = path
        self._servers = servers
        self._ways = ways
        self._rounds = rounds
        self._deaf: dict[str, bool] = {}  # servers that do not answer drops
        os.mkdir(self.shop.directory)

    def run(self, workload: Workload) -> None:
        """Run one workload for all servers and rounds; what goes wrong becomes a problem of the results."""
        rows = {each.key: Row(workload.name, workload.title, each) for each in workload.measures}
        self.results.rows += rows.values()
        who = contenders(self._servers, self._ways, workload)
        if self.watch_memory:
            for contender in who:
                self._guarded(workload, contender, watch=True)
        for number in range(1, self._rounds + 1):
            self._calibrate(rows)
            found: dict[str, Figures] = {}
            turn = (number - 1) % len(who)
            for contender in (*who[turn:], *who[:turn]):
                figures = found[contender.name] = self._guarded(workload, contender)
                say(f"{workload.name} {number}/{self._rounds} {contender.name}: {_shown(workload, figures)}")
            for contender in who:
                for key, value in found[contender.name].items():
                    rows[key].add(contender.name, value, found[who[0].name].get(key))
            if self.with_limits:
                self._time_limits(workload, rows)
        self.shop.forget(but=CALIBRATION)

    def _calibrate(self, rows: dict[str, Row]) -> None:
        factors = self.calibration.factors(row.measure.bound for row in rows.values() if row.measure.go)
        for row in rows.values():
            if row.measure.go:
                go_here = row.measure.go_here(factors[row.measure.bound], self.shop.scale)
                assert go_here is not None
                row.go_here.append(go_here)

    def _time_limits(self, workload: Workload, rows: dict[str, Row]) -> None:
        row = next(iter(rows.values()))
        for limit in workload.limits(self.shop):
            if shutil.which(limit.name.split()[0]) is None:
                continue
            settle(self._path)
            seconds = timed(limit.command, os.path.join(self._path, "new"))
            row.limits.setdefault(limit.name, []).append(seconds)

    def _guarded(self, workload: Workload, contender: Contender, *, watch: bool = False) -> Figures:
        """Run once; a wrong answer or a dead server is noted, and gives no figures."""
        if contender.by == DROP and self._deaf.get(contender.command.name):
            return {}
        try:
            with self._serving(workload, contender) as run:
                if contender.by == DROP and not self._hears(run):
                    return {}
                return self._measured(workload, contender, run, watch=watch)
        except (WrongAnswer, OSError, RuntimeError) as error:
            self.results.problems.append(f"{workload.name} by {contender.name}: {error}")
            say(f"WRONG {self.results.problems[-1]}")
            return {}

    def _hears(self, run: Run) -> bool:
        name = run.command.name
        if name not in self._deaf:
            self._deaf[name] = not run.desk.answers_drops()
        return not self._deaf[name]

    def _measured(self, workload: Workload, contender: Contender, run: Run, *, watch: bool) -> Figures:
        workload.prepare(run)
        settle(self._path)
        if not watch:
            return workload.measure(run)
        with PeakMemory(run.server.pid) as peak:
            workload.measure(run)
        self.results.note_memory(workload.name, contender.name, peak.bytes)
        say(f"{workload.name} memory {contender.name}: {peak.bytes / MIB:.0f} MiB")
        return {}

    @contextlib.contextmanager
    def _serving(self, workload: Workload, contender: Contender) -> Iterator[Run]:
        """Start a server on a fresh staging directory, and on a fresh or the shared registry."""
        directory = os.path.join(self._path, "run")
        staging = os.path.join(directory, "staging")
        registry = workload.registry(self.shop)
        os.makedirs(staging)
        os.chmod(staging, 0o1777)
        if registry is None:
            registry = os.path.join(directory, "registry")
            os.mkdir(registry)
        server = Server(contender.command, staging, registry, os.path.join(directory, "log"))
        run = Run(self.shop, directory, contender.command, server, contender.by)
        try:
            server.start()
            yield run
        finally:
            run.close()
            server.stop()
            remove(directory)


def _shown(workload: Workload, figures: Figures) -> str:
    if not figures:
        return "no figures"
    units = {each.key: each.unit for each in workload.measures}
    return ", ".join(f"{key} {value:.4g} {units[key]}" for key, value in figures.items())
