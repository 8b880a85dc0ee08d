"""The same calls on two sides: real pygobbler, and `gobblerd.client` in its place, on one daemon.

Each side has a project of its own, of equally long name, so that everything but that name can be compared.
"""

import json
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from support.daemon import RunningDaemon
from support.places import Tree, read_tree, write_tree


class Side:
    """One client module at work; `project` is made already, `base` is an empty directory."""

    def __init__(self, module: ModuleType, daemon: RunningDaemon, base: str, project: str) -> None:
        self.module, self.daemon, self.base, self.project = module, daemon, base, project
        self.url = f"http://127.0.0.1:{daemon.port}"
        self.cache = os.path.join(base, "cache")

    @property
    def staging(self) -> dict[str, str]:
        """What functions that ask for a change need."""
        return {"staging": self.daemon.staging, "url": self.url}

    @property
    def registry(self) -> dict[str, str]:
        """What functions that read need."""
        return {"registry": self.daemon.registry, "url": self.url}

    @property
    def remote(self) -> dict[str, Any]:
        """What functions that read need to read over REST though the registry is there."""
        return {**self.registry, "force_remote": True}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.module, name)

    def place(self, asset: str = "data", version: str = "1") -> dict[str, str]:
        return {"project": self.project, "asset": asset, "version": version}

    def tree(self, name: str, tree: Tree) -> str:
        """Make a directory outside staging."""
        path = os.path.join(self.base, name)
        write_tree(path, tree)
        return path

    def upload(self, tree: Tree, asset: str = "data", version: str = "1", **options: Any) -> None:
        """Upload a directory from outside staging."""
        directory = self.tree(f"{asset}-{version}", tree)
        self.module.upload_directory(
            **self.place(asset, version), directory=directory, **self.staging, **options
        )

    def refused(self, function: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Call what must fail; return the error's builtin base, whether it is requests' HTTPError, its arguments."""
        import requests

        try:
            value = getattr(self.module, function)(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            http = isinstance(error, requests.HTTPError)
            kind = "HTTPError" if http else type(error).__name__
            return [kind, *[str(argument) for argument in error.args[:2]]]
        raise AssertionError(f"{function} succeeded: {value}")

    def cached(self, ignored: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return what lies in the cache, with neither parts nor modes."""
        return {
            path: content.decode() if isinstance(content, bytes) else content
            for path, content in read_tree(self.cache).items()
            if "/TEMP" not in path and os.path.basename(path) not in ignored
        }

    def comparable(self, value: Any) -> Any:
        """Return a result without what must differ: this side's names, identities and times."""
        text = json.dumps(value, sort_keys=True, default=str)
        text = text.replace(self.project, "PROJECT").replace(self.base, "BASE")
        return json.loads(text)
