"""How far the daemon is, told to whoever waits for an answer: by the status document in staging."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from gobblerd.client import GobblerTimeout, submit, waiting
from gobblerd.client.waiting import told

NAME = "request-upload-1"


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.01)


class Heard:
    """What was told so far."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, int]] = []
        self._more = threading.Event()

    def __call__(self, done: int, total: int) -> None:
        self.numbers.append((done, total))
        self._more.set()

    def wait(self) -> tuple[int, int]:
        """Wait until something is told from now on, and return it."""
        self._more.clear()
        assert self._more.wait(60)
        return self.numbers[-1]


def at_hand(name: str, done: int, total: int) -> dict[str, Any]:
    other = {"name": "request-upload-0", "bytes_done": 1, "bytes_total": 1}
    return {"spool": {"at_hand": [other, {"name": name, "bytes_done": done, "bytes_total": total}]}}


def say(path: Path, document: Any) -> None:
    path.with_suffix(".new").write_text(json.dumps(document))
    path.with_suffix(".new").rename(path)


def test_numbers_are_told_while_they_change(tmp_path: Path) -> None:
    """Those of this request; not before there is a document, and no more after the end."""
    status, heard, threads = tmp_path / ".status.json", Heard(), threading.active_count()
    with told(str(status), NAME, heard):
        for done in (0, 5, 10):
            say(status, at_hand(NAME, done, 10))
            while heard.wait() != (done, 10):
                pass
    assert threading.active_count() == threads  # so nobody is left who could tell more
    assert heard.numbers == sorted(heard.numbers)


@pytest.mark.parametrize("document", [{}, [], {"spool": {}}, {"spool": {"at_hand": [{"name": NAME}]}}])
def test_what_says_nothing_is_passed_over(tmp_path: Path, document: Any) -> None:
    """A document of an older daemon, or of none; what comes after it is told."""
    status, heard = tmp_path / ".status.json", Heard()
    status.write_text("no JSON")
    with told(str(status), NAME, heard):
        say(status, document)
        say(status, at_hand(NAME, 1, 2))
        assert heard.wait() == (1, 2)
    assert set(heard.numbers) == {(1, 2)}


def test_whoever_submits_is_told(tmp_path: Path) -> None:
    """By the name that the request got, as soon as the daemon's document has it."""
    (tmp_path / "responses").mkdir()
    heard = Heard()

    def work() -> None:
        while not (names := [name for name in os.listdir(tmp_path) if name.startswith("request-")]):
            pass
        say(tmp_path / "responses" / ".status.json", at_hand(names[0], 3, 7))
        assert heard.wait() == (3, 7)
        answer = {"code": 200, "status": "SUCCESS", "total": 12}
        say(tmp_path / "responses" / names[0], answer)

    daemon = threading.Thread(target=work)
    daemon.start()
    found = submit(str(tmp_path), None, "refresh_usage", {"project": "p"}, waiting=heard)
    daemon.join()
    assert found == {"total": 12}
    assert set(heard.numbers) == {(3, 7)}


def test_a_silent_daemon_is_no_trouble(tmp_path: Path) -> None:
    """Nothing is told, and the wait ends as it does without."""
    (tmp_path / "responses").mkdir()
    heard = Heard()
    with pytest.raises(GobblerTimeout):
        submit(str(tmp_path), None, "health_check", {}, timeout=0.1, waiting=heard)
    assert heard.numbers == []
