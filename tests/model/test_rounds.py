"""Two daemons, many clients, one version: exactly one winner per round, and nothing is lost or counted twice.

Real daemons on one registry, each with its own staging directory; in each round every client uploads the
same version with bytes of its own, at once. GOBBLERD_MODEL_ROUNDS scales the long form (1,000).
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from support.checker import assert_clean
from support.daemon import Answer, RunningDaemon, StartDaemon, address
from support.documents import as_event, events
from support.places import make_directory, open_directory

LONG_ROUNDS = int(os.environ.get("GOBBLERD_MODEL_ROUNDS", "1000"))
COMMON = b"the same in every upload\n"
VERSIONS = 50  # of one asset


@pytest.fixture
def daemons(start_daemon: StartDaemon) -> Iterator[tuple[RunningDaemon, RunningDaemon]]:
    with open_directory() as base:
        registry = make_directory(os.path.join(base, "registry"), 0o755)
        yield start_daemon(registry=registry), start_daemon(registry=registry)


def content(client: int, turn: int) -> bytes:
    return f"client {client}, round {turn}\n".encode() * (client + 1)


def place_of(turn: int) -> str:
    return f"p/a{turn // VERSIONS}/{turn}"


def play(daemons: tuple[RunningDaemon, RunningDaemon], clients: int, rounds: int) -> None:
    """Let all clients upload each version at once; check the winner, its bytes, events, usage, and audit."""
    daemons[0].done("create_project", {"project": "p"})
    together = Barrier(clients)

    def upload(client: int, turn: int) -> Answer:
        daemon = daemons[client % 2]
        source = daemon.source({"common": COMMON, "mine": content(client, turn)})
        together.wait(60)
        return daemon.ask("upload", {**address(place_of(turn)), "source": source})

    total = 0
    with ThreadPoolExecutor(clients) as pool:
        for turn in range(rounds):
            answers = list(pool.map(upload, range(clients), [turn] * clients))
            winners = [client for client, answer in enumerate(answers) if answer.code == 200]
            assert len(winners) == 1, answers
            assert Counter(answer.code for answer in answers) == {200: 1, 400: clients - 1}
            with open(daemons[0].path(place_of(turn), "mine"), "rb") as file:
                assert file.read() == content(winners[0], turn), "another's bytes than the winner's"
            total += len(content(winners[0], turn)) + (0 if turn % VERSIONS else len(COMMON))
            assert daemons[0].read("p", "..usage") == {"total": total}
    added = {as_event(type="add-version", latest=True, **address(place_of(t))): 1 for t in range(rounds)}
    assert events(daemons[0].registry) == added
    assert [daemon.done("refresh_usage", {"project": "p"})["total"] for daemon in daemons] == [total, total]
    assert_clean(daemons[0].registry)
    print(f"{rounds} rounds of {clients} clients: {rounds} winners, usage {total}, audit clean")  # noqa: T201


def test_one_winner_per_round(daemons: tuple[RunningDaemon, RunningDaemon]) -> None:
    """Ten rounds of eight clients."""
    play(daemons, 8, 10)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_one_winner_in_each_of_a_thousand_rounds(daemons: tuple[RunningDaemon, RunningDaemon]) -> None:
    """The same at full count, with 32 clients."""
    play(daemons, 32, LONG_ROUNDS)
