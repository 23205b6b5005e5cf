"""Redis's clock, as this process knows it. `admit.lua` compares it with deadlines and ends of grace periods."""

from django.conf import settings

from config.common import clock
from config.common.pipelined import execute
from datasets.contracts.contract import Contract
from datasets.schemas.schema import CompiledSchema


class RedisClock:
    """How many ms Redis's clock is ahead of ours. Deadlines are in Redis's time, because Redis checks them."""

    ahead_ms: float | None = None  # None: Redis has not told its time yet

    @classmethod
    def learn(cls, server_ms: int) -> None:
        cls.ahead_ms = server_ms - clock.seconds() * 1000

    @classmethod
    async def ask(cls, timeout: float) -> None:
        """Ask Redis for its time. Raises `config.common.redis.RedisUnavailable`."""
        seconds, micros = await execute("TIME", timeout=timeout)
        cls.learn(int(seconds) * 1000 + int(micros) // 1000)

    @classmethod
    async def now_ms(cls) -> float:
        """Return Redis's time in ms since the epoch. Raises `config.common.redis.RedisUnavailable`."""
        if cls.ahead_ms is None:
            await cls.ask(settings.ADMISSION_TIMEOUT_SECONDS)
        return clock.seconds() * 1000 + (cls.ahead_ms or 0)


async def earlier_schema(contract: Contract) -> CompiledSchema | None:
    """Return the schema version before the latest one if it is in its grace period, else None.

    Raises:
        config.common.redis.RedisUnavailable: Redis has not told its time yet, and does not answer.
    """
    grace = contract.grace
    return grace.schema if grace is not None and await RedisClock.now_ms() < grace.ends_ms else None
