"""Checking one version: every size, checksum and link, missing and extra files, and the summary.

All problems are listed, and none hides another; nothing is changed, and no lock is taken. What is compared
and what is not: spec/details.md, "Links", `validate_version` (modes, owners and unknown keys are not).

Known limits: the bytes of a link are those of the version it goes to, and are hashed when that one is
checked; here only their size on disk is looked at.
"""

import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import cast

from gobblerd.domain.errors import Wrong, printable, quoted
from gobblerd.domain.manifest import Entry, Link, links_by_directory, stored_bytes
from gobblerd.domain.names import Address
from gobblerd.domain.times import parse_time
from gobblerd.registry import documents, layout
from gobblerd.registry.copying import Digest
from gobblerd.registry.fast_sums import FastSums, compact
from gobblerd.registry.flaws import Flaw, Problem, differences, read_entries
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.meter import Meter, Progress, Tick
from gobblerd.registry.symlinks import Surroundings, WhitelistedTarget, aliases
from gobblerd.registry.targets import Targets
from gobblerd.registry.tree import (
    EMPTY,
    FILE,
    NOTHING,
    SYMLINK,
    Columns,
    Hashing,
    Tree,
    digest_at,
    hexes,
    stamp_at,
    take_tree,
)
from gobblerd.storage.batches import DIGEST

_HUGE = 8 * 1024 * 1024  # bytes of a manifest: some 80,000 files


def check_version(
    metadata: Metadata, version: Address, whitelist: Sequence[str], progress: Progress
) -> list[Problem]:
    """Return everything that is wrong with a version, sorted by path.

    `progress` is told of the bytes read, and may raise to cancel.
    """
    return VersionCheck(metadata, version, whitelist, progress).run()


def _shown(link: Link | None) -> str:
    if link is None:
        return "no link"
    end = f" with the ancestor {link.ancestor}" if link.ancestor else ""
    return f"a link to {link.parent}{end}"


class VersionCheck:
    """One check of one version."""

    def __init__(
        self, metadata: Metadata, version: Address, whitelist: Sequence[str], progress: Progress
    ) -> None:
        self._metadata = metadata
        self._version = version
        self._root = metadata.path(str(version))
        self._progress = progress
        self._tick: Tick = Meter(progress, 0).tick
        self._surroundings = Surroundings(aliases(self._root), aliases(metadata.root), tuple(whitelist))
        self._problems: list[Problem] = []
        self._fast: FastSums = {}

    def run(self) -> list[Problem]:
        """Check everything."""
        self._check_summary()
        if self._is_huge():
            # The documents come first: reading them takes more memory than they keep.
            manifest, unreadable = self._documents()
            tree = take_tree(self._root, stamped=False)
            with Hashing(self._root, self._to_read(tree, manifest or {})) as hashing:
                self._check(tree, hashing, manifest, unreadable)
        else:
            tree = take_tree(self._root, stamped=False)
            with Hashing(self._root, self._to_read(tree)) as hashing:  # while the documents are parsed
                self._check(tree, hashing, *self._documents())
        return sorted(self._problems)

    def _is_huge(self) -> bool:
        """Tell whether the manifest is one of which memory can hold little else while it is parsed."""
        stamp = stamp_at(f"{self._root}/{layout.MANIFEST}")
        return stamp is not None and stamp.size > _HUGE

    def _documents(self) -> tuple[dict[str, Entry] | None, Mapping[str, str]]:
        self._fast = self._fast_sums()
        return self._manifest()

    def _check(
        self,
        tree: Tree,
        hashing: Hashing,
        manifest: dict[str, Entry] | None,
        unreadable: Mapping[str, str],
    ) -> None:
        """Check the files, by what hashing them gives, and the links."""
        for directory, error in tree.unreadable.items():
            self._add(directory, Flaw.UNREADABLE, "a directory that can be read", error)
        if manifest is None:
            return
        self._tick = Meter(self._progress, stored_bytes(manifest)).tick
        self._check_extra(tree, manifest, unreadable)
        self._check_types(tree, manifest)
        tree.files.clear()  # their names were needed until here
        self._check_bytes(hashing, manifest)
        self._check_links_files(tree, manifest)
        self._check_targets(manifest)

    def _add(self, path: str, kind: Flaw, expected: object, found: object) -> None:
        self._problems.append(Problem(printable(path), kind, printable(expected), printable(found)))

    # -- documents -------------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        """Read one of the version's documents; None, and a problem, where that fails."""
        try:
            data = self._metadata.read(f"{self._version}/{name}")
        except OSError as error:
            self._add(name, Flaw.UNREADABLE, "a document", error.strerror)
            return None
        if data is None:
            self._add(name, Flaw.MISSING, "a document", NOTHING)
        return data

    def _check_summary(self) -> None:
        data = self._read(layout.SUMMARY)
        if data is None:
            return
        try:
            summary = documents.read_summary(data)
        except documents.Unreadable as error:
            self._add(layout.SUMMARY, Flaw.UNREADABLE, "a summary", error)
            return
        if not summary.upload_user_id:
            self._add(layout.SUMMARY, Flaw.SUMMARY, "a non-empty upload_user_id", '""')
        try:
            parse_time(summary.upload_start)
        except ValueError:
            self._add(layout.SUMMARY, Flaw.SUMMARY, "a time in upload_start", quoted(summary.upload_start))

    def _fast_sums(self) -> FastSums:
        return compact(self._metadata.checksums(self._version))

    def _manifest(self) -> tuple[dict[str, Entry] | None, Mapping[str, str]]:
        """Return as much of the manifest as can be read, and what cannot; None, with a problem, if all."""
        data = self._read(layout.MANIFEST)
        if data is None:
            return None, {}
        try:
            manifest, unreadable = read_entries(data)
        except documents.Unreadable as error:
            self._add(layout.MANIFEST, Flaw.UNREADABLE, "a manifest", error)
            return None, {}
        for path, flaw in unreadable.items():
            self._add(path, Flaw.UNREADABLE, "an entry of the manifest", flaw)
        return manifest, unreadable

    def _check_extra(self, tree: Tree, manifest: Mapping[str, Entry], unreadable: Mapping[str, str]) -> None:
        for path in tree.unlisted(manifest):
            if path not in unreadable:
                kind = Flaw.EXTRA_DIRECTORY if path in tree.empty else Flaw.EXTRA
                self._add(path, kind, NOTHING, tree.what(path))

    # -- files -----------------------------------------------------------------------------------------

    def _check_types(self, tree: Tree, manifest: Mapping[str, Entry]) -> None:
        files = tree.files
        for path, entry in manifest.items():
            if entry.md5sum and entry.link is None and path in files:  # as nearly all are
                continue
            found = tree.what(path)
            plain = EMPTY if entry.is_directory else FILE
            expected = plain if entry.link is None else SYMLINK
            if found == NOTHING:
                self._add(path, Flaw.MISSING, expected, NOTHING)
            elif found == SYMLINK and expected == FILE:
                self._check_whitelisted(path, tree.symlinks[path], entry)
            elif found != expected:
                self._add(path, Flaw.TYPE, expected, found)
            elif entry.link is not None:
                self._check_symlink(path, tree.symlinks[path], entry.link)

    def _to_read(self, tree: Tree, manifest: Mapping[str, Entry] | None = None) -> list[str]:
        """Return the files whose bytes the manifest tells of; all, as nearly all are, if it is not known."""
        if manifest is None:
            return sorted(tree.files)
        return sorted(path for path in tree.files if path in manifest and _is_file(manifest[path]))

    def _check_bytes(self, hashing: Hashing, manifest: Mapping[str, Entry]) -> None:
        def is_noted(path: str) -> bool:
            entry = manifest.get(path)
            return entry is not None and _is_file(entry)

        for some in hashing.results(self._tick, is_noted):
            if isinstance(some, Columns) and self._all_agree(some, manifest):
                continue
            for path, digest in some.each() if isinstance(some, Columns) else [some]:
                if is_noted(path):
                    self._compare(path, digest, manifest[path], self._fast.get(path))

    def _all_agree(self, read: Columns, manifest: Mapping[str, Entry]) -> bool:
        """Tell whether none of these files has any of the `differences`."""
        entries = list(map(manifest.get, read.paths))
        if None in entries:
            return False
        found = cast("list[Entry]", entries)
        fast = list(map(self._fast.get, read.paths))
        return (
            _are([entry.md5sum for entry in found], read.md5s)
            and [entry.size for entry in found] == read.sizes
            and (_are(fast, read.xxh128s) or all(map(_is_fast, fast, hexes(read.xxh128s))))
        )

    def _compare(self, path: str, digest: Digest | str, entry: Entry, fast: str | None) -> None:
        for flaw, expected, found in differences(digest, entry, fast):
            self._add(path, flaw, expected, found)

    def _check_whitelisted(self, path: str, text: str, entry: Entry) -> None:
        """Check a symbolic link that the manifest lists as a plain file."""
        if not text.startswith("/"):
            self._add(path, Flaw.TYPE, FILE, f"{SYMLINK} to {quoted(text)}")
            return
        try:
            target = self._surroundings.target(path, text)
        except Wrong as error:
            self._add(path, Flaw.SYMLINK, "one into a whitelisted directory", error.reason)
            return
        if not isinstance(target, WhitelistedTarget):
            self._add(path, Flaw.SYMLINK, "one into a whitelisted directory", quoted(text))
            return
        self._compare_target(path, target.resolved, entry)

    def _compare_target(self, path: str, resolved: str, entry: Entry) -> None:
        self._compare(path, digest_at(resolved, path, self._tick), entry, None)

    # -- links -----------------------------------------------------------------------------------------

    def _check_symlink(self, path: str, text: str, link: Link) -> None:
        """Check that the symbolic link is relative, stays in the registry, and goes to parent or ancestor."""
        targets = {str(link.parent), str(link.target)}
        expected = f"one to {link.target}"
        if text.startswith("/"):
            self._add(path, Flaw.SYMLINK, f"{expected}, relative", quoted(text))
            return
        target = _within_registry(posixpath.dirname(f"{self._version}/{path}"), text)
        if target is None:
            self._add(path, Flaw.SYMLINK, f"{expected}, within the registry", quoted(text))
        elif target not in targets:
            self._add(path, Flaw.SYMLINK, expected, quoted(text))
        elif self._leads_nowhere(path, target):
            self._add(path, Flaw.SYMLINK, f"{expected} that can be followed", quoted(text))

    def _leads_nowhere(self, path: str, target: str) -> bool:
        """Tell whether a link right by its text goes there by way of what does not exist."""
        return os.path.lexists(self._metadata.path(target)) and not os.path.exists(f"{self._root}/{path}")

    def _check_links_files(self, tree: Tree, manifest: Mapping[str, Entry]) -> None:
        expected = links_by_directory(manifest)
        for directory in sorted(expected.keys() | tree.links.keys()):
            self._check_links_file(directory, tree, expected.get(directory, {}), manifest)

    def _check_links_file(
        self, directory: str, tree: Tree, expected: Mapping[str, Link], manifest: Mapping[str, Entry]
    ) -> None:
        name = layout.links_file(directory)
        if directory not in tree.links:
            self._add(name, Flaw.MISSING, f"links of {len(expected)} files", NOTHING)
            return
        data = self._read(name)
        try:
            noted = None if data is None else documents.read_links(data)
        except documents.Unreadable as error:
            self._add(name, Flaw.UNREADABLE, "links", error)
            return
        if noted is None:
            return
        if not expected and not noted:
            self._add(name, Flaw.EXTRA, NOTHING, "a ..links without entries")
        for file in sorted(expected.keys() | noted.keys()):
            if expected.get(file) != noted.get(file):
                path = layout.join(directory, file)
                wanted = _shown(expected.get(file)) if path in manifest else NOTHING
                self._add(path, Flaw.LINKS, wanted, _shown(noted.get(file)))

    def _check_targets(self, manifest: Mapping[str, Entry]) -> None:
        links = {path: entry.link for path, entry in manifest.items() if entry.link is not None}
        targets = Targets(self._metadata, self._version, manifest)
        targets.read({file for link in links.values() for file in (link.parent, link.target)})
        for path, link in links.items():
            self._check_target(path, manifest[path], link, targets)

    def _check_target(self, path: str, entry: Entry, link: Link, targets: Targets) -> None:
        parent = targets.entry(link.parent)
        for what, file in (("the parent", link.parent), ("the ancestor", link.ancestor)):
            if file is not None:
                self._check_equal(path, f"{what} {file}", entry, targets.entry(file))
        if isinstance(parent, Entry):
            expected = parent.link.target if parent.link else None
            if link.ancestor != expected:
                self._add(path, Flaw.ANCESTOR, expected or "none", link.ancestor or "none")
        last = targets.entry(link.target)
        if isinstance(last, Entry) and last.link is not None and link.ancestor is not None:
            self._add(path, Flaw.ANCESTOR, "a file that is no link", link.target)

    def _check_equal(self, path: str, what: str, entry: Entry, target: Entry | str) -> None:
        if isinstance(target, str):
            self._add(path, Flaw.TARGET, what, target)
        elif (target.size, target.md5sum) != (entry.size, entry.md5sum):
            size, md5sum = f"{what} with {entry.size} bytes", f"MD5 {entry.md5sum or 'none'}"
            found = f"{target.size} bytes and MD5 {target.md5sum or 'none'} in its manifest"
            self._add(path, Flaw.TARGET, f"{size} and {md5sum}", found)


def _is_file(entry: Entry) -> bool:
    """Tell whether what is noted of a file is to be compared with it."""
    return entry.link is None and (entry.md5sum != "" or not entry.is_directory)


def _are(noted: Sequence[str | None], digests: bytes) -> bool:
    """Tell whether each of the digests is noted in hex; no object is made for any."""
    if None in noted or set(map(len, found := cast("list[str]", noted))) != {2 * DIGEST}:
        return False
    return "".join(found) == digests.hex()


def _is_fast(noted: str | None, found: str) -> bool:
    return noted is None or noted == found


def _within_registry(directory: str, text: str) -> str | None:
    """Follow a relative link's text from a directory of the registry; None where it leaves it on the way."""
    parts = directory.split("/")
    for part in text.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
