"""The API as an OpenAPI 3.1 description, served at `/openapi.json`.

Statuses, texts and codes come from the error classes, limits from the settings; what a test cannot hold against the
code is prose.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from django.conf import settings

from config.common import arrival
from config.common import errors as general
from config.common.errors import ApiError
from datasets.contracts import catalog, keys
from ingest import errors
from ingest.validation.body import ENCODINGS, JSON, NDJSON
from ingest.validation.record_errors import MAX_PROBLEMS

Json = dict[str, Any]

# Problems of records: code -> the pattern of the text.
RECORD_PROBLEMS = {
    "not_an_object": "^Payload must be an object$",
    "invalid_timestamp": "^Invalid or missing timestamp$",
    "invalid_context": "^context must be an object$",
    "extra_field": "^Extra field: ",
    "missing_field": "^Missing field: ",
    "invalid_field": "^Invalid (string|number|boolean|timestamp) field: ",
}

# Which errors an operation can answer with, beside those of all.
_ALL = (general.ApiError, general.NotFound, general.InternalError)
_KEY = (
    errors.InvalidDatasetId,
    keys.MissingApiKey,
    keys.InvalidApiKey,
    keys.MissingProjectClaim,
    keys.PersonalTokenUsed,
    catalog.DatasetNotFound,
    errors.QueueUnavailable,
)
_BODY = (
    errors.InvalidJson,
    errors.InvalidRecords,
    errors.BodyTooLarge,
    arrival.BodyTooSlow,
    errors.LengthRequired,
    errors.UnsupportedMediaType,
    errors.UnsupportedEncoding,
)
_BATCH = (errors.EmptyBatch, errors.TooManyRecords)
_QUEUE = (
    errors.InvalidIdempotencyKey,
    errors.KeyInProgress,
    errors.KeyReused,
    errors.QuotaExceeded,
    errors.TooManyKeys,
    errors.QueueFull,
)

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_MOMENT: Json = {"type": "string", "format": "date-time"}
_QUOTA: Json = {
    "type": "object",
    "required": ["limit", "used", "requested", "remaining", "period", "resets_at"],
    "properties": {
        **dict.fromkeys(("limit", "used", "requested", "remaining"), _COUNT),
        "period": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
        "resets_at": _MOMENT,
    },
}
# Details that an error has beside `error` and `code`.
_DETAILS: dict[type[ApiError], Json] = {
    errors.InvalidDatasetId: {"received": _TEXT},
    errors.InvalidJson: {
        "index": {**_COUNT, "description": "of the element of an array, or of the line of NDJSON"},
        "detail": {**_TEXT, "description": "Line, column and byte (from 0) of the fault, and its cause."},
    },
    errors.BodyTooLarge: {"limit": _COUNT, "detail": _TEXT},
    errors.LengthRequired: {"detail": _TEXT},
    arrival.BodyTooSlow: {"detail": _TEXT},
    errors.TooManyRecords: {"limit": _COUNT},
    errors.UnsupportedMediaType: {"expected": _TEXT, "received": _TEXT, "detail": _TEXT},
    errors.UnsupportedEncoding: {"expected": _TEXT, "received": _TEXT, "detail": _TEXT},
    errors.QuotaExceeded: {"quota": _QUOTA},
    errors.TooManyKeys: {"limit": _COUNT, "detail": _TEXT},
    errors.QueueFull: {"detail": _TEXT},
    errors.QueueUnavailable: {"detail": _TEXT},
}
_PROBLEM: Json = {
    "type": "object",
    "required": ["error", "code", "expected", "received"],
    "properties": {
        "error": {"type": "string", "pattern": "|".join(RECORD_PROBLEMS.values())},
        "code": {"enum": list(RECORD_PROBLEMS)},
        "index": {**_COUNT, "description": "of the record; in a batch only"},
        "field": _TEXT,
        "expected": _TEXT,
        "received": {"enum": ["string", "number", "boolean", "null", "array", "object", "nothing"]},
        "detail": {**_TEXT, "description": "Why, where the text alone does not say it."},
    },
}
# What an answer says of the records that a lenient batch leaves out.
_REJECTED: Json = {
    "rejected": {**_COUNT, "description": "Records that were refused; with Prefer: handling=lenient only."},
    "errors": {"type": "array", "items": {"type": "object"}, "maxItems": MAX_PROBLEMS},
    "truncated": {"type": "boolean"},
}
_HEADERS: Json = {
    "X-Request-Id": {"description": "The client's, or a new one.", "schema": _TEXT, "required": True},
    "Retry-After": {
        "description": "Seconds; at most an hour, also where the quota resets later.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3600},
    },
    "WWW-Authenticate": {"schema": {"const": "Bearer"}},
    "Location": {"description": "The receipt.", "schema": {"type": "string", "pattern": "^/datasets/"}},
    "Idempotent-Replayed": {"schema": {"const": "true"}},
    "Preference-Applied": {"schema": {"const": "handling=lenient"}},
    "RateLimit-Policy": {"description": "draft-ietf-httpapi-ratelimit-headers; under a limit", "schema": _TEXT},
    "RateLimit": {"description": "draft-ietf-httpapi-ratelimit-headers; under a limit", "schema": _TEXT},
}
_HEADERS_OF = {
    200: ("Preference-Applied",),
    202: ("Location", "Idempotent-Replayed", "Preference-Applied", "RateLimit-Policy", "RateLimit"),
    401: ("WWW-Authenticate",),
    408: ("Retry-After",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit-Policy", "RateLimit"),
    503: ("Retry-After",),
}


@lru_cache(maxsize=1)
def description() -> Json:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dataset ingest",
            "version": "1",
            "description": "Takes JSON records, checks each against its dataset's schema, and stores it exactly once. "
            "Every answer is JSON but for /metrics. Other methods than those described are answered 405 with Allow. "
            f"A body may have {settings.MAX_BODY_BYTES} bytes, decompressed, and a batch "
            f"{settings.MAX_BATCH_RECORDS} records.",
        },
        "servers": [{"url": "/", "description": "The service that this description comes from."}],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A project API key."}},
            "headers": _HEADERS,
            "schemas": {**_schemas(), **{each.__name__: _error(each) for each in _every_error()}},
        },
    }


def _paths() -> Json:
    by_path, by_header = [_path_id()], [_header_id()]
    batch = {JSON: _ref("Batch"), NDJSON: _ref("Lines")}
    either = {JSON: {"anyOf": [_ref("Record"), _ref("Batch")]}, NDJSON: _ref("Lines")}
    receipt = {"name": "receipt", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    looked_up = [*_KEY, errors.ReceiptNotFound]
    checked = _operation("validate", "Say what ingest would say", [*_KEY, *_BODY, *_BATCH], {200: "Validated"})
    return {
        "/datasets/{dataset_id}": {"post": _ingest("one", by_path, {JSON: _ref("Record")}, (), "OneQueued")},
        "/datasets/{dataset_id}/batch": {"post": _ingest("batch", by_path, batch, _BATCH, "BatchQueued")},
        "/datasets": {"post": _ingest("one_by_header", by_header, {JSON: _ref("Record")}, (), "OneQueued")},
        "/datasets/batch": {"post": _ingest("batch_by_header", by_header, batch, _BATCH, "BatchQueued")},
        "/datasets/{dataset_id}/validate": {
            "post": {**checked, "parameters": [*by_path, _ENCODING, _PREFER], "requestBody": _body(either)}
        },
        "/datasets/{dataset_id}/receipts/{receipt}": {
            "get": {
                **_operation("receipt", "Where accepted records are now", looked_up, {200: "Receipt"}),
                "parameters": [*by_path, receipt],
            }
        },
        "/": {"get": {**_open("root", "Where the description and the admin are", {200: "Root"}), "responses": _root()}},
        "/healthz": {"get": _open("healthz", "This process answers", {200: "Health"})},
        "/readyz": {"get": _open("readyz", "Everything that ingest needs is there", {200: "Health", 503: "Health"})},
        "/openapi.json": {"get": _open("openapi", "This description", {200: "Anything"})},
        "/metrics": {"get": {**_open("metrics", "Prometheus text; totals only", {}), "responses": _metrics()}},
    }


def _ingest(name: str, parameters: list[Json], body: Json, more: Sequence[type[ApiError]], answer: str) -> Json:
    operation = _operation(name, "Queue records", [*_KEY, *_BODY, *more, *_QUEUE], {202: answer})
    headers = [_ENCODING, _IDEMPOTENCY, *([_PREFER] if answer == "BatchQueued" else [])]
    return {**operation, "parameters": [*parameters, *headers], "requestBody": _body(body)}


def _operation(name: str, summary: str, can_raise: Sequence[type[ApiError]], answers: dict[int, str]) -> Json:
    responses = {str(status): _response([_ref(schema)], status) for status, schema in answers.items()}
    known: list[type[ApiError]] = list(dict.fromkeys((*can_raise, *_ALL)))
    by_status = sorted(known, key=lambda each: (each.status, each.code))
    for status, group in groupby(by_status, key=lambda each: each.status):
        of_status = list(group)
        texts = ", ".join(each.error for each in of_status if each is not errors.InvalidRecords)
        responses[str(status)] = _response([_ref(each.__name__) for each in of_status], status, texts)
    return {"operationId": name, "summary": summary, "responses": responses}


def _open(name: str, summary: str, answers: dict[int, str]) -> Json:
    """An operation that asks for no key."""
    return {**_operation(name, summary, (), answers), "security": []}


def _metrics() -> Json:
    answer = _response([_TEXT], 200)
    answer["content"] = {"text/plain": {"schema": _TEXT}}
    return {**_operation("", "", (), {})["responses"], "200": answer}


def _root() -> Json:
    answer = _response([_ref("Root")], 200)
    answer["content"]["text/html"] = {"schema": _TEXT}
    return {**_operation("", "", (), {})["responses"], "200": answer}


def _response(schemas: list[Json], status: int, text: str = "") -> Json:
    names = ("X-Request-Id", *_HEADERS_OF.get(status, ()))
    return {
        "description": text or "Success",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}},
    }


def _error(error: type[ApiError]) -> Json:
    if error is errors.InvalidRecords:
        several = {"type": "array", "items": _PROBLEM, "minItems": 1, "maxItems": MAX_PROBLEMS}
        more = {"errors": several, "truncated": {"type": "boolean"}}
        return {**_PROBLEM, "required": [*_PROBLEM["required"], "errors"], "properties": _PROBLEM["properties"] | more}
    details = _DETAILS.get(error, {})
    return {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": {"const": error.error}, "code": {"const": error.code}, **details},
        "additionalProperties": False,
    }


def _every_error() -> Iterable[type[ApiError]]:
    return (*_ALL, *_KEY, *_BODY, *_BATCH, *_QUEUE, errors.ReceiptNotFound)


def _schemas() -> Json:
    record: Json = {
        "type": "object",
        "required": ["timestamp", "context"],
        "properties": {
            "timestamp": {**_MOMENT, "description": "RFC 3339 with an offset; no leap second"},
            # "additionalProperties" is said because generators for typed languages take none for an empty object.
            "context": {"type": "object", "additionalProperties": True},
        },
        # A type here would hold for `context`, too, in a language whose types have one rule for all other names.
        "additionalProperties": True,
        "description": "Beside these two, exactly the fields that the dataset's schema declares, each a string, a "
        "number or a boolean; null is nothing.",
    }
    queued = {"success": {"const": True}, "status": {"const": "queued"}}
    states: Json = {"enum": ["queued", "stored", "quarantined"]}
    return {
        "Record": record,
        "Batch": {"type": "array", "items": _ref("Record"), "minItems": 1, "maxItems": settings.MAX_BATCH_RECORDS},
        "Lines": {"type": "string", "description": "A record a line; blank lines are ignored."},
        "OneQueued": _object(queued),
        "BatchQueued": _object({**queued, "count": {"type": "integer", "minimum": 1}}, _REJECTED),
        "Validated": _object({"valid": {"type": "boolean"}, "count": {"type": "integer", "minimum": 1}}, _REJECTED),
        "Receipt": _object({"status": states, "dataset_id": _COUNT, "accepted_at": _MOMENT}, {"reason": _TEXT}),
        "Health": _object(
            {"status": {"enum": ["ok", "unavailable"]}}, {"checks": {"type": "object", "additionalProperties": _TEXT}}
        ),
        "Root": _object({"service": _TEXT, "description": _TEXT, "admin": _TEXT}),
        "Anything": {"type": "object"},
    }


def _object(required: Json, optional: Json | None = None) -> Json:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(content: Json) -> Json:
    return {"required": True, "content": {media_type: {"schema": schema} for media_type, schema in content.items()}}


def _path_id() -> Json:
    return {"name": "dataset_id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}


def _header_id() -> Json:
    return {
        "name": "X-Loguro-Dataset-Id",
        "in": "header",
        "description": "Without it, the project's default dataset.",
        "schema": {"type": "integer", "minimum": 1},
    }


_ENCODING: Json = {
    "name": "Content-Encoding",
    "in": "header",
    "schema": {"enum": list(ENCODINGS)},
}
_PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "description": "`handling=lenient` (RFC 7240): take the good records of a batch, refuse the bad ones.",
    "schema": _TEXT,
}
_IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes a retry safe: the same key and body get the first answer again.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
