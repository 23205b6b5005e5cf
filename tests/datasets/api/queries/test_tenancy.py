"""A query shows only the records of its own dataset, with every slug, ID, token, key and cursor that a client sends."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from config.common import clock
from datasets import personal_tokens, services
from datasets.api.queries.views import QueryView
from datasets.api.urls import urlpatterns
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, PersonalAccessToken
from datasets.personal_tokens import digest_of
from datasets.schemas.fields import Field
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.datasets.api.conftest import Management, client_of, error_of

SECRET = "zebra7f3"  # a part of every name and text of the other tenant
TIME = "2026-06-10T10:58:00Z"
RANGE = {"from": TIME, "to": TIME}
QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"range": RANGE, "select": [{"field": "country"}, {"field": "id"}, {"field": "context"}, {"field": "__traceId"}]},
    {"range": RANGE, "select": [{"field": "country"}, {"aggregate": "count"}], "groupBy": ["country"]},
    {"range": RANGE, "select": [{"field": "country"}], "limit": 1},
)
FORMATS = ("application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream")


class Tenant:
    """A staff user with a project whose default dataset has records, and with tokens and a key."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.user = User.objects.create_user(word, is_staff=True)
        self.project = services.create_project(slug=word, owner=self.user)
        self.dataset = services.create_dataset(project=self.project, name=word, fields=[Field("country", "string")])
        self.project.default_dataset = self.dataset
        services.save_project(self.project, changed=["default_dataset"])
        self.key = issue_token(services.create_key(project=self.project, name=word))
        self.client = client_of(self.user)
        sender = Api(self.key, self.dataset)
        records = [{"timestamp": TIME, "context": {"of": word}, "country": word}] * 3
        assert sender.batch(records, X_Request_Id=word).status_code == 202
        drain(self.dataset.pk)


@pytest.fixture
def zebra(transactional_db: None) -> Tenant:
    return Tenant(SECRET)


@pytest.fixture
def heron(transactional_db: None) -> Tenant:
    return Tenant("heron")


def paths(slug: str, dataset_id: object) -> Iterator[str]:
    """Yield each path of queries with these values."""
    for pattern in urlpatterns:
        if pattern.callback.view_class is QueryView:  # type: ignore[attr-defined]
            path = str(pattern.pattern).strip("^$").removesuffix("/?")
            yield "/" + path.replace("(?P<project_slug>[^/]+)", slug).replace("(?P<dataset_id>[^/]+)", str(dataset_id))


def everything(client: Management, slug: str, dataset_id: object) -> Iterator[httpx.Response]:
    """Send all queries on all paths with these values, and one of them in all formats."""
    asked = [(query, FORMATS[0]) for query in QUERIES] + [(QUERIES[1], media_type) for media_type in FORMATS[1:]]
    for path in paths(slug, dataset_id):
        for query, media_type in asked:
            yield client.call("POST", path, query, Accept=media_type)


def test_each_tenant_finds_its_own_records(zebra: Tenant, heron: Tenant) -> None:
    for own, other in ((zebra, heron), (heron, zebra)):
        for response in everything(own.client, own.word, own.dataset.pk):
            assert response.status_code == 200
            assert other.word.encode() not in response.content
    named = [r for r in everything(zebra.client, zebra.word, zebra.dataset.pk) if SECRET.encode() in r.content]
    assert len(named) >= 10


def test_another_project_is_answered_like_a_missing_one(zebra: Tenant, heron: Tenant) -> None:
    for dataset_id in (zebra.dataset.pk, heron.dataset.pk, 10**9, 0, "x"):
        theirs = everything(heron.client, zebra.word, dataset_id)
        missing = everything(heron.client, "nothing", dataset_id)
        for one, other in zip(theirs, missing, strict=True):
            assert error_of(one) == error_of(other) == (404, "Project not found", "project_not_found")
            assert one.content == other.content


def test_another_dataset_is_answered_like_a_missing_one(zebra: Tenant, heron: Tenant) -> None:
    with_id = [path for path in paths(heron.word, zebra.dataset.pk) if str(zebra.dataset.pk) in path]
    assert with_id
    for path in with_id:
        for query in QUERIES:
            one = heron.client.call("POST", path, query)
            other = heron.client.call("POST", path.replace(f"/{zebra.dataset.pk}/", "/999999999/"), query)
            assert error_of(one) == (404, "Dataset not found", "dataset_not_found")
            assert one.content == other.content


def test_only_a_valid_token_of_the_project_may_query(zebra: Tenant, heron: Tenant, settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 100

    def token(**options: Any) -> str:
        return personal_tokens.create(user=zebra.user, name="t", **options)[1]

    expired, revoked = token(), token()
    PersonalAccessToken.objects.filter(digest=digest_of(expired)).update(expires_at=clock.now())
    PersonalAccessToken.objects.filter(digest=digest_of(revoked)).update(revoked_at=clock.now())
    refused = {
        None: 401,
        "": 401,
        "pat_": 401,
        "pat_" + "a" * 43: 401,
        token()[:-1]: 401,
        expired: 401,
        revoked: 401,
        zebra.key: 403,
        heron.key: 403,
    }
    for secret, status in refused.items():
        for path in paths(zebra.word, zebra.dataset.pk):
            response = Management(secret).call("POST", path, QUERIES[1])
            assert response.status_code == status, secret
            assert SECRET not in response.text
    reader = Management(token(scope="read"))
    assert all(reader.call("POST", path, {}).status_code == 200 for path in paths(zebra.word, zebra.dataset.pk))
    User.objects.filter(pk=zebra.user.pk).update(is_active=False)
    assert all(reader.call("POST", path, {}).status_code == 401 for path in paths(zebra.word, zebra.dataset.pk))


def test_a_cursor_of_another_dataset_shows_none_of_its_records(zebra: Tenant, heron: Tenant) -> None:
    query = QUERIES[3]
    page = zebra.client.ok("POST", f"/datasets/{zebra.word}/{zebra.dataset.pk}/query", query)
    answer = heron.client.call("POST", f"/datasets/heron/{heron.dataset.pk}/query", {**query, "cursor": page["cursor"]})
    assert error_of(answer) == (400, "Invalid query", "invalid_query")
    assert SECRET not in answer.text


def test_the_table_of_another_dataset_is_not_read(zebra: Tenant, heron: Tenant) -> None:
    """A restored database may give a new dataset the ID of an earlier dataset, whose table still exists."""
    Dataset.objects.filter(pk=heron.dataset.pk).update(table_id=uuid4())
    for response in everything(heron.client, "heron", heron.dataset.pk):
        assert error_of(response)[0] == 503
        assert "heron" not in response.text
