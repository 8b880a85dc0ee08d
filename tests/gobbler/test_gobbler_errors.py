"""What goes wrong on the command line: a sentence without a traceback, and the exit code that scripts rely on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gobbler.shell import GOBBLER, Shell
from support.daemon import eventually, free_port
from support.places import make_directory, write_tree

USAGE, UNREACHABLE, TIMED_OUT = 2, 3, 4


@pytest.fixture
def silent(by_file: Shell) -> str:
    """Return a staging directory whose daemon is away."""
    path = os.path.join(by_file.home, f"silent-{os.urandom(3).hex()}")
    make_directory(make_directory(path, 0o1777) + "/responses", 0o755)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["ls", "--colour"],
        ["latest", "lab"],
        ["upload", "/nowhere", "p", "a", "v"],
        ["upload", "/dev/null", "p", "a", "v"],
        ["ls", "--timeout", "soon"],
        ["ls", "--timeout", "-1"],
        ["probation", "dance"],
        ["do", "dance"],
        ["do", "set_quota", "--project", "lab", "--baseline", "much"],
        ["request", "/nowhere.json"],
        ["request", "/"],
        ["info", "a/b/c/d"],
        ["permissions", "set", "lab", "--no-owners"],
        ["permissions", "set", "lab", "set", "--global-write"],
    ],
    ids=" ".join,
)
def test_wrong_usage(by_file: Shell, arguments: list[str]) -> None:
    """Exit code 2, what is wrong on standard error, and nothing on standard output."""
    said = by_file.refused(*arguments, code=USAGE)
    assert said.strip()
    assert by_file.left_in_staging() == []


def test_a_group_alone_shows_its_help(by_file: Shell) -> None:
    """Somebody who types `gobbler probation` wants to know what there is."""
    for name in ("probation", "permissions", "do"):
        result = by_file.run(name)
        assert result.code == USAGE
        assert "Commands:" in result.output + result.errors


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"GOBBLER_STAGING": ""}, "GOBBLER_STAGING"),
        ({"GOBBLER_STAGING": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"GOBBLER_STAGING": "/usr"}, "/usr"),
        ({"GOBBLER_URL": "http://127.0.0.1:{port}"}, "127.0.0.1:{port}"),
    ],
    ids=["none", "missing", "not one", "no HTTP there"],
)
def test_nobody_to_be_asked(by_file: Shell, variables: dict[str, str], says: str) -> None:
    """Exit code 3, for requests; the sentence says what to set or which place is none."""
    port = str(free_port())
    found = {key: value.format(port=port) for key, value in variables.items()}
    assert says.format(port=port) in by_file.refused("do", "health_check", code=UNREACHABLE, **found)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"GOBBLER_REGISTRY": ""}, "no registry is given"),
        ({"GOBBLER_REGISTRY": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"GOBBLER_REGISTRY": "", "GOBBLER_URL": "http://127.0.0.1:{port}"}, "127.0.0.1:{port}"),
    ],
    ids=["none", "missing", "no HTTP there"],
)
def test_nothing_to_be_read(by_file: Shell, variables: dict[str, str], says: str) -> None:
    """Exit code 3, for readers."""
    port = str(free_port())
    found = {key: value.format(port=port) for key, value in variables.items()}
    assert says.format(port=port) in by_file.refused("ls", code=UNREACHABLE, **found)


def test_no_answer_in_time(by_file: Shell, silent: str) -> None:
    """Exit code 4, a sentence that says what to check, and the request is withdrawn."""
    arguments = ("do", "health_check", "--staging", silent, "--timeout", "0.2")
    assert "is the daemon watching" in by_file.refused(*arguments, code=TIMED_OUT)
    result = by_file.run(*arguments, "--json")
    assert result.code == TIMED_OUT
    assert json.loads(result.output)["status"] == "ERROR"
    assert os.listdir(silent) == ["responses"]


def test_a_daemon_that_is_silent_for_long(by_file: Shell, silent: str) -> None:
    """Without --timeout it is given up some time, as nobody to be reached: exit code 3."""
    code = """if 1:
        import sys
        from gobblerd.client import drops
        from gobblerd.cli.gobbler.main import main
        drops.SILENCE = 0.2
        sys.argv[1:] = ["do", "health_check"]
        main()
    """
    with by_file.start([sys.executable, "-c", code], GOBBLER_STAGING=silent) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == UNREACHABLE
    assert "no gobblerd has answered" in errors


def test_the_timeout_may_come_from_the_environment(by_file: Shell, silent: str) -> None:
    """As the places do."""
    by_file.refused("do", "health_check", "--staging", silent, code=TIMED_OUT, GOBBLER_TIMEOUT="0.2")


def test_errors_as_json(by_file: Shell) -> None:
    """One document on standard output also then, with the code of the answer; the sentence stays where it was."""
    result = by_file.run("project", "remove", "..", "--json")
    document = json.loads(result.output)
    assert (result.code, document["status"], document["code"]) == (1, "ERROR", 400)
    assert document["reason"] in result.errors


@pytest.mark.parametrize(
    "arguments", [["dance"], ["latest", "lab"], ["fetch", "lab", "a", ">="]], ids=" ".join
)
def test_wrong_usage_as_json(by_file: Shell, arguments: list[str]) -> None:
    """A document then, too; without an answer there is no code."""
    result = by_file.run(*arguments, "--json")
    document = json.loads(result.output)
    assert (result.code, document["status"], document["code"]) == (USAGE, "ERROR", None)
    assert document["reason"] in result.errors


def test_permissions_of_a_project_that_is_not_there(shell: Shell) -> None:
    """The project is named, and not a file of the registry."""
    said = shell.refused("permissions", "set", "nowhere", "--owner", "anna")
    assert said.startswith("gobbler: there is no project nowhere: ")


def test_cloning_over_files(by_file: Shell) -> None:
    """The file that is in the way is named."""
    write_tree(os.path.join(by_file.home, "cloned"), {"x": b"x"})
    by_file.say("project", "create", "clones")
    by_file.say("upload", "cloned", "clones", "a", "1")
    said = by_file.refused("clone", "clones", "a", "1", "cloned")
    assert said == "gobbler: cloned/x: File exists\n"


def test_wrong_addresses(by_file: Shell) -> None:
    """A URL that is none, and a configuration file that is none, are wrong usage; the sentence names them."""
    assert "ftp://x" in by_file.refused("info", "--url", "ftp://x", code=USAGE)
    path = os.path.join(by_file.home, "config", "gobbler", "config.toml")
    write_tree(by_file.home, {"config/gobbler/config.toml": b"staging = 7\n"})
    assert path in by_file.refused("ls", code=USAGE, XDG_CONFIG_HOME=os.path.join(by_file.home, "config"))


def test_what_cannot_be_uploaded(by_file: Shell) -> None:
    """A FIFO is named, nothing blocks, nothing stays."""
    source = os.path.join(by_file.home, "odd")
    os.mkdir(source)
    os.mkfifo(f"{source}/pipe")
    assert "pipe" in by_file.refused("upload", source, "lab", "odd", "1", code=USAGE)
    assert "pipe" in by_file.refused("upload", source, "lab", "odd", "1", "--no-wait", code=USAGE)
    assert by_file.left_in_staging() == []


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting(by_file: Shell, silent: str, signalled: signal.Signals) -> None:
    """Ctrl-C, TERM and a terminal that is closed withdraw the request and remove the copy; the exit codes are a shell's."""
    source = os.path.join(by_file.home, f"source-{signalled}")
    write_tree(source, {"x": b"x"})
    before = signal.signal(signalled, signal.SIG_DFL)  # as a shell has it, though these tests run under nohup
    process = by_file.spawn("upload", source, "lab", "a", "1", "--staging", silent)
    signal.signal(signalled, before)
    with process:
        eventually(lambda: "request-" in "".join(os.listdir(silent)), "the request")
        process.send_signal(signalled)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signalled
    assert "Traceback" not in errors
    assert os.listdir(silent) == ["responses"]


def test_nohup_is_obeyed(by_file: Shell, silent: str) -> None:
    """Whoever has the end of the terminal ignored goes on waiting."""
    write_tree(os.path.join(by_file.home, "patient"), {"x": b"x"})
    command = ["nohup", *GOBBLER, "upload", "patient", "lab", "a", "1", "--staging", silent]
    with by_file.start(command) as process:
        eventually(lambda: "request-" in "".join(os.listdir(silent)), "the request")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_reader_that_goes_away(by_file: Shell) -> None:
    """`gobbler ... | head` ends without a word."""
    registry = os.path.join(by_file.home, "many")
    for number in range(3000):
        os.makedirs(os.path.join(registry, f"project-with-a-long-name-{number:06}"))
    script = '"$@" 2> errors | head -n 1; echo "${PIPESTATUS[0]}"; cat errors'
    command = ["bash", "-c", script, "bash", *GOBBLER, "ls", "--registry", registry]
    with by_file.start(command) as process:
        output, _ = process.communicate(timeout=60)
    assert output.splitlines()[1:] in (["141"], ["0"])  # 0: all of it fitted into the pipe


def test_what_is_no_project_and_no_version_hides_nothing(by_file: Shell) -> None:
    """Somebody's directory in the registry, or one that is deleted meanwhile, is left out of a list of all."""
    registry = os.path.join(by_file.home, "mixed")
    entry = '{"f": {"size": 1, "md5sum": "0cc175b9c0f1b6a831c399e269772661"}}'
    write_tree(registry, {"p/..usage": b'{"total": 1}', "p/a/1/..manifest": entry.encode()})
    for foreign in ("lost+found/x/y", "p/a/0"):
        os.makedirs(os.path.join(registry, foreign))
    assert by_file.say("usage", "--registry", registry) == "1 B  p\n"
    assert by_file.say("ls", "-R", "--registry", registry) == "p/a/1/f\n"
    assert by_file.say("ls", "-R", "p", "--registry", registry) == "a/1/f\n"
    for asked in (["ls", "-R", "p/a/0"], ["usage", "lost+found"]):
        with by_file.spawn(*asked, "--registry", registry) as process:
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, asked[-1] in errors) == (1, True)


@pytest.mark.parametrize("option", ["", "--json"])
def test_output_that_takes_no_more(by_file: Shell, option: str) -> None:
    """A full disk is told in a sentence that does not deny what was done; closed output is none of our business."""
    ask = [*GOBBLER, "do", "health_check", *option.split()]
    with by_file.start(["bash", "-c", '"$@" > /dev/full', "bash", *ask]) as process:
        _, errors = process.communicate(timeout=60)
    expected = "gobbler: done, but the answer cannot be printed: No space left on device\n"
    assert (process.returncode, errors) == (1, expected)
    with by_file.start(["bash", "-c", '"$@" >&- <&-', "bash", *ask]) as process:
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_private_umask_is_no_obstacle(by_file: Shell) -> None:
    """What is dropped must be readable by the daemon, whoever it runs as; what is fetched stays private."""
    script = 'umask 077; "$@" upload src lab umask 1 --no-wait --staging stg'
    write_tree(os.path.join(by_file.home, "src"), {"x": b"x"})
    staging = make_directory(os.path.join(by_file.home, "stg"), 0o1777)
    with by_file.start(["bash", "-c", script, "bash", *GOBBLER]) as process:
        process.communicate(timeout=60)
    modes = {os.stat(os.path.join(staging, name)).st_mode & 0o777 for name in os.listdir(staging)}
    assert modes == {0o644, 0o755}


def test_a_fault_of_ours_can_be_looked_into(by_file: Shell) -> None:
    """GOBBLER_DEBUG shows the traceback that users never see."""
    with by_file.spawn("ls", GOBBLER_REGISTRY="/nowhere", GOBBLER_DEBUG="1") as process:
        _, errors = process.communicate(timeout=60)
    assert "Traceback" in errors


def test_quick_help() -> None:
    """Help and reading import neither the server, nor pydantic, nor rich."""
    code = """if 1:
        import sys
        from gobblerd.cli.gobbler.main import command
        command.main(["--help"], standalone_mode=False)
        print([name for name in sys.modules if name.startswith("gobblerd.c")], file=sys.stderr)
        command.main(["ls", "--registry", "/tmp"], standalone_mode=False)
        heavy = {"pydantic", "aiohttp", "rich", "structlog", "gobblerd.service"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        registry = {name for name in sys.modules if name.startswith("gobblerd.registry.")}
        assert registry == {"gobblerd.registry.layout"}, registry  # names of files, and nothing else
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stderr.strip()
    ours = ["cli", "cli.gobbler", "cli.lazy", "cli.running", "cli.gobbler.main"]
    assert loaded == str([f"gobblerd.{name}" for name in ours])


def test_no_room(by_file: Shell, small_disk: Path) -> None:
    """Which disk is full is said: the kernel does not, and a fetch has several."""
    source = os.path.join(by_file.home, "large")
    write_tree(source, {"a": bytes(9000)})
    by_file.say("project", "create", "large")
    by_file.say("upload", source, "large", "a", "1")
    archive = by_file.json("archive", "create", "large", "a", "-o", "large.tar")["archive"]
    for command in (
        ["fetch", "large", "a", "-o", f"{small_disk}/here"],
        ["archive", "create", "large", "a", "-o", f"{small_disk}/large.tar"],
        ["archive", "export", "large", "a", "--to", f"{small_disk}/there"],
    ):
        assert by_file.refused(*command).startswith(f"gobbler: {small_disk}")
    (small_disk / "responses").mkdir()
    for each in (source, archive):
        said = by_file.refused("upload", each, "large", "a", "2", "--staging", str(small_disk))
        assert said == f"gobbler: {small_disk}: No space left on device\n"


def test_where_nothing_can_be_made(by_file: Shell) -> None:
    """The directory is named, and not the temporary file in it that nobody asked for."""
    write_tree(os.path.join(by_file.home, "plain"), {"a": b"a"})
    said = by_file.refused("archive", "create", "-p", "plain", "-o", "/proc/x.zip")
    assert said == "gobbler: /proc: No such file or directory\n"


def test_a_refused_archive_is_called_what_its_user_calls_it(by_file: Shell) -> None:
    """And not what its copy in staging was called, which is gone."""
    by_file.say("project", "create", "table")
    write_tree(os.path.join(by_file.home, "tables"), {"t.csv": b"1,2"})
    said = by_file.refused("upload", "tables/t.csv", "table", "a", "1")
    assert said.startswith('gobbler: the source "tables/t.csv": this is no archive')
