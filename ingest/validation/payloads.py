"""Validate a body against a dataset's schema: one JSON object, a JSON array, or NDJSON.

The first reading is one typed decode of whole records. If it fails, a second reading looks at each field and finds
every problem (`ingest.validation.record_errors`). Both readings use the decoders of `datasets.schemas.field_types`, so
they agree on every input.

In a grace period, `earlier` is the previous schema version. A record that matches both versions is accepted under the
latest version. Only the second reading tries the earlier version, so records of the latest version cost no extra time.
"""

from collections.abc import Sequence
from itertools import compress, islice

import msgspec
from django.conf import settings

from config.common.errors import InvalidJson
from datasets.schemas.explanations import json_type
from datasets.schemas.schema import CompiledSchema
from ingest.errors import EmptyBatch, InvalidRecords, TooManyRecords
from ingest.queue.formats import ARRAY, LINES, OBJECT, Earlier, Payload, lines_of, starts_of_lines
from ingest.validation.json_errors import EMPTY, TOO_DEEP, check_json, check_line
from ingest.validation.json_text import PARSE_ERRORS, elements
from ingest.validation.msgspec_gaps import has_date_times, is_utf8, may_be_misread
from ingest.validation.record_errors import MAX_PROBLEMS, Problem, examine


def validate_one(schema: CompiledSchema, body: bytes, *, earlier: CompiledSchema | None = None) -> Payload:
    """Return the payload of a body that must be one record.

    Raises:
        InvalidJson: The body is not JSON.
        InvalidRecords: The body is not a record that matches the schema.
    """
    try:
        schema.one.decode(body)
    except PARSE_ERRORS:
        pass
    else:
        if is_utf8(body) and (not may_be_misread(body) or has_date_times(schema, b"[%b]" % body)):
            return Payload(body, OBJECT, 1)
    check_json(body)
    payload = _second_reading(schema, [body], earlier, indexed=False)
    return msgspec.structs.replace(payload, body=payload.body[1:-1], format=OBJECT)


def validate_array(schema: CompiledSchema, body: bytes, *, earlier: CompiledSchema | None = None) -> Payload:
    """Return the payload of a body that must be a JSON array of records.

    Raises:
        InvalidJson: The body is not JSON.
        EmptyBatch: The body is not an array, or is an empty array.
        TooManyRecords: The body has more records than a batch may have.
        InvalidRecords: Records do not match the schema.
    """
    most: int = settings.MAX_BATCH_RECORDS
    try:
        count = len(schema.many.decode(body))
    except PARSE_ERRORS:
        pass
    else:
        if 0 < count <= most and is_utf8(body) and (not may_be_misread(body) or has_date_times(schema, body)):
            return Payload(body, ARRAY, count)
    check_json(body)
    if json_type(body) != "array":
        raise EmptyBatch
    try:
        records = list(islice(elements(body), most + 1))
    except RecursionError:  # see `_second_reading`
        raise InvalidJson({"detail": TOO_DEEP}) from None
    if not records:
        raise EmptyBatch
    if len(records) > most:
        raise TooManyRecords({"limit": most})
    return _second_reading(schema, records, earlier, indexed=True)


def validate_lines(schema: CompiledSchema, body: bytes, *, earlier: CompiledSchema | None = None) -> Payload:
    """Return the payload of a body that must be NDJSON: one record per line. Blank lines are ignored.

    Raises:
        InvalidJson: A line is not JSON, or all lines are blank.
        TooManyRecords: The body has more records than a batch may have.
        InvalidRecords: Records do not match the schema.
    """
    most: int = settings.MAX_BATCH_RECORDS
    lines = lines_of(body, most + 1)
    if not lines:
        raise InvalidJson({"detail": EMPTY})
    if len(lines) > most:
        raise TooManyRecords({"limit": most})
    decode = schema.one.decode
    try:
        for line in lines:
            decode(line)
    except PARSE_ERRORS:
        pass
    else:
        if is_utf8(body) and (not may_be_misread(body) or has_date_times(schema, b"[%b]" % b",".join(lines))):
            return Payload(body, LINES, len(lines))
    starts = enumerate(starts_of_lines(body))
    for index, line in enumerate(lines):
        check_line(body, line, index, starts)
    return _second_reading(schema, lines, earlier, indexed=True)


def _second_reading(
    schema: CompiledSchema, records: Sequence[bytes], earlier: CompiledSchema | None, *, indexed: bool
) -> Payload:
    """Return the records as an array that the typed decode accepts.

    If a name occurs twice in a record, only its last value counts and is queued. The first value may be wrong.

    Raises:
        InvalidRecords: The records have problems.
    """
    found: list[Problem] = []
    texts: list[bytes] = []
    marks: list[bool] = []
    try:
        for examined in examine(schema, records, indexed=indexed, earlier=earlier):
            found += examined.problems
            texts.append(examined.text)
            marks.append(examined.by_earlier)
            if len(found) > MAX_PROBLEMS:
                break
        if found:
            first = records[int(str(found[0].get("index", 0)))]
            raise InvalidRecords(found[:MAX_PROBLEMS], truncated=len(found) > MAX_PROBLEMS, record=first)
        return payload_of(schema, texts, earlier, marks)
    except RecursionError:  # `check_json` had more stack left, so it could still parse this body
        raise InvalidJson({"detail": TOO_DEEP}) from None


def payload_of(
    schema: CompiledSchema, texts: Sequence[bytes], earlier: CompiledSchema | None, marks: Sequence[bool]
) -> Payload:
    """Return a payload of good records. The marked records match only `earlier`.

    Raises:
        msgspec.DecodeError: The two readings disagree. So the request fails here, and not later in a worker.
        RecursionError: A record nests too deep.
    """
    body = b"[%b]" % b",".join(texts)
    by_earlier = Earlier.of(earlier.version_id, marks) if earlier else None
    if earlier is None or by_earlier is None:
        schema.many.decode(body)
        return Payload(body, ARRAY, len(texts))
    for version, is_earlier in ((schema, False), (earlier, True)):
        version.many.decode(b"[%b]" % b",".join(compress(texts, (mark == is_earlier for mark in marks))))
    return Payload(body, ARRAY, len(texts), earlier=by_earlier)
