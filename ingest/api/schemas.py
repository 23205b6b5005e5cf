"""`GET /datasets/<id>/schema`: the schema version in force, with which clients validate records and generate types."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from django.utils.http import parse_etags

from config.common.errors import json_response
from config.common.threads import READING
from datasets.contracts.catalog import check_in_force
from datasets.contracts.contract import Contract
from datasets.models import SchemaVersion
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from ingest.api.bypasses import ApiRequest
from ingest.api.views import KeyView
from ingest.validation.body import JSON

JSON_SCHEMA = "application/schema+json"
# What follows the version's number in the ETag. Change it if the same version gets another JSON Schema.
_JSON_SCHEMA_TAG = "-json-schema-2"


class SchemaView(KeyView):
    """Answers with the declared fields or, if the client prefers that, with a JSON Schema of the records."""

    async def get(self, request: ApiRequest, dataset_id: str) -> HttpResponse:
        number, fields = await self.under_contract(self.dataset_id(request, dataset_id), self.find)
        as_json_schema = request.get_preferred_type([JSON, JSON_SCHEMA]) == JSON_SCHEMA
        etag = f'"{number}{_JSON_SCHEMA_TAG}"' if as_json_schema else f'"{number}"'
        headers = {"ETag": etag, "Vary": "Accept, Origin", "Cache-Control": "no-cache"}
        if _is_known(etag, request.META.get("HTTP_IF_NONE_MATCH", "")):
            return HttpResponse(status=304, headers=headers)
        if not as_json_schema:
            return json_response(declaration(number, fields), headers=headers)
        return json_response(json_schema(number, fields), content_type=JSON_SCHEMA, headers=headers)

    async def find(self, contract: Contract) -> tuple[int, Sequence[Field]]:
        """Return the number and the fields of the schema version in force."""
        schema = contract.schema
        await check_in_force(contract)
        return await READING.run(_number, schema.version_id), schema.fields


def _number(version_id: int) -> int:
    return SchemaVersion.objects.values_list("number", flat=True).get(pk=version_id)


def _is_known(etag: str, if_none_match: str) -> bool:
    """Return whether an If-None-Match header names an ETag (RFC 9110, 13.1.2)."""
    known = [each.removeprefix("W/") for each in parse_etags(if_none_match)]
    return etag in known or known == ["*"]


def declaration(number: int, fields: Sequence[Field]) -> dict[str, Any]:
    """Return the fields as an admin may declare them, each in its shortest form, and the number of the version."""
    return {"version": number, "fields": {field.name: field.shortest() for field in fields}}


def json_schema(number: int, fields: Sequence[Field]) -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) of the records that a version accepts.

    The JSON Schema accepts each record that the service accepts, and a few other records. For example, it cannot limit
    the digits of a decimal. `x-unit` is our own keyword.
    """
    always: dict[str, Any] = {"timestamp": {"type": "string", "format": "date-time"}, "context": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A record of schema version {number}",
        "type": "object",
        "properties": always | {field.name: _property(field) for field in fields},
        "required": [*always, *(field.name for field in fields if not field.optional)],
        "additionalProperties": False,
    }


def _property(field: Field) -> dict[str, Any]:
    described = {"description": field.description} if field.description else {}
    unit = {"x-unit": field.unit} if field.unit else {}
    return {**type_of(field).json_schema, **described, **unit}
