"""The cache of contracts: what it keeps, what it forgets, and how much a refusal costs."""

import gc
import time
from typing import Any

from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from datasets import services
from datasets.contracts import cache, contract
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from tests.conftest import FIELDS, Api, record
from tests.support.servers.queries import queries_of, queries_sent


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


def test_a_cached_refusal_keeps_nothing_of_its_request(api: Api) -> None:
    for _ in range(3):
        assert api.post("/datasets/999999", record()).status_code == 404
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, contract.DatasetNotFound)]


def test_a_foreign_dataset_costs_no_more_than_a_missing_one(api: Api, project: Project, stranger: Project) -> None:
    """No version of the foreign dataset is read, with or without PostgreSQL's statistics of the tables."""
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
    """The test changes a row directly. If the announcement of a change is lost, only the TTL ends a cached contract."""
    settings.CATALOG_TTL_SECONDS = 1
    assert api.one(record()).status_code == 202
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    assert api.one(record()).status_code == 202
    deadline = time.monotonic() + 30
    while api.one(record()).status_code == 202:
        assert time.monotonic() < deadline
    assert api.one(record()).status_code == 401
