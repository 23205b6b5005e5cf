"""Many clients send as fast as they can: the service answers every request, and the wait has a limit."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.queue.admission import MAX_IN_FLIGHT
from tests.abuse.crowds import honest
from tests.abuse.crowds.counting import nothing_is_lost_or_doubled
from tests.abuse.crowds.senders import Senders
from tests.benchmarks.load import Target
from tests.support.processes.stack import Stack, running, wait_for

pytestmark = pytest.mark.long

# Connections -> milliseconds within which 99 of 100 requests are answered.
BOUNDS_MS = {500: 5000.0} if honest.TIMES == 1 else {1000: 150.0, 2000: 300.0}
FIELDS = {"number": "number"}
# This is longer than MAX_IN_FLIGHT requests need, even on a busy machine.
OUTAGE = {"REDIS_TIMEOUT_SECONDS": "30", "ADMISSION_TIMEOUT_SECONDS": "60"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("sending"), "--no-demo") as stack:
        yield stack


@pytest.mark.parametrize(("connections", "bound_ms"), BOUNDS_MS.items())
def test_the_wait_is_bounded(stack: Stack, tmp_path: Path, connections: int, bound_ms: float) -> None:
    _, dataset, token = stack.make_dataset(f"fast-{connections}", {"text": "string"})
    target, seconds = Target(f"/datasets/{dataset}", token), 2 if honest.TIMES == 1 else 10
    loads = [
        honest.send(stack.url, target, tmp_path, connections=connections, seconds=seconds, pause_ms=None)
        for _ in range(honest.ROUNDS)
    ]
    print(f"\n{connections} connections: {honest.medians(loads)}")
    assert honest.medians(loads).p99_ms < bound_ms


@pytest.mark.parametrize("connections", BOUNDS_MS)
def test_every_request_is_answered_and_stored_once(stack: Stack, connections: int) -> None:
    owner = f"owner-{connections}"
    project, dataset, token = stack.make_dataset(owner, FIELDS, owner=owner)
    with Senders(stack.port, dataset, token, connections) as senders:
        wait_for(lambda: senders.statuses[202] > 10 * connections or senders.failures, "acceptances")
    assert senders.statuses.keys() == {202}
    nothing_is_lost_or_doubled(stack, senders, project, dataset, owner)


def test_more_requests_than_wait_for_redis_are_refused_at_once(tmp_path: Path) -> None:
    count = MAX_IN_FLIGHT + 300
    with running(tmp_path / "data", "--no-demo", "--web", "1", environment=OUTAGE) as stack:
        project, dataset, token = stack.make_dataset("outage", FIELDS, owner="grace")
        redis = stack.program("redis")
        with Senders(stack.port, dataset, token, count) as senders:
            wait_for(lambda: senders.statuses[202] > 2 * count, "acceptances")
            redis.send_signal(signal.SIGSTOP)
            try:
                wait_for(lambda: senders.statuses[503] > 300, "refusals")
            finally:
                redis.send_signal(signal.SIGCONT)
            answered = senders.statuses[202]
            wait_for(lambda: senders.statuses[202] > answered + count, "more acceptances")
        refusals = senders.refusals
        assert all(b"the maximum number of requests that wait for Redis" in answer.body for answer in refusals)
        print(f"\n{len(refusals)} refused, the last after {max(answer.seconds for answer in refusals):.1f} s")
        assert max(answer.seconds for answer in refusals) < float(OUTAGE["REDIS_TIMEOUT_SECONDS"]) / 2
        nothing_is_lost_or_doubled(stack, senders, project, dataset, "grace")
