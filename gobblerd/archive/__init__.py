"""Archives of versions and of directories: made, looked at, checked, taken out again; and releases.

The public names are below; each is imported when it is first asked for, so that whoever needs one pays for
that one. Modules of this project import from the module itself, not from here.

Everything here raises `GobblerdError` (its kinds: `Wrong`, `Invalid`, `Exceeded`, `Absent`, ...) whose
`reason` is a sentence for people, and `OSError` where the storage fails.

Must not live here: anything of requests (`actions/`), of HTTP and schedules (`service/`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see; a test holds it against the table below
    from gobblerd.archive.formats import FORMATS as FORMATS
    from gobblerd.archive.formats import archive_path as archive_path
    from gobblerd.archive.formats import format_of as format_of
    from gobblerd.domain.errors import Absent as Absent
    from gobblerd.domain.errors import Exceeded as Exceeded
    from gobblerd.domain.errors import GobblerdError as GobblerdError
    from gobblerd.domain.errors import Invalid as Invalid
    from gobblerd.domain.errors import Wrong as Wrong

# Public name -> the module that has it. One line each, sorted by module: several people add to it.
_PUBLIC = {
    "FORMATS": "gobblerd.archive.formats",
    "archive_path": "gobblerd.archive.formats",
    "format_of": "gobblerd.archive.formats",
    "Absent": "gobblerd.domain.errors",
    "Exceeded": "gobblerd.domain.errors",
    "GobblerdError": "gobblerd.domain.errors",
    "Invalid": "gobblerd.domain.errors",
    "Wrong": "gobblerd.domain.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_PUBLIC)
