"""Threads beside the event loop: senders take turns."""

import asyncio
import threading
from collections.abc import Callable

from config.common.threads import SharedLane


def test_senders_take_turns() -> None:
    """One sender has ten pieces of work in line. The work of another sender does not wait for all of them."""
    order: list[str] = []
    go_on = threading.Event()

    def work(name: str) -> None:
        go_on.wait(10)
        order.append(name)

    async def run() -> None:
        lane = SharedLane("test", 1)
        many = [asyncio.create_task(lane.run_for("many", work, "many")) for _ in range(10)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(lane.run_for("few", work, "few")) for _ in range(2)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*many, *few)

    asyncio.run(run())
    assert order[:5] == ["many", "many", "few", "many", "few"]
    assert len(order) == 12


def test_no_thread_is_lost_if_work_is_canceled_or_fails() -> None:
    async def run() -> None:
        lane = SharedLane("test", 2)
        held = threading.Event()
        first = [asyncio.create_task(lane.run_for("a", held.wait, 10)) for _ in range(2)]
        waiting = [asyncio.create_task(lane.run_for(sender, held.wait, 10)) for sender in "aab"]
        await asyncio.sleep(0)
        for task in (waiting[0], waiting[2], first[0]):
            task.cancel()
        held.set()
        ends = await asyncio.gather(*first, *waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in ends] == [True, False, True, False, True]
        fails: Callable[[], float] = lambda: 1 / 0  # noqa: E731
        failed = await asyncio.gather(*(lane.run_for("a", fails) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(each, ZeroDivisionError) for each in failed)
        barrier = threading.Barrier(2)  # two pieces of work run at the same time
        await asyncio.gather(*(lane.run_for("c", barrier.wait, 10) for _ in range(2)))

    asyncio.run(run())
