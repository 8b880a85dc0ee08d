"""Many clients at once against one daemon: as many right answers.

`GOBBLER_CLIENTS` is their number (default 30; the promise was tried with 1,000).
"""

import os
import subprocess
import sys

from support.daemon import PROJECT_ROOT, RunningDaemon

CLIENTS = int(os.environ.get("GOBBLER_CLIENTS", "30"))
PROGRAM = """
import sys
from gobblerd.client import submit
staging, url, number = sys.argv[1:]
answer = submit(staging, url if int(number) % 2 else None, "refresh_usage", {"project": f"p{int(number) % 10}"})
sys.stdout.write(f"{answer['total']}\\n")  # in one piece: the output is shared
"""


def test_all_are_answered_right(daemon: RunningDaemon) -> None:
    """Half of them by POST, half by file, all started at once: each gets its own answer, and nothing is left."""
    for number in range(10):
        daemon.done("create_project", {"project": f"p{number}"})
        daemon.upload(f"p{number}/a/1", {"f": b"x" * number})
    url = f"http://127.0.0.1:{daemon.port}"
    before = set(os.listdir(daemon.staging))
    command = [
        "xargs",
        "-P",
        str(CLIENTS),
        "-n",
        "1",
        sys.executable,
        "-S",
        "-P",
        "-c",
        PROGRAM,
        daemon.staging,
        url,
    ]
    done = subprocess.run(
        command,
        input="\n".join(map(str, range(CLIENTS))),
        env={**os.environ, "PYTHONPATH": PROJECT_ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(map(int, done.stdout.split())) == sorted(number % 10 for number in range(CLIENTS))
    assert set(os.listdir(daemon.staging)) == before
