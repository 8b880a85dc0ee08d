"""Many manifests at a time, by the C extension if it was built: batches of them on two cores.

Only plain manifests are understood there; what the extension does not take to be one is None, and the
caller's to parse, which also says what is wrong with it. Without the extension that is all of them.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import ModuleType
from typing import TypeVar

from gobblerd.registry.crew import share
from gobblerd.registry.manifests import Found, ManifestStamp, stamp_at

_BATCH = 128
S = TypeVar("S")
T = TypeVar("T")

Sum = tuple[ManifestStamp, int]  # the file's stamp and the bytes of its entries that are no links
# Project, asset, version and path of a link's parent, and the same of its ancestor.
Target = tuple[str, str, str, str, tuple[str, str, str, str] | None]
Links = tuple[ManifestStamp, list[tuple[str, int, Target]]]  # each link's path, size and target


def _loaded() -> ModuleType | None:
    try:
        from gobblerd.registry import _sums  # noqa: PLC0415 - optional, so not at the top
    except ImportError:
        return None
    return _sums if hasattr(_sums, "unchanged") else None  # not built from sources of before


SUMS = _loaded()


def sums_at(paths: Iterable[str]) -> list[Sum | None]:
    """Return what the manifests at these absolute paths add up to; None where only parsing tells.

    As of the next two, batches are worked on while `paths` are still being found.
    """
    if SUMS is None:
        return [None for _ in paths]
    return _in_batches(SUMS.count, paths)


def links_at(
    versions: Iterable[Found], projects: Iterable[str], judged: Callable[[Found, Links | None], T]
) -> list[T]:
    """Look for the links with parent or ancestor in one of the projects; None where only parsing tells.

    `judged` returns what becomes of that: one thread does it while the other looks at more.
    """
    if SUMS is None:
        return [judged(each, None) for each in versions]
    wanted = tuple(project.encode("utf-8", "surrogateescape") for project in projects)
    return _in_batches(partial(_links, SUMS, wanted, judged), versions)


def _links(
    extension: ModuleType,
    wanted: tuple[bytes, ...],
    judged: Callable[[Found, Links | None], T],
    versions: Sequence[Found],
) -> list[T]:
    found: list[Links | None] = extension.links([each[-1] for each in versions], wanted)
    return list(map(judged, versions, found))


def stamps_at(paths: Iterable[str]) -> list[ManifestStamp | None]:
    """Return the stamps of files, None where there is none; OSError."""
    if SUMS is None:
        return [stamp_at(path) for path in paths]
    return _in_batches(partial(_stamps, SUMS), paths)


def _stamps(extension: ModuleType, paths: Sequence[str]) -> list[ManifestStamp | None]:
    found: list[ManifestStamp | None] = extension.stamps(paths)
    if None not in found:
        return found
    return [stamp or stamp_at(path) for path, stamp in zip(paths, found, strict=True)]


def are_unchanged(paths: list[str], stamps: list[ManifestStamp]) -> bool:
    """Tell whether each of these files still has its stamp; OSError perhaps, if one has not."""
    if SUMS is None:
        return all(stamp_at(path) == stamp for path, stamp in zip(paths, stamps, strict=True))
    if len(paths) < _BATCH:
        return bool(SUMS.unchanged(paths, stamps))
    half = len(paths) // 2
    halves = [(paths[:half], stamps[:half]), (paths[half:], stamps[half:])]
    return all(share(partial(_unchanged, SUMS), halves))


def _unchanged(extension: ModuleType, some: tuple[list[str], list[ManifestStamp]]) -> bool:
    return bool(extension.unchanged(*some))


def _in_batches(work: Callable[[Sequence[S]], list[T]], some: Iterable[S]) -> list[T]:
    rest = iter(some)
    batches = iter(lambda: list(itertools.islice(rest, _BATCH)), [])
    return list(itertools.chain.from_iterable(share(work, batches)))
