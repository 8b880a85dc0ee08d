"""`start_gobbler`: a daemon of one's own that serves when it returns, and is gone when its user is."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from support.daemon import PROJECT_ROOT, eventually

PRELUDE = "import json, os, sys\nimport gobblerd.client as client\n"


def run(program: str, *arguments: str, code: int = 0) -> Any:
    """Run a program that prints JSON; it leaves no process behind."""
    mark = f"START_GOBBLER_TEST={os.urandom(8).hex()}"
    name, _, value = mark.partition("=")
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", PRELUDE + program, *arguments],
        env={**os.environ, "PYTHONPATH": PROJECT_ROOT, name: value, "GOBBLERD_PORT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == code, done.stderr
    assert not processes(mark)
    return json.loads(done.stdout) if done.stdout else done.stderr


def processes(mark: str) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if mark.encode() in file.read().split(b"\0"):
                    found.append(int(entry))
        except OSError:
            continue
    return found


def test_life() -> None:
    """It serves at once, is found again, stops and can be started anew; what was temporary goes with the process."""
    found = run("""
first = client.start_gobbler()
again = client.start_gobbler()
client.create_project("p", first[1], first[3])
byfile = client.submit(first[1], None, "refresh_usage", {"project": "p"})
client.stop_gobbler()
client.stop_gobbler()
try:
    client.service_info(first[3])
except client.GobblerUnreachable as error:
    stopped = error.reason
there = os.path.exists(os.path.join(first[2], "p"))
third = client.start_gobbler(extra_args=["-probation", "30"])
print(json.dumps([first, again, byfile, stopped, there, third, client.service_info(third[3])]))
""")
    first, again, byfile, stopped, there, third, info = found
    assert first[0] is True
    assert again == [False, *first[1:]]
    assert byfile == {"total": 0}
    assert "cannot reach" in stopped
    assert there, "stopping removes nothing yet"
    assert third[0] is True
    assert third[1] != first[1]
    assert info == {"staging": third[1], "registry": third[2]}
    assert not any(os.path.exists(path) for path in (*first[1:3], *third[1:3]))


def test_places_of_one_s_own(tmp_path: Any) -> None:
    """Directories, port and administrators that are given are used, and left."""
    for name in ("s", "r"):
        (tmp_path / name).mkdir()
    found = run(
        """
staging, registry = sys.argv[1:]
os.chdir(os.path.dirname(staging))
started = client.start_gobbler("s", registry, admin=["somebody"])
try:
    client.create_project("p", started[1], started[3])
except client.GobblerError as error:
    print(json.dumps([started, error.code]))
""",
        str(tmp_path / "s"),
        str(tmp_path / "r"),
    )
    assert found[0][1:3] == [str(tmp_path / "s"), str(tmp_path / "r")]
    assert found[1] == 403
    assert os.path.isdir(tmp_path / "s" / "responses")


def test_start_that_fails() -> None:
    """If it does not start, the error holds what it said."""
    said = run('client.start_gobbler("/nonexistent/s")', code=1)
    assert "GobblerUnreachable" in said
    assert "/nonexistent/s is not there" in said


def test_a_port_that_another_program_takes_meanwhile() -> None:
    """Then it is started on another one; a port that its caller chose is not replaced."""
    port, said = run("""
import http.server, threading
from gobblerd.client import service
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass
other = http.server.HTTPServer(("127.0.0.1", service._free_port()), Handler)
threading.Thread(target=other.serve_forever, daemon=True).start()
taken = other.server_address[1]
ports = iter([taken, service._free_port()])
service._free_port = lambda: next(ports)
try:
    client.start_gobbler(port=taken)
except client.GobblerUnreachable as error:
    said = error.reason
print(json.dumps([client.start_gobbler()[3], said]))
""")
    assert port.startswith("http://127.0.0.1:")
    assert "Address already in use" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_its_user(number: int) -> None:
    """When the program that started it is killed, the daemon goes too."""
    program = PRELUDE + "print(client.start_gobbler()[1], flush=True)\nsys.stdin.read()"
    mark = f"START_GOBBLER_TEST={os.urandom(8).hex()}"
    name, _, value = mark.partition("=")
    environment = {**os.environ, "PYTHONPATH": PROJECT_ROOT, name: value}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-P", "-c", program], env=environment, **pipes) as process:  # type: ignore[call-overload]
        staging = process.stdout.readline().decode().strip()
        assert len(processes(mark)) >= 3
        process.send_signal(number)
        process.wait(60)
    eventually(lambda: not processes(mark), "the daemon to end")
    for path in {os.path.dirname(staging)} - {"/tmp"}:
        assert os.path.exists(path)
