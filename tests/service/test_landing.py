"""Results of other threads arrive in the loop, whatever they are, with few wake-ups."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from gobblerd.domain.errors import Stopped
from gobblerd.service.landing import Landing

SECONDS = 60


def test_all_results_arrive() -> None:
    """From several threads at once, each to who waits for it."""

    async def land() -> list[int]:
        landing = Landing()
        futures: list[Future[int]] = [Future() for _ in range(2000)]

        def fill(part: int) -> None:
            for number in range(part, len(futures), 4):
                futures[number].set_result(number)

        threads = [threading.Thread(target=fill, args=[part]) for part in range(4)]
        waiting = [asyncio.ensure_future(landing.of(future)) for future in futures]
        await asyncio.sleep(0)
        for thread in threads:
            thread.start()
        found = await asyncio.wait_for(asyncio.gather(*waiting), SECONDS)
        for thread in threads:
            thread.join(SECONDS)
        return found

    assert asyncio.run(land()) == list(range(2000))


def test_errors_arrive_too() -> None:
    """What failed raises; what was given up says that the daemon stops."""

    async def land(future: "Future[int]") -> int:
        return await asyncio.wait_for(Landing().of(future), SECONDS)

    failed: Future[int] = Future()
    failed.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        asyncio.run(land(failed))
    given_up: Future[int] = Future()
    given_up.cancel()
    with pytest.raises(Stopped):
        asyncio.run(land(given_up))


def test_who_goes_away_stops_nothing() -> None:
    """The future is not cancelled, and its late result hurts nobody."""

    async def land() -> tuple[bool, int]:
        landing, left, stays = Landing(), Future[int](), Future[int]()
        leaver = asyncio.ensure_future(landing.of(left))
        stayer = asyncio.ensure_future(landing.of(stays))
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        cancelled = left.cancelled()
        left.set_result(1)
        stays.set_result(2)
        return cancelled, await asyncio.wait_for(stayer, SECONDS)

    assert asyncio.run(land()) == (False, 2)
