"""Two doctors at once: a second mount of the same tree stands in for another node."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from doctor.clinic import ACCOUNT, STRANGER, WAIT, Clinic, other_node, replacing, report_of
from support.crowd import bound
from support.daemon import eventually
from support.places import ids_of

from gobblerd.cli.doctor import together
from gobblerd.cli.doctor.acting import acting_as
from gobblerd.cli.doctor.findings import Line
from gobblerd.cli.doctor.meeting import Meeting, NobodyCameError
from gobblerd.cli.doctor.site import Account, Site
from gobblerd.cli.doctor.together import examine_together

PEER = {"peer-same", "peer-files", "peer-locks", "peer-events", "peer-clocks"}
FRESH = ("-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0")


def test_two_nodes_that_agree(clinic: Clinic) -> None:
    """A bind mount: locks and events reach from one to the other. The meeting place is made by whoever is first."""
    point = f"{clinic.base}-node"
    os.mkdir(point)
    with bound(clinic.base, point):
        for report in clinic.examine_twice(point):
            assert {name: report[name].result for name in PEER} == dict.fromkeys(PEER, "ok"), report
            assert report.code == 0


def test_locks_and_events_that_stay_on_their_node(clinic: Clinic) -> None:
    """bindfs passes neither on, as some network filesystems do not."""
    with other_node(clinic.base, *FRESH) as point:
        near, far = clinic.examine_twice(point)
    for report in (near, far):
        assert report["peer-locks"].result == "fail", report
        assert "flock is local to each node" in report["peer-locks"].found
        assert report["peer-same"].result == "ok"
        assert report.code == 1
    assert "wait for a sweep" in far["peer-events"].found


def test_events_that_the_configuration_relies_on(clinic: Clinic) -> None:
    """watch = "events" where writes of the other node send none."""
    with other_node(clinic.base, *FRESH) as point:
        config = clinic.config(watch="events", staging=f"{point}/staging", registry=f"{point}/registry")
        near = clinic.start("--peer", "--wait", str(WAIT))
        far = clinic.start("--peer", "--wait", str(WAIT), "--config", config)
        reports = report_of(near), report_of(far)
    assert reports[1]["peer-events"].result == "fail", reports
    assert 'watch = "events"' in reports[1]["peer-events"].found


def test_two_daemons_with_a_staging_directory_each(clinic: Clinic) -> None:
    """One registry: each writes into the other's staging, under the path that it has there."""
    second = f"{clinic.staging}-2"
    os.mkdir(second)
    os.chown(second, *ids_of(ACCOUNT))
    os.chmod(second, 0o1777)
    near = clinic.start("--peer", "--wait", str(WAIT))
    far = clinic.start("--peer", "--wait", str(WAIT), "--config", clinic.config(staging=second))
    for report in (report_of(near), report_of(far)):
        assert {name: report[name].result for name in PEER} == dict.fromkeys(PEER, "ok"), report


def test_a_staging_directory_that_the_other_node_does_not_see(clinic: Clinic) -> None:
    """The other doctor is a process of the test's, and finds nothing where it is told to look."""

    def blind() -> list[Line]:
        together._written = lambda _pair, _theirs: "nothing"
        site = Site(clinic.staging, clinic.registry, Account.of(uid, gid))
        return examine_together(site, WAIT, lambda _: None)

    uid, gid = ids_of(ACCOUNT)
    near = clinic.start("--peer", "--wait", str(WAIT))
    lines = {line.name: line for line in acting_as(uid, gid, [], blind)}
    report = report_of(near)
    assert report["peer-events"].result == "warn", report
    assert "does not see the staging directory" in report["peer-events"].found
    assert lines["peer-events"].result == "ok"


def test_two_registries_under_one_name(clinic: Clinic) -> None:
    other = Path(clinic.base, "other-marker")
    other.write_text('{"format": "gobblerd-registry-1", "id": "another"}')
    marker = os.path.join(clinic.registry, "..gobblerd")
    near, far = clinic.examine_twice(clinic.base, prefix=replacing(marker, str(other)))
    for report in (near, far):
        assert report["peer-same"].result == "fail", report
        assert "two different registries" in report["peer-same"].found


def test_an_account_that_is_another_user_over_there(clinic: Clinic) -> None:
    """A mount that shows the account's files as another user's, as with a wrong ID mapping."""
    with other_node(clinic.base, *FRESH, f"--map={ACCOUNT}/gbl-bob") as point:
        for report in clinic.examine_twice(point):
            assert report["peer-same"].result == "fail", report
            assert "the account is user" in report["peer-same"].found


def test_files_of_the_other_node_that_belong_to_somebody_else(clinic: Clinic) -> None:
    """The test is the other doctor here, and shows a file of alice's as its own; then it goes away."""
    report = clinic.start("--peer", "--wait", str(WAIT))
    meeting_place = os.path.join(clinic.registry, "..transactions", "state", "doctor")
    eventually(lambda: os.path.isdir(meeting_place), "the doctor to wait")
    other = Meeting(meeting_place, WAIT)
    other.meet()
    other.say("who", {**other.hear("who"), "host": "elsewhere"})
    Path(meeting_place, "theirs").touch()
    os.chown(os.path.join(meeting_place, "theirs"), *ids_of(STRANGER))
    other.say("owner", "theirs")
    other.say("owner-seen", 0)
    other.hear("owner-seen")
    other.leave()
    found = report_of(report)
    assert found["peer-same"].result == "ok", found
    assert found["peer-files"].result == "fail"
    assert "belongs to user" in found["peer-files"].found
    assert found["peer-locks"].result == "fail"
    assert "gone away" in found["peer-locks"].found


def test_a_node_on_which_the_account_may_not_write(clinic: Clinic) -> None:
    """Files that it makes there are nobody's, as with root_squash for everyone: said, and the other waits in vain."""
    with other_node(clinic.base, *FRESH, "--create-for-user=nobody") as point:
        report = clinic.examine("--peer", "--wait", "1", base=point)
    assert report["rename"].result == "fail", report
    assert report["peer-same"].result == "fail"
    assert report["peer-same"].found in {"Operation not permitted", "Permission denied"}


def test_clocks_that_differ(clinic: Clinic) -> None:
    """The other doctor is a process of the test's, whose time of day is ten minutes ahead.

    libfaketime would do, were it not that under it a sleep ends in EINVAL.
    """

    def ahead() -> list[Line]:
        together.time = SimpleNamespace(
            time=lambda: time.time() + 600, monotonic=time.monotonic, sleep=time.sleep
        )
        return examine_together(
            Site(clinic.staging, clinic.registry, Account.of(uid, gid)), WAIT, lambda _: None
        )

    uid, gid = ids_of(ACCOUNT)
    near = clinic.start("--peer", "--wait", str(WAIT))
    lines = {line.name: line for line in acting_as(uid, gid, [], ahead)}
    assert lines["peer-clocks"].result == report_of(near)["peer-clocks"].result == "fail", lines
    assert "of the two nodes differ by" in lines["peer-clocks"].found


def test_nobody_comes(clinic: Clinic) -> None:
    """It waits for as long as it was told, and no longer; the other checks are done all the same."""
    report = clinic.examine("--peer", "--wait", "1")
    assert report["peer-same"].result == "fail"
    assert "no other doctor came within 1 s" in report["peer-same"].found
    assert report["peer-locks"].result == "skipped"
    assert report["rename"].result == "ok"
    assert "waiting for up to 1 s" in report.complaint


def test_what_a_killed_doctor_left_misleads_nobody(clinic: Clinic) -> None:
    """Its file is there, but its beat stands still."""
    first = clinic.start("--peer", "--wait", str(WAIT))
    meeting = Path(clinic.registry, "..transactions", "state", "doctor")
    eventually(lambda: meeting.exists() and list(meeting.glob("*.doctor")), "the doctor to wait")
    first.kill()
    first.communicate()
    assert list(meeting.glob("*.doctor"))
    for report in clinic.examine_twice(clinic.base):
        assert {name: report[name].result for name in PEER} == dict.fromkeys(PEER, "ok"), report


@pytest.fixture
def room(tmp_path: Path) -> str:
    return str(tmp_path)


def talk(room: str) -> str:
    """Meet somebody, and return what both know."""
    meeting = Meeting(room, 100)
    try:
        meeting.meet()
        meeting.say("first", meeting.token)
        heard = meeting.hear("first")
        assert heard == meeting.partner
        meeting.say("second", "done")
        try:
            meeting.hear("second")
        except NobodyCameError:
            assert "second" in meeting._said
    finally:
        meeting.leave()
    return "-".join(sorted((meeting.token, meeting.partner)))


def test_pairs_find_each_other_in_a_crowd(room: str) -> None:
    """Six at once make three pairs."""
    with ThreadPoolExecutor(6) as pool:
        pairs = list(pool.map(lambda _: talk(room), range(6)))
    assert sorted(pairs.count(pair) for pair in pairs) == [2] * 6
    assert os.listdir(room) == []


def test_a_partner_that_leaves_is_noticed(room: str) -> None:
    met = threading.Event()

    def leave_at_once() -> None:
        other = Meeting(room, 100)
        other.meet()
        met.set()
        other.hear("hello")
        other.leave()

    thread = threading.Thread(target=leave_at_once)
    thread.start()
    meeting = Meeting(room, 100)
    meeting.meet()
    meeting.say("hello")
    with pytest.raises(NobodyCameError, match="gone away"):
        meeting.hear("anything")
    thread.join()


def test_files_that_nobody_beats_are_no_doctors(room: str) -> None:
    Path(room, "0000.doctor").write_text(json.dumps({"beat": 7, "partner": "", "said": {}}))
    Path(room, "0001.doctor").write_text("")  # half a file, as a cache may show it
    with pytest.raises(NobodyCameError, match="no other doctor"):
        Meeting(room, 1).meet()
