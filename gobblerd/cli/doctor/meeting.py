"""How the doctors of two nodes find each other and talk: by files where only the account may write.

Each doctor keeps one file there, `<token>.doctor`, replaced as a whole: a JSON object with a beat that
counts up, the token of the partner it has chosen, and all that it has said so far. A doctor whose beat
stands still is gone, so that what a killed one left misleads nobody. Every wait has a deadline, and each
round of waiting writes a beat; nothing is ever read half-written, and nothing is taken to be there already.
"""

import contextlib
import errno
import json
import os
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, Durability, opened, read_all, replace_file

_SUFFIX = ".doctor"
_ROUND = 0.2  # seconds between two looks
_MOST_BYTES = 1 << 20
_STANDING_STILL = 60.0  # seconds without a beat after which a doctor counts as gone

_LEFT = (
    3.0  # seconds without its file after which it has left; more than a network filesystem needs to show it
)


class NobodyCameError(OSError):
    """The other doctor did not come, or did not go on, before the deadline."""


@dataclass(frozen=True, slots=True)
class _Pulse:
    """A doctor's last beat, and when it was seen to move (monotonic seconds)."""

    beat: int
    moved: float | None


@dataclass
class Meeting:
    """One doctor's end of a conversation; `patience` is in seconds, for finding and for each answer."""

    directory: str
    patience: float
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    partner: str = ""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _beat: int = 0
    _said: dict[str, Any] = field(default_factory=dict)

    @property
    def is_first(self) -> bool:
        """Tell whether it is ours to begin."""
        return self.token < self.partner

    def meet(self) -> None:
        """Find a partner who has found us; NobodyCameError after the deadline."""
        deadline = self.clock() + self.patience
        pulses: dict[str, _Pulse] = {}
        while self.clock() < deadline:
            others = self._others()
            pulses = {token: self._felt(pulses.get(token), other["beat"]) for token, other in others.items()}
            free = {
                token: other["partner"]
                for token, other in others.items()
                if other["partner"] in {"", self.token} and self._lives(pulses[token])
            }
            self.partner = self._chosen(free)
            self._write()
            if self.partner and free[self.partner] == self.token:
                return
            self._pause()
        raise NobodyCameError(f"no other doctor came within {self.patience:.0f} s")

    def _felt(self, before: "_Pulse | None", beat: int) -> "_Pulse":
        if before is None:
            return _Pulse(beat, None)  # whether it moves is to be seen
        return before if before.beat == beat else _Pulse(beat, self.clock())

    def _lives(self, pulse: "_Pulse") -> bool:
        return pulse.moved is not None and self.clock() - pulse.moved < _STANDING_STILL

    def _chosen(self, free: dict[str, str]) -> str:
        """Return whom to talk to: the same as before, else who has chosen us, else the first who is free."""
        if self.partner in free:
            return self.partner
        wooing = sorted(token for token, partner in free.items() if partner == self.token)
        return (wooing or sorted(free) or [""])[0]

    def say(self, key: str, value: Any = True) -> None:  # noqa: FBT002 - mostly a bare word
        """Let the partner know something."""
        self._said[key] = value
        self._write()

    def hear(self, key: str) -> Any:
        """Wait for the partner to say something; NobodyCameError if it does not in time, or stands still."""
        deadline = self.clock() + self.patience
        beat, since = -1, self.clock()
        while self.clock() < deadline:
            other = self._read(self.partner)
            if other is not None and key in other["said"]:
                return other["said"][key]
            if other is not None and other["beat"] != beat:
                beat, since = other["beat"], self.clock()
            if self.clock() - since > (_LEFT if other is None else _STANDING_STILL):
                raise NobodyCameError("the other doctor has gone away")
            self._write()
            self._pause()
        raise NobodyCameError(f"the other doctor did not say {key!r} within {self.patience:.0f} s")

    def _pause(self) -> None:
        self.sleep(_ROUND * random.uniform(0.5, 1.5))  # noqa: S311 - three that meet must not move in step

    def leave(self) -> None:
        """Take our file away."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.directory, f"{self.token}{_SUFFIX}"))

    def _write(self) -> None:
        self._beat += 1
        document = {"beat": self._beat, "partner": self.partner, "said": self._said}
        with opened(self.directory, READ_DIRECTORY) as fd:
            name = f"{self.token}{_SUFFIX}"
            replace_file(fd, f"{self.token}.new", name, json.dumps(document).encode(), Durability.PROCESS)

    def _others(self) -> dict[str, Any]:
        """Return all other doctors' files; the directory is opened anew, which makes NFS ask the server."""
        with opened(self.directory, READ_DIRECTORY) as fd:
            names = [name for name in os.listdir(fd) if name.endswith(_SUFFIX)]
        tokens = [name.removesuffix(_SUFFIX) for name in names]
        found = {token: self._read(token) for token in tokens if token != self.token}
        return {token: document for token, document in found.items() if document is not None}

    def _read(self, token: str) -> Any:
        """Return what a doctor has written; None if it has left."""
        try:
            with (
                opened(self.directory, READ_DIRECTORY) as directory,
                opened(f"{token}{_SUFFIX}", READ_FILE, dir_fd=directory) as fd,
            ):
                return json.loads(read_all(fd, _MOST_BYTES))
        except ValueError:  # a cache showed the new file in the old one's length
            return None
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return None
