"""How `gobblerd` and `gobbler` run, and end where their output cannot be printed or somebody interrupts them.

Standard output fails with an exception of its own, so that its full disk is not taken for the registry's,
nor the reader who left for a service that hung up.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from functools import partial

import click

INTERRUPTED, NOBODY_READS = 130, 141


class Unprintable(Exception):
    """Standard output takes no more; `number` is the errno that says why."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _StandardOutput(io.FileIO):
    """Standard output; Unprintable where it takes no more, once: what comes after that goes nowhere."""

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # ours always tells
        """Write some of it; return how many bytes."""
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise Unprintable(error.errno or errno.EIO) from None


def open_standard_streams() -> None:
    """Open what is closed of standard input, output and error: the next file opened would be taken for it."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def run(program: str, call: Callable[[], object], unprintable: str, code: int) -> int:
    """Call a command line without click's own endings; return the exit code.

    `unprintable` is what is said, and `code` what is returned, where standard output takes no more.
    """
    _watch_output()
    try:
        value = call()
        sys.stdout.flush()
    except click.ClickException as error:
        _tell(error.show)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Unprintable as error:
        if error.number == errno.EPIPE:
            return NOBODY_READS
        _tell(partial(click.echo, f"{program}: {unprintable}: {error}", err=True))
        return code
    return value if isinstance(value, int) else 0


def _tell(show: Callable[[], object]) -> None:
    """Print something on standard error; where that takes no more either, the code is all that is told.

    What could not be printed goes nowhere: the interpreter tries once more when it ends, and with the same
    failure would end with a code of its own (from 3.14 on).
    """
    try:
        show()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _watch_output() -> None:
    """Have standard output raise Unprintable; not where it is closed, or another is in its place.

    What its encoding does not know is escaped, as on standard error: names are anybody's.
    """
    given = sys.stdout
    if not isinstance(given, io.TextIOWrapper) or given.fileno() != 1:
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_StandardOutput(1, "w", closefd=False)),
        encoding=given.encoding,
        errors="backslashreplace" if given.errors == "strict" else given.errors,
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )
