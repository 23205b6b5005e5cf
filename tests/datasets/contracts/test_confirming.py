"""Cached contracts that are due are confirmed together, and read again only if something changed."""

from functools import partial
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.utils import timezone
from pytest_django import Settings
from redis.exceptions import RedisError

from config.common import redis
from datasets import services
from datasets.contracts import cache, confirming, revisions
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.schemas.fields import Field
from tests.conftest import FIELDS, Api, record
from tests.support.servers.outages import database_away, redis_away
from tests.support.servers.queries import queries_of, queries_sent

WIDER = [*FIELDS, Field("source", "string")]


@pytest.fixture
def clients(project: Project, dataset: Dataset, stranger: Project, settings: Settings) -> list[Api]:
    """Clients of two projects, each with its own key and dataset. Their contracts are cached and due."""
    settings.CATALOG_TTL_SECONDS = 0.001
    made = []
    for owner in (project, stranger):
        for number in range(6):
            key = services.create_key(project=owner, name=f"Number {number}")
            made.append(
                Api(issue_token(key), services.create_dataset(project=owner, name=f"Number {number}", fields=FIELDS))
            )
    for client in made:
        assert client.one(record()).status_code == 202
    settings.CATALOG_TTL_SECONDS = 3600
    return made


def test_due_contracts_are_confirmed_and_not_read_again(clients: list[Api]) -> None:
    confirming.confirm_due()
    assert [queries_of(partial(client.one, record())) for client in clients] == [(202, 0)] * 12


def test_due_contracts_are_confirmed_by_the_hundred(clients: list[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "_CONFIRMED_AT_ONCE", 5)
    with queries_sent() as queries:
        confirming.confirm_due()
    assert len([query for query in queries if "FROM datasets_apikey" in query["sql"]]) == 3
    assert [queries_of(partial(client.one, record())) for client in clients] == [(202, 0)] * 12


def test_contracts_that_are_not_due_are_left_alone(clients: list[Api]) -> None:
    confirming.confirm_due()
    with queries_sent() as queries:
        confirming.confirm_due()
    assert not len(queries)


def test_changed_contracts_are_not_confirmed(clients: list[Api], project: Project) -> None:
    """The test changes rows directly: the services would have announced the changes."""
    _, revoked, expired, archived, wider, same = clients[:6]
    keys = project.keys.order_by("pk")
    datasets = project.datasets.filter(name__startswith="Number").order_by("pk")
    ApiKey.objects.filter(pk=keys[1].pk).update(revoked_at=timezone.now())
    ApiKey.objects.filter(pk=keys[2].pk).update(expires_at=timezone.now())
    Dataset.objects.filter(pk=datasets[3].pk).update(is_archived=True)
    SchemaVersion.objects.create(dataset=datasets[4], number=2, fields=[field.as_json() for field in WIDER])
    confirming.confirm_due()
    for client, body, status in (
        (revoked, record(), 401),
        (expired, record(), 401),
        (archived, record(), 404),
        (wider, record(), 400),
        (wider, record(source="web"), 202),
    ):
        assert client.one(body).status_code == status
    assert queries_of(partial(same.one, record())) == (202, 0)


def test_a_key_with_a_new_token_id_is_not_confirmed(clients: list[Api], project: Project) -> None:
    ApiKey.objects.filter(pk=project.keys.order_by("pk")[1].pk).update(token_id=uuid4())
    confirming.confirm_due()
    statuses = [client.one(record()).status_code for client in clients]
    assert statuses == [202, 401, *[202] * 10]


@pytest.mark.parametrize("what", ["owner", "default_dataset"])
def test_contracts_of_a_changed_project_are_not_confirmed(
    clients: list[Api], project: Project, dataset: Dataset, what: str
) -> None:
    other = {"owner": User.objects.create_user("buyer"), "default_dataset": dataset}[what]
    Project.objects.filter(pk=project.pk).update(**{what: other})
    confirming.confirm_due()
    counts = [queries_of(partial(client.one, record()))[1] for client in clients]
    assert all(counts[:6])
    assert counts[6:] == [0] * 6


def test_contracts_with_an_announced_change_are_not_confirmed(clients: list[Api], stranger: Project) -> None:
    redis.client().set(revisions.key(stranger.pk), b"changed")
    confirming.confirm_due()
    counts = [queries_of(partial(client.one, record()))[1] for client in clients]
    assert counts[:6] == [0] * 6
    assert all(counts[6:])


def test_contracts_unused_for_long_are_dropped(clients: list[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.size() == 12
    monkeypatch.setattr(confirming, "_IDLE_SECONDS", 0)
    confirming.confirm_due()
    assert cache.size() == 0


def test_a_broken_schema_does_not_affect_other_projects(clients: list[Api], stranger: Project) -> None:
    """For example, a newer release wrote the schema while the old release still runs."""
    SchemaVersion.objects.filter(dataset__project=stranger).update(
        fields=[{"name": "a", "type": "string", "unit": "m"}]
    )
    confirming.confirm_due()
    assert [client.one(record()).status_code for client in clients[:6]] == [202] * 6


def test_contracts_that_were_not_confirmed_are_read_again(clients: list[Api]) -> None:
    with database_away(), pytest.raises(DatabaseError):
        confirming.confirm_due()
    with redis_away(), pytest.raises(RedisError):
        confirming.confirm_due()
    assert all(queries_of(partial(client.one, record()))[1] for client in clients)
