"""THE table from kinds of answers to HTTP codes (spec/requests.md, "Responses")."""

from collections.abc import Mapping
from types import MappingProxyType

from gobblerd.domain.errors import Kind

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
