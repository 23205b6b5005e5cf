"""A table that the service itself writes, and the records that were sent to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from deltalake import DeltaTable
from django.conf import settings

from datasets import services
from datasets.models import Dataset
from datasets.schemas.declarations import parse_fields
from ingest.storing import upkeep
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.datasets.queries.oracle.engine import Source
from tests.datasets.queries.oracle.kinds import Column, value_of

Record = dict[str, Any]
Fields = Mapping[str, Any]  # as an admin declares them
_ALWAYS_THERE = {"timestamp": "timestamp", "ingested_at": "timestamp", "id": "string", "__traceId": "string"}


def _column(name: str, versions: Sequence[Fields]) -> Column:
    """Return the column of a field. It is optional if it was missing or optional in one of the versions."""
    said = [fields.get(name, "?") for fields in versions]
    declared = [str(each["type"]) if isinstance(each, dict) else each for each in said]
    is_optional = any(each.endswith("?") for each in declared) or any("optional" in each for each in said)
    return Column(name, declared[-1].removesuffix("?"), is_optional)


class Table:
    """A dataset to which tests send records as a client does, and the records that were sent."""

    def __init__(self, api: Api, dataset: Dataset) -> None:
        self.api = Api(api.token, dataset)
        self.dataset = dataset
        self.sent: list[Record] = []
        self.versions: list[Fields] = []

    def publish(self, fields: Fields) -> None:
        """Publish a schema version."""
        self.versions.append(fields)
        services.save_dataset(self.dataset, fields=parse_fields({"fields": fields}))

    def store(self, records: Sequence[Record], *, tidy: bool = False) -> None:
        """Send a batch and store it in a commit of its own. With `tidy`, merge the table's files."""
        trace = f"batch-{len(self.sent)}"
        numbered = [{**each, "context": {"n": number}} for number, each in enumerate(records, len(self.sent))]
        answer = self.api.batch(numbered, X_Request_Id=trace)
        assert answer.status_code == 202, answer.text
        self.sent += [{**each, "__traceId": trace} for each in numbered]
        drain(self.dataset.pk)
        if tidy:
            upkeep.tidy_tables(everything=True)

    def source(self) -> Source:
        """Return the sent records as columns. The service chose `id` and `ingested_at`: they come from the files."""
        columns = {name: _column(name, self.versions) for name in self.versions[-1]}
        columns |= {name: Column(name, declared) for name, declared in _ALWAYS_THERE.items()}
        chosen = self._chosen_by_the_service()
        rows = [
            {name: value_of(column.type, row.get(name)) for name, column in columns.items()}
            for row in (sent | more for sent, more in zip(self.sent, chosen, strict=True))
        ]
        return Source(columns, {name: [row[name] for row in rows] for name in columns})

    def _chosen_by_the_service(self) -> list[Record]:
        uri = f"{settings.STORAGE_URL}/project_{self.dataset.project_id}/dataset_{self.dataset.pk}"
        rows = DeltaTable(uri).to_pyarrow_table(columns=["id", "ingested_at", "context"]).to_pylist()
        rows.sort(key=lambda row: json.loads(row["context"])["n"])
        return [{"id": row["id"], "ingested_at": row["ingested_at"].astimezone(UTC).isoformat()} for row in rows]
