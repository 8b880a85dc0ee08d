"""Several daemons may serve one registry: two of them, two staging directories, eight clients, one asset and eight."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from support.checker import assert_clean
from support.daemon import Answer, RunningDaemon, StartDaemon, address
from support.documents import as_event, events
from support.places import make_directory, open_directory

CLIENTS = 8
ROUNDS = int(os.environ.get("GOBBLERD_ROUNDS", "5"))
COMMON = b"the same in every upload\n"


class Contest(NamedTuple):
    """All uploads and their answers: (client, round) -> the shared version's, the client's own version's."""

    daemons: tuple[RunningDaemon, RunningDaemon]
    shared: dict[tuple[int, int], Answer]
    own: dict[tuple[int, int], Answer]

    @property
    def registry(self) -> str:
        """The one registry."""
        return self.daemons[0].registry


def own_place(client: int, turn: int) -> str:
    """Where a client uploads alone: in every other round to the shared asset, else to one of its own."""
    return f"p/{'a' if turn % 2 else f'of-{client}'}/own-{client}-{turn}"


def content(client: int, turn: int) -> bytes:
    """Bytes that no other upload holds; their number differs between clients."""
    return f"client {client}, round {turn}\n".encode() * (client + 1)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="module")
def contest(base: str, start_module_daemon: StartDaemon) -> Contest:
    registry = make_directory(os.path.join(base, "registry"), 0o755)
    daemons = tuple(start_module_daemon(registry=registry, http=False) for _ in range(2))
    daemons[0].done("create_project", {"project": "p"})
    found = Contest((daemons[0], daemons[1]), {}, {})

    def upload(client: int, place: str, tree: dict[str, bytes]) -> Answer:
        daemon = daemons[client % 2]
        document = {**address(place), "source": daemon.source(tree)}
        return daemon.wait(daemon.drop("upload", document))

    def play(client: int) -> None:
        for turn in range(ROUNDS):
            tree = {"common": COMMON, "mine": content(client, turn)}
            found.shared[client, turn] = upload(client, f"p/a/shared-{turn}", tree)
            found.own[client, turn] = upload(client, own_place(client, turn), {"just": tree["mine"]})

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(play, range(CLIENTS)))
    return found


def test_one_winner_per_version(contest: Contest) -> None:
    """Of all uploads of one version exactly one succeeds; the others are told that it exists."""
    for turn in range(ROUNDS):
        answers = {client: contest.shared[client, turn] for client in range(CLIENTS)}
        winners = [client for client, answer in answers.items() if answer.code == 200]
        assert len(winners) == 1, answers
        for client in answers.keys() - set(winners):
            assert answers[client].code == 400, answers[client]
            assert f"shared-{turn}" in answers[client].reason
            assert "exists" in answers[client].reason
        with open(contest.daemons[0].path(f"p/a/shared-{turn}/mine"), "rb") as file:
            assert file.read() == content(winners[0], turn), (
                "the version holds another's bytes than the winner's"
            )


def test_every_other_upload_succeeds(contest: Contest) -> None:
    """Versions of different names do not hinder each other."""
    assert {answer.code for answer in contest.own.values()} == {200}
    assert len(contest.own) == CLIENTS * ROUNDS


def test_usage_is_exact(contest: Contest) -> None:
    """The stored usage is what the versions hold, and what a refresh finds."""
    stored = contest.daemons[0].read("p/..usage")
    for daemon in contest.daemons:
        assert daemon.done("refresh_usage", {"project": "p"})["total"] == stored["total"]


def test_each_version_is_logged_once(contest: Contest) -> None:
    """As many events as versions; each became the latest when it was added."""
    logged = events(contest.registry)
    places = [f"p/a/shared-{turn}" for turn in range(ROUNDS)] + [own_place(*key) for key in contest.own]
    expected = {as_event(type="add-version", latest=True, **address(place)): 1 for place in places}
    assert logged == expected


def test_the_registry_is_clean(contest: Contest) -> None:
    """Manifests, links between versions, latest and usage agree, and no transaction is left."""
    assert_clean(contest.registry)
