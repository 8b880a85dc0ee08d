"""`gobbler` as another user, who can read neither the project nor its environment: packages copied, as installed."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from gobbler.shell import Shell, make_home
from support.daemon import PROJECT_ROOT, StartDaemon
from support.places import Users, as_user, give_to, make_directory, open_directory, write_tree
from support.pygobbler_user import interpreter_for


@pytest.fixture
def packages() -> Iterator[str]:
    """Yield a directory with what `gobbler` needs: itself, and click."""
    with open_directory() as path:
        shutil.copytree(os.path.join(PROJECT_ROOT, "gobblerd"), os.path.join(path, "gobblerd"))
        for file in importlib.metadata.files("click") or ():
            if file.suffix == ".py" and ".." not in file.parts:
                target = os.path.join(path, str(file))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
        yield path


def test_a_user_uploads_and_another_may_not(packages: str, start_daemon: StartDaemon, users: Users) -> None:
    """Who asks is the owner of the file; a home of mode 0700 and a private umask are no obstacle."""
    daemon = start_daemon(http=False)
    permissions = {"owners": [users.alice], "uploaders": [{"id": users.bob, "asset": "trial"}]}
    daemon.done("create_project", {"project": "lab", "permissions": permissions})
    with open_directory() as base:
        home = make_home(base)
        shell = Shell(home, daemon)
        data = os.path.join(home, "data")
        write_tree(data, {"x.csv": b"x\n"})
        make_directory(os.path.join(data, "empty"), 0o700)
        give_to(home, users.alice)
        os.chmod(home, 0o700)

        def run(user: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
            places = {"GOBBLER_STAGING": daemon.staging, "GOBBLER_REGISTRY": daemon.registry}
            if user != users.alice:
                places["HOME"] = "/nonexistent"
            return subprocess.run(
                [*as_user(user), interpreter_for(user), "-m", "gobblerd.cli.gobbler", *arguments],
                cwd="/",
                env={**shell.environment, "PYTHONPATH": packages, **places},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                umask=0o077,
            )

        done = run(users.alice, "upload", data, "lab", "set", "1")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(daemon.read("lab", "set", "1", "..manifest")) == ["empty", "x.csv"]
        assert daemon.read("lab", "set", "1", "..summary")["upload_user_id"] == users.alice
        refused = run(users.bob, "permissions", "set", "lab", "--owner", users.bob)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f'user "{users.bob}" may not' in refused.stderr

        write_tree(os.path.join(base, "bobs"), {"y": b"y"})
        untrusted = run(users.bob, "upload", os.path.join(base, "bobs"), "lab", "trial", "1")
        assert untrusted.returncode == 0, untrusted.stderr
        assert "on probation until an owner approves it" in untrusted.stdout
