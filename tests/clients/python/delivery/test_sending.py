"""The logic of retries, without a network: which replies are repeated, and what is certain afterwards."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from dataset_ingest.delivery.batches import Batch, Item
from dataset_ingest.delivery.sending import Sender
from dataset_ingest.delivery.steps import Answer, NoAnswer, Pause, Reply, Request
from dataset_ingest.errors import (
    AuthenticationError,
    DatasetError,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
    ValidationError,
)
from dataset_ingest.options import Options
from dataset_ingest.receipts import Receipt

ACCEPTED = Answer(202, {"location": "/datasets/1/receipts/a", "x-request-id": "r"}, b"{}")
LOST, UNREACHABLE = NoAnswer("reset", was_sent=True), NoAnswer("refused", was_sent=False)


def refusal(status: int, code: str = "", *, detail: str = "", **headers: str) -> Answer:
    body = {"error": code.replace("_", " "), "code": code, "detail": detail}
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, msgspec.json.encode(body))


def sent(replies: Sequence[Reply], **options: Any) -> tuple[Receipt | DatasetError, list[Request], list[float]]:
    """Send one record, and answer its requests with `replies`. Return the outcome, the requests and the pauses."""
    requests: list[Request] = []
    pauses: list[float] = []
    left = list(replies)
    steps = Sender("/datasets/1/batch", 1, Options(**options)).send([Batch([Item(b"{}")])])
    reply: Reply = None
    try:
        while True:
            step = steps.send(reply)
            reply = None
            if isinstance(step, Pause):
                pauses.append(step.seconds)
            elif isinstance(step, Request):
                requests.append(step)
                reply = left.pop(0)
    except StopIteration as end:
        outcome: Receipt = end.value
        return outcome, requests, pauses
    except DatasetError as error:
        return error, requests, pauses


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_these_statuses_are_retried_under_the_same_key(status: int) -> None:
    outcome, requests, pauses = sent([refusal(status), ACCEPTED])
    assert isinstance(outcome, Receipt)
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1
    assert (len(requests), len(pauses)) == (2, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 411, 413, 415, 422])
def test_other_statuses_are_not_retried(status: int) -> None:
    outcome, requests, _ = sent([refusal(status)])
    assert isinstance(outcome, DatasetError)
    assert (outcome.status, len(requests)) == (status, 1)


def test_retry_after_is_honored() -> None:
    _, _, pauses = sent([refusal(503, retry_after="7"), refusal(429, retry_after="3"), ACCEPTED])
    assert pauses == [7.0, 3.0]


def test_pauses_are_random_and_bounded() -> None:
    _, _, pauses = sent([UNREACHABLE] * 40 + [ACCEPTED], min_backoff=0.5, max_backoff=4.0)
    assert pauses[0] <= 0.5
    assert all(0 <= pause <= 4 for pause in pauses)
    assert len(set(pauses)) > 10


def test_it_stops_after_the_number_of_retries() -> None:
    outcome, requests, _ = sent([UNREACHABLE] * 9, max_retries=3)
    assert isinstance(outcome, ServiceUnavailableError)
    assert len(requests) == 4


def test_it_does_not_wait_for_a_time_that_comes_too_late() -> None:
    outcome, requests, pauses = sent([refusal(429, "quota_exceeded", retry_after="3600")])
    assert isinstance(outcome, QuotaExceededError)
    assert (outcome.retry_after, len(requests), pauses) == (3600.0, 1, [])
    assert isinstance(sent([refusal(429, "too_many", retry_after="3600")])[0], RateLimitedError)


@pytest.mark.parametrize(
    "first",
    [LOST, refusal(500), refusal(502), refusal(503), refusal(503, detail="The outcome is unknown."), refusal(409)],
)
def test_the_outcome_is_unknown_after_an_attempt_that_may_have_been_accepted(first: Reply) -> None:
    assert isinstance(sent([first, *[UNREACHABLE] * 3], max_retries=3)[0], OutcomeUnknownError)
    assert isinstance(sent([first, refusal(401)])[0], OutcomeUnknownError)
    assert isinstance(sent([first, ACCEPTED])[0], Receipt)


@pytest.mark.parametrize("first", [UNREACHABLE, refusal(408), refusal(503, detail="Nothing was queued or charged.")])
def test_the_outcome_is_known_if_nothing_can_have_been_accepted(first: Reply) -> None:
    assert isinstance(sent([first], max_retries=0)[0], ServiceUnavailableError)
    assert isinstance(sent([first, refusal(401)])[0], AuthenticationError)


def test_a_refusal_after_the_key_was_looked_up_is_certain() -> None:
    quota = refusal(429, "quota_exceeded", retry_after="3600")
    assert isinstance(sent([LOST, quota])[0], QuotaExceededError)
    assert isinstance(sent([LOST, refusal(400, "invalid_json")])[0], ValidationError)


def test_an_answer_of_a_proxy_is_understood() -> None:
    html = Answer(502, {}, b"<html>Bad gateway</html>")
    outcome, _, _ = sent([html], max_retries=0)
    assert isinstance(outcome, OutcomeUnknownError)
    assert outcome.status == 502
