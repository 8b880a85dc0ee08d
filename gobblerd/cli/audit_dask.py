"""An audit on the workers of a dask.distributed cluster: `gobblerd audit REGISTRY --dask ADDRESS`.

Every worker needs gobblerd installed and the registry mounted at the same path. A share whose worker dies is
begun again by another one; the shares are several times as many as the workers' threads, so that little is
lost, and the report is the same whatever became of them.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from gobblerd.cli.audit_wanted import Unusable, Wanted
from gobblerd.registry.audit_parts import Header, Source, Terms, line_of
from gobblerd.registry.audit_shares import Stretch, chosen, cuts, pieces, stretches

_SHARES_PER_THREAD = 4
_PATIENCE = 60  # seconds in which the scheduler must answer, and a worker must be there


def audit_on(address: str, wanted: Wanted) -> list[Source]:
    """Audit on the cluster whose scheduler is at the address; return the parts, to be merged."""
    try:
        distributed: Any = importlib.import_module("distributed")  # an extra that may not be there
    except ImportError:
        raise Unusable("--dask needs dask.distributed: pip install 'gobblerd[dask]'") from None
    audit = wanted.audit()
    units = wanted.units(audit.metadata)
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise Unusable(f"no dask scheduler answers at {address}: {error}") from None
    with client:
        shares = stretches(cuts(audit.metadata, units, _SHARES_PER_THREAD * _threads(client)))
        tasks = [client.submit(audit_share, wanted, share, pure=False) for share in shares]
        found = client.gather(tasks)
    terms = wanted.terms(audit.metadata)
    return [_source(terms, number, shares, lines) for number, lines in enumerate(found)]


def _threads(client: Any) -> int:
    client.wait_for_workers(1, timeout=_PATIENCE)
    return sum(client.nthreads().values())


def _source(terms: Terms, number: int, shares: list[Stretch], lines: list[dict[str, Any]]) -> Source:
    return Source(f"share {number + 1}", Header(terms, number + 1, len(shares), shares[number]), lines)


def audit_share(wanted: Wanted, share: Stretch) -> list[dict[str, Any]]:
    """Look at one share, on a worker; return the lines of its part."""
    return list(_lines(wanted, share))


def _lines(wanted: Wanted, share: Stretch) -> Iterator[dict[str, Any]]:
    audit = wanted.audit()
    left = (
        piece
        for unit in chosen(wanted.units(audit.metadata), share)
        for piece in pieces(audit.metadata, unit)
    )
    return map(line_of, audit.examine(left))
