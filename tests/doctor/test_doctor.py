"""Each of the doctor's checks, in a situation in which it must not be content."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from doctor.clinic import ACCOUNT, STRANGER, Clinic, injecting, mounted, need, replacing
from support.crowd import libfaketime, python_for
from support.daemon import PROJECT_ROOT
from support.places import as_user, ids_of

from gobblerd.cli.doctor.storage import _reach
from gobblerd.staging.mounts import Filesystem

Arrange = Callable[[Clinic], None]


def tree(base: str) -> dict[str, tuple[int, int]]:
    found = {}
    for directory, names, files in os.walk(base):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            found[os.path.relpath(path, base)] = (info.st_mode, info.st_uid)
    return {path: what for path, what in found.items() if "..transactions" not in path}


def test_a_healthy_site(clinic: Clinic) -> None:
    """Nothing to complain of, exit code 0, and nothing left behind."""
    clinic.project("p")
    before = tree(clinic.base)
    report = clinic.examine()
    assert (report.troubled, report.code) == (set(), 0), report
    assert tree(clinic.base) == before
    meeting = os.path.join(clinic.registry, "..transactions", "state", "doctor")
    assert os.listdir(meeting) == []
    assert os.stat(meeting).st_mode & 0o777 == 0o700


def test_as_the_account_itself_it_says_what_only_root_could_try(clinic: Clinic) -> None:
    report = clinic.examine(prefix=as_user(ACCOUNT))
    assert (report.troubled, report.code) == (set(), 0), report
    assert report["users-drop"].result == "skipped"
    assert "only root" in report["users-drop"].found
    assert report["peer-locks"].result == "skipped"


def test_for_people_it_says_why_and_how_to_mend(clinic: Clinic) -> None:
    os.chmod(clinic.staging, 0o777)
    command = [word for word in clinic.command() if word != "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "FAIL    staging-mode" in ran.stdout
    assert "        why:  Anyone drops requests there" in ran.stdout
    assert "        mend: chown it to the account (or root) and chmod 1777" in ran.stdout


def test_without_places_it_says_what_it_needs(clinic: Clinic) -> None:
    command = clinic.command("--config", os.path.join(clinic.base, "none.toml"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    command = clinic.command(base=f"{clinic.base}/none")
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "is not a directory; mount it, or make it with `gobblerd init`" in ran.stderr


def test_it_asks_for_somebody_to_be(clinic: Clinic) -> None:
    for user, said in (("root", "root may do everything"), ("gbl-nobody-of-that-name", "there is no user")):
        ran = subprocess.run(clinic.command("--user", user), capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert said in ran.stderr


def shell(script: str) -> Arrange:
    """Arrange by a shell script that knows the places and users."""

    def arrange(clinic: Clinic) -> None:
        names = {"S": clinic.staging, "R": clinic.registry, "ACCOUNT": ACCOUNT, "STRANGER": STRANGER}
        subprocess.run(["sh", "-euc", script], env={**os.environ, **names}, check=True)

    return arrange


RESPONSES = 'mkdir -m 755 "$S/responses"; chown $ACCOUNT "$S/responses"; '
PROJECT = 'mkdir -m 755 "$R/p"; chown $ACCOUNT "$R/p"; '
SITUATIONS = [
    ("staging-mode", "fail", "without the sticky bit", 'chmod 777 "$S"'),
    ("staging-mode", "fail", "cannot drop anything", 'chmod 1755 "$S"'),
    ("staging-mode", "fail", "who can remove everybody's files", 'chown $STRANGER "$S"'),
    ("staging-mode", "warn", "only some users", 'chmod 1770 "$S"'),
    ("responses", "fail", "is not a directory", 'touch "$S/responses"'),
    ("responses", "fail", "belongs to user", f'{RESPONSES} chown $STRANGER "$S/responses"'),
    ("responses", "fail", "has mode 0777", f'{RESPONSES} chmod 777 "$S/responses"'),
    ("responses", "fail", "has mode 0700", f'{RESPONSES} chmod 700 "$S/responses"'),
    ("registry-mode", "fail", "others than", 'chmod 775 "$R"'),
    ("registry-mode", "fail", "others than", f'{PROJECT} chmod 757 "$R/p"'),
    ("registry-mode", "fail", "belongs to user", f'{PROJECT} chown $STRANGER "$R/p"'),
    ("registry-mode", "warn", "not everybody can read", 'chmod 750 "$R"'),
    ("acl", "warn", "has no default ACL", 'setfacl -k "$S"'),
    ("acl", "fail", "does not let", 'setfacl -k "$S"; setfacl -d -m u:$STRANGER:rwx "$S"'),
    ("acl", "fail", "does not let", 'setfacl -d -m m::--- "$S"'),
    ("uploads", "warn", "1 of 1 entries", 'mkdir -m 700 "$S/x"; setfacl -b "$S/x"; chown $STRANGER "$S/x"'),
    ("marker", "fail", "is not there", 'rm "$R/..gobblerd"'),
    ("marker", "fail", "is not a marker", 'echo "{}" > "$R/..gobblerd"'),
    ("names", "warn", "54321", 'touch "$S/x"; chown 54321 "$S/x"'),
    ("users-drop", "fail", "cannot write", 'chmod 1755 "$S"'),
    ("users-replace", "fail", "could rename", 'chmod 777 "$S"'),
    ("users-write-registry", "fail", "could make a file in", 'chmod 777 "$R/..logs"'),
    ("users-write-registry", "fail", "could make a file in", f'{PROJECT} setfacl -m u:$STRANGER:rwx "$R/p"'),
    ("users-read-registry", "fail", "cannot read", 'chmod 700 "$R"'),
    ("users-read", "warn", "not with umask 077", 'setfacl -k "$S"'),
    ("users-read", "fail", "with umask 022", 'setfacl -k "$S"; setfacl -d -m u::rwx,g::---,o::--- "$S"'),
]


@pytest.mark.parametrize(("check", "result", "found", "script"), SITUATIONS)
def test_what_is_wrong_is_found(clinic: Clinic, check: str, result: str, found: str, script: str) -> None:
    need("setfacl")
    shell(script)(clinic)
    report = clinic.examine()
    assert report[check].result == result, report
    assert found in report[check].found
    assert report.code == (1 if any(line.result == "fail" for line in report.lines.values()) else 0)


FAULTS = [
    ("rename", "fail", "Input/output error", ["rename,renameat,renameat2:error=EIO"]),
    ("link", "fail", "Operation not permitted", ["link,linkat:error=EPERM"]),
    ("fsync", "fail", "Input/output error", ["fsync:error=EIO"]),
    ("fsync", "warn", "takes", ["fsync:delay_enter=1100000"]),
    ("locks", "fail", "flock does not work here: Function not implemented", ["flock:error=ENOSYS"]),
    ("locks", "fail", "two holders", ["flock:retval=0"]),
    ("events", "warn", "no events can be had", ["inotify_init,inotify_init1:error=EMFILE"]),
    ("events", "fail", "no event came", ["inotify_add_watch:retval=1"]),
]


@pytest.mark.parametrize(("check", "result", "found", "faults"), FAULTS)
def test_a_filesystem_that_does_not_do_what_it_should(
    clinic: Clinic, check: str, result: str, found: str, faults: list[str]
) -> None:
    report = clinic.examine(prefix=injecting(*faults))
    assert report[check].result == result, report
    assert found in report[check].found


@pytest.mark.parametrize(
    ("check", "result", "path", "content"),
    [
        ("hardlinks", "fail", "/proc/sys/fs/protected_hardlinks", "0\n"),
        ("limits", "warn", "/proc/sys/fs/inotify/max_user_watches", "5\n"),
        ("limits", "warn", "/proc/sys/fs/inotify/max_user_instances", "1\n"),
    ],
)
def test_kernel_settings(clinic: Clinic, check: str, result: str, path: str, content: str) -> None:
    stand_in = Path(clinic.base, "stand-in")
    stand_in.write_text(content)
    assert clinic.examine(prefix=replacing(path, str(stand_in)))[check].result == result


def test_a_user_database_that_cannot_be_read(clinic: Clinic) -> None:
    """As when LDAP does not answer: that is not the same as a user without a name."""
    stand_in = Path(clinic.base, "passwd")
    stand_in.write_text(Path("/etc/passwd").read_text(encoding="utf-8"))
    stand_in.chmod(0o600)
    switch = Path(clinic.base, "nsswitch.conf")  # no other source that would say "there is no such user"
    switch.write_text("passwd: files\ngroup: files\n")
    prefix = [*replacing("/etc/nsswitch.conf", str(switch)), *replacing("/etc/passwd", str(stand_in))]
    report = clinic.examine(prefix=prefix)
    assert report["names"].result == "fail", report
    assert "could not be looked up" in report["names"].found


def test_few_open_files(clinic: Clinic) -> None:
    report = clinic.examine(prefix=[need("prlimit"), "--nofile=300:300"])
    assert report["limits"][:2] == ("warn", "only 300 files may be open at once")


def test_another_account(clinic: Clinic) -> None:
    """Who is neither root nor the account is told so, and nothing else is tried."""
    report = clinic.examine(prefix=as_user(STRANGER))
    assert report["account"].result == "fail"
    assert f"the registry is {ACCOUNT}'s" in report["account"].found
    assert "rename" not in report.lines
    assert report.code == 1


def test_an_interpreter_that_the_account_may_not_execute(clinic: Clinic) -> None:
    """As that of a virtual environment which root made from one in root's home."""
    home = Path(clinic.base, "home")
    home.mkdir(0o700)
    *env, python = python_for(ACCOUNT)
    Path(home, "python").symlink_to(python)
    report = clinic.examine(python=[*env, f"{home}/python"])
    assert report["interpreter"].result == "fail", report
    assert report["interpreter"].found.startswith(f"{home}/python (")
    assert "Permission denied" in report["interpreter"].found
    assert clinic.examine(python=[*env, python])["interpreter"].result == "ok"


def test_a_package_that_the_account_may_not_read(clinic: Clinic) -> None:
    """As when root installed it under umask 077."""
    hidden = Path(clinic.base, "hidden")
    hidden.mkdir(0o755)
    Path(hidden, "aiohttp.py").touch(0o600)  # which the daemon imports, and the doctor does not
    env, path, *python = python_for(ACCOUNT)
    report = clinic.examine(python=[env, f"{path}:{hidden}".replace("=", f"={hidden}:"), *python])
    assert report["interpreter"].result == "fail", report
    assert "cannot import gobblerd" in report["interpreter"].found


def test_a_package_whose_extensions_were_not_built(clinic: Clinic) -> None:
    """It works, and is said to be the slower for it."""
    plain = Path(clinic.base, "plain")
    shutil.copytree(Path(PROJECT_ROOT, "gobblerd"), plain / "gobblerd", ignore=shutil.ignore_patterns("*.so"))
    env, path, *python = python_for(ACCOUNT)
    found = clinic.examine(python=[env, path.replace("=", f"={plain}:"), *python, "-P"])["interpreter"]
    assert found.result == "ok"
    assert "without extensions in C" in found.found


def test_root_as_the_account(clinic: Clinic) -> None:
    for path in (clinic.registry, os.path.join(clinic.registry, "..logs"), clinic.staging):
        os.chown(path, 0, 0)
    report = clinic.examine()
    assert report["account"].result == "warn"
    assert report["acl"].result == "warn"


def test_what_the_configuration_says(clinic: Clinic) -> None:
    """An administrator that there is not; a marker that is not asked for; events that are not wanted."""
    config = clinic.config(administrators=["root", "gbl-nobody-of-that-name"], watch="sweep")
    report = clinic.examine("--config", config)
    assert report["names"].result == "warn"
    assert "gbl-nobody-of-that-name" in report["names"].found
    assert "does not require it" in report["marker"].found
    assert report["events"].result == "skipped"
    os.unlink(os.path.join(clinic.registry, "..gobblerd"))
    assert clinic.examine("--config", config)["marker"].result == "warn"
    assert clinic.examine("--config", clinic.config(require_marker=True))["marker"].result == "fail"


def test_a_filesystem_without_acls(clinic: Clinic) -> None:
    with mounted("ramfs", clinic.staging, "-o", "mode=1777"):
        os.chmod(clinic.staging, 0o1777)
        report = clinic.examine()
    assert report["acl"].result == "warn", report
    assert "has no POSIX ACLs" in report["acl"].found
    assert report["space"].result in {"ok", "skipped"}


def test_a_project_that_renames_do_not_reach(clinic: Clinic) -> None:
    """A mount inside the registry; a quota or a fileset gives the same error."""
    clinic.project("fine")
    with mounted("tmpfs", clinic.project("apart")):
        os.chown(os.path.join(clinic.registry, "apart"), *ids_of(ACCOUNT))
        report = clinic.examine()
    assert report["projects"].result == "fail", report
    assert f"{clinic.registry}/apart: it is another filesystem, quota or fileset" in report["projects"].found


@pytest.mark.parametrize(
    ("options", "fill", "found"),
    [("size=2m,mode=1777", 1_900_000, "GB (0 %) free"), ("size=2m,mode=1777,nr_inodes=8", 0, "inodes")],
)
def test_a_full_disk(clinic: Clinic, options: str, fill: int, found: str) -> None:
    with mounted("tmpfs", clinic.staging, "-o", options):
        if fill:
            Path(clinic.staging, "fat").write_bytes(bytes(2 << 20)[: (2 << 20) - 16384])
            found = "free"
        else:
            for number in range(7):
                Path(clinic.staging, str(number)).touch()
        report = clinic.examine()
    assert report["space"].result == "fail", report
    assert found in report["space"].found
    if not fill:  # then no other filesystem is what is to be advised, as where renames do not work
        assert (report["rename"].result, report["rename"].mend) == ("fail", "make room there (df -h; df -i)")


@pytest.mark.parametrize(("ahead", "result"), [("+10m", "fail"), ("+20s", "warn")])
def test_a_clock_that_is_wrong(clinic: Clinic, ahead: str, result: str) -> None:
    faked = {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    report = clinic.examine(environ={**faked, "LD_PRELOAD": libfaketime(), "FAKETIME": ahead})
    assert report["clock"].result == result, report


@pytest.mark.parametrize(
    ("kind", "options", "result", "found"),
    [
        ("nfs4", "rw,local_lock=none", "ok", "only --peer can tell"),
        ("nfs4", "rw,local_lock=flock", "warn", "only one daemon may serve"),
        ("lustre", "rw,localflock", "warn", "only one daemon may serve"),
        ("lustre", "rw,flock", "ok", "only --peer can tell"),
        ("ext4", "rw", "ok", "local to this machine"),
    ],
)
def test_mount_options_that_keep_locks_on_one_node(kind: str, options: str, result: str, found: str) -> None:
    """By the manuals of nfs(5) and Lustre; neither is there to be mounted."""
    judged = _reach(Filesystem(kind, frozenset(options.split(","))))
    assert judged.result == result
    assert found in judged.text


def test_every_line_is_explained_in_the_guide(clinic: Clinic) -> None:
    """docs/alerts.md has a row for each check, and none for others."""
    from support.daemon import PROJECT_ROOT

    with open(os.path.join(PROJECT_ROOT, "docs", "alerts.md"), encoding="utf-8") as file:
        table = file.read().partition("<!-- doctor: begin -->")[2].partition("<!-- doctor: end -->")[0]
    rows = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    ran = subprocess.run(clinic.command(), capture_output=True, check=False)
    assert rows == {line["name"] for line in json.loads(ran.stdout)}
