"""The API's views: each parses, calls one function, answers."""

import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import msgspec
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import ResponseHeaders
from redis.exceptions import RedisError
from rest_framework.views import APIView

from config.common.errors import ApiError, InternalError, MethodNotAllowed, json_response
from config.common.redis import RedisUnavailable
from config.common.requests import SENDER, request_id
from datasets.contracts.catalog import CatalogUnavailable, Contract, DatasetNotFound, check_in_force, under_contract
from datasets.contracts.keys import Claims, read_token
from ingest.api import openapi, receipts
from ingest.api.authentication import ApiKeyAuthentication
from ingest.api.lookup import look_up
from ingest.errors import (
    NOTHING_HAPPENED,
    InvalidDatasetId,
    InvalidIdempotencyKey,
    InvalidRecords,
    QueueUnavailable,
    UnsupportedMediaType,
)
from ingest.monitoring import health, metrics, refusals
from ingest.monitoring.refusals import Sent
from ingest.queue.admission import Admission, Retryable, accepted_before, admit, quota_headers
from ingest.queue.formats import Payload, Rejected
from ingest.validation import lenient
from ingest.validation.body import JSON, NDJSON, media_type, read_body
from ingest.validation.payloads import validate_array, validate_lines, validate_one

_DATASET_ID = re.compile(r"[1-9][0-9]*", re.ASCII).fullmatch
_MAX_ID = 2**63 - 1  # of a BigAutoField
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}").fullmatch
_ONE_QUEUED = b'{"success":true,"status":"queued"}'

_ROOT_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Dataset ingest</title><main><h1>Dataset ingest</h1><p>This address takes records: see the "
    '<a href="/openapi.json">description of the API</a> or the <a href="/admin/">admin</a>.</p></main></html>'
)

Validator = Callable[[Any, bytes], Payload]


class ApiView(APIView):
    """What the API's views share: JSON answers, and 405 before anything else is asked."""

    options = None  # type: ignore[assignment]  # 405, like every other method a view does not have
    allowed_methods: list[str]
    asked_dataset = 0  # its id, once it is known

    def handle_exception(self, exc: Exception) -> Any:
        response = super().handle_exception(exc)
        code = exc.code if isinstance(exc, ApiError) else InternalError.code
        claims = self.claims()
        project_id = self.request.META[SENDER] = claims.project_id if claims else None
        refusals.log(
            response.status_code,
            code,
            trace_id=request_id(self.request),
            project_id=project_id,
            dataset_id=self.asked_dataset,
        )
        if claims is None:
            refusals.note(code)
        else:
            said = msgspec.json.decode(response.content)
            refusals.keep(claims.project_id, said, response.status_code, lambda: self.sent(exc, claims))
        return response

    def claims(self) -> Claims | None:
        """Return the claims of the key that the request came with, if they can be read."""
        return None

    def sent(self, exc: Exception, claims: Claims) -> Sent:
        """Return what the request was, for the refusal log."""
        return Sent(request_id(self.request), claims.token_id.hex, self.request.path, self.asked_dataset, b"", "")

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The request as it is: what DRF would wrap it in is for parsers and for users, and we have neither."""
        return request

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Of what DRF does here, the method and the key: there is one version, one format, nothing to negotiate."""
        if request.method not in self.allowed_methods:
            self.http_method_not_allowed(request)
        self.perform_authentication(request)

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse in our own words, by whose code the refusal is counted."""
        raise MethodNotAllowed(headers={"Allow": ", ".join(self.allowed_methods)})

    def perform_authentication(self, request: Any) -> None:
        """None; but see KeyView."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The response as it is: there is nothing to render."""
        return response

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        methods = [method for method in cls.http_method_names if getattr(cls, method, None) is not None]
        cls.allowed_methods = [method.upper() for method in (*methods, *(["head"] if "get" in methods else []))]
        return super().as_view(**initkwargs)

    @property
    def default_response_headers(self) -> dict[str, str]:
        """None: `Allow` goes with a 405, and nothing varies."""
        return {}


class KeyView(ApiView):
    """A view that answers to a project's key."""

    authentication_classes = (ApiKeyAuthentication,)
    token: str = ""

    def perform_authentication(self, request: Any) -> None:
        """Take the token."""
        _, self.token = ApiKeyAuthentication().authenticate(request)

    def claims(self) -> Claims | None:
        """Return the token's signed claims, whether or not the key is still in force."""
        try:
            return read_token(self.token) if self.token else None
        except ApiError:
            return None

    def dataset_id(self, request: HttpRequest, in_path: str | None) -> int | None:
        """The dataset asked for: in the path, else in the header, else None. Raises InvalidDatasetId."""
        given = request.META.get("HTTP_X_LOGURO_DATASET_ID") if in_path is None else in_path
        if given is None:
            return None
        if not _DATASET_ID(given):
            raise InvalidDatasetId({"received": given[:100]})
        self.asked_dataset = min(int(given[:20]), _MAX_ID)
        return self.asked_dataset

    def under_contract(self, dataset_id: int | None, use: Callable[[Contract], Any]) -> Any:
        """`datasets.contracts.catalog.under_contract`; whatever is out of reach is a 503."""
        try:
            return under_contract(self.token, dataset_id, use)
        except (RedisUnavailable, CatalogUnavailable, RedisError, DatabaseError) as failure:
            raise QueueUnavailable(NOTHING_HAPPENED) from failure


class Accepted(HttpResponse):
    """A 202 in JSON. Django would look for what a header must not hold; these are ours to the letter."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        # As HttpResponse's own: a test compares them.
        self.headers = ResponseHeaders({})
        self.headers._store = {name.lower(): (name, value) for name, value in headers.items()}
        self.headers._store["content-type"] = ("Content-Type", JSON)
        self.status_code, self._reason_phrase, self._charset = 202, None, None
        self.cookies, self.closed = SimpleCookie(), False
        self._resource_closers: list[Any] = []
        self._handler_class = None
        self._container = [body]


class IngestView(KeyView):
    """Validate a body and admit it to the queue."""

    takes_batches = False
    _body: bytes | None = None

    def validator(self, content_type: str) -> Validator:
        """How a body of this media type is read. Raises UnsupportedMediaType."""
        raise NotImplementedError

    def accepted_body(self, admission: Admission) -> bytes:
        raise NotImplementedError

    def post(self, request: HttpRequest, dataset_id: str | None = None) -> HttpResponse:
        wanted = self.dataset_id(request, dataset_id)
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        trace_id = request_id(request)

        def ingest(contract: Contract) -> Admission:
            if key is not None and not _IDEMPOTENCY_KEY(key):
                raise InvalidIdempotencyKey
            try:
                payload = self.read(request, contract)
            except (DatasetNotFound, InvalidRecords):  # by the schema of now: a retry is of an earlier request
                earlier = accepted_before(contract, self.retryable(request, contract, key)) if key else None
                if earlier is None:
                    raise
                return earlier
            retryable = self.retryable(request, contract, key) if key else None
            admission = admit(contract, payload, trace_id=trace_id, retryable=retryable)
            if payload.rejected and payload.rejected.count and not admission.replayed:
                self.keep_rejected(payload.rejected, contract)
            return admission

        admission = self.under_contract(wanted, ingest)
        headers = {"Location": f"/datasets/{admission.dataset_id}/receipts/{receipts.issue(admission)}"}
        if admission.replayed:
            headers["Idempotent-Replayed"] = "true"
        if admission.rejected:
            headers |= lenient.APPLIED
        headers |= quota_headers(admission.limit, admission.used, admission.period)
        return Accepted(self.accepted_body(admission), headers)

    def form(self, content_type: str, body: bytes) -> str:
        """Return how Try it sends such a body: a name of `tryout.FORMS`."""
        raise NotImplementedError

    def sent(self, exc: Exception, claims: Claims) -> Sent:
        """Return the request with the record that was refused, or else the whole body as far as it was read."""
        sent = super().sent(exc, claims)
        if isinstance(exc, InvalidRecords):
            return msgspec.structs.replace(sent, body=exc.record, form="single")
        if not self._body:
            return sent
        form = self.form(media_type(self.request.META.get("CONTENT_TYPE", "")), self._body)
        return msgspec.structs.replace(sent, body=self._body, form=form)

    def read(self, request: HttpRequest, contract: Contract) -> Payload:
        """The body, validated under a contract."""
        self.asked_dataset = contract.dataset_id
        schema = contract.schema  # first: for a dataset that takes nothing, nothing is read
        content_type = media_type(request.META.get("CONTENT_TYPE", ""))
        validate, body = self.validator(content_type), self.body(request, contract)
        if self.takes_batches and lenient.is_preferred(request.META.get("HTTP_PREFER", "")):
            return lenient.validate_leniently(validate, content_type, schema, body)
        return validate(schema, body)

    def keep_rejected(self, rejected: Rejected, contract: Contract) -> None:
        """Log the refused records of a lenient batch."""
        trace_id = request_id(self.request)
        sent = Sent(trace_id, read_token(self.token).token_id.hex, self.request.path, contract.dataset_id, b"", "")
        refusals.keep_records(contract.project_id, rejected.count, rejected.first, sent)

    def body(self, request: HttpRequest, contract: Contract) -> bytes:
        """The body; it is read from the wire once, however often it is asked for."""
        if self._body is None:
            try:
                self._body = read_body(request, project_id=contract.project_id)
            except ApiError as refusal:
                refusal.confirmed = True  # whatever the contract; and what was read of the body is gone
                raise
        return self._body

    def retryable(self, request: HttpRequest, contract: Contract, key: str) -> Retryable:
        """What a retry of this request has in common with it."""
        kind = f"{type(self).__name__} {media_type(request.META.get('CONTENT_TYPE', ''))}"
        return Retryable.of(key, kind, self.body(request, contract))


class SingleView(IngestView):
    """`POST /datasets/<id>`: one JSON object."""

    def validator(self, content_type: str) -> Validator:
        if content_type != JSON:
            detail = f"Send one record with “Content-Type: {JSON}”, or send NDJSON to the address that ends in /batch."
            raise UnsupportedMediaType({"expected": JSON, "received": content_type, "detail": detail})
        return validate_one

    def form(self, content_type: str, body: bytes) -> str:
        return "single"

    def accepted_body(self, admission: Admission) -> bytes:
        return _ONE_QUEUED


class BatchView(IngestView):
    """`POST /datasets/<id>/batch`: a JSON array of objects, or NDJSON."""

    takes_batches = True

    def validator(self, content_type: str) -> Validator:
        return validate_lines if content_type == NDJSON else validate_array

    def form(self, content_type: str, body: bytes) -> str:
        return "lines" if content_type == NDJSON else "batch"

    def accepted_body(self, admission: Admission) -> bytes:
        rejected = b"," + admission.rejected if admission.rejected else b""
        return b'{"success":true,"count":%d,"status":"queued"%b}' % (admission.count, rejected)


class ValidateView(IngestView):
    """`POST /datasets/<id>/validate`: what ingest would say; charges and queues nothing."""

    takes_batches = True

    def validator(self, content_type: str) -> Validator:
        if content_type == NDJSON:
            return validate_lines
        return lambda schema, body: (validate_array if body.lstrip()[:1] == b"[" else validate_one)(schema, body)

    def form(self, content_type: str, body: bytes) -> str:
        if content_type == NDJSON:
            return "lines"
        return "batch" if body.lstrip()[:1] == b"[" else "single"

    def post(self, request: HttpRequest, dataset_id: str | None = None) -> HttpResponse:
        wanted = self.dataset_id(request, dataset_id)

        def validate(contract: Contract) -> Payload:
            payload = self.read(request, contract)
            check_in_force(contract)
            return payload

        payload: Payload = self.under_contract(wanted, validate)
        answer: dict[str, Any] = {"valid": True, "count": payload.count}
        if payload.rejected is None:
            return json_response(answer)
        answer["valid"] = payload.rejected.count == 0
        return json_response(answer | msgspec.json.decode(b"{%b}" % payload.rejected.answer), headers=lenient.APPLIED)


class ReceiptView(KeyView):
    """`GET /datasets/<id>/receipts/<receipt>`: where accepted records are now."""

    def get(self, request: HttpRequest, dataset_id: str, receipt: str) -> HttpResponse:
        wanted = self.dataset_id(request, dataset_id)

        def see(contract: Contract) -> dict[str, Any]:
            check_in_force(contract)
            return look_up(receipts.read(contract.dataset_id, receipt))

        return json_response(self.under_contract(wanted, see))


class RootView(ApiView):
    """`GET /`: where the description and the admin are, for those who open the service's address."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if "text/html" in request.META.get("HTTP_ACCEPT", ""):
            return HttpResponse(_ROOT_PAGE, headers={"Vary": "Accept"})
        places = {"service": "Dataset ingest", "description": "/openapi.json", "admin": "/admin/"}
        return json_response(places, headers={"Vary": "Accept"})


class HealthView(ApiView):
    """`GET /healthz`: this process answers."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return json_response({"status": "ok"})


class ReadyView(ApiView):
    """`GET /readyz`: everything that ingest needs, each named; 503 where something is missing."""

    def get(self, request: HttpRequest) -> HttpResponse:
        checks = health.checks()
        ready = all(state == "ok" for state in checks.values())
        body = {"status": "ok" if ready else "unavailable", "checks": checks}
        return json_response(body) if ready else json_response(body, status=503, headers={"Retry-After": "5"})


class OpenApiView(ApiView):
    """`GET /openapi.json`: this API, described."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return json_response(openapi.description())


class MetricsView(ApiView):
    """`GET /metrics`: Prometheus text."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(metrics.text(), content_type=metrics.CONTENT_TYPE)
