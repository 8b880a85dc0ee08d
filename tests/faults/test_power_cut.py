"""The power is cut at random moments: what was answered by then is there when it is back.

Registry and staging lie on one filesystem (ext4, XFS, btrfs) whose image is copied while requests run
(support/images.py). On each copy: every answered request has its response and its effect, no document is torn,
and after the recovery of a daemon started there the checker finds nothing.

Normal run: 6 cuts of ext4, 3 of each of the others; `-m long`: GOBBLERD_CUTS (default 200) of each, and a quarter
of them of ext4 with durability "process", which promises nothing here: what it loses is counted and printed.
"""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from faults.customers import Customer, Mark, mark
from faults.scenes import SEED
from support.checker import audit
from support.daemon import RunningDaemon, eventually
from support.images import KINDS, Power, power
from support.places import make_directory

CUSTOMERS = 4  # two of each project
CUTS = int(os.environ.get("GOBBLERD_CUTS", "200"))
DEAD = "no daemon starts there any more"
PURGED_AFTER = 12  # cuts; then a new disk is made, so that it does not fill


@dataclass
class Cut:
    """One copy of the disk: how far the customers were when it began and when it ended."""

    copy: str
    before: Mark
    after: Mark
    losses: list[str] = field(default_factory=list)


@contextmanager
def at_work(daemon: RunningDaemon, seed: int) -> Iterator[list[Customer]]:
    """Have customers ask for changes for the length of a block."""
    customers = [Customer(daemon, f"p{n // 2}", f"a{n % 2}", seed * 100 + n) for n in range(CUSTOMERS)]
    for project in {customer.project: None for customer in customers}:
        daemon.done("create_project", {"project": project})
    for customer in customers:
        customer.begin()
    stop = threading.Event()
    threads = [threading.Thread(target=customer.run, args=(stop,)) for customer in customers]
    for thread in threads:
        thread.start()
    try:
        yield customers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def cut_at_random(disk: Power, customers: list[Customer], count: int, choice: random.Random) -> Iterator[Cut]:
    """Cut the power so many times, after at least one more answer each time."""
    for number in range(count):
        goal = sum(mark(customers).answered) + choice.randrange(1, 12)
        eventually(lambda goal=goal: sum(mark(customers).answered) >= goal, "some more answers")
        time.sleep(choice.uniform(0, 0.02))
        before = mark(customers)
        copy = disk.cut(f"cut-{number}")
        yield Cut(copy, before, mark(customers))


def check_cut(disk: Power, cut: Cut, customers: list[Customer], settings: dict[str, object]) -> list[str]:
    """Mount the copy, let a daemon recover it, and return what is lost or torn."""
    with disk.after(cut.copy) as point:
        staging, registry = os.path.join(point, "staging"), os.path.join(point, "registry")
        lost = torn(staging)
        again = RunningDaemon(point, http=False, staging=staging, registry=registry, settings=settings)
        again.may_log_traceback = settings["durability"] == "process"
        try:
            try:
                again.start()
            except AssertionError:
                last = again.logged().strip().splitlines()[-3:]
                return [*lost, f"{DEAD}: {last}"]
            lost += compared(cut, customers, registry, staging)
            settle(again)
            lost += compared(cut, customers, registry, staging)
        finally:
            again.finish()
        return [*lost, *audit(registry), *torn(staging)]


def settle(daemon: RunningDaemon) -> None:
    """Wait until request files that the cut left empty are judged too (`request_settle`)."""
    pause = daemon.drop("set_quota", b"")
    daemon.wait(pause)


def compared(cut: Cut, customers: list[Customer], registry: str, staging: str) -> list[str]:
    numbers = zip(customers, cut.before.answered, cut.after.dropped, strict=True)
    return [
        flaw for customer, least, most in numbers for flaw in customer.check(registry, staging, least, most)
    ]


def torn(staging: str) -> list[str]:
    """Return the response files that are no whole document."""
    responses = os.path.join(staging, "responses")
    found = []
    for name in os.listdir(responses):
        if name.startswith("request-"):
            try:
                with open(os.path.join(responses, name), encoding="utf-8") as file:
                    json.load(file)
            except ValueError as error:
                found.append(f"responses/{name} is torn: {error}")
    return found


def cuts(count: int, durability: str, seed: int, kind: str = "ext4") -> list[Cut]:
    """Run customers on a disk of their own, and cut its power; return the cuts with what they lost."""
    choice = random.Random(seed)
    settings: dict[str, object] = {"durability": durability, "request_settle": 0.5}
    with power(kind) as disk:
        staging = make_directory(os.path.join(disk.point, "staging"), 0o1777)
        registry = make_directory(os.path.join(disk.point, "registry"), 0o755)
        daemon = RunningDaemon(disk.point, staging=staging, registry=registry, settings=settings)
        try:
            daemon.start()
            with at_work(daemon, seed) as customers:
                done = list(cut_at_random(disk, customers, count, choice))
            assert not [flaw for customer in customers for flaw in customer.wrong]
        finally:
            daemon.finish()
        for cut in done:
            cut.losses = check_cut(disk, cut, customers, settings)
    answered = sum(done[-1].before.answered)
    lossy = sum(bool(cut.losses) for cut in done)
    said = f"{count} cuts of {kind} among {answered} answers, {lossy} with losses"
    print(f"COUNT seed {seed}: {said}")  # noqa: T201 - a count
    return done


@pytest.mark.parametrize(("kind", "count"), [("ext4", 6), ("xfs", 3), ("btrfs", 3)])
def test_what_was_answered_survives_a_power_cut(kind: str, count: int) -> None:
    """With durability `full`, no answered request is lost, and nothing is torn."""
    losses = [loss for cut in cuts(count, "full", SEED, kind) for loss in cut.losses]
    assert not losses, "\n".join(losses)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_answered_survives_many_power_cuts(kind: str) -> None:
    """The same, many times over."""
    rounds = range((CUTS + PURGED_AFTER - 1) // PURGED_AFTER)
    found = [cut for n in rounds for cut in cuts(PURGED_AFTER, "full", SEED + n, kind)]
    losses = [loss for cut in found for loss in cut.losses]
    assert not losses, "\n".join(losses)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_what_durability_process_loses_is_known() -> None:
    """It promises nothing about power cuts; this says how much that is, for docs/durability.md."""
    rounds = range(max(1, CUTS // PURGED_AFTER // 4))
    found = [cut for n in rounds for cut in cuts(PURGED_AFTER, "process", SEED + n)]
    losses = [loss for cut in found for loss in cut.losses]
    dead = [loss for loss in losses if loss.startswith(DEAD)]
    torn_files = sum("is torn" in loss for loss in losses)
    print(f"COUNT process: {sum(bool(c.losses) for c in found)} of {len(found)} cuts lost something")  # noqa: T201
    print(f"COUNT process: {torn_files} torn responses, {len(dead)} without a daemon, {dead[:3]}")  # noqa: T201
    print(f"COUNT process: others, e.g. {[x for x in losses if 'torn' not in x and x not in dead][:6]}")  # noqa: T201
