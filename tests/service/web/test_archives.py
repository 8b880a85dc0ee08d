"""`GET /archive`: the bytes that create_archive writes, made while they are sent, or no regular end."""

import contextlib
import hashlib
import http.client
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from support.archives import make_registry
from support.daemon import eventually
from support.registries import Book
from support.rest import Server, open_descriptors, serving

from gobblerd.archive import Version, create_archive
from gobblerd.service.web import archives

URL = "/archive/p/a/2.tar.zst"
CUT_SHORT = (http.client.IncompleteRead, ConnectionError)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return make_registry(tmp_path)


@pytest.fixture
def server(book: Book, tmp_path: Path) -> Iterator[Server]:
    with serving(book.root, str(tmp_path / "white")) as found:
        yield found


def large(book: Book, megabytes: int = 24) -> str:
    """Write a version that no buffer holds; return its path in the API."""
    book.version("p/a/big", {"noise": random.Random(1).randbytes(megabytes << 20)})
    return "/archive/p/a/big.tar.zst"


def test_the_bytes_are_those_of_create_archive(server: Server, book: Book, tmp_path: Path) -> None:
    made = create_archive(Version(book.root, "p", "a", "2"), tmp_path / "v")
    answer = server.ask(URL)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == made.sha256
    assert answer.headers["Content-Type"] == "application/zstd"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''p_a_2.tar.zst"
    assert server.ask("/archive/p%2Fa%2F2.tar.zst").body == answer.body


def test_the_tar_in_it_can_be_asked_for(server: Server) -> None:
    """Without compression, under a name, a type and an entity tag of its own."""
    packed, plain = server.ask(URL), server.ask(URL.removesuffix(".zst"))
    assert plain.status == 200
    assert plain.headers["Content-Type"] == "application/x-tar"
    assert plain.headers["Content-Disposition"] == "attachment; filename*=UTF-8''p_a_2.tar"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert plain.body == zstandard.ZstdDecompressor().decompressobj().decompress(packed.body)


def test_a_large_version_too(server: Server, book: Book, tmp_path: Path) -> None:
    url = large(book)
    made = create_archive(Version(book.root, "p", "a", "big"), tmp_path / "v", threads=2)
    assert hashlib.sha256(server.ask(url).body).hexdigest() == made.sha256


def test_head_has_the_headers_and_what_the_client_has_is_not_sent(server: Server) -> None:
    got, head = server.ask(URL), server.ask(URL, "HEAD")
    assert head.status == 200
    assert head.body == b""
    for name in ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Accept-Ranges"):
        assert head.headers[name] == got.headers[name]
    assert server.ask(URL, headers={"If-None-Match": got.headers["ETag"]}).status == 304
    assert server.ask(URL, headers={"If-Match": '"other"'}).status == 412


def test_another_version_has_another_entity_tag(server: Server, book: Book) -> None:
    first = server.ask(URL, "HEAD").headers["ETag"]
    assert server.ask("/archive/p/a/1.tar.zst", "HEAD").headers["ETag"] != first
    summary = Path(book.full("p/a/2/..summary"))
    summary.write_bytes(summary.read_bytes().replace(b'"x"', b'"y"'))
    assert server.ask(URL, "HEAD").headers["ETag"] != first


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("p/a/3.tar.zst", 404),
        ("p/b/2.tar.zst", 404),
        ("p/a/2.zip", 404),
        ("p/a/2", 404),
        ("p/a/.tar.zst", 404),
        ("p/a/2/x.tar.zst", 404),
        ("p/a/...tar.zst", 400),
        ("p/../2.tar.zst", 400),
        ("..transactions/a/2.tar.zst", 400),
        ("%2F/etc/x.tar.zst", 404),
        ("p/a/2%00.tar.zst", 400),
    ],
)
def test_what_is_no_version_is_refused(path: str, code: int, server: Server) -> None:
    assert server.ask(f"/archive/{path}").status == code


def test_rot_is_422_at_once_and_no_regular_end_in_the_middle(server: Server, book: Book) -> None:
    """Nobody takes a part for the whole."""
    Path(book.full("p/a/2/README")).write_bytes(b"Read me\n")
    answer = server.ask(URL)
    assert (answer.status, answer.json["status"]) == (422, "ERROR")
    assert "README" in answer.json["reason"]
    url = large(book)
    with open(book.full("p/a/big/noise"), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(CUT_SHORT):
        server.ask(url)


def test_only_whitelisted_files_outside_of_the_registry_are_sent(book: Book) -> None:
    with serving(book.root) as server:
        assert server.ask(URL).status == 422


def test_clients_that_leave_in_the_middle_leave_nothing_open(server: Server, book: Book) -> None:
    """And their turn goes to the next one."""
    url = large(book)
    server.ask(URL)
    before = open_descriptors()
    for _ in range(archives.AT_ONCE + 1):
        with server.connect() as client:
            client.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert server.ask(URL).status == 200
    eventually(lambda: open_descriptors() <= before, "every descriptor is closed")


def test_more_clients_than_turns_wait_and_a_patient_one_is_told(
    server: Server, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that read nothing hold their turns; the next one gets 503, and its turn once one has left."""
    url = large(book)
    monkeypatch.setattr(archives, "_PATIENCE", 0.5)
    idle = [server.connect() for _ in range(archives.AT_ONCE)]
    for client in idle:
        client.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.ask(URL).status == 503
    for client in idle:
        client.close()
    eventually(lambda: server.ask(URL).status == 200, "a turn is free")


def test_a_client_that_takes_nothing_is_given_up(
    server: Server, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = large(book)
    monkeypatch.setattr(archives, "_SILENCE", 0.5)
    with server.connect() as client:
        client.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        eventually(lambda: not is_open(book.full("p/a/big/noise")), "the version's file is closed")
        with pytest.raises(CUT_SHORT):
            read_to_the_end(client)


def is_open(path: str) -> bool:
    """Tell whether this process, which the server runs in, has the file open."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == path:
                return True
    return False


def read_to_the_end(client: socket.socket) -> None:
    """Take what the server has sent; IncompleteRead unless the last chunk of the answer is there."""
    body = b""
    while data := client.recv(1 << 20):
        body = body[-10:] + data
    if not body.endswith(b"0\r\n\r\n"):
        raise http.client.IncompleteRead(b"")


def test_many_clients_at_once_get_the_same(server: Server) -> None:
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(server.ask(URL).body)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(bodies) == 12
    assert len(set(bodies)) == 1
