"""Clients that connect and say nothing: they take no descriptor that anybody else needs."""

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator

import pytest
from support.crowd import PrefixedDaemon, showing_log, vitals_of
from support.daemon import Answer, eventually

FILES, SILENT = 1024, 1_500


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process hold the clients' ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2 * SILENT:
        pytest.skip("NOT TESTED: this process may not open enough connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * SILENT), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_silent_connections_starve_nobody(base: str, many_descriptors: None) -> None:
    """With more of them than the daemon may open files, drops, POSTs and reads go on, and nothing is logged.

    A POST that waited when they came is answered on its own connection.
    """
    limited = ["prlimit", f"--nofile={FILES}:{FILES}"]
    daemon = PrefixedDaemon(base, limited, settings={"durability": "process", "request_settle": 5})
    with showing_log(daemon), contextlib.ExitStack() as silent:
        daemon.done("create_project", {"project": "p"})
        waiting = daemon.drop("create_project", b" ")
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(daemon.post(waiting)))
        client.start()
        for _ in range(SILENT):
            silent.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        eventually(lambda: vitals_of(daemon.web_pid).descriptors > FILES // 4, "the crowd to be let in")
        source = daemon.source({"f": b"1"})
        document = {"project": "p", "asset": "a", "version": "1", "source": source}
        assert daemon.wait(daemon.drop("upload", document)).code == 200
        assert daemon.get("/fetch/p/a/1/f").data == b"1"
        assert daemon.ask("health_check", {}).code == 200
        assert vitals_of(daemon.web_pid).descriptors < FILES
        client.join(60)
        assert [answer.code for answer in answers] == [400]
        assert "Traceback" not in daemon.logged()
