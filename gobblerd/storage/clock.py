"""Time as the file server has it (design/architecture.md, "Time, identity, mounts").

"Now" is the ctime of a probe file, so that ages of files and the times we write agree whatever this
machine's own clock says. The probe is renewed at most once a second; between, a monotonic clock counts.
"""

import os
import threading
import time
from collections.abc import Callable

RENEWAL_NS = 1_000_000_000


class FileClock:
    """The clock of the filesystem that holds `path`; the file is created when first needed."""

    def __init__(self, path: str, ready: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._ready = ready  # makes the probe's directory
        self._lock = threading.Lock()
        self._probed = 0
        self._at = 0

    def now(self) -> int:
        """Return nanoseconds since the epoch."""
        with self._lock:
            elapsed = time.monotonic_ns() - self._at
            if not self._probed or elapsed >= RENEWAL_NS:
                self._probed, elapsed = self._probe(), 0
                self._at = time.monotonic_ns()
            return self._probed + elapsed

    def _probe(self) -> int:
        self._ready()
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.utime(fd)
            return os.fstat(fd).st_ctime_ns
        finally:
            os.close(fd)
