"""What many manifests add up to, by the C extension if it was built: batches of them on two cores.

Only plain manifests are counted here; what the extension does not take to be one is None, and the caller's to
parse, which also says what is wrong with it. Without the extension that is all of them.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from gobblerd.registry.manifests import ManifestStamp

_BATCH = 256
_THREADS = 2  # with the page cache warm, more have nothing to wait for

Sum = tuple[ManifestStamp, int]  # the file's stamp and the bytes of its entries that are no links


def _loaded() -> ModuleType | None:
    try:
        from gobblerd.registry import _sums  # noqa: PLC0415 - optional, so not at the top
    except ImportError:
        return None
    return _sums


SUMS = _loaded()


def sums_at(paths: Sequence[str]) -> list[Sum | None]:
    """Return what the manifests at these absolute paths add up to; None where only parsing tells."""
    if SUMS is None:
        return [None] * len(paths)
    if len(paths) <= _BATCH:
        return list(SUMS.count(paths))
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sums") as pool:
        return list(itertools.chain.from_iterable(pool.map(SUMS.count, batches)))
