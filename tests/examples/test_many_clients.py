"""Many clients at once: the bash example, started by `xargs -P` all together, against one daemon.

The normal run starts 100; `GOBBLER_CLIENTS=1000` is the number that was promised.
"""

import json
import os

from examples.desk import Desk
from support.places import make_directory

CLIENTS = int(os.environ.get("GOBBLER_CLIENTS", "100"))
START_ALL = (
    'seq "$CLIENTS" | xargs -P "$CLIENTS" -I{} bash -c '
    "'\"$CLIENT\" request set_permissions questions/{} > answers/{}; echo $? > codes/{}'"
)


def question(number: int, user: str) -> dict[str, object]:
    """Return what client `number` asks: every third asks for something that must be refused."""
    project = f"nowhere-{number}" if number % 3 == 0 else "lab"
    return {"project": project, "permissions": {"owners": [user, f"guest-{number}"]}}


def test_every_one_of_many_clients_gets_its_own_right_answer(desk: Desk) -> None:
    """As many right answers as clients, and no two the same."""
    for name in ("questions", "answers", "codes"):
        make_directory(os.path.join(desk.home, name), 0o777)
    for number in range(1, CLIENTS + 1):
        with open(f"{desk.home}/questions/{number}", "w", encoding="utf-8") as file:
            json.dump(question(number, desk.user), file)
    variables = {"CLIENTS": str(CLIENTS), "CLIENT": f"{desk.examples}/gobbler.sh", "GOBBLER_TIMEOUT": "600"}
    done = desk.run(["bash", "-c", START_ALL], variables=variables, patience=900)
    assert done.code == 0, done.errors
    answers = {}
    for number in range(1, CLIENTS + 1):
        with open(f"{desk.home}/answers/{number}", encoding="utf-8") as file:
            answers[number] = json.load(file)
    assert len({answer["request"] for answer in answers.values()}) == CLIENTS
    for number, answer in answers.items():
        with open(f"{desk.home}/codes/{number}", encoding="utf-8") as file:
            assert int(file.read()) == (number % 3 == 0)
        if number % 3 == 0:
            assert answer["code"] == 404
            assert f'"nowhere-{number}"' in answer["reason"]
        else:
            assert answer["status"] == "SUCCESS"
    owners = desk.daemon.read("lab", "..permissions")["owners"]
    assert owners[0] == desk.user, "the last of them counts as a whole"
    assert len(owners) == 2
    assert desk.left_in_staging() == []
