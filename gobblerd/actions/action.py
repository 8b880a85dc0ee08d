"""What an action is: a pydantic model of its request document, and how it is performed.

Types are strict (a boolean is not a number, "1" is not 1, null is absence); unknown keys are reported, not
refused. Models only check the document; what needs the registry is checked in `perform`, under its locks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from gobblerd.archive.exports import ExportPolicy
from gobblerd.domain.errors import Fault, Plain
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address, check_existing_name, check_name
from gobblerd.domain.permissions import Caller, Rights
from gobblerd.registry.places import Allow, Place, anybody
from gobblerd.registry.registry import Registry
from gobblerd.registry.source import Limits
from gobblerd.registry.transaction import Origin, Transaction

# Names of what is to be made, and of what exists (older rules let more through; that stays deletable).
NewProject = Annotated[str, AfterValidator(partial(check_name, "project"))]
NewAsset = Annotated[str, AfterValidator(partial(check_name, "asset"))]
NewVersion = Annotated[str, AfterValidator(partial(check_name, "version"))]
ProjectName = Annotated[str, AfterValidator(partial(check_existing_name, "project"))]
AssetName = Annotated[str, AfterValidator(partial(check_existing_name, "asset"))]
VersionName = Annotated[str, AfterValidator(partial(check_existing_name, "version"))]


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the configuration that actions act by. Sizes in bytes."""

    whitelist: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    enforce_quota: bool = False
    quota_baseline: int = 1_000_000_000
    quota_growth_rate: int = 1_000_000_000
    exports: ExportPolicy = field(default_factory=ExportPolicy)


def without_force(fault: Fault) -> Fault:
    """Return the fault of a deletion that needs what cannot be read, saying what else can be done."""
    return Fault(
        "{fault}; with force it is deleted all the same, and the usage is right again after refresh_usage",
        fault=Plain(fault.reason),
    )


def unobserved(_files: int, _size: int) -> None:
    """Do nothing: nobody counts what is taken in."""


@dataclass(frozen=True)
class Context:
    """What an action is performed with: the registry, on whose behalf, by which rules."""

    registry: Registry
    caller: Caller
    origin: Origin
    policy: Policy
    staging_fd: int
    staging: str  # path of the staging directory
    progress: Callable[[int, int], None]  # bytes done, bytes in all; raises Busy to stop a long action
    taken: Callable[[int, int], None] = unobserved  # files, and bytes stored, of a committed upload

    @contextmanager
    def changing(self, place: Address, allow: Allow = anybody) -> Iterator[Place]:
        """Open a place for change in a transaction of its own."""
        with (
            self.registry.transaction(self.origin) as transaction,
            self.registry.changing(place, transaction, allow) as opened,
        ):
            yield opened

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction that is staged before its place is opened."""
        return self.registry.transaction(self.origin)

    def owners(self, place: Address, doing: str) -> Callable[[Rights], None]:
        """Return the rule that only owners of a place and administrators may do something with it."""
        return lambda rights: rights.require_owner(self.caller, place, doing)


class Document(BaseModel):
    """A part of a request document."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Action(Document):
    """One action: its fields are those of the request document."""

    name: ClassVar[str]
    administrators_only: ClassVar[bool] = False
    is_long: ClassVar[bool] = False  # has slots of its own, so that short ones never wait for it
    reads_content: ClassVar[bool] = True

    def perform(self, context: Context) -> Outcome:
        """Check, change, and return what to answer; raises Refused."""
        raise NotImplementedError


class Spoofable(Action):
    """An action that may be asked for on behalf of another user."""

    spoof: str | None = None


class OfVersion(Action):
    """An action on one version that exists."""

    project: ProjectName
    asset: AssetName
    version: VersionName

    @property
    def place(self) -> Address:
        """The version."""
        return Address(self.project, self.asset, self.version)
