"""Every snippet of the user guide, page by page, in the order in which a reader would try them."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from examples.desk import EXAMPLES, require_program
from gobbler.shell import Shell, make_home
from support.daemon import PROJECT_ROOT

PAGES = ("users.md", "python.md", "any-language.md", "releases.md", "archives.md")
FENCE = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
NEEDS = re.compile(r"^# needs: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A fenced block."""

    language: str
    text: str


def snippets(page: str) -> Sequence[Snippet]:
    """Return the blocks of a page."""
    with open(os.path.join(PROJECT_ROOT, "docs", page), encoding="utf-8") as file:
        text = file.read()
    found = [Snippet(language, body) for language, body in FENCE.findall(text)]
    assert len(found) * 2 == text.count("```"), "a fence that is not closed, or not seen"
    return found


def run_all(shell: Shell, program: Sequence[str], found: Sequence[Snippet]) -> str:
    """Run blocks one after the other in one session."""
    script = "\n".join(snippet.text for snippet in found)
    with shell.start([*program, script], USER="root") as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_is_in_a_language_that_is_tried(page: str) -> None:
    """No block is only looked at."""
    tried = {"users.md": {"bash"}, "python.md": {"python"}, "any-language.md": {"bash", "r"}}
    tried["releases.md"] = {"bash", "text"}  # the text is a picture of a directory
    tried["archives.md"] = {
        "bash",
        "python",
        "text",
    }  # the text is a receipt, and what needs a configured service
    assert {snippet.language for snippet in snippets(page)} == tried[page]


@pytest.fixture
def reader(base: str, by_file: Shell) -> Shell:
    """Return the shell of somebody who begins to read: a home with nothing in it."""
    return Shell(make_home(base), by_file.daemon, by_file.exported)


def test_the_command_line(reader: Shell) -> None:
    """docs/users.md, with errors fatal."""
    output = run_all(reader, ["bash", "-euo", "pipefail", "-c"], snippets("users.md"))
    assert re.search(r"it answers: +yes", output)
    assert "exit code 1" in output
    assert "never printed" not in output
    assert reader.left_in_staging() == []


def test_releases(reader: Shell) -> None:
    """docs/releases.md, with errors fatal."""
    commands = [snippet for snippet in snippets("releases.md") if snippet.language == "bash"]
    output = run_all(reader, ["bash", "-euo", "pipefail", "-c"], commands)
    assert "forecast/model/1.0.0 is there already as v1.0" in output
    assert reader.left_in_staging() == []


def test_archives(reader: Shell) -> None:
    """docs/archives.md: the commands, then the program, in one directory."""
    found = snippets("archives.md")
    commands = [snippet for snippet in found if snippet.language == "bash"]
    run_all(reader, ["bash", "-euo", "pipefail", "-c"], commands)
    program = [snippet for snippet in found if snippet.language == "python"]
    run_all(reader, [sys.executable, "-W", "error", "-c"], program)
    assert reader.left_in_staging() == []


def test_python(reader: Shell) -> None:
    """docs/python.md, as one program."""
    run_all(reader, [sys.executable, "-W", "error", "-c"], snippets("python.md"))
    assert reader.left_in_staging() == []


@pytest.fixture
def anything(reader: Shell) -> Shell:
    reader.say("do", "create_project", "--project", "anything")
    shutil.copytree(EXAMPLES, os.path.join(reader.home, "examples"))
    return reader


def test_any_language(anything: Shell) -> None:
    """docs/any-language.md: each block from the home directory; what is not installed is skipped, visibly."""
    missing = []
    for snippet in snippets("any-language.md"):
        needed = NEEDS.findall(snippet.text) or (["Rscript"] if snippet.language == "r" else [])
        if any(shutil.which(name) is None for name in needed):
            missing += needed
        elif snippet.language == "r":
            run_all(anything, [require_program("Rscript"), "-e"], [snippet])
        else:
            run_all(anything, ["bash", "-euo", "pipefail", "-c"], [snippet])
    assert anything.left_in_staging() == []
    assert set(anything.json("ls", "anything")) >= {"bash", "berlin"}
    if missing:
        pytest.skip(f"NOT TESTED: {', '.join(missing)} is not installed")
    assert set(anything.json("ls", "anything")) == {"bash", "berlin", "c", "perl", "r"}
