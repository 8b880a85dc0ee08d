"""Jobs that run by themselves: each by its own schedule, once per registry, never twice at a time.

APScheduler says when. Whether a job runs is decided under a flock beside a stamp of its last run, in a
directory that all daemons of the registry share: a job that another daemon has done, or is doing, is
passed over, and one that was missed is made up once at start. A job that fails is logged, counted and
shown, and does not stop the others. Known limits: stamps hold this machine's time, so that daemons whose
clocks differ by more than a job's period may run it twice; a job that was killed in the middle counts as
run, lest it kill the daemon at every start. On a disk that is full there are no stamps, and jobs run all the
same: the purge is what makes room.
"""

import contextlib
import fcntl
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from gobblerd.domain.errors import GobblerdError, told
from gobblerd.domain.times import NANOSECONDS, format_time, parse_time
from gobblerd.service.when import When, parse_when
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, Durability, opened, read_all, replace_file

FACTS_MOST = 100  # items of a list in a job's facts
_STAMP_MAX_BYTES = 1 << 20
_LATENESS = 0.1  # of an interval: by how much one run may begin late and the next in time
_STEP = 2.0  # seconds by which the time of day jumps where somebody set it
_AHEAD_MOST = 86_400 * NANOSECONDS  # by how much another daemon's clock may be ahead
_NEW, _RUNNING, _DONE, _FAILED = "new", "running", "done", "failed"


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a job did: `facts` to be logged and shown (JSON values), `numbers` for metrics, by name."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


def some(found: Sequence[Any]) -> list[Any]:
    """Return as much of a list as facts hold: a stamp stays small, and the log has the rest."""
    return list(found[:FACTS_MOST])


@dataclass(frozen=True, slots=True)
class Job:
    """Work to be done by a schedule (the texts of when.py), each run put off by up to `jitter` seconds.

    `staging` is the id of the staging directory where it is work on one: then it is done once for each.
    """

    name: str
    run: Callable[[], JobReport]
    when: str
    jitter: float = 0
    staging: str = ""

    @property
    def stamp(self) -> str:
        """Return under which name daemons learn of each other's runs."""
        return f"{self.name}-{self.staging}" if self.staging else self.name


@dataclass(frozen=True, slots=True)
class Stamp:
    """A job's last run on the registry, by whichever daemon; times are RFC 3339, "" where there is none.

    `outcome` is done, failed, running, or new where the job has not run since it was first seen. `success`
    is when it was last done, `failures` how many runs have failed since then, `seconds` how long this one
    took. Facts and numbers are those of the last run that was done.
    """

    start: str
    finish: str = ""
    outcome: str = _NEW
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    success: str = ""
    failures: int = 0
    seconds: float = 0.0


_KNOWN = frozenset(each.name for each in fields(Stamp))  # a later release may know more


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job fares; `last` is the run before one that is running.

    `runs` and `failures` count since this daemon started; `next_run` is RFC 3339.
    """

    name: str
    when: str
    next_run: str | None
    running: bool
    last: Stamp | None
    runs: int
    failures: int


@dataclass(slots=True)
class _Tally:
    """What this daemon knows of one job; outlives a reload."""

    runs: int = 0
    failures: int = 0
    last: Stamp | None = None
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


def is_due(when: When, last_start: int, now: int, jitter: float = 0) -> bool:
    """Tell whether a job that last started at `last_start` should have run by `now` (nanoseconds).

    Jitter and a busy machine may bring two runs of an interval closer together; that much is forgiven.
    """
    if when.is_off:
        return False
    if last_start - now > _AHEAD_MOST:  # the clock was wrong then: until that time the job would rest
        return True
    forgiven = 0.0 if when.every is None else jitter + when.every * _LATENESS
    due = when.next_after(_moment(last_start - int(forgiven * NANOSECONDS)))
    return due is not None and due <= _moment(now)


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / NANOSECONDS, UTC)


class _Stamps:
    """The directory of stamps and locks that the registry's daemons share."""

    def __init__(self, path: str, ready: Callable[[], object]) -> None:
        self._path = path
        self._ready = ready  # makes the directory

    @property
    def exists(self) -> bool:
        return os.path.isdir(self._path)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold the job's lock for a block; yields False if another daemon has it."""
        self._ready()
        path = os.path.join(self._path, f"{name}.lock")
        with opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC) as fd:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def read(self, name: str) -> Stamp | None:
        """Return the job's stamp; None if there is none that can be read."""
        try:
            with opened(os.path.join(self._path, f"{name}.json"), READ_FILE) as fd:
                document = json.loads(read_all(fd, _STAMP_MAX_BYTES))
            found = Stamp(**{key: value for key, value in document.items() if key in _KNOWN})
            parse_time(found.start)
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return found

    def write(self, name: str, stamp: Stamp) -> None:
        """Replace the job's stamp; its lock must be held."""
        data = json.dumps(asdict(stamp), default=str).encode("ascii")
        with opened(self._path, READ_DIRECTORY) as fd:
            replace_file(fd, f"{name}.json.new", f"{name}.json", data, Durability.PROCESS)


class Schedule:
    """Runs jobs when they are due.

    `state` is the directory of the stamps, which `ready` makes when it is first needed; `now` is the
    time in nanoseconds since the epoch; `stir` is called when a job begins or ends.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        state: str,
        ready: Callable[[], object],
        now: Callable[[], int] = time.time_ns,
        stir: Callable[[], object] = lambda: None,
    ) -> None:
        self._stir = stir
        self._jobs = {job.name: job for job in jobs}
        self._stamps = _Stamps(state, ready)
        self._now = now
        self._lock = threading.Lock()
        self._planning = threading.Lock()  # a reload and a clock that was set may come together
        self._tallies: dict[str, _Tally] = {}
        self._scheduler: Any = None
        self._offset = _offset()
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin; what was missed while no daemon ran is made up soon."""
        from apscheduler.executors.pool import ThreadPoolExecutor  # noqa: PLC0415 - 90 ms that the start-up can do without
        from apscheduler.jobstores.memory import MemoryJobStore  # noqa: PLC0415
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415

        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            jobstores={"default": MemoryJobStore()},
            job_defaults={"coalesce": True, "misfire_grace_time": None},
        )
        self._add_all()
        self._scheduler.start()

    @property
    def alive(self) -> bool:
        """Tell whether jobs will run."""
        return self._scheduler is not None and bool(self._scheduler.running)

    def stop(self, timeout: float) -> bool:
        """Begin no further job, and wait up to `timeout` seconds for those that run; tells if none is left.

        Their threads do not keep the process from ending.
        """
        if self.alive:
            self._scheduler.shutdown(wait=False)
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = [tally.thread for tally in self._tallies.values() if tally.thread]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def replace(self, jobs: Sequence[Job]) -> None:
        """Go on with other jobs or other times; a job that runs is not disturbed."""
        with self._planning:
            self._jobs = {job.name: job for job in jobs}
            if self.alive:
                self._scheduler.remove_all_jobs()
                self._add_all()

    def follow_clock(self) -> None:
        """Plan anew if this machine's time of day was set: APScheduler waits for a time, not for seconds."""
        offset = _offset()
        if abs(offset - self._offset) > _STEP and self.alive:
            self._log.warning(
                "the clock was set: jobs are planned anew", seconds=round(offset - self._offset, 1)
            )
            self._offset = offset
            self.replace(tuple(self._jobs.values()))

    def fire(self, name: str) -> None:
        """Run a job in a thread of its own if it is due and nobody runs it (what APScheduler calls)."""
        job = self._jobs.get(name)
        with self._lock:
            tally = self._tallies.setdefault(name, _Tally())
            if job is None or tally.running:
                return
            tally.thread = threading.Thread(
                target=self._attempt, args=(job, tally), name=f"job {name}", daemon=True
            )
            tally.thread.start()

    def snapshot(self) -> tuple[JobStatus, ...]:
        """Return how every job fares."""
        return tuple(self._status(job) for job in tuple(self._jobs.values()))

    def _status(self, job: Job) -> JobStatus:
        tally = self._tallies.get(job.name) or _Tally()
        planned = self._scheduler.get_job(job.name) if self.alive else None
        next_run = planned.next_run_time.astimezone(UTC) if planned and planned.next_run_time else None
        return JobStatus(
            name=job.name,
            when=job.when,
            next_run=format_time(int(next_run.timestamp()) * NANOSECONDS) if next_run else None,
            running=tally.running,
            last=tally.last,
            runs=tally.runs,
            failures=tally.failures,
        )

    def _add_all(self) -> None:
        for job in self._jobs.values():
            when = parse_when(job.when)
            if when.is_off:
                continue
            options = {"next_run_time": self._soon(job)} if self._missed(job, when) else {}
            self._scheduler.add_job(
                self.fire, when.trigger(job.jitter), args=[job.name], id=job.name, name=job.name, **options
            )

    def _soon(self, job: Job) -> datetime:
        delay = random.uniform(0, job.jitter)  # noqa: S311 - spreads load, guards nothing
        return datetime.now(UTC) + timedelta(seconds=delay)

    def _missed(self, job: Job, when: When) -> bool:
        """Tell whether a run was missed; a job that was never seen is stamped, to be missed from now on."""
        last = self._stamps.read(job.stamp)
        with self._lock:
            self._tallies.setdefault(job.name, _Tally()).last = last
        if last is not None:
            return is_due(when, parse_time(last.start), self._now(), job.jitter)
        if self._stamps.exists:  # else nobody has used the registry, and there is nothing to miss
            with contextlib.suppress(OSError), self._stamps.held(job.stamp) as mine:
                if mine:
                    self._stamps.write(job.stamp, Stamp(format_time(self._now())))
        return False

    def _attempt(self, job: Job, tally: _Tally) -> None:
        """Run a job unless another daemon has, or does; whatever happens is logged and kept."""
        self._stir()
        try:
            with self._stamps.held(job.stamp) as mine:
                tally.last = last = self._stamps.read(job.stamp)  # what is shown until this run has ended
                if mine and (last is None or self._due(job, last)):
                    self._perform(job, tally, last or Stamp(""))
        except Exception as error:  # noqa: BLE001 - one job's trouble must not stop the others
            tally.failures += 1
            moment = format_time(time.time_ns())  # the file server may be what is out of reach
            reason = self._complain("scheduled job could not run", job, error)
            tally.last = replace(tally.last or Stamp(""), start=moment, outcome=_FAILED, reason=reason)
        finally:
            self._stir()

    def _due(self, job: Job, last: Stamp) -> bool:
        if last.outcome == _NEW:  # seen, but not run: the first time counts
            return True
        return is_due(parse_when(job.when), parse_time(last.start), self._now(), job.jitter)

    def _perform(self, job: Job, tally: _Tally, before: Stamp) -> None:
        stamp = replace(before, start=format_time(self._now()), finish="", outcome=_RUNNING, reason="")
        with contextlib.suppress(OSError):  # told at the end; on a full disk the purge is what makes room
            self._stamps.write(job.stamp, stamp)
        tally.runs += 1
        began = time.monotonic()
        try:
            report = job.run()
        except Exception as error:  # noqa: BLE001 - as above
            tally.failures += 1
            reason = self._complain("scheduled job failed", job, error, seconds=_since(began))
            stamp = replace(stamp, outcome=_FAILED, reason=reason, failures=before.failures + 1)
        else:
            stamp = replace(stamp, outcome=_DONE, facts=dict(report.facts), failures=0)
            stamp = replace(stamp, numbers=dict(report.numbers), success=format_time(self._now()))
            self._log.info("scheduled job done", job=job.name, seconds=_since(began), facts=stamp.facts)
        tally.last = replace(stamp, finish=format_time(self._now()), seconds=_since(began))
        try:
            self._stamps.write(job.stamp, tally.last)
        except OSError as error:
            self._complain("the stamp of a scheduled job could not be written", job, error)

    def _complain(self, what: str, job: Job, error: Exception, **facts: object) -> str:
        """Log what is wrong, in one line where it is the storage that fails; return it."""
        if isinstance(error, GobblerdError | OSError):
            reason = told(error)
            self._log.error(what, job=job.name, reason=reason, **facts)
        else:
            reason = f"{type(error).__name__}: {error}"
            self._log.error(what, job=job.name, exc_info=error, **facts)
        return reason


def _offset() -> float:
    return time.time() - time.monotonic()


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
