"""`reindex_version`: a version's metadata rebuilt from its files; summary, latest and usage stay."""

from gobblerd.actions.action import Context, OfVersion
from gobblerd.domain.errors import Busy
from gobblerd.domain.events import Event
from gobblerd.domain.messages import Outcome
from gobblerd.registry.reindex import Reindex

_TRIES = 5


class ReindexVersion(OfVersion):
    """Rebuilds `..manifest`, `..links` and `..checksums`, and makes the symbolic links relative again."""

    name = "reindex_version"
    administrators_only = True
    is_long = True

    def perform(self, context: Context) -> Outcome:
        """Read unlocked, and commit if nothing changed meanwhile; else read what changed, and try again."""
        with context.transaction() as transaction, context.registry.reading(self.place, transaction):
            pass  # there is such a version, and nothing that a dead writer left waits for it
        registry, policy = context.registry, context.policy
        reindex = Reindex(registry.metadata, self.place, policy.whitelist, context.progress)
        for _ in range(_TRIES):
            outcome = self._try(context, reindex)
            if outcome is not None:
                return outcome
        raise Busy("{version} kept changing while it was read; drop a new request", version=str(self.place))

    def _try(self, context: Context, reindex: Reindex) -> Outcome | None:
        """Return the outcome, or None where the version changed while it was read."""
        with context.transaction() as transaction:
            rebuilt = reindex.read()
            if rebuilt.flaw is None:
                reindex.plan(rebuilt, transaction)
            with context.registry.changing(self.place, transaction) as version:
                if not reindex.is_current(rebuilt):
                    return None
                if rebuilt.flaw is not None:
                    raise rebuilt.flaw
                if not version.summary().on_probation:
                    version.log(Event("reindex-version", self.place, version.is_latest(self.place)))
                return version.commit(Outcome())
