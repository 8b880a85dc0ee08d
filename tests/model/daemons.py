"""Daemons without threads: real staging directory, registry, dispatch and actions; a clerk for a spool.

Each has a staging directory of its own; several serve one registry. `Daemon.crash` performs a request in a
forked child that kills itself before a chosen change of the disk; `Daemon.start` then does what a daemon
does at its start. The clerk records each response in a file, durable before the transaction is finished.
Limits: one request at a time; what is written within an opened file is no step (reliability.md, strace).
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from model.contract import ADMINISTRATORS, DEFAULT_QUOTA, SPOOFERS, Request
from model.uploads import FIFO, SOURCE
from support.performing import run

from gobblerd.actions.action import Policy
from gobblerd.actions.discovery import discover
from gobblerd.domain.messages import Claim, Identity, Response
from gobblerd.domain.permissions import SpoofingRule
from gobblerd.registry.consume import consume_listed
from gobblerd.registry.record import Record
from gobblerd.registry.registry import Registry
from gobblerd.service.dispatch import Dispatcher, Rules
from gobblerd.staging.directory import Staging
from gobblerd.storage.files import Durability

MUTATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
KILLED = 9
USERS = {
    "root": 0,
    "olga": 30001,
    "anna": 30002,
    "tom": 30003,
    "ulf": 30004,
    "mallory": 30005,
    "portal": 30006,
}
WHITE = {"one": b"one", "white": b"white"}  # "one" has the bytes of a file that sources hold too

Answer = dict[str, Any]  # code, body, ignored


def die_before(step: int, *, committed: bool) -> None:
    """Kill this process before its `step`-th change of the disk; with `committed`, counted from the commit."""
    seen = 0
    counting = not committed

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, counting
        if event in MUTATIONS or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        ):
            seen += counting
            if seen == step:
                os._exit(KILLED)
            counting = counting or (
                event == "os.rename" and "/..transactions/committed/" in str(arguments[1])
            )

    sys.addaudithook(hook)


def in_child(work: Callable[[], None], step: int, *, committed: bool) -> bool:
    """Do `work` in a forked child that dies on the way; tell whether it got to the end."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            die_before(step, committed=committed)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            raise
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, KILLED}, f"the child failed by itself: {code}"
    return code == 0


class Clerk:
    """Takes the place of the spool: records responses, one file each, and refuses a second one."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        os.makedirs(directory, exist_ok=True)

    def answer(self, claim: Claim, response: Response, *, recorded: bool = False) -> bool:
        assert claim.identity == response.identity
        self.record(response)
        return True

    def record(self, response: Response) -> None:
        """Record; the same response again is no harm (a delivery may be repeated), another one is."""
        path = os.path.join(self._directory, response.identity.name)
        document = {"code": response.code, "body": dict(response.body), "ignored": list(response.ignored)}
        if os.path.exists(path):
            assert self.recorded(response.identity.name) == document, "a second, different response"
            return
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.rename(f"{path}.new", path)

    def recorded(self, name: str) -> Answer | None:
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8") as file:
                found: Answer = json.load(file)
                return found
        except FileNotFoundError:
            return None

    def prepare(self, response: Response) -> None:
        """Write nothing beforehand."""

    def performed(self, claim: Claim) -> None:
        pass

    def release(self, claim: Claim) -> None:
        raise AssertionError(f"{claim.name} was released, though nobody stopped the daemon")

    def unfinished(self, claim: Claim, response: Response) -> None:
        raise AssertionError(f"{claim.name} was committed, but not finished: {response.body}")

    def report_progress(self, name: str, done: int, total: int) -> None:
        pass


def rules(white: str) -> Rules:
    """The configuration of every daemon here; quotas are enforced."""
    spoofing = {name: SpoofingRule(users, anyone, but) for name, (users, anyone, but) in SPOOFERS.items()}
    baseline, growth = DEFAULT_QUOTA
    policy = Policy(whitelist=(white,), enforce_quota=True, quota_baseline=baseline, quota_growth_rate=growth)
    return Rules(ADMINISTRATORS, spoofing, policy)


class Daemon:
    """One daemon: number `number` on the registry below `base`."""

    def __init__(self, base: str, number: int) -> None:
        self.root = f"{base}/registry"
        self.white = f"{base}/white"
        path = f"{base}/staging-{number}"
        os.makedirs(path)
        self.staging = Staging.open(path, Durability.PROCESS)
        self.clerk = Clerk(f"{base}/answers-{number}")
        self.registry = self._opened()
        self.source = f"{path}/{SOURCE}"
        self._actions = discover()
        self._dropped = 0

    def _opened(self) -> Registry:
        return Registry(
            self.root, staging=self.staging.id, durability=Durability.PROCESS, lock_timeout=lambda: 10.0
        )

    def _dispatcher(self, registry: Registry) -> Dispatcher:
        now = rules(self.white)
        clerk: Any = self.clerk  # speaks as much of the protocol of claims as dispatch does
        return Dispatcher(registry, self.staging, clerk, self._actions, lambda: now)

    def drop(self, request: Request) -> Claim:
        """Put the source into staging, and return the claim that intake would make of the request file."""
        self._dropped += 1
        shutil.rmtree(self.source, ignore_errors=True)
        if request.source is not None:
            make_source(self.source, request, self.root, self.white)
        body = json.dumps(request.document).encode()
        identity = Identity(f"request-{request.action}-{self._dropped}", self._dropped, 2, len(body))
        return Claim(identity, request.action, USERS[request.user], request.user, body)

    def run(self, claim: Claim) -> Answer:
        """Perform a claim and return the recorded answer."""
        run(self._dispatcher(self.registry), claim)
        answer = self.clerk.recorded(claim.name)
        assert answer is not None, f"{claim.name} was not answered"
        return answer

    def crash(self, claim: Claim, step: int, *, committed: bool) -> bool:
        """Perform a claim in a child that dies before a change of the disk; tell whether it got to the end."""
        self.registry.close(None)

        def work() -> None:
            registry = self._opened()
            run(self._dispatcher(registry), claim)
            registry.close(None)

        return in_child(work, step, committed=committed)

    def crash_starting(self, step: int) -> None:
        """Start in a child that dies before its `step`-th change of the disk."""
        in_child(self.start, step, committed=False)

    def start(self) -> None:
        """Do what a daemon does at its start, before it executes anything."""
        self.registry = self._opened()
        self.registry.clean_up()
        assert self.registry.recovery.mend(self.clerk.record, self._consume) == 0, "recovery left something"

    def _consume(self, record: Record) -> None:
        assert record.consume is not None
        listing = f"{self.root}/..transactions/{record.id}/{record.consume.slot}"
        consume_listed(self.staging.fd, record.consume.source, record.consume.inode, listing)

    def close(self) -> None:
        self.registry.close(None)
        self.staging.close()


# -- sources ---------------------------------------------------------------------------------------------


def link_text(content: tuple[str, str], top: str, root: str, white: str) -> str:
    kind, text = content
    above = {"own": f"{top}/", "registry": f"{root}/", "white": f"{white}/"}
    return above.get(kind, "") + text


def make_source(top: str, request: Request, root: str, white: str) -> None:
    assert request.source is not None
    os.mkdir(top)
    for path, content in request.source.items():
        full = f"{top}/{path}"
        os.makedirs(full if content is None else os.path.dirname(full), exist_ok=True)
        if content == FIFO:
            os.mkfifo(full)
        elif isinstance(content, bytes):
            with open(full, "wb") as file:
                file.write(content)
        elif content is not None:
            os.symlink(link_text(content, top, root, white), full)
    uid = USERS[request.source_user]
    for directory, names, files in os.walk(top):
        for name in (".", *names, *files):
            os.chown(os.path.join(directory, name), uid, uid, follow_symlinks=False)


def wrong_in_source(top: str, expected: Mapping[str, Any], root: str, white: str) -> list[str]:
    """Return what is not in a source as it should be."""
    flaws = []
    found = {
        os.path.relpath(os.path.join(directory, name), top)
        for directory, names, files in os.walk(top)
        for name in (*files, *(n for n in names if os.path.islink(os.path.join(directory, n))))
    }
    files = {path for path, content in expected.items() if content is not None}
    flaws += [f"{path} is gone" for path in sorted(files - found)]
    flaws += [f"{path} is still there" for path in sorted(found - files)]
    for path in files & found:
        full, content = f"{top}/{path}", expected[path]
        if isinstance(content, bytes):
            with open(full, "rb") as file:
                if file.read() != content:
                    flaws.append(f"{path} changed")
        elif content != FIFO and os.readlink(full) != link_text(content, top, root, white):
            flaws.append(f"{path} changed")
    return flaws
