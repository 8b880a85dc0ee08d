"""What the client raises: one error with a code and a reason, and two kinds of it without an answer.

A program that moves over from pygobbler catches `requests.HTTPError`. Where `requests` is loaded, what
`failure` makes is one of those as well; where it is not, nobody can be waiting for one.
"""

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar


class GobblerError(OSError):
    """A request was refused or failed; its arguments are (code, reason), as those of pygobbler's errors.

    `code` is the HTTP status of the answer (spec/requests.md, "Responses"), None where there was none.
    `reason` is a sentence. `answer` holds the refusal's further keys (`problems` of validate_version).
    """

    counterpart: ClassVar[str] = "HTTPError"  # the name of the class of `requests` that stands for this
    _plain: ClassVar["type[GobblerError] | None"] = None  # of a class made beside one of requests: its kind

    def __init__(self, code: int | None, reason: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.answer = dict(answer or {})

    def __str__(self) -> str:
        """Return the reason, and the code if there is one."""
        return self.reason if self.code is None else f"{self.reason} ({self.code})"

    def __reduce__(self) -> tuple[Callable[..., "GobblerError"], tuple[Any, ...]]:
        """Pickle, so that it travels between processes."""
        return failure, (self._plain or type(self), self.code, self.reason, self.answer)


class GobblerUnreachable(GobblerError, ConnectionError):
    """Neither the daemon nor the registry can be reached."""

    counterpart = "ConnectionError"


class GobblerTimeout(GobblerError, TimeoutError):
    """No answer came in time; the request may still be carried out if it had begun."""

    counterpart = "Timeout"


def failure(
    kind: type[GobblerError], code: int | None, reason: str, answer: Mapping[str, Any] | None = None
) -> GobblerError:
    """Make an error to be raised: of `kind`, and of its counterpart in `requests` if that is loaded."""
    foreign = getattr(sys.modules.get("requests"), kind.counterpart, None)
    made = kind if foreign is None else _beside(kind, foreign)  # type: ignore[arg-type]  # mypy#11470: types do hash
    return made(code, reason, answer)


@lru_cache
def _beside(kind: type[GobblerError], foreign: type[OSError]) -> type[GobblerError]:
    attributes = {"__module__": kind.__module__, "__doc__": kind.__doc__, "_plain": kind}
    return type(kind.__name__, (kind, foreign), attributes)


def refusal(code: int, body: object) -> GobblerError:
    """Make the error of a refusal from its HTTP status and its JSON document."""
    document = dict(body) if isinstance(body, Mapping) else {}
    reason = document.pop("reason", None)
    document.pop("status", None)
    return failure(GobblerError, code, str(reason or "the service gave no reason"), document)
