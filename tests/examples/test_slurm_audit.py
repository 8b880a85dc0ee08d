"""An audit as a job array with a merge job after it, on a real Slurm of three nodes, with the example scripts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from examples.cluster import Cluster, Job
from examples.desk import Desk
from support.corpus import Corpus, unpack
from support.daemon import PROJECT_ROOT, eventually
from support.places import ROOT, make_directory

SHARES = 8


@pytest.fixture(scope="module")
def desk(desk: Desk) -> Desk:
    """An administrator's desk: this Python need not be one that other users can run."""
    return replace(desk, user=ROOT)


@pytest.fixture(scope="module")
def cluster(base: str, desk: Desk) -> Iterator[Cluster]:
    slurm = Cluster(os.path.join(base, "slurm"), nodes=3, processors=1)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture(scope="module")
def corpus(base: str) -> Corpus:
    found = unpack(make_directory(os.path.join(base, "data"), 0o755))
    with open(f"{found.registry}/alpha/c/1/keep", "wb") as file:
        file.write(b"K\n")
    os.unlink(f"{found.registry}/alpha/a/1/top.txt")
    return found


@pytest.fixture(scope="module")
def expected(corpus: Corpus, desk: Desk, program: str) -> str:
    """Return the report of an audit that is not shared out, by the same user."""
    done = desk.run([program, "audit", corpus.registry, "--whitelist", corpus.whitelisted])
    assert done.code == 1, done.errors
    return done.output


@pytest.fixture(scope="module")
def program(base: str) -> str:
    """Return a `gobblerd` that any user can run; with a file `kill-N` beside the part it dies of share N."""
    path = os.path.join(base, "gobblerd")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"""#!/bin/bash
here={sys.executable}
cd {PROJECT_ROOT} || exit 9
mark=$(dirname "${{@: -1}}")/kill-$SLURM_ARRAY_TASK_ID
if [ -n "$SLURM_ARRAY_TASK_ID" ] && [ -e "$mark" ]; then
  rm "$mark"
  "$here" -B -m gobblerd "$@"
  truncate --size=-30 "${{@: -1}}"
  kill -KILL $$
fi
exec "$here" -B -m gobblerd "$@"
""")
    os.chmod(path, 0o755)
    return path


def directory_for(desk: Desk, name: str) -> str:
    return make_directory(os.path.join(desk.home, name), 0o755)


def array(cluster: Cluster, desk: Desk, corpus: Corpus, program: str, directory: str, *options: str) -> str:
    script = f"{desk.examples}/slurm/audit-array.sbatch"
    terms = [*options, script, corpus.registry, directory, "--whitelist", corpus.whitelisted]
    return cluster.submit(desk, terms, GOBBLERD=program, **({"SHARES": str(SHARES)} if options else {}))


def merge(cluster: Cluster, desk: Desk, program: str, directory: str, *options: str) -> str:
    terms = [*options, f"{desk.examples}/slurm/audit-merge.sbatch", directory]
    return cluster.submit(desk, terms, GOBBLERD=program)


def report(directory: str) -> str:
    with open(f"{directory}/report.jsonl", encoding="ascii") as file:
        return file.read()


def found_faults(job: Job) -> bool:
    """Tell whether a merge job ended as it does when something is wrong, and said how much."""
    return (job.state, job.code) == ("FAILED", 1) and "findings" in job.output


@pytest.mark.timeout(400)
def test_an_array_and_a_merge_job(
    cluster: Cluster, desk: Desk, corpus: Corpus, program: str, expected: str
) -> None:
    """Eight tasks on three nodes, then the report of one audit, byte for byte; nothing is left to be done."""
    directory = directory_for(desk, "audit-1")
    tasks = array(cluster, desk, corpus, program, directory)
    last = merge(cluster, desk, program, directory, f"--dependency=afterok:{tasks}")
    job = cluster.ended(desk, last)
    assert found_faults(job), job.output
    assert cluster.state(tasks) == "COMPLETED", "faults are no failure of a task"
    assert report(directory) == expected
    assert cluster.used_nodes(tasks) == {"n1", "n2", "n3"}
    assert len([name for name in os.listdir(directory) if name.startswith("part-")]) == SHARES


@pytest.mark.timeout(400)
def test_killed_tasks_continue(
    cluster: Cluster, desk: Desk, corpus: Corpus, program: str, expected: str
) -> None:
    """Submitted again they go on where their parts end; until then the merge job says what is missing."""
    directory = directory_for(desk, "audit-2")
    for number in (3, 5):
        desk.run(["touch", f"{directory}/kill-{number}"])
    tasks = array(cluster, desk, corpus, program, directory)
    eventually(lambda: not cluster.busy(tasks), "the tasks to end", 200)
    assert sorted(cluster.states(tasks)) == ["COMPLETED"] * (SHARES - 2) + ["FAILED"] * 2
    early = cluster.ended(desk, merge(cluster, desk, program, directory))
    assert (early.state, early.code) == ("FAILED", 2)
    assert "is not finished" in early.output
    again = array(cluster, desk, corpus, program, directory, "--array=3,5")
    assert cluster.ended(desk, again).state == "COMPLETED"
    assert found_faults(cluster.ended(desk, merge(cluster, desk, program, directory)))
    assert report(directory) == expected


def test_the_scripts_are_right_bash(desk: Desk) -> None:
    """Checked before anything runs."""
    for name in ("audit-array", "audit-merge"):
        done = subprocess.run(["bash", "-n", f"{desk.examples}/slurm/{name}.sbatch"], check=False)
        assert done.returncode == 0
