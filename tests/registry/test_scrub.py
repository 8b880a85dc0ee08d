"""gobblerd.registry.scrub: a part each time, oldest first, remembered across kills; it reports, and never repairs."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.bench import Bench

from gobblerd.registry import scrub as module
from gobblerd.registry.audit_findings import Finding, Severity
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.scrub import Scrub, ScrubReport, ScrubTerms, Throttle, share_of
from gobblerd.registry.scrub_memory import FINDINGS_MOST, NAME, Memory, Place

ALL = 1 << 40


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Two projects; the versions of `p/a` have 1,000 bytes each, in ten files."""
    made = Bench(tmp_path)
    for project in ("p", "q"):
        made.run("create_project", project=project)
    for version in range(1, 5):
        made.upload(f"p/a/{version}", {f"{n}": bytes([version, n] * 50) for n in range(10)})
    made.upload("q/b/1", {"link": ("link", str(made.root / "p/a/1/3")), "own": b"own"})
    yield made
    made.close()


class Clock:
    """The file server's, which goes on by an hour with each question."""

    def __init__(self) -> None:
        self.time = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.time += 3_600_000_000_000
        return self.time


CLOCK = Clock()


def do_nothing(_: float) -> None:
    """Take no time between two looks."""


def scrub(bench: Bench, size: int = ALL) -> ScrubReport:
    with structlog.testing.capture_logs():
        return Scrub(str(bench.root), ScrubTerms(size), CLOCK, sleep=do_nothing).run()


def memory(bench: Bench) -> Memory:
    return Memory.load(str(bench.root / "..transactions/state"))


def found(report: ScrubReport) -> set[tuple[str, str]]:
    return {(each["path"], each["kind"]) for each in report.memory.shown(100)}


def versions_checked(bench: Bench) -> list[str]:
    """Return the versions that were checked, oldest first."""
    checked = memory(bench).checked
    return sorted((path for path in checked if path.count("/") == 2), key=lambda path: checked[path])


# ---- what it finds


def test_a_sound_registry(bench: Bench) -> None:
    """Everything is looked at once, and nothing is found, nor anything changed but the memory."""
    before = bench.snapshot()
    report = scrub(bench)
    assert (report.read, report.faults, report.unchecked) == (4003, 0, 0)
    assert versions_checked(bench) == ["p/a/1", "p/a/2", "p/a/3", "p/a/4", "q/b/1"]
    assert bench.snapshot() == before


def test_everything_that_is_wrong_is_found_and_left_alone(bench: Bench) -> None:
    """Changed, missing and extra files, broken links, leftovers; reported, logged, never repaired."""
    root = bench.root
    (root / "p/a/2/0").write_bytes(b"\0" * 100)
    (root / "p/a/3/1").unlink()
    (root / "p/a/4/extra").write_bytes(b"")
    (root / "q/b/1/link").unlink()
    (root / "q/b/1/link").symlink_to("../../../p/a/1/4")
    (root / "q/stray").write_bytes(b"")
    (root / "..logs/odd").write_bytes(b"")
    old = root / "..transactions/0123456789abcdef-00"
    old.mkdir()
    before = bench.snapshot()
    ten_days = time.time_ns() + 10 * 86_400 * 10**9
    terms = ScrubTerms(ALL)
    with structlog.testing.capture_logs() as logged:
        work = Scrub(str(root), terms, CLOCK, sleep=do_nothing)
        object.__setattr__(work._audit._terms, "now", lambda: ten_days)
        report = work.run()
    expected = {
        ("p/a/2/0", "wrong MD5 checksum"),
        ("p/a/2/0", "wrong fast checksum"),
        ("p/a/3/1", "missing file"),
        ("p/a/4/extra", "extra file"),
        ("q/b/1/link", "wrong symbolic link"),
        ("q/stray", "strange file"),
        ("..logs/odd", "strange file"),
        ("..transactions/0123456789abcdef-00", "abandoned transaction"),
    }
    assert found(report) == expected
    assert report.memory.faults == report.faults == len(expected)
    warned = {(entry["path"], entry["kind"]) for entry in logged if entry["event"] == "scrub finding"}
    assert warned == expected
    assert bench.snapshot() == before
    assert old.is_dir()


def test_a_finding_stays_until_its_place_is_looked_at_again(bench: Bench) -> None:
    """Known faults are looked at in every run, within half of what it may read: what was mended is gone soon."""
    path = bench.root / "p/a/4/0"
    kept = path.read_bytes()
    path.write_bytes(b"\0" * 100)
    assert scrub(bench).memory.faults == 2
    assert scrub(bench, 100).memory.faults == 2, "a run that does not come to it knows of it still"
    path.write_bytes(kept)
    report = scrub(bench, 4100)
    assert report.memory.faults == 0
    assert "p/a/4" in versions_checked(bench)[-4:]


def test_what_has_faults_does_not_keep_the_rest_from_its_turn(bench: Bench) -> None:
    """Though every version rots, each comes up."""
    for version in range(1, 5):
        (bench.root / f"p/a/{version}/0").write_bytes(b"\0" * 100)
    scrub(bench)
    first = dict(memory(bench).checked)
    for _ in range(8):
        scrub(bench, 1000)
    assert all(memory(bench).checked[path] > first[path] for path in first if path.count("/") == 2)


# ---- how much, in which order


def test_oldest_first_and_no_more_than_it_may_read(bench: Bench) -> None:
    """Run by run: each reads its bytes, and what was read longest ago is next; new versions are oldest of all."""
    order: list[list[str]] = []
    for _ in range(5):
        known = set(versions_checked(bench))
        report = scrub(bench, 1000)
        assert 0 < report.read <= 1003
        order.append([path for path in versions_checked(bench) if path not in known])
    assert order == [["p/a/1"], ["p/a/2"], ["p/a/3"], ["p/a/4"], ["q/b/1"]]
    bench.upload("p/a/5", {"new": b"n" * 1000})
    for _ in range(2):
        scrub(bench, 1000)
    assert versions_checked(bench)[-2:] == ["p/a/1", "p/a/5"], "what was begun is finished first"
    scrub(bench, 1000)
    assert versions_checked(bench)[-1] == "p/a/2"


def test_a_large_version_is_read_in_several_runs(bench: Bench) -> None:
    """It goes on at the file where the last run ended, also in a new process; every file is read once."""
    (bench.root / "p/a/1/9").write_bytes(b"\0" * 100)
    scrub(bench, 250)
    assert (memory(bench).place or Place("", "", "")).path == "2"
    reads = 200
    for _ in range(10):
        if "p/a/1" in memory(bench).checked:
            break
        report = scrub(bench, 250)
        assert report.read <= 250
        reads += report.read
    assert 1000 <= reads <= 1050
    assert memory(bench).flaws["p/a/1"].faults == 2
    first = memory(bench).checked["p/a/1"]
    for _ in range(60):
        assert scrub(bench, 250).memory.faults == 2, "known while the version is looked at again"
        if memory(bench).checked["p/a/1"] != first:
            break
    else:
        pytest.fail("it was never looked at again")
    assert memory(bench).flaws["p/a/1"].faults == 2


def test_one_file_is_read_though_it_is_more_than_a_run_may_read(bench: Bench) -> None:
    """Else nothing would ever go on."""
    for _ in range(10):
        scrub(bench, 1)
    assert versions_checked(bench) == ["p/a/1"]


def test_a_version_that_is_another_one_now_is_begun_anew(bench: Bench) -> None:
    """What was read of the old one says nothing about the new one."""
    scrub(bench, 250)
    assert memory(bench).place is not None
    bench.run("delete_version", project="p", asset="a", version="1")
    shutil.rmtree(bench.staging / "up-p-a-1")
    bench.upload("p/a/1", {"0": b"other", "9": b"another"})
    (bench.root / "p/a/1/0").write_bytes(b"rotten"[:5])
    report = scrub(bench, 250)
    assert ("p/a/1/0", "wrong MD5 checksum") in found(report)


def test_what_is_gone_is_forgotten(bench: Bench) -> None:
    """The memory holds what there is."""
    (bench.root / "q/b/1/own").write_bytes(b"rot")
    scrub(bench)
    bench.run("delete_project", project="q")
    report = scrub(bench, 1)
    assert report.memory.faults == 0
    assert not [path for path in memory(bench).checked if path.startswith("q")]


@pytest.mark.parametrize(("days", "elapsed", "size"), [(4, 86_400, 1001), (90, 86_400, 45), (1, 0, 1)])
def test_everything_within_days(bench: Bench, days: float, elapsed: float, size: int) -> None:
    """A run reads its share of all bytes, by the time since the last one."""
    assert share_of(bench.registry.metadata, days, elapsed) == size
    (bench.root / "q/..usage").unlink()
    assert share_of(bench.registry.metadata, 1, 86_400) == 4001


def test_as_many_runs_as_days_read_everything(bench: Bench) -> None:
    """Also where versions are larger than what a run reads."""
    for _ in range(12):
        scrub(bench, share_of(bench.registry.metadata, 10, 86_400))
    assert len(versions_checked(bench)) == 5


# ---- throttle


def test_the_rate_is_kept() -> None:
    """Ten seconds' worth of bytes takes ten seconds; what was not used is saved up for one second at most."""
    time_ = [100.0]

    def sleep(seconds: float) -> None:
        time_[0] += seconds

    throttle = Throttle(1000, lambda: time_[0], sleep)
    for _ in range(100):
        throttle(100)
    assert throttle.read == 10_000
    assert 9 <= time_[0] - 100 <= 11
    time_[0] += 3600
    before = time_[0]
    for _ in range(100):
        throttle(100)
    assert 8.9 <= time_[0] - before <= 11


def test_without_a_rate_nobody_waits() -> None:
    """0 is no limit."""
    throttle = Throttle(0, sleep=lambda _: pytest.fail("it waited"))
    throttle(1 << 60)
    assert throttle.read == 1 << 60


# ---- memory


def test_a_kill_loses_little(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed anywhere: what was saved is whole, and the next runs come to the same end."""
    monkeypatch.setattr(module, "SAVED_SECONDS", 0.0)
    (bench.root / "p/a/3/5").write_bytes(b"\0" * 100)
    whole, every = found(scrub(bench)), set(memory(bench).checked)
    os.unlink(bench.root / "..transactions/state" / NAME)

    class Killed(BaseException):
        pass

    for _ in range(20):
        before = len(memory(bench).checked)
        work = Scrub(str(bench.root), ScrubTerms(ALL), CLOCK, sleep=do_nothing)
        save, saves = work._memory.save, [0]

        def dying(directory: str, save: Any = save, saves: list[int] = saves) -> None:
            saves[0] += 1
            if saves[0] > 5:
                raise Killed
            save(directory)

        work._memory.save = dying  # type: ignore[method-assign]
        with structlog.testing.capture_logs(), pytest.raises(Killed):
            work.run()
        assert len(memory(bench).checked) > before
        if set(memory(bench).checked) == every:
            break
    assert {(each["path"], each["kind"]) for each in memory(bench).shown(100)} == whole


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"checked": 3}', '{"checked": {}, "flaws": {"a": {"x": 1}}}']
)
def test_a_memory_that_cannot_be_read_is_none(bench: Bench, text: str) -> None:
    """Everything counts as never checked, and is."""
    scrub(bench)
    (bench.root / "..transactions/state" / NAME).write_text(text)
    assert memory(bench) == Memory()
    assert scrub(bench).read == 4003


def test_the_memory_of_20000_versions_is_small(tmp_path: Path) -> None:
    """With more findings than are kept in full: below 4 MB, and written and read in no time worth naming."""
    full = Memory(started=1)
    for number in range(20_000):
        version = f"project-{number % 200}/asset-{number % 1000}/2026-11-{number}"
        path = f"{version}/some/directory/file-{number}.csv"
        finding = Finding(version, path, "wrong MD5 checksum", "a" * 32, "b" * 5000)
        notice = Finding(version, path, "unusual mode", "0644", "0600", Severity.NOTICE)
        full.note([finding, finding, notice])
        full.done(version, (1_700_000_000 + number) * 10**9)
    full.place = Place("p/a/v", "d/f", "1 2")
    full.save(str(tmp_path))
    assert (tmp_path / NAME).stat().st_size < 4 << 20
    assert Memory.load(str(tmp_path)) == full
    assert (full.faults, full.notices) == (40_000, 20_000)
    assert len(full.shown(10_000)) == FINDINGS_MOST
    assert json.loads((tmp_path / NAME).read_bytes())["place"]["path"] == "d/f"


# ---- beside a daemon at work


def test_no_false_finding_beside_uploads_and_deletions(bench: Bench) -> None:
    """Versions come and go while scrubs look: nothing is reported that is not wrong."""
    stop = threading.Event()
    trouble: list[BaseException] = []

    def work(number: int) -> None:
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                version = f"{number}-{turn}"
                bench.upload(f"p/busy{number}/{version}", {"f": os.urandom(2000), "same": b"s" * 500})
                bench.upload(f"p/busy{number}/{version}b", {"g": os.urandom(200), "same": b"s" * 500})
                for gone in (f"{version}b", version):
                    bench.run("delete_version", project="p", asset=f"busy{number}", version=gone)
        except BaseException as error:  # noqa: BLE001 - shown below
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            report = Scrub(str(bench.root), ScrubTerms(ALL), CLOCK).run()
            assert report.memory.shown(100) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not trouble
    assert Metadata(str(bench.root)).usage("p").total == 4000
