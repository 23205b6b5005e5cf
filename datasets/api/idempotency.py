"""`Idempotency-Key`: a POST that is repeated with the same key and body gets its first answer again.

The answer is saved in the transaction of the change. So either the change and the answer are saved, or neither is. If a
repetition comes while the first request still runs, the repetition waits until the first request has ended. Refusals
are not saved.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Protocol

from django.conf import settings
from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from config.common import clock
from config.common.errors import KeyReused
from config.common.requests import idempotency_key
from datasets.api.base import ManagementView
from datasets.api.changes import etag_of
from datasets.models import ManagementAnswer


class _Post(Protocol):
    def __call__(self, view: Any, request: Request, **kwargs: str) -> Response: ...


def once(post: Callable[..., Response]) -> _Post:
    """Run a view's `post` in one transaction, and only once for each Idempotency-Key."""

    @wraps(post)
    def posted(view: Any, request: Request, **kwargs: str) -> Response:
        key = idempotency_key(request.META)
        with transaction.atomic():
            if key is None:
                return post(view, request, **kwargs)
            answer, is_new = _reserve(view, request, key)
            if not is_new:
                return _replayed(view, answer)
            response = post(view, request, **kwargs)
            answer.status = response.status_code
            stored = {name: value for name, value in response.data.items() if name not in view.secrets}
            answer.body = JSONRenderer().render(stored).decode()
            answer.save(update_fields=("status", "body"))
            return response

    return posted


def _replayed(view: ManagementView, answer: ManagementAnswer) -> Response:
    """Return the first answer again. Its ETag belongs to the state in this answer, even if the object has changed."""
    body = json.loads(answer.body)
    headers = {"Idempotent-Replayed": "true"} | ({"ETag": etag_of(body)} if view.post_has_etag else {})
    return Response(view.with_secrets(body), status=answer.status, headers=headers)


def _reserve(view: ManagementView, request: Request, key: str) -> tuple[ManagementAnswer, bool]:
    """Return the row for a key's answer, and whether this request is the first one with the key. Raises KeyReused."""
    oldest = clock.now() - timedelta(seconds=settings.IDEMPOTENCY_TTL_SECONDS)
    ManagementAnswer.objects.filter(created_at__lt=oldest).delete()
    body = request._request.body
    digest = hashlib.sha256(f"{request.path.rstrip('/')}\n".encode() + body).hexdigest()
    answer, is_new = ManagementAnswer.objects.get_or_create(user=view.user, key=key, defaults={"digest": digest})
    if answer.digest != digest:
        raise KeyReused
    return answer, is_new
