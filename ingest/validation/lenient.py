"""Accept the good records of a batch, and refuse only the bad ones.

A client asks for this with `Prefer: handling=lenient` (RFC 7240). Some log shippers repeat a refused batch forever,
each time with more lines. Without lenient handling, one bad record would block all further records.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from urllib.request import parse_http_list

import msgspec

from config.common.errors import InvalidJson
from datasets.schemas.explanations import json_type
from datasets.schemas.schema import CompiledSchema
from ingest.errors import InvalidRecords
from ingest.queue.formats import ARRAY, OBJECT, Payload, Rejected, lines_of, starts_of_lines
from ingest.validation.body import NDJSON
from ingest.validation.json_errors import TOO_DEEP, check_line
from ingest.validation.json_text import elements, is_json
from ingest.validation.payloads import payload_of
from ingest.validation.record_errors import MAX_PROBLEMS, Good, Problem, examine, good

APPLIED = {"Preference-Applied": "handling=lenient"}

# Redis keeps the answer with its Idempotency-Key, so `errors` must not be long.
_MAX_ERRORS_BYTES = 8192

# Name and value of a preference. Parameters may follow.
_PREFERENCE = re.compile(r'\s*([^\s=;"]+)\s*(?:=\s*"?([^\s;"]*)"?)?').match

_encode = msgspec.json.encode


@lru_cache(maxsize=256)
def is_preferred(header: str) -> bool:
    """Return whether a Prefer header asks for lenient handling. If a preference occurs twice, the first one counts."""
    for preference in parse_http_list(header):
        match = _PREFERENCE(preference)
        if match and match[1].lower() == "handling":
            return match[2] is not None and match[2].lower() == "lenient"
    return False


def validate_leniently(
    validate: Callable[..., Payload],
    content_type: str,
    schema: CompiledSchema,
    body: bytes,
    *,
    earlier: CompiledSchema | None = None,
) -> Payload:
    """Return a payload of the good records of a batch. The field `rejected` describes the refused records.

    Raise the error of `validate` if no record is good, or if the batch as a whole is not valid. A single record is not
    handled leniently.
    """
    try:
        payload = validate(schema, body, earlier=earlier)
    except (InvalidJson, InvalidRecords) as refusal:
        records = _records(content_type, body, refusal)
        if records is None:
            raise
        payload = _taken(schema, earlier, body, records)
        if payload.count == 0:
            raise
        return payload
    if payload.format == OBJECT:
        return payload
    return msgspec.structs.replace(payload, rejected=Rejected(0, _answer(0, []), []))


def _records(content_type: str, body: bytes, refusal: InvalidJson | InvalidRecords) -> Iterable[bytes] | None:
    """Return the records of a batch that has bad records, or None for any other body."""
    if content_type == NDJSON:
        return lines_of(body) if "index" in refusal.details else None
    is_batch = isinstance(refusal, InvalidRecords) and json_type(body) == "array"
    return elements(body) if is_batch else None


def _taken(schema: CompiledSchema, earlier: CompiledSchema | None, body: bytes, records: Iterable[bytes]) -> Payload:
    starts = enumerate(starts_of_lines(body))
    texts: list[bytes] = []
    marks: list[bool] = []
    problems: list[Problem] = []
    first: list[tuple[Problem, bytes]] = []
    count = 0
    for index, record in enumerate(records):
        # If the answer is already full, only find out whether the record is good.
        if len(problems) <= MAX_PROBLEMS:
            found, taken = examined(schema, earlier, record, partial(check_line, body, record, index, starts))
        else:
            found, taken = [], _good(schema, earlier, record)
        if taken is not None:
            texts.append(taken.text)
            marks.append(taken.by_earlier)
            continue
        count += 1
        if found:
            told = [{"error": each["error"], "code": each["code"], "index": index, **each} for each in found]
            problems += told
            first.append((told[0], record))
    rejected = Rejected(count, _answer(count, problems), first[:MAX_PROBLEMS])
    payload = payload_of(schema, texts, earlier, marks) if texts else Payload(b"[]", ARRAY, 0)
    return msgspec.structs.replace(payload, rejected=rejected)


def examined(
    schema: CompiledSchema, earlier: CompiledSchema | None, record: bytes, check: Callable[[], None]
) -> tuple[list[Problem], Good | None]:
    """Return the problems of a record and None, or no problems and the good record."""
    try:
        check()
        (examined,) = examine(schema, [record], indexed=False, earlier=earlier)
    except InvalidJson as refusal:
        return [refusal.body()], None
    except RecursionError:
        return [InvalidJson({"detail": TOO_DEEP}).body()], None
    return examined.problems, None if examined.problems else Good(examined.text, examined.by_earlier)


def _good(schema: CompiledSchema, earlier: CompiledSchema | None, record: bytes) -> Good | None:
    try:
        return good(schema, earlier, record) if is_json(record) else None
    except RecursionError:
        return None


def _answer(count: int, problems: list[Problem]) -> bytes:
    """Return the members of the 202 answer about refused records, as JSON text without braces."""
    shown: list[Problem] = []
    size = 0
    for problem in problems[:MAX_PROBLEMS]:
        size += len(_encode(problem))
        if size > _MAX_ERRORS_BYTES:
            break
        shown.append(problem)
    truncated = {"truncated": True} if len(shown) < len(problems) else {}
    return _encode({"rejected": count, "errors": shown, **truncated})[1:-1]
