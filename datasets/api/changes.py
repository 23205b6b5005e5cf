"""Write changes to the admin's change log, and check by ETag that no other change came first."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db.models import Model
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from datasets.api.base import ManagementView
from datasets.api.errors import PreconditionFailed


def log_addition(view: ManagementView, added: Model, what: str = "Added.") -> None:
    """Write to the change log that the token's user has added an object."""
    _log(view, added, ADDITION, what)


def log_change(view: ManagementView, changed: Model, what: str) -> None:
    """Write to the change log what the token's user has changed."""
    _log(view, changed, CHANGE, what)


def _log(view: ManagementView, changed: Any, flag: int, what: str) -> None:
    message = f"{what} By the token “{view.token}”."
    LogEntry.objects.log_actions(view.user.pk, [changed], flag, change_message=message, single_object=True)


def described(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the old and the new value of each member that differs, for the change log."""
    changed: Iterable[str] = (name for name in after if before[name] != after[name])
    return " ".join(
        f"{name.replace('_', ' ').capitalize()}: “{_plain(before[name])}” → “{_plain(after[name])}”."
        for name in changed
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def etag_of(shown: Mapping[str, Any]) -> str:
    """Return the ETag of an object as clients see it."""
    return f'"{hashlib.sha256(JSONRenderer().render(shown)).hexdigest()[:32]}"'


def check_precondition(request: Request, etag: str) -> None:
    """Raise PreconditionFailed if the present state does not meet the request's If-Match or If-None-Match."""
    _check_form_of_if_match(request, etag)
    if get_conditional_response(request._request, etag=etag) is not None:
        raise PreconditionFailed(headers={"ETag": etag})


def _check_form_of_if_match(request: Request, etag: str) -> None:
    """Raise PreconditionFailed if If-Match has no ETag. Django would ignore the header and allow the change."""
    given = request.headers.get("If-Match")
    if given is not None and not parse_etags(given):
        detail = "If-Match has no ETag. Send the ETag of an earlier answer, with its quotes."
        raise PreconditionFailed({"detail": detail}, headers={"ETag": etag})


def answer_with_etag(request: Request, shown: Mapping[str, Any]) -> Any:
    """Return the answer to a GET, or a 304 if the client already has this state. Raises PreconditionFailed."""
    etag = etag_of(shown)
    _check_form_of_if_match(request, etag)
    answer = get_conditional_response(request._request, etag=etag, response=Response(shown, headers={"ETag": etag}))
    if answer is not None and answer.status_code == 412:  # Django's own answer has no body
        raise PreconditionFailed(headers={"ETag": etag})
    return answer
