"""The API's views: each parses a request, calls one function and answers."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from django.db import DatabaseError
from django.http import HttpResponse
from redis.exceptions import RedisError

from config.common.errors import (
    ApiError,
    BodyTooLarge,
    InternalError,
    UnsupportedMediaType,
    json_response,
)
from config.common.redis import RedisUnavailable
from config.common.requests import idempotency_key, request_id
from config.common.threads import CHECKING, LARGE, READING
from datasets.contracts.browsers import BrowserKey
from datasets.contracts.catalog import CatalogUnavailable, check_in_force, under_contract
from datasets.contracts.contract import Contract, DatasetNotFound, read_dataset_id
from datasets.contracts.keys import Claims, read_token
from datasets.schemas.constraints import PatternsTooSlow, limited_matching
from ingest.api import browsers, openapi, receipts
from ingest.api.authentication import ApiKeyAuthentication
from ingest.api.bypasses import Accepted, Answer, ApiRequest, AsyncApiView
from ingest.api.lookup import look_up
from ingest.errors import NOTHING_HAPPENED, InvalidRecords, QueueOutOfReach, QueueUnavailable
from ingest.monitoring import health, metrics, refusals
from ingest.monitoring.refusals import Sent
from ingest.queue.admission import Admission, accepted_before, admit
from ingest.queue.formats import Payload, Rejected, Retryable, packed
from ingest.queue.quota_answers import quota_headers
from ingest.queue.redis_clock import earlier_schema
from ingest.validation import lenient
from ingest.validation.body import JSON, NDJSON, media_type, read_body
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from ingest.validation.room import Hold

T = TypeVar("T")

# A body of at least this size is validated in a thread, so that it does not block the event loop for long.
_LARGE_BYTES = 256 * 1024
# Each comma may mean one more array element, and an element takes up to 60 bytes of memory while it is checked.
_MAX_COMMAS = 1_000_000
# Patterns may take this long for one body. Large bodies of other projects wait meanwhile.
_MAX_MATCHING_SECONDS = 2
_ONE_QUEUED = b'{"success":true,"status":"queued"}'

_ROOT_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Dataset ingest</title><main><h1>Dataset ingest</h1><p>This address takes records: see the "
    '<a href="/docs">documentation</a> or the <a href="/openapi.json">OpenAPI description</a> of the API, or the '
    '<a href="/admin/">admin</a>.</p></main></html>'
)

Validator = Callable[..., Payload]


class ApiView(AsyncApiView):
    """What the API's views share: every refusal is logged, answered in JSON and, if Redis answers, counted."""

    asked_dataset = 0  # the ID of the dataset; 0 until the view knows it

    async def refuse(self, raised: Exception) -> HttpResponse:
        response = await super().refuse(raised)
        code = raised.code if isinstance(raised, ApiError) else InternalError.code
        claims = self.claims()
        project_id = self.request.sender = claims.project_id if claims else None
        refusals.log(
            response.status_code,
            code,
            trace_id=request_id(self.request),
            project_id=project_id,
            dataset_id=self.asked_dataset,
        )
        if isinstance(raised, QueueOutOfReach):
            return response
        if claims is None:
            await refusals.note(code)
        else:
            said = msgspec.json.decode(response.content)
            await refusals.keep(claims.project_id, said, response.status_code, lambda: self.sent(raised, claims))
        return response

    def claims(self) -> Claims | None:
        """Return the claims of the request's key, if they can be read."""
        return None

    def sent(self, exc: Exception, claims: Claims) -> Sent:
        """Return what the refusal log keeps of the request."""
        return Sent(request_id(self.request), claims.token_id.hex, self.request.path, self.asked_dataset, b"", "")


class KeyView(ApiView):
    """A view for requests with a project's key."""

    authentication_classes = (ApiKeyAuthentication,)
    token: str = ""

    def perform_authentication(self, request: Any) -> None:
        """Take the token."""
        if "HTTP_ORIGIN" in request.META:
            request.cors = browsers.ANY_PAGE  # until the key's origins are known
        _, self.token = ApiKeyAuthentication().authenticate(request)

    def preflight(self, request: ApiRequest) -> HttpResponse:
        """Tell a browser whether a page may send a request to this address."""
        if "HTTP_ORIGIN" in request.META:
            request.cors = browsers.ANY_PAGE
        return browsers.preflight(request, self.allowed_methods) or super().preflight(request)

    def check_sender(self, key: BrowserKey | None) -> None:
        """Raise a refusal if the sender may not use the key."""
        browsers.check_sender(self.request, key)

    def claims(self) -> Claims | None:
        """Return the token's signed claims, whether or not the key is still in force."""
        try:
            return read_token(self.token) if self.token else None
        except ApiError:
            return None

    def dataset_id(self, request: ApiRequest, in_path: str | None) -> int | None:
        """Return the dataset ID from the path, or from the header, or None. Raises InvalidDatasetId."""
        given = request.META.get("HTTP_X_LOGURO_DATASET_ID") if in_path is None else in_path
        if given is None:
            return None
        self.asked_dataset = read_dataset_id(given)
        return self.asked_dataset

    async def under_contract(self, dataset_id: int | None, use: Callable[[Contract], Awaitable[T]]) -> T:
        """Call `datasets.contracts.catalog.under_contract`. Raise QueueUnavailable if Redis or the database fails."""
        try:
            return await under_contract(self.token, dataset_id, use, self.check_sender)
        except (RedisUnavailable, RedisError) as failure:
            raise QueueOutOfReach(NOTHING_HAPPENED) from failure
        except (CatalogUnavailable, DatabaseError) as failure:
            raise QueueUnavailable(NOTHING_HAPPENED) from failure


class IngestView(KeyView):
    """Validate a body and admit it to the queue."""

    takes_batches = False
    _body: bytes | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hold = Hold()

    def validator(self, content_type: str) -> Validator:
        """Return the function that validates a body of this media type. Raises UnsupportedMediaType."""
        raise NotImplementedError

    def accepted_body(self, admission: Admission) -> bytes:
        raise NotImplementedError

    async def post(self, request: ApiRequest, dataset_id: str | None = None) -> Answer:
        wanted = self.dataset_id(request, dataset_id)
        with self.hold:
            admission = await self.under_contract(wanted, self.ingest)
        headers = {"Location": f"/datasets/{admission.dataset_id}/receipts/{receipts.issue(admission)}"}
        if admission.is_repeated:
            headers["Idempotent-Replayed"] = "true"
        if admission.rejected:
            headers |= lenient.APPLIED
        headers |= quota_headers(admission.limit, admission.used, admission.period)
        return Accepted(self.accepted_body(admission), headers)

    async def ingest(self, contract: Contract) -> Admission:
        """Admit the body under a contract, or find the answer to an earlier request with its Idempotency-Key."""
        key = idempotency_key(self.request.META)
        try:
            payload = await self.read(contract)
        except (DatasetNotFound, InvalidRecords):  # the request may be a retry, and the first attempt was accepted
            earlier = await accepted_before(contract, await self.retryable(contract, key)) if key else None
            if earlier is None:
                raise
            return earlier
        retryable = await self.retryable(contract, key) if key else None
        admission = await admit(contract, payload, trace_id=request_id(self.request), retryable=retryable)
        if payload.rejected and payload.rejected.count and not admission.is_repeated:
            await self.keep_rejected(payload.rejected, contract)
        return admission

    def form(self, content_type: str, body: bytes) -> str:
        """Return the name of the form in tryout.FORMS that can send this body again from the page “Try it”."""
        raise NotImplementedError

    def sent(self, exc: Exception, claims: Claims) -> Sent:
        """Return the request with the refused record or, if there is none, with the whole body if it was read."""
        sent = super().sent(exc, claims)
        if isinstance(exc, InvalidRecords):
            return msgspec.structs.replace(sent, body=exc.record, form="single")
        if not self._body:
            return sent
        form = self.form(media_type(self.request.META.get("CONTENT_TYPE", "")), self._body)
        return msgspec.structs.replace(sent, body=self._body, form=form)

    async def read(self, contract: Contract) -> Payload:
        """Read the body and validate it under a contract."""
        self.asked_dataset = contract.dataset_id
        schema = contract.schema  # this raises if the dataset is archived, so it comes before the body is read
        meta = self.request.META
        content_type = media_type(meta.get("CONTENT_TYPE", ""))
        validate, body = self.validator(content_type), await self.body(contract)
        if self.takes_batches and lenient.is_preferred(meta.get("HTTP_PREFER", "")):
            validate = partial(lenient.validate_leniently, validate, content_type)
        has_patterns = schema.has_patterns
        if contract.grace is not None:
            earlier = await earlier_schema(contract)
            validate = partial(validate, earlier=earlier)
            has_patterns = has_patterns or (earlier is not None and earlier.has_patterns)
        # With patterns, even a small body needs a thread: the slowest pattern takes 60 ms for one text.
        if len(body) < _LARGE_BYTES and not has_patterns:
            return validate(schema, body)
        return await LARGE.run_for(contract.project_id, _validated, validate, schema, body)

    async def keep_rejected(self, rejected: Rejected, contract: Contract) -> None:
        """Log the refused records of a lenient batch."""
        trace_id = request_id(self.request)
        sent = Sent(trace_id, read_token(self.token).token_id.hex, self.request.path, contract.dataset_id, b"", "")
        await refusals.keep_records(contract.project_id, rejected.count, rejected.first, sent)

    async def body(self, contract: Contract) -> bytes:
        """Return the body. Only the first call reads it from the connection."""
        if self._body is None:
            self.hold.who = contract.project_id
            try:
                self._body = await read_body(self.request, self.hold)
            except ApiError as refusal:
                # Do not check the contract again: another contract would not help, and the body cannot be read twice.
                refusal.confirmed = True
                raise
        return self._body

    async def retryable(self, contract: Contract, key: str) -> Retryable:
        """Return what identifies this request and its retries."""
        kind = f"{type(self).__name__} {media_type(self.request.META.get('CONTENT_TYPE', ''))}"
        return Retryable.of(key, kind, await self.body(contract))


def _validated(validate: Validator, schema: Any, body: bytes) -> Payload:
    """Validate a body in a thread. Return its payload, packed for the queue.

    Raise BodyTooLarge if arrays need too much memory, or patterns too much time.
    """
    if schema.has_arrays and body.count(b",") > _MAX_COMMAS:
        detail = (
            f"The schema has arrays, so a body may have at most {_MAX_COMMAS:,} commas. Send fewer records at a time."
        )
        raise BodyTooLarge({"limit": _MAX_COMMAS, "detail": detail})
    try:
        with limited_matching(_MAX_MATCHING_SECONDS):
            payload = validate(schema, body)
    except PatternsTooSlow as failure:
        detail = (
            f"The schema's patterns need more than {_MAX_MATCHING_SECONDS} seconds for this body. Send fewer records."
        )
        raise BodyTooLarge({"limit": _MAX_MATCHING_SECONDS, "detail": detail}) from failure
    return msgspec.structs.replace(payload, queued=packed(payload.body))


def _validate_either(schema: Any, body: bytes, **options: Any) -> Payload:
    """Return the payload of a body that is one record or a batch."""
    return (validate_array if body.lstrip()[:1] == b"[" else validate_one)(schema, body, **options)


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
    """`POST /datasets/<id>/validate`: says what ingest would answer. Charges and queues nothing."""

    takes_batches = True

    def validator(self, content_type: str) -> Validator:
        if content_type == NDJSON:
            return validate_lines
        return _validate_either

    def form(self, content_type: str, body: bytes) -> str:
        if content_type == NDJSON:
            return "lines"
        return "batch" if body.lstrip()[:1] == b"[" else "single"

    async def post(self, request: ApiRequest, dataset_id: str | None = None) -> Answer:
        wanted = self.dataset_id(request, dataset_id)
        with self.hold:
            payload = await self.under_contract(wanted, self.validate)
        answer: dict[str, Any] = {"valid": True, "count": payload.count}
        if payload.rejected is None:
            return json_response(answer)
        answer["valid"] = payload.rejected.count == 0
        return json_response(answer | msgspec.json.decode(b"{%b}" % payload.rejected.answer), headers=lenient.APPLIED)

    async def validate(self, contract: Contract) -> Payload:
        """Return the valid body, if the contract is still in force."""
        payload = await self.read(contract)
        await check_in_force(contract)
        return payload


class ReceiptView(KeyView):
    """`GET /datasets/<id>/receipts/<receipt>`: where accepted records are now."""

    async def get(self, request: ApiRequest, dataset_id: str, receipt: str) -> HttpResponse:
        found = await self.under_contract(self.dataset_id(request, dataset_id), partial(self.find, receipt))
        return json_response(found)

    async def find(self, receipt: str, contract: Contract) -> dict[str, Any]:
        """Return where the records of a receipt are."""
        await check_in_force(contract)
        return await READING.run(look_up, receipts.read(contract.dataset_id, receipt))


class RootView(ApiView):
    """`GET /`: links to the description and to the admin, for people who open the service's address."""

    async def get(self, request: ApiRequest) -> HttpResponse:
        if "text/html" in request.META.get("HTTP_ACCEPT", ""):
            return HttpResponse(_ROOT_PAGE, headers={"Vary": "Accept"})
        places = {"service": "Dataset ingest", "description": "/openapi.json"}
        places |= {"documentation": "/docs", "admin": "/admin/"}
        return json_response(places, headers={"Vary": "Accept"})


class HealthView(ApiView):
    """`GET /healthz`: says that this process answers."""

    async def get(self, request: ApiRequest) -> HttpResponse:
        return json_response({"status": "ok"})


class ReadyView(ApiView):
    """`GET /readyz`: the state of each part that ingest needs. The status is 503 if a part is not ok."""

    async def get(self, request: ApiRequest) -> HttpResponse:
        checks = await CHECKING.run(health.checks)
        ready = all(state == "ok" for state in checks.values())
        body = {"status": "ok" if ready else "unavailable", "checks": checks}
        return json_response(body) if ready else json_response(body, status=503, headers={"Retry-After": "5"})


class OpenApiView(ApiView):
    """`GET /openapi.json`: the description of this API."""

    async def get(self, request: ApiRequest) -> HttpResponse:
        return json_response(await CHECKING.run(openapi.description))


class MetricsView(ApiView):
    """`GET /metrics`: Prometheus text."""

    async def get(self, request: ApiRequest) -> HttpResponse:
        return HttpResponse(await CHECKING.run(metrics.text), content_type=metrics.CONTENT_TYPE)
