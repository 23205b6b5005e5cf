"""Describe the views of the management API in OpenAPI, with drf-spectacular."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction

_TEXT = {"type": "string"}
_ID = {"type": "integer", "minimum": 1}
_PATH = {"project_slug": _TEXT, "dataset_id": _ID, "key_id": _ID}
# For each status, the name of a response in management.yaml. Every request may get _ERRORS. Only requests that change
# something may get _ERRORS_OF_CHANGES.
_ERRORS = {
    "400": "ManagementBadRequest",
    "401": "ManagementUnauthorized",
    "403": "ManagementForbidden",
    "404": "ManagementNotFound",
    "411": "LengthRequired",
    "413": "BodyTooLarge",
    "429": "TooManyFailedTokens",
    "500": "InternalError",
    "503": "ServiceUnavailable",
}
_ERRORS_OF_CHANGES = {"408": "BodyTooSlow", "409": "ManagementConflict", "415": "UnsupportedMediaType"}
_SUCCESS = {"GET": "200", "POST": "201", "PATCH": "200", "DELETE": "204"}


def ref(kind: str, name: str) -> dict[str, str]:
    """Return a reference to a component of the description."""
    return {"$ref": f"#/components/{kind}/{name}"}


class ManagementSchema(AutoSchema):
    """Describes a view by its serializers, and by attributes of `ManagementView`, such as `takes` and `answers`."""

    view: Any

    def get_operation_id(self) -> str:
        parts = [part for part in self.path.strip("/").split("/")[1:] if not part.startswith("{")]
        of_one = "_by_id" if "_id}" in self.path else ""
        return f"{self.method.lower()}_{'_'.join(parts)}{of_one}"

    def get_tags(self) -> list[str]:
        return ["Management"]

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [{"personal_access_token": []}]

    def get_summary(self) -> str:
        """Return the first sentence of the method's docstring."""
        text: str = getattr(self.view, self.method.lower()).__doc__ or ""
        return text.partition("\n")[0]

    def _get_parameters(self) -> list[dict[str, Any]]:
        names = [part.strip("{}") for part in self.path.split("/") if part.startswith("{")]
        found: list[dict[str, Any]] = [
            {"name": each, "in": "path", "required": True, "schema": _PATH[each]} for each in names
        ]
        if self.method == "POST":
            found.append(ref("parameters", "IdempotencyKey"))
        in_query = {"limit": {"type": "integer", "minimum": 1}, "cursor": _TEXT} if self._is_list() else {}
        in_query |= self.view.query_parameters if self.method == "GET" else {}
        found += [{"name": name, "in": "query", "schema": schema} for name, schema in in_query.items()]
        if self.view.has_etag:
            header = "If-None-Match" if self.method == "GET" else "If-Match"
            found.append({"name": header, "in": "header", "schema": _TEXT})
        return found

    def _is_list(self) -> bool:
        return self.method == "GET" and bool(self.view.plural)

    def _get_request_body(self, direction: Direction = "request") -> dict[str, Any] | None:
        taken = self.view.takes.get(self.method)
        if taken is None:
            return None
        schema = ref("schemas", taken) if isinstance(taken, str) else self.resolve_serializer(taken, direction).ref
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        named = dict(_ERRORS)
        if self.method != "GET":
            named |= _ERRORS_OF_CHANGES
            named |= {"412": "PreconditionFailed"} if self.view.has_etag else {}
            named |= {"422": "KeyReused"} if self.method == "POST" else {}
        return self._successes() | {status: ref("responses", name) for status, name in named.items()}

    def _successes(self) -> dict[str, Any]:
        status = _SUCCESS[self.method]
        headers = {"X-Request-Id": ref("headers", "X-Request-Id")}
        if status == "204":
            return {"204": {"description": "Success", "headers": headers}}
        answer = {
            "description": "Success",
            "headers": headers,
            "content": {"application/json": {"schema": self._answer()}},
        }
        found = {status: answer}
        if self.method == "POST" and self.view.has_etag:  # the schema view: only the first version gets 201
            found["200"] = answer
        if self.method == "GET" and self.view.has_etag:
            found["304"] = {"description": "Not modified", "headers": headers}
        return found

    def _answer(self) -> dict[str, Any]:
        """Return the schema of the answer."""
        name = self.view.answers.get(self.method)
        one = ref("schemas", name) if name else self.resolve_serializer(self.view.serializer_class, "response").ref
        if not self._is_list():
            return one
        properties = {self.view.plural: {"type": "array", "items": one}, "next": {"type": ["string", "null"]}}
        required = [self.view.plural, "next"]
        return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}
