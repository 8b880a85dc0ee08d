"""The REST API as its own description says it is, asked for everything that the description allows and does not.

schemathesis makes the requests from /openapi.json of a running daemon; the draws are deterministic.
"""

import contextlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from support.crowd import counts, events_of, not_tested
from support.daemon import RunningDaemon, StartDaemon

try:
    import schemathesis
except ImportError:
    schemathesis = None

FOREIGN = ("Traceback", "site-packages", ".py", "/usr/", "/root", "/etc/", "aiohttp")
NO_MORE = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_daemon(settings={"durability": "process", "post_expiry": 5, "request_settle": 1})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"1", "d/g": b"{}"})
    return daemon


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("requests", counts(25, 1_000))
def test_whatever_is_asked(daemon: RunningDaemon, requests: int, mode: str) -> None:
    """For each operation: never a 5xx, always what the description says, nothing of ours in the answer."""
    if schemathesis is None:
        not_tested("schemathesis is not installed: requests made from /openapi.json")
    url = f"http://127.0.0.1:{daemon.port}"
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    generation = schemathesis.GenerationMode(mode)
    asked: Counter[str] = Counter()
    for result in schema.get_all_operations():
        ask(result.ok(), generation, requests, url, asked)
    print(dict(asked))  # noqa: T201 - the figures for docs/reliability.md
    assert len(asked) >= (8 if mode == "positive" else 1), asked
    assert not any(event["level"] in {"error", "critical"} for event in events_of(daemon))


def ask(operation: Any, generation: Any, requests: int, url: str, asked: "Counter[str]") -> None:
    """Send one operation's requests."""
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.specs.openapi.checks.content_type_conformance,
        schemathesis.specs.openapi.checks.response_schema_conformance,
        schemathesis.specs.openapi.checks.status_code_conformance,
    ]

    @settings(
        max_examples=requests,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=NO_MORE,
    )
    @given(case=operation.as_strategy(generation_mode=generation))
    def check(case: Any) -> None:
        response = case.call(base_url=url)
        asked[operation.label] += 1
        case.validate_response(response, checks=checks)
        if response.status_code >= 400:
            text = response.text.replace(str(case.path_parameters), "")
            assert not any(word in text for word in FOREIGN), text

    with contextlib.suppress(Unsatisfiable):  # where there is nothing to be wrong with
        check()
