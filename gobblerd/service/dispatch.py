"""From a claim to its answer: parse, check who asks, perform, and turn whatever happens into one response.

This is the only place that turns exceptions into responses. A refusal is answered with its code and
sentence; anything else is logged in full and answered 500 without internals.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from gobblerd.actions.action import Action, Context, Policy, Spoofable, unobserved
from gobblerd.domain.document import parse_object
from gobblerd.domain.errors import GobblerdError, Kind, Plain, Stopped, Wrong, escaped, quoted
from gobblerd.domain.messages import Claim, Outcome, Response, error_body, success_body
from gobblerd.domain.permissions import Caller, SpoofingRule, require_spoofing
from gobblerd.domain.times import format_time
from gobblerd.registry.layout import TRANSACTIONS
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin, UnfinishedError
from gobblerd.service.codes import refusal
from gobblerd.staging.claims import Claims
from gobblerd.staging.directory import Staging

log = structlog.get_logger(__name__)

_SHOWN_FLAWS = 8
# What pydantic says in words of Python, in those of JSON.
_IN_JSON = {
    "model_type": "Input should be an object",
    "list_type": "Input should be an array",
    "bool_type": "Input should be true or false",
}


@dataclass(frozen=True)
class Rules:
    """The part of the configuration that decides who may do what; may change while the daemon runs."""

    administrators: frozenset[str] = frozenset()
    spoofing: Mapping[str, SpoofingRule] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


class Dispatcher:
    """Performs claims on one registry. Thread-safe."""

    def __init__(
        self,
        registry: Registry,
        staging: Staging,
        claims: Claims,
        actions: Mapping[str, type[Action]],
        rules: Callable[[], Rules],
        taken: Callable[[int, int], None] = unobserved,
    ) -> None:
        self._registry = registry
        self._staging = staging
        self._claims = claims
        self._actions = actions
        self._rules = rules
        self._taken = taken
        self._stopping = False

    def stop(self) -> None:
        """Let long actions that have not committed end as soon as they look."""
        self._stopping = True

    @property
    def answers_together(self) -> bool:
        """Tell whether it is cheaper to answer several requests together."""
        return self._registry.syncs_together

    def perform(self, claim: Claim) -> "Performed | None":
        """Perform a claim, to be answered soon by `answer`; None if nobody is to be told anything more."""
        request = _Request(claim, format_time(self._staging.clock.now()))
        respond, prepare = partial(self._succeeded, request), self._claims.prepare
        origin = Origin(self._staging.id, respond, prepare, together=True)
        began = time.monotonic()
        try:
            outcome = self._perform(request, origin)
            response = origin.response or self._succeeded(request, outcome)
        except Stopped:
            self._claims.release(claim)
            return None
        except UnfinishedError as error:
            self._unfinished(request, error)
            return None
        except Exception as error:  # noqa: BLE001  # the edge: nothing may go unanswered
            response = self._answer_to(error, request, origin)
        self._claims.performed(claim)
        return Performed(request, origin, response, time.monotonic() - began)

    def answer(self, together: Sequence["Performed"]) -> None:
        """Make durable what one thread performed, in this order, and answer it; never raises."""
        changed = [each for each in together if each.is_pending]
        try:
            self._registry.endure([each.origin for each in changed])
        except UnfinishedError as error:
            for each in changed:
                self._unfinished(each.request, error)
            together = [each for each in together if each not in changed]
        for each in together:
            self._answer(each)

    def _answer(self, performed: "Performed") -> None:
        origin, claim = performed.origin, performed.request.claim
        self._log(performed)
        try:
            done = self._claims.answer(claim, performed.response, recorded=bool(origin.applied))
            (self._registry.finish if done else self._registry.leave)(origin)
        except Exception:  # the others are to be answered too
            log.exception("a request could not be answered", request=claim.name)

    def _unfinished(self, request: "_Request", error: UnfinishedError) -> None:
        log.error("committed, but not finished yet", request=request.claim.name, exc_info=error)
        self._claims.unfinished(request.claim, self._failed(request, error))

    # -- performing ------------------------------------------------------------------------------------

    def _perform(self, request: "_Request", origin: Origin) -> Outcome:
        claim = request.claim
        kind = self._actions.get(claim.action)
        if kind is None:
            raise _unknown(claim.action, self._actions)
        rules = self._rules()
        action = self._parse(kind, request) if kind.reads_content else kind()
        request.spoof = _spoofed(action)
        caller = _caller(claim, request.spoof, rules)
        if kind.administrators_only:
            caller.require_administrator(kind.name)
        context = Context(
            registry=self._registry,
            caller=caller,
            origin=origin,
            policy=rules.policy,
            staging_fd=self._staging.fd,
            staging=self._staging.path,
            progress=lambda done, total: self._progress(claim, done, total),
            taken=self._taken,
        )
        return action.perform(context)

    def _parse(self, kind: type[Action], request: "_Request") -> Action:
        document = parse_object(request.claim.body)
        present = without_nulls(document) if b"null" in request.claim.body else document
        request.ignored = tuple(unread_keys(kind, present))
        try:
            action = kind.model_validate(present)
        except ValidationError as error:
            raise Wrong("{flaws}", flaws=Plain(_flaws(error))) from None
        request.place = "/".join(str(present[k]) for k in ("project", "asset", "version") if k in present)
        return action

    def _progress(self, claim: Claim, done: int, total: int) -> None:
        if self._stopping:
            raise Stopped
        self._claims.report_progress(claim.name, done, total)

    # -- answering -------------------------------------------------------------------------------------

    def _answer_to(self, error: Exception, request: "_Request", origin: Origin) -> Response:
        if origin.has_changed and origin.response is not None:  # the change is done, whatever failed after it
            log.error("failed after the commit", request=request.claim.name, exc_info=error)
            return origin.response
        if isinstance(error, GobblerdError):
            if error.kind is Kind.FAULT:
                log.error("fault", request=request.claim.name, exc_info=error)
            return self._failed(request, error)
        log.error("request failed", request=request.claim.name, exc_info=error)
        return self._response(request, 500, error_body(_sentence(error, self._registry.root)))

    def _succeeded(self, request: "_Request", outcome: Outcome) -> Response:
        return self._response(request, 200, success_body(outcome))

    def _failed(self, request: "_Request", error: GobblerdError) -> Response:
        return self._response(request, *refusal(error))

    def _response(self, request: "_Request", code: int, body: dict[str, Any]) -> Response:
        claim = request.claim
        finished = format_time(self._staging.clock.now())
        return Response(
            claim.identity, claim.action, claim.user, code, body, request.started, finished, request.ignored
        )

    def _log(self, performed: "Performed") -> None:
        request, response = performed.request, performed.response
        facts = {"spoof": request.spoof} if request.spoof is not None else {}
        if "reason" in response.body:
            facts["reason"] = response.body["reason"]
        log.info(
            "answered",
            request=request.claim.name,
            user=request.claim.user,
            action=request.claim.action,
            project=request.place.partition("/")[0],
            place=request.place,
            code=response.code,
            seconds=round(performed.seconds, 4),
            **facts,
        )


@dataclass
class _Request:
    """What is learnt of a claim while it is performed."""

    claim: Claim
    started: str
    ignored: tuple[str, ...] = ()
    place: str = ""
    spoof: str | None = None  # whom the requester acts as, or asked to


@dataclass(frozen=True, slots=True, eq=False)
class Performed:
    """A request that was performed, but for making it durable and telling the answer."""

    request: _Request
    origin: Origin
    response: Response
    seconds: float  # that performing it took

    @property
    def is_pending(self) -> bool:
        """Tell whether it changed something that is not durable yet."""
        return bool(self.origin.pending)


def _unknown(action: str, actions: Iterable[str]) -> Wrong:
    if not action:
        return Wrong("the request file's name says no action: it must be request-ACTION-ANYTHING")
    return Wrong(
        "there is no action {action}; there are {actions}",
        action=action,
        actions=Plain(", ".join(sorted(actions))),
    )


def _spoofed(action: Action) -> str | None:
    return action.spoof if isinstance(action, Spoofable) else None


def _caller(claim: Claim, spoofed: str | None, rules: Rules) -> Caller:
    if spoofed is not None:
        require_spoofing(rules.spoofing, claim.user, spoofed)
    user = claim.user if spoofed is None else spoofed
    return Caller(claim.uid, claim.user, user, user in rules.administrators)


def without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without keys whose value is null, which mean absence, at any depth."""
    return {key: _without_nulls(value) for key, value in document.items() if value is not None}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return without_nulls(value)
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def unread_keys(model: type[BaseModel], document: Mapping[str, Any], base: str = "") -> Iterator[str]:
    """Yield the keys that no field reads, as paths such as `permissions.uploaders.0.untl`."""
    known = _models_below(model)
    for key, value in document.items():
        path = f"{base}{key}"
        if key not in known:
            yield path
            continue
        below = known[key]
        if below is not None:
            for place, each in enumerate(value) if isinstance(value, list) else [("", value)]:
                if isinstance(each, dict):
                    yield from unread_keys(below, each, f"{path}.{place}." if place != "" else f"{path}.")


@cache
def _models_below(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Return a model's fields, and for each the model of what is in it, if it is one."""
    return {key: _model_of(field.annotation) for key, field in model.model_fields.items()}


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_of(argument)) is not None:
            return found
    return None


def _flaws(error: ValidationError) -> str:
    """Say in one line which fields are wrong and how."""
    flaws = [
        f"{escaped('.'.join(map(str, each['loc']))) or 'the document'}: "
        f"{_IN_JSON.get(each['type']) or escaped(each['msg'])}"
        for each in error.errors(include_url=False, include_input=False)
    ]
    more = f"; and {len(flaws) - _SHOWN_FLAWS} more" if len(flaws) > _SHOWN_FLAWS else ""
    return "; ".join(flaws[:_SHOWN_FLAWS]) + more


def _sentence(error: Exception, registry: str) -> str:
    """Say what a user may know of an unexpected error: the storage's word, and of which place."""
    if isinstance(error, OSError) and error.errno is not None:
        place = str(error.filename).removeprefix(f"{registry}/")
        is_place = place != str(error.filename) and not place.startswith(TRANSACTIONS)
        where = f" at {quoted(place)}" if is_place else ""
        return f"the daemon's storage failed{where}: {os.strerror(error.errno)}; nothing was changed"
    return "the daemon failed to perform this request; its log says why"
