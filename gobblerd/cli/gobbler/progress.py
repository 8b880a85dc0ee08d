"""A bar on standard error while files move: on a terminal only, nothing in a log."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[int, int, int, int], None]  # files done, files in all, bytes done, bytes in all


@contextlib.contextmanager
def bar(doing: str, then: str = "") -> Iterator[Progress | None]:
    """Yield what is to be told of progress; None where nobody watches. `then` is shown once all is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich  # noqa: PLC0415 - 60 ms that are needed on a terminal only
    from rich.console import Console  # noqa: PLC0415 - as above

    shown = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*shown, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(doing, total=None)

        def tell(files: int, all_files: int, done: int, total: int) -> None:
            is_over = bool(then) and files == all_files
            description = then if is_over else f"{doing} {files}/{all_files}"
            display.update(task, description=description, completed=done, total=total or None)

        yield tell
