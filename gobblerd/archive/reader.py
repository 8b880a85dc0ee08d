"""Reading an archive of any format: each member judged, in one pass, to the last byte of the file.

What is yielded is safe to make below a directory that nobody else writes to: files and directories as they
come, symbolic links after everything else (they were checked by then).
"""

from collections.abc import Iterator

from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged
from gobblerd.archive.limits import Amount, ArchiveLimits
from gobblerd.archive.namespace import Namespace
from gobblerd.archive.refusals import Damaged
from gobblerd.archive.source import ArchiveFile
from gobblerd.archive.streams import compression_of, decompressed
from gobblerd.archive.tar_reader import TarReader
from gobblerd.archive.zip_reader import ZipReader

_TOLD_BYTES = 16 << 20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06")


class Reading:
    """One pass over an opened archive. `names` holds what was read so far, `amount` how much.

    `dotted`: a tar's names may begin with `./`, which is left out then; `top_is_dot` tells whether one did.
    """

    def __init__(self, file: ArchiveFile, limits: ArchiveLimits, *, dotted: bool = False) -> None:
        self._file = file
        self._limits = limits
        self._dotted = dotted
        self._tar: TarReader | None = None
        self.names = Namespace()
        self.amount = Amount(limits)
        self.format = ""

    def members(self) -> Iterator[tuple[Judged, Content]]:
        """Yield every member with its bytes; one's bytes must be taken before the next is asked for.

        Raises Unsafe or Exceeded, which name the member, or Damaged. Only when this has ended without an
        error was the archive whole, and were its links found to stay inside it.
        """
        for member, content in self._reader():
            self.names.add(member)
            self.amount.add(member, len(self.names.names))
            yield member, content
        self.names.check_links()

    @property
    def top_is_dot(self) -> bool:
        """Whether any name began with `./`."""
        return self._tar is not None and self._tar.top_is_dot

    def _reader(self) -> Iterator[tuple[Judged, Content]]:
        start = self._file.at(0, 8)
        if not start:
            raise Damaged("the archive is empty")
        if start.startswith(_ZIP):
            self.format = "zip"
            return ZipReader(self._file).members()
        compression = compression_of(start)
        self.format = f"tar.{compression}" if compression else "tar"
        chunks = decompressed(self._file, compression, self._limits.window)
        self._tar = TarReader(self._told(chunks), dotted=self._dotted)
        return self._tar.members()

    def _told(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Tell of progress also while a few bytes of the file become many."""
        since = 0
        for chunk in chunks:
            since += len(chunk)
            if since > _TOLD_BYTES:
                self._file.tell()
                since = 0
            yield chunk
