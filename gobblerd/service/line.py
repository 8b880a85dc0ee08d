"""A line of short jobs, done one after the other by as few threads as possible, each in its turn.

Eight clients that POST at once would wake eight threads, of which one has the turn: waking them costs more
than what most of them do. Here who has the turn goes on with the next job, and as long as there is one, one
thread more stands by. It gets the turn when the first steps aside (for a sync, a lock), or has kept it too
long (storage/turn.py).
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gobblerd.storage.turn import Turn

Job = Callable[[], None]


class Line:
    """Jobs in order of arrival; they must not raise. `most` is how many threads there may be."""

    def __init__(self, turn: Turn, most: int, name: str) -> None:
        self._turn = turn
        self._jobs: deque[Job] = deque()
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._stands_by = False  # a thread is on its way to the turn

    def put(self, job: Job) -> None:
        """Have a job done soon; returns at once."""
        self._jobs.append(job)
        self._call()

    def _call(self) -> None:
        # Without a lock: two threads that stand by do no harm, and whoever has set the flag will look.
        if self._jobs and not self._stands_by:
            self._stands_by = True
            self._pool.submit(self._serve)

    def _serve(self) -> None:
        with self._turn.taken(beginning=True):
            self._stands_by = False
            while self._jobs:
                try:
                    job = self._jobs.popleft()
                except IndexError:  # who lost the turn is at it too
                    break
                self._call()  # this job may step aside, or hang
                job()
                # Asked after one at least: under a flood it always is wanted.
                if self._turn.is_wanted or not self._turn.keep():
                    break
        self._call()
