"""W11 and W12: reading over HTTP."""

import hashlib
import json
import os
import socket
import time
from typing import ClassVar

from benchmarks.asking import require
from benchmarks.crowd import exchange_all, http_request
from benchmarks.data import GIB, KIB, write_files
from benchmarks.registries import write_project, write_tree, write_version
from benchmarks.workload import Bound, Figures, Limit, Measure, Run, Workload, Workshop

_RECEIVE = 1 << 20


def _write_stored(root: str, count: int, size: int) -> None:
    """Write a registry whose one version has these files."""
    write_project(root, "bench")
    top = os.path.join(root, "bench/asset/1")
    entries = {}
    write_files(top + ".files", count, size)
    for name in os.listdir(top + ".files"):
        with open(os.path.join(top + ".files", name), "rb") as file:
            entries[name] = {"size": size, "md5sum": hashlib.file_digest(file, "md5").hexdigest()}
    write_version(root, "bench/asset/1", entries)
    for name in entries:
        os.rename(os.path.join(top + ".files", name), os.path.join(top, name))
    os.rmdir(top + ".files")


class GetLarge(Workload):
    name = "W11-large"
    title = "GET 1 GiB"
    by_drop = False
    measures: ClassVar = (Measure("rate", "MB/s", go=3700, bound=Bound.BYTES, reach=0.7),)

    def registry(self, shop: Workshop) -> str:
        return shop.material("one-large", lambda root: _write_stored(root, 1, shop.count(GIB)))

    def measure(self, run: Run) -> Figures:
        size = run.shop.count(GIB)
        with socket.create_connection(("127.0.0.1", run.server.port)) as connection:
            began = time.perf_counter()
            connection.sendall(http_request("GET", "/fetch/bench/asset/1/f000000"))
            received = _receive_body(connection, size)
            seconds = time.perf_counter() - began
        require(received, size, "bytes received")
        return {"rate": size / seconds / 1e6}

    def limits(self, shop: Workshop) -> list[Limit]:
        path = os.path.join(self.registry(shop), "bench/asset/1/f000000")
        return [Limit("cat", f"cat {path} | cat >/dev/null")]


def _receive_body(connection: socket.socket, size: int) -> int:
    """Receive the head of an answer and up to `size` bytes of its body; return how many of these came."""
    head = b""
    while b"\r\n\r\n" not in head and (part := connection.recv(_RECEIVE)):
        head += part
    got = len(head.partition(b"\r\n\r\n")[2])
    buffer = bytearray(_RECEIVE)
    while got < size and (count := connection.recv_into(buffer)):
        got += count
    return got


class GetSmall(Workload):
    name = "W11-small"
    title = "GET 2,000 x 4 KiB, 8 clients"
    by_drop = False
    measures: ClassVar = (Measure("rate", "/s", go=5200, bound=Bound.BYTES, reach=1),)

    def registry(self, shop: Workshop) -> str:
        return shop.material("many-small", lambda root: _write_stored(root, shop.count(2000), 4 * KIB))

    def measure(self, run: Run) -> Figures:
        names = sorted(name for name in os.listdir(run.stored("bench/asset/1")) if name.startswith("f"))
        questions = [http_request("GET", f"/fetch/bench/asset/1/{name}") for name in names]
        began = time.perf_counter()
        replies = exchange_all(run.server.port, [lambda each=each: each for each in questions])
        seconds = time.perf_counter() - began
        with open(run.stored("bench/asset/1/..manifest"), encoding="utf-8") as file:
            expected = sorted(entry["md5sum"] for entry in json.load(file).values())
        found = sorted(hashlib.md5(reply.body).hexdigest() for reply in replies)
        require(found == expected, True, "the bytes fetched are those stored")
        return {"rate": len(names) / seconds}

    def limits(self, shop: Workshop) -> list[Limit]:
        return [Limit("cat", f"cat {self.registry(shop)}/bench/asset/1/f* >/dev/null")]


class ListAll(Workload):
    name = "W12"
    title = "GET /list recursive, 100,000 files"
    by_drop = False
    measures: ClassVar = (Measure("list", go=0.13, bound=Bound.BYTES, reach=1.5),)

    def registry(self, shop: Workshop) -> str:
        files = shop.count(100_000)
        return shop.material("tree", lambda root: write_tree(root, "bench/asset/1", files))

    def measure(self, run: Run) -> Figures:
        began = time.perf_counter()
        body = run.desk.get("/list?path=bench&recursive=true")
        seconds = time.perf_counter() - began
        names = [name for name in json.loads(body) if not name.rpartition("/")[2].startswith("..")]
        require(len(names), run.shop.count(100_000), "names")
        return {"list": seconds}

    def limits(self, shop: Workshop) -> list[Limit]:
        return [Limit("find", f"find {self.registry(shop)} -type f >/dev/null")]


WORKLOADS = (GetLarge(), GetSmall(), ListAll())
