"""Dispatch: one answer per claim, whatever happens; who may is decided before what is there."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs
from support.bench import Bench
from support.checker import audit
from support.performing import run

from gobblerd.actions.action import Action, Context, Policy
from gobblerd.domain.errors import Busy, Stopped
from gobblerd.domain.messages import Claim, Identity, Outcome, Response
from gobblerd.domain.permissions import SpoofingRule
from gobblerd.registry.locks import Held, LockTable, Rung
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Transaction, UnfinishedError
from gobblerd.service.dispatch import Dispatcher, Performed, Rules
from gobblerd.staging.directory import Staging
from gobblerd.storage.files import Durability


class FakeClaims:
    """Keeps what it is told, as the real one would record it."""

    def __init__(self) -> None:
        self.answered: list[Response] = []
        self.released: list[Claim] = []
        self.unfinished_ones: list[Response] = []
        self.durable = True

    def answer(self, claim: Claim, response: Response, *, recorded: bool = False) -> bool:
        assert claim.identity == response.identity
        self.answered.append(response)
        return self.durable

    def prepare(self, response: Response) -> None:
        assert response.succeeded

    def performed(self, claim: Claim) -> None:
        pass

    def release(self, claim: Claim) -> None:
        self.released.append(claim)

    def unfinished(self, claim: Claim, response: Response) -> None:
        self.unfinished_ones.append(response)

    def report_progress(self, name: str, done: int, total: int) -> None:
        pass


class Failing(Action):
    name: ClassVar[str] = "failing"
    error: ClassVar[Exception] = RuntimeError("secret path /etc/shadow")

    def perform(self, context: Context) -> Outcome:
        raise self.error


class Half(Action):
    """Commits a change, then breaks."""

    name: ClassVar[str] = "half"

    def perform(self, context: Context) -> Outcome:
        with context.transaction() as transaction:
            from gobblerd.domain.names import ROOT

            with context.registry.changing(ROOT, transaction) as root:
                root.transaction.put("..x", b"x")
                root.commit(Outcome({"kept": 1}))
        raise RuntimeError("after the commit")


class Room:
    """A dispatcher on real directories with fake claims."""

    def __init__(self, base: Path) -> None:
        self.bench = Bench(base)
        self.staging = Staging.open(str(self.bench.staging), Durability.FULL)
        self.bench.registry = Registry(str(self.bench.root), staging=self.staging.id)
        self.claims = FakeClaims()
        self.rules = Rules(administrators=frozenset({"root"}))
        actions = {**self.bench.actions, "failing": Failing, "half": Half}
        self.dispatcher = Dispatcher(
            self.bench.registry,
            self.staging,
            self.claims,  # type: ignore[arg-type]  # the fake speaks as much of the protocol as dispatch does
            actions,
            lambda: self.rules,
        )

    def ask(self, action: str, document: Any, user: str = "root") -> Response:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        run(self.dispatcher, Claim(Identity(f"request-{action}-1", 1, 2, 3), action, 0, user, body))
        return self.claims.answered[-1]

    def close(self) -> None:
        self.bench.close()
        self.staging.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


def test_a_success_is_answered_and_leaves_no_transaction(room: Room) -> None:
    """The response holds status and the action's keys; the record is gone once it is answered."""
    response = room.ask("create_project", {"project": "p"})
    assert (response.code, response.body) == (200, {"status": "SUCCESS"})
    assert room.ask("refresh_usage", {"project": "p"}).body == {"status": "SUCCESS", "total": 0}
    transactions = room.bench.root / "..transactions"
    assert not [p for p in transactions.rglob("*") if p.is_file() and "clock" not in p.name]


def test_a_response_that_is_not_durable_keeps_the_record(room: Room) -> None:
    """The record goes only when the response can no longer be lost."""
    room.claims.durable = False
    room.ask("create_project", {"project": "p"})
    assert len(list((room.bench.root / "..transactions/applied").iterdir())) == 1
    delivered: list[Response] = []
    assert room.bench.registry.recovery.mend(delivered.append, lambda record: None) == 0
    assert [r.code for r in delivered] == [200]
    assert not list((room.bench.root / "..transactions/applied").iterdir())


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (b"", "the request is empty"),
        (b"[]", "an array"),
        (b'{"project": "p"', "not valid JSON"),
        (b'{"project": 1}', "project"),
        (b"{}", "project: Field required"),
        (b'{"project": null}', "project: Field required"),
        (b'{"project": "p", "project": "q"}', "occurs twice"),
        (b'{"project": "..p"}', '"..p"'),
        (b'\xef\xbb\xbf{"project": "p"}', "byte-order mark"),
        (b'{"project": "p", "x": NaN}', "NaN"),
        (b'{"project": "p", "x": "\\ud800"}', "surrogate"),
        (b'{"project": "p", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
        (b'{"project": "p", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"project": ' + b"9" * 5000 + b"}", "project: Input should be a valid string"),
        (b'{"project": "p", "permissions": []}', "permissions: Input should be an object"),
        (
            b'{"project": "p", "permissions": {"uploaders": [1]}}',
            "permissions.uploaders.0: Input should be an object",
        ),
    ],
)
def test_a_wrong_document_is_400_and_says_what(room: Room, document: bytes, named: str) -> None:
    """A mistake of the user's names the thing at fault and is never a 5xx."""
    response = room.ask("create_project", document)
    assert response.code == 400
    assert named in response.body["reason"]


def test_an_unknown_action_is_400(room: Room) -> None:
    """The action is named, and those that there are."""
    response = room.ask("nonsense", {})
    assert response.code == 400
    assert response.body["reason"].startswith('there is no action "nonsense"; there are ')
    assert " create_project, " in response.body["reason"]


def test_a_name_without_an_action_is_told_what_names_look_like(room: Room) -> None:
    """As `request-health_check` is, which names none: its dash is missing."""
    response = room.ask("", {})
    assert response.code == 400
    assert "request-ACTION-ANYTHING" in response.body["reason"]


def test_a_spoofed_request_is_logged_with_both_names(
    room: Room,
) -> None:
    """Who asked, and as whom: the log is where an administrator looks for that."""
    room.ask("create_project", {"project": "p", "permissions": {"owners": ["alice"]}})
    room.rules = Rules(spoofing={"portal": SpoofingRule(users=frozenset({"alice"}))})
    with capture_logs() as logged:
        room.ask("set_permissions", {"project": "p", "permissions": {}, "spoof": "alice"}, user="portal")
        room.ask("set_permissions", {"project": "p", "permissions": {}}, user="portal")
    assert [(each["user"], each["code"], each.get("spoof")) for each in logged] == [
        ("portal", 200, "alice"),
        ("portal", 403, None),
    ]


def test_keys_that_nobody_reads_are_reported(room: Room) -> None:
    """A typo does not stop a request, but its client is told, at any depth."""
    document = {
        "project": "p",
        "colour": 1,
        "permissions": {"owner": [], "uploaders": [{"id": "x", "untill": "y"}]},
    }
    response = room.ask("create_project", document)
    assert response.code == 200
    assert response.ignored == ("colour", "permissions.owner", "permissions.uploaders.0.untill")
    assert response.document()["ignored"] == list(response.ignored)
    assert "ignored" not in response.body


def test_administrators_only(room: Room) -> None:
    """403 comes before 404, and names the user."""
    response = room.ask("refresh_usage", {"project": "absent"}, user="mallory")
    assert response.code == 403
    assert "mallory" in response.body["reason"]
    assert room.ask("refresh_usage", {"project": "absent"}).code == 404


def test_spoofing_needs_a_rule_even_for_administrators(room: Room) -> None:
    """Only the rules count; with one, the spoofed user is who asks."""
    document = {"project": "p", "permissions": {"owners": ["x"]}, "spoof": "alice"}
    room.ask("create_project", {"project": "p", "permissions": {"owners": ["alice"]}})
    assert room.ask("set_permissions", document).code == 403
    room.rules = Rules(frozenset({"root"}), {"root": SpoofingRule(anyone=True, but=frozenset({"bob"}))})
    assert room.ask("set_permissions", document).code == 200
    assert room.ask("set_permissions", {**document, "spoof": "bob"}).code == 403


def test_a_spoofed_administrator_is_one(room: Room) -> None:
    """`*` lets a spoofer act as an administrator too (spec/details.md)."""
    room.rules = Rules(frozenset({"root"}), {"portal": SpoofingRule(anyone=True)})
    room.ask("create_project", {"project": "p"})
    document = {"project": "p", "permissions": {}, "spoof": "root"}
    assert room.ask("set_permissions", document, user="portal").code == 200
    assert room.ask("set_permissions", {**document, "spoof": "x"}, user="portal").code == 403


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("secret /etc/shadow"), 500, "its log says why"),
        (OSError(28, "No space", "/srv/registry/x"), 500, "No space left on device"),
        (Busy("locked"), 503, "locked"),
        (RecursionError("deep"), 500, "its log says why"),
    ],
)
def test_every_failure_is_answered_without_internals(
    room: Room, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    """No traceback, path or secret gets into a reason."""
    monkeypatch.setattr(Failing, "error", error)
    response = room.ask("failing", {})
    assert response.code == code
    assert said in response.body["reason"]
    assert "/" not in response.body["reason"]


def test_a_commit_counts_whatever_fails_after_it(room: Room) -> None:
    """What is done is answered as done."""
    assert room.ask("half", {}).body == {"status": "SUCCESS", "kept": 1}


def test_what_is_stopped_is_given_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was committed, so nothing is answered here."""
    monkeypatch.setattr(Failing, "error", Stopped())
    claim = Claim(Identity("request-failing-1", 1, 2, 3), "failing", 0, "root", b"{}")
    run(room.dispatcher, claim)
    assert room.claims.released == [claim]
    assert room.claims.answered == []


def test_committed_but_not_finished_is_told_but_not_recorded(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response file follows when recovery has finished the change."""
    monkeypatch.setattr(Failing, "error", UnfinishedError("committed, not finished: x"))
    run(room.dispatcher, Claim(Identity("request-failing-1", 1, 2, 3), "failing", 0, "root", b"{}"))
    assert [r.code for r in room.claims.unfinished_ones] == [500]
    assert room.claims.answered == []


def test_a_stop_after_the_commit_does_not_deny_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for the usage lock comes after the commit point: the change stands, and is finished later."""
    room.ask("create_project", {"project": "p"})
    room.bench.source("u", {"f": b"x"})
    room.ask("upload", {"project": "p", "asset": "a", "version": "1", "source": "u"})

    def stop(self: LockTable, held: Held, rung: Rung) -> None:
        raise Stopped

    document = {"project": "p", "asset": "a", "version": "2", "source": "u"}
    with monkeypatch.context() as patch:
        patch.setattr(LockTable, "extend", stop)
        claim = Claim(
            Identity("request-upload-2", 1, 2, 3), "upload", 0, "root", json.dumps(document).encode()
        )
        run(room.dispatcher, claim)
    assert room.claims.released == []
    assert [r.code for r in room.claims.unfinished_ones] == [500]
    delivered: list[Response] = []
    assert room.bench.registry.recovery.mend(delivered.append, lambda record: None) == 0
    assert [(r.code, r.identity.name) for r in delivered] == [(200, "request-upload-2")]
    assert audit(str(room.bench.root)) == []


def claim_of(action: str, number: int, **document: Any) -> Claim:
    name = f"request-{action}-{number}"
    return Claim(Identity(name, number, 2, 3), action, 0, "root", json.dumps(document).encode())


def performed_together(room: Room) -> list[Performed]:
    """Two changes of one place, and a refusal between them, none of which is answered yet."""
    room.ask("create_project", {"project": "p"})
    room.claims.answered.clear()
    claims = [
        claim_of("set_permissions", 1, project="p", permissions={"owners": ["one"]}),
        claim_of("set_permissions", 2, project="none", permissions={"owners": ["none"]}),
        claim_of("set_permissions", 3, project="p", permissions={"owners": ["two"]}),
    ]
    performed = [found for each in claims if (found := room.dispatcher.perform(each)) is not None]
    assert room.claims.answered == []
    return performed


def test_what_is_answered_together_is_synced_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last record's sync does it for all, and comes before any answer."""
    performed = performed_together(room)
    last = performed[-1].origin.pending[-1]
    synced: list[Transaction] = []

    def sync(transaction: Transaction) -> None:
        assert room.claims.answered == []
        synced.append(transaction)

    monkeypatch.setattr(Transaction, "sync_record", sync)
    room.dispatcher.answer(performed)
    assert synced == [last]
    assert [response.code for response in room.claims.answered] == [200, 404, 200]
    assert os.listdir(room.bench.root / "..transactions" / "applied") == []
    assert audit(str(room.bench.root)) == []


def test_storage_that_fails_is_named_by_its_place(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a lock file of another account: its path in the registry, and never one outside or of our own."""
    root = room.bench.root
    for path, said in (
        (f"{root}/p/..LOCK", ' at "p/..LOCK"'),
        (f"{root}/..transactions/1/2", ""),
        ("/etc/x", ""),
        (None, ""),
    ):
        monkeypatch.setattr(Failing, "error", PermissionError(errno.EACCES, "no", path))
        reason = room.ask("failing", {}).body["reason"]
        assert reason == f"the daemon's storage failed{said}: Permission denied; nothing was changed"


def test_a_sync_that_fails_leaves_every_change_to_recovery(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that it is not finished; who was refused is answered as ever."""
    performed = performed_together(room)

    def fail(_: Transaction) -> None:
        raise OSError(errno.EIO, "the device failed")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "sync_record", fail)
        room.dispatcher.answer(performed)
    assert [response.code for response in room.claims.answered] == [404]
    assert [response.code for response in room.claims.unfinished_ones] == [500, 500]
    delivered: list[Response] = []
    assert room.bench.registry.recovery.mend(delivered.append, lambda record: None) == 0
    assert sorted(response.identity.name for response in delivered) == [
        "request-set_permissions-1",
        "request-set_permissions-3",
    ]
    assert audit(str(room.bench.root)) == []


def test_one_that_cannot_be_answered_keeps_nobody_from_being_answered(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised there."""
    performed = performed_together(room)
    answer = room.claims.answer

    def fail_once(claim: Claim, response: Response, *, recorded: bool = False) -> bool:
        if claim.name.endswith("-1"):
            raise RuntimeError(claim.name)
        return answer(claim, response, recorded=recorded)

    monkeypatch.setattr(room.claims, "answer", fail_once)
    room.dispatcher.answer(performed)
    assert [response.code for response in room.claims.answered] == [404, 200]


def test_health_check_ignores_its_content(room: Room) -> None:
    """Whatever it is."""
    assert room.ask("health_check", b"\xff{").code == 200


def test_policy_reaches_the_action(room: Room) -> None:
    """The configured default quota is what a new project gets."""
    room.rules = Rules(frozenset({"root"}), policy=Policy(quota_baseline=5, quota_growth_rate=7))
    room.ask("create_project", {"project": "p"})
    quota = json.loads((room.bench.root / "p/..quota").read_bytes())
    assert (quota["baseline"], quota["growth_rate"]) == (5, 7)
