"""The time of Redis's clock. `admit.lua` compares this clock with deadlines and ends of grace periods."""

from typing import ClassVar

from django.conf import settings

from config.common import clock
from config.common.cluster.key_tags import of_user, tagged
from config.common.pipelined import execute
from datasets.contracts.contract import Contract
from datasets.schemas.schema import CompiledSchema
from ingest.queue import redis_keys


class RedisClock:
    """How many ms Redis's clock is ahead of ours. Deadlines are in Redis's time, because Redis checks them.

    In a cluster, each server has a clock, so each tag has an entry.
    """

    ahead_ms: ClassVar[dict[int, float]] = {}  # by tag; a tag has no entry until Redis has sent its time

    @classmethod
    def learn(cls, tag: int, server_ms: int) -> None:
        cls.ahead_ms[tag] = server_ms - clock.seconds() * 1000

    @classmethod
    async def ask(cls, tag: int, timeout: float) -> None:
        """Ask the Redis that has the keys with a tag for its time. Raises `config.common.redis.RedisUnavailable`."""
        seconds, micros = await execute("TIME", timeout=timeout, key=tagged(redis_keys.GENERATION, tag))
        cls.learn(tag, int(seconds) * 1000 + int(micros) // 1000)

    @classmethod
    async def now_ms(cls, tag: int) -> float:
        """Return Redis's time in ms since the epoch. Raises `config.common.redis.RedisUnavailable`."""
        if tag not in cls.ahead_ms:
            await cls.ask(tag, settings.ADMISSION_TIMEOUT_SECONDS)
        return clock.seconds() * 1000 + cls.ahead_ms[tag]


async def earlier_schema(contract: Contract) -> CompiledSchema | None:
    """Return the schema of the previous version if the grace period has not ended, else None.

    Raises:
        config.common.redis.RedisUnavailable: Redis's time is not known yet, and Redis does not answer.
    """
    grace = contract.grace
    if grace is None or await RedisClock.now_ms(of_user(contract.owner_id)) >= grace.ends_ms:
        return None
    return grace.schema
