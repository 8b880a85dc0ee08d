"""Users who are not the daemon's: the client in a process of each one's own, by REST and by file.

The package is copied to where they can read it: with the standard library alone, that is all they need.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon
from support.places import Users, as_user, open_directory, write_tree
from support.pygobbler_user import interpreter_for

PROGRAM = """
import json, os, sys
os.umask(int(sys.argv[2], 8))
from gobblerd import client
function, arguments = json.loads(sys.argv[1])
try:
    print(json.dumps({"value": getattr(client, function)(**arguments)}))
except client.GobblerError as error:
    print(json.dumps({"code": error.code, "reason": error.reason}))
"""
Ask = Callable[..., dict[str, Any]]


class Site(NamedTuple):
    daemon: RunningDaemon
    base: str
    users: Users


@pytest.fixture(scope="module")
def site(start_module_daemon: StartDaemon, users: Users) -> Iterator[Site]:
    with open_directory() as base:
        for room in ("client", "domain"):
            shutil.copytree(
                os.path.join(PROJECT_ROOT, "gobblerd", room),
                os.path.join(base, "gobblerd", room),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        shutil.copy(os.path.join(PROJECT_ROOT, "gobblerd", "__init__.py"), os.path.join(base, "gobblerd"))
        write_tree(os.path.join(base, "results"), {"a": b"a", "sub/b": b"b", "none": None})
        daemon = start_module_daemon()
        daemon.done("create_project", {"project": "shared", "permissions": {"owners": [users.alice]}})
        yield Site(daemon, base, users)


def ask(site: Site, user: str, function: str, /, umask: str = "022", **arguments: Any) -> dict[str, Any]:
    """Call a function of the client as a user."""
    done = subprocess.run(
        [*as_user(user), interpreter_for(user), "-c", PROGRAM, json.dumps([function, arguments]), umask],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": site.base,
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("by_file", [False, True])
def test_journey_of_another_user(site: Site, by_file: bool) -> None:  # noqa: FBT001 - a parameter
    """A user without privileges uploads, another may not; both ways tell the same, and nothing is left in staging."""
    url = None if by_file else f"http://127.0.0.1:{site.daemon.port}"
    before = set(os.listdir(site.daemon.staging))
    place = {"project": "shared", "asset": f"asset-{by_file}", "version": "1"}
    where = {"staging": site.daemon.staging, "url": url}
    upload = {**place, "directory": os.path.join(site.base, "results"), **where}
    assert ask(site, site.users.alice, "upload_directory", **upload, concurrent=2) == {"value": None}
    assert site.daemon.read(*place.values(), "..summary")["upload_user_id"] == site.users.alice
    refused = ask(site, site.users.bob, "upload_directory", **{**upload, "version": "2"})
    assert refused["code"] == 403
    assert site.users.bob in refused["reason"]
    manifest = ask(site, site.users.bob, "fetch_manifest", **place, registry=site.daemon.registry, url=url)
    assert set(manifest["value"]) == {"a", "sub/b", "none"}
    assert set(os.listdir(site.daemon.staging)) == before


def test_one_cache_for_all(site: Site) -> None:
    """What one user fetched with the usual umask, another can use from the same cache."""
    url = f"http://127.0.0.1:{site.daemon.port}"
    site.daemon.upload("shared/cached/1", {"f": b"1"}, site.users.alice)
    cache = os.path.join(site.base, "cache")
    os.mkdir(cache)
    os.chmod(cache, 0o777)
    fetch = {"path": "shared/cached/1", "registry": None, "url": url, "cache": cache}
    first = ask(site, site.users.alice, "fetch_directory", **fetch)
    assert ask(site, site.users.bob, "fetch_directory", **fetch) == first
    assert os.stat(os.path.join(first["value"], "f")).st_mode & 0o777 == 0o644
