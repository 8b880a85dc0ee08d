"""Writers that take their time, never close, or sit on another node: all are answered, once."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.crowd import (
    PrefixedDaemon,
    answered,
    codes_of,
    counts,
    drop_many,
    executions,
    not_tested,
    showing_log,
    wait_for_all,
)
from support.daemon import RunningDaemon, StartDaemon
from support.places import make_directory, make_source, request_name

USER = 62001
SLOW = {"request_settle": 4, "sweep_interval_local": 0.5, "durability": "process"}


def test_slow_writers_and_such_as_never_close(start_daemon: StartDaemon) -> None:
    """Written in place, byte by byte and never closed: acted on when it is whole; never whole: 400 in the end."""
    daemon = start_daemon(http=False, settings=SLOW)
    held = []
    whole, never = [], []
    try:
        for number in range(30):
            name = request_name("create_project")
            file = open(os.path.join(daemon.staging, name), "wb", buffering=0)  # noqa: SIM115 - it stays open
            held.append(file)
            (never if number % 3 == 0 else whole).append((name, file, b'{"project": "p%d"}' % number))
        for place in range(20):
            for _, file, content in whole:
                file.write(content[place : place + 1])
            for _, file, content in never:
                file.write(content[:-1][place : place + 1])
            threading.Event().wait(0.02)
        names = [name for name, _, _ in (*whole, *never)]
        wait_for_all(daemon, names)
        assert codes_of(daemon, [name for name, _, _ in whole]) == {200: 20}
        assert codes_of(daemon, [name for name, _, _ in never]) == {400: 10}
        assert set(executions(daemon).values()) == {1}
    finally:
        for file in held:
            file.close()


def test_a_crowd_of_slow_writers_holds_nobody_up(start_daemon: StartDaemon) -> None:
    """Beside 500 files that are never finished, a request is answered before any of them."""
    daemon = start_daemon(http=False, settings={**SLOW, "request_settle": 30})
    unfinished = [request_name("refresh_usage") for _ in range(500)]
    for name in unfinished:
        with open(os.path.join(daemon.staging, name), "wb") as file:
            file.write(b'{"project": ')
    assert daemon.wait(daemon.drop("health_check", {}, USER)).code == 200
    assert not any(event["request"] in unfinished for event in answered(daemon))
    for name in unfinished:
        with open(os.path.join(daemon.staging, name), "ab") as file:
            file.write(b'"none"}')
    wait_for_all(daemon, unfinished)
    assert codes_of(daemon, unfinished) == {404: 500}


@contextmanager
def through_fuse(real: str, mounted: str) -> Iterator[None]:
    """Mount `real` once more, by FUSE: what is written below `real` sends no events in `mounted`."""
    if shutil.which("bindfs") is None:
        not_tested("bindfs is not installed: writes that send no events")
    made = subprocess.run(["bindfs", real, mounted], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        not_tested(f"FUSE does not work here: writes that send no events ({made.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.mark.parametrize("watch", ["auto", "events"])
@pytest.mark.parametrize("requests", counts(300, 5_000))
def test_writes_that_send_no_events_are_swept_up(base: str, watch: str, requests: int) -> None:
    """As from another node of a cluster: each is answered once, whatever the configuration says of events."""
    real = make_directory(os.path.join(base, "real"), 0o1777)
    mounted = make_directory(os.path.join(base, "mounted"), 0o755)
    with through_fuse(real, mounted):
        often = {"sweep_interval_local": 0.5, "sweep_interval_remote": 0.5}
        settings = {"watch": watch, "durability": "process", **often}
        with showing_log(PrefixedDaemon(base, ["env"], staging=mounted, settings=settings)) as daemon:
            owners = {"owners": [str(USER)]}
            made = drop_many(real, "create_project", [{"project": "p", "permissions": owners}], 0)
            wait_for_all(daemon, made)
            source = make_source(real, {"d/f": b"from afar"}, USER)
            document = {"project": "p", "asset": "a", "version": "1", "source": source}
            names = [
                *drop_many(real, "upload", [document], USER),
                *drop_many(real, "health_check", [{}] * requests, USER),
                *in_place(real, 20),
            ]
            wait_for_all(daemon, names)
            assert codes_of(daemon, names) == {200: len(names)}
            done = executions(daemon)
            assert {done[name] for name in names} == {1}
            require_stored(daemon)


def in_place(staging: str, number: int) -> list[str]:
    """Write requests under their final names, as `cat >` does."""
    names = [request_name("health_check") for _ in range(number)]
    for name in names:
        with open(os.path.join(staging, name), "wb") as file:
            file.write(b"{}")
    return names


def require_stored(daemon: RunningDaemon) -> None:
    with open(daemon.path("p/a/1/d/f"), "rb") as file:
        assert file.read() == b"from afar"
