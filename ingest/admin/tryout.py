"""Preview the API's answer to a body, or send the body and show the real answer."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpResponse
from msgspec import Raw

from config.common import clock, loop
from config.common.errors import ApiError, BodyTooLarge, to_response
from config.common.redis import RedisUnavailable
from config.common.requests import request_id
from config.common.text import visible_lines
from datasets import tags
from datasets.contracts.contract import DatasetNotFound
from datasets.contracts.keys import InvalidApiKey, issue_token
from datasets.models import ApiKey, Dataset, SchemaVersion
from datasets.schemas.schema import CompiledSchema
from ingest.api.bypasses import Accepted, ApiRequest
from ingest.api.views import BatchView, IngestView, SingleView
from ingest.errors import NOTHING_HAPPENED, QueueUnavailable
from ingest.queue.admission import Admission
from ingest.queue.formats import Payload, lines_of
from ingest.queue.quota_answers import over_quota, quota_headers
from ingest.queue.redis_clock import RedisClock
from ingest.validation.body import JSON, NDJSON
from ingest.validation.record_errors import MAX_CHARACTERS
from quotas import services as quotas
from quotas.models import UNLIMITED


@dataclass(frozen=True, slots=True)
class Form:
    """A way to send records: the part of the path after the dataset's ID, the media type, and the view."""

    label: str
    path: str
    content_type: str
    view: type[IngestView]


FORMS = {
    "single": Form("Single record", "", JSON, SingleView),
    "batch": Form("Batch: a JSON array", "/batch", JSON, BatchView),
    "lines": Form("Batch: one record per line (NDJSON)", "/batch", NDJSON, BatchView),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The API's answer to a request."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: str
    problems: Sequence[dict[str, Any]] = ()
    detail: str = ""


def preview(dataset: Dataset, body: bytes, form: Form) -> Answer:
    """Return what the API would answer now to a request with an active key. Nothing is queued or charged."""
    try:
        payload, quota = _read(dataset, body, form), quotas.current(dataset.project.owner_id)
        if quota.limit != UNLIMITED and quota.used + payload.count > quota.limit:
            raise over_quota(quota.limit, quota.used, payload.count, quota.period)
    except ApiError as refusal:
        return _answer(to_response(refusal))
    used = quota.used + payload.count
    admission = Admission(dataset.pk, "", "", payload.count, quota.limit, used, quota.period, False)
    content = form.view().accepted_body(admission)
    headers = quota_headers(quota.limit, used, quota.period)
    return _answer(HttpResponse(content, status=202, content_type=JSON, headers=headers))


def _read(dataset: Dataset, body: bytes, form: Form) -> Payload:
    if not dataset.project.accepts_keys:
        raise InvalidApiKey
    version = dataset.latest_version()
    if version is None or dataset.is_archived:
        raise DatasetNotFound
    if len(body) > settings.MAX_BODY_BYTES:
        raise BodyTooLarge({"limit": settings.MAX_BODY_BYTES})
    return form.view().validator(form.content_type)(version.compiled(), body, earlier=_earlier(version))


def _earlier(version: SchemaVersion) -> CompiledSchema | None:
    """Return the schema of the previous version if the grace period has not ended. Raises QueueUnavailable."""
    ends = version.previous_valid_until
    if ends is None:
        return None
    try:
        is_over = loop.run(RedisClock.now_ms(tags.of_dataset(version.dataset_id))) >= ends.timestamp() * 1000
    except RedisUnavailable as failure:
        raise QueueUnavailable(NOTHING_HAPPENED) from failure
    previous = None if is_over else version.previous()
    return previous.compiled() if previous else None


def send(dataset: Dataset, body: bytes, form: Form, key: ApiKey) -> Answer:
    """Send the body with a key of the dataset's project, through the same view that answers clients."""
    trace_id = f"try-{dataset.pk}-{int(clock.now().timestamp() * 1000)}"
    headers = {
        "content-type": form.content_type,
        "content-length": str(len(body)),
        "authorization": f"Bearer {issue_token(key)}",
        "x-request-id": trace_id,
    }
    if key.is_for_browsers:
        headers["origin"] = key.origins[0]
    scope = {
        "method": "POST",
        "path": f"/datasets/{dataset.pk}{form.path}",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = ApiRequest(scope, receive)
    response: HttpResponse | Accepted = loop.run(form.view.as_view()(request, dataset_id=str(dataset.pk)))
    return _answer(response, ("X-Request-Id", request_id(request)))


def _answer(response: HttpResponse | Accepted, *more_headers: tuple[str, str]) -> Answer:
    content = msgspec.json.decode(response.content)
    return Answer(
        status=response.status_code,
        reason=HTTPStatus(response.status_code).phrase,
        headers=[*response.items(), *more_headers],
        body=visible_lines(response.content.decode()),
        problems=content.get("errors", ()),
        detail=content.get("detail", ""),
    )


# The page shows this number of lines from the beginning of a record, and all further lines that have a problem. A
# schema has at most 200 fields.
_MAX_LINES = 300


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a record, and its problem if it has one."""

    text: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MarkedRecord:
    """The lines of a record that has problems."""

    number: int  # the record's place in the body; the first record has number 1
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class InvalidPlace:
    """The place where the JSON of a body is invalid: its line in three parts, and the lines around it."""

    cause: str
    number: int  # the number of the line; the first line has number 1
    before: list[str]
    left: str
    here: str  # the wrong character; empty at the end of the body
    right: str
    after: list[str]
    at: int  # the offset in the body in UTF-16 code units, as browsers count


# How the `detail` of InvalidJson names a place.
_PLACE = re.compile(r"Line (\d+), column (\d+) \(byte (\d+)\): (.+)", re.DOTALL).fullmatch
_LINES_AROUND = 3
_CHARACTERS_AROUND = 120


def invalid_place(body: bytes, answer: Answer) -> InvalidPlace | None:
    """Return the place where the JSON is invalid, or None if the answer names no place."""
    match = _PLACE(answer.detail)
    if match is None:
        return None
    number, column, offset, cause = int(match[1]), int(match[2]), int(match[3]), match[4]
    lines = body.decode(errors="replace").split("\n")
    line, at = lines[number - 1], column - 1
    return InvalidPlace(
        cause=cause,
        number=number,
        before=[_cut(each) for each in lines[max(0, number - 1 - _LINES_AROUND) : number - 1]],
        left=_cut(line[:at], from_left=True),
        here=visible_lines(line[at : at + 1]),
        right=_cut(line[at + 1 :]),
        after=[_cut(each) for each in lines[number : number + _LINES_AROUND]],
        at=len(body[:offset].decode(errors="replace").encode("utf-16-le")) // 2,
    )


def _cut(text: str, *, from_left: bool = False) -> str:
    if len(text) > _CHARACTERS_AROUND:
        text = "…" + text[-_CHARACTERS_AROUND:] if from_left else text[:_CHARACTERS_AROUND] + "…"
    return visible_lines(text)


def marked(body: bytes, form: Form, problems: Sequence[dict[str, Any]]) -> Iterator[MarkedRecord]:
    """Yield the records that have problems, with each problem beside its field. A missing field gets a line."""
    by_record: dict[int, list[dict[str, Any]]] = {}
    for problem in problems:
        by_record.setdefault(problem.get("index", 0), []).append(problem)
    records = _texts(body, form) if problems else []
    for index, found in by_record.items():
        yield MarkedRecord(index + 1, _lines(records[index], found))


def _texts(body: bytes, form: Form) -> list[bytes]:
    if form.content_type == NDJSON:
        return lines_of(body)
    if form.path:
        return [bytes(each) for each in msgspec.json.decode(body, type=list[Raw])]
    return [body]


def _lines(record: bytes, problems: list[dict[str, Any]]) -> list[Line]:
    try:
        values = msgspec.json.decode(record, type=dict[str, Raw])
    except msgspec.DecodeError:  # not an object
        return [Line(visible_lines(record.decode(errors="replace")[:2000]), visible_lines(problems[0]["error"]))]
    texts = {each["field"]: _in_words(each) for each in problems}
    lines: list[Line] = []
    left_out = 0
    for name, value in values.items():
        problem = texts.pop(name[:MAX_CHARACTERS], "")
        if problem or len(lines) < _MAX_LINES:
            lines.append(Line(f"  {_shown(msgspec.json.encode(name))}: {_shown(bytes(value))},", problem))
        else:
            left_out += 1
    if left_out:
        lines.append(Line(f"  … and {left_out} more fields,"))
    lines += [Line(f"  {_shown(msgspec.json.encode(name))}: …", text) for name, text in texts.items()]
    return [Line("{"), *lines, Line("}")]


def _in_words(problem: dict[str, Any]) -> str:
    text = f"{problem['error']}: expected {problem['expected']}, received {problem['received']}"
    return visible_lines(f"{text}. {problem['detail']}" if "detail" in problem else text)


def _shown(value: bytes) -> str:
    """Return a JSON value on one line."""
    try:
        value = msgspec.json.format(value, indent=0)
    except msgspec.DecodeError:  # not JSON: the page shows this problem beside the value
        value = b" ".join(value.split(b"\n"))
    return visible_lines(value.decode(errors="replace")[:500])
