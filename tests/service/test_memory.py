"""Memory that threads have freed is not kept once per thread."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from gobblerd.service.memory import use_few_arenas
if sys.argv[1] == "few":
    use_few_arenas()
def work(barrier):
    barrier.wait()
    held = [bytes(60_000) for _ in range(200)]  # 12 MB of blocks that malloc takes from an arena
    barrier.wait()
    del held
    barrier.wait()
barrier = threading.Barrier(16)
threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
arenas = sum(1 for line in open("/proc/self/maps") if line.split("-")[0].endswith(("000000",)) and " rw-p " in line)
print(arenas)
"""
SCATTERED = """
from gobblerd.service.memory import give_back
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = [bytes(60_000) for _ in range(1000)]
kept = blocks[::10]
del blocks
before = resident()
give_back()
print(before - resident())
"""


def arenas(how: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


needs_glibc = pytest.mark.skipif(
    "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="NOT TESTED: there is no glibc"
)


@needs_glibc
def test_threads_share_two_arenas() -> None:
    """Sixteen threads make sixteen arenas by default."""
    assert arenas("few") + 8 <= arenas("many")


@needs_glibc
def test_what_is_freed_between_what_stays_is_given_back() -> None:
    """Of 60 MB of which a tenth stays, scattered."""
    done = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 20_000_000
