"""HTTP lives in a process of its own: it dies with the daemon, and not the daemon with it."""

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import PATIENCE, RunningDaemon, StartDaemon, eventually


def is_there(pid: int) -> bool:
    """Tell whether a process runs, or waits to be fetched by its parent."""
    return os.path.exists(f"/proc/{pid}")


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Iterator[RunningDaemon]:
    return start_daemon()


def test_another_takes_its_place(daemon: RunningDaemon) -> None:
    """The port answers again, and files that are dropped never notice."""
    first = daemon.web_pid
    os.kill(first, signal.SIGKILL)
    assert daemon.wait(daemon.drop("health_check", {})).code == 200
    assert daemon.ask("create_project", {"project": "p"}).code == 200  # waits in the port's queue meanwhile
    assert daemon.web_pid != first
    assert "the web process has ended" in daemon.logged()


def test_a_request_outlives_it(daemon: RunningDaemon) -> None:
    """Whose connection broke POSTs again, and gets the answer of the one execution."""
    name = daemon.drop("create_project", {"project": "p"})
    assert daemon.post(name).code == 200
    os.kill(daemon.web_pid, signal.SIGKILL)
    again = eventually(lambda: daemon.post(name), "an answer")
    assert again.code == 200
    assert daemon.get(f"/response/{name}").json()["code"] == 200


def test_what_it_needs_cannot_be_imported(
    start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drops are served all the same; the log says in a line of its own what is missing, without a traceback."""
    (tmp_path / "aiohttp.py").write_text('raise ImportError("libssl is missing")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start_daemon(serving=False)
    daemon.spawn()
    eventually(lambda: os.path.exists(os.path.join(daemon.staging, "responses", ".daemon")), "it to begin")
    assert daemon.wait(daemon.drop("health_check", {})).code == 200
    eventually(lambda: "the web process has ended" in daemon.logged(), "the process for HTTP to end")
    assert '"the web process cannot import what it needs","reason":"libssl is missing"' in daemon.logged()


def test_killed_with_the_daemon(daemon: RunningDaemon) -> None:
    """The port is free for the next one at once, whatever the web process is at."""
    web = daemon.web_pid
    os.kill(web, signal.SIGSTOP)  # as if a storage hung under it
    daemon.kill()
    eventually(lambda: not is_there(web), "the web process to end")
    daemon.restart()
    eventually(lambda: daemon.get("/healthz").code == 200, "the next daemon to serve")


def test_restarted_at_once(daemon: RunningDaemon) -> None:
    """Also while the old web process may still hold the port."""
    for _ in range(5):
        daemon.kill()
        daemon.restart()
    assert daemon.ask("health_check", {}).code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_the_daemons(daemon: RunningDaemon, number: signal.Signals) -> None:
    """A terminal's Ctrl-C and a unit's stop reach the whole group: the daemon decides what becomes of it."""
    web = daemon.web_pid
    os.kill(web, number)
    assert daemon.get("/").code == 200
    assert daemon.web_pid == web


def test_a_web_process_that_hangs(daemon: RunningDaemon) -> None:
    """Requests go on, and the daemon stops as ever."""
    name = daemon.drop("create_project", {"project": "p"})
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    connection.request("GET", "/")
    connection.getresponse().read()
    os.kill(daemon.web_pid, signal.SIGSTOP)
    assert daemon.wait(name).code == 200
    assert daemon.wait(daemon.drop("create_project", {"project": "q"})).code == 200
    connection.close()
    assert daemon.stop() == 0
    daemon.require_no_process()


def test_what_is_asked_while_it_stops_is_answered(daemon: RunningDaemon) -> None:
    """A stop lets go of nobody who waits for an answer."""
    daemon.done("create_project", {"project": "p"})
    source = daemon.source({f"f{number}": b"x" * 1000 for number in range(3000)})
    upload = {"project": "p", "asset": "a", "version": "1", "source": source}
    name = daemon.drop("upload", upload)
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(daemon.post(name).code))
    waiting.start()
    eventually(lambda: daemon.get(f"/response/{name}").code in {200, 202}, "the request to be taken up")
    assert daemon.stop() == 0
    waiting.join(PATIENCE)
    assert codes in ([200], [503])
