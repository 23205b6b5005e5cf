"""Measure validation and conversion in this process: the contract's example, and schemas of 100 fields."""

import json
import time
from collections.abc import Callable
from typing import Any

from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema
from ingest.queue.stream import Entry
from ingest.storing.conversion import to_table
from ingest.validation.payloads import validate_array, validate_one
from tests.benchmarks.options import Options
from tests.benchmarks.payloads import FIELDS
from tests.benchmarks.report import Report, Row, number
from tests.benchmarks.systems.stack import Stack

_BATCH = 100
_OLD = ("string", "number", "boolean", "timestamp")
_NEW = ("integer", "decimal(10,2)", "date", "uuid", "json", "enum", "string[]", "number[]", "integer[]", "timestamp[]")


def _mixed(size: int) -> list[Field]:
    """Return fields of all types. Every second one is optional, and every fourth one is absent from the records."""
    kinds = [*_OLD, *_NEW]
    return [
        Field(
            f"f{n}",
            kinds[n % len(kinds)],
            optional=n % 2 == 1,
            values=("a", "b") if kinds[n % len(kinds)] == "enum" else (),
        )
        for n in range(size)
    ]


SCHEMAS: dict[str, list[Field]] = {
    "the example's 5 fields": FIELDS,
    "100 required fields of the four types": [Field(f"f{n}", _OLD[n % 4]) for n in range(100)],
    "100 fields of all types, 50 optional": _mixed(100),
    "5 fields with limits": [
        Field("a", "number", minimum=0, maximum=100),
        Field("b", "string", max_length=100),
        Field("c", "integer", minimum=0),
        Field("d", "string", max_length=100, pattern="^[a-z]+$"),
        Field("e", "date", minimum="2000-01-01"),
    ],
}


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure each schema in turn, and keep the best of all rounds, because other processes can only slow them down."""
    cases = {name: _steps(fields) for name, fields in SCHEMAS.items()}
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.rounds * 50):
        for name, steps in cases.items():
            for step, (records, call) in steps.items():
                began = time.perf_counter()
                call()
                took = (time.perf_counter() - began) / records * 1e6
                best[name, step] = min(took, best.get((name, step), took))
    first = next(iter(cases))
    for (name, step), took in best.items():
        case = f"Validation in process: {name}" if step == "a single record" else ""
        ratio = f"{took / best[first, step]:.1f} times the example" if name != first else ""
        report.add(Row(f"{step}, us/record", {"product": number(took)}, case=case, ratio=ratio))
        report.raw(f"schemas: {name}: {step}", took)
    report.progress("schemas: measured")


def _steps(fields: list[Field]) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return each step that a record goes through, with the number of records that one call handles."""
    schema = CompiledSchema(1, fields)
    record: dict[str, Any] = {"timestamp": "2026-06-10T10:58:00Z", "context": {"source": "billing-service"}}
    record |= {
        field.name: type_of(field).example for n, field in enumerate(fields) if not (field.optional and n % 4 == 1)
    }
    one = json.dumps(record, separators=(",", ":")).encode()
    batch = b"[" + b",".join([one] * _BATCH) + b"]"
    payload = validate_array(schema, batch)
    entry = Entry("1-0", payload.body, payload.format, payload.count, 1, "t", "1-0", len(payload.body))
    return {
        "a single record": (_BATCH, lambda: [validate_one(schema, one) for _ in range(_BATCH)]),
        f"in a batch of {_BATCH}": (_BATCH, lambda: validate_array(schema, batch)),
        "conversion to columns": (_BATCH, lambda: to_table(schema, [entry], project_id=1, dataset_id=1, number=1)),
    }
