"""Jobs are done in order, and again until they succeed."""

import threading

from gobblerd.staging.clerk import Clerk


def test_jobs_are_done_in_order_and_failing_ones_again() -> None:
    """One that fails holds up no other; a bug in one ends nothing."""
    clerk, found, finished = Clerk(), [], threading.Event()
    left = [2]

    def failing() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("no space")
        found.append("failing")
        finished.set()

    def broken() -> None:
        raise ValueError("a bug")

    clerk.do("a", failing)
    clerk.do("b", broken)
    for n in range(3):
        clerk.do("c", lambda n=n: found.append(str(n)))
    clerk.start()
    assert finished.wait(10)
    clerk.stop()
    assert found == ["0", "1", "2", "failing"]
