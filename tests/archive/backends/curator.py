"""A CDCS instance as far as its REST API goes: an HTTP server that answers what the `cdcs` package asks.

The forms of questions and answers are those of version 3 of CDCS: pages of ten, queries in Mongo's language
(equality and `$in` at the top level), blobs as multipart uploads, PIDs as URLs of the server.
"""

import base64
import contextlib
import email
import email.policy
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 10
TEMPLATES = {1: "Release", 2: "BlobMetadata", 3: "Release"}  # 3 is the newer version of the first
WORKSPACES = {1: "Global Public Workspace", 2: "lab"}
USER, PASSWORD = "anna", "s3cret:with colon"


@dataclass
class Curator:
    """What the server keeps, and what it was asked."""

    url: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, user
    private: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_record(self, title: str, template: int, content: Any, workspace: int) -> dict[str, Any]:
        with self.lock:
            number = len(self.records) + 1
            times = f"2026-01-01T00:00:{number % 60:02d}Z"
            record = {
                "id": number,
                "template": template,
                "workspace": workspace,
                "user_id": "1",
                "title": title,
                "content": json.dumps(content),
                "creation_date": times,
                "last_modification_date": times,
                "last_change_date": times,
            }
            self.records.append(record)
            return record

    def add_blob(self, filename: str, data: bytes) -> dict[str, Any]:
        with self.lock:
            number = len(self.blobs) + 1
            blob = {
                "id": number,
                "user_id": "1",
                "filename": filename,
                "handle": f"{self.url}/rest/blob/download/{number}/",
                "upload_date": "2026-01-01T00:00:00Z",
                "pid": f"{self.url}/pid/rest/local/cdcs/B{number}",
            }
            self.blobs[number] = {**blob, "data": data, "workspace": None, "metadata": []}
            return blob

    def found(self, query: Mapping[str, Any], templates: list[int]) -> list[dict[str, Any]]:
        return [
            record
            for record in self.records
            if record["template"] in templates and _matches(json.loads(record["content"]), query)
        ]


def _matches(content: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    return all(
        content.get(key) in wanted["$in"] if isinstance(wanted, dict) else content.get(key) == wanted
        for key, wanted in query.items()
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    curator: Curator

    def log_message(self, *_: Any) -> None:
        pass

    def _user(self) -> str | None:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if (user, password) == (USER, PASSWORD) else ""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        user = self._user()
        self.curator.seen.append((self.command, self.path, user))
        if user == "" or (user is None and self.curator.private and self.command != "GET"):
            return self._answer(401, {"detail": "Invalid username/password."})
        names = [part for part in parts.path.split("/") if part]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return self._route(names, query, body)

    do_GET = do_POST = do_PATCH = _handle  # noqa: N815 - the names that http.server looks for

    def _route(self, names: list[str], query: dict[str, str], body: bytes) -> None:
        match self.command, names:
            case "GET", ["rest", "core-settings"]:
                self._answer(200, {"core_version": "2.6.0"})
            case "GET", ["rest", "data"]:
                self._answer(200, {"count": 0, "next": None, "previous": None, "results": []})
            case "POST", ["rest", "data", "query"]:
                self._query(parse_qs(body.decode()), int(query.get("page", "1")))
            case "POST", ["rest", "data"]:
                asked = json.loads(body)
                workspace, template = int(asked["workspace"]), int(asked["template"])
                content = json.loads(asked["content"])
                self._answer(201, self.curator.add_record(asked["title"], template, content, workspace))
            case "GET", ["rest", "template-version-manager", "global"]:
                self._answer(200, _managers(query.get("title")))
            case "GET", ["rest", "template", number]:
                self._answer(200, {"id": int(number), "filename": "t.json", "content": "{}", "hash": "h"})
            case "GET", ["rest", "workspace"]:
                self._answer(200, [{"id": key, "title": title} for key, title in WORKSPACES.items()])
            case _:
                self._route_blobs(names, body)

    def _route_blobs(self, names: list[str], body: bytes) -> None:
        curator = self.curator
        match self.command, names:
            case "POST", ["rest", "blob"]:
                self._answer(201, curator.add_blob(*_uploaded(self.headers.get("Content-Type", ""), body)))
            case "GET", ["rest", "blob", number]:
                self._answer(200, {k: v for k, v in curator.blobs[int(number)].items() if k != "data"})
            case "PATCH", ["rest", "blob", number, "assign", workspace]:
                curator.blobs[int(number)]["workspace"] = int(workspace)
                self._answer(200, {})
            case "POST", ["rest", "blob", number, "metadata", record]:
                curator.blobs[int(number)]["metadata"].append(int(record))
                self._answer(200, {})
            case "GET", ["pid", "rest", "local", "cdcs", name] if int(name[1:]) in curator.blobs:
                self._answer(200, curator.blobs[int(name[1:])]["data"])
            case _:
                self._answer(404, {"message": "not found"})

    def _query(self, form: Mapping[str, list[str]], page: int) -> None:
        templates = [int(one["id"]) for one in json.loads(form["templates"][0])]
        found = self.curator.found(json.loads(form["query"][0]), templates)
        rows = found[(page - 1) * PAGE : page * PAGE]
        following = (
            f"{self.curator.url}/rest/data/query/?page={page + 1}" if page * PAGE < len(found) else None
        )
        self._answer(200, {"count": len(found), "next": following, "previous": None, "results": rows})

    def _answer(self, code: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json"
        )
        self.end_headers()
        self.wfile.write(data)


def _managers(title: str | None) -> list[dict[str, Any]]:
    names = [name for name in dict.fromkeys(TEMPLATES.values()) if title in {None, name}]
    return [
        {
            "id": at,
            "title": name,
            "versions": [str(key) for key, value in TEMPLATES.items() if value == name],
            "current": str(max(key for key, value in TEMPLATES.items() if value == name)),
            "is_disabled": False,
            "disabled_versions": [],
        }
        for at, name in enumerate(names, 1)
    ]


def _uploaded(content_type: str, body: bytes) -> tuple[str, bytes]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    return parts["filename"].get_content().strip(), parts["blob"].get_payload(decode=True)


@contextlib.contextmanager
def curating(certificate: str | None = None) -> Iterator[Curator]:
    """Serve an empty instance; over TLS with the certificate and key in a file, if one is given."""
    curator = Curator()
    handler = type("Handler", (_Handler,), {"curator": curator})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        curator.url = f"{scheme}://localhost:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield curator
        finally:
            server.shutdown()
            thread.join()
