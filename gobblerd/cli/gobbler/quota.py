"""`gobbler quota show|set`."""

import re
import time
from collections.abc import Mapping
from typing import Any

import click

from gobblerd.cli.gobbler.session import Session, absent, group, verb
from gobblerd.cli.gobbler.text import facts, size
from gobblerd.domain.usage import Quota
from gobblerd.registry import layout

_BYTES = re.compile(r"(-?\d+(?:\.\d+)?)\s*([kMGTPE]i?)?B?", re.ASCII)
_POWERS = "kMGTPE"


def _bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return a number of bytes, also of 500GB (decimal) or 2TiB (binary)."""
    if value is None:
        return None
    found = _BYTES.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is not a number of bytes, such as 1000000, 500GB or 2TiB")
    number, unit = found.groups()
    factor = (1024 if unit.endswith("i") else 1000) ** (_POWERS.index(unit[0]) + 1) if unit else 1
    return round(float(number) * factor) if "." in number else int(number) * factor


@verb("show")
@click.argument("project")
def show(session: Session, project: str) -> None:
    """Show how much a project may occupy, and does."""
    usage = session.document(f"{project}/{layout.USAGE}")
    if usage is None:
        raise absent(f"project {project}")
    quota = session.document(f"{project}/{layout.QUOTA}")
    limit = _limit(quota) if quota else None
    found = {**(quota or {}), "limit": limit, "usage": usage["total"]}
    lines = [("usage", size(usage["total"]))]
    if quota:
        lines += [
            ("this year's limit", size(limit or 0)),
            ("baseline", f"{size(quota['baseline'])} in {quota['year']}"),
            ("growth", f"{size(quota['growth_rate'])} a year"),
        ]
    else:
        lines.append(("limit", "none"))
    session.show(found, lambda: facts(lines))


def _limit(quota: Mapping[str, Any]) -> int:
    value = Quota(quota["baseline"], quota["growth_rate"], quota["year"])
    return value.limit(time.gmtime().tm_year)


@verb("set")
@click.argument("project")
@click.option("--baseline", callback=_bytes, metavar="BYTES", help="Allowed in the first year.")
@click.option("--growth-rate", callback=_bytes, metavar="BYTES", help="More in each year after it.")
@click.option("--year", type=int, metavar="YEAR", help="The first year.")
def set_(
    session: Session, project: str, *, baseline: int | None, growth_rate: int | None, year: int | None
) -> None:
    """Change how much a project may occupy (administrators only).

    BYTES may be written as 500GB or 2TiB. What is not given stays as it is.
    """
    if baseline is None and growth_rate is None and year is None:
        raise click.UsageError("nothing to change: give --baseline, --growth-rate or --year")
    session.ask("set_quota", project=project, baseline=baseline, growth_rate=growth_rate, year=year)
    session.done(f"The quota of {project} is changed.")


COMMANDS = {"quota": group("quota", "Show or change a project's quota.", show, set_)}
