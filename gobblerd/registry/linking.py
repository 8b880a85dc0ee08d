"""Making the symbolic links of a staged tree beside what else there is to be done.

The kernel makes one link after the other in a directory, some 7 us each, without the interpreter's lock: many
are left to a thread, while files are read and documents written. Few are made at the end, by who asked.
"""

import collections
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from gobblerd.registry import layout
from gobblerd.storage.batches import make_links
from gobblerd.storage.files import READ_DIRECTORY, opened

MANY = 500  # links that are worth a thread
_Texts = dict[str, list[tuple[str, str]]]  # names and what they are to say, by directory


class Linking:
    """The links of one tree, all made when the block ends; none is being made any more when it fails.

    OSError where one cannot be made, FileExistsError if anything is there.
    """

    def __init__(self, top: str) -> None:
        self._top = top
        self._waiting: _Texts = {}
        self._count = 0
        self._thread: ThreadPoolExecutor | None = None
        self._begun: collections.deque[Future[None]] = collections.deque()

    def __enter__(self) -> Self:
        """Return what links may be added to."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Make the rest, and wait for what was begun."""
        try:
            if kind is None:
                _make(self._top, self._waiting)
        finally:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._check()

    def add(self, links: Iterable[tuple[str, str]]) -> None:
        """Have links made sooner or later, each a path and its text."""
        for path, text in links:
            directory, _, name = path.rpartition("/")
            self._waiting.setdefault(directory, []).append((name, text))
            self._count += 1
        if self._count >= MANY:
            self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "links")
        self._check()
        self._begun.append(self._thread.submit(_make, self._top, self._waiting))
        self._waiting, self._count = {}, 0

    def _check(self) -> None:
        """Raise what stopped links that were begun."""
        while self._begun and self._begun[0].done():
            self._begun.popleft().result()


def _make(top: str, texts: _Texts) -> None:
    for directory, links in texts.items():
        with opened(layout.join(top, directory), READ_DIRECTORY) as fd:
            make_links(fd, links)
