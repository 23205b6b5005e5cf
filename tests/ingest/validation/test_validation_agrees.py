"""A body gets the same answer in each way of reading: fast, twice, as a large body, in a batch, in lines.

The validator reads plain bodies in a faster way. These tests read the same body in each way, compare the answers with
those of `reader.py`, and read accepted bodies as a worker does.
"""

import json
import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.common.errors import ApiError
from datasets.schemas.derived_types import type_of
from datasets.schemas.field_types import arrow_timestamp
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema
from ingest.errors import InvalidRecords
from ingest.queue.formats import Payload
from ingest.queue.stream import Entry
from ingest.storing.conversion import to_table
from ingest.validation.msgspec_gaps import may_be_misread
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.ingest.validation.reader import Number, Pairs, Refused, expected, microseconds
from tests.ingest.validation.values import BAIT, REFUSED, TAKEN, near_valid_records, schemas

# To run more examples: EXAMPLES=200000 python -m pytest tests/ingest/validation/test_validation_agrees.py
EXAMPLES = int(os.environ.get("EXAMPLES", "500"))
SCHEMA = CompiledSchema(1, [Field("t", "timestamp"), Field("s", "string")])

# -- each way to read a body --------------------------------------------------------------------------

NOT_JSON = ("refused", "Invalid JSON body")


def verdict(schema: CompiledSchema, record: bytes) -> tuple[str, Any]:
    """Return `("accepted", row)` or `("refused", problems)`. Assert that each way of reading gives the same result."""
    first = _outcome(schema, validate_one, record)
    others = {"large": _outcome(schema, validate_one, b" " * 10_000 + record)}
    if b"\n" not in record:
        others["lines"] = _outcome(schema, validate_lines, b"\n" + record + b"\n\r\n")
    if first != NOT_JSON:  # a text like `1,2` is not JSON, but in brackets it is a valid array
        others["array"] = _outcome(schema, validate_array, b" [" + record + b"\n]")
        others["many"] = _outcome(schema, validate_array, b"[" + b",".join([record] * 40) + b"]")
        others["read twice"] = _outcome(schema, validate_array, b"[" + record + b"," + _baited(schema) + b"]")
    assert all(other == first for other in others.values()), {"plain": first, **others}
    return first


def _baited(schema: CompiledSchema) -> bytes:
    """Return a valid record that makes the validator read its body a second time."""
    values = {"timestamp": '"2026-06-10T10:58:00Z"', "context": '{"":"9-12 10:30"}'}
    values |= {field.name: json.dumps(type_of(field).example) for field in schema.fields if field.pattern is None}
    values |= {field.name: '""' for field in schema.fields if field.pattern is not None}
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in values.items()) + "}").encode()


def _outcome(schema: CompiledSchema, validate: Any, body: bytes) -> tuple[str, Any]:
    try:
        payload = validate(schema, body)
    except InvalidRecords as refusal:
        first = [problem for problem in refusal.details["errors"] if problem.pop("index", 0) == 0]
        return "refused", first
    except ApiError as refusal:
        return "refused", refusal.error
    return "accepted", _first_row(schema, payload)


def _first_row(schema: CompiledSchema, payload: Payload) -> dict[str, Any]:
    """Return the first row that a worker would write for an accepted body. Timestamps are microseconds since 1970."""
    entry = Entry("1-0", payload.body, payload.format, payload.count, 1, "t", "1-0", len(payload.body))
    table = to_table(schema, [entry], project_id=1, dataset_id=1, number=1)
    assert len(table) == payload.count
    names = ["timestamp", "context", *(field.name for field in schema.fields)]
    columns = {name: _numbered(table[name].slice(0, 1)) for name in names}
    return {name: column.to_pylist()[0] for name, column in columns.items()}


def _numbered(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert the times of a column to numbers."""
    kinds = {arrow_timestamp(): pa.int64(), pa.list_(arrow_timestamp()): pa.list_(pa.int64())}
    return column.cast(kinds[column.type]) if column.type in kinds else column


# -- tables -------------------------------------------------------------------------------------------


def example(timestamp: str, text: str = '"x"', context: str = "{}") -> bytes:
    return f'{{"timestamp":"2026-06-10T10:58:00Z","context":{context},"t":{timestamp},"s":{text}}}'.encode()


def test_date_time_is_accepted_and_keeps_microseconds() -> None:
    for text in TAKEN:
        for written in (json.dumps(text), _escaped(text)):
            outcome, row = verdict(SCHEMA, example(written))
            assert outcome == "accepted", text
            assert row["t"] == microseconds(text), text
            at_the_top = example('"2026-06-10T10:58:00Z"').replace(b'"2026-06-10T10:58:00Z"', written.encode(), 1)
            assert verdict(SCHEMA, at_the_top)[1]["timestamp"] == microseconds(text), text


def test_text_that_is_not_a_date_time_is_refused() -> None:
    for text in REFUSED:
        for written in (json.dumps(text), json.dumps(text, ensure_ascii=False), _escaped(text)):
            if written.isascii() or text.isprintable():
                outcome, problems = verdict(SCHEMA, example(written))
                assert outcome == "refused", text
                assert [problem["error"] for problem in problems] == ["Invalid timestamp field: t"], text
                at_the_top = example('"2026-06-10T10:58:00Z"').replace(b'"2026-06-10T10:58:00Z"', written.encode(), 1)
                outcome, problems = verdict(SCHEMA, at_the_top)
                assert [problem["error"] for problem in problems] == ["Invalid or missing timestamp"], text


def _escaped(text: str) -> str:
    """Return a text as JSON, with every character written as an escape."""
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


@pytest.mark.parametrize(
    ("text", "is_lax"),
    [(b'10:58:00-0530"', True), (b'10:58:00.25+0000"', True), (b"06-10 10:", True), (b'555-1234"', False)],
)
def test_an_invalid_timestamp_is_found_at_any_place(text: bytes, is_lax: bool) -> None:
    """The place is at the beginning, at the end, or across the borders of the blocks that the search reads."""
    for before in range(200):
        for after in (0, 1, 31, 64, 129):
            body = b"x" * before + text + b"x" * after
            assert may_be_misread(body) is is_lax, (before, after)


def test_text_that_looks_like_a_lax_time_stamp_is_text() -> None:
    for text in BAIT:
        context = json.dumps({text: [text]})
        outcome, row = verdict(SCHEMA, example('"2026-06-10T10:58:00Z"', json.dumps(text), context))
        assert outcome == "accepted", text
        assert (row["s"], row["context"]) == (text, context)
        assert verdict(SCHEMA, example(json.dumps(text)))[0] == "refused"


# -- property ---------------------------------------------------------------------------------------


@given(st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_way_of_reading_gives_the_contracts_answer(data: st.DataObject) -> None:
    fields = data.draw(schemas)
    schema = CompiledSchema(1, fields)
    record = data.draw(near_valid_records(fields))
    outcome, found = verdict(schema, record)
    try:
        row = expected(schema, record)
    except Refused:
        assert outcome == "refused"
        return
    assert outcome == "accepted", found
    context = found["context"]
    assert context.strip() == context or context.encode() in record
    for name in ("context", *(field.name for field in fields if field.type == "json")):
        text = found.pop(name)
        read = None if text is None else json.loads(text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)
        assert read == row.pop(name)
    assert found == row
