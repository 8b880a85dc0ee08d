"""What a process tree costs: memory as the sum of PSS, processor time. Linux, from /proc."""

import contextlib
import os
import threading
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_SMAPS = "smaps_rollup"
MIB = 1 << 20


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found, pending = [], [pid]
    while pending:
        pid = pending.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    pending.extend(map(int, file.read().split()))
    return found


def pss(pid: int) -> int:
    """Return the bytes that a process tree holds; pages that several share are counted once."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{each}/{_SMAPS}", encoding="ascii") as file:
            total += sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    return total


def processor_seconds(pid: int) -> float:
    """Return the user and system time that a process tree has taken, ended children included."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{each}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # utime, stime, and both of children waited for
    return total / _TICKS


class PeakMemory:
    """Looks at a process tree's memory every few milliseconds for the length of a block."""

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self.bytes = 0
        self._pid = pid
        self._interval = interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            self.bytes = max(self.bytes, pss(self._pid))

    def __enter__(self) -> Self:
        self.bytes = pss(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = max(self.bytes, pss(self._pid))
        self._over.set()
        self._thread.join()
