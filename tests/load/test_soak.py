"""An hour of a bit of everything, with a purge every minute: nothing grows.

GOBBLERD_SOAK is the length in seconds (default 3,600). Kept in the registry and in staging is what two minutes
leave, so that descriptors, threads, memory and temporary files have to have a slope of about nothing.
"""

import os
import statistics
import time

import pytest
from support.checker import assert_clean
from support.crowd import Vitals, vitals_of
from support.daemon import RunningDaemon, StartDaemon
from support.places import Symlink

SECONDS = float(os.environ.get("GOBBLERD_SOAK", "3600"))
WARM = 0.25  # of the time, before anything is compared
MINUTE = 60 / 86400  # days
SETTINGS = {
    "request_expiry": 50,
    "post_expiry": 50,
    "purge_requests_days": MINUTE,
    "purge_responses_days": MINUTE,
    "purge_uploads_days": MINUTE,
    "purge_logs_days": MINUTE,
    "schedule_purge": "60",
    "schedule_refresh_usage": "60",
    "schedule_refresh_latest": "60",
}
PAGE = {"Accept": "text/html"}


def one_round(daemon: RunningDaemon, number: int) -> None:
    """Make a project, use it in every way, and delete it; each tenth request is refused."""
    project = f"p{number % 50}"
    daemon.done("create_project", {"project": project})
    tree = {"f": b"%d" % number, "same": b"same", "d/l": Symlink("../f"), "big": bytes(300_000)}
    daemon.upload(f"{project}/a/1", tree, consume=True)
    daemon.upload(f"{project}/a/2", tree, on_probation=True)
    place = {"project": project, "asset": "a"}
    daemon.done("approve_probation", {**place, "version": "2"})
    daemon.done("set_permissions", {"project": project, "permissions": {"owners": ["gbl-alice"]}})
    daemon.done("validate_version", {**place, "version": "2"})
    daemon.done("reindex_version", {**place, "version": "1"})
    daemon.done("reroute_links", {"to_delete": [{**place, "version": "1"}]})
    daemon.done("delete_version", {**place, "version": "1"})
    assert daemon.ask("delete_project", {"project": project}, "gbl-bob").code == 403
    assert daemon.ask("upload", {**place, "version": "3", "source": "none"}).code == 400
    assert daemon.get(f"/fetch/{project}/a/2/big").data == bytes(300_000)
    for path in ("/list?recursive=true", "/metrics", "/healthz"):
        assert daemon.get(path).code == 200
    for view in ("projects", "usage", "review", "activity", "schedules"):
        assert daemon.http("GET", f"/?view={view}", PAGE).code == 200
    daemon.done("delete_project", {"project": project})


def slope(samples: list[tuple[float, float]]) -> float:
    """Return the growth per hour, by least squares."""
    return 3600 * statistics.linear_regression(*zip(*samples, strict=True)).slope


@pytest.mark.long
@pytest.mark.timeout(SECONDS * 2 + 600)
def test_an_hour_leaves_nothing_behind(start_daemon: StartDaemon) -> None:
    """Memory grows by less than 2 MiB an hour, descriptors and threads not at all, staging not at all."""
    daemon = start_daemon(settings=SETTINGS)
    began, number = time.monotonic(), 0
    samples: list[tuple[float, Vitals, int]] = []
    while (elapsed := time.monotonic() - began) < SECONDS:
        one_round(daemon, number)
        number += 1
        if not samples or elapsed - samples[-1][0] > SECONDS / 240:
            samples.append((elapsed, vitals_of(daemon.pid), len(os.listdir(daemon.staging))))
    warm = [sample for sample in samples if sample[0] > SECONDS * WARM]
    growth = slope([(when, vitals.resident) for when, vitals, _ in warm])
    early, late = warm[0], warm[-1]
    hourly = f"{growth:.0f} bytes an hour"
    print(f"COUNT soak: {number} rounds; early {early}, late {late}; {hourly}")  # noqa: T201 - a count
    half = len(warm) // 2
    for part in ("descriptors", "threads"):
        first, second = (
            statistics.median(getattr(s[1], part) for s in some) for some in (warm[:half], warm[half:])
        )  # jobs have threads of their own while they run
        assert second <= first + 1, (part, first, second)
    assert growth < (2 << 20) * max(1.0, 3600 / SECONDS)
    assert max(s[2] for s in warm[half:]) <= max(s[2] for s in warm[:half]) * 1.5
    assert_clean(daemon.registry)
