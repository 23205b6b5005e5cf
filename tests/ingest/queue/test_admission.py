"""Admission over HTTP: the answers while the queue is full or cannot be reached, and their effects."""

import secrets
import time
from concurrent.futures import TimeoutError as StillWaiting

import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.fields import Field
from ingest.monitoring import health, metrics
from ingest.queue import admission, redis_keys
from ingest.queue.scripts import script
from quotas import services as quotas
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import counters, in_stream
from tests.support.processes.crashing import wait_until
from tests.support.processes.signs import all_is_well
from tests.support.sending.at_once import Threads, at_once
from tests.support.servers.outages import (
    commands_sent,
    everything_in,
    own_client,
    redis_away,
    redis_full,
    redis_stuck,
    replies_lost,
    writes_stuck,
)

NOTHING = "Nothing was queued or charged."
FULL = {"error": "Ingest queue is full", "code": "queue_full"}
DATASET_FULL = {**FULL, "detail": f"The backlog of this dataset has reached its limit. {NOTHING}"}
PROJECT_FULL = {**FULL, "detail": f"This project has used its share of the backlog. {NOTHING}"}
ALL_FULL = {**FULL, "detail": f"The backlog of all datasets has reached its limit. {NOTHING}"}
MEMORY_FULL = {**FULL, "detail": f"Redis has no memory for a longer backlog. {NOTHING}"}
AWAY = {"error": "Ingest queue unavailable", "code": "queue_unavailable", "detail": "Nothing was queued or charged."}
TOO_MANY = {
    **AWAY,
    "detail": f"This web process already has the maximum number of requests that wait for Redis. {NOTHING}",
}
UNKNOWN = {**AWAY, "detail": "The outcome is unknown. Send the request again with the same Idempotency-Key to be sure."}


@pytest.fixture
def other(api: Api, project: Project) -> Api:
    """A client of another dataset of the project."""
    return Api(api.token, services.create_dataset(project=project, name="Other", fields=FIELDS))


def assert_refused(response: httpx.Response, answer: dict[str, str]) -> None:
    assert (response.status_code, response.json()) == (503, answer)
    assert int(response.headers["Retry-After"]) >= 1


def seconds_of(response: httpx.Response) -> float:
    return response.elapsed.total_seconds()


# -- full ---------------------------------------------------------------------------------------------


def test_dataset_with_a_full_backlog_refuses_until_a_drain(
    api: Api, other: Api, dataset: Dataset, settings: Settings
) -> None:
    assert api.one(record()).status_code == 202
    settings.BACKLOG_LIMIT_BYTES_PER_DATASET = counters(dataset)["bytes"] * 2
    assert api.one(record()).status_code == 202
    before = everything_in(own_client())
    for response in (api.one(record()), api.batch([record()]), api.one(record(), Idempotency_Key="k")):
        assert_refused(response, DATASET_FULL)
        assert response.headers["Retry-After"] == "5"
    assert everything_in(own_client()) == before
    assert other.one(record()).status_code == 202
    assert len(stored(dataset)) == 2
    assert api.one(record()).status_code == 202


def test_a_full_backlog_of_all_datasets_refuses_each(
    api: Api, other: Api, dataset: Dataset, settings: Settings
) -> None:
    assert api.one(record()).status_code == 202
    settings.BACKLOG_LIMIT_BYTES, settings.BACKLOG_SHARE_PER_PROJECT = counters(dataset)["total"], 1
    before = everything_in(own_client())
    assert_refused(api.one(record()), ALL_FULL)
    assert_refused(other.one(record()), ALL_FULL)
    assert everything_in(own_client()) == before
    stored(dataset)
    assert other.one(record()).status_code == 202
    assert_refused(api.one(record()), ALL_FULL)


def test_a_body_larger_than_the_whole_backlog_is_too_large(
    api: Api, other: Api, dataset: Dataset, settings: Settings
) -> None:
    """A 503 would make the client repeat the request forever."""
    settings.BACKLOG_SHARE_PER_PROJECT = 1
    assert api.one(record()).status_code == 202
    size = counters(dataset)["bytes"]
    for name in ("BACKLOG_LIMIT_BYTES_PER_DATASET", "BACKLOG_LIMIT_BYTES"):
        before = everything_in(own_client())
        setattr(settings, name, size - 1)
        response = api.one(record())
        assert response.status_code == 413
        assert response.json() == {
            "error": "Request body too large",
            "code": "body_too_large",
            "limit": size - 1,
            "detail": f"The backlog holds at most {size - 1} bytes, so this body never fits. "
            "Send its records in smaller parts.",
        }
        assert everything_in(own_client()) == before
        setattr(settings, name, size)
        assert api.one(record()).status_code == 503
        setattr(settings, name, 1000 * size)


def test_project_with_a_full_share_leaves_room_for_others(
    api: Api, other: Api, dataset: Dataset, owner: User, settings: Settings
) -> None:
    neighbor = services.create_project(slug="neighbor", owner=owner)
    theirs = services.create_dataset(project=neighbor, name="Theirs", fields=FIELDS)
    neighbors = Api(issue_token(services.create_key(project=neighbor, name="tests")), theirs)
    assert api.one(record()).status_code == 202
    settings.BACKLOG_LIMIT_BYTES = 4 * counters(dataset)["total"]
    assert other.one(record()).status_code == 202
    for refused in (api, other):
        assert_refused(refused.one(record()), PROJECT_FULL)
    assert neighbors.one(record()).status_code == 202
    stored(dataset)
    # The neighbor uses one of four places. The project may use half of the other three, and already uses one of them.
    assert_refused(api.one(record()), PROJECT_FULL)
    stored(theirs)
    assert api.one(record()).status_code == 202


def test_a_redis_without_memory_is_a_full_queue(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    with redis_full() as client:
        before = everything_in(client)
        for response in (api.one(record()), api.batch([record()] * 2), api.one(record(), Idempotency_Key="k")):
            assert_refused(response, MEMORY_FULL)
        assert everything_in(client) == before
    assert api.one(record(), Idempotency_Key="k").headers.get("Idempotent-Replayed") is None
    assert in_stream(dataset) == 2


def test_a_full_redis_still_drains_and_revokes_keys(
    api: Api, other: Api, dataset: Dataset, key: ApiKey, project: Project, settings: Settings
) -> None:
    """Admission stops well below `maxmemory`, so drains and the changes of admins still fit."""
    settings.BACKLOG_SHARE_PER_PROJECT = 1
    client = own_client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 48 * 1024 * 1024)
    try:
        sent = 0
        while (response := api.one(record(country=secrets.token_hex(500_000)))).status_code == 202:
            sent += 1
            client.delete(redis_keys.ROOM)  # as if a second had passed
        assert_refused(response, MEMORY_FULL)
        assert sent > 10

        # Redis keeps the buffers of large commands for some time. Afterwards it has more room than before.
        wait_until(lambda: client.info("memory")["mem_clients_normal"] < 1024 * 1024)
        used = client.info("memory")["used_memory"]
        assert used / client.info("memory")["maxmemory"] < 0.82
        client.config_set("maxmemory", int(used / 0.82))  # a little fuller: not even a small record fits
        client.delete(redis_keys.ROOM)
        assert_refused(other.one(record(), Idempotency_Key="k"), MEMORY_FULL)

        another = Api(issue_token(services.create_key(project=project, name="another")), dataset)
        assert_refused(another.one(record()), MEMORY_FULL)
        services.revoke_key(key)
        assert api.one(record()).status_code == 401
        quotas.set_limit(project.owner, 10_000)
        all_is_well()
        assert health.checks()["redis"].startswith("memory is full")
        assert b"ingest_redis_memory_limit_bytes" in metrics.text()

        assert len(stored(dataset)) == sent
        client.delete(redis_keys.ROOM)
        assert another.one(record()).status_code == 202
        assert health.checks()["redis"] == "ok"
    finally:
        client.config_set("maxmemory", 0)


def test_requests_that_come_together_seed_redis_once(api: Api, dataset: Dataset) -> None:
    count = 30
    own_client().script_load(script("admit").source)  # a script that Redis does not know is sent twice
    with commands_sent() as commands:
        assert [answer.status_code for answer in at_once([lambda: api.one(record())] * count)] == [202] * count
    # Each request may call the script twice: once before Redis has the missing data, and once after. Seeding takes two
    # scripts.
    assert sum(command in ("EVALSHA", "EVAL") for command in commands) < 3 * count
    assert in_stream(dataset) == count


def test_admissions_beyond_those_that_may_wait_are_refused(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.one(record()).status_code == 202  # the contract is cached
    monkeypatch.setattr(admission, "MAX_IN_FLIGHT", 2)
    with Threads(2) as threads:
        with writes_stuck():
            waiting = [threads.submit(api.one, record()) for _ in range(2)]
            wait_until(lambda: admission._InFlight.count == 2)
            assert_refused(api.one(record()), TOO_MANY)
        assert [each.result().status_code for each in waiting] == [202, 202]
    assert in_stream(dataset) == 3


# -- away ---------------------------------------------------------------------------------------------


def test_missing_redis_is_a_503_in_time_and_then_immediately(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 1.5
    assert api.one(record()).status_code == 202
    with redis_away() as client:
        before = everything_in(client)
        first = api.one(record())
        assert_refused(first, AWAY)
        assert 1.0 < seconds_of(first) < 10
        for response in (api.one(record()), api.batch([record()]), api.one(record(), Idempotency_Key="k")):
            assert_refused(response, AWAY)
            assert seconds_of(response) < 1.0
        assert everything_in(client) == before
    assert api.one(record(), Idempotency_Key="k").status_code == 202
    assert in_stream(dataset) == 2
    assert len(stored(dataset)) == 2


def test_threads_that_end_leave_no_connections_open(api: Api) -> None:
    """This happens in the web server: granian ends a thread that was idle for half a minute."""
    assert api.one(record()).status_code == 202
    before = own_client().info("clients")["connected_clients"]
    for _ in range(120):
        with Threads(1) as pool:
            assert pool.submit(api.one, record()).result().status_code == 202
    assert own_client().info("clients")["connected_clients"] < before + 10


def test_a_refusal_that_cannot_be_confirmed_is_a_503(api: Api, dataset: Dataset, settings: Settings) -> None:
    """The cached schema may be old, so the service checks it before it refuses a record."""
    settings.ADMISSION_TIMEOUT_SECONDS = 0.2
    assert api.one(record(amount="x")).status_code == 400
    with redis_away():
        assert_refused(api.one(record(amount="x")), AWAY)
        assert_refused(api.post(f"/datasets/{dataset.pk}/validate", record()), AWAY)
        assert_refused(api.post("/datasets/999999", record()), AWAY)
        assert Api("nonsense", dataset).one(record()).status_code == 401


def test_clients_do_not_notice_a_short_outage_of_redis(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 30
    assert api.one(record()).status_code == 202
    with Threads(4) as pool:
        with redis_away():
            waiting = [pool.submit(api.one, record()) for _ in range(4)]
            with pytest.raises(StillWaiting):
                waiting[0].result(timeout=0.3)
        assert [each.result().status_code for each in waiting] == [202] * 4
    assert in_stream(dataset) == 5


def test_idle_connection_that_was_closed_is_opened_again(api: Api, dataset: Dataset) -> None:
    for _ in range(3):
        assert api.one(record()).status_code == 202
        own_client().client_kill_filter(_type="normal", skipme=True)
    assert in_stream(dataset) == 3


def test_stuck_redis_is_a_503_and_drops_the_late_command(api: Api, dataset: Dataset, settings: Settings) -> None:
    """The command waits in the socket. When Redis reads it, its deadline has passed."""
    settings.ADMISSION_TIMEOUT_SECONDS = 0.5
    assert api.one(record()).status_code == 202
    with redis_stuck():
        began = time.monotonic()
        assert_refused(api.one(record()), UNKNOWN)
        assert time.monotonic() - began < 10
    assert in_stream(dataset) == 1
    assert quotas.current(dataset.project.owner.pk).used == 1
    assert api.one(record()).status_code == 202


def test_broken_connection_before_the_command_queues_once(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 30
    assert api.one(record()).status_code == 202
    with Threads(1) as pool, writes_stuck() as client:
        waiting = pool.submit(api.one, record())
        deadline = time.monotonic() + 30
        while not any(each["cmd"] == "evalsha" and "b" in each["flags"] for each in client.client_list()):
            assert time.monotonic() < deadline
        client.client_kill_filter(_type="normal", skipme=True)
        client.execute_command("CLIENT", "UNPAUSE")
        assert waiting.result().status_code == 202
    assert in_stream(dataset) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_lost_reply_is_queued_and_charged_once(api: Api, dataset: Dataset, count: int) -> None:
    quotas.set_limit(dataset.project.owner, 1000)
    assert api.batch([record()] * count).status_code == 202
    with replies_lost(b"EVALSHA") as lost:
        response = api.batch([record()] * count)
    assert len(lost) == 1
    assert b"accepted" in lost[0]
    assert (response.status_code, response.json()["count"]) == (202, count)
    assert response.headers["RateLimit"].startswith(f'"monthly";r={1000 - 2 * count};')
    assert "Idempotent-Replayed" not in response.headers
    assert (in_stream(dataset), quotas.current(dataset.project.owner.pk).used) == (2, 2 * count)
    assert api.request("GET", response.headers["Location"]).json()["status"] == "queued"
    assert len(stored(dataset)) == 2 * count
    assert api.request("GET", response.headers["Location"]).json()["status"] == "stored"


# -- what Redis has forgotten -------------------------------------------------------------------------


def test_redis_without_the_script_gets_it_again(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    redis.client().script_flush()
    assert api.one(record()).status_code == 202
    assert in_stream(dataset) == 2


def test_a_redis_that_was_wiped_begins_a_new_generation(api: Api, dataset: Dataset) -> None:
    generations = set()
    for _ in range(3):
        redis.client().flushall()
        assert api.one(record()).status_code == 202
        assert api.one(record()).status_code == 202
        generations.add(redis.client().get(redis_keys.GENERATION))
        assert (in_stream(dataset), counters(dataset)["accepted"]) == (2, 2)
    assert len(generations) == 3
    assert None not in generations


# -- the contract in force ----------------------------------------------------------------------------


def test_record_is_queued_with_its_schema_version(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    assert api.one(record()).json()["error"] == "Missing field: source"
    assert api.one(record(source="web")).status_code == 202
    versions = [int(fields[b"v"]) for _, fields in redis.client().xrange(redis_keys.stream(dataset.pk))]
    assert versions == list(dataset.versions.order_by("number").values_list("pk", flat=True))
    assert [row["source"] for row in stored(dataset)] == [None, "web"]


def test_the_use_of_a_key_is_noted_with_the_first_admission(api: Api, dataset: Dataset) -> None:
    assert redis.client().hgetall(redis_keys.KEYS_LAST_USED) == {}
    assert api.one(record()).status_code == 202
    used = redis.client().hgetall(redis_keys.KEYS_LAST_USED)
    assert list(used) == [str(dataset.project.keys.get().pk).encode()]
    assert abs(int(next(iter(used.values()))) - time.time() * 1000) < 60_000
