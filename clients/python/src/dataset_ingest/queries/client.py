"""The client of the management API."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from dataset_ingest.base import answered, failed, httpx_request
from dataset_ingest.delivery import answers
from dataset_ingest.delivery.steps import Answer, NoAnswer, Request
from dataset_ingest.options import address_of, authorization_of
from dataset_ingest.queries.builder import Query, Result
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

_ATTEMPTS = 5


class DatasetQueryClient:
    """Manages the datasets of a project, and queries their records.

    Args:
        base_url: The address of the service, like `https://ingest.example.com`.
        token: A personal access token, which begins with `pat_`.
        project: The slug of the project.
        transport: A transport of httpx, for proxies, certificates or tests.
        timeout: How long to wait for a connection, and for each part of an answer, in seconds.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        project: str,
        transport: httpx.BaseTransport | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._project = urllib.parse.quote(project, safe="")
        headers = {"Authorization": authorization_of(token), "User-Agent": f"dataset-ingest-client/{__version__}"}
        self._http = httpx.Client(base_url=address_of(base_url), headers=headers, timeout=timeout, transport=transport)

    # -- datasets and schemas

    def datasets(self) -> Iterator[dict[str, Any]]:
        """Yield the datasets of the project."""
        return self._pages(f"/api/datasets/{self._project}", "datasets")

    def dataset(self, dataset_id: int) -> dict[str, Any]:
        """Return a dataset: its ID, slug, name, description and status."""
        return self._ask("GET", f"/api/datasets/{self._project}/{dataset_id}")

    def create_dataset(self, name: str, *, slug: str | None = None, description: str | None = None) -> dict[str, Any]:
        """Create a dataset, and return it."""
        said = {"name": name, "slug": slug, "description": description}
        body = {member: value for member, value in said.items() if value is not None}
        return self._ask("POST", f"/api/datasets/{self._project}", body)

    def update_dataset(self, dataset_id: int, **changes: Any) -> dict[str, Any]:
        """Change a dataset's `name`, `slug`, `description`, `archived` or `is_default`, and return it."""
        return self._ask("PATCH", f"/api/datasets/{self._project}/{dataset_id}", changes)

    def schema(self, dataset_id: int) -> dict[str, Any] | None:
        """Return the schema in force, or None if the dataset has none yet."""
        found: dict[str, Any] | None = self._ask("GET", self._schema_path(dataset_id))["schema"]
        return found

    def register(self, dataset: Dataset | Mapping[str, Any] | type) -> dict[str, Any]:
        """Publish the schema of a dataset if it differs from the schema in force. Return the schema."""
        known = Dataset.of(dataset)
        if known.id is None:
            raise ValueError("The dataset needs an ID.")
        return self.publish(known.id, known.declared())

    def publish(self, dataset_id: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Publish a schema if it differs from the schema in force. Return the schema."""
        found: dict[str, Any] = self._ask("POST", self._schema_path(dataset_id), {"fields": fields})["schema"]
        return found

    # -- API keys

    def api_keys(self) -> Iterator[dict[str, Any]]:
        """Yield the project's API keys."""
        return self._pages(f"/api/keys/{self._project}", "keys")

    def create_key(self, name: str, *, expires_at: str | None = None) -> dict[str, Any]:
        """Create an API key. Only this answer has its `token`."""
        expiry = {} if expires_at is None else {"expires_at": expires_at}
        return self._ask("POST", f"/api/keys/{self._project}", {"name": name, **expiry})

    def revoke_key(self, key_id: int | str) -> None:
        """Revoke an API key."""
        self._ask("DELETE", f"/api/keys/{self._project}/{key_id}")

    # -- queries

    def from_(self, dataset: Dataset | Mapping[str, Any] | type | int) -> Query:
        """Return a query of a dataset. The dataset is given with its fields, or by its ID."""
        dataset_id = dataset if isinstance(dataset, int) else Dataset.of(dataset).id
        return Query(lambda said: self.query(dataset_id, said))

    def query(self, dataset_id: int | None, said: Mapping[str, Any]) -> Result:
        """Run a query in the query language of the service. If `dataset_id` is None, read the default dataset."""
        place = "" if dataset_id is None else f"/{dataset_id}"
        answer = self._ask("POST", f"/api/datasets/{self._project}{place}/query", said)
        truncated = bool(answer.get("truncated"))
        return Result(answer["columns"], answer["rows"], truncated, answer.get("stats", {}), answer.get("cursor"))

    # -- requests

    def _schema_path(self, dataset_id: int) -> str:
        return f"/api/datasets/{self._project}/{dataset_id}/schema"

    def _pages(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        following: str | None = path
        while following is not None:
            page = self._ask("GET", following)
            yield from page[name]
            following = page["next"]

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the body of an answer. A GET is repeated if the service does not answer."""
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = Request(method, path, headers, content)
        attempts = _ATTEMPTS if method == "GET" else 1
        for number in range(1, attempts + 1):
            reply = self._send(request)
            if answers.is_accepted(reply):
                return reply.body()
            if number == attempts or not answers.is_retried(reply):
                break
            time.sleep(max(0.1 * 2**number, answers.retry_after(reply)))
        raise answers.error(reply, None)

    def _send(self, request: Request) -> Answer | NoAnswer:
        try:
            return answered(self._http.send(httpx_request(self._http, request)))
        except httpx.HTTPError as error:
            return failed(error)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
