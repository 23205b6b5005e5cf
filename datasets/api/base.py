"""The base class of all views of the management API, and its helpers."""

import re
from collections.abc import Callable, Sequence
from typing import IO, Any, ClassVar, cast

from django.contrib.auth.models import User
from rest_framework.exceptions import NotFound as InvalidCursor
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from config.common.errors import InvalidJson, MethodNotAllowed, UnsupportedEncoding
from datasets.access import projects_of
from datasets.api.authentication import PersonalTokenAuthentication, ScopePermission
from datasets.api.description import ManagementSchema
from datasets.api.errors import InvalidRequest, LengthRequired, ProjectNotFound, exception_handler
from datasets.models import PersonalAccessToken, Project
from datasets.strict_json import NotJson, exact_float, read_json

_SLUG = re.compile(r"[-\w]{1,100}", re.ASCII).fullmatch
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII).fullmatch


class AlwaysJson(DefaultContentNegotiation):
    """Always answers in JSON, even if the client does not accept it, because clients must be able to read errors."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class JsonParser(BaseParser):
    """Reads JSON strictly: it must be UTF-8, and an object must not have a name twice."""

    media_type = "application/json"
    parse_float: Callable[[str], Any] = staticmethod(exact_float)  # reads a number with a fraction or an exponent

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the body. Raises InvalidJson."""
        try:
            return read_json(stream.read(), parse_float=self.parse_float)
        except NotJson as error:
            raise InvalidJson({"detail": str(error)}) from error


class Pages(CursorPagination):
    """Pages of objects, in the order of creation. The client sends `?limit=` and `?cursor=`.

    In an answer, `next` is the path of the next page, or null.
    """

    page_size = 100  # if the client sends no limit
    max_page_size = 1000
    page_size_query_param = "limit"
    ordering = "pk"

    def get_page_size(self, request: Request) -> int:
        """Return the limit. Raises InvalidRequest if it is not between 1 and the maximum."""
        given = request.query_params.get("limit", str(self.page_size))
        if not _DIGITS(given) or not 1 <= int(given) <= self.max_page_size:
            raise InvalidRequest(
                {"errors": [{"field": "limit", "detail": f"Send a number from 1 to {self.max_page_size}."}]}
            )
        return int(given)

    def decode_cursor(self, request: Request) -> Any:
        """Return the decoded cursor. Raises InvalidRequest if it is not from an answer of this API."""
        refusal = InvalidRequest(
            {"errors": [{"field": "cursor", "detail": "Use the path in `next` of an earlier answer."}]}
        )
        try:
            cursor = super().decode_cursor(request)
        except InvalidCursor as error:
            raise refusal from error
        if cursor is not None and cursor.position is not None and not _DIGITS(str(cursor.position)):
            raise refusal
        return cursor


class ManagementView(GenericAPIView[Any]):
    """A view that needs a personal access token. Its errors look like those of the ingest API."""

    authentication_classes = (PersonalTokenAuthentication,)
    permission_classes: Sequence[type[BasePermission]] = (ScopePermission,)
    parser_classes = (JsonParser,)
    content_negotiation_class = AlwaysJson
    pagination_class = Pages
    metadata_class = None
    http_method_names: Sequence[str] = ("get", "head", "post", "patch", "delete")
    project: Project  # the project in the path
    # For each method, what it takes or answers: a serializer, or the name of a schema in management.yaml.
    takes: ClassVar[dict[str, Any]] = {}
    answers: ClassVar[dict[str, str]] = {}
    query_parameters: ClassVar[dict[str, Any]] = {}
    has_etag = False  # whether a request may have If-Match or If-None-Match
    post_has_etag = False  # whether the answer to a POST has an ETag
    schema = ManagementSchema()
    secrets: tuple[str, ...] = ()  # members of the answer to a POST that must not be stored
    plural = ""  # the member of an answer that has the list, if the view lists objects

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check token, scope and project before anything else, so that no other error tells a stranger what exists."""
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            raise MethodNotAllowed
        if "project_slug" in kwargs:
            self.project = self._find_project(kwargs["project_slug"])
        if "HTTP_TRANSFER_ENCODING" in request.META:
            raise LengthRequired
        body = request._request.body  # raises RequestDataTooBig. Django keeps the body, and DRF reads it from there.
        if request.method in ("POST", "PATCH") and not body:
            raise InvalidJson({"detail": "The body is empty."})
        encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip()
        if body and encoding.lower() not in ("", "identity"):
            detail = "Send the body as it is, without a Content-Encoding header."
            raise UnsupportedEncoding({"expected": "identity", "received": encoding[:200], "detail": detail})

    @property
    def user(self) -> User:
        """The user of the token."""
        user: User = cast(Any, self.request).user
        return user

    @property
    def token(self) -> PersonalAccessToken:
        """The token of the request."""
        token: PersonalAccessToken = cast(Any, self.request).auth
        return token

    def _find_project(self, slug: str) -> Project:
        """Return the project that the path names. Raises ProjectNotFound if the user may not see it."""
        found = projects_of(self.user).filter(slug=slug).select_related("owner").first() if _SLUG(slug) else None
        if found is None:
            raise ProjectNotFound
        return found

    def validated(self, kind: type[Serializer[Any]], data: Any = None) -> dict[str, Any]:
        """Return the values that the client has sent, after a serializer has checked them. Raises ValidationError."""
        serializer: Serializer[Any] = kind(data=self.request.data if data is None else data)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def serialized(self, thing: Any) -> dict[str, Any]:
        """Return an object as clients see it."""
        return dict(self.get_serializer(thing).data)

    def with_secrets(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a stored answer together with its secrets, which are not stored."""
        return body

    def page_of(self, queryset: Any) -> Response:
        """Return one page of objects, each as the view's serializer shows it."""
        pages: Any = self.paginator
        rows = pages.paginate_queryset(queryset, self.request, view=self)
        shown = self.get_serializer(rows, many=True).data
        following = pages.get_next_link()
        return Response({self.plural: shown, "next": following and _path_of(following)})

    def get_exception_handler(self) -> Any:
        return exception_handler


def _path_of(url: str) -> str:
    """Return a URL without scheme and host, which Django may not know behind a proxy."""
    return "/" + url.split("/", 3)[3]
