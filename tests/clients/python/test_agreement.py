"""The validation of the client and of the service agree on every record, and in every word except a JSON error's place.

AGREEMENT_RECORDS=100000 AGREEMENT_SEED=2 .venv/bin/python -m pytest -s tests/clients/python/test_agreement.py

compares 100,000 generated records.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import msgspec
from dataset_ingest.schema.fields import read_fields
from dataset_ingest.schema.problems import MAX_PROBLEMS
from dataset_ingest.schema.records import Records, Refused
from hypothesis import HealthCheck, Phase, given, seed, settings

from config.common.errors import ApiError
from datasets.schemas.declarations import parse_fields
from datasets.schemas.schema import CompiledSchema
from ingest.validation.json_text import elements, is_json
from ingest.validation.payloads import validate_one
from tests.support.contract.field_types import VALUES
from tests.support.contract.hostile import Question, questions

RECORDS = int(os.environ.get("AGREEMENT_RECORDS", "2000"))
SEED = int(os.environ.get("AGREEMENT_SEED", "1"))
_QUESTIONS_AT_ONCE = 500


@lru_cache(maxsize=1000)
def both(fields: tuple[tuple[str, str], ...]) -> tuple[CompiledSchema, Records]:
    """Return a schema as the service compiles it, and as the client does."""
    values = list(VALUES)
    declared = {name: {"type": kind, "values": values} if kind.startswith("enum") else kind for name, kind in fields}
    return CompiledSchema(1, parse_fields({"fields": declared})), Records(read_fields(declared))


def problems_of_service(schema: CompiledSchema, record: bytes) -> list[dict[str, Any]]:
    try:
        validate_one(schema, record)
    except ApiError as refusal:
        said: dict[str, Any] = json.loads(json.dumps(refusal.body()))
        found: list[dict[str, Any]] = said.get("errors", [said])
        return found
    return []


def problems_of_client(records: Records, record: bytes) -> list[dict[str, Any]]:
    try:
        records.check(record)
    except Refused as refusal:
        told = (msgspec.to_builtins(each) for each in refusal.problems[:MAX_PROBLEMS])
        return [{name: value for name, value in each.items() if value is not None} for each in told]
    return []


def records_in(question: Question) -> Iterator[bytes]:
    """Yield the records of a body, or the whole body if it is no batch."""
    if question.form == "array" and is_json(question.body) and question.body.lstrip()[:1] == b"[":
        yield from elements(question.body.strip())
    elif question.form == "lines":
        yield from (line for line in question.body.split(b"\n") if line.strip())
    else:
        yield question.body


def test_client_and_service_agree_on_generated_records() -> None:
    tally: Counter[str] = Counter()

    def compare(question: Question) -> None:
        schema, records = both(tuple(question.fields.items()))
        for record in records_in(question):
            said, ours = problems_of_service(schema, record), problems_of_client(records, record)
            if said and said[0]["code"] == "invalid_json":  # the client does not name the line and the column
                assert [each["code"] for each in ours] == ["invalid_json"]
            else:
                assert ours == said
            tally[said[0]["code"] if said else "accepted"] += 1

    for number in count(SEED * 1_000_000):
        asking = settings(
            max_examples=_QUESTIONS_AT_ONCE,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(asking(given(questions())(compare)))()
        if tally.total() >= RECORDS:
            break
    print(f"\nagreement: {dict(tally)}")
    assert {"accepted", "invalid_field", "invalid_timestamp", "extra_field", "invalid_json"} <= set(tally)
