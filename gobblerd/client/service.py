# ruff: noqa: FBT001, FBT002 - names, order and defaults of the parameters are pygobbler's
"""A gobblerd of one's own to try things on: `start_gobbler` and `stop_gobbler`.

One per process, as pygobbler has it. It ends with the process that started it, however that ends: a
`guard` holds the other end of a pipe. Limit: a process forked without exec keeps that pipe open too.
"""

import atexit
import contextlib
import os
import time
from collections.abc import Sequence
from typing import IO

from gobblerd.client.errors import GobblerError, GobblerUnreachable, failure

_START_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 45.0
_POLL = 0.01
_PORTS_TRIED = 3
_PORT_TAKEN = "cannot listen on port"  # what gobblerd says of it


def start_gobbler(
    staging: str | None = None,
    registry: str | None = None,
    port: int | None = None,
    wait: float = 1,  # noqa: ARG001 - we know when it serves
    version: str = "0.5.0",  # noqa: ARG001 - it is this package's
    overwrite: bool = False,  # noqa: ARG001 - nothing is downloaded
    admin: Sequence[str] | None = None,
    extra_args: Sequence[str] = (),
) -> tuple[bool, str, str, str]:
    """Start a gobblerd; return whether it is a new one, its staging directory, its registry and its URL.

    Directories that are not given are temporary and go with the process. Returns once requests are served.
    `admin` are its administrators, by default the current user; `extra_args` are passed to `gobblerd
    serve`, which knows the Go service's options too. `wait`, `version` and `overwrite` are without effect.
    GobblerError, with what it said, if it does not start.
    """
    if _KEPT.running is not None:
        return False, *_KEPT.running.places
    made = [_temporary() for path in (staging, registry) if path is None]
    atexit.register(_remove, made)
    atexit.register(stop_gobbler)
    rest = iter(made)
    places = [os.path.abspath(path) if path is not None else next(rest) for path in (staging, registry)]
    options = [f"--administrators={','.join([own_name()] if admin is None else admin)}", *extra_args]
    _KEPT.running = running = _started(places, port, options)
    return True, *running.places


def _started(places: Sequence[str], port: int | None, options: Sequence[str]) -> "_Running":
    for _ in range(_PORTS_TRIED - 1 if port is None else 0):
        try:
            return _Running(places[0], places[1], _free_port(), options)
        except GobblerError as error:  # another program may have taken the port meanwhile
            if _PORT_TAKEN not in error.reason:
                raise
    return _Running(places[0], places[1], port or _free_port(), options)


def stop_gobbler() -> None:
    """Stop what `start_gobbler` started; without effect if nothing runs."""
    running, _KEPT.running = _KEPT.running, None
    if running is not None and running.owner == os.getpid():
        running.stop()


class _Running:
    """A daemon and its guard."""

    def __init__(self, staging: str, registry: str, port: int, options: Sequence[str]) -> None:
        import subprocess  # noqa: PLC0415 - needed only to start one
        import sys  # noqa: PLC0415 - as above
        import tempfile  # noqa: PLC0415 - as above

        self.owner = os.getpid()
        self.places = (staging, registry, f"http://127.0.0.1:{port}")
        own = [f"--staging={staging}", f"--registry={registry}", "--host=127.0.0.1", f"--port={port}"]
        serve = [sys.executable, "-P", "-m", "gobblerd", "serve", *own, *options]
        guard = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._guard: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-I", "-S", guard, *serve],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the program that uses it
        )
        try:
            self._wait_until_serving()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the daemon, and wait for that."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(_STOP_TIMEOUT)
        self._log.close()

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_serving():
            if self._guard.poll() is not None:
                raise failure(GobblerUnreachable, None, f"gobblerd did not start: {self._last_words()}")
            if time.monotonic() > deadline:
                reason = f"gobblerd does not serve after {_START_TIMEOUT:g} s: {self._last_words()}"
                raise failure(GobblerUnreachable, None, reason)
            time.sleep(_POLL)

    def _is_serving(self) -> bool:
        from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

        with contextlib.suppress(GobblerError, ValueError):  # not there yet, beginning, or ourselves
            return bool(transport.get_json(self.places[2], "/healthz"))
        return False

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace").strip()[-2000:] or "it said nothing"


class _Kept:
    """The one service of this process."""

    running: _Running | None = None


_KEPT = _Kept()  # pygobbler's contract: a second start_gobbler finds the first one's service


def _environment() -> dict[str, str]:
    """Return the daemon's environment: without a site's configuration, with this very package."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("GOBBLERD_", "NOTIFY_"))}
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [package, *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _temporary() -> str:
    import tempfile  # noqa: PLC0415 - needed only to start one

    return tempfile.mkdtemp(prefix="gobbler-")


def _remove(paths: Sequence[str]) -> None:
    import shutil  # noqa: PLC0415 - needed only in the end

    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _free_port() -> int:
    """Return a free port, below those that the kernel gives to clients, which could meet themselves there."""
    import random  # noqa: PLC0415 - needed only to start one
    import socket  # noqa: PLC0415 - as above

    while True:
        port = random.randrange(20_000, 30_000)  # noqa: S311 - not a secret
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def own_name() -> str:
    """Return the name that the daemon will know this user by, whatever the environment says."""
    import pwd  # noqa: PLC0415 - needed only to start one

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
