"""Runs a program for as long as whoever started this keeps its standard input open (see `service.py`).

A process that is killed with SIGKILL closes its pipes too: so nothing is left behind. Run as a file, on
its own; imports nothing of the package. Limit: if this is killed with SIGKILL itself, the program stays.
"""

import contextlib
import subprocess
import sys
import threading

_GRACE = 30.0  # seconds from SIGTERM to SIGKILL


def main() -> int:
    """Run the command line given as arguments; return its exit code."""
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL) as child:  # noqa: S603 - our own command
        threading.Thread(target=_end, args=(child,), daemon=True).start()
        return child.wait()


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of standard input, then end the program."""
    while sys.stdin.buffer.read(1):
        pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
    child.kill()


if __name__ == "__main__":
    sys.exit(main())
