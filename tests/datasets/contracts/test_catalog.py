"""The contract catalog: a change applies to the next request, despite caches and outages."""

import time
from contextlib import ExitStack
from threading import Event

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from pytest_django import Settings

from config.common import loop, redis
from datasets import services
from datasets.contracts import revisions
from datasets.contracts.keys import issue_token
from datasets.contracts.revisions import ChangeRefused
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.fields import Field
from quotas import services as quotas
from tests.conftest import FIELDS, Api, record
from tests.support.entries import in_stream
from tests.support.sending.at_once import Threads
from tests.support.servers.outages import database_away, redis_away
from tests.support.servers.queries import queries_of

WIDER = [*FIELDS, Field("source", "string")]
NOT_FOUND = {"error": "Dataset schema not found", "code": "dataset_schema_not_found"}
UNAVAILABLE = {
    "error": "Ingest queue unavailable",
    "code": "queue_unavailable",
    "detail": "Nothing was queued or charged.",
}


def revision_of(project: Project) -> bytes | None:
    found: bytes | None = redis.client().get(revisions.key(project.pk))
    return found


# -- one answer for all missing datasets --------------------------------------------------------------


def test_all_missing_datasets_get_the_same_answer(api: Api, project: Project, stranger: Project) -> None:
    """The answers are equal in every byte except the request ID, so they do not reveal which datasets exist."""
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
    # Receipts of an archived dataset still work, so leave this dataset out.
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
    """Under the cached contract, the requests below would be refused. But they are accepted."""
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
    redis.client().delete(revisions.key(project.pk))  # as if it had expired
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
