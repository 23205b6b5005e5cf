"""What the API would answer to a body, and the answer it gives when the body is sent for real."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from msgspec import Raw

from config import clock
from config.errors import ApiError, to_response
from config.middleware import request_id
from datasets.catalog import DatasetNotFound, compiled
from datasets.keys import InvalidApiKey, issue_token
from datasets.models import ApiKey, Dataset
from ingest.admission import Admission, over_quota, quota_headers
from ingest.body import JSON, NDJSON
from ingest.errors import BodyTooLarge, InvalidRecords
from ingest.problems import MAX_CHARACTERS
from ingest.validation import Payload
from ingest.views import BatchView, IngestView, SingleView
from quotas import services as quotas
from quotas.models import UNLIMITED


@dataclass(frozen=True, slots=True)
class Form:
    """A way to send records: the address after the dataset's, the media type, and the view that answers."""

    label: str
    path: str
    content_type: str
    view: type[IngestView]


FORMS = {
    "single": Form("Single record", "", JSON, SingleView),
    "batch": Form("Batch: a JSON array", "/batch", JSON, BatchView),
    "lines": Form("Batch: one record a line (NDJSON)", "/batch", NDJSON, BatchView),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: str
    problems: Sequence[dict[str, Any]] = ()


def preview(dataset: Dataset, body: bytes, form: Form) -> Answer:
    """What the API would answer now; nothing is queued or charged. A key in force is taken for granted."""
    try:
        payload, quota = _read(dataset, body, form), quotas.current(dataset.project.owner_id)
        if quota.limit != UNLIMITED and quota.used + payload.count > quota.limit:
            raise over_quota(quota.limit, quota.used, payload.count, quota.period)
    except ApiError as refusal:
        problems = refusal.details["errors"] if isinstance(refusal, InvalidRecords) else ()
        return _answer(to_response(refusal), problems)
    used = quota.used + payload.count
    admission = Admission(dataset.pk, "", "", payload.count, quota.limit, used, quota.period, False)
    content = form.view().accepted_body(admission)
    headers = quota_headers(quota.limit, used, quota.period)
    return _answer(HttpResponse(content, status=202, content_type=JSON, headers=headers))


def _read(dataset: Dataset, body: bytes, form: Form) -> Payload:
    if not dataset.project.is_active:
        raise InvalidApiKey
    version = dataset.versions.order_by("-number").first()
    if version is None or dataset.is_archived:
        raise DatasetNotFound
    if len(body) > settings.MAX_BODY_BYTES:
        raise BodyTooLarge({"limit": settings.MAX_BODY_BYTES})
    schema = compiled(version.pk, tuple(version.field_list()))
    return form.view().validator(form.content_type)(schema, body)


def send(dataset: Dataset, body: bytes, form: Form, key: ApiKey) -> Answer:
    """Send it, with a key of the dataset's project, through the very view that answers clients."""
    request = WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": f"/datasets/{dataset.pk}{form.path}",
            "SERVER_NAME": "admin",
            "SERVER_PORT": "80",
            "CONTENT_TYPE": form.content_type,
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {issue_token(key)}",
            "HTTP_X_REQUEST_ID": f"try-{dataset.pk}-{int(clock.now().timestamp() * 1000)}",
            "wsgi.input": io.BytesIO(body),
        }
    )
    response: HttpResponse = form.view.as_view()(request, dataset_id=str(dataset.pk))
    response.headers["X-Request-Id"] = request_id(request)
    answer = _answer(response)
    problems = msgspec.json.decode(response.content).get("errors", ()) if response.status_code == 400 else ()
    return Answer(answer.status, answer.reason, answer.headers, answer.body, problems)


def _answer(response: Any, problems: Sequence[dict[str, Any]] = ()) -> Answer:
    body = response.content.decode()
    return Answer(response.status_code, response.reason_phrase, list(response.items()), body, problems)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a record, as it is shown, and what is wrong with it."""

    text: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MarkedRecord:
    """A record that has problems, line by line."""

    number: int  # from 1, as people count
    lines: list[Line]


def marked(body: bytes, form: Form, problems: Sequence[dict[str, Any]]) -> Iterator[MarkedRecord]:
    """The records that problems were found in, each problem at its field; a missing field gets a line of its own."""
    by_record: dict[int, list[dict[str, Any]]] = {}
    for problem in problems:
        by_record.setdefault(problem.get("index", 0), []).append(problem)
    records = _texts(body, form) if problems else []
    for index, found in by_record.items():
        yield MarkedRecord(index + 1, _lines(records[index], found))


def _texts(body: bytes, form: Form) -> list[bytes]:
    if form.content_type == NDJSON:
        return [line for line in body.split(b"\n") if line.strip()]
    if form.path:
        return [bytes(each) for each in msgspec.json.decode(body, type=list[Raw])]
    return [body]


def _lines(record: bytes, problems: list[dict[str, Any]]) -> list[Line]:
    try:
        values = msgspec.json.decode(record, type=dict[str, Raw])
    except msgspec.DecodeError:  # not an object
        return [Line(record.decode(errors="replace")[:2000], problems[0]["error"])]
    said = {each["field"]: _said(each) for each in problems}
    lines = [
        Line(f"  {msgspec.json.encode(name).decode()}: {_shown(bytes(value))},", said.pop(name[:MAX_CHARACTERS], ""))
        for name, value in values.items()
    ]
    lines += [Line(f"  {msgspec.json.encode(name).decode()}: …", text) for name, text in said.items()]
    return [Line("{"), *lines, Line("}")]


def _said(problem: dict[str, Any]) -> str:
    text = f"{problem['error']}: expected {problem['expected']}, received {problem['received']}"
    return f"{text}. {problem['detail']}" if "detail" in problem else text


def _shown(value: bytes) -> str:
    """On one line."""
    try:
        value = msgspec.json.format(value, indent=0)
    except msgspec.DecodeError:  # what is wrong with it is said beside it
        value = b" ".join(value.split(b"\n"))
    return value.decode(errors="replace")[:500]
