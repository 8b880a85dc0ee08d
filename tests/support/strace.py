"""strace around the real daemon: count its system calls, kill it at one of them, or let one of them fail.

strace counts `when=N` by thread and by system call, so a `Moment` names both a call and its number in some
thread; the thread itself is whichever gets there first. Limits: Linux, root (or the same user), strace 6 or
later; opens that create are not told apart from opens that read, tests/registry/test_crash_steps.py has those.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from support.daemon import RunningDaemon, eventually

MUTATING = (
    *(
        "write",
        "pwrite64",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
        "mkdir",
        "mkdirat",
    ),
    *(
        "symlink",
        "symlinkat",
        "link",
        "linkat",
        "fsync",
        "fdatasync",
        "syncfs",
        "sync_file_range",
        "fchmod",
        "ftruncate",
        "sendfile",
    ),
    *("copy_file_range",),
)
_DETACHING = 5.0  # seconds
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


def require_strace() -> None:
    """Skip the test where strace is missing."""
    if shutil.which("strace") is None:
        pytest.skip("NOT TESTED: strace is not installed")
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs root to trace the daemon")


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """The `number`-th call of this kind in a thread, counted from when strace was attached."""

    call: str
    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that was seen: its thread, its moment, and its arguments as strace prints them."""

    thread: int
    moment: Moment
    arguments: str


def read_trace(path: str) -> list[Call]:
    """Return the calls in a trace, in order of their beginning."""
    counts: Counter[tuple[int, str]] = Counter()
    calls = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := _CALL.match(line):
                key = (int(found[1]), found[2])
                counts[key] += 1
                calls.append(Call(key[0], Moment(found[2], counts[key]), found[3]))
    return calls


def moments_of(calls: Sequence[Call]) -> list[Moment]:
    """Return every moment that a trace has, in order of first appearance."""
    return list(dict.fromkeys(call.moment for call in calls))


def kill_at(moment: Moment) -> list[str]:
    """Return the option that kills the process before this call does anything."""
    return ["-e", f"inject={moment.call}:signal=KILL:when={moment.number}"]


def fail_at(moment: Moment, error: str, *, for_good: bool) -> list[str]:
    """Return the option that makes this call fail, and with `for_good` all later ones of its kind."""
    return ["-e", f"inject={moment.call}:error={error}:when={moment.number}{'+' if for_good else ''}"]


def _command(output: str, calls: Sequence[str], injection: Sequence[str]) -> list[str]:
    return [
        "strace",
        "-f",
        "-y",
        "-q",
        "-o",
        output,
        "-e",
        "signal=none",
        "-e",
        f"trace={','.join(calls)}",
        *injection,
    ]


def _threads(pid: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(f"/proc/{pid}/task")
    return []


def _is_traced(pid: int, thread: str) -> bool:
    try:
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii", errors="replace") as file:
            return "\nTracerPid:\t0\n" not in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextlib.contextmanager
def attached(
    pid: int, output: str, injection: Sequence[str] = (), calls: Sequence[str] = MUTATING
) -> Iterator[None]:
    """Trace every thread of a running process for the length of a block; then it runs free again."""
    tracer = subprocess.Popen(
        [*_command(output, calls, injection), "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        eventually(
            lambda: tracer.poll() is not None or all(_is_traced(pid, thread) for thread in _threads(pid)),
            "strace to attach",
        )
        assert tracer.poll() is None, tracer.stderr.read().decode() if tracer.stderr else ""
        yield
    finally:
        _end(tracer)


def _end(tracer: "subprocess.Popen[bytes]") -> None:
    """Let strace detach; where it hangs (its process died meanwhile), end it: the kernel then detaches."""
    if tracer.poll() is None:
        tracer.send_signal(signal.SIGINT)
    try:
        tracer.communicate(timeout=_DETACHING)
    except subprocess.TimeoutExpired:
        tracer.kill()
        tracer.communicate()


class TracedDaemon(RunningDaemon):
    """A daemon that can be started under strace, which then traces it for its whole life."""

    tracing: Sequence[str] = ()

    def command(self) -> list[str]:
        """Return the command line, with strace before it where wanted; the daemon stays our child (-D)."""
        return [*self.tracing, *super().command()]

    def trace_next_start(self, output: str, injection: Sequence[str] = ()) -> None:
        """Have the next start traced."""
        self.tracing = [*_command(output, MUTATING, injection), "-D"]

    def trace_no_more(self) -> None:
        """Have the next start not traced."""
        self.tracing = ()
