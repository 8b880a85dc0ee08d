"""`export_version`: a whole archive with its receipt in the export directory, or nothing."""

import dataclasses
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support.archives import FORMATS, leave_abandoned, make_registry, members_of
from support.daemon import StartDaemon, eventually
from support.places import Users
from support.registries import Book, make_context, snapshot

from gobblerd.actions.action import Context
from gobblerd.actions.export import ExportVersion
from gobblerd.archive.create import create_archive
from gobblerd.archive.receipt import load_receipt
from gobblerd.archive.version_plan import Version
from gobblerd.domain.errors import Absent, Busy, Exceeded, Fault, Invalid, Wrong
from gobblerd.domain.permissions import Caller


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return make_registry(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "exports"
    path.mkdir()
    return path


@pytest.fixture
def context(book: Book, out: Path, tmp_path: Path) -> Context:
    return with_policy(make_context(book.root, whitelist=[str(tmp_path / "white")]), directory=str(out))


def with_policy(context: Context, **policy: Any) -> Context:
    exports = dataclasses.replace(context.policy.exports, **policy)
    return dataclasses.replace(context, policy=dataclasses.replace(context.policy, exports=exports))


def export(context: Context, version: str = "2", **fields: Any) -> dict[str, Any]:
    request = {"project": "p", "asset": "a", "version": version, **fields}
    return dict(ExportVersion.model_validate(request).perform(context).answer)


@pytest.mark.parametrize("form", [None, *FORMATS])
def test_the_answer_tells_where_the_archive_is(
    form: str | None, context: Context, book: Book, out: Path
) -> None:
    """The same bytes that anybody's create_archive gives; the registry is as it was."""
    before = snapshot(book.root)
    answer = export(context, format=form)
    made = create_archive(Version(book.root, "p", "a", "2"), out.parent, format=form)
    assert answer == {
        "archive": str(out / os.path.basename(made.path)),
        "receipt": str(out / os.path.basename(made.receipt_path)),
        "size": made.size,
        "sha256": made.sha256,
    }
    assert load_receipt(answer["receipt"]) == made.receipt
    assert Path(answer["archive"]).read_bytes() == Path(made.path).read_bytes()
    assert snapshot(book.root) == before
    assert len(os.listdir(out)) == 2


def test_links_are_what_was_asked_for(context: Context) -> None:
    assert members_of(export(context, links="preserve")["archive"])["p_a_2/again"] == "data/new.txt"
    assert members_of(export(context, links="bundle")["archive"])["p_a_2/linked/p/a/1/old.txt"] == b"old\n"


@pytest.mark.parametrize("fields", [{"format": "rar"}, {"format": 1}, {"links": "hard"}, {"links": True}])
def test_what_is_no_format_or_no_way_with_links_is_refused(fields: dict[str, Any], context: Context) -> None:
    with pytest.raises(ValueError, match="literal_error"):
        export(context, **fields)


def test_anybody_may_and_versions_on_probation_can_be_exported(book: Book, context: Context) -> None:
    """Whoever reads the registry can make the same archive."""
    book.version("p/a/trial", {"x": b"1"}, on_probation=True)
    stranger = dataclasses.replace(
        context, caller=Caller(12345, "nobody-knows", "nobody-knows", is_administrator=False)
    )
    answer = export(stranger, "trial")
    assert b'"on_probation"' in bytes(members_of(answer["archive"])["p_a_trial/..summary"] or b"")  # type: ignore[arg-type]
    assert os.stat(answer["archive"]).st_mode & 0o777 == os.stat(answer["receipt"]).st_mode & 0o777 == 0o644


def test_a_version_that_is_not_there_is_absent(context: Context, out: Path) -> None:
    with pytest.raises(Absent):
        export(context, "3")
    assert os.listdir(out) == []


def test_rot_is_found_and_leaves_nothing(context: Context, book: Book, out: Path) -> None:
    Path(book.full("p/a/2/README")).write_bytes(b"Read me\n")
    with pytest.raises(Invalid, match="README"):
        export(context)
    assert os.listdir(out) == []


def test_without_a_directory_exports_are_refused(context: Context) -> None:
    with pytest.raises(Wrong, match="export_directory"):
        export(with_policy(context, directory=""))


def test_a_directory_that_is_missing_or_full_is_the_services_fault(
    context: Context, small_disk: Path
) -> None:
    """And says so; nothing is left of the archive."""
    with pytest.raises(Fault, match="cannot be used: No such file"):
        export(with_policy(context, directory=str(small_disk / "none")))
    with pytest.raises(Fault, match="the export directory is full"):
        export(with_policy(context, directory=str(small_disk)), format="tar")
    assert os.listdir(small_disk) == ["ballast"]


def test_the_directory_has_its_limit(context: Context, out: Path) -> None:
    """Counted before anything is read."""
    (out / "theirs").write_bytes(bytes(1000))
    with pytest.raises(Exceeded, match="1000 of 2000 bytes"):
        export(with_policy(context, max_bytes=2000))
    assert os.listdir(out) == ["theirs"]
    export(with_policy(context, max_bytes=10_000_000))


def test_what_a_killed_daemon_left_takes_no_room(context: Context, out: Path) -> None:
    """Of its leftovers none is counted that the export itself would clear away."""
    for name in leave_abandoned(out):
        if (out / name).is_file():
            os.truncate(out / name, 10_000_000)
    export(with_policy(context, max_bytes=10_000_000))
    assert [name for name in os.listdir(out) if name.endswith(".partial")] == []


def test_names_are_made_by_the_configured_template(context: Context, out: Path) -> None:
    answer = export(with_policy(context, name_template="{asset}-{version}{suffix}"))
    assert answer["archive"] == str(out / "a-2.tar.zst")
    again = export(with_policy(context, name_template="{asset}-{version}{suffix}"))
    assert again == answer


def test_two_equal_requests_at_once_give_one_archive(context: Context, out: Path) -> None:
    """Each makes the same bytes, and the last rename changes nothing."""
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(export(context))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [answers[0]] * 4
    assert len(os.listdir(out)) == 2


def test_a_stopping_daemon_ends_it_and_nothing_is_left(context: Context, out: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise Busy("stopping")

    with pytest.raises(Busy):
        export(dataclasses.replace(context, progress=stop))
    assert os.listdir(out) == []


# ---- through a daemon


@pytest.fixture
def exports(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("exports")
    at = path
    while at != Path("/tmp"):
        at.chmod(0o755)
        at = at.parent
    return str(path)


def test_users_ask_for_an_export_and_read_it(start_daemon: StartDaemon, exports: str, users: Users) -> None:
    """Dropped by one user, read by another, on whom the registry's own permissions say nothing."""
    daemon = start_daemon(settings={"export_directory": exports})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"bytes"})
    answer = daemon.done("export_version", {"project": "p", "asset": "a", "version": "1"}, users.alice)
    found = subprocess.run(
        ["setpriv", f"--reuid={users.bob}", "--clear-groups", "sha256sum", answer["archive"]],
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split()[0] == answer["sha256"]
    assert daemon.http("GET", "/archive/p/a/1.tar.zst").data == Path(answer["archive"]).read_bytes()
    refused = daemon.ask("export_version", {"project": "p", "asset": "a", "version": "2"}, users.bob)
    assert refused.code == 404


@pytest.mark.timeout(600)  # packing takes its time, so that there is a middle
def test_a_daemon_killed_in_the_middle_exports_again_and_leaves_nothing_half(
    start_daemon: StartDaemon, exports: str
) -> None:
    """The request is still there; what the killed one wrote is cleared away."""
    daemon = start_daemon(settings={"export_directory": exports})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"noise": os.urandom(2 << 20)})
    name = daemon.drop("export_version", {"project": "p", "asset": "a", "version": "1", "format": "tar.xz"})
    eventually(lambda: [n for n in os.listdir(exports) if n.endswith(".partial")], "it is being written")
    daemon.kill()
    assert [n for n in os.listdir(exports) if not n.endswith(".partial")] == []
    daemon.start()
    answer = daemon.wait(name, 600)
    assert answer.code == 200
    assert sorted(os.listdir(exports)) == sorted(
        os.path.basename(answer.body[k]) for k in ("archive", "receipt")
    )
