"""What the two levels of durability cost: requests per second, for docs/durability.md. Asserts nothing of time.

Only with `-m long`: four clients over HTTP on a loop-mounted ext4, GOBBLERD_RUNS alternating runs (default 5)
of GOBBLERD_REQUESTS requests each (default 400), medians.
"""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.daemon import RunningDaemon
from support.images import plain_disk
from support.places import make_directory

RUNS = int(os.environ.get("GOBBLERD_RUNS", "5"))
REQUESTS = int(os.environ.get("GOBBLERD_REQUESTS", "400"))
CLIENTS = 4
LEVELS = ("full", "process")

Ask = Callable[[RunningDaemon, int, int], None]


def set_permissions(daemon: RunningDaemon, client: int, number: int) -> None:
    permissions = {"owners": [f"owner-{number}"]}
    daemon.done("set_permissions", {"project": f"p{client}", "permissions": permissions})


def small_upload(daemon: RunningDaemon, client: int, number: int) -> None:
    tree = {name: f"{client} {number} {name}".encode() * 50 for name in ("a", "b", "d/c")}
    daemon.upload(f"p{client}/a/{number}", tree)


def rate(daemon: RunningDaemon, ask: Ask) -> float:
    """Return requests per second, dropping them included."""
    each = REQUESTS // CLIENTS

    def client(number: int) -> None:
        for n in range(each):
            ask(daemon, number, n)

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return each * CLIENTS / (time.monotonic() - began)


def one_run(disk: str, level: str, ask: Ask, number: int) -> float:
    base = make_directory(os.path.join(disk, f"{ask.__name__}-{level}-{number}"), 0o755)
    daemon = RunningDaemon(base, settings={"durability": level})
    try:
        daemon.start()
        for client in range(CLIENTS):
            daemon.done("create_project", {"project": f"p{client}"})
        return rate(daemon, ask)
    finally:
        daemon.finish()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ask", [set_permissions, small_upload])
def test_what_durability_costs(ask: Ask) -> None:
    """A power cut's safety has its price; this says which."""
    rates: dict[str, list[float]] = {level: [] for level in LEVELS}
    with plain_disk("2G") as disk:
        for number in range(RUNS):
            for level in LEVELS:
                rates[level].append(one_run(disk, level, ask, number))
    for level, found in rates.items():
        shown = ", ".join(f"{each:.0f}" for each in found)
        print(f"COUNT {ask.__name__} {level}: median {statistics.median(found):.0f}/s of {shown}")  # noqa: T201
