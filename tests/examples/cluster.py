"""A real Slurm of one node, or of several on this machine, started by hand in a directory of its own: munged, slurmctld, slurmd.

Nothing of the machine's own Slurm is used, if there is one. `stop` ends every process and says which did
not end by itself. Needs root, since slurmd runs the jobs as their users.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from examples.desk import Desk, Result, require_program
from support.daemon import eventually, free_port
from support.places import make_directory

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol")
MARK = "SLURM_UNDER_TEST"  # the environment variable by which our processes are known
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE"}
CONFIGURATION = """\
ClusterName=example
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=1000,bf_interval=1
SlurmdParameters=config_overrides
KillWait=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Job:
    """A job that has ended: its state, its exit code, and what it wrote."""

    state: str
    code: int
    output: str


class Cluster:
    """One running Slurm."""

    def __init__(self, base: str, nodes: int = 1, processors: int = 4) -> None:
        """Prepare the directory `base`; nothing runs before `start`."""
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.paths = {name: require_program(name) for name in PROGRAMS}
        self.base = make_directory(base, 0o755)
        self.configuration = os.path.join(base, "slurm.conf")
        self._mark = uuid.uuid4().hex
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("munge", "state", "spool"):
            make_directory(os.path.join(base, name), 0o755)
        host = os.uname().nodename.partition(".")[0]
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={processors} State=UNKNOWN"
            for name in self.nodes
        ]
        facts = {"base": base, "host": host, "controller": free_port(), "nodes": "\n".join(lines)}
        with open(self.configuration, "w", encoding="ascii") as file:
            file.write(CONFIGURATION.format_map(facts))

    def start(self) -> None:
        """Start the daemons, and wait until every node takes jobs."""
        munge = os.path.join(self.base, "munge")
        with open(f"{munge}/key", "wb") as key:
            os.fchmod(key.fileno(), 0o400)
            key.write(os.urandom(1024))
        files = {
            "socket": "socket",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._spawn("munged", "--foreground", *(f"--{key}={munge}/{name}" for key, name in files.items()))
        eventually(lambda: os.path.exists(f"{munge}/socket"), "munged")
        self._spawn("slurmctld", "-D", "-i", "-f", self.configuration)
        for name in self.nodes:
            make_directory(os.path.join(self.base, "spool", name), 0o755)
            self._spawn("slurmd", "-D", "-f", self.configuration, "-N", name)
        eventually(
            lambda: self._shown("nodes").count("State=IDLE") == len(self.nodes), "the nodes to be idle"
        )

    def _spawn(self, program: str, *arguments: str) -> None:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "SLURM_CONF": self.configuration,
            MARK: self._mark,
        }
        with open(os.path.join(self.base, f"{program}.log"), "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [self.paths[program], *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def stop(self) -> None:
        """End everything; fail the test if a process had to be killed."""
        if self._processes:
            self._ask("scancel", "--partition=all")
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        try:
            eventually(lambda: not self._left(), "Slurm's processes to end")
        finally:
            for pid in self._left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.base)

    def _left(self) -> list[int]:
        mark, found = f"{MARK}={self._mark}".encode(), []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(entry))
        return found

    def _ask(self, program: str, *arguments: str) -> str:
        result = subprocess.run(
            [self.paths[program], *arguments],
            env={"PATH": "/usr/bin:/bin", "SLURM_CONF": self.configuration},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        return result.stdout

    def _shown(self, *what: str) -> str:
        return self._ask("scontrol", "--oneliner", "show", *what)

    # ---- jobs

    def submit(self, desk: Desk, arguments: Sequence[str], **variables: str) -> str:
        """Submit a batch script as the desk's user; return the job's number."""
        result = self.sbatch(desk, arguments, **variables)
        assert result.code == 0, result.errors
        return result.output.strip()

    def sbatch(self, desk: Desk, arguments: Sequence[str], **variables: str) -> Result:
        """Call sbatch as the desk's user."""
        own = {"SLURM_CONF": self.configuration, MARK: self._mark, **variables}
        return desk.run([self.paths["sbatch"], "--parsable", *arguments], variables=own)

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self._ask("scancel", job)

    def state(self, job: str) -> str:
        """Return the state of a job, or of the tasks of an array, where they all have the same."""
        states = set(re.findall(r"\bJobState=(\w+)", self._shown("job", job)))
        return states.pop() if len(states) == 1 else ""

    def states(self, job: str) -> list[str]:
        """Return the states of the tasks of an array."""
        return re.findall(r"\bJobState=(\w+)", self._shown("job", job))

    def busy(self, job: str) -> bool:
        """Tell whether a task of an array has not ended."""
        states = self.states(job)
        return not states or not ENDED.issuperset(states)

    def used_nodes(self, job: str) -> set[str]:
        """Return the nodes that a job, or the tasks of an array, ran on."""
        return set(re.findall(r"\bNodeList=(\w+)", self._shown("job", job))) - {"(null)"}

    def reason(self, job: str) -> str:
        """Return why a job does not run."""
        found = re.search(r"\bReason=(\w+)", self._shown("job", job))
        return found[1] if found else ""

    def ended(self, desk: Desk, job: str) -> Job:
        """Wait for a job to end."""
        state = eventually(lambda: (found := self.state(job)) in ENDED and found, f"job {job} to end")
        code = re.search(r"\bExitCode=(\d+)", self._shown("job", job))
        return Job(state, int(code[1]) if code else -1, self.output(desk, job))

    def output(self, desk: Desk, job: str) -> str:
        """Return what a job has written so far, to the file that Slurm makes by default."""
        try:
            with open(os.path.join(desk.home, f"slurm-{job}.out"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""
