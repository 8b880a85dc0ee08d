"""The batch scripts in `examples/slurm/`, as they are, on a real Slurm; the client is the bash example."""

import json
import os
from collections.abc import Callable, Iterator

import pytest
from examples.cluster import Cluster, Job
from examples.desk import Desk
from support.daemon import eventually

Run = Callable[..., Job]


@pytest.fixture(scope="module")
def cluster(base: str, desk: Desk) -> Iterator[Cluster]:
    slurm = Cluster(os.path.join(base, "slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def run(cluster: Cluster, desk: Desk) -> Run:
    """Return a function that submits an example with arguments and waits for it to end."""

    def submit_and_wait(*arguments: str) -> Job:
        return cluster.ended(desk, submit(cluster, desk, *arguments))

    return submit_and_wait


def submit(cluster: Cluster, desk: Desk, *arguments: str) -> str:
    """Submit; the first argument that ends in .sbatch is the name of an example."""
    places = [f"{desk.examples}/slurm/{each}" if each.endswith(".sbatch") else each for each in arguments]
    return cluster.submit(desk, places, GOBBLER=f"{desk.examples}/gobbler.sh", PERIOD="1")


def with_work(desk: Desk, work: str) -> str:
    """Return the name of a copy of upload-at-end.sbatch whose work is another."""
    with open(f"{desk.examples}/slurm/upload-at-end.sbatch", encoding="utf-8") as file:
        text = file.read()
    assert "seq 1 10 > numbers.txt &" in text
    name = f"work-{abs(hash(work))}.sbatch"
    with open(f"{desk.examples}/slurm/{name}", "w", encoding="utf-8") as file:
        file.write(text.replace("seq 1 10 > numbers.txt &", f"{work} > numbers.txt &"))
    return name


def results(desk: Desk) -> list[str]:
    """Return the result directories that jobs kept."""
    return [name for name in os.listdir(desk.home) if name.startswith("results-")]


def ask(desk: Desk, action: str, document: object) -> None:
    """Ask for an action by the bash example."""
    done = desk.run([f"{desk.examples}/gobbler.sh", "request", action], json.dumps(document))
    assert done.code == 0, done.output + done.errors


def test_a_job_uploads_its_results_at_its_end(run: Run, desk: Desk) -> None:
    """The version is there when the job has completed, and the job's own copy is gone."""
    job = run("upload-at-end.sbatch", "lab", "numbers", "1")
    assert (job.state, job.code) == ("COMPLETED", 0), job.output
    assert desk.daemon.read("lab", "numbers", "1", "..manifest")["numbers.txt"]["size"] == 21
    assert '"status": "SUCCESS"' in job.output
    assert results(desk) == []

    again = run("upload-at-end.sbatch", "lab", "numbers", "1")
    assert (again.state, again.code) == ("FAILED", 1), "a refused upload must fail the job"
    assert "exists already" in again.output
    (kept,) = results(desk)
    assert f"upload {desk.home}/{kept} lab numbers 1" in again.output
    os.unlink(f"{desk.home}/{kept}/numbers.txt")
    os.rmdir(f"{desk.home}/{kept}")


def test_a_failed_job_uploads_nothing(run: Run, cluster: Cluster, desk: Desk) -> None:
    """Its exit code is that of the work, and its results are kept where the log says; so when it is cancelled."""
    failed = run(with_work(desk, "(echo half; exit 7)"), "lab", "numbers", "2")
    assert (failed.state, failed.code) == ("FAILED", 7)
    assert any(f"Its results: {desk.home}/{name}" in failed.output for name in results(desk))

    job = submit(cluster, desk, with_work(desk, "sleep 600"), "lab", "numbers", "2")
    eventually(lambda: len(results(desk)) == 2, "the work to begin")
    cluster.cancel(job)
    assert cluster.ended(desk, job).state == "CANCELLED"
    assert desk.daemon.read("lab", "numbers", "2", "..summary") is None
    assert desk.left_in_staging() == []


def test_an_array_of_uploads(run: Run, desk: Desk) -> None:
    """Each task uploads an asset of its own; run again, they find that it was done."""
    assert run("upload-array.sbatch", "lab", "v1").state == "COMPLETED"
    sizes = [
        desk.daemon.read("lab", f"run-{n}", "v1", "..manifest")["numbers.txt"]["size"] for n in (1, 2, 3)
    ]
    assert sizes == [2, 4, 6]
    assert run("upload-array.sbatch", "lab", "v1").state == "COMPLETED"


@pytest.fixture
def probational(desk: Desk) -> str:
    """Return a version of `lab/study` that is on probation."""
    version = f"v{len(os.listdir(desk.daemon.registry + '/lab'))}-{os.urandom(3).hex()}"
    desk.daemon.upload(f"lab/study/{version}", {"a.txt": b"1\n2\n"}, desk.user, on_probation=True)
    for name in desk.left_in_staging():
        desk.run(["rm", "-r", f"{desk.daemon.staging}/{name}"])
    return version


def waiting(cluster: Cluster, desk: Desk, version: str) -> tuple[str, str]:
    """Submit the watcher, and a job that depends on it; return both once the one runs and the other waits."""
    watcher = submit(cluster, desk, "wait-for-approval.sbatch", "lab", "study", version)
    options = [f"--dependency=afterok:{watcher}", "--kill-on-invalid-dep=yes"]
    dependent = submit(cluster, desk, *options, "after-approval.sbatch", "lab", "study", version)
    eventually(lambda: "on probation" in cluster.output(desk, watcher), "the watcher to see the version")
    assert cluster.reason(dependent) == "Dependency"
    return watcher, dependent


def test_a_job_that_depends_on_approval(cluster: Cluster, desk: Desk, probational: str) -> None:
    """It starts once the version is approved, not before."""
    watcher, dependent = waiting(cluster, desk, probational)
    ask(desk, "approve_probation", {"project": "lab", "asset": "study", "version": probational})
    assert cluster.ended(desk, watcher).state == "COMPLETED"
    job = cluster.ended(desk, dependent)
    assert job.state == "COMPLETED"
    assert job.output.split()[0] == "2"


def test_a_job_that_depends_on_what_is_rejected_never_starts(
    cluster: Cluster, desk: Desk, probational: str
) -> None:
    """The watcher fails and says so, and Slurm drops the job."""
    watcher, dependent = waiting(cluster, desk, probational)
    ask(desk, "reject_probation", {"project": "lab", "asset": "study", "version": probational})
    rejected = cluster.ended(desk, watcher)
    assert (rejected.state, rejected.code) == ("FAILED", 1)
    assert "was rejected" in rejected.output
    assert cluster.ended(desk, dependent).state == "CANCELLED"
