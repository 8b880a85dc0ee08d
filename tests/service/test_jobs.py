"""The scheduled jobs: they mend what is wrong, leave the rest alone, and say what they did."""

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.bench import Bench
from support.checker import audit

from gobblerd.archive import Version, create_archive
from gobblerd.domain.names import Address
from gobblerd.service.config import Config
from gobblerd.service.jobs import Jobs
from gobblerd.staging.directory import Staging
from gobblerd.staging.spool import PurgeAges, PurgeCounts
from gobblerd.storage.files import Durability

DAY = 86400


class FakeSpool:
    def __init__(self) -> None:
        self.ages: PurgeAges | None = None

    def purge(self, now: int, ages: PurgeAges, is_archive: object) -> PurgeCounts:
        self.ages = ages
        return PurgeCounts(requests=3)


class Room:
    def __init__(self, base: Path) -> None:
        self.bench = Bench(base)
        self.staging = Staging.open(str(self.bench.staging), Durability.FULL)
        self.spool = FakeSpool()
        self.settings: dict[str, Any] = {}

    @property
    def jobs(self) -> Jobs:
        config = Config(staging=str(self.bench.staging), registry=str(self.bench.root), **self.settings)
        return Jobs(self.bench.registry, self.staging, self.spool, lambda: config)  # type: ignore[arg-type]  # a fake

    def close(self) -> None:
        self.bench.close()
        self.staging.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    for project in ("p", "q"):
        made.bench.run("create_project", project=project)
        made.bench.upload(f"{project}/a/1", {"f": b"one"})
        made.bench.upload(f"{project}/a/2", {"f": b"two two"})
    yield made
    made.close()


def mtimes(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in root.rglob("..usage")} | {
        str(p): p.stat().st_mtime_ns for p in root.rglob("..latest")
    }


def test_a_registry_in_order_is_not_touched(room: Room) -> None:
    """Reading is all that it costs."""
    before = mtimes(room.bench.root)
    for report in (room.jobs.refresh_usage(), room.jobs.refresh_latest()):
        assert report.facts == {"mended": [], "failed": []}
        assert report.numbers == {"places": 2, "mended": 0, "failed": 0, "mended_bytes": 0}
    assert mtimes(room.bench.root) == before


def test_wrong_usage_is_mended_and_reported(room: Room) -> None:
    """What was stored and what is right is said, logged, and there as numbers for metrics."""
    (room.bench.root / "q/..usage").write_text('{"total": 1}')
    with structlog.testing.capture_logs() as logged:
        report = room.jobs.refresh_usage()
    assert report.facts == {"mended": [{"place": "q", "stored": 1, "right": 10}], "failed": []}
    assert report.numbers == {"places": 2, "mended": 1, "failed": 0, "mended_bytes": 9}
    assert [entry for entry in logged if entry["event"] == "usage mended"] == [
        {"event": "usage mended", "log_level": "warning", "project": "q", "stored": 1, "right": 10}
    ]
    assert json.loads((room.bench.root / "q/..usage").read_bytes()) == {"total": 10}
    assert audit(str(room.bench.root)) == []


def test_one_damaged_project_does_not_stop_the_others(room: Room) -> None:
    """It is reported as failed."""
    (room.bench.root / "p/a/1/..manifest").write_text("{")
    (room.bench.root / "q/..usage").write_text('{"total": 1}')
    report = room.jobs.refresh_usage()
    assert report.facts == {"mended": [{"place": "q", "stored": 1, "right": 10}], "failed": ["p"]}
    assert report.numbers["failed"] == 1


def test_wrong_latest_is_mended(room: Room) -> None:
    """Also where it is missing."""
    (room.bench.root / "p/a/..latest").write_text('{"version": "1"}')
    (room.bench.root / "q/a/..latest").unlink()
    assert room.jobs.refresh_latest().facts == {
        "mended": [
            {"place": "p/a", "stored": "1", "right": "2"},
            {"place": "q/a", "stored": None, "right": "2"},
        ],
        "failed": [],
    }
    assert audit(str(room.bench.root)) == []


def test_what_cannot_be_read_is_written_anew(room: Room) -> None:
    """As `refresh_usage` and `refresh_latest` do when they are asked to."""
    (room.bench.root / "p/..usage").write_text("{")
    (room.bench.root / "p/a/..latest").write_text("")
    for version in ("1", "2"):
        room.bench.run("delete_version", project="q", asset="a", version=version, force=True)
    (room.bench.root / "q/..usage").unlink()
    (room.bench.root / "q/a/..latest").write_text("[")
    assert room.jobs.refresh_usage().facts["mended"] == [
        {"place": "p", "stored": None, "right": 10},
        {"place": "q", "stored": None, "right": 0},
    ]
    assert room.jobs.refresh_latest().facts["mended"] == [
        {"place": "p/a", "stored": None, "right": "2"},
        {"place": "q/a", "stored": None, "right": None},
    ]
    assert not (room.bench.root / "q/a/..latest").exists()
    assert audit(str(room.bench.root)) == []


def test_an_unchanged_latest_is_not_computed_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what changed since it was last found right is read: summaries, and what `..latest` says."""
    jobs = room.jobs
    assert jobs.refresh_latest().facts["mended"] == []
    read: list[str] = []
    real = jobs._metadata.computed_latest
    monkeypatch.setattr(
        jobs._metadata, "computed_latest", lambda asset: read.append(str(asset)) or real(asset)
    )
    assert jobs.refresh_latest().numbers["places"] == 2
    assert read == []
    room.bench.upload("q/a/3", {"f": b"three"})
    assert jobs.refresh_latest().facts["mended"] == []
    assert read == ["q/a"]
    (room.bench.root / "p/a/..latest").write_text('{"version": "1"}')
    assert [each["place"] for each in jobs.refresh_latest().facts["mended"]] == ["p/a"]
    path = room.bench.root / "q/a/3/..summary"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "upload_finish": "2020-01-01T00:00:00Z"}))
    assert [each["right"] for each in jobs.refresh_latest().facts["mended"]] == ["2"]
    room.bench.run("delete_asset", project="q", asset="a")
    jobs.refresh_latest()
    assert len(jobs._right_latest) == 1


def test_probation_expires_by_upload_finish(room: Room) -> None:
    """Only versions on probation, only old ones, and only if that is configured."""
    for version in ("3", "4"):
        room.bench.upload(f"p/a/{version}", {"g": version.encode()}, on_probation=True)
    path = room.bench.root / "p/a/3/..summary"
    summary = json.loads(path.read_bytes())
    path.write_text(json.dumps({**summary, "upload_finish": "2020-01-01T00:00:00Z"}))
    assert room.jobs.expire_probation().facts == {"expired": [], "failed": []}
    room.settings["probation_days"] = 30.0
    assert room.jobs.expire_probation().facts == {"expired": ["p/a/3"], "failed": []}
    assert sorted(p.name for p in (room.bench.root / "p/a").glob("[!.]*")) == ["1", "2", "4"]
    room.bench.registry.close(None)
    assert audit(str(room.bench.root)) == []


def test_purge_removes_old_events_and_asks_the_spool(room: Room) -> None:
    """Each kind by its own age."""
    logs = room.bench.root / "..logs"
    old = logs / "2020-01-01T00:00:00Z_123456"
    old.write_text('{"type": "delete-project", "project": "x"}')
    os.utime(old, (time.time() - 8 * DAY, time.time() - 8 * DAY))
    kept = len(list(logs.iterdir())) - 1
    room.settings["purge_uploads_days"] = 2.0
    facts = room.jobs.purge().facts
    assert (facts["events"], facts["requests"], facts["transactions"]) == (1, 3, 0)
    assert len(list(logs.iterdir())) == kept
    assert room.spool.ages == PurgeAges(7 * DAY, DAY, 2 * DAY)


def test_a_version_that_cannot_expire_is_counted(room: Room) -> None:
    """Its manifest is gone, so that nobody knows what the usage would be: it stays, and is said to."""
    room.bench.upload("p/a/3", {"g": b"3"}, on_probation=True)
    path = room.bench.root / "p/a/3/..summary"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "upload_finish": "2020-01-01T00:00:00Z"}))
    (room.bench.root / "p/a/3/..manifest").unlink()
    room.settings["probation_days"] = 30.0
    report = room.jobs.expire_probation()
    assert report.facts == {"expired": [], "failed": ["p/a/3"]}
    assert report.numbers == {"expired": 0, "failed": 1}


def test_one_hunt_that_fails_does_not_stop_the_others(room: Room) -> None:
    """No `..logs` to be purged: what lies aside goes by its own age all the same."""
    os.rename(room.bench.root / "..logs", room.bench.base / "logs")
    aside = room.bench.root / "..transactions/aside"
    (aside / "0-lost/1").mkdir(parents=True)
    (aside / "0-lost/1/f").write_text("x")
    facts = room.jobs.purge().facts
    assert (facts["failed"], facts["aside"], facts["requests"]) == (1, 0, 3)
    now = room.bench.registry.clock.now
    room.bench.registry.clock.now = lambda: now() + int(90.1 * DAY * 1e9)  # type: ignore[method-assign]
    assert room.jobs.purge().facts["aside"] == 1
    assert os.listdir(aside) == []


def test_a_place_that_cannot_be_listed_does_not_stop_the_others(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a project that another account made and closed: it is reported as failed."""
    children = room.bench.registry.metadata.children

    def list_children(place: Address) -> list[Address]:
        if place == Address("p"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "p")
        return children(place)

    monkeypatch.setattr(room.bench.registry.metadata, "children", list_children)
    (room.bench.root / "q/a/..latest").unlink()
    report = room.jobs.refresh_latest()
    assert (len(report.facts["mended"]), report.facts["failed"]) == (1, ["p"])
    room.settings["probation_days"] = 30.0
    assert room.jobs.expire_probation().facts == {"expired": [], "failed": ["p"]}


def test_what_is_no_event_stays(room: Room) -> None:
    """A directory among the events is nobody's to purge, and keeps none of them from being purged."""
    logs = room.bench.root / "..logs"
    (logs / "0").mkdir()
    (logs / "z").mkdir()
    events = len(list(logs.iterdir())) - 2
    now = room.bench.registry.clock.now
    room.bench.registry.clock.now = lambda: now() + int(9 * DAY * 1e9)  # type: ignore[method-assign]
    facts = room.jobs.purge().facts
    assert (facts["events"], facts["failed"]) == (events, 0)
    assert sorted(os.listdir(logs)) == ["0", "z"]


def test_a_scrub_reports_what_is_wrong(room: Room) -> None:
    """What is known by now, how much was read, how old the oldest check is, and where the next run goes on."""
    (room.bench.root / "p/a/1/f").write_bytes(b"two")
    room.settings |= {"scrub_bytes_per_run": 10, "scrub_bytes_per_second": 0}
    report = room.jobs.scrub()
    (fact, _) = report.facts["findings"]
    assert (fact["path"], fact["kind"]) == ("p/a/1/f", "wrong MD5 checksum")
    assert report.facts["oldest_check"]
    assert {
        key: report.numbers[key] for key in ("read_bytes", "found", "faults", "notices", "unchecked")
    } == {
        "read_bytes": 10,
        "found": 2,
        "faults": 2,
        "notices": 0,
        "unchecked": 4,
    }
    assert room.jobs.scrub().numbers["faults"] == 2
    assert (room.bench.root / "p/a/1/f").read_bytes() == b"two", "nothing is repaired"


def test_scrubs_read_everything_within_the_days(room: Room) -> None:
    """A run reads its share of the time since the last; what was missed is not made up all at once."""
    jobs, now = room.jobs, room.bench.registry.clock.now()
    config = jobs._config()
    assert jobs._scrub_size(config, now) == 20 // 90 + 1
    jobs.scrub()
    room.settings["scrub_every_days"] = 10.0
    config = room.jobs._config()
    later = room.bench.registry.clock.now()
    assert jobs._scrub_size(config, later + 5 * DAY * 10**9) in {10, 11, 12}
    assert jobs._scrub_size(config, later + 500 * DAY * 10**9) == 20 * 7 // 10 + 1


def test_planned_follows_the_configuration(room: Room) -> None:
    """Each job with its own time."""
    room.settings["schedule_purge"] = "off"
    assert {job.name: job.when for job in room.jobs.planned()}["purge"] == "off"
    assert len(room.jobs.planned()) == 6
    assert [job.name for job in room.jobs.planned() if job.staging] == ["purge"]


def test_exports_are_pruned_by_the_configured_rules(room: Room, tmp_path: Path) -> None:
    """Those of the newest version of each asset stay; without a directory nothing is done."""
    assert room.jobs.prune_exports().facts == {}
    out = tmp_path / "out"
    out.mkdir()
    names = [
        os.path.basename(create_archive(Version(str(room.bench.root), "p", "a", version), out).path)
        for version in ("1", "2")
    ]
    room.settings.update(export_directory=str(out), export_keep_last=1, export_keep_days=0)
    report = room.jobs.prune_exports()
    assert report.facts == {"removed": [names[0]], "failed": [], "unsure": []}
    assert report.numbers["kept"] == 1
    assert sorted(os.listdir(out)) == [names[1], f"{names[1]}.receipt.json"]
