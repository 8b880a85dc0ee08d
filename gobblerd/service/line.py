"""A line of short jobs, done one after the other by as few threads as possible, each in its turn.

Eight clients that POST at once would wake eight threads, of which one has the turn: waking them costs more
than what most of them do. Here who has the turn goes on with the next job, and as long as there is one, one
thread more stands by. It gets the turn when the first steps aside (for a sync, a lock), or has kept it too
long (storage/turn.py).

Who has done all jobs looks for more where they come from (`fetch`), so that the thread which waits there
need not be woken for each; meanwhile it may `rest`.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gobblerd.service.batch import Batch, Batches
from gobblerd.storage.turn import Turn

Job = Callable[[Batch], None]

_REST_MOST = 0.02  # seconds: whoever fetches may hang


def _nothing() -> None:
    """Fetch nothing."""


class Line:
    """Jobs in order of arrival; they must not raise. `most` is how many threads there may be."""

    def __init__(self, turn: Turn, batches: Batches, most: int, name: str) -> None:
        self._turn = turn
        self._batches = batches
        self._jobs: deque[Job] = deque()
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._fetch: Callable[[], None] = _nothing
        self._stands_by = False  # a thread is on its way to the turn
        self._serves = False  # a thread has the turn, and fetches
        self._rests = False  # whoever waits for jobs waits until nobody serves
        self._may_rest = threading.Event()

    def attend(self, fetch: Callable[[], None]) -> None:
        """From now on call `fetch` when all jobs are done; it puts what there is, and never waits."""
        self._fetch = fetch

    def put(self, job: Job) -> None:
        """Have a job done soon; returns at once."""
        self._jobs.append(job)
        self._call()

    @property
    def serves(self) -> bool:
        """Tell whether a thread is at it, which fetches when it is done."""
        return self._serves

    def rest(self) -> None:
        """Wait while a thread is at it, but not for long: it may hang."""
        self._may_rest.clear()
        self._rests = True
        if self._serves:
            self._may_rest.wait(_REST_MOST)
        self._rests = False

    def stand_by(self) -> None:
        """Have a thread on its way to the turn, whatever there is to do; returns at once."""
        # Without a lock: two threads that stand by do no harm, and whoever has set the flag will look.
        if not self._stands_by:
            self._stands_by = True
            self._pool.submit(self._serve)

    def _call(self) -> None:
        if self._jobs:
            self.stand_by()

    def _serve(self) -> None:
        with self._turn.taken(beginning=True):
            self._stands_by = False
            with self._batches.opened() as batch:
                self._serves = True
                self._do_jobs(batch)
                self._end_serving()
        self._call()

    def _end_serving(self) -> None:
        self._call()  # whoever comes next has the turn while this one waits for its sync
        if not self._stands_by:
            self._serves = False
            if self._rests:
                self._may_rest.set()

    def _do_jobs(self, batch: Batch) -> None:
        while (job := self._next()) is not None:
            self._call()  # this job may step aside, or hang
            job(batch)
            # Asked after one at least: under a flood it always is wanted.
            if not batch.may_grow(self._turn):
                return

    def _next(self) -> Job | None:
        if not self._jobs:
            self._fetch()
        try:
            return self._jobs.popleft()
        except IndexError:  # there is none, or who lost the turn is at it too
            return None
