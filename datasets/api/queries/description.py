"""Describe queries in OpenAPI."""

from typing import Any

from drf_spectacular.utils import Direction

from datasets.api.description import ManagementSchema, ref
from datasets.queries.processes import formats

_ERRORS = {
    "400": "QueryBadRequest",
    "406": "NotAcceptable",
    "408": "QueryTooSlow",
    "413": "QueryTooLarge",
    "429": "TooManyQueries",
}
_RESULT = {
    formats.JSON: ref("schemas", "QueryResult"),
    formats.CSV: {"type": "string"},
    formats.NDJSON: {"type": "string"},
    formats.ARROW: {"type": "string", "format": "binary"},
}


class QuerySchema(ManagementSchema):
    """A query changes nothing, so it has neither an Idempotency-Key nor conflicts."""

    def _get_parameters(self) -> list[dict[str, Any]]:
        return [each for each in super()._get_parameters() if each != ref("parameters", "IdempotencyKey")]

    def _successes(self) -> dict[str, Any]:
        headers = {name: ref("headers", name) for name in ("X-Request-Id", *formats.HEADERS)}
        content = {media_type: {"schema": schema} for media_type, schema in _RESULT.items()}
        return {"200": {"description": "Success", "headers": headers, "content": content}}

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        found = super()._get_response_bodies(direction)
        for status in ("409", "422"):
            found.pop(status, None)
        return found | {status: ref("responses", name) for status, name in _ERRORS.items()}
