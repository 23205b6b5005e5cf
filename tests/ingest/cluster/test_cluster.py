"""The whole service on a real cluster: users whose keys are on different servers, from the request to the table."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from redis.crc import key_slot

from config.common import redis
from datasets import services
from datasets.contracts import cache
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from ingest import tasks
from ingest.models import QuarantinedEntry
from ingest.monitoring import metrics, refusals, statistics
from ingest.queue import slots, turns
from ingest.storing import quarantine, upkeep
from ingest.storing.ledger import balance
from quotas import services as quotas
from quotas.models import MonthlyUsage
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import enqueue, status
from tests.support.servers.cluster import ValkeyCluster, use
from tests.support.servers.sentinels import forget_connections

USERS = 6  # enough that each of the three servers has a user


@pytest.fixture
def servers(three: ValkeyCluster, settings: Any, transactional_db: None) -> Iterator[ValkeyCluster]:
    """Use three primaries as the service's Redis."""
    use(settings, three.url)
    redis.client().flushall()
    cache.forget_all()
    yield three
    forget_connections()


@pytest.fixture
def apis(servers: ValkeyCluster) -> list[Api]:
    """Return a client for a dataset of each user."""
    return [_api(User.objects.create_user(f"user-{number}")) for number in range(USERS)]


def _api(user: User) -> Api:
    project = services.create_project(slug=f"project-{user.pk}", owner=user)
    dataset = services.create_dataset(project=project, name="Signups", fields=FIELDS)
    return Api(issue_token(services.create_key(project=project, name="tests")), dataset)


def datasets(apis: list[Api]) -> list[Dataset]:
    return [api.dataset for api in apis if api.dataset]


def drain_all() -> None:
    while turns.pending():
        tasks.drain()


def test_records_of_many_users_are_stored_once(apis: list[Api]) -> None:
    for number, api in enumerate(apis):
        assert api.batch([record(plan=f"{each}") for each in range(number + 1)]).status_code == 202
        assert api.one(record(plan="last")).status_code == 202
    drain_all()
    for number, dataset in enumerate(datasets(apis)):
        assert [row["plan"] for row in stored(dataset)] == [*(f"{each}" for each in range(number + 1)), "last"]
        assert balance(dataset).adds_up
    assert quotas.flush() == USERS
    assert list(MonthlyUsage.objects.order_by("user_id").values_list("used", flat=True)) == [2, 3, 4, 5, 6, 7]
    assert quotas.flush() == 0


def test_each_key_of_a_user_is_in_one_slot(apis: list[Api], servers: ValkeyCluster) -> None:
    for api in apis:
        api.one(record(), Idempotency_Key="1")
        api.one(record(plan=7))
    drain_all()
    found = [key for node in servers.primaries for key in node.client().keys("*")]
    used = Counter(key_slot(key) for key in found)
    assert {key_slot(f"{{{dataset.project.owner_id}}}".encode()) for dataset in datasets(apis)} <= used.keys()
    untagged = {key for key in found if b"{" not in key}
    assert untagged <= {b"queue:untidy", b"requests:refused", b"sign:storage"}, untagged


def test_an_admission_is_one_command_on_one_server(apis: list[Api], servers: ValkeyCluster) -> None:
    """A server sees nothing of the admissions of users whose keys are on another server."""
    for api in apis:
        assert api.one(record()).status_code == 202  # reads the contract, and loads the script
    for api in apis:
        home = servers.owner(key_slot(f"{{{_owner(api)}}}".encode()))
        for node in servers.primaries:
            node.client().config_resetstat()
        assert api.one(record()).status_code == 202
        for node in servers.primaries:
            stats = node.client().info("commandstats")
            scripts = stats.get("cmdstat_evalsha", {"calls": 0})["calls"]
            assert scripts == (node is home)
            assert "cmdstat_get" not in stats
            # The script itself may use SET: once a second it writes how much room the server has.
            assert node is home or {"cmdstat_mget", "cmdstat_set"}.isdisjoint(stats)


def _owner(api: Api) -> int:
    assert api.dataset is not None
    return api.dataset.project.owner_id


def test_a_revoked_key_is_refused_at_the_next_request(apis: list[Api]) -> None:
    for api in apis:
        assert api.one(record()).status_code == 202
    for dataset in datasets(apis):
        services.revoke_key(dataset.project.keys.get())
    assert {api.one(record()).status_code for api in apis} == {401}


def test_a_repeated_request_gets_the_first_answer(apis: list[Api]) -> None:
    for api in apis:
        first, again = (api.one(record(), Idempotency_Key="once") for _ in range(2))
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert status(api, first)["status"] == "queued"
    drain_all()
    for api, dataset in zip(apis, datasets(apis), strict=True):
        assert len(stored(dataset)) == 1
        assert status(api, api.one(record(), Idempotency_Key="once"))["status"] == "stored"


def test_a_quota_is_exact(apis: list[Api]) -> None:
    for api, dataset in zip(apis, datasets(apis), strict=True):
        quotas.set_limit(dataset.project.owner, 3)
        assert [api.one(record()).status_code for _ in range(5)] == [202, 202, 202, 429, 429]


def test_metrics_and_charts_count_all_servers(apis: list[Api]) -> None:
    for api in apis:
        api.one(record())
        api.one(record(plan=7))
    found = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line[0] != "#")
    assert float(found["ingest_accepted_records_total"]) == USERS
    assert float(found["ingest_queued_records"]) == USERS
    assert float(found["ingest_pending_datasets"]) == USERS
    assert float(found['ingest_refused_requests_total{code="invalid_field"}']) == USERS
    assert set(refusals.projects()) == {dataset.project_id for dataset in datasets(apis)}
    traffic = statistics.traffic([dataset.pk for dataset in datasets(apis)])
    assert statistics.total(traffic.values()).backlog.records == USERS


def test_a_quarantined_record_is_replayed(apis: list[Api]) -> None:
    for dataset in datasets(apis):
        enqueue(dataset, b"not JSON")
    drain_all()
    for entry in QuarantinedEntry.objects.all():
        assert quarantine.replay(entry)
    drain_all()
    assert QuarantinedEntry.objects.filter(state=QuarantinedEntry.State.HELD).count() == USERS
    assert all(balance(dataset).adds_up for dataset in datasets(apis))


def test_the_last_use_of_keys_is_noted(apis: list[Api]) -> None:
    for api in apis:
        api.one(record())
    upkeep.note_key_use()
    assert ApiKey.objects.filter(last_used_at=None).count() == 0


def test_unused_slots_are_forgotten_on_all_servers(apis: list[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    for api in apis:
        api.one(record())
    monkeypatch.setattr(slots, "_MAX_IDLE_SECONDS", -1)
    assert slots.forget_slots() >= USERS


def test_a_project_keeps_its_owner(apis: list[Api]) -> None:
    project = datasets(apis)[0].project
    project.owner = User.objects.create_user("another")
    with pytest.raises(ValidationError, match="a project keeps its owner"):
        project.full_clean()
