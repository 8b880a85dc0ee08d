"""kill -9 at a random moment: after a restart every request has one response that tells the truth.

Every other kill comes the moment a transaction is committed, between the change and its response.

Counts and seeds: GOBBLERD_CRASHES kills in all (default 6: one of each kind; the full form is 50), the random
moments follow from GOBBLERD_SEED (default: chosen anew; shown when a test fails).
"""

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from support.checker import assert_clean
from support.daemon import PATIENCE, Answer, RunningDaemon, StartDaemon, address, eventually
from support.documents import as_event, events
from support.places import Symlink, Tree, read_tree

CRASHES = int(os.environ.get("GOBBLERD_CRASHES", "6"))
BIG = 1 << 21


def contents(seed: int) -> Tree:
    """A few hundred small files, some of the same bytes, and some megabytes."""
    source = random.Random(seed)
    small = {f"d{n % 7}/s{n % 3}/file-{n}": source.randbytes(source.randrange(1, 3000)) for n in range(300)}
    twins = {f"twins/{n}": b"the same bytes\n" for n in range(5)}
    return {
        **small,
        **twins,
        "big-1": source.randbytes(BIG),
        "big-2": source.randbytes(BIG),
        "none/at/all": None,
    }


class Prepared(NamedTuple):
    """A request that is about to be interrupted, and how to tell whether its answer is true."""

    document: Mapping[str, Any]
    check: Callable[[Answer], None]
    event: tuple[tuple[str, Any], ...] | None  # what the change logs, once


Kind = Callable[[RunningDaemon, str, int], Prepared]


def upload(daemon: RunningDaemon, project: str, seed: int, *, consume: bool = False) -> Prepared:
    """An upload: afterwards the version holds the source's bytes, and the source is intact unless consumed."""
    tree = contents(seed)
    source = daemon.source(tree)

    def check(answer: Answer) -> None:
        assert answer.code == 200, answer
        manifest = daemon.read(project, "data", "new", "..manifest")
        assert manifest.keys() == tree.keys()
        stored = {p: c for p, c in read_tree(daemon.path(project, "data", "new")).items() if not is_own(p)}
        assert {p: c for p, c in stored.items() if not isinstance(c, Symlink)} == {
            p: tree[p] for p in manifest if "link" not in manifest[p]
        }
        left = read_tree(os.path.join(daemon.staging, source))
        assert all(tree.get(path) == content for path, content in left.items() if content is not None)
        gone = {path for path in tree if tree[path] is not None} - left.keys()
        assert consume or not gone, "an upload without `consume` removed files from its source"
        assert all("link" not in manifest[path] for path in gone), (
            "only files that were stored may be consumed"
        )

    place = address(f"{project}/data/new")
    event = as_event(type="add-version", latest=True, **place)
    return Prepared({**place, "source": source, "consume": consume}, check, event)


def upload_consume(daemon: RunningDaemon, project: str, seed: int) -> Prepared:
    return upload(daemon, project, seed, consume=True)


def is_own(path: str) -> bool:
    return any(part.startswith("..") for part in path.split("/"))


def delete_version(daemon: RunningDaemon, project: str, seed: int) -> Prepared:
    place = address(f"{project}/data/second")

    def check(answer: Answer) -> None:
        assert answer.code == 200, answer
        assert not os.path.exists(daemon.path(project, "data", "second"))
        assert daemon.read(project, "data", "..latest") == {"version": "first"}

    return Prepared(place, check, as_event(type="delete-version", latest=True, **place))


def delete_asset(daemon: RunningDaemon, project: str, seed: int) -> Prepared:
    place = address(f"{project}/data")

    def check(answer: Answer) -> None:
        assert answer.code == 200, answer
        assert not os.path.exists(daemon.path(project, "data"))

    return Prepared(place, check, as_event(type="delete-asset", **place))


def delete_project(daemon: RunningDaemon, project: str, seed: int) -> Prepared:
    def check(answer: Answer) -> None:
        assert answer.code == 200, answer
        assert not os.path.exists(daemon.path(project))

    return Prepared({"project": project}, check, as_event(type="delete-project", project=project))


def reroute_links(daemon: RunningDaemon, project: str, seed: int) -> Prepared:
    """Rerouting: all of the announced changes, whatever was interrupted (a second run would find none)."""
    to_delete = [address(f"{project}/data/first")]
    expected = daemon.done("reroute_links", {"to_delete": to_delete, "dry_run": True})["changes"]
    assert any(change["copy"] for change in expected)
    usage = daemon.read(project, "..usage")["total"]

    def check(answer: Answer) -> None:
        assert answer.code == 200, answer
        assert answer.body["changes"] == expected
        assert daemon.read(project, "..usage")["total"] == usage + sum(change["usage"] for change in expected)
        for change in expected:
            assert os.path.islink(daemon.path(change["path"])) != change["copy"], change
        assert not daemon.done("reroute_links", {"to_delete": to_delete, "dry_run": True})["changes"]

    return Prepared({"to_delete": to_delete}, check, None)


KINDS: tuple[Kind, ...] = (
    upload,
    delete_version,
    reroute_links,
    upload_consume,
    delete_asset,
    delete_project,
)


def prepare_project(daemon: RunningDaemon, project: str) -> None:
    """Make a project whose second version is half links to the first, half files of its own."""
    daemon.done("create_project", {"project": project})
    first = {f"f{n}": f"{project} {n}\n".encode() * 50 for n in range(60)}
    daemon.upload(f"{project}/data/first", {**first, "twins": b"the same bytes\n"})
    second = {**first, **{f"own/{n}": f"own {n}\n".encode() for n in range(60)}}
    daemon.upload(f"{project}/data/second", {**second, "twins": b"the same bytes\n"})


def action_of(kind: Kind) -> str:
    return "upload" if kind is upload_consume else kind.__name__


def wait_for_commit(daemon: RunningDaemon, name: str) -> None:
    """Return as soon as a transaction is committed (or the request is answered): the narrowest moment of all."""
    committed = daemon.path("..transactions", "committed")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not daemon.has_response(name):
        if os.path.isdir(committed) and os.listdir(committed):
            return


def interrupt(daemon: RunningDaemon, action: str, document: Mapping[str, Any], delay: float | None) -> str:
    """Drop a request, kill the daemon after `delay` or at its commit, start it again; return the request's name."""
    name = daemon.drop(action, document)
    if delay is None:
        wait_for_commit(daemon, name)
    else:
        time.sleep(delay)
    daemon.kill()
    daemon.require_no_process()
    daemon.restart()
    return name


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    return start_module_daemon(http=False)


@pytest.fixture(scope="module")
def durations() -> dict[str, float]:
    """What `duration_of` has measured."""
    return {}


def duration_of(kind: Kind, daemon: RunningDaemon, durations: dict[str, float]) -> float:
    """Return how long a kind takes here when nothing interrupts it: the moments to choose from."""
    if kind.__name__ not in durations:
        project = f"calm-{kind.__name__}"
        prepare_project(daemon, project)
        prepared = kind(daemon, project, 0)
        begin = time.monotonic()
        answer = daemon.ask(action_of(kind), prepared.document)
        durations[kind.__name__] = time.monotonic() - begin
        prepared.check(answer)
        daemon.done("delete_project", {"project": project})
        assert_clean(daemon.registry)
    return durations[kind.__name__]


def seed_of(number: int) -> int:
    given = os.environ.get("GOBBLERD_SEED")
    return secrets.randbits(32) if given is None else int(given) + number


@pytest.mark.parametrize("number", range(CRASHES))
def test_killed(daemon: RunningDaemon, durations: dict[str, float], number: int) -> None:
    """One truthful response, one event, a clean registry, and the source intact unless a success consumed it."""
    kind, seed = KINDS[number % len(KINDS)], seed_of(number)
    duration = duration_of(kind, daemon, durations)
    at_commit = (number + number // len(KINDS)) % 2 == 1
    delay = None if at_commit else random.Random(seed).uniform(0, duration * 1.2)
    moment = "at its commit" if delay is None else f"after {delay:.4f} s of {duration:.4f} s"
    said = f"{kind.__name__}: seed {seed}, killed {moment}"
    print(said)  # noqa: T201 - pytest shows it beside a failure
    project = f"p{number}"
    prepare_project(daemon, project)
    prepared = kind(daemon, project, seed)
    before = events(daemon.registry)

    name = interrupt(daemon, action_of(kind), prepared.document, delay)
    answer = daemon.wait(name)
    prepared.check(answer)
    assert answer.body["request"] == name
    expected = before + type(before)([prepared.event] if prepared.event else [])
    assert eventually(lambda: events(daemon.registry) == expected, "exactly one event")
    assert_clean(daemon.registry)
    assert daemon.wait(name) == answer, "a response does not change"
    if os.path.exists(daemon.path(project)):
        daemon.done("delete_project", {"project": project})
