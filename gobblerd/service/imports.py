"""Importing what a process needs, without what it never uses: the start of a daemon is mostly that.

The interpreter's collector would look again and again at a hundred thousand objects that all stay. aiohttp
loads the system's certificates, twice, for its client, which nobody here has a use for; structlog takes rich
along, for tracebacks in colour.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator

_COLLECTED_AFTER = 10_000  # new objects; Python's 700 are a request or two, and make hardly any cycles


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage within this block, and never again at what was made in it or before.

    Afterwards more rarely than Python would.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(_COLLECTED_AFTER)


@contextlib.contextmanager
def for_a_daemon() -> Iterator[None]:
    """Import structlog within this block without what a daemon never uses."""
    with uncollected(), _without("rich"):
        yield


@contextlib.contextmanager
def for_http() -> Iterator[None]:
    """Import aiohttp too within this block, without what a server never uses."""
    with for_a_daemon(), _without_certificates():
        yield


@contextlib.contextmanager
def _without_certificates() -> Iterator[None]:
    """Let TLS contexts made within this block trust nobody: with one of them no connection comes about."""
    from ssl import SSLContext  # noqa: PLC0415 - not every subcommand needs it

    # In front of the one of the class that it derives from.
    SSLContext.set_default_verify_paths = _find_none  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del SSLContext.set_default_verify_paths


def _find_none(_context: object) -> None:
    """Look nowhere for certificates."""


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Make a package look as if it were not installed, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
