"""Attacks that are no race, against a daemon of its own account: what is tried, and that nothing comes of it.

Where an attack must hit the moment between copying and commit, the test holds the project's lock meanwhile.
"""

import contextlib
import fcntl
import glob
import os
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hostile.intruder import SECRET, Prey, try_as
from support.checker import assert_clean
from support.crowd import SERVICE, ServiceDaemon, answered, executions, showing_log, vitals_of
from support.daemon import RunningDaemon, address, eventually
from support.places import ROOT, Users, drop_request, give_to, make_directory, read_tree

pytestmark = pytest.mark.usefixtures("nothing_leaks")
MEGABYTE = 1 << 20


@contextlib.contextmanager
def locked(daemon: RunningDaemon, project: str) -> Iterator[None]:
    """Hold a project's lock, so that nothing commits in it."""
    path = daemon.path(project, "..LOCK")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_to(path, SERVICE)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def copied(daemon: RunningDaemon, content: bytes) -> bool:
    """Tell whether a file with this content is in a transaction, ready to be committed."""
    for path in glob.glob(f"{daemon.registry}/..transactions/*/**", recursive=True):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read() == content:
                return True
    return False


def stored(daemon: RunningDaemon, *place: str) -> bytes:
    with open(daemon.path(*place), "rb") as file:
        return file.read()


# ---- sources


def test_a_descriptor_that_stayed_open(service: ServiceDaemon, users: Users) -> None:
    """What its holder writes after a `consume` is in no version: no inode of a user's is adopted."""
    source = service.source({"f": b"before"}, users.alice)
    top = os.path.join(service.staging, source)
    os.chmod(top, 0o777)
    with open(os.path.join(top, "f"), "r+b", buffering=0) as held:
        document = {**address("p/a/1"), "source": source, "consume": True}
        service.done("upload", document, users.alice)
        assert os.listdir(top) == [], "nothing was consumed: no test"
        held.write(b"AFTER!")
    assert stored(service, "p/a/1/f") == b"before"
    assert_clean(service.registry)


def test_a_source_renamed_and_replaced_in_the_middle(service: ServiceDaemon, users: Users) -> None:
    """The directory that was opened first is what is uploaded and consumed, whatever has its name by then."""
    source = service.source({"d/f": b"the first", "d/g": b"1"}, users.alice)
    top = os.path.join(service.staging, source)
    with locked(service, "p"):
        document = {**address("p/a/1"), "source": source, "consume": True}
        name = service.drop("upload", document, users.alice)
        eventually(lambda: copied(service, b"the first"), "the files to be copied")
        os.rename(top, f"{top}-elsewhere")
        service.source({"d/f": b"the second", "d/h": b"2"}, users.alice, source)
        os.chmod(os.path.join(top, "d"), 0o777)
    assert service.wait(name).code == 200
    assert stored(service, "p/a/1/d/f") == b"the first"
    assert not os.path.exists(service.path("p/a/1/d/h"))
    assert read_tree(top) == {"d/f": b"the second", "d/h": b"2"}
    assert_clean(service.registry)


def test_a_file_written_to_between_copy_and_commit(service: ServiceDaemon, users: Users) -> None:
    """The version holds the bytes that were hashed; the changed file is not consumed."""
    source = service.source({"f": b"as it was", "g": b"1"}, users.alice)
    top = os.path.join(service.staging, source)
    os.chmod(top, 0o777)
    with locked(service, "p"):
        document = {**address("p/a/1"), "source": source, "consume": True}
        name = service.drop("upload", document, users.alice)
        eventually(lambda: copied(service, b"as it was"), "the files to be copied")
        with open(os.path.join(top, "f"), "r+b") as file:
            file.write(b"AS IT IS!")
    assert service.wait(name).code == 200
    assert stored(service, "p/a/1/f") == b"as it was"
    assert read_tree(top)["f"] == b"AS IT IS!"
    assert_clean(service.registry)


def test_a_client_that_hangs_up(service: ServiceDaemon, users: Users) -> None:
    """An upload that was begun is finished and answered in its file, though whoever POSTed it is gone."""
    source = service.source({"f": b"hung up"}, users.alice)
    with locked(service, "p"):
        name = service.drop("upload", {**address("p/a/1"), "source": source}, users.alice)
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(f"POST /new/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            eventually(lambda: copied(service, b"hung up"), "the files to be copied")
    assert service.wait(name).code == 200
    assert stored(service, "p/a/1/f") == b"hung up"


def test_sources_beyond_any_limit(base: str, users: Users) -> None:
    """Too many files, too deep, too long, too large though sparse: 413, and nothing is left of it."""
    limits = {"upload_max_files": 50, "upload_max_depth": 20, "upload_max_path_bytes": 300}
    make_directory(os.path.join(base, "limits"), 0o755)
    settings = {**limits, "upload_max_bytes": 1 << 40, "quota_enforced": True, "durability": "process"}
    with showing_log(ServiceDaemon(os.path.join(base, "limits"), settings=settings)) as daemon:
        permissions = {"owners": [users.alice]}
        daemon.done("create_project", {"project": "p", "permissions": permissions})
        giant = daemon.source({"f": b""}, users.alice)
        os.truncate(os.path.join(daemon.staging, giant, "f"), 1 << 42)
        sparse = daemon.source({"f": b""}, users.alice)
        os.truncate(os.path.join(daemon.staging, sparse, "f"), 1 << 36)
        sources = {
            "files": daemon.source({f"f{n}": b"" for n in range(51)}, users.alice),
            "depth": daemon.source({"/".join("d" * 30) + "/f": b"1"}, users.alice),
            "path": daemon.source({"x" * 200 + "/" + "y" * 200: b"1"}, users.alice),
            "bytes": giant,
            "quota": sparse,
        }
        for what, source in sources.items():
            answer = daemon.ask("upload", {**address("p/a/1"), "source": source}, users.alice)
            assert answer.code == 413, (what, answer)
        assert not os.path.exists(daemon.path("p/a/1"))
        assert daemon.read("p/..usage") == {"total": 0}
        assert_clean(daemon.registry)


# ---- requests


def test_a_hard_link_that_was_seen_stays_refused(service: ServiceDaemon, base: str) -> None:
    """An administrator's file linked to a request's name is not done when its first name goes, nor after a restart."""
    notes = os.path.join(service.staging, drop_request(service.staging, "notes", {"project": "stolen"}, ROOT))
    name = "request-create_project-link"
    os.link(notes, os.path.join(service.staging, name))
    assert service.post(name).code == 400
    os.unlink(notes)
    assert service.post(name).code == 400
    assert service.stop() == 0
    service.restart()
    assert service.post(name).code == 400
    assert not os.path.exists(service.path("stolen"))
    assert name not in executions(service)


def test_a_post_of_somebody_else_s_request(service: ServiceDaemon, users: Users) -> None:
    """Whoever POSTs it, it is its owner's request, answered alike to all, and its file tells so."""
    name = service.drop("create_project", {"project": "q"}, users.bob)
    answers = [service.post(name) for _ in range(3)]
    assert {answer.code for answer in answers} == {403}
    assert service.wait(name).body["user"] == users.bob
    assert answers[0].reason == service.wait(name).reason
    assert executions(service)[name] == 1


FORGE = r"""
staging, registry, name, project = sys.argv[1:]
responses = staging + "/responses"
mine = staging + "/mine"
attempt(os.mkdir, mine)
def flock(path, flags):
    import fcntl
    fd = os.open(path, flags)
    fcntl.flock(fd, fcntl.LOCK_SH)
for what, do in {
    "write a response": lambda: write(responses + "/" + name, b"{}"),
    "write another": lambda: write(responses + "/request-upload-forged", b"{}"),
    "rename one in": lambda: os.rename(mine, responses + "/request-upload-forged"),
    "link one in": lambda: os.symlink("/etc/passwd", responses + "/request-upload-forged"),
    "remove one": lambda: os.unlink(responses + "/" + name),
    "take responses away": lambda: os.rename(responses, staging + "/old"),
    "replace responses": lambda: os.rename(mine, responses),
    "remove responses": lambda: os.rmdir(responses),
    "hold the daemon's lock": lambda: flock(responses + "/.daemon", os.O_RDONLY),
    "count attempts": lambda: write(responses + "/.attempts/" + name, b"3"),
    "set the clock's probe": lambda: os.utime(responses + "/.clock"),
    "hold a project's lock": lambda: flock(registry + "/" + project + "/..LOCK", os.O_RDONLY),
    "hold the registry's lock": lambda: flock(registry + "/..LOCK", os.O_RDONLY),
    "write to the registry": lambda: write(registry + "/x", b""),
    "make an asset": lambda: os.mkdir(registry + "/" + project + "/x"),
    "remove the marker": lambda: os.unlink(registry + "/..gobblerd"),
    "see transactions": lambda: os.listdir(registry + "/..transactions"),
    "commit a record": lambda: write(registry + "/..transactions/committed/x", b"{}"),
    "remove another's request": lambda: os.unlink(staging + "/" + name),
    "rename another's request": lambda: os.rename(staging + "/" + name, staging + "/request-delete_project-x"),
    "change another's request": lambda: write(staging + "/" + name, b"{}"),
}.items():
    try:
        do()
    except PermissionError:
        continue
    except OSError as error:
        print(what, repr(error))
    else:
        print(what)
"""


def test_forged_answers_and_held_locks(service: ServiceDaemon, users: Users) -> None:
    """A user can write, move, remove or lock nothing of the daemon's, nor of another user's."""
    service.upload("p/a/1", {"f": b"1"}, users.alice)
    with locked(service, "p"):  # so that the lock file is there
        name = service.drop("health_check", {}, users.alice)
        assert service.wait(name).code == 200
    assert try_as(users.bob, FORGE, service.staging, service.registry, name, "p") == []
    assert service.post(name).code == 200


def test_requests_that_are_huge_or_deep_cost_no_memory(service: ServiceDaemon, users: Users) -> None:
    """2 GiB of holes, 4 MiB of brackets, thirty of each: refused, and the daemon has not grown by their size."""
    service.done("health_check", {})
    before = vitals_of(service.pid)
    for number in range(30):
        sparse = drop_request(service.staging, f"tmp-{number}", b"{", users.bob)
        os.truncate(os.path.join(service.staging, sparse), 2 << 30)
        name = f"request-refresh_usage-sparse{number}"
        os.rename(os.path.join(service.staging, sparse), os.path.join(service.staging, name))
        assert service.post(name).code == 413
        opening = service.drop("refresh_usage", b'{"x":' + b"[" * (4 * MEGABYTE - 10), users.bob)
        assert service.post(opening).code == 400
        closed = b"[" * (MEGABYTE // 2) + b"]" * (MEGABYTE // 2)
        assert service.ask("refresh_usage", b'{"project":"p","x":' + closed + b"}", users.bob).code == 400
    assert vitals_of(service.pid).peak - before.peak < 150 * MEGABYTE


# ---- reading


def test_reading_outside_the_registry(service: ServiceDaemon, prey: Prey, users: Users) -> None:
    """No spelling of a path and no link that lies in the registry gets at a file that the daemon could read."""
    service.upload("p/a/1", {"f": b"1"}, users.alice)
    home = os.path.basename(prey.service)
    os.symlink(f"{prey.service}/d/f", service.path("p/a/1/planted"))
    os.symlink(prey.service, service.path("p/a/1/directory"))
    os.symlink(f"../../../../{home}/d/f", service.path("p/relative"))
    depth = ["../" * n for n in range(1, 8)]
    paths = [f"{up}{home}/d/f" for up in depth] + [f"p/a/1/{up}{home}/d/f" for up in depth]
    paths += [
        f"{prey.service}/d/f",
        f"/{prey.service}/d/f",
        "p/a/1/planted",
        "p/a/1/directory/d/f",
        "p/relative",
    ]
    paths += ["p/a/1/directory", "..transactions", "..gobblerd", "..LOCK", "p/..LOCK", "p/a/1/f/."]
    for path in paths:
        for spelled in {
            path,
            quote(path),
            quote(path, safe=""),
            path.replace("../", "..%2f"),
            quote(quote(path)),
        }:
            for before in ("/fetch/", "/list?path=", "/list?recursive=true&path=", "/response/", "/new/"):
                reply = raw(service, "POST" if before == "/new/" else "GET", before + spelled)
                assert SECRET not in reply, (before, spelled)
                assert b'"d/f"' not in reply, (before, spelled)
                assert b"Traceback" not in reply
    assert executions(service).keys() == {e["request"] for e in answered(service)}
    for name in ("p/a/1/planted", "p/a/1/directory", "p/relative"):
        os.unlink(service.path(name))


def test_http_that_is_none_is_logged_briefly(service: ServiceDaemon) -> None:
    """Anybody can send nonsense as often as they like: a 4xx, and no traceback in the log for each."""
    for target in ("/fetch/\0", "/list?path=p\0/../..", "/new/\x7f", " ", "/fetch/" + "x" * 10_000):
        reply = raw(service, "GET", target)
        assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), reply[:200]
        assert b"Traceback" not in reply
        assert b"site-packages" not in reply
    assert raw(service, "G\0T", "/info").startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert "Traceback" not in service.logged()
    assert service.get("/info").code == 200


def raw(daemon: RunningDaemon, method: str, target: str) -> bytes:
    """Send a request whose target no client library has tidied up; return all that comes back."""
    with socket.create_connection(("127.0.0.1", daemon.port)) as client:
        client.sendall(
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1")
        )
        reply = b""
        while part := client.recv(65536):
            reply += part
    return reply
