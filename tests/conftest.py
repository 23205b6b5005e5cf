"""What tests share: a clean Redis, a project with a dataset and a key, a client of the application."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import TransactionTestCase

from config.common import redis
from datasets import services
from datasets.contracts import cache
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.fields import Field
from ingest.storing.drain import drain
from tests.support.sending.asgi import Transport
from tests.support.servers.cluster import ValkeyCluster, cluster

# Without this, the application's threads stay connected, and the tests' database cannot be deleted.
settings.DATABASES["default"]["CONN_MAX_AGE"] = 0

# The schema of the example in docs/api.md.
FIELDS = [
    Field("country", "string"),
    Field("plan", "string"),
    Field("amount", "number"),
    Field("active", "boolean"),
    Field("signup_at", "timestamp"),
]
RECORD: dict[str, Any] = {
    "timestamp": "2026-06-10T10:58:00Z",
    "context": {"source": "billing-service", "request_id": "req_123"},
    "country": "RO",
    "plan": "pro",
    "amount": 42.5,
    "active": True,
    "signup_at": "2026-06-01T08:00:00Z",
}


# After a test that commits, Django truncates every table and creates all permissions again. That takes most of a test's
# time. So this code truncates only tables of more than 1 MB. In the other tables, it deletes the rows if there are any.
_EMPTY = """
DO $$
DECLARE
    each record;
    holds_rows boolean;
BEGIN
    FOR each IN
        SELECT oid, oid::regclass AS name FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND relname NOT IN ('django_migrations', 'django_content_type', 'auth_permission', 'datasets_installation')
        ORDER BY pg_relation_size(oid) DESC  -- TRUNCATE must come before any DELETE
    LOOP
        IF pg_relation_size(each.oid) > 1000000 THEN
            EXECUTE format('TRUNCATE %s CASCADE', each.name);
            CONTINUE;
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', each.name) INTO holds_rows;
        IF holds_rows THEN
            EXECUTE format('DELETE FROM %s', each.name);
        END IF;
    END LOOP;
    UPDATE datasets_installation SET storage_marked = false;  -- each test has another storage
END
$$
"""


def _empty_tables(self: TransactionTestCase) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY)


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def clean_redis(tmp_path: Path) -> Iterator[None]:
    """Give every test an empty Redis, an empty catalog and a storage root of its own."""
    redis.client().flushall()
    cache.forget_all()
    before, settings.STORAGE_URL = settings.STORAGE_URL, str(tmp_path / "tables")
    yield
    settings.STORAGE_URL = before


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def project(owner: User) -> Project:
    return services.create_project(slug="billing", owner=owner)


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="Signups", fields=FIELDS)


@pytest.fixture
def key(project: Project) -> ApiKey:
    return services.create_key(project=project, name="tests")


class Api:
    """A client with a project's key. It calls the application as the web server does."""

    def __init__(self, token: str | None, dataset: Dataset | None = None) -> None:
        self.http = httpx.Client(transport=Transport(), base_url="http://testserver")
        self.token = token
        self.dataset = dataset

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = dict(kwargs.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        return self.http.request(method, path, headers=headers, **kwargs)

    def post(self, path: str, body: Any, content_type: str = "application/json", **headers: str) -> httpx.Response:
        """POST a body: bytes and text as they are, anything else as JSON. In names of headers, `_` means `-`."""
        if isinstance(body, str):
            body = body.encode()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, content=content, headers={"Content-Type": content_type, **given})

    def one(self, body: Any, **headers: str) -> httpx.Response:
        """POST to the dataset's address for one record."""
        assert self.dataset is not None
        return self.post(f"/datasets/{self.dataset.pk}", body, **headers)

    def batch(self, body: Any, **headers: str) -> httpx.Response:
        """POST to the dataset's address for a batch."""
        assert self.dataset is not None
        return self.post(f"/datasets/{self.dataset.pk}/batch", body, **headers)


@pytest.fixture
def api(key: ApiKey, dataset: Dataset) -> Api:
    return Api(issue_token(key), dataset)


def record(**changes: Any) -> dict[str, Any]:
    """Return the example's record, with changes. If the value of a field is `...`, the record lacks the field."""
    return {name: value for name, value in {**RECORD, **changes}.items() if value is not ...}


def stored(dataset: Dataset) -> list[dict[str, Any]]:
    """Drain the queue, and read the table's rows back in the order of acceptance."""
    drain(dataset.pk)
    uri = f"{settings.STORAGE_URL}/project_{dataset.project_id}/dataset_{dataset.pk}"
    rows: list[dict[str, Any]] = DeltaTable(uri).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: row["id"])


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Start a cluster of three primaries."""
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found
