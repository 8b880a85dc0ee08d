"""Requests by file alone, and what becomes of a request when things go wrong: no answer, Ctrl-C, a lost daemon."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from client.middleman import middleman
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, eventually
from support.places import Tree, make_directory, open_directory, read_tree, write_tree

from gobblerd import client
from gobblerd.client import GobblerError, GobblerTimeout, GobblerUnreachable, drops, submit

TREE: Tree = {"a": b"a\n", "sub/b": b"b\n", "none": None}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon(http=False)
    for name in left_in(daemon.staging):  # by which its start was noticed
        os.unlink(os.path.join(daemon.staging, name))
    return daemon


@pytest.fixture
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


@pytest.fixture
def silent(base: str) -> str:
    """Return a staging directory whose daemon is gone."""
    staging = make_directory(os.path.join(base, "silent"), 0o777)
    make_directory(os.path.join(staging, "responses"), 0o755)
    return staging


def left_in(staging: str) -> list[str]:
    return [name for name in os.listdir(staging) if name != "responses"]


def test_journey_without_http(daemon: RunningDaemon, base: str) -> None:
    """Everything that pygobbler does works with HTTP off: requests by file, reads from the registry."""
    ask = {"staging": daemon.staging, "url": None}
    read = {"registry": daemon.registry, "url": None}
    place = {"project": "files", "asset": "data", "version": "1"}
    source = os.path.join(base, "source")
    write_tree(source, TREE)

    client.create_project("files", owners=["root"], **ask)
    client.set_permissions("files", uploaders=[{"id": "bob"}], **ask, registry=daemon.registry)
    client.upload_directory(**place, directory=source, concurrent=2, **ask)
    client.upload_directory(**{**place, "version": "2"}, directory=source, probation=True, **ask)
    assert set(client.fetch_manifest(**place, **read)) == {"a", "sub/b", "none"}
    assert client.fetch_latest("files", "data", **read) == "1"
    client.approve_probation(**{**place, "version": "2"}, **ask)
    assert client.fetch_latest("files", "data", **read) == "2"
    allocated = client.allocate_upload_directory(daemon.staging)
    write_tree(allocated, {"c": b"c"})
    client.upload_directory(
        **{**place, "version": "3"}, directory=allocated, probation=True, consume=True, **ask
    )
    assert os.listdir(allocated) == []
    os.rmdir(allocated)
    client.reject_probation(**{**place, "version": "3"}, **ask)
    client.validate_version(**place, **ask)
    client.reindex_version(**place, **ask)
    assert [change["copy"] for change in client.reroute_links([place], dry_run=True, **ask)] == [True, True]
    client.reroute_links([place], **ask)
    client.remove_version(**place, **ask)
    assert client.refresh_usage("files", **ask) == client.fetch_usage("files", **read) == 4
    assert client.refresh_latest("files", "data", **ask) == "2"
    assert read_tree(client.version_path("files", "data", "2", **read))["sub/b"] == b"b\n"
    assert client.list_files("files", "data", "2", include_dotdot=False, **read) != []
    client.remove_asset("files", "data", **ask)
    assert client.list_assets("files", **read) == []
    client.remove_project("files", **ask)
    assert "files" not in client.list_projects(**read)
    assert left_in(daemon.staging) == [], "requests and copies are removed after the answer"


def test_refusal_by_file(daemon: RunningDaemon) -> None:
    """A refusal that comes by file is the error that it would be over HTTP: code, reason, and what else it tells."""
    with pytest.raises(GobblerError) as caught:
        client.remove_version("p", "..", "1", daemon.staging, None)
    assert (caught.value.code, caught.value.args) == (400, (400, caught.value.reason))
    assert '".."' in caught.value.reason
    with pytest.raises(GobblerError) as caught:
        client.refresh_usage("absent", daemon.staging, None)
    assert caught.value.code == 404
    assert left_in(daemon.staging) == []


def test_refusal_tells_all_problems(daemon: RunningDaemon) -> None:
    """What a refusal tells besides its reason is kept: every problem that validation found."""
    submit(daemon.staging, None, "create_project", {"project": "faulty"})
    daemon.upload("faulty/data/1", {"f": b"1"})
    for name in ("x", "y"):
        with open(daemon.path("faulty/data/1", name), "w", encoding="utf-8") as file:
            file.write(name)
    with pytest.raises(GobblerError, match="extra file") as caught:
        client.validate_version("faulty", "data", "1", daemon.staging, None)
    assert [problem["path"] for problem in caught.value.answer["problems"]] == ["x", "y"]
    submit(daemon.staging, None, "delete_project", {"project": "faulty"})


def test_submit_any_action(daemon: RunningDaemon) -> None:
    """`submit` returns the answer's own keys and nothing about the request."""
    assert submit(daemon.staging, None, "health_check", {}) == {}
    submit(daemon.staging, None, "create_project", {"project": "any"})
    assert submit(daemon.staging, None, "refresh_usage", {"project": "any"}) == {"total": 0}
    dry = submit(daemon.staging, None, "reroute_links", {"to_delete": [{"project": "any"}], "dry_run": True})
    assert dry == {"changes": []}
    assert drops.dump_request(daemon.staging, None, "delete_project", {"project": "any"}) == {
        "status": "SUCCESS"
    }
    with pytest.raises(GobblerError, match="action") as caught:
        submit(daemon.staging, None, "fly", {})
    assert caught.value.code == 400
    with pytest.raises(ValueError, match="not the name of an action"):
        submit(daemon.staging, None, "a/b", {})


def test_timeout(silent: str) -> None:
    """Without an answer in time there is an error that says what to look at, and the request is withdrawn."""
    with pytest.raises(GobblerTimeout, match=f"gobblerd status {silent}") as caught:
        submit(silent, None, "health_check", {}, timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code is None
    assert left_in(silent) == []


def test_silence(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout, a daemon that shows no sign of life is given up, and one that does is waited for."""
    monkeypatch.setattr(drops, "SILENCE", 0.2)
    with pytest.raises(GobblerTimeout, match="is the daemon watching"):
        submit(silent, None, "health_check", {})
    assert left_in(silent) == []
    stop = threading.Event()
    signs = os.path.join(silent, "responses", ".status.json")

    def live() -> None:
        while not stop.wait(0.02):
            with open(f"{signs}.new", "w", encoding="utf-8") as file:
                file.write("{}")
            os.rename(f"{signs}.new", signs)

    def answer() -> None:
        time.sleep(0.7)
        [name] = left_in(silent)
        with open(os.path.join(silent, "responses", name), "w", encoding="utf-8") as file:
            json.dump({"status": "SUCCESS", "code": 200, "total": 7}, file)

    threads = [threading.Thread(target=target) for target in (live, answer)]
    for thread in threads:
        thread.start()
    try:
        assert submit(silent, None, "refresh_usage", {"project": "p"}) == {"total": 7}
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_waiting_for_ever(silent: str) -> None:
    """With an infinite timeout only an answer ends the waiting."""

    def answer() -> None:
        eventually(lambda: left_in(silent), "the request")
        [name] = eventually(lambda: [n for n in left_in(silent) if n.startswith("request-")], "the request")
        with open(os.path.join(silent, "responses", name), "w", encoding="utf-8") as file:
            json.dump({"status": "SUCCESS", "code": 200}, file)

    thread = threading.Thread(target=answer)
    thread.start()
    assert submit(silent, None, "health_check", {}, timeout=math.inf) == {}
    thread.join()


def test_place_that_nobody_serves(base: str) -> None:
    """A directory that no gobblerd has ever served is told apart at once, and nothing is left in it."""
    with pytest.raises(GobblerUnreachable, match="no gobblerd has served"):
        submit(base, None, "health_check", {})
    assert os.listdir(base) == []
    with pytest.raises(FileNotFoundError):
        submit(os.path.join(base, "absent"), None, "health_check", {})
    with pytest.raises(GobblerUnreachable, match="staging directory"):
        submit(None, None, "health_check", {})


ASK = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that started us ignores
from gobblerd.client import upload_directory
upload_directory("p", "a", "1", sys.argv[1], sys.argv[2], sys.argv[3] or None)
"""


@pytest.mark.parametrize("http", [False, True])
def test_interrupt_withdraws_the_request(silent: str, base: str, http: bool) -> None:  # noqa: FBT001 - a parameter
    """Ctrl-C while an answer is waited for removes the request and the copy that was made for it."""
    import socket

    source = os.path.join(base, "source")
    write_tree(source, TREE)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}" if http else ""
        command = [sys.executable, "-P", "-c", ASK, source, silent, url]
        environment = {**os.environ, "PYTHONPATH": PROJECT_ROOT}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            eventually(lambda: any(n.startswith("request-upload-") for n in left_in(silent)), "the request")
            assert len(left_in(silent)) == 2
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in err
    assert left_in(silent) == []
    assert set(read_tree(source)) == set(TREE)


def test_request_is_written_at_once(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request appears under its name complete, with the rights that the umask gives."""
    found: list[Any] = []
    rename = os.rename

    def look(old: str, new: str) -> None:
        with open(old, "rb") as file:
            found.append((os.path.basename(old), json.load(file), os.stat(old).st_mode & 0o777))
        rename(old, new)

    monkeypatch.setattr(os, "rename", look)
    before = os.umask(0o027)
    try:
        with pytest.raises(GobblerTimeout):
            submit(silent, None, "create_project", {"project": "\u00e9"}, spoof="bob", timeout=0)
    finally:
        os.umask(before)
    [(name, document, mode)] = found
    assert not name.startswith("request-")
    assert document == {"project": "\u00e9", "spoof": "bob"}
    assert mode == 0o640


def test_umask_that_hides_requests(silent: str) -> None:
    """Where the umask may be why a request was refused, the error says so."""
    before = os.umask(0o077)

    def refuse() -> None:
        [name] = eventually(lambda: [n for n in left_in(silent) if n.startswith("request-")], "the request")
        with open(os.path.join(silent, "responses", ".new"), "w", encoding="utf-8") as file:
            json.dump({"status": "ERROR", "code": 400, "reason": "gobblerd may not read it"}, file)
        os.rename(file.name, os.path.join(silent, "responses", name))

    thread = threading.Thread(target=refuse)
    try:
        thread.start()
        with pytest.raises(GobblerError, match=r"may not read it \(this process's umask"):
            submit(silent, None, "create_project", {"project": "p"})
    finally:
        os.umask(before)
        thread.join()


def test_lost_connection_is_no_lost_answer(start_daemon: StartDaemon) -> None:
    """If the connection breaks after the request was sent, the answer is taken from its file, and nothing is done twice."""
    daemon = start_daemon()
    with middleman(daemon.port) as man:
        man.drop = "/new/"
        client.create_project("lost", daemon.staging, man.url)
        with pytest.raises(GobblerError, match="exists") as caught:
            client.create_project("lost", daemon.staging, man.url)
    assert caught.value.code == 400
    assert left_in(daemon.staging) == []


def test_daemon_restarted_under_a_request(start_daemon: StartDaemon) -> None:
    """A daemon that is killed while it works is waited for: once it is back, the request is done and answered."""
    daemon = start_daemon(settings={"watch": "sweep"})  # by no event: what is at work was POSTed
    url = f"http://127.0.0.1:{daemon.port}"
    client.create_project("again", daemon.staging, url)
    source = client.allocate_upload_directory(daemon.staging)
    write_tree(source, {str(n): os.urandom(64 << 10) for n in range(400)})
    done: list[Any] = []

    def upload() -> None:
        done.append(client.upload_directory("again", "data", "1", source, daemon.staging, url))

    transactions = daemon.path("..transactions")
    before = set(os.listdir(transactions))
    thread = threading.Thread(target=upload)
    thread.start()
    eventually(lambda: set(os.listdir(transactions)) - before, "the upload to be at work")
    daemon.kill()
    daemon.restart()
    thread.join()
    assert done == [None]
    assert len(daemon.read("again", "data", "1", "..manifest")) == 400


def test_service_that_leaves_no_responses(base: str) -> None:
    """Where no answer can come by file, as from the Go service, a broken connection is an error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(GobblerUnreachable, match="cannot reach"):
            submit(base, f"http://127.0.0.1:{server.getsockname()[1]}", "health_check", {})
        thread.join()
    assert os.listdir(base) == []


def test_nobody_listens(silent: str) -> None:
    """A URL at which nobody listens is an error at once; the request is withdrawn."""
    with pytest.raises(GobblerUnreachable, match=r"cannot reach the service at http://127\.0\.0\.1:9"):
        submit(silent, "http://127.0.0.1:9", "health_check", {})
    assert left_in(silent) == []
