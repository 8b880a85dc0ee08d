"""`create_archive`: one file (or zip, or tar, that the caller has open) out of a version or a directory."""

import contextlib
import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from gobblerd.archive.checked_files import CheckedReading, Progress
from gobblerd.archive.checksums import CHUNK, tree_checksum
from gobblerd.archive.compression import compressed
from gobblerd.archive.directory_plan import plan_directory, plan_paths
from gobblerd.archive.formats import DEFAULT, Format, archive_path, format_named, format_of
from gobblerd.archive.members import Member, NameOf
from gobblerd.archive.naming import DEFAULT_TEMPLATE, NameParts, Template
from gobblerd.archive.plan import Extra, Plan, Planned
from gobblerd.archive.receipt import Options, Receipt, receipt_bytes, receipt_path
from gobblerd.archive.tars import info_of, tar_size, tar_stream
from gobblerd.archive.trees import tree_entries
from gobblerd.archive.version_plan import Version, Wish, plan_version
from gobblerd.archive.writing import Temporary, move_into, publish, temporary
from gobblerd.archive.zips import write_zip
from gobblerd.domain.errors import Wrong
from gobblerd.registry import layout

Path = str | os.PathLike[str]
Source = Version | Path | Iterable[Path]
Destination = Path | zipfile.ZipFile | tarfile.TarFile


@dataclass(frozen=True, slots=True)
class Created:
    """An archive that was made. Size in bytes, checksums in hex.

    `path` and `sha256` are "", `size` is 0 and `receipt` None for members added to an open file: that is the
    caller's.
    """

    tree_checksum: str
    members: tuple[Member, ...] = field(repr=False)
    path: str = ""
    size: int = 0
    sha256: str = ""
    receipt: Receipt | None = field(default=None, repr=False)

    @property
    def receipt_path(self) -> str:
        """Where the receipt was written."""
        return receipt_path(self.path)


def create_archive(  # noqa: PLR0913 - each is one property of the archive, and has a default
    source: Source,
    destination: Destination,
    *,
    format: str | None = None,  # noqa: A002 - the word for it
    prefix: str | None = None,
    name_of: NameOf | None = None,
    links: Literal["files", "preserve"] = "files",
    bundle_links: bool = False,
    excludes: Sequence[str] = (),
    extras: Sequence[Extra] = (),
    clamp_mtime: int | None = None,
    name_template: str = DEFAULT_TEMPLATE,
    threads: int | None = None,
    work_dir: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Created:
    """Make an archive, and its receipt beside it, of a `Version`, a directory, or any paths.

    The same version gives the same bytes, whenever, wherever and by whomever it is archived; a directory does
    if its files' contents, names, times (see `clamp_mtime`) and owner's right to execute them are the same.

    `destination` is a file's path, whose name tells the format (else the suffix is added); a directory, in
    which the archive is named by `name_template`; or an open `ZipFile` or `TarFile`, to which the members are
    added. `format` is one of `FORMATS`, "tar.zst" by default.
    `prefix` is the one top directory: by default `project_asset_version`, or the directory's name. `name_of`
    names each file by its path (`relative_path(base)`, `flatten_path` or your own).
    `links` says what becomes of links: "files" what they lead to; "preserve" keeps those that stay within the
    archive, as relative links. `bundle_links` (versions only) keeps all, and adds under `linked/` what the
    other ones lead to.
    `excludes` are patterns of what is left out; `extras` are members to be added.
    `clamp_mtime`, in seconds since the epoch: no member is later. For a version: no later than its
    `upload_finish`, which all its members have otherwise.
    `threads` compress where the format can (default: one per processor, at most 4); the bytes are the same.
    `work_dir` is where the archive grows, by default where it will lie. `progress` is called with bytes done,
    bytes in all and the member at hand, and may raise to stop.

    Raises Wrong (what was asked for cannot be, the reason names it), Absent (no such version), Invalid (a
    file of the version is not what its manifest says), OSError (storage). Then nothing is left behind.

    >>> import tempfile, pathlib
    >>> work = pathlib.Path(tempfile.mkdtemp())
    >>> (work / "results").mkdir()
    >>> _ = (work / "results/numbers.txt").write_text("1 2 3")
    >>> made = create_archive(work / "results", work / "results.tar.zst")
    >>> [member.path for member in made.members]
    ['results', 'results/numbers.txt']
    >>> made.tree_checksum == tree_checksum(work / "results")
    True
    """
    if bundle_links and not isinstance(source, Version):
        raise Wrong("links can be bundled in an archive of a version only")
    kept = "bundle" if bundle_links else links
    wish = Wish(prefix, name_of, kept, tuple(excludes), tuple(extras), clamp_mtime)
    is_open = isinstance(destination, zipfile.ZipFile | tarfile.TarFile)
    target = (
        None if is_open else _Target.of(destination, format, Template(name_template), overwrite=overwrite)
    )
    source = source if isinstance(source, Version | str | os.PathLike) else list(source)
    if target is not None:
        target.check(source)
    plan = _planned(source, wish)
    packing = Packing(plan, progress)
    try:
        if target is None:
            return packing.add_to(destination)  # type: ignore[arg-type]
        return packing.write(
            target, threads or default_threads(), None if work_dir is None else os.fspath(work_dir)
        )
    finally:
        plan.opener.close()


def default_threads() -> int:
    """Return the number of threads that compress: one per processor, at most 4."""
    return min(4, os.cpu_count() or 1)


def _planned(source: Source, wish: Wish) -> Plan:
    if isinstance(source, Version):
        return plan_version(source, wish)
    if isinstance(source, str | os.PathLike):
        return plan_directory(os.fspath(source), wish)
    return plan_paths(source, wish)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where an archive goes: a directory, and its name if that is known beforehand."""

    directory: str
    name: str
    form: Format
    template: Template
    overwrite: bool

    @classmethod
    def of(
        cls, destination: object, format_name: str | None, template: Template, *, overwrite: bool
    ) -> "_Target":
        path = os.path.abspath(os.fspath(destination))  # type: ignore[call-overload]
        if os.path.isdir(path):
            return cls(path, "", format_named(format_name or DEFAULT), template, overwrite)
        path = archive_path(path, format_name or format_of(path) or DEFAULT)
        directory, name = os.path.split(path)
        if not os.path.isdir(directory):
            raise Wrong("there is no directory {path} for the archive", path=directory)
        return cls(directory, name, format_named(str(format_of(path))), template, overwrite)

    def check(self, source: Source) -> None:
        """Refuse, before anything is read, what would fail or destroy something at the end."""
        if self.name:
            self.check_free(self.name)
        here = os.path.realpath(self.directory)
        for root in map(os.path.realpath, _roots(source)):
            if here == root or here.startswith(os.path.join(root, "")):
                raise Wrong("{path} lies in what is archived", path=os.path.join(self.directory, self.name))

    def check_free(self, name: str) -> None:
        """Refuse to replace what is there."""
        path = os.path.join(self.directory, name)
        if os.path.lexists(path) and not self.overwrite:
            raise Wrong("{path} is there already", path=path)
        if os.path.isdir(path):
            raise Wrong("{path} is a directory", path=path)


def _roots(source: Source) -> list[str]:
    """Return the directories that everything of a source lies in."""
    if isinstance(source, Version):
        return [source.registry]
    if isinstance(source, str | os.PathLike):
        return [os.fspath(source)]
    return [os.fspath(path) for path in source]


class Packing:
    """One plan on its way into an archive; keeps the inventory."""

    def __init__(self, plan: Plan, progress: Progress | None) -> None:
        self._plan = plan
        self._reading = CheckedReading(plan.opener, plan.total, progress)
        self._members: list[Member] = []

    def _done(self, member: Planned, sha256: str) -> None:
        found = Member(member.path, member.kind, member.size, sha256, member.mode, member.target)
        self._members.append(found)

    def _tree_checksum(self) -> str:
        return tree_checksum(tree_entries(self._members, self._plan.prefix))

    def add_to(self, target: zipfile.ZipFile | tarfile.TarFile) -> Created:
        """Add the members to a file that the caller has opened."""
        if isinstance(target, zipfile.ZipFile):
            write_zip(target, self._plan, _level_of_zip(), self._reading, self._done)
        else:
            for member in self._plan.members:
                self._add(target, member)
        return Created(self._tree_checksum(), tuple(self._members))

    def _add(self, target: tarfile.TarFile, member: Planned) -> None:
        if member.kind != "file":
            target.addfile(info_of(member))
            self._done(member, "")
            return
        chunks = self._reading.chunks(member.content, member.size, member.path)
        target.addfile(info_of(member), _Readable(chunks))
        for _ in chunks:  # to the end, where it is judged
            pass
        self._done(member, self._reading.sha256)

    def write(self, target: _Target, threads: int, work_dir: str | None) -> Created:
        """Write a file and its receipt; both appear whole, or neither."""
        with contextlib.ExitStack() as stack:
            growing = stack.enter_context(temporary(work_dir or target.directory))
            sha256 = self._fill(growing.file, target.form, threads)
            final = move_into(growing, target.directory, stack)
            return self._publish(target, final, sha256, stack)

    def _publish(
        self, target: _Target, final: Temporary, sha256: str, stack: contextlib.ExitStack
    ) -> Created:
        size = final.sync()
        receipt = self._receipt(target, sha256, size)
        if not target.name:
            target.check_free(receipt.name)
        path = os.path.join(target.directory, receipt.name)
        beside = stack.enter_context(temporary(target.directory))
        beside.file.write(receipt_bytes(receipt))
        publish([(beside, receipt_path(path)), (final, path)])
        return Created(receipt.tree_checksum, receipt.members, path, size, sha256, receipt)

    def _fill(self, file: BinaryIO, form: Format, threads: int) -> str:
        """Write the archive; return its SHA-256."""
        if form.is_zip:
            with zipfile.ZipFile(file, "w") as target:
                write_zip(target, self._plan, _level_of_zip(), self._reading, self._done)
            return _sha256_of(file)
        digest = hashlib.sha256()
        stream = tar_stream(self._plan, self._reading, self._done)
        for piece in compressed(stream, form, tar_size(self._plan), threads):
            file.write(piece)
            digest.update(piece)
        return digest.hexdigest()

    def _receipt(self, target: _Target, sha256: str, size: int) -> Receipt:
        plan = self._plan
        options = Options(
            target.form.name, target.form.level, plan.prefix, plan.clamp_mtime, plan.links, plan.excludes
        )
        tree = self._tree_checksum()
        parts = NameParts.of(plan.place, plan.prefix, tree, target.form.suffix)
        manifest = f"{plan.prefix}/{layout.MANIFEST}"
        return Receipt(
            name=target.name or target.template.name(parts),
            sha256=sha256,
            size=size,
            options=options,
            tree_checksum=tree,
            members=tuple(self._members),
            project=plan.place.project,
            asset=plan.place.asset,
            version=plan.place.version,
            manifest=next((member.sha256 for member in self._members if member.path == manifest), ""),
            left_out=plan.left_out,
            added=plan.added,
        )


def _level_of_zip() -> int:
    level = format_named("zip").level
    assert level is not None
    return level


def _sha256_of(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class _Readable:
    """Chunks as the file object that `TarFile.addfile` reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, fewer at the end."""
        parts, left = [self._rest[:size]], size - len(self._rest[:size])
        self._rest = self._rest[size:]
        while left and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk[:left])
            self._rest = chunk[left:]
            left -= len(parts[-1])
        return b"".join(parts)
