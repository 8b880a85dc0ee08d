"""`reroute_links`: before places are deleted, every link into them is pointed elsewhere or copied."""

from typing import Self

from pydantic import model_validator

from gobblerd.actions.action import Action, AssetName, Context, Document, ProjectName, VersionName
from gobblerd.domain.errors import Fault, GobblerdError, Invalid, Wrong
from gobblerd.domain.links import Doomed
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import ROOT, Address
from gobblerd.registry.places import Place
from gobblerd.registry.reroute import Reroute
from gobblerd.registry.transaction import Transaction

_TRIES = 5


class DoomedPlace(Document):
    """A project, asset or version that is to be deleted; it need not exist."""

    project: ProjectName
    asset: AssetName | None = None
    version: VersionName | None = None

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.version is not None and self.asset is None:
            raise Wrong("to_delete: the version {version} is given without its asset", version=self.version)
        return self

    @property
    def place(self) -> Address:
        """Return the address."""
        return Address(self.project, self.asset or "", self.version or "")


class RerouteLinks(Action):
    """Points every link into places that are to be deleted at the nearest living file, or copies it."""

    name = "reroute_links"
    administrators_only = True
    is_long = True

    to_delete: list[DoomedPlace]
    dry_run: bool | None = None

    def perform(self, context: Context) -> Outcome:
        """Stage unlocked, and commit if nothing that counts changed meanwhile; at last wholly locked."""
        reroute = Reroute(
            context.registry.metadata,
            Doomed(each.place for each in self.to_delete),
            context.policy.whitelist,
            context.progress,
        )
        for _ in range(_TRIES):
            reroute.plan()
            with context.transaction() as transaction:
                flaw = None if self.dry_run else _flaw_in_staging(reroute, transaction)
                with context.registry.changing(ROOT, transaction) as root:
                    if self.dry_run:
                        reroute.plan()
                    if self.dry_run or reroute.is_current():
                        return self._end(root, reroute, flaw)
        with context.changing(ROOT) as root:
            reroute.plan()
            return self._end(root, reroute, _flaw_in_staging(reroute, root.transaction))

    def _end(self, root: Place, reroute: Reroute, flaw: GobblerdError | None) -> Outcome:
        """Commit what was staged, if anything was and nothing was wrong."""
        reroute.require_readable()
        if flaw is not None:
            raise flaw
        outcome = Outcome({"changes": [change.document() for change in reroute.changes]})
        if self.dry_run:
            reroute.require_sources()
        if self.dry_run or not reroute.changes:
            return outcome
        reroute.require_links()
        for project in sorted({change.version.project for change in reroute.changes}):
            root.keeper.check_renames(Address(project))
        return root.commit(outcome)


def _flaw_in_staging(reroute: Reroute, transaction: Transaction) -> GobblerdError | None:
    """Stage; what goes wrong counts only if the registry is still as it was planned for."""
    try:
        reroute.stage(transaction)
    except (Invalid, Fault) as error:
        return error
    return None
