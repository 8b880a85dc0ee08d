"""Requests as any client makes them: a file dropped into staging, then a POST, or waiting for the response.

Only the Go service's API is used, so that it can be measured too; it knows no answers to drops without POST.
"""

import http.client
import json
import os
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

REST, DROP = "rest", "drop"
PATIENCE = 600.0  # seconds until an answer is given up


class WrongAnswer(Exception):
    """A server answered something that is not what the workload must lead to."""


class Desk:
    """Asks one server, by way of `by`: "rest" (a POST for every drop) or "drop" (the file alone)."""

    def __init__(self, staging: str, port: int, by: str) -> None:
        self.staging = staging
        self.port = port
        self.by = by
        self._numbers = count()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, action: str, **document: Any) -> dict[str, Any]:
        """Ask for something that must succeed; return the answer."""
        name = self.drop(action, document)
        return require_success(action, self.post(name) if self.by == REST else self.wait(name))

    def drop(self, action: str, document: Mapping[str, Any]) -> str:
        """Drop a request file by rename; return its name."""
        name = f"request-{action}-{os.getpid()}-{next(self._numbers)}"
        temporary = os.path.join(self.staging, f"new-{name}")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.rename(temporary, os.path.join(self.staging, name))
        return name

    def post(self, name: str) -> dict[str, Any]:
        """POST the name of a dropped request; return the answer."""
        return dict(json.loads(self._exchange("POST", f"/new/{name}")))

    def get(self, path: str) -> bytes:
        """GET a path; return the body."""
        return self._exchange("GET", path)

    def _exchange(self, method: str, path: str) -> bytes:
        self._connection.request(method, path)
        return self._connection.getresponse().read()

    def response_path(self, name: str) -> str:
        """Return where the response to a request will be."""
        return os.path.join(self.staging, "responses", name)

    def wait(self, name: str, pause: float = 0.0003) -> dict[str, Any]:
        """Wait for the response file, looking every `pause` seconds (later more rarely)."""
        path = self.response_path(name)
        began = time.monotonic()
        while not os.path.exists(path):
            waited = time.monotonic() - began
            if waited > PATIENCE:
                raise WrongAnswer(f"no response to {name} within {PATIENCE:g} s")
            time.sleep(max(pause, min(waited / 200, 0.005)))
        return self.response(name)

    def response(self, name: str) -> dict[str, Any]:
        """Return the recorded response."""
        with open(self.response_path(name), encoding="utf-8") as file:
            return dict(json.load(file))

    def answers_drops(self, patience: float = 5.0) -> bool:
        """Tell whether the server answers a request that nobody POSTs."""
        path = self.response_path(self.drop("health_check", {}))
        deadline = time.monotonic() + patience
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        return os.path.exists(path)


def require_success(action: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer; WrongAnswer if it is a refusal."""
    if answer.get("status") != "SUCCESS":
        raise WrongAnswer(f"{action} was answered {json.dumps(answer)[:500]}")
    return dict(answer)


def require(found: object, expected: object, what: str) -> None:
    """Raise WrongAnswer unless what was found is what must be."""
    if found != expected:
        raise WrongAnswer(f"{what}: {found!r} instead of {expected!r}")


def read_json(*parts: str) -> Any:
    """Parse a document of the registry."""
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return json.load(file)
