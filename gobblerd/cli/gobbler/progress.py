"""Bars on standard error while files move: on a terminal only, nothing in a log.

One bar for everything, and one for each file that takes a while, above it.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    from gobblerd.client.waiting import Waiting

WAITING = "waiting for the answer"
_LONGEST_NAME = 40  # columns of a file's name


class Bars:
    """What is to be told of progress: called with files and bytes done and in all, `each` of one file."""

    def __init__(self, display: "Display", doing: str, then: str) -> None:
        self._display, self._doing, self._then = display, doing, then
        self._all = display.add_task(doing, total=None)
        self._files: dict[str, TaskID] = {}

    def __call__(self, files: int, all_files: int, done: int, total: int) -> None:
        """Show how far everything is; `total` 0 is not known."""
        is_over = bool(self._then) and files == all_files
        description = self._then if is_over else f"{self._doing} {files}/{all_files}"
        self._display.update(self._all, description=description, completed=done, total=total or None)

    def whole(self, done: int, total: int) -> None:
        """Show how far everything is in bytes, where files are not counted."""
        self._display.update(self._all, completed=done, total=total or None)

    def waiting(self, done: int, total: int) -> None:
        """Show how far the service is with what it was asked for."""
        self._display.update(self._all, description=self._then or self._doing)
        self.whole(done, total)

    def each(self, path: str, done: int, size: int) -> None:
        """Show how far one file is, until it is done; files that come in one piece are not shown."""
        if done == size:
            if path in self._files:
                self._display.remove_task(self._files.pop(path))
        elif path in self._files:
            self._display.update(self._files[path], completed=done, total=size if size >= 0 else None)
        else:
            total = size if size >= 0 else None
            self._files[path] = self._display.add_task(_short(path), completed=done, total=total)


def _short(path: str) -> str:
    name = "".join(c if c.isprintable() else "?" for c in path)
    name = name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
    return name.replace("[", "\\[")  # or it would be markup


@contextlib.contextmanager
def bar(doing: str, then: str = "") -> Iterator[Bars | None]:
    """Yield what is to be told of progress; None where nobody watches. `then` is shown once all is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich  # noqa: PLC0415 - 60 ms that are needed on a terminal only
    from rich.console import Console  # noqa: PLC0415 - as above

    shown = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*shown, console=Console(stderr=True), transient=True) as display:
        yield Bars(display, doing, then)


@contextlib.contextmanager
def waiting_bar() -> Iterator["Waiting | None"]:
    """Yield what is to be told while an answer is waited for; the bar appears when it first is."""
    with contextlib.ExitStack() as shown:
        bars: list[Bars | None] = []  # None where the terminal was closed meanwhile

        def waiting(done: int, total: int) -> None:
            if not bars:
                bars.append(shown.enter_context(bar(WAITING)))
            if bars[0] is not None:
                bars[0].waiting(done, total)

        yield waiting if sys.stderr.isatty() else None
