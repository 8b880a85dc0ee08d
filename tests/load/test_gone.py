"""Staging or registry unmounted under the daemon and mounted again: no answer but a true one, nothing in the wrong place."""

import os
import subprocess
import sys

from support.checker import assert_clean
from support.crowd import bound, detach, executions, showing_log, wait_for_all
from support.daemon import PROJECT_ROOT, RunningDaemon, eventually
from support.places import drop_request, make_directory, request_name

OFTEN = {"sweep_interval_local": 0.5, "durability": "process", "lock_timeout": 3}


def mount_again(source: str, target: str) -> None:
    subprocess.run(["mount", "--bind", source, target], check=True)


def is_well(daemon: RunningDaemon) -> bool:
    return daemon.get("/healthz").code == 200


def test_a_registry_that_is_gone_for_a_while(base: str) -> None:
    """503 or 500 while it is away, nothing made in the empty mount point; afterwards everything works."""
    real = make_directory(os.path.join(base, "disk"), 0o755)
    point = make_directory(os.path.join(base, "mounted"), 0o755)
    staging = os.path.join(base, "st")
    with bound(real, point):
        initialise(staging, f"{point}/registry")
        settings = {**OFTEN, "require_marker": True}
        daemon = RunningDaemon(base, staging=staging, registry=f"{point}/registry", settings=settings)
        daemon.may_log_traceback = True
        with showing_log(daemon):
            daemon.done("create_project", {"project": "p"})
            daemon.upload("p/a/1", {"f": b"1"})
            detach(point)
            codes = {
                daemon.ask("create_project", {"project": "away"}).code,
                daemon.ask("upload", upload_of(daemon, "2")).code,
                daemon.ask("delete_project", {"project": "p"}).code,
            }
            assert codes <= {500, 503}, codes
            assert daemon.ask("health_check", {}).code == 200
            assert daemon.get("/fetch/p/a/1/f").code >= 400
            eventually(lambda: not is_well(daemon), "/healthz to say so")
            assert os.listdir(point) == []
            mount_again(real, point)
            eventually(lambda: is_well(daemon), "/healthz to be well again")
            daemon.done("upload", upload_of(daemon, "3"))
            assert daemon.get("/fetch/p/a/1/f").data == b"1"
            assert sorted(name for name in os.listdir(f"{point}/registry/p/a") if name[0] != ".") == [
                "1",
                "3",
            ]
            assert_clean(f"{point}/registry")  # what was put off meanwhile is finished every two seconds


def upload_of(daemon: RunningDaemon, version: str) -> dict[str, str]:
    return {
        "project": "p",
        "asset": "a",
        "version": version,
        "source": daemon.source({"f": version.encode()}),
    }


def initialise(staging: str, registry: str) -> None:
    """Make both directories as an administrator does, with the registry's marker."""
    command = [sys.executable, "-m", "gobblerd", "init", staging, registry]
    subprocess.run(command, check=True, cwd=PROJECT_ROOT, capture_output=True)


def test_a_staging_directory_that_is_gone_for_a_while(base: str) -> None:
    """What was dropped is answered once, before or after; what lies in the mount point below is never looked at."""
    real = make_directory(os.path.join(base, "disk"), 0o1777)
    point = make_directory(os.path.join(base, "mounted"), 0o1777)
    with bound(real, point), showing_log(RunningDaemon(base, staging=point, settings=OFTEN)) as daemon:
        names = [daemon.drop("create_project", {"project": f"p{n}"}) for n in range(20)]
        detach(point)
        below = drop_request(point, request_name("create_project"), {"project": "below"})
        eventually(lambda: not is_well(daemon), "/healthz to say so")
        away = [drop_request(real, request_name("create_project"), {"project": f"a{n}"}) for n in range(5)]
        mount_again(real, point)
        eventually(lambda: is_well(daemon), "/healthz to be well again")
        names += [*away, daemon.drop("create_project", {"project": "back"})]
        wait_for_all(daemon, names)
        assert {daemon.wait(name).code for name in names} == {200}
        done = executions(daemon)
        assert {done[name] for name in names} == {1}
        assert not os.path.exists(daemon.path("below"))
        assert not daemon.has_response(below)
