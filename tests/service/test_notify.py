"""gobblerd.service.notify: the datagrams that systemd gets."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gobblerd.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket as systemd has one, and its name as NOTIFY_SOCKET has it."""
    name = f"@gobblerd-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.setblocking(False)
        yield name, listening


def test_the_messages(manager: tuple[str, socket.socket]) -> None:
    """Each call is one datagram of assignments."""
    name, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.listening
    notifier.ready("serving")
    assert listening.recv(4096) == b"READY=1\nSTATUS=serving"
    notifier.ready()
    assert listening.recv(4096) == b"READY=1"
    notifier.stopping("draining")
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=draining"
    notifier.alive()
    assert listening.recv(4096) == b"WATCHDOG=1"
    notifier.extend(2.5)
    assert listening.recv(4096) == b"EXTEND_TIMEOUT_USEC=2500000"
    notifier.stopping("größe")
    assert listening.recv(4096) == "STOPPING=1\nSTATUS=größe".encode()


def test_reloading_says_when(manager: tuple[str, socket.socket]) -> None:
    """The time is the monotonic clock's, in microseconds, of this very moment."""
    name, listening = manager
    before = time.monotonic_ns() // 1000
    Notifier({"NOTIFY_SOCKET": name}).reloading()
    found = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", listening.recv(4096))
    assert found
    assert before <= int(found[1]) <= time.monotonic_ns() // 1000


def test_a_status_cannot_smuggle_an_assignment(manager: tuple[str, socket.socket]) -> None:
    """A line break in a text does not begin another line of the protocol."""
    name, listening = manager
    Notifier({"NOTIFY_SOCKET": name}).ready("x\nWATCHDOG=trigger\udc80")
    assert listening.recv(4096).count(b"\n") == 1  # between READY=1 and STATUS=


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """The daemon runs the same without systemd."""
    notifier = Notifier(environ)
    assert not notifier.listening
    assert notifier.watchdog_interval is None
    notifier.ready("x")
    notifier.alive()


def test_a_manager_that_went_away_hurts_nobody(tmp_path: Path) -> None:
    """A message that cannot be sent is lost."""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 24.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 24.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_in_time(environ: dict[str, str], interval: float | None) -> None:
    """More than twice in the time that systemd allows, and only where it watches this process."""
    assert Notifier(environ).watchdog_interval == interval


def test_the_environment_of_the_process_counts(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made without arguments, it finds the manager that started the process."""
    name, listening = manager
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    Notifier().ready()
    assert listening.recv(4096) == b"READY=1"
