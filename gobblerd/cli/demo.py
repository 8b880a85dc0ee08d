"""`gobblerd demo`: a real daemon on temporary directories, a few requests dropped and answered.

Everything that the page shows happens: the daemon is `gobblerd serve` in a process of its own, and the
requests are files. Known limit: if this program is killed with SIGKILL, the daemon and the directories
stay.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from gobblerd.client.service import own_name
from gobblerd.registry import layout

SERVER = (sys.executable, "-P", "-m", "gobblerd", "serve")  # -P: nothing of where we happen to be
_START_TIMEOUT = 20.0  # seconds
_ANSWER_TIMEOUT = 30.0
_STOP_TIMEOUT = 30.0
_POLL = 0.02
_PORTS = range(20_000, 30_000)
_PORTS_TRIED = 100
_PROJECT, _ASSET, _VERSION = "weather", "berlin", "2026-11"
_FILES = {
    "temperatures.csv": "day,celsius\n1,7.5\n2,6.1\n",
    "notes/README.txt": "Measured on the roof.\n",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demonstration takes place."""

    staging: str
    registry: str
    url: str
    log: str


@click.command("demo")
@click.option("--once", is_flag=True, help="End after showing, instead of serving until interrupted.")
def command(*, once: bool) -> None:
    """Show gobblerd at work on temporary directories, then serve them until interrupted (Ctrl-C)."""
    run(Console(), SERVER, once=once)


def run(console: Console, server: Sequence[str], *, once: bool) -> None:
    """Do what the command says, with `server` as the program that takes the options of `serve`."""
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt), _place() as place, _serving(place, server) as child:
        said = f"gobblerd serves {place.staging} and {place.registry} at {place.url}"
        console.print(said, markup=False, soft_wrap=True)
        for action, document in _requests(place):
            _show_exchange(console, place, child, action, document)
        _show_registry(console, place)
        _show_way_in(console, place)
        if not once:
            console.print("Serving until interrupted (Ctrl-C) ...", markup=False)
            raise click.ClickException(f"the daemon ended with {child.wait()}; {_last_words(place)}")
    console.print("Stopped; the directories are removed.", markup=False)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="gobblerd-demo-", ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o755)  # noqa: S103 - other users may drop requests too
        staging, registry = os.path.join(root, "staging"), os.path.join(root, "registry")
        os.mkdir(staging)
        os.chmod(staging, 0o1777)  # noqa: S103 - as `gobblerd init` does
        os.mkdir(registry)
        os.chmod(registry, 0o755)  # noqa: S103 - as above, whatever the umask
        yield Place(staging, registry, f"http://127.0.0.1:{_free_port()}", os.path.join(root, "log"))


def _free_port() -> int:
    """Return a port that is free, below those that the kernel gives to clients.

    Among those, a client that knocks until somebody listens can end up connected to itself.
    """
    reason = ""
    for port in random.sample(_PORTS, _PORTS_TRIED):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return port
    raise click.ClickException(f"no free port on 127.0.0.1: {reason}")


@contextlib.contextmanager
def _serving(place: Place, server: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon for a block."""
    port = place.url.rpartition(":")[2]
    options = [f"--staging={place.staging}", f"--registry={place.registry}", "--host=127.0.0.1"]
    options += [f"--port={port}", f"--administrators={own_name()}"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GOBBLERD_")}
    with open(place.log, "wb") as log:
        child = subprocess.Popen(  # noqa: S603 - ourselves, with arguments of our own
            [*server, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,  # so that Ctrl-C reaches us alone, and we stop it in order
        )  # fmt: skip
    try:
        _wait_until_serving(place, child)
        yield child
    finally:
        _stop(child)


def _wait_until_serving(place: Place, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    host, _, port = place.url.removeprefix("http://").partition(":")
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise click.ClickException(f"the daemon ended with {child.returncode}; {_last_words(place)}")
        connection = http.client.HTTPConnection(host, int(port), timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(_POLL)
        else:
            return
        finally:
            connection.close()
    raise click.ClickException(f"no daemon at {place.url} after {_START_TIMEOUT:g} s; {_last_words(place)}")


def _last_words(place: Place) -> str:
    with open(place.log, encoding="utf-8", errors="replace") as log:
        lines = log.read().strip().splitlines()[-5:]
    return "its last lines: " + "\n  ".join(["", *lines]) if lines else "it said nothing"


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _requests(place: Place) -> Iterator[tuple[str, Mapping[str, Any]]]:
    version = {"project": _PROJECT, "asset": _ASSET, "version": _VERSION}
    yield "create_project", {"project": _PROJECT}
    yield "upload", {**version, "source": _source(place)}
    yield "upload", {**version, "source": _source(place)}  # refused: a version never changes
    uploaders = [{"id": "a_colleague", "asset": _ASSET, "trusted": False}]
    yield "set_permissions", {"project": _PROJECT, "permissions": {"uploaders": uploaders}}
    yield "health_check", {}


def _source(place: Place) -> str:
    """Make a directory to upload, with a link in it; returns its name."""
    path = tempfile.mkdtemp(prefix="upload-", dir=place.staging)
    os.chmod(path, 0o755)  # noqa: S103 - the daemon may be another user
    for name, text in _FILES.items():
        file = os.path.join(path, name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)
    os.symlink("temperatures.csv", os.path.join(path, "newest.csv"))
    return os.path.basename(path)


def drop(staging: str, action: str, document: Mapping[str, Any]) -> str:
    """Drop a request as any client would: write it elsewhere, then rename; returns its name."""
    fd, path = tempfile.mkstemp(prefix="new-", dir=staging)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.chmod(path, 0o644)
    name = f"request-{action}-{os.path.basename(path).removeprefix('new-')}"
    os.rename(path, os.path.join(staging, name))
    return name


def _show_exchange(
    console: Console, place: Place, child: subprocess.Popen[bytes], action: str, document: Mapping[str, Any]
) -> None:
    name = drop(place.staging, action, document)
    console.print()
    console.print(Text(name, style="bold"), soft_wrap=True)
    console.print_json(data=document, indent=None)
    response = _answer(place, child, name)
    succeeded = response.get("status") == "SUCCESS"
    console.print(Text(f"-> responses/{name}", style="green" if succeeded else "red"), soft_wrap=True)
    console.print_json(data=response, indent=2)


def _answer(place: Place, child: subprocess.Popen[bytes], name: str) -> Mapping[str, Any]:
    """Wait for the response file."""
    path = os.path.join(place.staging, "responses", name)
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            found: Mapping[str, Any] = json.load(file)
            return found
        if child.poll() is not None:
            raise click.ClickException(f"the daemon ended with {child.returncode}; {_last_words(place)}")
        time.sleep(_POLL)
    raise click.ClickException(f"no response to {name} after {_ANSWER_TIMEOUT:g} s; {_last_words(place)}")


def _show_registry(console: Console, place: Place) -> None:
    tree = Tree(Text(place.registry, style="bold"))
    _grow(tree, place.registry)
    console.print()
    console.print(tree, soft_wrap=True)
    manifest = os.path.join(place.registry, _PROJECT, _ASSET, _VERSION, layout.MANIFEST)
    if not os.path.exists(manifest):
        raise click.ClickException("the upload did not succeed: its response above says why")
    console.print()
    console.print(Text(manifest, style="bold"), soft_wrap=True)
    with open(manifest, encoding="utf-8") as file:
        console.print_json(data=json.load(file), indent=2)


def _grow(tree: Tree, directory: str) -> None:
    """Add what readers see of a directory: no locks, no transactions."""
    with os.scandir(directory) as entries:
        shown = sorted((e for e in entries if e.name not in layout.HIDDEN), key=lambda entry: entry.name)
    for entry in shown:
        if entry.is_symlink():
            tree.add(Text(f"{entry.name} -> {os.readlink(entry.path)}", style="cyan"))
        elif entry.is_dir():
            _grow(tree.add(Text(f"{entry.name}/", style="blue")), entry.path)
        else:
            tree.add(Text(entry.name, style="dim" if entry.name.startswith("..") else ""))


def _show_way_in(console: Console, place: Place) -> None:
    said = (
        "",
        "Drop a request of your own, from any language that can write and rename a file:",
        f"  cd {place.staging}",
        '  echo \'{"project": "mine"}\' > new-1 && mv new-1 request-create_project-1',
        "  cat responses/request-create_project-1",
        f"or look from afar: {place.url}/  {place.url}/list?recursive=true",
    )
    for line in said:
        console.print(line, markup=False, soft_wrap=True)
