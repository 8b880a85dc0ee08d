"""The client's errors: one type with code and reason, and `requests`' own where a program knows those."""

import json
import pickle
import subprocess
import sys

import pytest
import requests
from support.daemon import PROJECT_ROOT

from gobblerd.client import GobblerError, GobblerTimeout, GobblerUnreachable
from gobblerd.client.errors import failure, refusal


@pytest.mark.parametrize(
    ("kind", "theirs", "builtin"),
    [
        (GobblerError, requests.HTTPError, OSError),
        (GobblerUnreachable, requests.ConnectionError, ConnectionError),
        (GobblerTimeout, requests.Timeout, TimeoutError),
    ],
)
def test_programs_that_catch_requests_errors(
    kind: type[GobblerError], theirs: type[Exception], builtin: type[Exception]
) -> None:
    """Where `requests` is loaded, an error is also what pygobbler would have raised; always the same class."""
    error = failure(kind, 404, "not there", {"problems": [1]})
    assert isinstance(error, kind)
    assert isinstance(error, theirs)
    assert isinstance(error, builtin)
    assert type(error) is type(failure(kind, 1, ""))
    assert (error.code, error.reason, error.args, error.errno) == (404, "not there", (404, "not there"), 404)


def test_requests_is_not_imported_for_it() -> None:
    """A program without `requests` gets the plain class, and no `requests`."""
    program = """
import json, sys
from gobblerd.client.errors import GobblerError, failure
error = failure(GobblerError, 400, "no")
print(json.dumps([type(error) is GobblerError, "requests" in sys.modules, error.args]))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={"PYTHONPATH": PROJECT_ROOT},
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout) == [True, False, [400, "no"]]


@pytest.mark.parametrize("kind", [GobblerError, GobblerUnreachable, GobblerTimeout])
def test_errors_travel_between_processes(kind: type[GobblerError]) -> None:
    """An error survives pickling, as from a multiprocessing worker."""
    error = pickle.loads(pickle.dumps(failure(kind, None, "reason", {"a": 1})))
    assert isinstance(error, kind)
    assert (error.code, error.reason, error.answer) == (None, "reason", {"a": 1})
    assert str(error) == "reason"


def test_what_a_refusal_says() -> None:
    """The text is the reason and the code; what is no document of ours still makes an error."""
    error = refusal(422, {"status": "ERROR", "reason": "bad", "problems": []})
    assert (str(error), error.answer) == ("bad (422)", {"problems": []})
    assert refusal(500, ["what"]).code == 500
