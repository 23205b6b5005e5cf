"""Memory for bodies: how much a sender may hold, and what happens to the next one."""

import asyncio

import pytest
from pytest_django import Settings

from config.common import loop
from ingest.errors import QueueUnavailable
from ingest.validation import room
from ingest.validation.room import Hold


@pytest.fixture(autouse=True)
def limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BODY_MEMORY_BYTES = 1000
    monkeypatch.setattr(room, "_WAIT_SECONDS", 0.1)


def test_each_sender_may_hold_half_of_what_others_leave() -> None:
    async def check() -> None:
        with Hold("first") as first, Hold("second") as second, Hold("third") as third:
            await first.at_least(500)
            await second.at_least(250)
            await third.at_least(125)
            for hold, count in ((first, 501), (second, 251), (third, 126)):
                with pytest.raises(QueueUnavailable):
                    await hold.at_least(count)
        with Hold("second") as second:
            await second.at_least(500)

    loop.run(check())


def test_requests_of_a_sender_share_its_room() -> None:
    async def check() -> None:
        with Hold("sender") as one:
            await one.at_least(300)
            await one.at_least(200)  # it holds more already
            with Hold("sender") as another, pytest.raises(QueueUnavailable) as refusal:
                await another.at_least(201)
            assert refusal.value.status == 503
            with Hold("sender") as another:
                await another.at_least(200)

    loop.run(check())


def test_a_body_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_WAIT_SECONDS", 30)

    async def check() -> None:
        with Hold("sender") as another:
            with Hold("sender") as one:
                await one.at_least(500)
                waiting = asyncio.ensure_future(another.at_least(400))
                await asyncio.sleep(0)
                one.shrink(200)
                await asyncio.sleep(0)
                assert not waiting.done()
            await waiting

    loop.run(check())
