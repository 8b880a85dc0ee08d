"""Claims and responses: what a request file's name says, and the document of its answer."""

import json

import pytest

from gobblerd.domain.messages import (
    Claim,
    Identity,
    Outcome,
    Response,
    action_of,
    error_body,
    success_body,
)

IDENTITY = Identity("request-upload-1", 5, 6, 7, "d")


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("request-upload-1", "upload"),
        ("request-health_check-", "health_check"),
        ("request-a-b-c", "a"),
        ("request-upload", None),
        ("request--1", None),
        ("request-", None),
        ("Request-upload-1", None),
        ("xrequest-upload-1", None),
        ("", None),
    ],
)
def test_the_action_is_in_the_name(name: str, action: str | None) -> None:
    """`request-<action>-<anything>`."""
    assert action_of(name) == action


def response(code: int = 200, ignored: tuple[str, ...] = ()) -> Response:
    body = success_body(Outcome({"total": 3})) if code == 200 else error_body("why", {"problems": [1]})
    return Response(IDENTITY, "upload", "u", code, body, "t1", "t2", ignored)


@pytest.mark.parametrize("given", [response(), response(404), response(ignored=("x", "y.0"))])
def test_a_response_survives_its_file(given: Response) -> None:
    """What is written is read again."""
    assert Response.from_document(json.loads(json.dumps(given.document()))) == given


def test_the_document_of_a_response() -> None:
    """Exactly the documented keys beside the action's own; `ignored` only where something was."""
    document = response().document()
    assert document["identity"] == {"inode": 5, "mtime_ns": 6, "size": 7, "digest": "d"}
    assert {key: value for key, value in document.items() if key != "identity"} == {
        "status": "SUCCESS",
        "total": 3,
        "request": "request-upload-1",
        "action": "upload",
        "user": "u",
        "code": 200,
        "started": "t1",
        "finished": "t2",
    }
    assert response(ignored=("x",)).document()["ignored"] == ["x"]
    assert response().succeeded
    assert not response(503).succeeded


@pytest.mark.parametrize("document", [{}, {"request": "r"}, {**response().document(), "identity": {"x": 1}}])
def test_what_is_no_response(document: dict[str, object]) -> None:
    """KeyError or TypeError, as documented."""
    with pytest.raises((KeyError, TypeError)):
        Response.from_document(document)


def test_identities() -> None:
    """Compared by name, inode, mtime and size."""
    assert IDENTITY.key == ("request-upload-1", 5, 6, 7)
    assert Claim(IDENTITY, "upload", 1, "u", b"").name == "request-upload-1"


def test_bodies() -> None:
    """`status` first, then the action's own keys or the reason."""
    assert list(success_body(Outcome({"a": 1})).items()) == [("status", "SUCCESS"), ("a", 1)]
    assert error_body("r") == {"status": "ERROR", "reason": "r"}
    assert error_body("r", {"problems": []}) == {"status": "ERROR", "reason": "r", "problems": []}
