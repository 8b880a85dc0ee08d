"""`gobbler archive ...`: finds the module of a subcommand when it is asked for.

`archive_making.py` has those that write archives, `archive_taking.py` those that read them,
`archive_keeping.py` those that look after a directory of them.
"""

from collections.abc import Mapping

from gobblerd.cli.lazy import LazyGroup, command_in

_MODULES: Mapping[str, str] = {  # subcommand -> module, in the order of need
    "create": "archive_making",
    "export": "archive_making",
    "inspect": "archive_taking",
    "verify": "archive_taking",
    "extract": "archive_taking",
    "install": "archive_taking",
    "rename": "archive_keeping",
    "prune": "archive_keeping",
}
_ABOUT: Mapping[str, str] = {
    "create": "Make an archive of a version, or of any files.",
    "export": "Have the service write an archive, or copy a version.",
    "inspect": "Say what an archive holds.",
    "verify": "Check an archive to its last byte.",
    "extract": "Extract an archive: all of it, or nothing.",
    "install": "Extract an archive and run its script.",
    "rename": "Name archives after what they are.",
    "prune": "Remove old archives from a directory.",
}


COMMANDS = {
    "archive": LazyGroup(
        "archive",
        about=_ABOUT,
        load=lambda name: command_in(_MODULES[name], name),
        help="Make, check and unpack archives of versions.",
        no_args_is_help=True,
    )
}
