"""`Idempotency-Key`: a retry is safe, for 24 hours, per project and dataset."""

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as StillWaiting
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from ingest.queue import redis_keys
from quotas.services import current, set_limit
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import in_stream
from tests.support.sending.at_once import Threads, at_once
from tests.support.sending.wire import call
from tests.support.servers.outages import everything_in, own_client, redis_full, writes_stuck

IN_PROGRESS = {
    "error": "Request with this Idempotency-Key is in progress",
    "code": "idempotency_key_in_progress",
}
REUSED = {"error": "Idempotency-Key was used with a different body", "code": "idempotency_key_reused"}


TOO_MANY = {
    "error": "Too many Idempotency-Keys",
    "code": "too_many_idempotency_keys",
    "limit": 2,
    "detail": "The project has used 2 Idempotency-Keys, which is the limit. Send without a key, or wait until "
    "the oldest are forgotten. Nothing was queued or charged.",
}


def is_replay_of(first: httpx.Response, again: httpx.Response) -> bool:
    assert again.headers.get("Idempotent-Replayed") == "true"
    assert "Idempotent-Replayed" not in first.headers
    return (again.status_code, again.content, again.headers["Location"]) == (
        first.status_code,
        first.content,
        first.headers["Location"],
    )


def test_a_retry_gets_the_first_answer_and_changes_nothing(api: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 100)
    for send, body in ((api.one, record()), (api.batch, [record()] * 3)):
        first = send(body, Idempotency_Key=f"key-{send.__name__}")
        assert first.status_code == 202
        before = everything_in(own_client())
        for _ in range(3):
            again = send(body, Idempotency_Key=f"key-{send.__name__}")
            assert is_replay_of(first, again)
            assert again.headers["RateLimit"].split(";")[1] == first.headers["RateLimit"].split(";")[1]
        assert everything_in(own_client()) == before
    assert (in_stream(dataset), current(dataset.project.owner.pk).used) == (2, 4)
    assert len(stored(dataset)) == 4


def test_a_retry_after_the_record_was_stored_changes_nothing(api: Api, dataset: Dataset) -> None:
    first = api.one(record(), Idempotency_Key="k")
    assert len(stored(dataset)) == 1
    again = api.one(record(), Idempotency_Key="k")
    assert is_replay_of(first, again)
    assert api.request("GET", again.headers["Location"]).json()["status"] == "stored"
    assert in_stream(dataset) == 0
    assert len(stored(dataset)) == 1


def test_a_retry_is_answered_when_nothing_more_is_accepted(api: Api, dataset: Dataset, settings: Settings) -> None:
    owner = dataset.project.owner
    first = api.batch([record()] * 2, Idempotency_Key="k")
    set_limit(owner, 2)
    assert api.one(record()).status_code == 429
    again = api.batch([record()] * 2, Idempotency_Key="k")
    assert is_replay_of(first, again)
    assert again.headers["RateLimit"].startswith('"monthly";r=0;')
    set_limit(owner, -1)
    settings.BACKLOG_LIMIT_BYTES = 1
    assert api.one(record()).status_code == 413
    assert is_replay_of(first, api.batch([record()] * 2, Idempotency_Key="k"))
    with redis_full():
        assert is_replay_of(first, api.batch([record()] * 2, Idempotency_Key="k"))


def test_another_body_under_the_same_key_is_refused(api: Api, dataset: Dataset) -> None:
    first = api.one(record(), Idempotency_Key="k")
    before = everything_in(own_client())
    for send, body in (
        (api.one, record(country="US")),
        (api.one, b" " + first.request.content),  # the same record, and another body
        (api.batch, [record()]),
        (api.batch, [record()] * 2),
    ):
        response = send(body, Idempotency_Key="k")
        assert (response.status_code, response.json()) == (422, REUSED)
        assert "Retry-After" not in response.headers
    assert everything_in(own_client()) == before
    assert is_replay_of(first, api.one(record(), Idempotency_Key="k"))


def test_same_bytes_as_an_array_and_as_lines_differ(api: Api) -> None:
    line = b'{"timestamp":"2026-06-10T10:58:00Z","context":{}}'
    api.one(record(), Idempotency_Key="k")
    assert api.batch(line, Idempotency_Key="l").status_code == 400, "no array"
    body = api.one(record(), Idempotency_Key="m").request.content
    response = api.batch(body, Idempotency_Key="m", **{"Content-Type": "application/x-ndjson"})
    assert (response.status_code, response.json()) == (422, REUSED)


def test_a_refused_request_does_not_use_its_key(api: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 0)
    assert api.one(record(amount="x"), Idempotency_Key="k").status_code == 400
    assert api.one(record(), Idempotency_Key="k").status_code == 429
    set_limit(dataset.project.owner, 10)
    response = api.one(record(country="US"), Idempotency_Key="k")
    assert (response.status_code, response.headers.get("Idempotent-Replayed")) == (202, None)


def test_a_body_with_the_same_name_twice_is_the_same_body_again(api: Api) -> None:
    """The queued text of this body differs from the sent text. A retry is compared with the sent text."""
    body = b'{"amount": "x", ' + api.one(record()).request.content[1:]
    first = api.one(body, Idempotency_Key="k")
    assert first.status_code == 202
    assert is_replay_of(first, api.one(body, Idempotency_Key="k"))


def test_the_same_key_in_another_dataset_is_another_key(api: Api, dataset: Dataset, project: Project) -> None:
    sibling = services.create_dataset(project=project, name="Sibling", fields=FIELDS)
    stranger = services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
    strangers = services.create_dataset(project=stranger, name="Signups", fields=FIELDS)
    strangers_key = services.create_key(project=stranger, name="tests")
    second_key = services.create_key(project=project, name="another")
    first = api.one(record(), Idempotency_Key="k")
    for other in (Api(api.token, sibling), Api(issue_token(strangers_key), strangers)):
        response = other.one(record(country="US"), Idempotency_Key="k")
        assert (response.status_code, response.headers.get("Idempotent-Replayed")) == (202, None)
        assert response.headers["Location"] != first.headers["Location"]
    assert is_replay_of(first, Api(issue_token(second_key), dataset).one(record(), Idempotency_Key="k"))


def test_a_key_is_remembered_for_a_day(api: Api, dataset: Dataset) -> None:
    api.one(record(), Idempotency_Key="k")
    assert 86_300 < redis.client().ttl(redis_keys.idempotency(dataset.pk, "k")) <= 86_400


def test_a_long_key_takes_little_memory(api: Api, dataset: Dataset) -> None:
    api.one(record(), Idempotency_Key="k" * 255)
    assert redis.client().memory_usage(redis_keys.idempotency(dataset.pk, "k" * 255)) <= 120


def test_a_project_that_has_used_all_its_keys_gets_429(
    api: Api, dataset: Dataset, project: Project, settings: Settings
) -> None:
    settings.IDEMPOTENCY_KEYS_PER_PROJECT = 2
    sibling = Api(api.token, services.create_dataset(project=project, name="Sibling", fields=FIELDS))
    first = api.one(record(), Idempotency_Key="a")
    assert sibling.one(record(), Idempotency_Key="a").status_code == 202
    for refused in (api, sibling):
        response = refused.one(record(), Idempotency_Key="b")
        assert (response.status_code, response.json()) == (429, TOO_MANY)
        assert 1 <= int(response.headers["Retry-After"]) <= 3600
    assert is_replay_of(first, api.one(record(), Idempotency_Key="a"))
    assert api.one(record()).status_code == 202, "without a key"

    stranger = services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
    strangers = services.create_dataset(project=stranger, name="Signups", fields=FIELDS)
    token = issue_token(services.create_key(project=stranger, name="tests"))
    assert Api(token, strangers).one(record(), Idempotency_Key="b").status_code == 202
    assert len(stored(dataset)) == 2


def test_a_key_that_was_forgotten_is_new(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.IDEMPOTENCY_TTL_SECONDS = 1
    first = api.one(record(), Idempotency_Key="k")
    deadline = time.monotonic() + 30
    while redis.client().exists(redis_keys.idempotency(dataset.pk, "k")):
        assert time.monotonic() < deadline
    again = api.one(record(country="US"), Idempotency_Key="k")
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (202, None)
    assert again.headers["Location"] != first.headers["Location"]


def test_a_key_is_1_to_255_visible_ascii_characters(api: Api, dataset: Dataset) -> None:
    error = {
        "error": "Idempotency-Key must be 1 to 255 visible ASCII characters",
        "code": "invalid_idempotency_key",
    }
    for invalid in ("", "x" * 256, "a b", "a\tb", "a\x7f"):
        for send, body in ((api.one, record()), (api.batch, [record()])):
            response = send(body, Idempotency_Key=invalid)
            assert (response.status_code, response.json()) == (400, error), invalid
    answer = call(
        f"/datasets/{dataset.pk}",
        stream=io.BytesIO(json.dumps(record()).encode()),
        CONTENT_TYPE="application/json",
        HTTP_AUTHORIZATION=f"Bearer {api.token}",
        HTTP_IDEMPOTENCY_KEY="é",
    )
    assert (answer.status, answer.json()) == (400, error)
    assert in_stream(dataset) == 0
    for valid in ("x", "!", "~", "x" * 255, "a:b", '"quoted"', "*", "{}", "550e8400-e29b-41d4-a716-446655440000"):
        assert api.one(record(), Idempotency_Key=valid).status_code == 202, valid
        assert api.one(record(), Idempotency_Key=valid).headers["Idempotent-Replayed"] == "true", valid


def test_idempotency_keys_with_a_common_prefix_or_other_case_are_different(api: Api, dataset: Dataset) -> None:
    for key in ("a", "A", "a:", "aa"):
        assert "Idempotent-Replayed" not in api.one(record(), Idempotency_Key=key).headers
    assert in_stream(dataset) == 4


# -- at the same time ---------------------------------------------------------------------------------


def test_second_request_during_the_first_is_a_409(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 30
    assert api.one(record()).status_code == 202
    with Threads(2) as pool:
        with writes_stuck():
            both = [pool.submit(api.one, record(), Idempotency_Key="k") for _ in range(2)]
            deadline = time.monotonic() + 30
            while not any(each.done() for each in both):
                assert time.monotonic() < deadline
            second, first = sorted(both, key=lambda each: not each.done())
            response = second.result()
            assert (response.status_code, response.json()) == (409, IN_PROGRESS)
            assert response.headers["Retry-After"] == "1"
            with pytest.raises(StillWaiting):
                first.result(timeout=0)
        accepted = first.result()
    assert accepted.status_code == 202
    assert is_replay_of(accepted, api.one(record(), Idempotency_Key="k"))
    assert in_stream(dataset) == 2


def test_one_of_32_concurrent_requests_is_queued(api: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 1000)

    def send() -> httpx.Response:
        return Api(api.token, dataset).batch([record()] * 3, Idempotency_Key="k")

    responses = at_once([send] * 32)
    accepted = [each for each in responses if each.status_code == 202]
    refused: list[Any] = [each.json() for each in responses if each.status_code != 202]
    (first,) = [each for each in accepted if "Idempotent-Replayed" not in each.headers]
    assert all(is_replay_of(first, each) for each in accepted if each is not first)
    assert all(each == IN_PROGRESS for each in refused)
    assert (in_stream(dataset), current(dataset.project.owner.pk).used) == (1, 3)
    assert len(stored(dataset)) == 3


def test_retry_after_a_schema_change_gets_the_first_answer(api: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 100)
    sent: list[Callable[[], httpx.Response]] = [
        lambda: api.one(record(), Idempotency_Key="one"),
        lambda: api.batch([record()] * 3, Idempotency_Key="three"),
        lambda: api.batch(json.dumps(record()) + "\n", content_type="application/x-ndjson", Idempotency_Key="line"),
    ]
    first = [send() for send in sent]
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    assert api.one(record()).json()["error"] == "Missing field: source"
    assert all(is_replay_of(before, send()) for before, send in zip(first, sent, strict=True))
    assert first[0].headers["RateLimit"].startswith('"monthly";r=99;')
    assert sent[0]().headers["RateLimit"].startswith('"monthly";r=95;')

    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert api.one(record()).status_code == 404
    assert all(is_replay_of(before, send()) for before, send in zip(first, sent, strict=True))
    assert current(dataset.project.owner.pk).used == 5
    assert len(stored(dataset)) == 5


def test_a_revoked_key_gets_no_earlier_answer(api: Api, dataset: Dataset) -> None:
    api.one(record(), Idempotency_Key="k")
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert api.one(record(), Idempotency_Key="k").status_code == 202
    services.revoke_key(dataset.project.keys.get())
    assert api.one(record(), Idempotency_Key="k").status_code == 401


def test_a_retry_is_refused_if_the_first_request_was_not_accepted(api: Api, dataset: Dataset) -> None:
    api.one(record(), Idempotency_Key="k")
    other = api.one(record(amount="42.5"), Idempotency_Key="k")
    assert (other.status_code, other.json()["error"]) == (400, "Invalid number field: amount")
    unknown = api.one(record(amount="42.5"), Idempotency_Key="unknown")
    assert unknown.status_code == 400
    assert api.one(record(), Idempotency_Key="unknown").status_code == 202, "a refusal is not remembered"


def test_same_bytes_as_a_record_and_as_a_batch_differ(api: Api, dataset: Dataset) -> None:
    body = json.dumps(record())
    assert api.batch(body, content_type="application/x-ndjson", Idempotency_Key="k").status_code == 202
    assert api.one(body, Idempotency_Key="k").json() == REUSED
