"""One service, said once: `Gobbler` has the functions of this package as methods, without the three places.

`Gobbler().fetch_latest("p", "a")` is `fetch_latest("p", "a", registry=..., url=...)`; a place may still be
given by name. The methods are the functions: signatures in `help`, too, are made from them.
"""

from collections.abc import Callable
from typing import Any

from gobblerd.client import actions, drops, fetching, listing, reading, releases, settings, uploading

_PLACES = ("staging", "registry", "url")


class _Operation:
    """Makes a method of a function, by filling in what the object knows."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        code = function.__code__
        taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self._positional = [name for name in code.co_varnames[: code.co_argcount] if name not in _PLACES]
        self._filled = [name for name in (*_PLACES, "timeout") if name in taken]
        self._takes_more = bool(code.co_flags & 0x08)  # **kwargs of version_path: those of fetch_directory

    def __get__(self, owner: "Gobbler | None", kind: type) -> Callable[..., Any]:
        """Return the method of an object; of the class, the function."""
        if owner is None:
            return self._function

        def method(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(self._positional):
                most = len(self._positional)
                raise TypeError(f"{self._function.__name__}() takes at most {most} arguments by position")
            for name, value in zip(self._positional, args, strict=False):
                if name in kwargs:
                    raise TypeError(f"{self._function.__name__}() got several values for {name!r}")
                kwargs[name] = value
            filled = ("registry", "url") if self._takes_more else self._filled
            return self._function(**{name: getattr(owner, name) for name in filled} | kwargs)

        method.__name__ = method.__qualname__ = self._function.__name__
        method.__doc__ = self._function.__doc__
        return method


class Gobbler:
    """A service: its staging directory, its registry's directory, its REST API's URL.

    What is not given is taken from GOBBLER_STAGING, GOBBLER_REGISTRY and GOBBLER_URL, else from the user's
    configuration file (`settings`); give "" for one that is not to be used. `timeout` is for requests, as
    in `submit`. Every operation is the function of this package with that name.
    """

    def __init__(
        self,
        staging: str | None = None,
        registry: str | None = None,
        url: str | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        self.staging, self.registry, self.url = settings.resolve(staging, registry, url)
        self.timeout = timeout

    def __repr__(self) -> str:
        """Show the places."""
        return f"Gobbler(staging={self.staging!r}, registry={self.registry!r}, url={self.url!r})"

    def submit(self, action: str, /, **fields: Any) -> dict[str, Any]:
        """Ask for any action by its name, with the fields of its request; return the answer's own keys."""
        return drops.submit(self.staging, self.url, action, fields, timeout=self.timeout)

    allocate_upload_directory = _Operation(uploading.allocate_upload_directory)
    approve_probation = _Operation(actions.approve_probation)
    clone_version = _Operation(reading.clone_version)
    create_project = _Operation(actions.create_project)
    download_version = _Operation(releases.download_version)
    fetch_directory = _Operation(fetching.fetch_directory)
    fetch_file = _Operation(fetching.fetch_file)
    fetch_latest = _Operation(reading.fetch_latest)
    fetch_manifest = _Operation(reading.fetch_manifest)
    fetch_permissions = _Operation(reading.fetch_permissions)
    fetch_summary = _Operation(reading.fetch_summary)
    fetch_usage = _Operation(reading.fetch_usage)
    list_assets = _Operation(listing.list_assets)
    list_files = _Operation(listing.list_files)
    list_projects = _Operation(listing.list_projects)
    list_versions = _Operation(listing.list_versions)
    refresh_latest = _Operation(actions.refresh_latest)
    refresh_usage = _Operation(actions.refresh_usage)
    reindex_version = _Operation(actions.reindex_version)
    reject_probation = _Operation(actions.reject_probation)
    release_record = _Operation(releases.release_record)
    remove_asset = _Operation(actions.remove_asset)
    remove_project = _Operation(actions.remove_project)
    remove_version = _Operation(actions.remove_version)
    reroute_links = _Operation(actions.reroute_links)
    resolve_versions = _Operation(releases.resolve_versions)
    service_info = _Operation(reading.service_info)
    set_permissions = _Operation(actions.set_permissions)
    unpack_path = _Operation(reading.unpack_path)
    upload_archive = _Operation(uploading.upload_archive)
    upload_directory = _Operation(uploading.upload_directory)
    validate_version = _Operation(actions.validate_version)
    version_path = _Operation(fetching.version_path)
