"""Content types by a file's name, from a table of our own: the same on every machine.

Knows nothing of HTTP and never looks at bytes. `application/json` stands alone: with a charset existing
clients lose the reason of an error (spec/http.md).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gobblerd.domain.names import is_internal

JSON = "application/json"
UNKNOWN = "application/octet-stream"
_UTF8 = "; charset=utf-8"

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "7z": "application/x-7z-compressed",
        "avif": "image/avif",
        "bmp": "image/bmp",
        "bz2": "application/x-bzip2",
        "css": "text/css" + _UTF8,
        "csv": "text/csv" + _UTF8,
        "flac": "audio/flac",
        "gif": "image/gif",
        "gz": "application/gzip",
        "h5": "application/x-hdf5",
        "hdf5": "application/x-hdf5",
        "htm": "text/html" + _UTF8,
        "html": "text/html" + _UTF8,
        "ico": "image/vnd.microsoft.icon",
        "jpeg": "image/jpeg",
        "jpg": "image/jpeg",
        "js": "text/javascript" + _UTF8,
        "json": JSON,
        "jsonl": "application/jsonl",
        "log": "text/plain" + _UTF8,
        "md": "text/markdown" + _UTF8,
        "mjs": "text/javascript" + _UTF8,
        "mp3": "audio/mpeg",
        "mp4": "video/mp4",
        "ogg": "audio/ogg",
        "parquet": "application/vnd.apache.parquet",
        "pdf": "application/pdf",
        "png": "image/png",
        "ps": "application/postscript",
        "rtf": "application/rtf",
        "sqlite": "application/vnd.sqlite3",
        "svg": "image/svg+xml",
        "tar": "application/x-tar",
        "tif": "image/tiff",
        "tiff": "image/tiff",
        "toml": "application/toml",
        "tsv": "text/tab-separated-values" + _UTF8,
        "txt": "text/plain" + _UTF8,
        "wasm": "application/wasm",
        "wav": "audio/wav",
        "webm": "video/webm",
        "webp": "image/webp",
        "xhtml": "application/xhtml+xml",
        "xml": "application/xml",
        "xz": "application/x-xz",
        "yaml": "application/yaml",
        "yml": "application/yaml",
        "zip": "application/zip",
        "zst": "application/zstd",
    }
)


def content_type(parts: Sequence[str]) -> str:
    """Return the type of the file at `parts`; the registry's own documents are JSON, the unknown is bytes."""
    if any(is_internal(part) for part in parts):
        return JSON
    _, dot, ending = parts[-1].rpartition(".")
    return _TYPES.get(ending.lower(), UNKNOWN) if dot else UNKNOWN
