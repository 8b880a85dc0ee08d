"""Attacks that are races: real users swap things while a daemon of its own account uploads them.

The counts are uploads; an attack that hits nothing (no upload done, or none refused) fails the test.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile.intruder import OWN, REPLACE, SWAP, Prey, attack
from support.checker import assert_clean
from support.crowd import ServiceDaemon, answered, counts
from support.places import ROOT, Users, drop_request

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def upload(daemon: ServiceDaemon, source: str, user: str, number: int) -> int:
    fields = {"project": "p", "asset": f"a{number % 7}", "version": f"{number}", "source": source}
    return daemon.ask("upload", {**fields, "consume": number % 5 == 0}, user).code


def stored(registry: str) -> set[bytes]:
    """Return the contents of all users' files."""
    found = set()
    for directory, names, files in os.walk(registry):
        names[:] = [name for name in names if not name.startswith("..")]
        for name in files:
            path = os.path.join(directory, name)
            if not name.startswith("..") and not os.path.islink(path):
                with open(path, "rb") as file:
                    found.add(file.read())
    return found


@pytest.mark.parametrize("by", ["the user", "somebody whom no rule of the kernel's stops"])
@pytest.mark.parametrize("uploads", counts(100, 2_000))
def test_swaps_during_uploads(
    service: ServiceDaemon, prey: Prey, users: Users, by: str, uploads: int
) -> None:
    """Files, links, hard links, FIFOs, directories and the source itself: no secret, no wrong checksum, no 5xx.

    The second attacker is root, whom fs.protected_hardlinks does not stop: as on a kernel without it.
    """
    source = service.source({"d/f": b"one", "d/g": b"good"}, users.alice)
    path = os.path.join(service.staging, source)
    os.chmod(path, 0o777)
    attacker = users.alice if by == "the user" else ROOT
    codes: Counter[int] = Counter()
    with attack(attacker, SWAP, path, *prey), ThreadPoolExecutor(3) as pool:
        while codes.total() < uploads or not (codes[200] and codes[400]):
            begin = codes.total()
            codes.update(
                pool.map(lambda n: upload(service, source, users.alice, n), range(begin, begin + 50))
            )
            assert codes.total() < 20 * uploads, f"the attacker hits nothing: {codes}"
    print(f"{by}: {dict(codes)}")  # noqa: T201 - the figures for docs/reliability.md
    assert set(codes) <= {200, 400, 403}, codes
    assert_clean(service.registry)
    assert stored(service.registry) <= set(OWN)
    versions = {e["place"] for e in answered(service) if e["action"] == "upload" and e["code"] == 200}
    assert all(os.path.isdir(service.path(place)) for place in versions)
    assert len(versions) == codes[200]


@pytest.mark.parametrize("by", ["the user", "somebody whom no rule of the kernel's stops"])
@pytest.mark.parametrize("posts", counts(200, 4_000))
def test_a_request_replaced_between_look_and_read(
    service: ServiceDaemon, base: str, users: Users, by: str, posts: int
) -> None:
    """A request's name swapped for links to an administrator's file: never done with their authority.

    Half of the requests are answered by the watcher's look alone, as the name is never quiet.
    """
    os.mkdir(os.path.join(base, "notes"), 0o755)
    notes = drop_request(os.path.join(base, "notes"), "notes.json", {"project": "stolen"})
    name = "request-create_project-swapped"
    path = os.path.join(service.staging, name)
    attacker = users.alice if by == "the user" else ROOT
    if attacker == ROOT:
        os.chown(os.path.join(base, "notes"), 0, 0)
    codes: Counter[int] = Counter()
    attacking = REPLACE if attacker != ROOT else REPLACE.replace('b\'{"project": "stolen"}\'', "b'[]'")
    with attack(attacker, attacking, path, os.path.join(base, "notes", notes)), ThreadPoolExecutor(3) as pool:
        codes.update(reply.code for reply in pool.map(service.post, [name] * posts))
    print(f"{by}: {dict(codes)}")  # noqa: T201 - as above
    assert set(codes) <= {400, 403, 503}, codes
    assert not os.path.exists(service.path("stolen"))
    done = [event for event in answered(service) if event["request"] == name]
    assert {event["code"] for event in done} <= {400, 403}
    assert {event["user"] for event in done} <= {attacker}
