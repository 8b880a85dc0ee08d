"""Concurrency is serialisable: whatever two daemons do, and wherever they die, a plain model does the same.

A hypothesis state machine asks two daemons on one registry for everything that the contract offers, kills
them before chosen changes of the disk, and after every step compares answers, registry, events and sources
with the model of `contract.py`. A crashed request whose response exists happened, wholly; one without did
not, at all. Between a crash and the restart the other daemon acts: both orders are then permitted.

GOBBLERD_MODEL_STEPS scales the long form (10,000), GOBBLERD_MODEL_SEED chooses its first seed. A failure
prints its seed and history; GOBBLERD_MODEL_SHRINK=1 makes hypothesis look for the shortest one.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from model.asking import ASK, LIKELY, USUAL, aimed, drawn
from model.contract import SIMPLE, Nature, Place, Possible, Refusal, Request, World, attempt, place_of
from model.daemons import WHITE, Answer, Daemon, wrong_in_source
from model.documents import judge, unread
from model.links import broken, links, reindex_version, reroute_links, validate_version
from model.picture import difference, finish_on_disk, of_disk, of_world
from model.uploads import left_in_source, upload
from support.checker import assert_clean

SHORT_STEPS = int(os.environ.get("GOBBLERD_MODEL_SHORT_STEPS", "500"))
LONG_STEPS = int(os.environ.get("GOBBLERD_MODEL_STEPS", "10000"))
FIRST_SEED = int(os.environ.get("GOBBLERD_MODEL_SEED", "1"))
SHRINK = bool(os.environ.get("GOBBLERD_MODEL_SHRINK"))  # a failure's shortest history, in some minutes
MEMORY = "/dev/shm"  # nothing here is about power cuts, and a busy disk makes it ten times slower
FEW = 4  # versions: with fewer, nothing is taken away on purpose
EXAMPLE_STEPS = 50  # of one history
AUDIT_EVERY = 10

PERFORM = SIMPLE | {
    "upload": upload,
    "validate_version": validate_version,
    "reindex_version": reindex_version,
}

Done = tuple[int, Request, Answer]  # by which daemon, what, and what it answered


def possible(world: World, request: Request, nature: Nature) -> list[Possible]:
    """Every outcome of a request that the contract permits; nearly always one."""
    try:
        judge(request)
    except Refusal as refusal:
        return [Possible(refusal.code, {}, world)]
    if request.action == "reroute_links":
        return reroute_links(world, request, nature)
    return [attempt(PERFORM[request.action], world, request, nature)]


def answers_to(outcome: Possible, request: Request, answer: Answer) -> bool:
    """Tell whether an answer is that of an outcome."""
    body = answer["body"]
    if outcome.code != answer["code"]:
        return False
    if outcome.code == 200:
        return bool(body == {"status": "SUCCESS", **outcome.keys})
    if request.action == "validate_version" and outcome.code == 422:
        top = "/".join(place_of(request.document)) + "/"
        wrong = {path.removeprefix(top) for path in broken(outcome.world) if path.startswith(top)}
        if not wrong <= {problem["path"] for problem in body["problems"]}:
            return False
    return body["status"] == "ERROR" and bool(body["reason"])


class Machine(RuleBasedStateMachine):
    """Two daemons and the model."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.base = tempfile.mkdtemp(prefix="gobblerd-model-", dir=MEMORY if os.path.isdir(MEMORY) else None)
        self.root, self.white = f"{self.base}/registry", f"{self.base}/white"
        for path in (self.root, f"{self.root}/..logs", self.white):
            os.mkdir(path, 0o755)
        for name, data in WHITE.items():
            with open(f"{self.white}/{name}", "wb") as file:
                file.write(data)
        self.daemons = [Daemon(self.base, number) for number in range(2)]
        self.nature = Nature(lambda place: finish_on_disk(self.root, place), WHITE)
        self.world = World()
        self.steps = 0

    # -- comparing -------------------------------------------------------------------------------------

    def histories(self, world: World, order: Sequence[Done]) -> Iterator[list[Possible]]:
        """Yield each way in which the model gives these answers in this order."""
        if not order:
            yield []
            return
        _, request, answer = order[0]
        outcomes = possible(world, request, self.nature)
        if world is not self.world and request.action == "upload":  # it overlapped with the one before
            outcomes += possible(world, request, replace(self.nature, earlier=self.world))
        for outcome in outcomes:
            if answers_to(outcome, request, answer):
                for rest in self.histories(outcome.world, order[1:]):
                    yield [outcome, *rest]

    def settle(self, *orders: Sequence[Done]) -> None:
        """Take the first order that explains answers and disk; fail if none does."""
        found = of_disk(self.root)
        complaints = []
        for order in orders:
            complaints += [str([str(request) for _, request, _ in order])]
            for history in self.histories(self.world, order):
                world = history[-1].world if history else self.world
                if not (different := difference(of_world(world, self.white), found)):
                    self.accept(order, history, world)
                    return
                complaints += different
            expected = [possible(self.world, request, self.nature) for _, request, _ in order]
            complaints += [f"expected {[(p.code, p.keys) for each in expected for p in each]}"]
        answers = [(str(request), answer) for _, request, answer in orders[0]]
        raise AssertionError("\n".join(["the model does not do this:", *map(str, answers), *complaints]))

    def accept(self, order: Sequence[Done], history: Sequence[Possible], world: World) -> None:
        """Check what depends on the history: sources, reported keys, the times of uploads."""
        for (number, request, answer), outcome in zip(order, history, strict=True):
            self.tally[f"{request.action} {answer['code']}"] += 1
            top_level = [key for key in answer["ignored"] if "." not in key]
            assert outcome.code == 400 or sorted(top_level) == sorted(unread(request))
            assert self.base not in str(answer["body"]), "a path of the machine in an answer"
            if request.action == "upload":
                self.check_source(number, request, outcome)
        self.world = world
        self.steps += 1
        self.tally["steps"] += 1
        if self.steps % AUDIT_EVERY == 0:
            self.audit()
            made = [entry["link"] for _, entry in links(world)]
            self.tally["links seen at audits"] += len(made)
            self.tally["links with an ancestor seen at audits"] += sum("ancestor" in link for link in made)
            self.tally["broken links seen at audits"] += len(broken(world))

    def check_source(self, number: int, request: Request, outcome: Possible) -> None:
        if request.source is None:
            return
        left = left_in_source(request, outcome.world) if outcome.code == 200 else request.source
        wrong = wrong_in_source(self.daemons[number].source, left, self.root, self.white)
        assert not wrong, f"the source of {request}: {wrong}"
        if outcome.code == 200:
            project, asset, version = place_of(request.document)
            held = outcome.world.projects[project].assets[asset]
            if not held.versions[version].on_probation:
                assert held.greatest() == version, "an upload that finished before the latest one"

    def audit(self) -> None:
        """Let the checker look at everything, apart from the links that deletions broke."""
        self.tally["audits"] += 1
        assert_clean(self.root, whitelist=[self.white], ignore=[f"{path}: " for path in broken(self.world)])

    # -- asking ----------------------------------------------------------------------------------------

    def ask(self, number: int, request: Request) -> Done:
        daemon = self.daemons[number]
        answer = daemon.run(daemon.drop(request))
        note(f"daemon {number}: {request} -> {answer}")
        return number, request, answer

    def tell(self, number: int, request: Request) -> Answer:
        """Ask for something and compare at once."""
        done = self.ask(number, request)
        self.settle([done])
        return done[2]

    def drawn(self, data: Any, action: str) -> Request:
        """Draw a request; before, see to it that there is a project that people may upload to."""
        if "p" not in self.world.projects:
            document = {"project": "p", "permissions": USUAL}
            assert self.tell(0, Request("create_project", "root", document))["code"] == 200
        return drawn(data.draw, self.world, action)

    @rule(data=st.data(), number=st.integers(0, 1), action=st.sampled_from(LIKELY))
    def anything(self, data: Any, number: int, action: str) -> None:
        """One request."""
        self.tell(number, self.drawn(data, action))

    @rule(data=st.data(), number=st.integers(0, 1), count=st.integers(1, 4))
    def upload(self, data: Any, number: int, count: int) -> None:
        """Uploads: histories need many."""
        for _ in range(count):
            self.tell(number, self.drawn(data, "upload"))

    @precondition(lambda self: len(self.world.places()) >= FEW)
    @rule(data=st.data(), number=st.integers(0, 1))
    def approve(self, data: Any, number: int) -> None:
        """An approval of what there is."""
        self.tell(number, self.drawn(data, "approve_probation"))

    @precondition(lambda self: len(self.world.places()) >= FEW)
    @rule(data=st.data(), number=st.integers(0, 1))
    def delete_after_reroute(self, data: Any, number: int) -> None:
        """A dry run says what the real one does; after it the places may go without breaking a link."""
        before = broken(self.world)
        request = self.drawn(data, "reroute_links")
        dry = Request(request.action, request.user, {**request.document, "dry_run": True})
        real = Request(request.action, request.user, {**request.document, "dry_run": False})
        announced, answer = self.tell(number, dry), self.tell(1 - number, real)
        if answer["code"] != 200:
            return
        assert answer == announced
        for doomed in request.document["to_delete"]:
            kind = ("delete_project", "delete_asset", "delete_version")[len(doomed) - 1]
            self.tell(number, Request(kind, "root", dict(doomed)))
        if not before:  # a chain that was broken already leads somewhere else from link to link
            assert not broken(self.world), "a link is broken, though all were rerouted"

    # -- dying -----------------------------------------------------------------------------------------

    def die(self, number: int, request: Request, step: int, *, committed: bool) -> Any:
        """Let a daemon begin a request and die on the way; return the claim."""
        daemon = self.daemons[number]
        claim = daemon.drop(request)
        done = daemon.crash(claim, step, committed=committed)
        note(f"daemon {number} {'survived' if done else 'died'} at {step} ({committed=}): {request}")
        self.tally["crashes"] += not done  # else it ended before the chosen step
        assert not done or daemon.clerk.recorded(claim.name), "done, but not answered"
        return claim

    def wake(self, number: int, claim: Any, request: Request, *between: Done) -> None:
        """Start the daemon again: its request happened, in some order, or it did not and runs now."""
        daemon = self.daemons[number]
        daemon.start()
        answer = daemon.clerk.recorded(claim.name)
        note(f"daemon {number} started again: {answer}")
        if answer is not None:
            dead = (number, request, answer)
            self.tally["answered by the time of the restart"] += 1
            self.settle([dead, *between], [*between, dead])
            return
        self.settle(between)
        self.settle([(number, request, daemon.run(claim))])

    @rule(
        data=st.data(),
        number=st.integers(0, 1),
        action=st.sampled_from(LIKELY),
        step=st.integers(1, 40),
        committed=st.booleans(),
        again=st.none() | st.integers(1, 15),
    )
    def crash(
        self, data: Any, number: int, action: str, step: int, *, committed: bool, again: int | None
    ) -> None:
        """A daemon dies in the middle, perhaps once more while it recovers, and starts again."""
        request = self.drawn(data, action)
        claim = self.die(number, request, 1 + step % 16 if committed else step, committed=committed)
        if again is not None:
            self.daemons[number].crash_starting(again)
        self.wake(number, claim, request)

    @rule(
        data=st.data(),
        number=st.integers(0, 1),
        action=st.sampled_from(LIKELY),
        other=st.sampled_from(LIKELY),
        step=st.integers(1, 16),
    )
    def crash_beside_the_other(self, data: Any, number: int, action: str, other: str, step: int) -> None:
        """The other daemon acts before the dead one is back: it finishes what stands in its way."""
        request = self.drawn(data, action)
        claim = self.die(number, request, step, committed=True)
        done = self.ask(1 - number, self.drawn(data, other))
        self.tally["requests between a crash and the restart"] += 1
        self.wake(number, claim, request, done)

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        """A daemon that ends in peace leaves nothing to do."""
        self.daemons[number].registry.close(None)
        self.daemons[number].start()
        self.settle([])

    # -- damage ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.places()) >= FEW)
    @rule(data=st.data(), number=st.integers(0, 1))
    def delete_what_is_damaged(self, data: Any, number: int) -> None:
        """A manifest that cannot be read stops a deletion, but not by force; usage then needs a refresh."""
        place: Place = aimed(data.draw, self.world)
        if self.world.version(place) is None:
            return
        path = os.path.join(self.root, *place, "..manifest")
        with open(path, "rb") as file:
            kept = file.read()
        with open(path, "wb") as file:
            file.write(kept[:-1])
        document = dict(zip(("project", "asset", "version"), place, strict=True))
        assert self.ask(number, Request("delete_version", "root", document))[2]["code"] == 500
        with open(path, "rb") as file:
            assert file.read() == kept[:-1], "a refused deletion changed something"
        forced = self.ask(number, Request("delete_version", "root", {**document, "force": True}))
        usage = of_disk(self.root)[f"{place[0]}/..usage"]
        assert usage == {"total": self.world.projects[place[0]].usage}, "by force: usage stays as it is"
        refreshed = self.ask(number, Request("refresh_usage", "root", {"project": place[0]}))
        self.settle([forced, refreshed])

    def teardown(self) -> None:
        try:
            for daemon in self.daemons:
                daemon.close()
            if self.steps:
                self.audit()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)


def run(steps: int, first_seed: int, examples: int) -> Counter[str]:
    """Run histories until there were so many steps; return what was done."""
    number = first_seed

    class Counted(Machine):
        tally: ClassVar[Counter[str]] = Counter()

    while Counted.tally["steps"] < steps:
        print(f"hypothesis seed {number}")  # noqa: T201  # what makes a failure reproducible
        run_state_machine_as_test(
            seed(number)(Counted),
            settings=settings(
                max_examples=examples,
                stateful_step_count=EXAMPLE_STEPS,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            ),
        )
        number += 1
    print("\n".join(f"{count:6} {what}" for what, count in sorted(Counted.tally.items())))  # noqa: T201  # the counts
    return Counted.tally


def dropped(*_: Any) -> Any:
    """Log nothing: refused requests are the half of this test."""
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    structlog.configure(processors=[dropped])
    yield
    structlog.reset_defaults()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: sources of other users need root")


@needs_root
@pytest.mark.timeout(900)  # shrinking a failure takes minutes
def test_two_daemons_that_crash_do_what_the_model_does() -> None:
    """Answers, registry, events and sources are those of a serial history, at small scale."""
    assert run(SHORT_STEPS, 1, 12)["crashes"]


@needs_root
@pytest.mark.long
@pytest.mark.timeout(0)
def test_ten_thousand_steps_do_what_the_model_does() -> None:
    """The same, at full count."""
    tally = run(LONG_STEPS, FIRST_SEED, 10)
    assert {key.split()[0] for key in tally} >= set(ASK)
