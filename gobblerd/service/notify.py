"""Telling systemd how the daemon fares (the protocol of sd_notify(3)).

Every message is one datagram to the socket that NOTIFY_SOCKET names; without it nothing is sent. A
message that cannot be sent is lost in silence: the service manager is not worth failing for, and its
watchdog notices. Known limit: sockets of other families than AF_UNIX (virtual machines) are not served.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from gobblerd.domain.errors import escaped

_WATCHDOG_SHARE = 0.4  # of the time after which systemd gives up: two chances before it does
_SEND_TIMEOUT = 1.0  # seconds; the socket's buffer is full only where systemd hangs


class Notifier:
    """The way to the service manager that started this process, if one did.

    `watchdog_interval` is the time in seconds at which `alive` should be called; None: nobody watches.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_interval = _watchdog_interval(environ)

    @property
    def listening(self) -> bool:
        """Tell whether anybody is told."""
        return self._address.startswith(("/", "\0"))

    def ready(self, status: str = "") -> None:
        """Say that the daemon serves, also after a reload."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """Say that the daemon is draining."""
        self._send("STOPPING=1", *_status(status))

    def alive(self) -> None:
        """Feed the watchdog; call it from the loop that proves progress."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for this much more time, from now, to start, reload or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str) -> None:
        if not self.listening or not lines:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_TIMEOUT)
            sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)


def _status(text: str) -> list[str]:
    """Return the assignment; a line break in the text would begin another one."""
    return [f"STATUS={escaped(text)}"] if text else []


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Return how often to feed the watchdog, if it watches this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000 * _WATCHDOG_SHARE
