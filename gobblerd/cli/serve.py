"""`gobblerd serve`: read the configuration, then be the daemon until it is told to stop."""

import os
import signal
import sys
from typing import Any

import click

from gobblerd.cli.settings import GoCommand, config_option, given, load_or_exit, setting_options
from gobblerd.domain.errors import Fault
from gobblerd.service.config import Config, load
from gobblerd.service.imports import for_a_daemon
from gobblerd.service.web_process import WebProcess

_NO_THREAD = (
    "no thread can be started: raise the number of processes and threads that this account may have "
    "(TasksMax and LimitNPROC in the unit, ulimit -u), or the memory"
)
UMASK = 0o022  # what the registry's modes (0755, 0644) are made under, whatever we were started with


@click.command(
    "serve",
    cls=GoCommand,
    params=[config_option(), *setting_options()],
    epilog="The Go service's options are understood too: -staging -registry -port -prefix -admin -whitelist "
    "-spoof -probation -concurrency.",
)
def command(config_file: str | None, **values: Any) -> None:
    """Serve a staging directory and a registry."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a reload waits until the daemon can do it
    options = given(values)
    config = load_or_exit(config_file, options)
    _require_directories(config)
    os.umask(UMASK)
    web = _spawn() if config.port else None  # what it imports, it imports meanwhile
    with for_a_daemon():
        from gobblerd.service import logs  # noqa: PLC0415 - a wrong configuration is told sooner without it

        logs.configure(config.log_level)
        from gobblerd.service.daemon import Daemon  # noqa: PLC0415 - as above

    file = os.path.abspath(config_file) if config_file else None
    try:
        code = Daemon(config, lambda: load(file, options), web).run()
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        click.echo(f"gobblerd: {_NO_THREAD}", err=True)
        code = 1
    sys.exit(code)


def _spawn() -> WebProcess:
    """Start the web process, or say why it cannot be and exit with 1."""
    try:
        return WebProcess()
    except Fault as error:
        click.echo(f"gobblerd: {error.reason}", err=True)
        sys.exit(1)


def _require_directories(config: Config) -> None:
    """Exit with 1 unless both directories are there; they are never made here."""
    for what, path in (("staging", config.staging), ("registry", config.registry)):
        if not os.path.isdir(path):
            what_it_is = "is not a directory" if os.path.lexists(path) else "is not there"
            click.echo(
                f"gobblerd: the {what} directory {path} {what_it_is}; mount it, or make both with "
                f"`gobblerd init {config.staging} {config.registry}`",
                err=True,
            )
            sys.exit(1)
