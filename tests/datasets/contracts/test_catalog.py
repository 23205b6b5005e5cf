"""The contract catalog: a change applies to the next request, despite caches and outages."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django import Settings
from redis.exceptions import RedisError

from config.common import loop, redis
from datasets import services
from datasets.contracts import cache, confirming, contract, revisions
from datasets.contracts.keys import issue_token
from datasets.contracts.revisions import ChangeRefused
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.schemas.schema import Field
from quotas import services as quotas
from tests.conftest import FIELDS, Api, record
from tests.support.entries import in_stream
from tests.support.sending.at_once import Threads
from tests.support.servers.outages import database_away, redis_away
from tests.support.servers.queries import queries_sent

WIDER = [*FIELDS, Field("source", "string")]
NOT_FOUND = {"error": "Dataset schema not found", "code": "dataset_schema_not_found"}
UNAVAILABLE = {
    "error": "Ingest queue unavailable",
    "code": "queue_unavailable",
    "detail": "Nothing was queued or charged.",
}


@pytest.fixture
def stranger(owner: User) -> Project:
    """A project of another tenant."""
    return services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))


def queries_of(send: Callable[[], httpx.Response]) -> tuple[int, int]:
    """Return the status of an answer, and the number of SQL queries that it took."""
    with queries_sent() as queries:
        status = send().status_code
    return status, len(queries)


def revision_of(project: Project) -> bytes | None:
    found: bytes | None = redis.client().get(revisions.key(project.pk))
    return found


# -- one answer for all missing datasets --------------------------------------------------------------


def test_all_missing_datasets_get_the_same_answer(api: Api, project: Project, stranger: Project) -> None:
    """The answers are equal byte for byte, so they do not reveal which datasets exist."""
    theirs = services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    empty = services.create_dataset(project=project, name="Without a schema")
    archived = services.create_dataset(project=project, name="Archived", fields=FIELDS)
    archived.is_archived = True
    services.save_dataset(archived, changed=["is_archived"])
    ids = (theirs.pk, empty.pk, archived.pk, 999_999, 2**63 - 1, 2**63, 10**30)
    for suffix in ("", "/batch", "/validate"):
        responses = [api.post(f"/datasets/{each}{suffix}", record()) for each in ids]
        if suffix != "/validate":
            responses.append(api.post(f"/datasets{suffix}", record()))  # no default dataset
            responses.append(api.post(f"/datasets{suffix}", record(), X_Loguro_Dataset_Id=str(theirs.pk)))
        answers = set()
        for response in responses:
            assert (response.status_code, response.json()) == (404, NOT_FOUND)
            headers = {**response.headers, "x-request-id": ""}
            answers.add((response.content, tuple(sorted(headers.items()))))
        assert len(answers) == 1
    # Receipts of an archived dataset still work.
    receipts = [api.request("GET", f"/datasets/{each}/receipts/x") for each in ids if each != archived.pk]
    assert {(each.status_code, each.content) for each in receipts} == {(404, responses[0].content)}


def test_a_default_dataset_of_another_project_is_not_found(api: Api, project: Project, stranger: Project) -> None:
    project.default_dataset = services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    services.save_project(project, changed=["default_dataset"])
    response = api.post("/datasets", record())
    assert (response.status_code, response.json()) == (404, NOT_FOUND)


# -- immediate effect ---------------------------------------------------------------------------------


def test_a_changed_schema_applies_to_the_next_request(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    services.save_dataset(dataset, fields=WIDER)
    assert api.one(record()).json()["error"] == "Missing field: source"
    assert api.one(record(source="web")).status_code == 202
    services.save_dataset(dataset, fields=FIELDS)
    assert api.one(record(source="web")).json()["error"] == "Extra field: source"
    assert api.one(record()).status_code == 202


def test_no_request_is_refused_under_an_old_schema(api: Api, dataset: Dataset) -> None:
    """The requests below would be refused under the cached contract, and are accepted."""
    assert api.one(record(source="web")).status_code == 400
    services.save_dataset(dataset, fields=WIDER)
    assert api.one(record(source="web")).status_code == 202
    assert api.batch([record(source="web")] * 2).status_code == 202
    assert api.post(f"/datasets/{dataset.pk}/validate", record(source="web")).status_code == 200


def test_a_new_dataset_is_found_despite_a_cached_refusal(api: Api, project: Project, dataset: Dataset) -> None:
    empty = services.create_dataset(project=project, name="Without a schema")
    assert api.post(f"/datasets/{empty.pk}", record()).status_code == 404
    services.save_dataset(empty, fields=FIELDS)
    assert api.post(f"/datasets/{empty.pk}", record()).status_code == 202
    assert api.post("/datasets", record()).status_code == 404
    project.default_dataset = dataset
    services.save_project(project, changed=["default_dataset"])
    assert api.post("/datasets", record()).status_code == 202
    following = dataset.pk + 10
    assert api.post(f"/datasets/{following}", record()).status_code == 404
    while services.create_dataset(project=project, name=f"Number {time.monotonic_ns()}", fields=FIELDS).pk < following:
        pass
    assert api.post(f"/datasets/{following}", record()).status_code == 202


def test_an_archived_dataset_accepts_nothing_until_restored(api: Api, dataset: Dataset) -> None:
    for archived, status in ((False, 202), (True, 404), (False, 202)):
        dataset.is_archived = archived
        services.save_dataset(dataset, changed=["is_archived"])
        assert api.one(record()).status_code == status


def test_the_latest_default_dataset_applies(api: Api, project: Project, dataset: Dataset) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    for chosen in (dataset, other, dataset):
        project.default_dataset = chosen
        services.save_project(project, changed=["default_dataset"])
        location = api.post("/datasets", record()).headers["Location"]
        assert location.startswith(f"/datasets/{chosen.pk}/")


def test_records_are_charged_to_the_current_owner(api: Api, project: Project, owner: User) -> None:
    assert api.one(record()).status_code == 202
    project.owner = buyer = User.objects.create_user("buyer")
    services.save_project(project, changed=["owner"])
    assert api.batch([record()] * 2).status_code == 202
    assert (quotas.current(owner.pk).used, quotas.current(buyer.pk).used) == (1, 2)


def test_a_change_keeps_other_projects_contracts_cached(api: Api, stranger: Project) -> None:
    assert api.one(record()).status_code == 202
    services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    assert queries_of(lambda: api.one(record())) == (202, 0)


def test_no_request_after_a_revocation_is_accepted(api: Api, key: ApiKey, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    revoked = Event()
    began_after: list[int] = []

    def send_until_refused_twice() -> None:
        client = Api(api.token, dataset)
        while len(began_after) < 40:
            after = revoked.is_set()
            status = client.one(record()).status_code
            assert status in (202, 401)
            if after:
                began_after.append(status)

    with Threads(4) as pool:
        senders = [pool.submit(send_until_refused_twice) for _ in range(4)]
        deadline = time.monotonic() + 30
        while in_stream(dataset) < 50:
            assert time.monotonic() < deadline
        services.revoke_key(key)
        revoked.set()
        for sender in senders:
            sender.result(60)
    assert set(began_after) == {401}


# -- a change that cannot take effect -----------------------------------------------------------------


def test_without_redis_a_change_is_refused_and_not_saved(
    api: Api, key: ApiKey, dataset: Dataset, project: Project
) -> None:
    assert api.one(record()).status_code == 202
    before = revision_of(project)
    dataset.is_archived = True
    project.is_active = False
    with redis_away():
        for change in (
            lambda: services.revoke_key(key),
            lambda: services.save_dataset(dataset, fields=WIDER),
            lambda: services.save_project(project, changed=["is_active"]),
            lambda: services.create_key(project=project, name="another"),
            lambda: services.create_dataset(project=project, name="Another", fields=FIELDS),
        ):
            with pytest.raises(ChangeRefused, match="Redis does not answer"):
                change()
    for saved in (key, dataset, project):
        saved.refresh_from_db()
    assert (key.revoked_at, dataset.is_archived, project.is_active) == (None, False, True)
    assert (project.keys.count(), project.datasets.count(), dataset.versions.count()) == (1, 1, 1)
    assert revision_of(project) == before
    assert api.one(record()).status_code == 202


def test_a_change_that_fails_is_not_saved(api: Api, dataset: Dataset, project: Project) -> None:
    assert api.one(record()).status_code == 202

    def archive_and_fail() -> None:
        with revisions.changing(project.pk):
            dataset.is_archived = True
            dataset.save()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        archive_and_fail()
    dataset.refresh_from_db()
    assert not dataset.is_archived
    assert queries_of(lambda: api.one(record())) == (202, 0)


def test_a_change_applies_if_its_announcement_is_lost(api: Api, dataset: Dataset, project: Project) -> None:
    """Redis fails between commit and announcement. The unsettled revision keeps the cache out of use."""
    assert api.one(record()).status_code == 202
    with ExitStack() as outage, revisions.changing(project.pk):
        transaction.on_commit(lambda: outage.enter_context(redis_away()) and None)
        dataset.is_archived = True
        dataset.save()
    unsettled = revision_of(project)
    assert unsettled is not None
    assert not revisions.is_settled(unsettled)
    assert 0 < redis.client().ttl(revisions.key(project.pk)) <= 60
    assert api.one(record()).status_code == 404
    redis.client().delete(revisions.key(project.pk))  # as its expiry would
    assert api.one(record()).status_code == 404
    settled = revision_of(project)
    assert settled is not None
    assert revisions.is_settled(settled)


def test_a_contract_read_during_a_change_is_not_cached(api: Api, project: Project) -> None:
    assert api.one(record()).status_code == 202
    redis.client().set(revisions.key(project.pk), b"~under way")
    for _ in range(3):
        status, queries = queries_of(lambda: api.one(record()))
        assert status == 202
        assert queries > 0
    redis.client().set(revisions.key(project.pk), b"settled")
    assert queries_of(lambda: api.one(record()))[1] > 0
    assert queries_of(lambda: api.one(record())) == (202, 0)


def test_revisions_never_repeat(project: Project, dataset: Dataset) -> None:
    seen = set()
    for _ in range(5):
        services.save_dataset(dataset)
        seen.add(revision_of(project))
        redis.client().flushall()
        seen.add(loop.run(revisions.current(project.pk, timeout=5)))
    assert len(seen) == 10


# -- the cache ----------------------------------------------------------------------------------------


def test_a_new_process_reads_each_contract_once(api: Api) -> None:
    assert queries_of(lambda: api.one(record()))[1] > 0
    assert queries_of(lambda: api.one(record())) == (202, 0)
    cache.forget_all()
    assert queries_of(lambda: api.one(record()))[1] > 0
    assert queries_of(lambda: api.one(record())) == (202, 0)


def test_the_cache_keeps_at_most_the_limit(api: Api, project: Project, settings: Settings) -> None:
    settings.CATALOG_MAX_ENTRIES = 2
    datasets = [services.create_dataset(project=project, name=f"Number {n}", fields=FIELDS) for n in range(3)]

    def queries(dataset: Dataset) -> int:
        status, found = queries_of(lambda: api.post(f"/datasets/{dataset.pk}", record()))
        assert status == 202
        return found

    assert all(queries(dataset) > 0 for dataset in datasets)
    assert [queries(dataset) for dataset in datasets[1:]] == [0, 0]
    assert queries(datasets[0]) > 0
    assert queries(datasets[0]) == 0
    assert queries(datasets[2]) == 0
    assert queries(datasets[1]) > 0


def test_probing_for_datasets_evicts_no_contract(
    api: Api, dataset: Dataset, stranger: Project, settings: Settings
) -> None:
    settings.CATALOG_MAX_ENTRIES = 20
    prober = Api(issue_token(services.create_key(project=stranger, name="prober")), dataset)
    assert api.one(record()).status_code == 202
    for guess in range(1000, 1050):
        assert prober.post(f"/datasets/{guess}", record()).status_code == 404
    assert queries_of(lambda: api.one(record())) == (202, 0)
    assert queries_of(lambda: prober.post("/datasets/1049", record())) == (404, 0)
    assert queries_of(lambda: prober.post("/datasets/1000", record()))[1] > 0
    assert cache.size() <= 20 + 2


def test_a_refusal_that_became_a_contract_is_cached_once(api: Api, project: Project) -> None:
    empty = services.create_dataset(project=project, name="Without a schema")
    for fields, status in ((None, 404), (FIELDS, 202)):
        services.save_dataset(empty, fields=fields)
        for _ in range(2):
            assert api.post(f"/datasets/{empty.pk}", record()).status_code == status
        assert cache.size() == 1


@pytest.fixture
def clients(project: Project, dataset: Dataset, stranger: Project, settings: Settings) -> list[Api]:
    """Clients of two projects, each with its own key and dataset. Their contracts are cached, and all are due."""
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
    """For example, a newer release wrote the schema while the old one still runs."""
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


def test_a_cached_refusal_keeps_nothing_of_its_request(api: Api) -> None:
    for _ in range(3):
        assert api.post("/datasets/999999", record()).status_code == 404
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, contract.DatasetNotFound)]


def test_a_foreign_dataset_costs_no_more_than_a_missing_one(api: Api, project: Project, stranger: Project) -> None:
    """No version of it is read, with or without PostgreSQL's statistics of the tables."""
    theirs = services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    SchemaVersion.objects.bulk_create(SchemaVersion(dataset=theirs, number=n, fields=[]) for n in range(2, 1000))
    for _ in range(2):
        with queries_sent() as queries:
            assert api.post(f"/datasets/{theirs.pk}", record()).status_code == 404
        (query,) = [query for query in queries if "schemaversion" in query["sql"]]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}", query["params"])
            (plan,) = cursor.fetchone()
        assert looked_at(plan[0]["Plan"], "datasets_schemaversion") == 0
        connection.cursor().execute("ANALYZE")
        cache.forget_all()


def looked_at(plan: dict[str, Any], table: str) -> int:
    """Return how often a plan's execution scanned a table."""
    own = plan["Actual Loops"] if plan.get("Relation Name") == table else 0
    return int(own) + sum(looked_at(child, table) for child in plan.get("Plans", ()))


def test_an_unannounced_change_is_noticed_after_the_ttl(api: Api, key: ApiKey, settings: Settings) -> None:
    """The test changes a row directly. The TTL is the last resort if an announcement is lost."""
    settings.CATALOG_TTL_SECONDS = 1
    assert api.one(record()).status_code == 202
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    assert api.one(record()).status_code == 202
    deadline = time.monotonic() + 30
    while api.one(record()).status_code == 202:
        assert time.monotonic() < deadline
    assert api.one(record()).status_code == 401


# -- the database is down -----------------------------------------------------------------------------


def test_a_cached_contract_works_without_the_database(
    api: Api, dataset: Dataset, project: Project, settings: Settings
) -> None:
    another = Api(issue_token(services.create_key(project=project, name="another")), dataset)
    settings.CATALOG_TTL_SECONDS = 0.001
    assert api.one(record()).status_code == 202
    with database_away():
        for _ in range(3):  # the contract is due, so each request tries the database
            assert api.one(record()).status_code == 202
        assert api.one(record(amount="x")).status_code == 400
        response = another.one(record())
        assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        assert response.headers["Retry-After"] == "1"
        redis.client().set(revisions.key(project.pk), b"changed")
        assert api.one(record()).status_code == 503
    assert api.one(record()).status_code == 202
    assert another.one(record()).status_code == 202
    assert in_stream(dataset) == 6
