"""`gobbler` before a person: help that fits, bars on a terminal only, completion, questions."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from client.middleman import middleman
from gobbler.shell import GOBBLER, Shell
from support.daemon import eventually
from support.places import write_tree

from gobblerd.cli.gobbler.progress import waiting_bar
from gobblerd.cli.gobbler.text import columns

WALK = """if 1:
    import click, sys
    from gobblerd.cli.gobbler.main import command

    def show(command, names, parent):
        context = command.make_context(names[-1], [], parent=parent, resilient_parsing=True)
        print("=====", *names)
        print(command.get_help(context))
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            show(command.get_command(context, name), [*names, name], context)

    show(command, ["gobbler"], None)
"""
PAINT = b'''
from gobblerd.actions.action import Action

class Paint(Action):
    """Paints a project in a colour."""

    name = "paint"

    project: str
    shade: int | None = None
    url: str | None = None
'''
WITH_PAINT = """if 1:
    from gobblerd import actions
    from gobblerd.cli.gobbler.main import command

    actions.__path__.append("more")  # where a module more is found, as if it lay in the package
    command.main(["do", "--help"], standalone_mode=False)
    command.main(["do", "paint", "--help"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """Return the help of every subcommand, as a terminal of 200 columns would show it."""
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", WALK], env=environment, capture_output=True, text=True, check=True
    )
    found = dict(part.partition("\n")[::2] for part in done.stdout.split("===== ")[1:])
    assert len(found) > 50
    return found


def test_no_help_is_wider_than_80_columns(helps: dict[str, str]) -> None:
    """However wide the terminal is."""
    assert not [line for text in helps.values() for line in text.splitlines() if len(line) > 80]


def test_every_help_says_what_it_is_for(helps: dict[str, str]) -> None:
    """A sentence after the usage line, nothing cut off."""
    for name, text in helps.items():
        about = text.split("\n\n")[1]
        assert about.strip()[0].isupper(), name
        assert "..." not in about or name.startswith("gobbler do"), name


def test_all_subcommands_are_listed(helps: dict[str, str]) -> None:
    """`gobbler --help` imports no subcommand; it lists those that there are."""
    listed = [
        line.split()[0] for line in helps["gobbler"].split("Commands:\n")[1].split("\n\n")[0].splitlines()
    ]
    assert listed == [name.split()[1] for name in helps if len(name.split()) == 2]


def test_help_in_a_real_process(by_file: Shell) -> None:
    """-h and --help, with exit code 0; --version too."""
    assert by_file.say("-h") == by_file.say("--help")
    assert "Usage: gobbler upload" in by_file.say("upload", "--help")
    assert by_file.say("--version").startswith("gobbler, version ")


def test_a_new_action_appears_by_itself(by_file: Shell) -> None:
    """One more module is enough; a field that would hide an option of every command is spelled otherwise."""
    write_tree(os.path.join(by_file.home, "more"), {"paint.py": PAINT})
    with by_file.start([sys.executable, "-c", WITH_PAINT]) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "paint" in output
    assert "Paints a project in a colour." in output
    assert "--shade N" in output
    assert "--field-url TEXT" in output


# ---- bars


def on_terminal(
    shell: Shell, *arguments: str, answer: bytes = b"", watch: Callable[[bytes], object] = bool
) -> tuple[int, str]:
    """Run `gobbler` with a terminal as standard input and error; return its exit code and what that showed.

    `watch` is given what it has shown so far, again and again.
    """
    master, slave = pty.openpty()
    environment = {**shell.environment, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*GOBBLER, *arguments],
        env=environment,
        cwd=shell.home,
        stdin=slave,
        stderr=slave,
        stdout=subprocess.DEVNULL,
    )
    os.close(slave)
    if answer:
        os.write(master, answer)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
            watch(shown)
    except OSError:  # how Linux says that nobody has the other end
        pass
    finally:
        os.close(master)
    return process.wait(60), shown.decode("utf-8", "replace")


@pytest.fixture(scope="module")
def lab(by_file: Shell) -> str:
    by_file.say("project", "create", "lab")
    write_tree(os.path.join(by_file.home, "data"), {f"{n}.bin": os.urandom(100_000) for n in range(20)})
    return "lab"


def test_a_bar_on_a_terminal(by_file: Shell, lab: str) -> None:
    """For uploads and fetches, on standard error."""
    code, shown = on_terminal(by_file, "upload", "data", "lab", "bars", "1")
    assert code == 0, shown
    assert "waiting for the answer" in shown or "copying" in shown
    assert "━" in shown
    code, shown = on_terminal(by_file, "fetch", "lab", "bars", "-o", "fetched")
    assert code == 0, shown
    assert "fetching lab/bars/1" in shown


def test_a_bar_for_each_large_file(over_http: Shell) -> None:
    """Over HTTP each file that takes a while has a bar of its own beside that of all of them."""
    write_tree(os.path.join(over_http.home, "large"), {f"large-{n}": os.urandom(4 << 20) for n in "ab"})
    over_http.say("project", "create", "lab")
    over_http.say("upload", "large", "lab", "large", "1")
    with middleman(over_http.daemon.port) as man:
        man.pause = 0.01
        remote = Shell(over_http.home, over_http.daemon, {"GOBBLER_URL": man.url})
        code, shown = on_terminal(remote, "fetch", "lab", "large", ">=1", "-o", "large-again")
    assert code == 0, shown
    assert "fetching lab/large/1" in shown
    assert "lab/large/1/large-a" in shown
    assert "lab/large/1/large-b" in shown


def test_a_bar_while_the_service_works(by_file: Shell, tmp_path: Path) -> None:
    """It shows how far the daemon is, as its status document in staging says: for any request that takes long."""
    responses, seen = tmp_path / "responses", threading.Event()
    responses.mkdir()

    def requests() -> list[str]:
        return [name for name in os.listdir(tmp_path) if name.startswith("request-")]

    def work() -> None:
        eventually(requests, "a request")
        [request] = requests()
        at_hand = {"name": request, "bytes_done": 3_000_000, "bytes_total": 12_000_000}
        write_tree(str(responses), {".status.json": json.dumps({"spool": {"at_hand": [at_hand]}}).encode()})
        assert seen.wait(60)
        (responses / "new").write_text('{"status": "SUCCESS", "code": 200}')
        (responses / "new").rename(responses / request)

    service = threading.Thread(target=work)
    service.start()
    shell = Shell(by_file.home, by_file.daemon, {"GOBBLER_STAGING": str(tmp_path), "GOBBLER_URL": ""})
    asked = ("reindex", "lab", "bars", "1", "--timeout", "60")
    code, shown = on_terminal(
        shell, *asked, watch=lambda shown: seen.set() if b"3.0/12.0 MB" in shown else None
    )
    service.join()
    assert code == 0, shown
    assert "waiting for the answer" in shown


def test_a_terminal_that_is_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to show the bar on any more, and the wait goes on."""
    seen = iter([True, False])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: next(seen))
    with waiting_bar() as waiting:
        assert waiting is not None
        waiting(1, 2)
        waiting(2, 2)
    assert list(seen) == []


def test_no_bar_in_a_log(by_file: Shell, lab: str) -> None:
    """`say` fails if there is anything on standard error."""
    assert by_file.say("upload", "data", "lab", "bars", "2") == "lab/bars/2 is uploaded.\n"
    by_file.say("fetch", "lab", "bars", "-o", "fetched-silently")


def test_removing_asks_on_a_terminal(by_file: Shell, lab: str) -> None:
    """No is the end of it; yes, or --yes, removes."""
    by_file.say("project", "create", "gone")
    code, shown = on_terminal(by_file, "project", "remove", "gone", answer=b"n\n")
    assert (code, "Remove the project gone for ever?" in shown) == (130, True)
    assert by_file.daemon.read("gone", "..usage") is not None
    assert on_terminal(by_file, "project", "remove", "gone", answer=b"y\n")[0] == 0
    assert by_file.daemon.read("gone", "..usage") is None


def test_columns_of_wide_letters_and_marks() -> None:
    """A letter of Chinese, Japanese or Korean takes two columns, a combining mark none."""
    rows = [("\u6c17\u8c61", "1"), ("u\u0308ber", "2"), ("plain", "3")]
    assert list(columns(rows)) == ["\u6c17\u8c61   1", "u\u0308ber   2", "plain  3"]


def test_names_cannot_move_the_cursor(by_file: Shell, lab: str) -> None:
    """A file name with an escape sequence is shown escaped on a terminal, and raw in a pipe."""
    source = os.path.join(by_file.home, "evil")
    write_tree(source, {"a\x1b[31m": b"x"})
    by_file.say("upload", source, "lab", "evil", "1")
    assert by_file.say("ls", "lab/evil/1") == "a\x1b[31m\n"
    master, slave = pty.openpty()
    command = [*GOBBLER, "ls", "lab/evil/1"]
    with subprocess.Popen(
        command, env=by_file.environment, stdout=slave, stdin=subprocess.DEVNULL
    ) as process:
        process.wait(60)
    shown = os.read(master, 1000)
    os.close(master)
    os.close(slave)
    assert b"\x1b" not in shown
    assert b"a\\x1b[31m" in shown


# ---- completion


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(by_file: Shell, shell_name: str) -> None:
    """The line of the manual prints a script; what it asks for is answered."""
    assert "gobbler" in by_file.say(_GOBBLER_COMPLETE=f"{shell_name}_source")
    words = {"COMP_WORDS": "gobbler perm", "COMP_CWORD": "1" if shell_name != "fish" else "perm"}
    assert "permissions" in by_file.say(_GOBBLER_COMPLETE=f"{shell_name}_complete", **words)
    words = {"COMP_WORDS": "gobbler do refresh", "COMP_CWORD": "2" if shell_name != "fish" else "refresh"}
    assert "refresh_usage" in by_file.say(_GOBBLER_COMPLETE=f"{shell_name}_complete", **words)
