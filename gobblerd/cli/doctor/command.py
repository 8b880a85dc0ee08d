"""`gobblerd doctor`: examine a deployment, on this node or across two, before users do.

Run as the service account, it tries everything that the account does; run as root, it does that in a child
that is the account, and then also tries as a user what users must and must not be able to do. Its exit code
is 1 if anything failed.
"""

import json
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

import click

from gobblerd.cli.doctor import node, rights, storage, together, trials
from gobblerd.cli.doctor.acting import acting_as
from gobblerd.cli.doctor.findings import Check, Line, Result, examine, lines_without_looking
from gobblerd.cli.doctor.site import Account, Site

_EXIT_FAILED = 1
_SHOWN = {Result.OK: "ok", Result.WARN: "WARN", Result.FAIL: "FAIL", Result.SKIPPED: "skipped"}
_CHECKS: tuple[Check[Site], ...] = (*node.CHECKS, *rights.CHECKS, *storage.CHECKS)


@click.command("doctor")
@click.argument("staging", type=click.Path(), required=False)
@click.argument("registry", type=click.Path(), required=False)
@click.option(
    "--config", "config_file", metavar="FILE", help="Take the directories, and what is wanted, from here."
)
@click.option("--peer", is_flag=True, help="Examine together with the same command on another node.")
@click.option(
    "--wait",
    type=click.FloatRange(min=1),
    default=120,
    metavar="SECONDS",
    show_default=True,
    help="How long --peer waits for the other node, at each step.",
)
@click.option("--user", default="nobody", metavar="NAME", show_default=True, help="Whom root tries to be.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of all lines.")
@click.option("-v", "--verbose", is_flag=True, help="Say of what is well, too, why it matters.")
def command(
    staging: str | None,
    registry: str | None,
    config_file: str | None,
    *,
    peer: bool,
    wait: float,
    user: str,
    as_json: bool,
    verbose: bool,
) -> None:
    """Examine a deployment: STAGING and REGISTRY, or the configured ones. Exit code 1 if anything fails."""
    site = _site(staging, registry, config_file)
    lines = [*_as_account(site, wait if peer else None), *_as_user(site, user)]
    if as_json:
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        click.echo("\n".join(_report(lines, verbose=verbose)))
    if any(line.result is Result.FAIL for line in lines):
        sys.exit(_EXIT_FAILED)


def _site(staging: str | None, registry: str | None, config_file: str | None) -> Site:
    if staging is not None and registry is not None:
        return Site(_directory(staging), _directory(registry), _owner(registry))
    from gobblerd.cli.settings import load_or_exit  # noqa: PLC0415 - 170 ms that named directories do not need
    from gobblerd.service.settings import FILE_VARIABLE  # noqa: PLC0415 - as above

    file = config_file or os.environ.get(FILE_VARIABLE)
    if file is None or staging is not None:
        raise click.UsageError("name staging and registry, or the configuration with --config")
    config = load_or_exit(file, {})
    return Site(
        _directory(config.staging),
        _directory(config.registry),
        _owner(config.registry),
        configured=True,
        require_marker=config.require_marker,
        administrators=config.administrators,
        watch=config.watch,
    )


def _directory(path: str) -> str:
    if not os.path.isdir(path):
        raise click.ClickException(f"{path} is not a directory; mount it, or make it with `gobblerd init`")
    return os.path.abspath(path)


def _owner(registry: str) -> Account:
    info = os.stat(_directory(registry))
    return Account.of(info.st_uid, info.st_gid)


def _stranger(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise click.ClickException(f"there is no user {name}; name one with --user") from None
    if entry.pw_uid == 0:
        raise click.ClickException("root may do everything; name an ordinary user with --user")
    return Account(name, entry.pw_uid, entry.pw_gid)


def _as_account(site: Site, wait: float | None) -> list[Line]:
    """Carry out what the account can: in this process if it is the account's, else in a child of root's."""
    if os.geteuid() not in {0, site.account.uid}:
        return examine(node.CHECKS[:1], site)
    account = site.account
    return acting_as(account.uid, account.gid, trials.groups_of(account), partial(_examined, site, wait))


def _examined(site: Site, wait: float | None) -> list[Line]:
    os.umask(0o022)
    lines = examine(_CHECKS, site)
    if wait is None:
        return [*lines, *lines_without_looking(together.CHECKS, together.NOT_ASKED)]
    return [*lines, *together.examine_together(site, wait, lambda text: click.echo(text, err=True))]


def _as_user(site: Site, name: str) -> list[Line]:
    if os.geteuid() != 0:
        return lines_without_looking(trials.TRIALS, trials.REASON)
    return examine(trials.TRIALS, trials.Trial(site, _stranger(name)))


def _report(lines: Sequence[Line], *, verbose: bool) -> Iterator[str]:
    for line in lines:
        yield f"{_SHOWN[line.result]:<8}{line.name:<21}{line.what}: {line.found}"
        troubled = line.result in {Result.WARN, Result.FAIL}
        if troubled or verbose:
            yield f"{'':<8}why:  {line.why}"
            yield f"{'':<8}mend: {line.mend}"
    counts = [sum(line.result is result for line in lines) for result in Result]
    yield ", ".join(f"{count} {result}" for count, result in zip(counts, Result, strict=True))
