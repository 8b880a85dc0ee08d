"""Importing the client is cheap: the standard library, the domain, and of both only what every use needs."""

import json
import os
import subprocess
import sys

from support.daemon import PROJECT_ROOT

LOOK = """
import json, sys
before = set(sys.modules)
import gobblerd.client
gobblerd.client.Gobbler(staging="/nonexistent", registry="/nonexistent", url="http://nowhere")
print(json.dumps([sorted(set(sys.modules) - before), sorted(gobblerd.client.__all__)]))
"""
ROOMS = {"client", "domain"}
LATER = {
    "http.client",
    "urllib.request",
    "ssl",
    "socket",
    "subprocess",
    "shutil",
    "tempfile",
    "hashlib",
    "tomllib",
}


def loaded() -> tuple[list[str], list[str]]:
    command = [sys.executable, "-S", "-P", "-c", LOOK]
    environment = {"PYTHONPATH": PROJECT_ROOT, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, cwd="/")
    modules, names = json.loads(done.stdout)
    return modules, names


def test_nothing_of_the_server_is_imported() -> None:
    """Neither a room of the server nor anything that is not the standard library's."""
    modules, _ = loaded()
    own = {name.split(".")[1] for name in modules if name.startswith("gobblerd.")}
    assert own <= ROOMS
    others = {name.partition(".")[0] for name in modules} - {"gobblerd"}
    assert others <= sys.stdlib_module_names


def test_what_few_need_is_imported_when_needed() -> None:
    """HTTP, hashing, copying and starting cost nothing until they are used."""
    modules, _ = loaded()
    assert LATER.isdisjoint(modules)
    assert len([name for name in modules if not name.startswith("gobblerd.client")]) < 60


def test_names_are_there() -> None:
    """What is said to be exported is."""
    import gobblerd.client

    _, names = loaded()
    assert all(hasattr(gobblerd.client, name) for name in names)
