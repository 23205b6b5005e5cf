"""Find every problem of a record that does not match its schema, for the errors of a 400 answer.

This reading goes field by field. Only one record at a time is in memory as Python objects. If a large record has more
unknown fields than an answer can name, it holds only the first of these.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypedDict

import msgspec
from msgspec import Raw, Struct

from datasets.schemas.explanations import json_type
from datasets.schemas.field_types import FIELD_TYPES, FieldType
from datasets.schemas.fields import ALWAYS_THERE
from datasets.schemas.schema import CompiledSchema
from ingest.validation.json_text import PARSE_ERRORS
from ingest.validation.msgspec_gaps import has_date_times, may_be_misread

MAX_PROBLEMS = 20
MAX_CHARACTERS = 100  # an answer shows at most this number of characters of a field's name

Problem = dict[str, object]
_TIMESTAMP = FIELD_TYPES["timestamp"]

# If a record has more bytes than this, not all its members are held as Python objects at the same time.
_MAX_BYTES_AT_ONCE = 64 * 1024
_all_members = msgspec.json.Decoder(dict[str, Raw]).decode


class Examined(Struct, frozen=True):
    """A record with its problems (at most one more than an answer lists) and its text.

    If there are problems, `text` is what was sent. If there are none, `text` is the text for the queue. It differs from
    what was sent if a name occurs twice, first with a wrong value: only the last value counts and is queued.
    """

    index: int
    problems: list[Problem]
    text: bytes
    by_earlier: bool = False  # whether the record matches only the earlier schema version


def examine(
    schema: CompiledSchema, records: Iterable[bytes], *, indexed: bool, earlier: CompiledSchema | None = None
) -> Iterator[Examined]:
    """Yield each record with its problems.

    Args:
        schema: The schema that the records must match.
        records: JSON texts that `check_json` has accepted.
        indexed: Whether each problem gets the index of its record in the batch.
        earlier: The previous schema version, if it is in its grace period. A record must match `schema` or `earlier`.
            If it matches neither, its problems are those of `schema`.

    Raises:
        RecursionError: A record nests too deep.
    """
    for index, record in enumerate(records):
        taken = good(schema, earlier, record)
        if taken is not None:
            yield Examined(index, [], *taken)
            continue
        problems = _problems(schema, record)
        if not problems:  # near the depth limit, the two readings may disagree
            raise RecursionError
        yield Examined(index, [{"index": index, **each} for each in problems] if indexed else problems, record)


class Good(NamedTuple):
    """A record without problems: its text for the queue, and whether it matches only the earlier schema version."""

    text: bytes
    by_earlier: bool


def good(schema: CompiledSchema, earlier: CompiledSchema | None, record: bytes) -> Good | None:
    """Return the record as a Good, or None if it has a problem. This function does not list the problems.

    Args:
        schema: The schema that the record must match.
        earlier: The previous schema version, if it is in its grace period.
        record: A JSON text that `check_json` has accepted.

    Raises:
        RecursionError: The record nests too deep.
    """
    text = _good_text(schema, record)
    if text is not None:
        return Good(text, by_earlier=False)
    text = _good_text(earlier, record) if earlier is not None else None
    return None if text is None else Good(text, by_earlier=True)


def _good_text(schema: CompiledSchema, record: bytes) -> bytes | None:
    if _is_valid(schema, record):
        return record
    if json_type(record) != "object":
        return None
    is_small = len(record) <= _MAX_BYTES_AT_ONCE
    once = msgspec.json.encode(_all_members(record) if is_small else _members(schema, record))
    return once if _is_valid(schema, once) else None


def _is_valid(schema: CompiledSchema, record: bytes) -> bool:
    try:
        schema.one.decode(record)
    except PARSE_ERRORS:
        return False
    return not may_be_misread(record) or has_date_times(schema, b"[%b]" % record)


def _problems(schema: CompiledSchema, record: bytes) -> list[Problem]:
    """Return the problems of a record, at most one more than an answer lists."""
    received = json_type(record)
    if received != "object":
        problem = _problem("Payload must be an object", "not_an_object", None, "object", record)
        if received == "array":
            problem["detail"] = "A batch is one array of objects. Send it to /batch as application/json."
        return [problem]
    values = {name: bytes(value) for name, value in _members(schema, record).items()}
    return list(islice(_record_problems(schema, values), MAX_PROBLEMS + 1))


class _Name(str):
    """The name of a member. msgspec calls our hook for this type."""

    __slots__ = ()


class _TooManyNames(Exception):
    """A record has more unknown names than an answer can list."""


def _members(schema: CompiledSchema, record: bytes) -> dict[str, Raw]:
    """Return an object's members in order.

    If there are more unknown names than an answer can list, return only the first unknown members, `timestamp` and
    `context`.
    """
    kept: dict[str, _Name] = {}
    others: list[str] = []

    def keep(_: type, name: str) -> _Name:
        found = kept.get(name)
        if found is None:
            if not schema.knows(name):
                if len(others) > MAX_PROBLEMS:
                    raise _TooManyNames
                others.append(name)
            found = kept[name] = _Name(name)
        return found

    try:
        return msgspec.json.Decoder(dict[_Name, Raw], dec_hook=keep).decode(record)  # type: ignore[return-value]
    except _TooManyNames:
        return _values_of([*ALWAYS_THERE, *others], record)


def _values_of(names: list[str], record: bytes) -> dict[str, Raw]:
    """Return the last values of these names in an object. Make no Python object for any other name."""
    make: Any = TypedDict
    # msgspec compares names as UTF-8. A str that is not ASCII has its UTF-8 only after it was encoded once.
    msgspec.json.encode(names)
    values: dict[str, Raw] = msgspec.json.decode(record, type=make("Values", dict.fromkeys(names, Raw), total=False))
    return values


def _record_problems(schema: CompiledSchema, values: dict[str, bytes]) -> Iterator[Problem]:
    """Yield the problems of one record, in the order that the API promises."""
    if "timestamp" not in values or not _TIMESTAMP.accepts(values["timestamp"]):
        yield _problem(
            "Invalid or missing timestamp", "invalid_timestamp", "timestamp", _TIMESTAMP, values.get("timestamp")
        )
    if "context" not in values or json_type(values["context"]) != "object":
        yield _problem("context must be an object", "invalid_context", "context", "object", values.get("context"))
    for name, value in values.items():
        if not schema.knows(name):
            shown = name[:MAX_CHARACTERS]
            yield _problem(f"Extra field: {shown}", "extra_field", shown, "nothing", value)
    for name, kind in schema.types.items():
        if name not in values and not kind.optional:
            yield _problem(f"Missing field: {name}", "missing_field", name, kind, None)
    for name, kind in schema.types.items():
        if name in values and not kind.accepts(values[name]):
            yield _problem(f"Invalid {kind.name} field: {name}", "invalid_field", name, kind, values[name])


def _problem(error: str, code: str, field: str | None, expected: FieldType | str, value: bytes | None) -> Problem:
    """Return one problem. `expected` is a type, or the text for the answer."""
    problem: Problem = {"error": error, "code": code}
    if field is not None:
        problem["field"] = field
    kind = expected if isinstance(expected, FieldType) else None
    problem["expected"] = kind.expected if kind else expected
    problem["received"] = "nothing" if value is None else json_type(value)
    detail = kind.why_not(value) if kind and value is not None else None
    if detail is not None:
        problem["detail"] = detail
    return problem
