"""What a symbolic link says, and what the registry makes of it (spec/details.md, "Links").

A link's target is its text, joined to its directory and normalised lexically; that path is the parent.
Resolving it for real would skip to the ancestor, and would follow what an attacker swaps in.
"""

import functools
import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gobblerd.domain.errors import Wrong
from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.domain.names import Address, is_internal, is_readable_name


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A path of the same version."""

    path: str


@dataclass(frozen=True, slots=True)
class WhitelistedTarget:
    """A file outside, in a whitelisted directory: kept as it is. `path` is absolute, unresolved.

    `within` is the whitelisted directory that holds the resolved file, resolved too.
    """

    path: str
    resolved: str
    within: str = field(default="", compare=False)


Target = LocalTarget | FileAddress | WhitelistedTarget


def below(path: str, directory: str) -> str | None:
    """Return `path` relative to `directory` if it lies in it by components ("" for itself), else None."""
    if path == directory:
        return ""
    prefix = directory.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def _below_any(path: str, directories: Sequence[str]) -> str | None:
    return next((rest for each in directories if (rest := below(path, each)) is not None), None)


def aliases(path: str) -> tuple[str, ...]:
    """Return the spellings under which users may know a directory: as configured, and resolved."""
    return tuple(dict.fromkeys((posixpath.normpath(path), os.path.realpath(path))))


@dataclass(frozen=True)
class Surroundings:
    """Where symbolic links of one version may go: the version's own directory, the registry, a whitelist."""

    here: tuple[str, ...]  # spellings of the directory that holds the links
    registry: tuple[str, ...]  # spellings of the registry's root
    whitelist: tuple[str, ...]

    @functools.cached_property
    def _here_above(self) -> tuple[str, ...]:
        return tuple(each.rstrip("/") + "/" for each in self.here)

    @functools.cached_property
    def _registry_above(self) -> tuple[str, ...]:
        return tuple(each.rstrip("/") + "/" for each in self.registry)

    def targets(self, links: Iterable[tuple[str, str]]) -> dict[str, Target]:
        """Return where each link goes, a path and its text, as `target` does.

        Most links of one version go to the same other one, whose directory need not be judged again.
        """
        found: dict[str, Target] = {}
        above, version = "", ("", "", "")  # the directory that the text before began with
        for path, text in links:
            if above and text.startswith(above) and _is_plain(rest := text[len(above) :]):
                found[path] = FileAddress(*version, rest)
                continue
            found[path] = target = self.target(path, text)
            if isinstance(target, FileAddress) and _is_normal(text) and text.endswith(f"/{target.path}"):
                above, version = text[: -len(target.path)], (target.project, target.asset, target.version)
                if any(each.startswith(above) for each in (*self._here_above, *self._registry_above)):
                    above = ""  # a directory in it means something else
        return found

    def target(self, path: str, text: str) -> Target:
        """Return where the link at `path` (relative to `here`) goes; Wrong, naming it, if that is nowhere."""
        if _is_normal(text) and not text.startswith(self._here_above):
            for above in self._registry_above:  # as most links are: the rest comes to the same, only slower
                if text.startswith(above):
                    return _registry_file(path, text[len(above) :])
        for here in self.here:  # a relative text that climbs out means another place from each spelling
            joined = _normalised(posixpath.join(here, posixpath.dirname(path), text))
            found = self._judged(path, joined)
            if found is not None:
                return found
        raise Wrong(  # a reason never tells a path outside staging and registry
            "the symbolic link {path} goes to neither the source, the registry nor a whitelisted directory",
            path=path,
        )

    def _judged(self, path: str, joined: str) -> Target | None:
        if (local := _below_any(joined, self.here)) is not None:
            return self._local(path, local)
        inside = _below_any(joined, self.registry)
        if inside is not None:
            return _registry_file(path, inside)
        if any(below(joined, each) for each in self.whitelist):
            return self._whitelisted(path, joined)
        return None

    def _local(self, path: str, local: str) -> LocalTarget:
        if not local:
            raise Wrong("the symbolic link {path} goes to the source itself, which is no file", path=path)
        if any(is_internal(part) for part in local.split("/")):
            raise Wrong(
                "the symbolic link {path} goes to {target}, which is not uploaded", path=path, target=local
            )
        return LocalTarget(local)

    def _whitelisted(self, path: str, joined: str) -> WhitelistedTarget:
        resolved = os.path.realpath(joined)
        directories = map(os.path.realpath, self.whitelist)
        within = next((each for each in directories if below(resolved, each)), None)
        if within is None:
            raise Wrong("the symbolic link {path} leads out of the whitelisted directories", path=path)
        if not os.path.isfile(resolved):
            raise Wrong("the symbolic link {path} goes to no file in its whitelisted directory", path=path)
        return WhitelistedTarget(joined, resolved, within)


def _is_normal(text: str) -> bool:
    """Tell of most absolute texts that joining and normalising leaves them as they are."""
    return text[:1] == "/" and "//" not in text and "/." not in text and text[-1] != "/"


def _is_plain(rest: str) -> bool:
    """Tell of most relative paths that they are normal, and that no part of them is internal."""
    return rest != "" and rest[0] not in "./" and "/." not in rest and "//" not in rest and rest[-1] != "/"


def _normalised(path: str) -> str:
    # normpath keeps two leading slashes, which POSIX lets mean something else; Linux does not.
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _registry_file(path: str, inside: str) -> FileAddress:
    parts = inside.split("/", 3)
    has_internal = "/.." in f"/{inside}"  # a part that begins so
    if not inside:
        raise Wrong("the symbolic link {path} goes to the registry itself, which is no file", path=path)
    if len(parts) < 4 or has_internal or not _is_version(*parts[:3]):  # noqa: PLR2004
        raise Wrong(
            "the symbolic link {path} goes to {target} in the registry, which is no file of a version",
            path=path,
            target=inside,
        )
    return FileAddress(*parts)


@functools.lru_cache(maxsize=64)  # the links of one version go to few others
def _is_version(project: str, asset: str, version: str) -> bool:
    return all(map(is_readable_name, (project, asset, version)))


def link_text(version: Address, path: str, link: Link) -> str:
    """Return what the symbolic link at `path` says: relative, to the ancestor if there is one."""
    return text_to(version, path, link.ancestor or link)


def text_to(version: Address, path: str, target: FileAddress | Link) -> str:
    """Return what a symbolic link at `path` of the version says that goes to the target."""
    if target.project != version.project:
        return (
            f"{'../' * (path.count('/') + 3)}{target.project}/{target.asset}/{target.version}/{target.path}"
        )
    if target.asset != version.asset:
        return f"{'../' * (path.count('/') + 2)}{target.asset}/{target.version}/{target.path}"
    if target.version != version.version:
        return f"{'../' * (path.count('/') + 1)}{target.version}/{target.path}"
    there, here = target.path.split("/"), path.split("/")
    shared = 0
    most = min(len(there), len(here)) - 1  # what the names themselves share does not count
    while shared < most and there[shared] == here[shared]:
        shared += 1
    return "../" * (len(here) - 1 - shared) + "/".join(there[shared:])
