"""Which kind of place a host is: a registry or an rmellipse archive by path, a gobblerd or CDCS by URL."""

import os
from contextlib import suppress
from urllib.parse import quote, urlsplit, urlunsplit

from gobblerd.archive.backends.backend import Backend
from gobblerd.archive.backends.credentials import find_credentials, without_credentials
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.registry import layout

_SCHEMES = ("http", "https")
_KINDS = ("gobbler", "cdcs")  # may be put before a URL, as in cdcs+https://...
_REGISTRY_SIGNS = (layout.MARKER, layout.LOGS, layout.TRANSACTIONS)


def get_backend(
    host: str,
    user: str | None = None,
    password: str | None = None,
    *,
    staging: str | None = None,
    cache: str | None = None,
    ask: bool = False,
    store: bool = False,
) -> Backend:
    """Return the place that keeps releases at a path or URL.

    A path is an rmellipse archive if it holds `.rmearchive`, else a registry. A URL is a gobblerd if it
    answers as one, else a CDCS; `gobbler+https://...` and `cdcs+https://...` say which. `staging` is needed
    to put releases into a registry (a gobblerd's own is asked for). `cache` is where files wait that come
    over REST. User and password are found as `credentials.py` says; with `ask` a person on a terminal is
    asked, with `store` the keyring keeps what was given or typed. Wrong if it is none of these.

    >>> get_backend("ftp://example.org")
    Traceback (most recent call last):
    gobblerd.domain.errors.Wrong: "ftp://example.org" is neither a path nor a URL of http or https
    """
    if "://" not in host:
        return _at_path(os.path.abspath(os.path.expanduser(host)), staging)
    kind, url = _split(host)
    shown = without_credentials(url)
    if kind == "" and _answers_as_gobblerd(url):
        kind = "gobbler"
    if kind == "gobbler":
        found = find_credentials(url, user, password, store=store)
        return _gobbler_at(_with_credentials(shown, found.user, found.password), shown, staging, cache)
    from gobblerd.archive.backends.cdcs import CDCSArchive  # noqa: PLC0415 - it needs an extra

    found = find_credentials(url, user, password, ask=ask, store=store)
    return CDCSArchive(shown, found.user, found.password)


def _split(host: str) -> tuple[str, str]:
    scheme, _, rest = host.partition("://")
    kind, plus, bare = scheme.rpartition("+")
    if bare not in _SCHEMES or (plus and kind not in _KINDS):
        shown = without_credentials(host)
        raise Wrong("{host} is neither a path nor a URL of http or https", host=shown)
    return kind, f"{bare}://{rest}"


def _at_path(path: str, staging: str | None) -> Backend:
    from gobblerd.archive.backends.gobbler import GobblerArchive  # noqa: PLC0415 - one of two
    from gobblerd.archive.backends.rmellipse import MARKER, FileSystemArchive  # noqa: PLC0415 - as above

    with suppress(FileNotFoundError, NotADirectoryError):
        os.stat(os.path.join(path, MARKER))  # a place that may not be looked at is not one that is none
        return FileSystemArchive(path)
    if any(os.path.exists(os.path.join(path, sign)) for sign in _REGISTRY_SIGNS):
        from gobblerd.client import Gobbler  # noqa: PLC0415 - needed only here

        return GobblerArchive(Gobbler(staging, path, ""), path)
    if not os.path.isdir(path):
        raise Wrong("there is no directory {path}", path=path)
    raise Wrong(
        "{path} is neither a registry nor an rmellipse archive; `touch {marker}` in it makes it the latter",
        path=path,
        marker=Plain(MARKER),
    )


def _answers_as_gobblerd(url: str) -> bool:
    from gobblerd.client import GobblerError, GobblerUnreachable, service_info  # noqa: PLC0415 - as above

    try:
        return {"staging", "registry"} <= service_info(url).keys()
    except GobblerUnreachable:
        raise
    except (GobblerError, ValueError, AttributeError):  # answered, by something else
        return False


def _gobbler_at(url: str, shown: str, staging: str | None, cache: str | None) -> Backend:
    from gobblerd.archive.backends.gobbler import GobblerArchive  # noqa: PLC0415 - it is one of several
    from gobblerd.client import Gobbler  # noqa: PLC0415 - as above

    gobbler = Gobbler(staging or "", "", url)
    if not gobbler.staging:
        gobbler.staging = gobbler.service_info().get("staging")
    return GobblerArchive(gobbler, shown, cache)


def _with_credentials(url: str, user: str, password: str) -> str:
    if not user:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{quote(user, '')}:{quote(password, '')}@{parts.netloc}"))
