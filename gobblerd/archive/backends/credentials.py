"""User and password for a host: given, in the URL, in the environment, in netrc, in the keyring, or asked.

Looked for in this order; the first that has a password wins. The environment's is bound to one host by its
name, `GOBBLER_AUTH_<HOST>` with everything but letters and digits as `_` (GOBBLER_AUTH_CDCS_EXAMPLE_ORG),
as `user:password`, so that no other host is ever sent it. The keyring is the package of that name, if it is
installed. Nothing is written anywhere unless `store` says so, and nobody is asked but on a terminal.
"""

import contextlib
import netrc
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from gobblerd.domain.errors import Plain, Wrong

_SERVICE = "gobblerd"  # what our entries in the keyring are called, before the host


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who to be at a host; "" for nobody, who may read what is public. `repr` shows no password."""

    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Show who, and no more."""
        return f"Credentials({self.user!r})"


NOBODY = Credentials()


def find_credentials(
    url: str,
    user: str | None = None,
    password: str | None = None,
    *,
    ask: bool = False,
    store: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Credentials:
    """Return who to be at a URL: of what is known, the first; then, with `ask`, what a person types.

    With `store` the password that was given or typed is kept in the keyring. Wrong if a user is named, no
    password is known, and nobody can be asked.
    """
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    host = parts.hostname or ""
    given = Credentials(user or unquote(parts.username or ""), password or unquote(parts.password or ""))
    if given.password:
        found = given
    else:
        found = _known(host, given.user, environ) or _asked(host, given.user, ask=ask)
    if store and found.password:
        _keep(host, found)
    return found


def without_credentials(url: str) -> str:
    """Return the URL without user and password, as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _known(host: str, user: str, environ: Mapping[str, str]) -> Credentials | None:
    for source in (_of_environment, _of_netrc, _of_keyring):
        found: Credentials | None = source(host, user, environ)
        if found is not None and user in {"", found.user}:
            return found
    return None


def variable(host: str) -> str:
    """Return the name of the environment variable for a host.

    >>> variable("cdcs.example.org")
    'GOBBLER_AUTH_CDCS_EXAMPLE_ORG'
    """
    return "GOBBLER_AUTH_" + re.sub(r"[^A-Z0-9]", "_", host.upper())


def _of_environment(host: str, _user: str, environ: Mapping[str, str]) -> Credentials | None:
    user, colon, password = environ.get(variable(host), "").partition(":")
    return Credentials(user, password) if colon else None


def _of_netrc(host: str, _user: str, environ: Mapping[str, str]) -> Credentials | None:
    path = environ.get("NETRC") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".netrc")
    try:
        entries = netrc.netrc(path).hosts
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError) as error:
        raise Wrong("{path} cannot be read: {why}", path=path, why=error) from None
    found = entries.get(host)
    return Credentials(found[0], found[2]) if found and found[2] else None


def _of_keyring(host: str, user: str, _environ: Mapping[str, str]) -> Credentials | None:
    ring = _keyring()
    if ring is None or not user:  # an entry is found by its user
        return None
    password = None
    with contextlib.suppress(ring.errors.KeyringError):
        password = ring.get_password(f"{_SERVICE}+{host}", user)
    return Credentials(user, password) if password else None


def _keep(host: str, found: Credentials) -> None:
    ring = _keyring()
    if ring is None:
        raise Wrong("the password cannot be stored: pip install 'gobblerd[keyring]'")
    try:
        ring.set_password(f"{_SERVICE}+{host}", found.user, found.password)
    except ring.errors.KeyringError as error:
        raise Wrong("the password cannot be stored: {why}", why=error) from None


def _keyring() -> Any:
    try:
        import keyring  # noqa: PLC0415 - an extra
        import keyring.errors  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return keyring


def _asked(host: str, user: str, *, ask: bool) -> Credentials:
    if not ask and not user:
        return NOBODY
    if not ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
        if not user:
            return NOBODY
        raise Wrong(
            "no password of {user} for {host} is known: set {variable}, or write it into ~/.netrc",
            user=user,
            host=Plain(host),
            variable=Plain(variable(host)),
        )
    return _typed(host, user, input)


def _typed(host: str, user: str, read: Callable[[], str]) -> Credentials:
    import getpass  # noqa: PLC0415 - needed only here

    if not user:
        sys.stderr.write(f"user at {host} (empty: nobody): ")
        sys.stderr.flush()
        user = read().strip()
    return Credentials(user, getpass.getpass(f"password of {user} at {host}: ")) if user else NOBODY
