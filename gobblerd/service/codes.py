"""THE table from kinds of answers to HTTP codes (spec/requests.md, "Responses"); how to answer an error."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gobblerd.domain.errors import GobblerdError, Kind
from gobblerd.domain.messages import error_body

STATUS: Mapping[Kind, int] = MappingProxyType(
    {
        Kind.WRONG: 400,
        Kind.FORBIDDEN: 403,
        Kind.ABSENT: 404,
        Kind.EXCEEDED: 413,
        Kind.INVALID: 422,
        Kind.FAULT: 500,
        Kind.BUSY: 503,
    }
)

INTERNAL = "an internal error of the service; its log has more"  # of what was not foreseen, no more is told


def refusal(error: GobblerdError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP code and the document that an error is answered with."""
    return STATUS[error.kind], error_body(error.reason, error.details())
