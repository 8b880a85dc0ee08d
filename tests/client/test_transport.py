"""HTTP as sites have it: proxies, redirections, passwords, prefixes, connections that were closed meanwhile."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from client.middleman import Middleman, middleman
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon

from gobblerd import client
from gobblerd.client import GobblerError, GobblerTimeout, GobblerUnreachable, transport

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon(options=["--host=0.0.0.0"])
    daemon.done("create_project", {"project": "proj"})
    return daemon


@pytest.fixture
def man(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Middleman]:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with middleman(daemon.port) as man:
        yield man


def test_connection_is_kept(daemon: RunningDaemon) -> None:
    """Calls of one thread use one connection; other threads have their own."""
    url = f"http://127.0.0.1:{daemon.port}"
    client.service_info(url)
    origin = transport._Origin("http", "127.0.0.1", daemon.port)
    socket = transport._kept()._connections[origin].sock
    client.list_projects(None, url)
    with pytest.raises(GobblerError):
        client.fetch_usage("absent", None, url)
    assert transport._kept()._connections[origin].sock is socket
    others: list[int] = []
    thread = threading.Thread(target=lambda: others.append(len(transport._kept()._connections)))
    thread.start()
    thread.join()
    assert others == [0]


def test_forked_process_has_its_own(daemon: RunningDaemon) -> None:
    """A process that was forked asks on a connection of its own, and the parent's stays usable."""
    program = """
import os, sys
from gobblerd import client
client.service_info(sys.argv[1])
from gobblerd.client import transport
mine = [c.sock.getsockname() for c in transport._kept()._connections.values()]
child = os.fork()
if child == 0:
    client.service_info(sys.argv[1])
    own = [c.sock.getsockname() for c in transport._kept()._connections.values()]
    os._exit(0 if own and own != mine else 1)
assert os.waitpid(child, 0)[1] == 0
client.service_info(sys.argv[1])
assert mine == [c.sock.getsockname() for c in transport._kept()._connections.values()]
"""
    url = f"http://127.0.0.1:{daemon.port}"
    command = [sys.executable, "-P", "-W", "error", "-c", program, url]
    subprocess.run(command, env={"PYTHONPATH": PROJECT_ROOT}, check=True)


def test_few_connections_are_kept(daemon: RunningDaemon) -> None:
    """A program that asks many services does not keep a connection to each."""
    for number in range(1, 9):
        client.service_info(f"http://127.0.0.{number}:{daemon.port}")
    assert len(transport._kept()._connections) <= 4


def test_closed_connection_is_made_again(man: Middleman) -> None:
    """A kept connection that the server has closed meanwhile is no error."""
    client.service_info(man.url)
    for connection in transport._kept()._connections.values():
        connection.sock.shutdown(2)
    assert client.service_info(man.url)


def test_prefix_and_slashes(man: Middleman) -> None:
    """A URL may end with a slash or hold a path, and stand without its scheme."""
    assert client.list_projects(None, f"{man.url}/") == ["proj"]
    man.instead["/site/list"] = (200, JSON, b'["x/"]')
    assert client.list_projects(None, f"{man.url}/site") == ["x"]
    assert client.list_projects(None, man.url.removeprefix("http://")) == ["proj"]
    with pytest.raises(ValueError, match="not the URL"):
        client.list_projects(None, "ftp://nowhere")


def test_redirection(man: Middleman, daemon: RunningDaemon) -> None:
    """A GET that is sent elsewhere goes there, but not for ever."""
    man.instead["/old/list"] = (301, {"Location": "/list"}, b"")
    assert client.list_projects(None, f"{man.url}/old") == ["proj"]
    man.instead["/old/list"] = (302, {"Location": f"http://127.0.0.1:{daemon.port}/list"}, b"moved")
    assert client.list_projects(None, f"{man.url}/old") == ["proj"]
    man.instead["/list"] = (307, {"Location": "/list"}, b"")
    with pytest.raises(GobblerError) as caught:
        client.list_projects(None, man.url)
    assert caught.value.code == 307


def test_password_in_the_url(man: Middleman) -> None:
    """User and password of the URL are sent, decoded, as basic authentication."""
    client.service_info(man.url.replace("http://", "http://me:p%40ss@"))
    assert man.seen[-1].headers["Authorization"] == "Basic bWU6cEBzcw=="


def test_proxy(man: Middleman, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is asked for other hosts, unless they are exempted; loopback never."""
    man.instead["http://far.example:80/info"] = (200, JSON, b'{"staging": "/far"}')
    monkeypatch.setenv("http_proxy", man.url)
    assert client.service_info("http://far.example") == {"staging": "/far"}
    assert client.service_info(man.url) != {"staging": "/far"}
    assert man.seen[-1].path == "/info"
    monkeypatch.setenv("no_proxy", "far.invalid")
    with pytest.raises(GobblerUnreachable, match=r"far\.invalid"):
        client.service_info("http://far.invalid")


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ((403, JSON, b'{"status": "ERROR", "reason": "no"}'), 403, "no"),
        ((500, {"Content-Type": "text/plain; charset=utf-8"}, b"broken\n"), 500, "broken"),
        ((418, {"Content-Type": "text/html"}, b"<h1>tea</h1>"), 418, "418"),
        ((500, JSON, b"{"), 500, "500"),
    ],
)
def test_reasons(
    man: Middleman, daemon: RunningDaemon, answer: tuple[int, dict[str, str], bytes], code: int, reason: str
) -> None:
    """Whatever a server in between says, the error has its code and the best reason there is."""
    man.instead["/info"] = answer
    with pytest.raises(GobblerError) as caught:
        client.service_info(man.url)
    assert caught.value.code == code
    assert reason in caught.value.reason


def test_unfinished_answer() -> None:
    """A document whose connection breaks in its middle is an error, not half a document."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def half() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[]"
            )
            connection.close()

        thread = threading.Thread(target=half)
        thread.start()
        with pytest.raises(GobblerUnreachable, match="broke"):
            client.service_info(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_gateway_that_loses_patience(
    man: Middleman, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that gives up on a long request (504) is not the answer: that is taken from its file."""
    page = (504, {"Content-Type": "text/html"}, b"<h1>gateway timeout</h1>")

    class Impatient(dict[str, object]):
        def __contains__(self, path: object) -> bool:
            return str(path).startswith("/new/")

        def __getitem__(self, path: str) -> object:
            return page

    man.instead = Impatient()  # type: ignore[assignment]
    assert client.refresh_usage("proj", daemon.staging, man.url) == 0


def test_timeout_over_http(daemon: RunningDaemon) -> None:
    """A request over HTTP is given up after its timeout, too."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(GobblerTimeout, match=r"within 0\.05 s"):
            client.create_project("p", daemon.staging, url, timeout=0.05)
