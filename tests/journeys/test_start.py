"""Starting and stopping: what was in staging before, what may not be served, what signals do."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.checker import assert_clean
from support.crowd import ServiceDaemon
from support.daemon import PATIENCE, TRACEBACK, RunningDaemon, StartDaemon, address, eventually
from support.documents import as_event, events
from support.places import drop_request, give_to, make_directory, open_directory, request_name

OLD_REQUESTS = 2_000
REFUSAL_LINES = 1  # "one sentence"


# ---- taking over


def test_old_requests_of_another_service_are_not_executed(start_daemon: StartDaemon) -> None:
    """What lay in staging before gobblerd's first start is answered 400 and never done; new requests work."""
    daemon = start_daemon(serving=False)
    actions = ("create_project", "delete_project", "health_check")
    old = {
        f"request-{actions[n % 3]}-old{n}": {"project": f"old{n}" if n % 3 == 0 else "kept"}
        for n in range(OLD_REQUESTS)
    }
    for name, document in old.items():
        drop_request(daemon.staging, name, document)
    os.mkdir(daemon.path("kept"))

    daemon.start()
    for name in old:
        answer = daemon.wait(name)
        assert answer.code == 400, answer
        assert "was here before" in answer.reason
    assert {name for name in os.listdir(daemon.registry) if not name.startswith("..")} == {"kept"}
    os.rmdir(daemon.path("kept"))

    first = next(iter(old))
    assert daemon.post(first).code == 400, "a POST of an old one repeats its answer"
    daemon.done("create_project", {"project": "new"})
    daemon.stop()
    daemon.restart()
    daemon.done("create_project", {"project": "newer"})
    assert {name for name in os.listdir(daemon.registry) if not name.startswith("..")} == {"new", "newer"}
    assert daemon.wait(first).code == 400
    assert not events(daemon.registry)


def test_a_request_dropped_while_nothing_runs_is_executed_at_start(start_daemon: StartDaemon) -> None:
    """After the first start, the staging directory is the queue: it is taken up whenever the daemon comes."""
    daemon = start_daemon(http=False)
    assert daemon.stop() == 0
    name = daemon.drop("create_project", {"project": "later"})
    daemon.restart()
    assert daemon.wait(name).code == 200
    assert daemon.read("later", "..usage") == {"total": 0}


# ---- refusing to serve


def refusal(daemon: RunningDaemon) -> str:
    """Start what must refuse to start; return its one sentence."""
    process = daemon.spawn()
    assert process.wait(PATIENCE) not in {0, None}
    said = daemon.logged().strip()
    assert said
    assert TRACEBACK not in said
    assert len(said.splitlines()) == REFUSAL_LINES, said
    return said


@pytest.fixture
def service_daemon() -> Iterator[RunningDaemon]:
    """Return a daemon of an account of its own; it is not started."""
    with open_directory() as base:
        yield ServiceDaemon(base)


@contextmanager
def mounted_read_only(path: str) -> Iterator[None]:
    """Let nothing be written at a path for a block."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount (NOT TESTED on this run)")
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("missing", ["staging", "registry"])
def test_a_missing_directory_is_refused_and_not_created(start_daemon: StartDaemon, missing: str) -> None:
    """A missing registry or staging directory is a mount that is not there: never made, a non-zero exit."""
    daemon = start_daemon(serving=False)
    path = getattr(daemon, missing)
    os.rmdir(path)
    assert path in refusal(daemon)
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["staging", "registry"])
def test_a_file_is_no_directory(start_daemon: StartDaemon, kind: str) -> None:
    """A file in the place of a directory is refused."""
    daemon = start_daemon(serving=False)
    path = getattr(daemon, kind)
    os.rmdir(path)
    with open(path, "w", encoding="utf-8"):
        pass
    assert path in refusal(daemon)


def test_one_daemon_per_staging_directory(start_daemon: StartDaemon) -> None:
    """A second daemon on the same staging directory refuses, and the first serves on."""
    first = start_daemon(http=False)
    other = make_directory(f"{first.registry}-2", 0o755)
    second = start_daemon(serving=False, staging=first.staging, registry=other, http=False)
    assert first.staging in refusal(second)
    assert first.done("health_check", {})["status"] == "SUCCESS"


def foreign(path: str) -> None:
    os.mkdir(path)
    give_to(path, 61001)


def linked(path: str) -> None:
    os.mkdir(f"{path}-elsewhere")
    os.symlink(f"{path}-elsewhere", path)


@pytest.mark.parametrize("make", [foreign, linked])
def test_responses_must_be_its_own_directory(start_daemon: StartDaemon, make: Callable[[str], None]) -> None:
    """Somebody who made `responses` first could forge answers: refused."""
    daemon = start_daemon(serving=False)
    make(os.path.join(daemon.staging, "responses"))
    assert "responses" in refusal(daemon)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("whitelist", "/fine\nrelative/path\n", "line 2"),
        ("spoof", "a:b\nno colon\n", "line 2"),
        ("spoof", "a:b:c\n", "line 1"),
    ],
)
def test_a_bad_line_of_a_go_file_is_named(
    start_daemon: StartDaemon, name: str, text: str, fault: str
) -> None:
    """Whitelist and spoofing files are read strictly: the daemon does not start, and says which line."""
    daemon = start_daemon(serving=False)
    path = f"{daemon.registry}-{name}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    bad = start_daemon(
        serving=False, staging=daemon.staging, registry=daemon.registry, options=[f"-{name}", path]
    )
    said = refusal(bad)
    assert path in said
    assert fault in said


def test_a_port_that_another_has(start_daemon: StartDaemon) -> None:
    """Which port, and that another process has it."""
    first = start_daemon()
    second = start_daemon(serving=False)
    second.port = first.port
    said = refusal(second)
    assert f"cannot listen on port {first.port} of 0.0.0.0: Address already in use; another process" in said


def test_a_host_that_is_not_ours(start_daemon: StartDaemon) -> None:
    """An address of the documentation's network, and a name that is none."""
    for host in ("192.0.2.1", "no-such-host.invalid"):
        daemon = start_daemon(serving=False, settings={"host": host})
        assert refusal(daemon).endswith("; set host to a name or an address of this machine")


def test_a_registry_that_may_only_be_read(start_daemon: StartDaemon) -> None:
    """As under systemd without its ReadWritePaths: it would answer every request with 500."""
    daemon = start_daemon(serving=False)
    os.mkdir(daemon.path("..logs"))
    with mounted_read_only(daemon.registry):
        said = refusal(daemon)
    assert f'"{daemon.registry}" cannot be written to: Read-only file system; mount its filesystem' in said


def test_a_registry_that_becomes_read_only(start_daemon: StartDaemon) -> None:
    """As a filesystem does that has found itself damaged: /healthz says so until it may be written again."""
    daemon = start_daemon()
    eventually(lambda: daemon.get("/healthz").code == 200, "it to be well")
    with mounted_read_only(daemon.registry):
        eventually(lambda: daemon.get("/healthz").code == 503, "it to notice")
        assert b"cannot be written to: Read-only file system" in daemon.get("/healthz").data
    eventually(lambda: daemon.get("/healthz").code == 200, "it to be well again")


def test_a_registry_of_another_account(service_daemon: RunningDaemon) -> None:
    """Whose it is, and who we are."""
    give_to(service_daemon.registry, 0)
    said = refusal(service_daemon)
    assert "Permission denied; it belongs to user 0, this is user" in said


def test_an_interpreter_that_the_account_may_not_execute(service_daemon: RunningDaemon) -> None:
    """The daemon runs, since its starter gave up root afterwards, and cannot start the process for HTTP."""
    base = os.path.dirname(service_daemon.registry)
    python = os.path.join(make_directory(os.path.join(base, "home"), 0o700), "python")
    os.symlink("/usr/bin/python3", python)
    command = service_daemon.command()
    at = command.index("serve") - 3
    program = f"import sys; sys.executable = {python!r}; from gobblerd.cli.main import main; main()"
    service_daemon.command = lambda: [*command[: at + 1], "-c", program, *command[at + 3 :]]  # type: ignore[method-assign]
    said = refusal(service_daemon)
    assert f"the web process cannot be started with {python}: Permission denied; the daemon's account" in said


def test_a_record_that_nobody_understands(start_daemon: StartDaemon) -> None:
    """What cannot be mended at the start ends the daemon with a reason and an exit code, and no traceback."""
    daemon = start_daemon(serving=False, http=False)
    os.makedirs(daemon.path("..transactions", "committed"))
    with open(daemon.path("..transactions", "committed", "x-1"), "w", encoding="utf-8") as file:
        file.write('{"format": "of-tomorrow"}')
    assert daemon.spawn().wait(PATIENCE) == 1
    said = daemon.logged()
    assert TRACEBACK not in said
    assert "cannot begin to serve" in said
    assert "if a newer gobblerd wrote it, start that one" in said


def test_closed_standard_streams(start_daemon: StartDaemon) -> None:
    """No file of the registry's may be taken for the log."""
    daemon = start_daemon(serving=False, http=False)
    command = daemon.command()
    daemon.command = lambda: ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]  # type: ignore[method-assign]
    daemon.start()
    daemon.done("create_project", {"project": "p"})
    assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)} == {os.devnull}


# ---- modes


def test_modes_do_not_follow_the_umask(start_daemon: StartDaemon) -> None:
    """Directories are 0755 and files 0644, responses too, whatever umask the daemon was started with."""
    daemon = start_daemon(http=False, umask=0o077)
    daemon.done("create_project", {"project": "p", "permissions": {"global_write": True}})
    daemon.upload("p/a/1", {"f": b"1", "d/g": b"2", "e": None}, 61001)
    daemon.upload("p/a/2", {"f": b"1"})
    assert_clean(daemon.registry)
    name = daemon.drop("health_check", {})
    daemon.wait(name)
    responses = os.path.join(daemon.staging, "responses")
    assert stat.S_IMODE(os.stat(responses).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(os.path.join(responses, name)).st_mode) == 0o644


# ---- signals


def test_sigterm_leaves_the_queue_to_the_next_daemon(start_daemon: StartDaemon) -> None:
    """SIGTERM exits 0; requests that were not begun are done by the next daemon; each has one response."""
    daemon = start_daemon(http=False)
    names = {daemon.drop("create_project", {"project": f"p{n}"}): f"p{n}" for n in range(300)}
    assert daemon.stop() == 0
    daemon.require_no_process()
    before = {name: daemon.wait(name) for name in names if daemon.has_response(name)}
    assert all(answer.code == 200 for answer in before.values()), "a drop is never told 503"
    daemon.restart()
    for name, project in names.items():
        answer = daemon.wait(name)
        assert answer.code == 200, answer
        assert before.get(name, answer) == answer
        assert os.path.isdir(daemon.path(project))
    assert_clean(daemon.registry)


def test_sigterm_during_an_upload_loses_nothing(start_daemon: StartDaemon) -> None:
    """An upload that SIGTERM interrupts is finished before the exit, or done by the next daemon: never half."""
    daemon = start_daemon(http=False)
    daemon.done("create_project", {"project": "p"})
    tree = {f"d{n % 10}/f{n}": os.urandom(2000) for n in range(500)}
    place = address("p/a/1")
    name = daemon.drop("upload", {**place, "source": daemon.source(tree)})
    assert daemon.stop() == 0
    if not daemon.has_response(name):
        assert not os.path.exists(daemon.path("p/a/1"))
    daemon.restart()
    assert daemon.wait(name).code == 200
    assert events(daemon.registry) == {as_event(type="add-version", latest=True, **place): 1}
    assert_clean(daemon.registry)


def test_sigterm_right_after_a_deletion_leaves_nothing(start_daemon: StartDaemon) -> None:
    """What an answered request leaves to be tidied up is tidied up before the exit, within a moment."""
    daemon = start_daemon()
    for n in range(5):
        daemon.done("create_project", {"project": f"p{n}"})
        daemon.upload(f"p{n}/a/1", {f"d{k % 5}/f{k}": b"x" for k in range(100)})
        daemon.done("delete_project", {"project": f"p{n}"})
        assert daemon.stop() == 0
        folders = ("", "committed", "applied")
        left = [name for each in folders for name in os.listdir(daemon.path("..transactions", each))]
        assert set(left) == {"committed", "applied", "aside", "state"}, "a record or what was deleted is left"
        daemon.restart()


def test_sigkill_leaves_no_process(start_daemon: StartDaemon) -> None:
    """Whatever workers the daemon has end with it, and the next daemon can start at once."""
    daemon = start_daemon(http=False)
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {f"f{n}": b"x" * n for n in range(300)})
    daemon.kill()
    daemon.require_no_process()
    daemon.restart()
    assert daemon.done("validate_version", address("p/a/1"))["status"] == "SUCCESS"


def test_repeated_kills_while_idle(start_daemon: StartDaemon) -> None:
    """Restarts change nothing: the registry, the responses, and what they say stay as they are."""
    daemon = start_daemon(http=False)
    name = daemon.drop("create_project", {"project": "p"})
    answer = daemon.wait(name)
    for _ in range(2):
        daemon.kill()
        daemon.restart()
    assert daemon.wait(name) == answer
    assert_clean(daemon.registry)


# ---- a request name that is already answered


def test_a_new_file_under_an_old_name_is_a_new_request(start_daemon: StartDaemon) -> None:
    """The response of a re-created request replaces the old one, also across a restart."""
    daemon = start_daemon(http=False)
    name = request_name("create_project")
    daemon.drop("create_project", {"project": "one"}, name=name)
    assert daemon.wait(name).code == 200
    assert daemon.stop() == 0
    daemon.drop("create_project", {"project": "another"}, name=name)
    daemon.restart()
    eventually(lambda: os.path.isdir(daemon.path("another")), "the second request to be done")
    assert daemon.wait(name).code == 200
