"""`config.common.loop`: work that several callers wait for."""

import asyncio
import gc
from typing import Any

import pytest

from config.common import loop


def test_work_that_fails_after_its_callers_have_left_logs_nothing() -> None:
    logged: list[dict[str, Any]] = []

    async def fail(gate: asyncio.Event) -> None:
        await gate.wait()
        raise ConnectionError

    async def leave_then_fail() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        gate = asyncio.Event()
        task = loop.shared(fail(gate))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.shield(task)
        gate.set()
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(leave_then_fail())
    assert logged == []


def test_each_caller_gets_the_failure_of_shared_work() -> None:
    async def fail() -> None:
        raise ConnectionError

    async def ask_twice() -> list[Any]:
        task = loop.shared(fail())
        return list(await asyncio.gather(asyncio.shield(task), asyncio.shield(task), return_exceptions=True))

    assert [type(each) for each in asyncio.run(ask_twice())] == [ConnectionError, ConnectionError]
