"""Once and only once: one execution and one response per request, however often and by whichever way it is asked."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.checker import assert_clean
from support.daemon import RunningDaemon, StartDaemon, address
from support.documents import as_event, events, nanoseconds


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "p"})
    return daemon


def test_what_a_response_file_says(daemon: RunningDaemon) -> None:
    """The file holds POST's body, and besides: request, action, user, code, times, ignored keys."""
    name = daemon.drop("refresh_usage", {"project": "p", "projcet": 1, "dry_run": True}, 61001)
    posted = daemon.post(name)
    assert posted.code == 403
    filed = daemon.wait(name).body
    assert posted.body.items() <= filed.items()
    assert (filed["request"], filed["action"], filed["user"], filed["code"]) == (
        name,
        "refresh_usage",
        "61001",
        403,
    )
    assert nanoseconds(filed["started"]) <= nanoseconds(filed["finished"])
    assert sorted(filed["ignored"]) == ["dry_run", "projcet"]
    reply = daemon.get(f"/response/{name}")
    assert (reply.code, reply.json()["reason"]) == (200, filed["reason"])
    assert daemon.get("/response/request-health_check-none").code == 404


def test_drop_and_many_posts(daemon: RunningDaemon) -> None:
    """Events, sweeps and sixteen POSTs of one upload lead to one execution and one answer."""
    for turn in range(5):
        place = address(f"p/a/{turn}")
        source = daemon.source({f"f{n}": f"{turn} {n}".encode() for n in range(50)})
        name = daemon.drop("upload", {**place, "source": source})
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(daemon.post, [name] * 16))
        assert {answer.code for answer in answers} == {200}
        assert all(answer.body == {"status": "SUCCESS"} for answer in answers)
        assert daemon.wait(name).code == 200
        assert events(daemon.registry)[as_event(type="add-version", latest=True, **place)] == 1
    assert_clean(daemon.registry)


def test_a_repeated_post_repeats_the_answer(daemon: RunningDaemon) -> None:
    """A finished request is not done again: its recorded answer comes back, also when the world has changed."""
    name = daemon.drop("create_project", {"project": "once"})
    first = daemon.post(name)
    filed = daemon.wait(name)
    daemon.done("delete_project", {"project": "once"})
    assert daemon.post(name) == first
    assert daemon.wait(name) == filed
    assert not os.path.exists(daemon.path("once"))


def test_a_late_touch_is_the_same_request(daemon: RunningDaemon) -> None:
    """A change of times alone, right after the execution, makes no new request."""
    name = daemon.drop("create_project", {"project": "touched"})
    assert daemon.post(name).code == 200
    daemon.done("delete_project", {"project": "touched"})
    os.utime(os.path.join(daemon.staging, name))
    assert daemon.post(name).code == 200
    assert not os.path.exists(daemon.path("touched"))


def test_an_answered_file_under_another_name(daemon: RunningDaemon) -> None:
    """An inode that was executed under one name is refused under any other, with any action."""
    daemon.done("create_project", {"project": "victim"})
    name = daemon.drop("refresh_usage", {"project": "victim"})
    assert daemon.post(name).code == 200
    for other in ("request-delete_project-x", "request-refresh_usage-x"):
        os.rename(os.path.join(daemon.staging, name), os.path.join(daemon.staging, other))
        assert daemon.post(other).code == 400
        name = other
    assert os.path.isdir(daemon.path("victim"))


def test_pygobbler_s_shuffle(daemon: RunningDaemon) -> None:
    """Create, remove, create again empty, fill, POST: the last content is what is done."""
    name = "request-create_project-shuffle"
    path = os.path.join(daemon.staging, name)
    for _ in range(2):
        with open(path, "wb"):
            pass
        os.unlink(path)
    with open(path, "wb") as file:
        file.flush()
        file.write(b'{"project": ')
        file.flush()
        file.write(b'"shuffled"}')
    assert daemon.post(name).code == 200
    assert daemon.read("shuffled/..usage") == {"total": 0}
    os.unlink(path)


def test_an_old_name_with_new_content(daemon: RunningDaemon) -> None:
    """A file re-created under an old name is a new request with a response of its own."""
    name = "request-create_project-again"
    daemon.drop("create_project", {"project": "again1"}, name=name)
    assert daemon.post(name).code == 200
    daemon.drop("create_project", {"project": "again1"}, name=name)
    assert daemon.post(name).code == 400
    assert daemon.wait(name).code == 400


def test_a_copy_is_a_request_of_its_owner(daemon: RunningDaemon) -> None:
    """Who copies another's request asks for themself."""
    name = daemon.drop("create_project", {"project": "mine"})
    copy = "request-create_project-copy"
    shutil.copyfile(os.path.join(daemon.staging, name), os.path.join(daemon.staging, f"tmp-{copy}"))
    os.chown(os.path.join(daemon.staging, f"tmp-{copy}"), 61001, 61001)
    os.rename(os.path.join(daemon.staging, f"tmp-{copy}"), os.path.join(daemon.staging, copy))
    assert daemon.post(copy).code == 403


def test_nobody_is_nobody(daemon: RunningDaemon) -> None:
    """UID 65534, what a file server makes of root, asks for nothing."""
    answer = daemon.ask("refresh_usage", {"project": "p"}, 65534)
    assert answer.code in {400, 403}
    assert answer.reason
