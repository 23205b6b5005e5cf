"""`/api/datasets/<project>/<dataset>/schema`: the schema versions of a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from datasets import services
from datasets.api.changes import answer_with_etag, check_precondition, etag_of, log_change
from datasets.api.datasets import OneDatasetView
from datasets.api.errors import IncompatibleSchema, InvalidRequest
from datasets.api.idempotency import once
from datasets.api.serializers import SchemaVersionSerializer, StrictDateTimeField, StrictSerializer
from datasets.contracts.contract import DatasetNotFound
from datasets.models import SchemaVersion
from datasets.schemas.changes import in_short, successor_problems
from datasets.schemas.declarations import check_size, parse_fields
from datasets.schemas.fields import Field


class NewSchema(StrictSerializer):
    """The members of the body, except `fields`."""

    previous_valid_until = StrictDateTimeField(required=False, allow_null=True)


# No version has a number of 11 digits, so a longer number is cut to 11 digits and not found either.
_MAX_DIGITS = 11


class SchemaView(OneDatasetView):
    """Show and publish the schema of a dataset, or of the project's default dataset."""

    serializer_class = SchemaVersionSerializer
    takes: ClassVar[dict[str, Any]] = {"POST": "NewSchema"}
    answers: ClassVar[dict[str, str]] = {"GET": "SchemaAnswer", "POST": "SchemaAnswer"}
    query_parameters: ClassVar[dict[str, Any]] = {"version": {"type": "integer", "minimum": 1}}
    has_etag = post_has_etag = True

    def get(self, request: Request, project_slug: str, dataset_id: str | None = None) -> Any:
        """Show the schema version in force, or with `?version=` another one."""
        dataset = self.dataset(dataset_id)
        number = _number(request.query_params.get("version"))
        version = dataset.latest_version() if number is None else dataset.versions.filter(number=number).first()
        if version is None and number is not None:
            raise DatasetNotFound
        return answer_with_etag(request, self._answer(version))

    @once
    def post(self, request: Request, project_slug: str, dataset_id: str | None = None) -> Response:
        """Publish the next schema version, unless the version in force has the same fields."""
        check_size(request._request.body)
        dataset = self.dataset(dataset_id, lock=True)
        versions = list(dataset.versions.order_by("number"))
        before = versions[-1] if versions else None
        check_precondition(request, etag_of(self._answer(before)))
        declared, others = _parts(request.data)
        until = self.validated(NewSchema, others).get("previous_valid_until")
        earlier = [version.field_list() for version in versions]
        fields = parse_fields(declared, {field.name for version in earlier for field in version})
        _check_table(earlier, fields, with_grace=until is not None)
        services.save_dataset(dataset, fields=fields, author=self.user, previous_valid_until=until)
        version = dataset.latest_version()
        if version != before:
            log_change(self, dataset, in_short(earlier[-1] if earlier else (), fields) or "Schema: no fields.")
        answer = self._answer(version)
        return Response(answer, status=200 if before else 201, headers={"ETag": etag_of(answer)})

    def _answer(self, version: SchemaVersion | None) -> dict[str, Any]:
        if version is None:
            return {"schema": None, "status": "pending_schema"}
        return {"schema": self.serialized(version), "status": "active"}


class SchemaVersionsView(OneDatasetView):
    """List the schema versions of a dataset."""

    serializer_class = SchemaVersionSerializer
    plural = "versions"
    answers: ClassVar[dict[str, str]] = {"GET": "SchemaVersion"}

    def get(self, request: Request, project_slug: str, dataset_id: str) -> Response:
        """List schema versions, the first one first."""
        return self.page_of(self.dataset(dataset_id).versions.all())


def _number(given: str | None) -> int | None:
    """Return the number of a schema version in the URL's query string. Raises InvalidRequest."""
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise InvalidRequest({"errors": [{"field": "version", "detail": "Send the number of a schema version."}]})
    return int(given.lstrip("0")[:_MAX_DIGITS] or 0)


def _parts(body: Any) -> tuple[Any, dict[str, Any]]:
    """Return the declared fields of a body, and its other members.

    The body is `{"fields": ...}`, or the fields alone. If `fields` is an object or an array, the body is of the first
    kind. So a body of the second kind can declare a field called `fields` only by its type: `{"fields": "string"}`.

    Return None if the body is an array or is empty, or if `fields` is an empty array. Then the body is refused: the
    client has probably sent records.
    """
    if not isinstance(body, Mapping) or body.get("fields") == []:
        return None, {}
    if isinstance(body.get("fields"), Mapping | list):
        return {"fields": body["fields"]}, {name: value for name, value in body.items() if name != "fields"}
    return ({"fields": body} if body else None), {}


def _check_table(earlier: Sequence[Sequence[Field]], fields: Sequence[Field], *, with_grace: bool) -> None:
    """Raise IncompatibleSchema if the new fields do not fit the columns of the dataset's table."""
    columns = {field.name.lower(): field for version in earlier for field in version}
    found = [
        {
            "field": fields[index].name,
            "expected": columns[fields[index].name.lower()].type,
            "received": fields[index].type,
            "detail": text,
        }
        for index, text in successor_problems(earlier, fields, with_grace=with_grace)
    ]
    if found:
        raise IncompatibleSchema({**found[0], "errors": found})
