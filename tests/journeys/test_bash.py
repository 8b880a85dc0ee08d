"""Anyone with a shell is a client: bash and coreutils only, by file drops only, HTTP switched off."""

import contextlib
import json
import os
import subprocess

import pytest
from support.checker import assert_clean
from support.daemon import RunningDaemon, StartDaemon
from support.places import ROOT, Users, as_user

# What a page of documentation would tell a user to write. Every command below is bash's or coreutils'.
ASK = r"""
set -eu
ask() {  # ask ACTION DOCUMENT: drop a request, wait, print the response; fails if it is none
  local temporary name
  temporary=$(mktemp "$STAGING/tmp-XXXXXXXX")
  printf '%s' "$2" > "$temporary"
  chmod 644 "$temporary"                       # mktemp makes 0600
  name="request-$1-${temporary##*/tmp-}"
  mv "$temporary" "$STAGING/$name"
  for _ in {1..600}; do
    if [ -e "$STAGING/responses/$name" ]; then cat "$STAGING/responses/$name"; return 0; fi
    sleep 0.05
  done
  return 1
}
"""
UPLOAD = r"""
source=$(mktemp -d "$STAGING/results-XXXXXXXX")
chmod 755 "$source"
cp -r "$DATA/." "$source/"
ask upload "{\"project\":\"proj\",\"asset\":\"data\",\"version\":\"1\",\"source\":\"${source##*/}\"}"
"""


def run_bash(daemon: RunningDaemon, script: str, user: str = ROOT, **variables: str) -> str:
    """Run a script as a user with nothing but PATH, STAGING, REGISTRY and the given variables."""
    result = subprocess.run(
        [*as_user(user), "bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "STAGING": daemon.staging, "REGISTRY": daemon.registry, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd="/",
        text=True,
    )
    assert result.returncode == 0, f"{result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> RunningDaemon:
    return start_daemon(http=False)


def test_a_user_with_bash_alone(daemon: RunningDaemon, users: Users) -> None:
    """Create a project, upload a directory, read the manifest, get a clear error for the version's second upload."""
    data = os.path.join(os.path.dirname(daemon.staging), "data")
    os.makedirs(os.path.join(data, "plots", "none"))
    for name, text in {"table.csv": "a,b\n", "plots/one.svg": "<svg/>\n"}.items():
        with open(os.path.join(data, name), "w", encoding="utf-8") as file:
            file.write(text)

    project = json.dumps({"project": "proj", "permissions": {"owners": [users.alice]}})
    created = json.loads(run_bash(daemon, ASK + 'ask create_project "$PROJECT"', PROJECT=project))
    assert (created["status"], created["code"], created["user"]) == ("SUCCESS", 200, ROOT)

    uploaded = json.loads(run_bash(daemon, ASK + UPLOAD, users.alice, DATA=data))
    assert (uploaded["status"], uploaded["action"], uploaded["user"]) == ("SUCCESS", "upload", users.alice)
    assert uploaded["request"].startswith("request-upload-")

    manifest = json.loads(run_bash(daemon, 'cat "$REGISTRY/proj/data/1/..manifest"', users.alice))
    assert {path: entry["size"] for path, entry in manifest.items()} == {
        "table.csv": 4,
        "plots/one.svg": 7,
        "plots/none": 0,
    }
    assert run_bash(daemon, 'cat "$REGISTRY/proj/data/1/plots/one.svg"', users.alice) == "<svg/>\n"

    again = json.loads(run_bash(daemon, ASK + UPLOAD, users.alice, DATA=data))
    assert (again["status"], again["code"]) == ("ERROR", 400)
    assert "exists" in again["reason"]
    assert '"1"' in again["reason"] or "proj/data/1" in again["reason"]
    assert_clean(daemon.registry)


def test_a_script_may_write_the_final_name_in_place(daemon: RunningDaemon) -> None:
    """`cat > request-...` works as well as a rename."""
    script = r"""
    set -eu
    name=request-create_project-in-place
    printf '{"project":' > "$STAGING/$name"; sleep 0.2; printf '"slow"}' >> "$STAGING/$name"
    until [ -e "$STAGING/responses/$name" ]; do sleep 0.05; done
    cat "$STAGING/responses/$name"
    """
    assert json.loads(run_bash(daemon, script))["status"] == "SUCCESS"
    assert daemon.read("slow", "..usage") == {"total": 0}


def test_the_registry_is_read_only_to_users(daemon: RunningDaemon, users: Users) -> None:
    """A user can neither write into the registry nor forge a response."""
    daemon.done("create_project", {"project": "proj"})
    script = r"""
    for place in "$REGISTRY" "$REGISTRY/proj" "$STAGING/responses"; do
      if : 2>/dev/null > "$place/mine"; then echo "wrote into $place"; fi
    done
    """
    assert not run_bash(daemon, script, users.bob)


def test_port_zero_means_no_http(daemon: RunningDaemon) -> None:
    """With port 0 the daemon listens on nothing."""
    sockets = set()  # socket:[inode]
    for fd in os.listdir(f"/proc/{daemon.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(os.readlink(f"/proc/{daemon.pid}/fd/{fd}"))
    listening = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}", encoding="ascii") as file:
            rows = [line.split() for line in file][1:]
        listening += [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    assert not listening
