"""Where the service is: what the caller says, the environment, the user's configuration file, in this order.

The file is `gobbler/config.toml` in XDG_CONFIG_HOME (default ~/.config), with the keys `staging`,
`registry` and `url`; other keys are for others.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

KEYS = ("staging", "registry", "url")


class Places(NamedTuple):
    """Where the service is; None for what is not known, or not to be used."""

    staging: str | None
    registry: str | None
    url: str | None


def config_file() -> str:
    """Return the path of the user's configuration file, whether it is there or not."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "gobbler", "config.toml")


def resolve(staging: str | None = None, registry: str | None = None, url: str | None = None) -> Places:
    """Fill in what is None; an empty text means that there is none, whatever is configured.

    ValueError if the configuration file is not what it should be.
    """
    given: dict[str, str | None] = dict(zip(KEYS, (staging, registry, url), strict=True))
    for key in KEYS:
        if given[key] is None:
            given[key] = os.environ.get(f"GOBBLER_{key.upper()}")
    if any(value is None for value in given.values()):
        configured = _configured(config_file())
        given = {key: configured.get(key) if value is None else value for key, value in given.items()}
    return Places(*(given[key] or None for key in KEYS))


def _configured(path: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            import tomllib  # noqa: PLC0415 - needed only where there is a file

            found = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # HOME may be somebody else's
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for key in KEYS:
        if not isinstance(found.get(key, ""), str):
            raise ValueError(f"{path}: {key} is not a text")  # noqa: TRY004 - of the file's, not the caller's
    return found
