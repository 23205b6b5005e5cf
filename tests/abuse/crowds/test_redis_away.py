"""Redis stops or is killed under 256 connections: no request hangs, and no record is lost or doubled."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from config.common.env import embedded_redis_socket
from tests.abuse.crowds import honest
from tests.abuse.crowds.counting import nothing_is_lost_or_doubled
from tests.abuse.crowds.senders import Senders
from tests.support.processes.stack import Stack, running, wait_for

pytestmark = pytest.mark.long

CONNECTIONS = 256
# Most requests have one record. Large batches go over other connections to Redis.
SIZES = (1, 1, 1, 1, 1, 1, 40, 100)
# An answer takes at most ADMISSION_TIMEOUT_SECONDS, or a little longer on a busy machine.
MAX_ANSWER_SECONDS = 4.0 if honest.TIMES > 1 else 15.0
# The rate must be normal again within this time after the end of the outage.
MAX_RECOVERY_SECONDS = 1.0 if honest.TIMES > 1 else 10.0
# The rate is normal again if it reaches this share of the rate before the outage. Rates vary while the suite runs.
RATE_SHARE = 0.8 if honest.TIMES > 1 else 0.2
_WINDOW_SECONDS = 0.5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("away"), "--no-demo", "--web", "2") as stack:
        yield stack


def stopped(stack: Stack, senders: Senders) -> None:
    """Stop Redis for longer than an admission may take. Afterwards Redis must not execute commands that are late."""
    redis = stack.program("redis")
    redis.send_signal(signal.SIGSTOP)
    try:
        refused = senders.statuses[503]
        wait_for(lambda: senders.statuses[503] > refused + 2 * CONNECTIONS, "two refusals each")
    finally:
        redis.send_signal(signal.SIGCONT)


def killed(stack: Stack, _: Senders) -> None:
    """Kill Redis, and wait until another one has loaded its data."""
    stack.program("redis").kill()
    wait_for(lambda: _answers(stack), "another Redis")


def _answers(stack: Stack) -> Any:
    try:
        return Redis(unix_socket_path=str(embedded_redis_socket(stack.data_dir))).ping()
    except (RedisError, OSError):
        return False


@pytest.mark.parametrize("outage", [stopped, killed])
def test_redis_is_away(stack: Stack, outage: Callable[[Stack, Senders], None]) -> None:
    owner = outage.__name__
    project, dataset, token = stack.make_dataset(owner, {"number": "number"}, owner=owner)
    recoveries = []
    with Senders(stack.port, dataset, token, CONNECTIONS, SIZES) as senders:
        for _ in range(honest.ROUNDS):
            began = time.monotonic()
            wait_for(lambda began=began: time.monotonic() > began + 2, "a rate")  # type: ignore[misc]
            rate = senders.per_second(began, time.monotonic())
            outage(stack, senders)
            back = time.monotonic()
            recoveries.append(wait_for(lambda rate=rate, back=back: _recovered(senders, rate, back), "the rate"))  # type: ignore[misc]
    longest = senders.longest_seconds
    print(f"\n{owner}: {rate:.0f}/s before, back after {recoveries} s; the longest answer took {longest:.1f} s")
    assert longest < MAX_ANSWER_SECONDS
    assert max(recoveries) < MAX_RECOVERY_SECONDS
    nothing_is_lost_or_doubled(stack, senders, project, dataset, owner)


def _recovered(senders: Senders, rate: float, back: float) -> float | None:
    """Return how many seconds after the end of the outage the rate was normal, or None if it is not normal yet."""
    end = time.monotonic()
    begin = end - _WINDOW_SECONDS
    if begin < back or senders.per_second(begin, end) < RATE_SHARE * rate:
        return None
    return round(begin - back, 1)
