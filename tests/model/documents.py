"""What a request document must look like, and who may send it at all: all that is judged before any place.

From the table of actions in spec/requests.md and the name rules of spec/registry.md.
"""

import unicodedata
from collections.abc import Callable
from typing import Any

from model.contract import ADMINISTRATORS, SPOOFERS, Document, Refusal, Request

Check = Callable[[Any], bool]


def is_name(value: Any) -> bool:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= 255 or value.startswith(".."):
        return False
    forbidden = any(c in "/\\" or unicodedata.category(c) == "Cc" for c in value)
    return value != "." and not forbidden


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_source(value: Any) -> bool:
    return is_text(value) and value not in {"", "."} and "/" not in value and not value.startswith("..")


def holds(value: Any, required: dict[str, Check], optional: dict[str, Check]) -> bool:
    if not isinstance(value, dict):
        return False
    present = {k: v for k, v in value.items() if v is not None}  # null is absence
    every = required | optional
    return required.keys() <= present.keys() and all(every[k](v) for k, v in present.items() if k in every)


def is_list(item: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(item, value))


def is_uploader(value: Any) -> bool:
    optional = {"asset": is_name, "version": is_text, "until": is_text, "trusted": is_flag}
    return holds(value, {"id": is_text}, optional)


def is_permissions(value: Any) -> bool:
    optional = {"owners": is_list(is_text), "uploaders": is_list(is_uploader), "global_write": is_flag}
    return holds(value, {}, optional)


def is_doomed(value: Any) -> bool:
    if not holds(value, {"project": is_name}, {"asset": is_name, "version": is_name}):
        return False
    return value.get("version") is None or value.get("asset") is not None


PROJECT: dict[str, Check] = {"project": is_name}
ASSET = PROJECT | {"asset": is_name}
VERSION = ASSET | {"version": is_name}
SPOOF: dict[str, Check] = {"spoof": is_text}
FORCE: dict[str, Check] = {"force": is_flag}
FLAGS: dict[str, Check] = {"on_probation": is_flag, "ignore_dot": is_flag, "consume": is_flag}
QUOTA: dict[str, Check] = {"baseline": is_count, "growth_rate": is_count, "year": is_count}

FIELDS: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "create_project": (PROJECT, {"permissions": is_permissions}),
    "upload": (VERSION | {"source": is_source}, FLAGS | SPOOF),
    "set_permissions": (PROJECT | {"permissions": is_permissions}, {"asset": is_name} | SPOOF),
    "approve_probation": (VERSION, SPOOF),
    "reject_probation": (VERSION, FORCE | SPOOF),
    "refresh_usage": (PROJECT, {}),
    "refresh_latest": (ASSET, {}),
    "reindex_version": (VERSION, {}),
    "validate_version": (VERSION, {}),
    "delete_version": (VERSION, FORCE),
    "delete_asset": (ASSET, FORCE),
    "delete_project": (PROJECT, FORCE),
    "reroute_links": ({"to_delete": is_list(is_doomed)}, {"dry_run": is_flag}),
    "set_quota": (PROJECT, QUOTA),
}
ANYBODY = {"upload", "set_permissions", "approve_probation", "reject_probation"}


def judge(request: Request) -> None:
    """Refuse what is refused before any place is looked at: 400 first, then 403."""
    required, optional = FIELDS[request.action]
    if not holds(request.document, required, optional):
        raise Refusal(400)
    if "spoof" in optional and request.spoof is not None:
        users, anyone, but = SPOOFERS.get(request.user, (frozenset(), False, frozenset()))
        if not (request.spoof not in but if anyone else request.spoof in users):
            raise Refusal(403)
    if request.action not in ANYBODY and request.user not in ADMINISTRATORS:
        raise Refusal(403)


def unread(request: Request) -> list[str]:
    """Keys at the top of the document that no action reads; they are reported."""
    required, optional = FIELDS[request.action]
    document: Document = request.document
    return [key for key, value in document.items() if value is not None and key not in required | optional]
