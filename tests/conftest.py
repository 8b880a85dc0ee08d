"""Fixtures for every test: real users, and daemons that show their log when a test fails."""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.daemon import RunningDaemon, StartDaemon
from support.places import Users, open_directory

LIVE = pytest.StashKey[list[RunningDaemon]]()
LOG_SHOWN = 3_000  # characters of a daemon's log that a failing test shows


NAMES = Users("gbl-alice", "gbl-bob", "gbl-carol")


def _ensure_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        assert useradd, "useradd is not installed"
        options = ["--no-create-home", "--no-log-init", "--shell", "/usr/sbin/nologin"]
        subprocess.run([useradd, *options, name], check=True, stdin=subprocess.DEVNULL)


def pytest_configure() -> None:
    """Let SIGINT end what the tests start: a shell that runs us in the background has it ignored, for all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def users() -> Users:
    """Return three real users, made if absent; without root there are none, and the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("needs root: requests of other users cannot be made without (NOT TESTED on this run)")
    with open("/tmp/gobblerd-test-users.lock", "w", encoding="utf-8") as lock:  # other pytest workers
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            _ensure_user(name)
    return NAMES


def _starter(config: pytest.Config, stack: ExitStack) -> StartDaemon:
    live = config.stash.setdefault(LIVE, [])
    base = stack.enter_context(open_directory())

    def start(*, serving: bool = True, **settings: Any) -> RunningDaemon:
        daemon = RunningDaemon(base, **settings)
        live.append(daemon)
        stack.callback(live.remove, daemon)
        stack.callback(daemon.finish)
        return daemon.start() if serving else daemon

    return start


@pytest.fixture
def start_daemon(request: pytest.FixtureRequest) -> Iterator[StartDaemon]:
    """Return a function that starts a daemon (settings of RunningDaemon); all end with the test.

    With `serving=False` the daemon is made but not started.
    """
    with ExitStack() as stack:
        yield _starter(request.config, stack)


@pytest.fixture(scope="module")
def start_module_daemon(request: pytest.FixtureRequest) -> Iterator[StartDaemon]:
    """Return the same for daemons that a whole module shares."""
    with ExitStack() as stack:
        yield _starter(request.config, stack)


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> RunningDaemon:
    """Return a daemon that serves HTTP on empty directories; root is its administrator."""
    return start_daemon()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk with 4 KiB left, and 60 KiB of ballast; needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a disk to fill (NOT TESTED on this run)")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        (disk / "ballast").write_bytes(bytes(60 << 10))
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every live daemon's log beside a failure."""
    report = yield
    if report.failed:
        for daemon in item.config.stash.get(LIVE, []):
            report.sections.append((f"gobblerd {daemon.mark[:6]}", daemon.logged()[-LOG_SHOWN:]))
    return report


# Files of several users, mounts and service accounts are what these are about, or what their tools are made of.
NEED_ROOT = (
    "actions/",
    "archive/backends/test_choosing.py",
    "archive/test_mirror.py",
    "cli/test_audit_command.py",
    "cli/test_init.py",
    "client/",
    "doctor/",
    "examples/",
    "faults/",
    "gobbler/",
    "guide/",
    "hostile/",
    "journeys/",
    "load/",
    "model/",
    "registry/",
    "service/test_dispatch.py",
    "service/test_jobs.py",
    "service/test_rest_files.py",
    "test_systemd.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, aloud, what an ordinary user cannot try."""
    if os.geteuid() == 0:
        return
    here = os.path.dirname(os.path.abspath(__file__))
    skip = pytest.mark.skip(
        reason="needs root: real users, mounts, service accounts (NOT TESTED on this run)"
    )
    for item in items:
        if os.path.relpath(item.path, here).startswith(NEED_ROOT):
            item.add_marker(skip)
