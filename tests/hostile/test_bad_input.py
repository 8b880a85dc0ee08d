"""Bad documents for every action: a 4xx that names the thing at fault, nothing of ours in the reason, one line in the log.

In-process for speed, by the dispatcher that the daemon has; a sample goes through a daemon. The seed is
hypothesis's own (printed with a failure); the log's lines are checked, whatever the names held.
"""

import itertools
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hostile.documents import NAMES, RIGHT, mutated
from hypothesis import HealthCheck, Phase, given, settings
from support.bench import Bench
from support.checker import assert_clean
from support.crowd import answered, counts, events_of
from support.daemon import RunningDaemon, StartDaemon
from support.performing import run

from gobblerd.domain.messages import Claim, Identity, Response
from gobblerd.registry.registry import Registry
from gobblerd.service.dispatch import Dispatcher, Rules
from gobblerd.staging.directory import Staging
from gobblerd.storage.files import Durability

OURS = re.compile(r"Traceback|pydantic|msgspec|\.py\b|site-packages|object at 0x|errors\.|<class|gobblerd\.")
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST = 5_000  # characters of a reason
KEYS = {
    "time", "level", "event", "request", "user", "action", "project", "place", "code", "seconds", "reason",
    "spoof",
}  # fmt: skip


class Recorder:
    """Keeps what it is told, as the real claims would record it."""

    def __init__(self) -> None:
        self.answered: list[Response] = []

    def answer(self, claim: Claim, response: Response, *, recorded: bool = False) -> bool:
        self.answered.append(response)
        return True

    def prepare(self, response: Response) -> None:
        pass

    def performed(self, claim: Claim) -> None:
        pass

    def report_progress(self, name: str, done: int, total: int) -> None:
        pass


class Desk:
    """A dispatcher on a registry with one version, p/a/1."""

    def __init__(self, base: Path) -> None:
        self.bench = Bench(base, durability=Durability.PROCESS)
        self.bench.run("create_project", project="p")
        self.bench.upload("p/a/1", {"f": b"1"})
        self.staging = Staging.open(str(self.bench.staging), Durability.PROCESS)
        self.registry = Registry(
            str(self.bench.root),
            staging=self.staging.id,
            durability=Durability.PROCESS,
            lock_timeout=lambda: 5.0,
        )
        self.claims = Recorder()
        rules = Rules(administrators=frozenset({"root"}))
        self.dispatcher = Dispatcher(
            self.registry,
            self.staging,
            self.claims,  # type: ignore[arg-type]  # speaks as much of the protocol as dispatch does
            self.bench.actions,
            lambda: rules,
        )
        self.numbers = itertools.count(1)

    def ask(self, action: str, body: bytes) -> Response:
        number = next(self.numbers)
        run(
            self.dispatcher,
            Claim(Identity(f"request-{action}-{number}", number, 2, 3), action, 0, "root", body),
        )
        return self.claims.answered.pop()

    def close(self) -> None:
        self.registry.close()
        self.staging.close()
        self.bench.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    structlog.configure(**before)
    made.close()
    assert_clean(str(made.bench.root))


def require_fair(code: int, body: dict[str, Any], private: tuple[str, ...] = ()) -> None:
    """A success, or a refusal in one printable line, without a word of our insides."""
    assert code < 500, body
    reason = body.get("reason", "")
    if code == 200:
        assert body["status"] == "SUCCESS"
        return
    assert body["status"] == "ERROR"
    assert reason
    assert not OURS.search(reason), reason
    assert not CONTROLS.search(reason), ascii(reason)
    assert len(reason) < LONGEST, len(reason)
    assert not any(path in reason for path in private), reason
    json.dumps(body).encode()


@pytest.mark.parametrize("documents", counts(1_000, 20_000))
def test_every_mutation_is_answered_fairly(desk: Desk, documents: int) -> None:
    """Types, nulls, nesting, names and numbers changed at random: never a 5xx, never a traceback."""

    @settings(
        max_examples=documents,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated())
    def check(drawn: tuple[str, bytes]) -> None:
        action, body = drawn
        response = desk.ask(action, body)
        require_fair(response.code, dict(response.body))
        json.dumps(response.ignored).encode()

    check()


@pytest.mark.parametrize("action", sorted(RIGHT))
def test_every_nasty_name_in_every_field(desk: Desk, action: str) -> None:
    """Each text of a right document replaced by each name there is trouble with."""
    for field, value in RIGHT[action].items():
        if isinstance(value, str):
            for nasty in NAMES:
                response = desk.ask(action, json.dumps({**RIGHT[action], field: nasty}).encode())
                require_fair(response.code, dict(response.body))


# ---- through a daemon


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_daemon(settings={"durability": "process", "log_level": "debug"})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"1"})
    return daemon


@pytest.mark.parametrize("documents", counts(150, 5_000))
def test_a_sample_through_a_daemon(daemon: RunningDaemon, documents: int) -> None:
    """POSTed and recorded alike, in JSON that anybody can read; each execution is one event of the log."""
    asked: list[str] = []
    private = (daemon.log, "/usr/", "/root", "site-packages")

    @settings(
        max_examples=documents,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated())
    def check(drawn: tuple[str, bytes]) -> None:
        action, body = drawn
        name = daemon.drop(action, body or b" ")
        asked.append(name)
        answer = daemon.post(name)
        require_fair(answer.code, dict(answer.body), private)
        recorded = daemon.wait(name).body
        assert answer.body.items() <= recorded.items()

    check()
    assert_clean(daemon.registry)
    require_honest_log(daemon, asked)


FORGERIES = [
    'x\n<3>{"time": "2026-01-01T00:00:00Z", "level": "error", "event": "forged"}',
    "x\r\x1b[2Jforged",
    "x\u2028forged",
    "x\u0085forged",
    'x", "event": "forged',
]


@pytest.mark.parametrize("text", FORGERIES)
def test_nobody_writes_our_log(daemon: RunningDaemon, text: str) -> None:
    """Newlines and quotes in file names, projects, sources, unknown keys and URLs make no event of their own."""
    names = [
        f"request-create_project-{text.replace('/', '_')}",
        f"request-{text}-1",
        "request-refresh_usage-1",
    ]
    daemon.drop("", {"project": text, text: 1}, name=names[0])
    daemon.drop("", {"project": "p"}, name=names[1])
    daemon.drop("", {"project": text, "asset": text}, name=names[2])
    source = daemon.source({text: b"1"}, 0, f"source {text}".replace("/", "_"))
    upload = {"project": "p", "asset": "a", "version": "2", "source": source, "spoof": text}
    names.append(daemon.drop("upload", upload))
    names.append(daemon.drop("upload", {**upload, "spoof": None}))
    for name in names:
        assert daemon.wait(name).code < 500
    daemon.get(f"/fetch/{text.encode().hex()}")
    require_honest_log(daemon, names)
    assert not any(event["event"] == "forged" for event in events_of(daemon))


def require_honest_log(daemon: RunningDaemon, asked: list[str]) -> None:
    """Each line is one event of ours with the keys it should have, and each request has its own."""
    for event in events_of(daemon):
        assert "forged" not in event["event"]
    lines = answered(daemon)
    assert all(set(line) <= KEYS and KEYS - {"reason", "spoof"} <= set(line) for line in lines)
    found = [line["request"] for line in lines]
    assert len(found) == len(set(found))
    assert set(found) >= set(asked)
