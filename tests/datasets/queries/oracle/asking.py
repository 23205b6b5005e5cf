"""Run a query as a query process does, and read its answer in JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any

from datasets.models import Dataset
from datasets.queries.columns import fields_of
from datasets.queries.execution.snapshot import Location
from datasets.queries.processes import formats, running
from datasets.queries.processes.messages import Job

_MEMORY = 256 * 1024**2


def ask(dataset: Dataset, query: Any) -> dict[str, Any]:
    """Return the answer to a query, or the reason why there is none. Numbers with a point become Decimals."""
    fields = fields_of(dataset)
    assert fields is not None
    job = Job(json.dumps(query).encode(), fields, Location.of(dataset), formats.JSON, _MEMORY)
    file = BytesIO()
    outcome = running.run(job, file)
    if outcome.failure is not None:
        return {"failure": outcome.failure.value, **outcome.details}
    found: dict[str, Any] = json.loads(file.getvalue(), parse_float=Decimal)
    return found
