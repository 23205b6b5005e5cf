"""`POST /api/datasets/<project>/<dataset>/query`: query the stored records of a dataset."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.db import connections
from django.http.response import HttpResponseBase
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from config.common.requests import IS_GONE
from datasets.api.base import JsonParser
from datasets.api.datasets import OneDatasetView
from datasets.api.queries.answers import answer
from datasets.api.queries.description import QuerySchema
from datasets.api.queries.errors import InvalidQuery, NotAcceptable
from datasets.contracts.contract import DatasetNotFound
from datasets.models import Dataset
from datasets.queries import errors, figures, language
from datasets.queries.columns import fields_of
from datasets.queries.execution.snapshot import Location
from datasets.queries.processes import formats
from datasets.queries.processes.messages import Job, details_of
from datasets.schemas.checked import NumberText
from datasets.schemas.fields import Field


class ByAccept(DefaultContentNegotiation):
    """Chooses the format by the header Accept and its weights (`q`), as Django does."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and its media type. Raises NotAcceptable."""
        charsets = ("", "; charset=utf-8", "; charset=UTF-8")
        by_type = {f"{each.media_type}{charset}": each for each in renderers for charset in charsets}
        found = request._request.get_preferred_type(list(by_type))
        if not request.META.get("HTTP_ACCEPT", "").strip():
            found = renderers[0].media_type
        if found is None:
            raise NotAcceptable({"expected": ", ".join(each.media_type for each in renderers)})
        return by_type[found], by_type[found].media_type


class _Result(BaseRenderer):
    """A format of results. The query process writes it, so DRF has nothing to render."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        raise NotImplementedError


class JsonResult(_Result):
    """An object with columns, rows and figures."""

    media_type, format = formats.JSON, "json"


class CsvResult(_Result):
    """A line of names, then a line for each row."""

    media_type, format = formats.CSV, "csv"


class NdjsonResult(_Result):
    """A JSON object for each row, one on each line."""

    media_type, format = formats.NDJSON, "ndjson"


class ArrowResult(_Result):
    """Arrow's stream of record batches."""

    media_type, format = formats.ARROW, "arrow"


class QueryParser(JsonParser):
    """Reads JSON as strictly as the other views, and keeps the spelling of numbers, so that decimals stay exact."""

    parse_float = NumberText


class QueryView(OneDatasetView):
    """Query the records of one dataset."""

    parser_classes = (QueryParser,)
    permission_classes = ()  # the scope `read` is enough
    content_negotiation_class = ByAccept  # type: ignore[assignment]  # errors are JSON here, too
    renderer_classes = (JsonResult, CsvResult, NdjsonResult, ArrowResult)
    takes: ClassVar[dict[str, Any]] = {"POST": "Query"}
    answers: ClassVar[dict[str, str]] = {"POST": "QueryResult"}
    schema = QuerySchema()
    http_method_names: Sequence[str] = ("post",)

    def post(self, request: Request, project_slug: str, dataset_id: str | None = None) -> HttpResponseBase:
        """Query the stored records of a dataset."""
        dataset = self.dataset(dataset_id)
        with figures.noted(self.project.pk, dataset.pk, f"{self.user}, token “{self.token}”"):
            return self._answer(request, dataset)

    def _answer(self, request: Request, dataset: Dataset) -> HttpResponseBase:
        fields = fields_of(dataset)
        if fields is None:
            raise DatasetNotFound
        _check(request.data, fields)
        job = Job(
            query=request._request.body,
            fields=fields,
            location=Location.of(dataset),
            media_type=request.accepted_renderer.media_type,
            memory=settings.QUERY_MEMORY_BYTES,
        )
        connections.close_all()  # a query may take long, and needs no connection to the database
        return answer(self.project.pk, job, request.META.get(IS_GONE, lambda: False))


def _check(body: Any, fields: Sequence[Field]) -> None:
    """Raise InvalidQuery if the body is not a valid query of these fields."""
    try:
        language.parse(body, fields)
    except errors.InvalidQuery as invalid:
        raise InvalidQuery(details_of(invalid)) from invalid
