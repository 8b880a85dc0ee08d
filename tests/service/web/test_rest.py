"""The REST API's manners, and what it says of requests."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType

import pytest
from support.places import write_tree
from support.rest import Progress, Server, ask_on, response_of, serving

from gobblerd.domain.errors import Busy, Kind, Refused
from gobblerd.domain.messages import Response
from gobblerd.service.codes import STATUS
from gobblerd.service.web.openapi import OPERATIONS

NAME = "request-health_check-1"
SUMMARY = (
    b'{"upload_user_id":"u","upload_start":"2026-01-01T00:00:00Z","upload_finish":"2026-01-01T00:00:01Z"}'
)
TREE = {
    "p/a/v/f.txt": b"0123456789",
    "p/released/0.10.0/..summary": SUMMARY,
    "p/released/0.9.1/..summary": SUMMARY,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_tree(str(tmp_path / "r"), TREE)
    with serving(str(tmp_path / "r")) as found:
        yield found


ASKED = [
    ("GET", "/", 200),
    ("GET", "/info", 200),
    ("GET", "/healthz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/list", 200),
    ("GET", "/list?path=..", 400),
    ("GET", "/list?path=none", 404),
    ("GET", "/fetch/p/a/v/f.txt", 200),
    ("GET", "/fetch/none", 404),
    ("GET", "/fetch/../x", 400),
    ("GET", "/resolve?project=p&asset=a&spec=%3E%3D1%2C%3C2", 200),
    ("GET", "/resolve?project=p&asset=a", 200),
    ("GET", "/resolve?project=p&asset=none&spec=1", 404),
    ("GET", "/resolve?project=p&asset=a&spec=", 400),
    ("GET", "/resolve?project=p&asset=a&spec=%3E%3Ddraft", 400),
    ("GET", "/resolve?project=p", 400),
    ("GET", "/resolve?project=%FF&asset=%ED%A0%80&spec=%FF", 404),
    ("GET", "/resolve?project=p&asset=a&spec=%FF", 200),
    ("GET", "/response/request-x", 404),
    ("GET", "/none", 404),
    ("GET", "/archive/p/a/none.tar.zst", 404),
    ("POST", "/new/request-health_check-1", 200),
    ("POST", "/new/none", 400),
    ("GET", "/new/none", 405),
    ("POST", "/list", 405),
    ("DELETE", "/fetch/p/a/v/f.txt", 405),
    ("OPTIONS", "/", 204),
    ("OPTIONS", "/none/at/all", 204),
    ("OPTIONS", "*", 204),
    ("HEAD", "/", 200),
    ("HEAD", "/info", 200),
    ("HEAD", "/list", 200),
    ("HEAD", "/resolve?project=p&asset=a", 200),
    ("HEAD", "/list?path=none", 404),
    ("HEAD", "/fetch/p/a/v/f.txt", 200),
    ("HEAD", "/fetch/none", 404),
    ("HEAD", "/none", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), ASKED)
def test_every_answer_may_be_read_by_any_page_and_every_error_is_json(
    server: Server, method: str, path: str, status: int
) -> None:
    server.spool.answered(response_of(NAME))
    answer = server.ask(path, method)
    assert answer.status == status
    assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert (answer.body == b"") == (method in {"HEAD", "OPTIONS"})
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/json"
    if status >= 400 and answer.body:
        assert answer.json["status"] == "ERROR"
        assert answer.json["reason"]


NO_HTTP = {
    "a method that there is not": b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a letter that is not percent-encoded": "GET /fetch/\u00fc HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a longer path than files can have": b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no header": b"GET / HTTP/1.1\r\nnothing\r\n\r\n",
    "not even that": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}


@pytest.mark.parametrize("what", NO_HTTP)
def test_what_is_no_http_is_told_so_as_every_error_is(server: Server, what: str) -> None:
    """In JSON and to pages of any origin; the connection ends, and others go on."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(NO_HTTP[what])
        answer = http.client.HTTPResponse(client)
        answer.begin()
        body = json.loads(answer.read())
        assert (answer.status, body["status"]) == (400, "ERROR")
        assert body["reason"].startswith("this is no request that HTTP knows: ")
        assert "\n" not in body["reason"]
        assert ("must be percent-encoded" in body["reason"]) == ("percent-encoded" in what)  # how to mend it
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert client.recv(1) == b""
    assert server.ask("/info").status == 200


@pytest.mark.parametrize("path", ["/", "/info", "/healthz", "/openapi.json", "/list"])
def test_json_has_no_charset_and_head_is_get_without_the_body(server: Server, path: str) -> None:
    """With a charset pygobbler loses the reason of an error."""
    got, head = server.ask(path), server.ask(path, "HEAD")
    assert got.headers["Content-Type"] == head.headers["Content-Type"] == "application/json"
    assert head.status == got.status == 200
    assert head.body == b""
    # How long a listing is, is only known once it is made.
    assert head.headers["Content-Length"] == (None if path == "/list" else got.headers["Content-Length"])


def test_options_allow_what_there_is(server: Server) -> None:
    headers = server.ask("/list", "OPTIONS").headers
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert headers["Access-Control-Allow-Headers"] == "*"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/new/x", "OPTIONS, POST"),
        ("PUT", "/", "GET, HEAD, OPTIONS"),
        ("POST", "/fetch/p", "GET, HEAD, OPTIONS"),
    ],
)
def test_other_methods_are_told_which_are_allowed(
    server: Server, method: str, path: str, allowed: str
) -> None:
    answer = server.ask(path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)


def test_what_depends_on_the_accept_header_says_so(server: Server) -> None:
    """Or a cache on the way gives a browser what a program asked for, and the reverse."""
    for accept in ("text/html", "application/json", "*/*"):
        assert server.ask("/", headers={"Accept": accept}).headers["Vary"] == "Accept"
        assert server.ask("/metrics", headers={"Accept": accept}).headers["Vary"] == "Accept"


def test_info_is_two_clean_paths_and_root_says_what_this_is(server: Server) -> None:
    assert server.ask("/info").json == {"staging": "/staging", "registry": "/registry/r"}
    assert server.ask("/").json == {
        "name": "gobblerd",
        "url": "https://example.org/gobblerd",
        "version": "0.1.0",
    }


def test_health_is_503_with_everything_that_is_wrong(server: Server) -> None:
    assert server.ask("/healthz").json == {"status": "SUCCESS", "name": "gobblerd", "version": "0.1.0"}
    server.problems += ["the watcher is dead", "staging is gone"]
    answer = server.ask("/healthz")
    assert (answer.status, answer.json) == (
        503,
        {"status": "ERROR", "reason": "the watcher is dead; staging is gone"},
    )


@pytest.mark.parametrize("prefix", ["/gobbler", "/a/b", "gobbler/"])
def test_the_prefix_is_before_every_path(tmp_path: Path, prefix: str) -> None:
    write_tree(str(tmp_path / "r"), TREE)
    clean = "/" + prefix.strip("/")
    with serving(str(tmp_path / "r"), prefix=prefix) as server:
        name = server.spool.answered(response_of(NAME))
        for path in ("", "/", "/info", "/list", "/docs", "/fetch/p%2Fa/v/f.txt"):
            assert server.ask(clean + path).status == 200
            assert server.ask(path or "/x").status == 404
        assert server.ask(f"{clean}/new/{name}", "POST").status == 200


def test_every_kind_of_error_has_a_code() -> None:
    assert set(STATUS) == set(Kind)
    assert all(400 <= code < 600 for code in STATUS.values())


@pytest.mark.parametrize("code", [200, 400, 403, 404, 413, 422, 500, 503])
def test_post_answers_the_requests_own_keys_with_its_code(server: Server, code: int) -> None:
    name = server.spool.answered(response_of(NAME, code, total=5))
    answer = server.ask(f"/new/{name}", "POST")
    assert answer.status == code
    assert answer.json == {"status": "SUCCESS" if code == 200 else "ERROR", "total": 5}


def test_a_body_may_be_any_mapping(server: Server) -> None:
    response = response_of(NAME)
    server.spool.answered(
        Response(response.identity, "x", "u", 200, MappingProxyType({"status": "SUCCESS"}), "", "")
    )
    assert server.ask(f"/new/{NAME}", "POST").json == {"status": "SUCCESS"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "none",
        "x%2Frequest-a-1",
        "request-a%2F..%2Fb",
        "request-a/b",
        "request-%00",
        "request-%FF",
        "%72equest",
        "request-" + "x" * 250,
    ],
)
def test_what_is_not_a_plain_request_name_is_400_and_not_looked_for(server: Server, path: str) -> None:
    answer = server.ask(f"/new/{path}", "POST")
    assert (answer.status, answer.json["status"]) == (400, "ERROR")
    assert server.spool.posted == []
    assert server.ask(f"/response/{path}").status == 400


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("request-a%20b", "request-a b"),
        ("%72equest-x", "request-x"),
        ("request-%2541", "request-%41"),
        ("request-%C3%A9", "request-é"),
    ],
)
def test_names_are_percent_decoded_exactly_once(server: Server, path: str, name: str) -> None:
    server.spool.answered(response_of(name))
    assert server.ask(f"/new/{path}", "POST").status == 200
    assert server.spool.posted == [name]


def test_a_file_that_is_not_visible_yet_is_looked_for_again(server: Server) -> None:
    """Network filesystems cache absence."""
    server.spool.unseen = 2
    name = server.spool.answered(response_of(NAME))
    assert server.ask(f"/new/{name}", "POST").status == 200
    assert len(server.spool.posted) == 3


def test_a_file_that_never_appears_is_named(server: Server) -> None:
    answer = server.ask("/new/request-x-1", "POST")
    assert answer.status == 400
    assert "request-x-1" in answer.json["reason"]
    assert len(server.spool.posted) > 1


@pytest.mark.parametrize("length", [10, 3_000_000])
def test_a_body_is_not_needed_not_read_and_does_not_break_the_connection(server: Server, length: int) -> None:
    name = server.spool.answered(response_of(NAME))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(2):
        assert ask_on(connection, f"/new/{name}", "POST", body=b"x" * length).status == 200
    assert ask_on(connection, "/info").status == 200
    connection.close()


def test_expect_continue_is_answered_at_once(server: Server) -> None:
    name = server.spool.answered(response_of(NAME))
    with server.connect() as client:
        client.sendall(
            f"POST /new/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert client.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("expect", [b"100-continue", b"\xff", b"tea"])
@pytest.mark.parametrize(("path", "status"), [(b"/none", b"404"), (b"/list", b"405"), (b"/new/x", b"400")])
def test_whatever_a_client_expects_the_answer_is_the_same(
    server: Server, expect: bytes, path: bytes, status: bytes
) -> None:
    with server.connect() as client:
        client.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nExpect: " + expect + b"\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 " + status


def test_a_client_that_hangs_up_cancels_nothing(server: Server) -> None:
    """A request that has begun is finished."""
    future: Future[Response] = Future()
    future.set_running_or_notify_cancel()
    server.spool.files[NAME] = future
    with server.connect() as client:
        client.sendall(f"POST /new/{NAME} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert server.spool.asked.wait(10)
    assert server.ask("/").status == 200
    assert not future.cancelled()
    assert not future.done()
    future.set_result(response_of(NAME))
    assert server.ask(f"/new/{NAME}", "POST").status == 200


def test_a_queued_request_is_not_cancelled_when_the_server_stops(tmp_path: Path) -> None:
    """It stays in staging for the next daemon; only the spool decides."""
    future: Future[Response] = Future()
    with serving(str(tmp_path)) as server:
        server.spool.files[NAME] = future
        client = server.connect()
        client.sendall(f"POST /new/{NAME} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert server.spool.asked.wait(10)
        assert server.ask("/").status == 200
    client.close()
    assert not future.cancelled()


def test_posts_of_one_request_wait_together_and_block_nobody(server: Server) -> None:
    """More of them than there are threads."""
    future: Future[Response] = Future()
    server.spool.files[NAME] = future
    found: list[int] = []
    posts = [
        threading.Thread(target=lambda: found.append(server.ask(f"/new/{NAME}", "POST").status))
        for _ in range(20)
    ]
    for post in posts:
        post.start()
    while len(server.spool.posted) < len(posts):
        time.sleep(0.001)
    assert server.ask("/list").status == 200
    future.set_result(response_of(NAME))
    for post in posts:
        post.join(10)
    assert found == [200] * 20


class Unexpected(Refused):
    """A refusal with details of its own."""

    kind = Kind.INVALID

    def details(self) -> dict[str, list[str]]:
        return {"problems": ["p"]}


@pytest.mark.parametrize(
    ("error", "status", "answer"),
    [
        (Busy("the queue is full"), 503, {"status": "ERROR", "reason": "the queue is full"}),
        (
            Unexpected("{n} problems", n=1),
            422,
            {"status": "ERROR", "reason": "1 problems", "problems": ["p"]},
        ),
        (ConnectionResetError("/secret"), 500, None),
        (KeyError("/secret"), 500, None),
    ],
)
def test_errors_are_answered_by_their_kind_and_without_internals(
    server: Server, error: Exception, status: int, answer: object
) -> None:
    future: Future[Response] = Future()
    future.set_exception(error)
    server.spool.files[NAME] = future
    found = server.ask(f"/new/{NAME}", "POST")
    assert found.status == status
    assert "secret" not in found.body.decode()
    assert answer is None or found.json == answer


def test_a_request_that_the_spool_gave_up_is_503(server: Server) -> None:
    future: Future[Response] = Future()
    future.cancel()
    server.spool.files[NAME] = future
    assert server.ask(f"/new/{NAME}", "POST").status == 503


def test_a_response_is_looked_up_while_queued_and_after(server: Server) -> None:
    assert server.ask(f"/response/{NAME}").status == 404
    server.spool.running[NAME] = Progress("queued", 3, 0, 7)
    running = server.ask(f"/response/{NAME}")
    assert (running.status, running.json) == (
        202,
        {"state": "queued", "ahead": 3, "bytes_done": 0, "bytes_total": 7},
    )
    response = server.spool.recorded[NAME] = response_of(NAME, 403)
    assert server.ask(f"/response/{NAME}").status == 202  # dropped again under its old name
    del server.spool.running[NAME]
    answer = server.ask(f"/response/{NAME}")
    assert (answer.status, answer.json) == (200, response.document())


def test_an_expression_is_resolved(server: Server) -> None:
    """What was asked for is repeated; the names are in the order of precedence."""
    answer = server.ask("/resolve?project=p&asset=released&spec=%3E%3D0.9,+%3C1")
    found = {"project": "p", "asset": "released", "spec": ">=0.9, <1", "versions": ["0.9.1", "0.10.0"]}
    assert answer.json == found
    assert server.ask("/resolve?project=p&asset=released").json == {**found, "spec": ""}
    refused = server.ask("/resolve?project=p&asset=released&spec=%3E%3Ddraft").json
    assert "'draft' is no version" in refused["reason"]


def test_every_route_is_described_and_every_description_served(server: Server) -> None:
    served = {
        (route.method, resource.canonical)
        for resource in server.app.router.resources()
        for route in resource
        if route.method not in {"HEAD", "*"}
    }
    document = server.ask("/openapi.json").json
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert served == described == {(operation.method, operation.path) for operation in OPERATIONS}


def test_the_description_is_complete(server: Server) -> None:
    """Each operation names itself once, its parameters are those of its path, and references resolve."""
    document = server.ask("/openapi.json").json
    operations = [(path, found) for path, methods in document["paths"].items() for found in methods.values()]
    assert len({found["operationId"] for _, found in operations}) == len(operations)
    for path, found in operations:
        inside = {parameter["name"] for parameter in found["parameters"] if parameter["in"] == "path"}
        assert all("{" + name + "}" in path for name in inside)
        assert path.count("{") == len(inside)
        assert "default" in found["responses"]
    assert json.dumps(document).count("$ref") == json.dumps(document).count("#/components/schemas/Error")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value or "") for name, value in attrs if name in {"src", "href"}] or [(tag, "")]


def test_the_page_describes_every_path_without_scripts_or_outside_resources(server: Server) -> None:
    answer = server.ask("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    tags = _Tags()
    tags.feed(answer.body.decode())
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.found}
    assert all(value in {"", "/openapi.json"} for _, value in tags.found)
    assert all(f"{o.method} {o.path}" in answer.body.decode() for o in OPERATIONS)
    assert "`" not in answer.body.decode()  # code is shown as code
    assert "color-scheme:light dark" in answer.body.decode()  # as the other pages follow the browser's
