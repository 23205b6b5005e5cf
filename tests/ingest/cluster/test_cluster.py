"""The whole service on a real cluster: users whose keys are on different servers, from the request to the table."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from redis.crc import key_slot

from config.common import redis
from datasets import services
from datasets.contracts import cache
from datasets.contracts.keys import issue_token
from datasets.models import Dataset
from ingest import tasks
from ingest.queue import turns
from ingest.storing.ledger import balance
from quotas import services as quotas
from quotas.models import MonthlyUsage
from tests.conftest import FIELDS, Api, record, stored
from tests.support.servers.cluster import ValkeyCluster, cluster, use
from tests.support.servers.sentinels import forget_connections

USERS = 6  # enough that each of the three servers has a user


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


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
    slots = Counter(key_slot(key) for key in found)
    assert {key_slot(f"{{{dataset.project.owner_id}}}".encode()) for dataset in datasets(apis)} <= slots.keys()
    untagged = {key for key in found if b"{" not in key}
    assert untagged <= {b"queue:untidy", b"requests:refused", b"sign:storage"}, untagged
