"""Files and listings over REST: the bytes, whole or in part, or an error; never something else."""

import asyncio
import email.utils
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from support.corpus import WHITELISTED_BYTES, WHITELISTED_LINK, exchanges, unpack
from support.places import write_tree
from support.rest import Answer, Server, ask_on, open_descriptors, serving

from gobblerd.registry.browse import Browser, OpenedFile, Pieces
from gobblerd.service.web import fetch, listing

SMALL = b"0123456789"
LARGE = bytes(range(256)) * 4096  # 1 MiB, far more than is read in place
CUT_SHORT = (http.client.IncompleteRead, ConnectionError)
PATHS = {"small": SMALL, "large": LARGE}


@pytest.fixture
def registry(tmp_path: Path) -> str:
    root = str(tmp_path / "r")
    files = {f"p/a/v/{name}": data for name, data in PATHS.items()}
    manifest = {
        name: {"size": len(data), "md5sum": hashlib.md5(data).hexdigest()} for name, data in PATHS.items()
    }
    write_tree(root, {**files, "p/a/v/empty": b"", "p/a/v/..manifest": json.dumps(manifest).encode()})
    return root


def test_a_file_is_fetched_however_long_its_path_is(tmp_path: Path) -> None:
    """Each byte of a path that is as long as a path can be may take three in the request."""
    root = str(tmp_path / "r")
    left = 4095 - len(f"{root}/p/a/v/") - len("/f")
    name = "/".join(["\u89b3" * 83 + "xy"] * (left // 252))
    write_tree(root, {f"p/a/v/{name}/f": SMALL})
    asked = "/fetch/" + quote(f"p/a/v/{name}/f", safe="")
    assert len(asked) > 10_000
    with serving(root) as server:
        assert server.ask(asked).body == SMALL
        assert server.ask("/list?path=" + quote(f"p/a/v/{name}", safe="")).json == ["f"]


@pytest.fixture
def server(registry: str) -> Iterator[Server]:
    with serving(registry) as found:
        yield found


def ranged(server: Server, name: str, value: str, **headers: str) -> Answer:
    return server.ask(f"/fetch/p/a/v/{name}", headers={"Range": value, **headers})


def test_reads_of_the_go_service_have_the_same_answers(tmp_path: Path) -> None:
    """But for lock files in listings, and errors and types as spec/http.md has them."""
    corpus = unpack(str(tmp_path))
    with serving(corpus.registry, corpus.whitelisted) as server:
        for read in exchanges()["reads"]:
            answer = server.ask(read["url"])
            assert answer.status == read["code"]
            if answer.status == 200 and read["url"].startswith("/list"):
                assert set(answer.json) == {n for n in json.loads(read["body"]) if "LOCK" not in n}
            elif answer.status == 200:
                assert answer.body.decode() == read["body"]
        assert server.ask("/fetch/" + WHITELISTED_LINK).body == WHITELISTED_BYTES


@pytest.mark.parametrize("name", PATHS)
def test_a_file_is_sent_with_what_is_known_of_it(server: Server, registry: str, name: str) -> None:
    answer = server.ask(f"/fetch/p/a/v/{name}", headers={"Accept-Encoding": "gzip, br, zstd"})
    assert (answer.status, answer.body) == (200, PATHS[name])
    headers = answer.headers
    assert headers["Content-Length"] == str(len(PATHS[name]))
    assert headers["ETag"] == f'"{hashlib.md5(PATHS[name]).hexdigest()}"'
    modified = int(os.stat(f"{registry}/p/a/v/{name}").st_mtime)
    assert email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp() == modified
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in headers
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize("name", [*PATHS, "empty"])
def test_head_has_the_headers_of_get(server: Server, name: str) -> None:
    got, head = server.ask(f"/fetch/p/a/v/{name}"), server.ask(f"/fetch/p/a/v/{name}", "HEAD")
    different = {"Date"}
    assert head.body == b""
    assert {k: v for k, v in got.headers.items() if k not in different} == {
        k: v for k, v in head.headers.items() if k not in different
    }


def test_connections_are_kept_alive_across_files_of_every_kind(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(3):
        for name, data in {**PATHS, "empty": b""}.items():
            assert ask_on(connection, f"/fetch/p/a/v/{name}").body == data
            assert ask_on(connection, f"/fetch/p/a/v/{name}", "HEAD").body == b""
            assert ask_on(connection, "/fetch/none").status == 404
        assert ask_on(connection, "/list?recursive=true").status == 200
    connection.close()


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=2-5", 2, 4),
    ("bytes=2-", 2, None),
    ("bytes=-3", -3, None),
    ("bytes=-99999999", 0, None),
    ("bytes=0-", 0, None),
    ("bytes= 3-99999999 ", 3, None),
]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("value", "start", "count"), RANGES)
def test_a_range_is_sent_as_asked(
    server: Server, name: str, value: str, start: int, count: int | None
) -> None:
    data = PATHS[name]
    first = start + len(data) if start < 0 else start
    expected = data[first:] if count is None else data[first : first + count]
    answer = ranged(server, name, value)
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(data)}"
    assert answer.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize(
    "value",
    [
        "bytes=5-2",
        "bytes=-",
        "bytes=x-y",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes",
        "bytes=" + "9" * 5000 + "-",
        "bytes=٣-",
    ],
)
def test_what_is_no_single_range_gets_the_whole(server: Server, value: str) -> None:
    """As RFC 9110 allows for several, and asks for nonsense."""
    value = value.encode().decode("latin-1")
    assert (ranged(server, "small", value).status, ranged(server, "small", value).body) == (200, SMALL)


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20", "bytes=999999999999999999-", "bytes=-0"])
def test_a_range_beyond_the_file_is_416(server: Server, value: str) -> None:
    answer = ranged(server, "small", value)
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */10")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json["status"] == "ERROR"


def test_ranges_of_an_empty_file(server: Server) -> None:
    assert ranged(server, "empty", "bytes=0-").status == 416
    assert (ranged(server, "empty", "bytes=-5").status, ranged(server, "empty", "bytes=-5").body) == (
        200,
        b"",
    )


def test_a_range_of_a_file_that_changed_is_the_whole(server: Server) -> None:
    """If-Range: what a client has of another file must not be continued with this one."""
    known = server.ask("/fetch/p/a/v/small").headers
    for same in (known["ETag"], known["Last-Modified"]):
        assert ranged(server, "small", "bytes=1-", **{"If-Range": same}).status == 206
    for other in ('"x"', f"W/{known['ETag']}", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"):
        assert ranged(server, "small", "bytes=1-", **{"If-Range": other}).status == 200


def test_what_the_client_has_already_is_not_sent(server: Server) -> None:
    known = server.ask("/fetch/p/a/v/large").headers
    conditions = [
        {"If-None-Match": known["ETag"]},
        {"If-None-Match": f'"x", W/{known["ETag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": known["Last-Modified"]},
        {"If-None-Match": known["ETag"], "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ]
    for condition in conditions:
        answer = server.ask("/fetch/p/a/v/large", headers=condition)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == known["ETag"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_what_the_client_has_not_is_sent(server: Server) -> None:
    known = server.ask("/fetch/p/a/v/large").headers
    conditions = [
        {"If-None-Match": '"x"'},
        {"If-None-Match": '"x"', "If-Modified-Since": known["Last-Modified"]},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If-Modified-Since": "nonsense"},
        {"If-Match": known["ETag"]},
        {"If-Unmodified-Since": known["Last-Modified"]},
    ]
    for condition in conditions:
        assert server.ask("/fetch/p/a/v/large", headers=condition).body == LARGE


@pytest.mark.parametrize(
    "condition", [{"If-Match": '"x"'}, {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}]
)
def test_failed_preconditions_are_412(server: Server, condition: dict[str, str]) -> None:
    assert server.ask("/fetch/p/a/v/small", headers=condition).status == 412


def test_a_slash_may_be_encoded_and_everything_is_decoded_once(server: Server, registry: str) -> None:
    odd = {"a b+c": b"1", "50%": b"2", "%41": b"3", "é": b"4", "?#&": b"5", "new\nline": b"6"}
    write_tree(f"{registry}/p/a/v", odd)
    for path, data in {
        "a%20b+c": b"1",
        "50%25": b"2",
        "%2541": b"3",
        "%C3%A9": b"4",
        "%3F%23%26": b"5",
        "new%0Aline": b"6",
    }.items():
        assert server.ask(f"/fetch/p%2Fa%2Fv%2F{path}").body == data
        assert server.ask(f"/fetch/p/a%2fv/{path}").body == data
    assert server.ask("/fetch/p/a/v/%41").status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("..", 400),
        ("%2e%2e", 400),
        ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", 400),
        ("p/../../x", 400),
        ("%2e%2e/r/p/a/v/small", 400),
        ("/etc/passwd", 400),
        ("%2Fetc%2Fpasswd", 400),
        ("p%00", 400),
        ("%FF", 400),
        ("%252e%252e", 404),
        ("..%5c..%5cetc", 404),
        ("p/a/v", 404),
        ("p/a/v/", 404),
        ("", 404),
        ("..LOCK", 404),
        ("p/a/..%4cOCK", 404),
        ("..transactions/committed/x", 404),
        ("..gobblerd", 404),
        ("p/a/v/x/../..manifest", 200),
        ("./p//a/./v/small", 200),
    ],
)
def test_paths_are_normalised_by_their_text_and_stay_in_the_registry(
    server: Server, registry: str, path: str, status: int
) -> None:
    write_tree(
        registry, {"..LOCK": b"", "p/a/..LOCK": b"", "..transactions/committed/x": b"", "..gobblerd": b""}
    )
    assert server.ask(f"/fetch/{path}").status == status


def test_what_is_not_followed_or_read_is_404(server: Server, registry: str, tmp_path: Path) -> None:
    """A secret of the daemon's account, a directory of secrets, a dangling link, a FIFO."""
    write_tree(str(tmp_path / "outside"), {"secret": b"secret"})
    os.symlink(tmp_path / "outside/secret", f"{registry}/p/a/v/absolute")
    os.symlink("../../../../outside/secret", f"{registry}/p/a/v/relative")
    os.symlink(tmp_path / "outside", f"{registry}/p/a/v/directory")
    os.symlink("none", f"{registry}/p/a/v/dangling")
    os.mkfifo(f"{registry}/p/a/v/fifo")
    for name in ("absolute", "relative", "directory", "directory/secret", "dangling", "fifo"):
        answer = server.ask(f"/fetch/p/a/v/{name}")
        assert answer.status == 404
        assert b"secret" not in answer.body.replace(b"directory/secret", b"")


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.xml"])
def test_users_pages_run_no_scripts(server: Server, registry: str, name: str) -> None:
    write_tree(registry, {f"p/a/v/{name}": b"<script>"})
    headers = server.ask(f"/fetch/p/a/v/{name}").headers
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_mtime_beyond_what_http_can_write_is_left_out(server: Server, registry: str) -> None:
    path = f"{registry}/p/a/v/small"
    for year in (-(2**40), 2**40):
        os.utime(path, (year, year))
        answer = server.ask(
            "/fetch/p/a/v/small", headers={"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
        )
        assert answer.status in {200, 304}


class _Shrinking(Browser):
    """Files that become shorter once they are open."""

    def open_at_once(self, path: str) -> OpenedFile | None:
        file = super().open_at_once(path)
        assert file is not None
        os.truncate(f"/proc/self/fd/{file.fd}", file.size // 2)
        return file


def test_a_file_that_becomes_shorter_is_never_taken_for_whole(registry: str) -> None:
    """Before anything was sent it is a 500; afterwards the connection ends early."""
    with serving(registry, browser=_Shrinking(registry, list)) as server:
        assert server.ask("/fetch/p/a/v/small").status == 500
        with pytest.raises(CUT_SHORT):
            server.ask("/fetch/p/a/v/large")


def test_without_sendfile_files_are_sent_in_pieces(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an event loop that has none."""

    def refuse(*args: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.BaseEventLoop, "sendfile", refuse)
    with serving(registry) as server:
        assert server.ask("/fetch/p/a/v/large").body == LARGE
        assert ranged(server, "large", "bytes=300000-900000").body == LARGE[300000:900001]
    shrinking = _Shrinking(registry, list)
    with serving(registry, browser=shrinking) as server, pytest.raises(CUT_SHORT):
        server.ask("/fetch/p/a/v/large")


def test_clients_that_leave_in_the_middle_leave_nothing_open(server: Server, registry: str) -> None:
    os.truncate(f"{registry}/p/a/v/large", 64 << 20)
    write_tree(registry, {f"p/b/v/{i:05}": b"" for i in range(100)})
    server.ask("/list")
    before = open_descriptors()
    for path in ("/fetch/p/a/v/large", "/list?recursive=true"):
        for _ in range(5):
            with server.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                client.recv(1000)
    for _ in range(100):
        if open_descriptors() <= before:
            break
        server.ask("/")
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    "recursive", ["true", "false", "1", "True", "", "true&recursive=false", "false&recursive=true"]
)
def test_recursive_is_exactly_true_and_the_first_one_counts(server: Server, recursive: str) -> None:
    names = server.ask(f"/list?path=p&path=none&recursive={recursive}").json
    assert ("a/v/small" in names) == recursive.startswith("true")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        (".", 200),
        ("p%2Fa%2F", 200),
        ("p/../p", 200),
        ("..", 400),
        ("%2Fetc", 400),
        ("p/a/v/small", 400),
        ("%00", 400),
        ("none", 404),
        ("p/a/v/small/x", 404),
        ("..transactions", 404),
        ("%FF", 404),
    ],
)
def test_listed_paths_stay_in_the_registry(server: Server, path: str, status: int) -> None:
    assert server.ask(f"/list?path={path}").status == status


def test_an_empty_directory_is_an_empty_array(server: Server, registry: str) -> None:
    write_tree(registry, {"q": None})
    for recursive in ("true", "false"):
        assert server.ask(f"/list?path=q&recursive={recursive}").body == b"[]"


@pytest.mark.parametrize(("count", "spread", "piece"), [(20_000, 1, 100_000), (1_000, 50, 300)])
def test_a_long_listing_is_streamed_and_complete(
    monkeypatch: pytest.MonkeyPatch, server: Server, registry: str, count: int, spread: int, piece: int
) -> None:
    monkeypatch.setattr(listing, "_PIECE", piece)
    expected = [f"{i % spread}/{i:05}" for i in range(count)]
    for directory in range(spread):
        os.makedirs(f"{registry}/q/{directory}")
    for name in expected:
        os.close(os.open(f"{registry}/q/{name}", os.O_CREAT | os.O_WRONLY))
    answer = server.ask("/list?path=q&recursive=true")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert sorted(answer.json) == sorted(expected)


def test_pieces_make_one_array_whatever_their_sizes() -> None:
    def pieces(*sizes: int) -> Pieces:
        yield from (_names(size) for size in sizes)

    piece = listing._PIECE // len(b'"x",')
    for sizes in [
        (),
        (1,),
        (piece,),
        (piece, piece),
        (piece, 1),
        (1, piece, 1),
        (piece * 2, 3),
    ]:
        found = b"".join(listing.joined(pieces(*sizes)))
        assert json.loads(found) == ["x"] * sum(sizes)


def _names(count: int) -> bytes:
    return b",".join([b'"x"'] * count)


class _Failing(Browser):
    """A listing whose storage fails after some names."""

    def pieces(self, path: str, *, recursive: bool) -> Pieces:
        yield _names(100_000)
        yield from [_names(100_000)] * int(path)
        raise OSError(5, "Input/output error")


def test_a_listing_that_fails_is_never_taken_for_whole(registry: str) -> None:
    """Before anything was sent it is a 500; afterwards the answer stays unfinished."""
    with serving(registry, browser=_Failing(registry, list)) as server:
        assert server.ask("/list?path=0").status == 500
        with pytest.raises(CUT_SHORT):
            server.ask("/list?path=3")


def test_small_files_are_what_the_specification_calls_small() -> None:
    assert len(SMALL) <= fetch.SMALL_MOST == 65_536 < len(LARGE)
