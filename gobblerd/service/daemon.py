"""The composition root: opens everything, joins the rooms, serves until told to stop, and stops in order.

Start: staging and registry are opened, HTTP answers, then (in a thread) what a crash left is mended, the
spool begins to hand out, watcher, workers and schedule start. Stop: no new claims, committed work finishes,
the rest is given back, exit 0 within `drain_timeout`.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from gobblerd import __version__
from gobblerd.actions.discovery import discover
from gobblerd.domain.errors import GobblerdError, told
from gobblerd.domain.times import format_time
from gobblerd.registry import layout
from gobblerd.registry.consume import consume_listed
from gobblerd.registry.record import Record
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import make_transactions
from gobblerd.registry.writable import check_writable, require_writable
from gobblerd.service import logs
from gobblerd.service.calls import Desk
from gobblerd.service.config import Config, taken_over
from gobblerd.service.descriptors import open_as_many_as_allowed
from gobblerd.service.dispatch import Dispatcher
from gobblerd.service.front import Front
from gobblerd.service.gauges import Gauges
from gobblerd.service.housekeeping import Housekeeping
from gobblerd.service.jobs import Jobs
from gobblerd.service.memory import use_few_arenas
from gobblerd.service.metrics import Metrics
from gobblerd.service.notify import Notifier
from gobblerd.service.parts import rules_of, spool_limits_of, watch_settings_of
from gobblerd.service.schedule import JobStatus, Schedule
from gobblerd.service.settings import ConfigError
from gobblerd.service.shares import Shares
from gobblerd.service.status import Serving, StatusFile, Watching, status_document, write_status
from gobblerd.service.vitals import Vitals
from gobblerd.service.web.messages import Settings, Setup
from gobblerd.service.web_process import WebProcess, listening_sockets, url_of
from gobblerd.service.workers import Posts, Workers
from gobblerd.staging.directory import RESPONSES, Staging
from gobblerd.staging.spool import Spool, SpoolStatus
from gobblerd.staging.watcher import Watcher
from gobblerd.storage.turn import Turn

log = structlog.get_logger(__name__)

_SHARE_OF_DRAIN = 0.6  # of drain_timeout: how long uncommitted work may go on before it is given back
_TICK = 0.05
_TIDYING = 2.0  # seconds for what answered requests leave behind: a record, the files of what was deleted


class Daemon:
    """One daemon: one staging directory, one registry."""

    def __init__(self, config: Config, reload: Callable[[], Config], web: WebProcess | None = None) -> None:
        """Compose nothing yet; `web` is the web process that was spawned for it, None without HTTP."""
        self._config = config
        self._web = web
        self._front: Front | None = None
        self._reload = reload
        self._rules = rules_of(config)
        self._limits = spool_limits_of(config)
        self._notifier = Notifier()
        self._state = "starting"
        self._exit_code = 0
        self._hindrances: list[str] = []  # why what is committed cannot be finished
        self._failing: type[Exception] | None = None  # how the housekeeping failed last, as was logged
        self._reloading = threading.Lock()  # hangups may come faster than they are dealt with
        self._began = threading.Event()  # recovery is done, requests are served

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        use_few_arenas()
        open_as_many_as_allowed()
        try:
            self._open()
            asyncio.run(self._serve())
        except (GobblerdError, OSError) as error:
            sys.stderr.write(f"gobblerd: {told(error)}\n")
            return 1
        return 0

    # -- composition -----------------------------------------------------------------------------------

    def _open(self) -> None:
        config = self._config
        actions = discover()
        self._metrics = Metrics(__version__, actions)
        self._staging = Staging.open(config.staging, config.durability)
        self._registry = Registry(
            config.registry,
            staging=self._staging.id,
            durability=config.durability,
            require_marker=lambda: self._config.require_marker,
            lock_timeout=lambda: self._config.lock_timeout,
            lock_waited=self._metrics.lock_waited,
        )
        self._registry.check_marker()
        require_writable(config.registry)
        os.makedirs(layout.join(config.registry, layout.LOGS), exist_ok=True)
        turn = Turn()
        self._house = Housekeeping(self._tend, self._makes_progress, self._notifier.watchdog_interval)
        self._status = StatusFile(self._staging.responses_fd)
        self._looks = True  # this round of the housekeeping does
        self._spool = Spool(
            self._staging,
            lambda: self._limits,
            lambda name: name in actions and actions[name].is_long,
            lambda user: user in self._rules.administrators,
            answered=self._metrics.answered,
            turn=turn,
            stir=self._house.stir,
        )
        self._dispatcher = Dispatcher(
            self._registry,
            self._staging,
            self._spool.claims,
            actions,
            lambda: self._rules,
            self._metrics.taken,
        )
        self._workers = Workers(
            self._spool, self._dispatcher, turn, short=config.short_workers, long=config.long_workers
        )
        self._watcher = Watcher(self._staging, self._spool, lambda: watch_settings_of(self._config))
        self._jobs = Jobs(self._registry, self._staging, self._spool, lambda: self._config)
        state = layout.join(config.registry, layout.STATE)
        self._schedule = Schedule(
            self._jobs.planned(),
            state,
            lambda: make_transactions(config.registry),
            self._registry.clock.now,
            self._house.stir,
        )
        self._vitals = Vitals({"staging": config.staging, "registry": config.registry}, self._troubles)
        shares = Shares(self._registry, lambda: self._config.quota_enforced)
        self._metrics.watch(
            Gauges(self._spool.snapshot, self._schedule.snapshot, shares.figures, self._vitals)
        )
        self._started = format_time(self._staging.clock.now())

    @property
    def _url(self) -> str:
        return url_of(self._config.host, self._config.port, self._config.prefix)

    # -- serving ---------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._on_hangup(loop))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # what `serve` let wait
        if self._web is not None:
            self._front = self._open_front(self._web)
            self._front.start()
        beginning = loop.run_in_executor(None, self._begin)
        self._house.start(partial(loop.call_soon_threadsafe, self._notifier.alive))
        await stop.wait()
        await self._stop(beginning)

    def _open_front(self, web: WebProcess) -> Front:
        desk = Desk(
            Posts(self._spool, self._workers), self._vitals.problems, self._metrics.text, self._document
        )
        return Front(web, listening_sockets(self._config.host, self._config.port), desk, self._setup)

    def _setup(self) -> Setup:
        config = self._config
        settings = Settings(tuple(config.whitelist), config.log_level)
        return Setup(self._staging.path, config.registry, self._url, config.prefix, settings)

    def _begin(self) -> None:
        """Mend what a crash left, then begin to take requests; in a thread, while HTTP answers already."""
        try:
            discarded = self._registry.clean_up()
            left = self._mend()
            log.info("recovered", discarded=discarded, unfinished=left)
            self._registry.close_in_batches(self._spool.claims.sync_responses)
            self._spool.start()
            self._workers.start()
            self._watcher.start()
            with self._reloading:  # what was reloaded meanwhile counts
                self._schedule.replace(self._jobs.planned())
                self._schedule.start()
                self._began.set()
        except Exception as error:  # nothing can be served: say why, and end
            if isinstance(error, GobblerdError | OSError):
                log.error("cannot begin to serve", reason=told(error))  # noqa: TRY400  # it says all
            else:
                log.exception("cannot begin to serve")
            self._exit_code = 1
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self._state = "serving"
        self._house.do_round()
        self._notifier.ready(f"serving {self._staging.path}")
        log.info(
            "serving",
            staging=self._staging.path,
            registry=self._config.registry,
            url=self._url if self._config.port else None,
            watch=self._watcher.mode,
            watch_reason=self._watcher.reason,
        )

    def _mend(self) -> int:
        claims = self._spool.claims
        return self._registry.recovery.mend(claims.deliver, self._consume, claims.pending)

    def _consume(self, record: Record) -> None:
        if record.consume is not None:
            listing = layout.join(self._registry.root, layout.TRANSACTIONS, record.id, record.consume.slot)
            consume_listed(self._staging.fd, record.consume.source, record.consume.inode, listing)

    # -- housekeeping ----------------------------------------------------------------------------------

    def _tend(self, whole: bool) -> bool:  # noqa: FBT001  # what Housekeeping calls
        """Do one round: look, mend unfinished changes, keep the status; tell whether nothing happens.

        At rest every other round is only a sign of life.
        """
        quiet = False
        self._looks = whole or not self._looks
        try:
            if not self._looks:
                return self._status.touch()
            if self._began.is_set() and self._state == "serving":
                self._hindrances = _refusals(
                    "what was done cannot be finished or answered", self._mend_and_count
                )
                self._vitals.look()
                self._schedule.follow_clock()
                quiet = not (self._vitals.unfinished or self._vitals.problems())
            if whole or not quiet:
                quiet &= not self._status.keep(self._facts(), self._document)
            else:
                quiet = self._status.touch()
        except (OSError, GobblerdError) as error:
            if type(error) is not self._failing:  # it comes every other second, for days perhaps
                log.warning("the status in responses/ cannot be kept", reason=told(error))
            self._failing = type(error)
            return False
        self._failing = None
        return quiet

    def _mend_and_count(self) -> None:
        self._vitals.unfinished = self._mend()

    def _makes_progress(self) -> bool:
        return not self._began.is_set() or self._workers.alive

    def _document(self) -> dict[str, object]:
        return status_document(*self._facts())

    def _facts(self) -> tuple[Serving, Watching, SpoolStatus, Sequence[JobStatus], Sequence[str]]:
        url = self._url if self._config.port else None
        return (
            Serving(self._state, self._started, self._staging.path, self._config.registry, url),
            Watching(self._watcher.mode, self._watcher.reason, self._watcher.alive),
            self._spool.snapshot(),
            self._schedule.snapshot(),
            self._vitals.problems(),
        )

    def _troubles(self) -> list[str]:
        """Look for what keeps the daemon from serving; nothing if all is well."""
        found = list(self._hindrances)
        if not self._watcher.alive:
            found.append(f"the watcher does not work: {self._watcher.reason}")
        elif trouble := self._staging.trouble():
            found.append(trouble)
        else:
            found += _refusals(
                "no request can be answered",
                partial(check_writable, os.path.join(self._staging.path, RESPONSES)),
            )
        if not self._workers.alive:
            found.append("a worker thread has died")
        if not self._schedule.alive:
            found.append("the scheduler does not run")
        if self._front is not None and not self._front.alive:
            found.append("the web process has died, and is being replaced")
        return found + _refusals("the registry is not usable", self._require_registry)

    def _require_registry(self) -> None:
        self._registry.check_marker()
        os.stat(layout.join(self._registry.root, layout.LOGS))
        require_writable(self._registry.root)

    # -- signals ---------------------------------------------------------------------------------------

    def _on_hangup(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_in_executor(None, self._reload_in_turn)

    def _reload_in_turn(self) -> None:
        with self._reloading:
            self._take_new_configuration()

    def _take_new_configuration(self) -> None:
        """Swap the configuration if all of it is valid; else keep the old one and say why."""
        self._notifier.reloading()
        try:
            config, waiting = taken_over(self._config, self._reload())
        except ConfigError as error:
            log.warning("the configuration was not reloaded", problems=str(error))
        else:
            self._config = config
            self._rules = rules_of(self._config)
            self._limits = spool_limits_of(self._config)
            logs.configure(self._config.log_level)
            if self._front is not None:
                self._front.settings_changed()
            self._watcher.sweep_now()
            if self._began.is_set():
                self._schedule.replace(self._jobs.planned())
            log.info("the configuration was reloaded", needs_restart=waiting)
            self._house.stir()
        self._notifier.ready(f"serving {self._staging.path}")

    async def _stop(self, beginning: "asyncio.Future[None]") -> None:
        timeout = self._config.drain_timeout
        self._state = "draining"
        self._vitals.announce("stopping: what was begun is being finished")
        self._notifier.stopping("finishing what was begun")
        self._notifier.extend(timeout + 5)
        log.info("stopping", within=timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(beginning), timeout / 2)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(None, self._drain, timeout), timeout)
        if self._front is not None:
            await loop.run_in_executor(None, self._front.close, max(1.0, deadline - loop.time()))
        self._leave()

    def _drain(self, timeout: float) -> None:
        began = time.monotonic()
        self._house.stop()
        self._watcher.stop()
        self._spool.drain()
        self._settle(began + timeout * _SHARE_OF_DRAIN)
        self._dispatcher.stop()
        self._registry.stop()
        self._settle(began + timeout * 0.9)
        self._schedule.stop(0)
        self._workers.join(max(_TIDYING, began + timeout * 0.9 - time.monotonic()))
        self._registry.close(_TIDYING)

    def _settle(self, deadline: float) -> None:
        while not self._spool.settled() and time.monotonic() < deadline:
            time.sleep(_TICK)

    def _leave(self) -> None:
        """End the process now: a thread that hangs in the storage must not keep it."""
        self._state = "stopped"
        with contextlib.suppress(OSError):
            write_status(self._staging.responses_fd, self._document())
        log.info("stopped")
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(self._exit_code)


def _refusals(what: str, do: Callable[[], object]) -> list[str]:
    """Do something; return why it cannot be done, nothing where it can."""
    try:
        do()
    except (GobblerdError, OSError) as error:
        return [f"{what}: {told(error)}"]
    return []
