"""What travels between the rooms: a claim goes in, a response comes out (design/architecture.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gobblerd.domain.errors import Wrong
from gobblerd.domain.names import NAME_MAX_BYTES, is_utf8

REQUEST_PREFIX = "request-"


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a request file one request: its name, inode, mtime and size (spec/requests.md).

    `digest` (xxh3-64 of the bytes, "" where they were not read) tells a late `touch` from a new request.
    """

    name: str
    inode: int
    mtime_ns: int
    size: int
    digest: str = ""

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What identities are compared by."""
        return (self.name, self.inode, self.mtime_ns, self.size)


@dataclass(frozen=True, slots=True)
class Claim:
    """A request taken up: who asks (owner of the opened file), for what, with which bytes."""

    identity: Identity
    action: str
    uid: int
    user: str
    body: bytes

    @property
    def name(self) -> str:
        """The request file's name."""
        return self.identity.name


def check_request_name(name: str) -> str:
    """Return `name` if a request file can have it, a plain file name behind `request-`; else raise Wrong."""
    if not is_utf8(name):
        raise Wrong("the request file name {name} is not valid UTF-8", name=name)
    if not name.startswith(REQUEST_PREFIX) or "/" in name or "\0" in name:
        raise Wrong(
            "{name} is not the name of a request file: a plain file name that begins with {prefix}",
            name=name,
            prefix=REQUEST_PREFIX,
        )
    if len(name.encode()) > NAME_MAX_BYTES:
        raise Wrong(
            "the request file name {name} is longer than {most} bytes", name=name, most=NAME_MAX_BYTES
        )
    return name


def action_of(name: str) -> str | None:
    """Return the action that a request file's name asks for: `request-<action>-<anything>`; None if none."""
    if not name.startswith(REQUEST_PREFIX):
        return None
    action, dash, _ = name.removeprefix(REQUEST_PREFIX).partition("-")
    return action if dash and action else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A success; `answer` holds the action's own keys (JSON values)."""

    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """The one response of a request: the HTTP code, and the document that a POST is answered with.

    `body` holds `status`, `reason` and the action's own keys; the other fields are the response file's.
    Times are RFC 3339.
    """

    identity: Identity
    action: str
    user: str
    code: int
    body: Mapping[str, Any]
    started: str
    finished: str
    ignored: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Tell whether the request was done."""
        return self.code == 200  # noqa: PLR2004

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the response file."""
        found: dict[str, Any] = {
            **self.body,
            "request": self.identity.name,
            "action": self.action,
            "user": self.user,
            "code": self.code,
            "started": self.started,
            "finished": self.finished,
            "identity": {
                "inode": self.identity.inode,
                "mtime_ns": self.identity.mtime_ns,
                "size": self.identity.size,
                "digest": self.identity.digest,
            },
        }
        if self.ignored:
            found["ignored"] = list(self.ignored)
        return found

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Response":
        """Read what `document` wrote; KeyError or TypeError if it is not such a document."""
        own = {"request", "action", "user", "code", "started", "finished", "identity", "ignored"}
        name = document["request"]
        return cls(
            identity=Identity(name=name, **document["identity"]),
            action=document["action"],
            user=document["user"],
            code=document["code"],
            body={key: value for key, value in document.items() if key not in own},
            started=document["started"],
            finished=document["finished"],
            ignored=tuple(document.get("ignored", ())),
        )


def success_body(outcome: Outcome) -> dict[str, Any]:
    """Return the document of a success."""
    return {"status": "SUCCESS", **outcome.answer}


def error_body(reason: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the document of a failure."""
    return {"status": "ERROR", "reason": reason, **(details or {})}
