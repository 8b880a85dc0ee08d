"""Whether what a transaction plans can be done: asked just before its commit, after which nothing may fail.

A committed step that fails is tried for ever, and its places stay closed until it succeeds. So whatever a
look can tell of where documents and trees are to go, or come from, is refused before: another account's
directory, a directory where a document would be, what is immutable, a mount point, another filesystem.
"""

import errno
import os
import stat
from collections.abc import Iterator

from gobblerd.domain.errors import Fault, Plain
from gobblerd.registry import layout
from gobblerd.registry.transaction import Plan, make_transactions
from gobblerd.registry.writable import check_writable
from gobblerd.storage.attributes import APPEND_ONLY, IMMUTABLE, MOUNT_POINT, Standing, standing


def check_feasible(root: str, plan: Plan) -> None:
    """Raise Fault, naming it and what to do, where a step of the plan could not be done."""
    here = standing(layout.join(root, layout.TRANSACTIONS), follow=True)
    if here is None:
        here = standing(root, follow=True)
    else:
        _check_applied(root)
    directories: dict[str, list[tuple[str, bool]]] = {}
    for path, is_document in _targets(plan):
        directory, _, name = path.rpartition("/")
        directories.setdefault(directory, []).append((name, is_document))
    for directory, names in directories.items():
        _check_directory(root, directory, here)
        for name, is_document in names:
            if name:
                _check_name(root, directory, name, is_document=is_document)


def _check_applied(root: str) -> None:
    """Raise Fault where the record could not be moved once it is applied."""
    try:
        check_writable(layout.join(root, layout.APPLIED))
    except FileNotFoundError:
        make_transactions(root)


def _targets(plan: Plan) -> Iterator[tuple[str, bool]]:
    """Yield each path that a step moves something to or from, and whether it is that of a document."""
    for step in plan.steps:
        yield step.path, step.kind == "write" or (step.kind == "install" and not step.fresh)
    for project in {**plan.values.usage_changes, **plan.values.usage_totals}:
        yield layout.join(project, layout.USAGE), True
    for asset in plan.values.latest:
        yield layout.in_place(asset, layout.LATEST), True
    if plan.events:
        yield f"{layout.LOGS}/", False


def _check_directory(root: str, directory: str, here: Standing | None) -> None:
    path = layout.join(root, directory)
    found = standing(path, follow=True)
    if found is None and directory == layout.LOGS and not os.path.islink(path):
        return  # made when it is needed
    check_writable(path)
    if found is None or here is None:
        return
    if found.attributes & APPEND_ONLY:
        raise _unmovable(path, "nothing in it can be renamed (chattr +a)", "chattr -a it")
    if found.mount != here.mount:
        raise _unmovable(
            path,
            "it is on another filesystem than the registry, or on another mount of the same, and nothing can "
            "be renamed between them",
            "unmount what is mounted there, or move it into the registry's own",
        )


def _check_name(root: str, directory: str, name: str, *, is_document: bool) -> None:
    path = layout.join(root, directory, name)
    found = standing(path)
    if found is None:
        return
    if is_document and found.is_directory:
        raise _unmovable(
            path, os.strerror(errno.EISDIR), "move it away: a document of gobblerd's belongs there"
        )
    if found.attributes & (IMMUTABLE | APPEND_ONLY):
        raise _unmovable(path, os.strerror(errno.EPERM), "chattr -i -a it")
    if found.attributes & MOUNT_POINT:
        raise _unmovable(path, "something is mounted there", "unmount it")
    if found.uid != os.geteuid():
        _check_sticky(path, layout.join(root, directory))


def _check_sticky(path: str, directory: str) -> None:
    """Raise Fault for another's file in another's sticky directory, which only these two may move."""
    above = standing(directory, follow=True)
    us = os.geteuid()
    if us != 0 and above is not None and above.mode & stat.S_ISVTX and above.uid != us:
        raise _unmovable(
            path, "it belongs to another account, and so does its sticky directory", "chown both"
        )


def _unmovable(path: str, why: str, mend: str) -> Fault:
    return Fault(
        "{path} cannot be replaced or moved: {why}; {mend}", path=path, why=Plain(why), mend=Plain(mend)
    )
