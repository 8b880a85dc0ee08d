"""The clients in `examples/`, each in its own language: write, rename, wait, read the response."""

import json
import os
import signal
from collections.abc import Callable, Sequence

import pytest
from examples.desk import Desk, Result, ended, require_program
from support.daemon import eventually
from support.places import Symlink, Tree, give_to, make_directory, read_tree, write_tree

Client = Sequence[str]  # the beginning of its command line
TREE: Tree = {
    "table.csv": b"a,b\n1,2\n",
    "plots/one two.svg": b"<svg/>\n",
    "plots/none": None,
    "plots/again.csv": Symlink("../table.csv"),
    ".hidden": b"dot\n",
    'qu"ote': b"",
}


@pytest.fixture(scope="module", params=["bash", "R", "perl", "C"])
def client(request: pytest.FixtureRequest, desk: Desk) -> Client:
    """Return the beginning of the command line of a client."""
    place = desk.examples
    match request.param:
        case "bash":
            return (require_program("bash"), f"{place}/gobbler.sh")
        case "R":
            return (require_program("Rscript"), f"{place}/gobbler.R")
        case "perl":
            return (require_program("perl"), f"{place}/gobbler.pl")
    compiler, program = require_program("cc"), f"{desk.home}/gobbler-c"
    built = desk.run([compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-o", program, f"{place}/gobbler.c"])
    assert built.code == 0, built.errors
    return (program,)


@pytest.fixture
def ask(client: Client, desk: Desk) -> Callable[..., Result]:
    def run(*arguments: str, given: str = "", **variables: str) -> Result:
        return desk.run([*client, *arguments], given, variables)

    return run


@pytest.fixture(scope="module")
def results(desk: Desk) -> str:
    path = os.path.join(desk.home, "results")
    if not os.path.exists(path):
        write_tree(path, TREE)
        make_directory(os.path.join(path, "plots", "closed"), 0o555)
        os.chmod(path, 0o755)
    return path


def asset_of(client: Client) -> str:
    """Return an asset that no other client's test uses."""
    return os.path.basename(client[-1])


def test_a_request_is_answered(ask: Callable[..., Result], desk: Desk) -> None:
    """The response is printed as it is, the exit code is 0, and nothing is left in staging."""
    done = ask("request", "health_check", given="{}")
    assert done.code == 0, done.errors
    response = json.loads(done.output)
    assert (response["status"], response["action"], response["user"]) == (
        "SUCCESS",
        "health_check",
        desk.user,
    )
    assert not done.errors
    assert desk.left_in_staging() == []


def test_the_document_may_come_from_a_file(ask: Callable[..., Result], desk: Desk) -> None:
    """Bytes go through as they are: names in other alphabets, quotes, line ends."""
    path = os.path.join(desk.home, "permissions.json")
    wanted = {"owners": [desk.user, 'b"öb\\'], "uploaders": [{"id": "日本"}]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"project": "lab", "permissions": wanted}, file, ensure_ascii=False, indent=2)
    done = ask("request", "set_permissions", path)
    assert done.code == 0, done.errors + done.output
    assert desk.daemon.read("lab", "..permissions") == wanted


def test_a_directory_becomes_a_version(
    ask: Callable[..., Result], client: Client, desk: Desk, results: str
) -> None:
    """Files, links and empty directories arrive; the copy in staging is gone, what was uploaded is not."""
    before = read_tree(results)
    version = 'vé"1'
    done = ask("upload", f"{results}/", "lab", asset_of(client), version)
    assert done.code == 0, done.errors + done.output
    assert json.loads(done.output)["status"] == "SUCCESS"
    manifest = desk.daemon.read("lab", asset_of(client), version, "..manifest")
    assert {path: entry["size"] for path, entry in manifest.items()} == {
        "table.csv": 8,
        "plots/one two.svg": 7,
        "plots/none": 0,
        "plots/closed": 0,
        "plots/again.csv": 8,
        ".hidden": 4,
        'qu"ote': 0,
    }
    assert manifest["plots/again.csv"]["link"]["path"] == "table.csv"
    assert desk.left_in_staging() == []
    assert read_tree(results) == before


def test_clearing_away_never_follows_a_link(ask: Callable[..., Result], desk: Desk) -> None:
    """A link to a directory elsewhere is copied as a link and refused; what it goes to stays whole."""
    precious, source = os.path.join(desk.home, "precious"), os.path.join(desk.home, "linked")
    if not os.path.exists(source):
        write_tree(precious, {"thesis.txt": b"years"})
        write_tree(source, {"link": Symlink(precious)})
        give_to(precious, desk.user)
    refused = ask("upload", source, "lab", "linked", "1")
    assert refused.code == 1
    assert "link" in json.loads(refused.output)["reason"]
    assert read_tree(precious) == {"thesis.txt": b"years"}
    assert desk.left_in_staging() == []


def test_a_refusal_is_printed_with_exit_code_1(
    ask: Callable[..., Result], client: Client, desk: Desk, results: str
) -> None:
    """A version never changes: its second upload says so, and leaves nothing."""
    assert ask("upload", results, "lab", asset_of(client), "twice").code == 0
    again = ask("upload", results, "lab", asset_of(client), "twice")
    assert again.code == 1
    response = json.loads(again.output)
    assert (response["status"], response["code"]) == ("ERROR", 400)
    assert "exists" in response["reason"]
    assert desk.left_in_staging() == []


def test_a_reason_cannot_pass_for_a_success(ask: Callable[..., Result]) -> None:
    """The status is read, not searched for: a refusal that quotes a success is a refusal."""
    document = {"project": 'no "status": "SUCCESS" here', "permissions": {}}
    assert ask("request", "set_permissions", given=json.dumps(document)).code == 1


@pytest.mark.parametrize("arguments", [(), ("fetch", "x"), ("upload", "a", "b"), ("request",)], ids=str)
def test_wrong_usage_is_exit_code_2(ask: Callable[..., Result], desk: Desk, arguments: Sequence[str]) -> None:
    """A line on standard error shows how it is called; nothing is dropped."""
    wrong = ask(*arguments)
    assert wrong.code == 2
    assert "usage" in wrong.errors
    assert not wrong.output
    assert desk.left_in_staging() == []


def test_what_is_no_directory_is_exit_code_2(ask: Callable[..., Result], desk: Desk) -> None:
    """The sentence names it."""
    wrong = ask("upload", "/nowhere/at/all", "lab", "data", "1")
    assert wrong.code == 2
    assert "/nowhere/at/all" in wrong.errors
    assert desk.left_in_staging() == []


def test_what_cannot_be_read_is_exit_code_2(ask: Callable[..., Result], desk: Desk) -> None:
    """A document, or a file in a directory, that is not there or that this user may not read is named."""
    assert "/nowhere.json" in ask("request", "health_check", "/nowhere.json").errors
    assert ask("request", "health_check", "/nowhere.json").code == 2
    closed = os.path.join(desk.home, "closed")
    if not os.path.exists(closed):
        write_tree(closed, {"secret": b"root's own"})
        os.chmod(f"{closed}/secret", 0o600)
    wrong = ask("upload", closed, "lab", "closed", "1")
    assert wrong.code == 2
    assert closed in wrong.errors
    assert "secret" in wrong.errors
    assert desk.left_in_staging() == []


def test_a_staging_directory_that_is_closed_to_us_is_exit_code_3(
    ask: Callable[..., Result], desk: Desk, results: str
) -> None:
    """The sentence names it."""
    staging = make_directory(os.path.join(desk.home, f"closed-{os.urandom(3).hex()}"), 0o755)
    make_directory(f"{staging}/responses", 0o755)
    for arguments in (["request", "health_check"], ["upload", results, "lab", "closed", "1"]):
        lost = ask(*arguments, given="{}", GOBBLER_STAGING=staging)
        assert (lost.code, staging in lost.errors) == (3, True), lost


@pytest.mark.parametrize("staging", ["", "/nowhere/at/all", "/tmp"])
def test_without_a_staging_directory_it_is_exit_code_3(ask: Callable[..., Result], staging: str) -> None:
    """The sentence says what to set, or which directory is none."""
    lost = ask("request", "health_check", given="{}", GOBBLER_STAGING=staging)
    assert lost.code == 3
    assert (staging or "GOBBLER_STAGING") in lost.errors


@pytest.fixture
def silent(desk: Desk) -> str:
    """Return a staging directory whose daemon is away."""
    path = os.path.join(desk.home, f"silent-{len(os.listdir(desk.home))}")
    make_directory(make_directory(path, 0o1777) + "/responses", 0o755)
    return path


def test_no_answer_in_time_is_exit_code_4(ask: Callable[..., Result], results: str, silent: str) -> None:
    """The request and its directory stay for the daemon that comes later, and the sentence says where to look."""
    late = ask("upload", results, "lab", "late", "1", GOBBLER_STAGING=silent, GOBBLER_TIMEOUT="1")
    assert late.code == 4
    assert f"{silent}/responses/request-upload-" in late.errors
    left = set(os.listdir(silent)) - {"responses"}
    request = next(name for name in left if name.startswith("request-upload-"))
    with open(f"{silent}/{request}", encoding="utf-8") as file:
        assert left == {request, json.load(file)["source"]}


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_withdraws_the_request(
    client: Client, desk: Desk, results: str, silent: str, signalled: signal.Signals
) -> None:
    """Ctrl-C (130) and a batch system's TERM (143) leave nothing to be executed later."""
    command = [*client, "upload", results, "lab", "late", "1"]
    with desk.spawn(command, {"GOBBLER_STAGING": silent}) as process:
        eventually(lambda: "request-" in "".join(os.listdir(silent)), "the request")
        process.send_signal(signalled)
        code = ended(process).code
    if client[0].endswith("Rscript") and signalled == signal.SIGTERM:
        assert code == -signalled  # R cannot handle it: the request stays, as it would after a power cut
    else:
        assert code == 128 + signalled
        assert os.listdir(silent) == ["responses"]
