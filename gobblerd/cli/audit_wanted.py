"""What an audit is asked for on the command line, whole or in shares: alike for all shares of a report."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from gobblerd.archive.writing import temporary
from gobblerd.domain.errors import quoted

if TYPE_CHECKING:
    from gobblerd.registry.audit import Audit, Unit
    from gobblerd.registry.audit_parts import Header, Terms
    from gobblerd.registry.audit_shares import Position
    from gobblerd.registry.metadata import Metadata

MOST_SHARDS = 100_000
PLAN_FORMAT = "gobblerd-audit-plan-1"

Tick = Callable[[int], None]


class Unusable(click.ClickException):
    """What was named cannot be used."""

    exit_code = 2


class _Shard(click.ParamType[tuple[int, int]]):
    """A share, `I/N`."""

    name = "shard"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return share and shares, from 1."""
        number, _, shards = str(value).partition("/")
        if number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards) <= MOST_SHARDS:
            return int(number), int(shards)
        return self.fail(f"a share is I/N, with I from 1 to N, not {value}", param, ctx)


SHARD = _Shard()


@dataclass(frozen=True)
class Wanted:
    """The registry by its absolute path, the whitelist, the projects (none: all), and whether bytes count."""

    registry: str
    whitelist: tuple[str, ...]
    projects: tuple[str, ...]
    fast: bool

    def audit(self, tick: Tick = lambda _: None) -> "Audit":
        """Return the audit; `tick` is told of bytes read."""
        from gobblerd.registry.audit import Audit  # noqa: PLC0415 - what only some subcommands need

        return Audit(self.registry, whitelist=self.whitelist, fast=self.fast, tick=tick)

    def units(self, metadata: "Metadata") -> "list[Unit]":
        """List what is to be audited; Unusable if a project is not there."""
        from gobblerd.registry.audit import units  # noqa: PLC0415 - as above

        known = {place.project for place in metadata.projects()}
        for project in self.projects:
            if project not in known:
                raise Unusable(f"there is no project {quoted(project)} in the registry")
        return list(units(metadata, self.projects))

    def terms(self, metadata: "Metadata") -> "Terms":
        """Return what all parts of one report have in common."""
        from gobblerd.registry.audit_parts import Terms  # noqa: PLC0415 - as above

        identity = ""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            from gobblerd.registry import layout  # noqa: PLC0415 - as above

            identity = str(json.loads(metadata.read(layout.MARKER) or b"{}").get("id", ""))
        return Terms(identity, self.fast, tuple(sorted(self.whitelist)), tuple(sorted(set(self.projects))))

    def header(
        self, metadata: "Metadata", units: "Sequence[Unit]", shard: tuple[int, int], plan: str | None
    ) -> "Header":
        """Return the header of a share, whose bounds are those of the plan, if there is one."""
        from gobblerd.registry.audit_parts import Header  # noqa: PLC0415 - as above
        from gobblerd.registry.audit_shares import cuts, stretches  # noqa: PLC0415 - as above

        number, shards = shard
        found = read_plan(plan, shards) if plan and os.path.exists(plan) else None
        if found is None:
            found = cuts(metadata, units, shards)
            if plan:
                found = _agreed(plan, shards, found)
        return Header(self.terms(metadata), number, shards, stretches(found)[number - 1])


def read_plan(path: str, shards: int) -> "list[Position]":
    """Read where an audit is cut; Unusable if it is no plan, or one for another number of shares."""
    from gobblerd.registry.audit_shares import Position  # noqa: PLC0415 - as above

    try:
        with open(path, encoding="ascii") as file:
            document = json.load(file)
        cuts = [Position.parse(each) for each in document[PLAN_FORMAT]]
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"{path} is not the plan of an audit: name a new file, or remove this one") from None
    if len(cuts) != shards - 1:
        raise Unusable(f"{path} is the plan of {len(cuts) + 1} shares, not of {shards}: name a new file")
    return cuts


def _agreed(path: str, shards: int, cuts: "Sequence[Position]") -> "list[Position]":
    """Write the plan, unless another share was first: its plan counts."""
    with temporary(os.path.dirname(os.path.abspath(path))) as growing:
        growing.file.write(json.dumps({PLAN_FORMAT: [list(cut) for cut in cuts]}).encode("ascii"))
        growing.sync()
        with contextlib.suppress(FileExistsError):
            os.link(growing.path, path)
    return read_plan(path, shards)
