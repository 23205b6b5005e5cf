"""Request IDs, Idempotency-Keys, the client's address, and the names of our entries in a request's environ."""

import re
import secrets
from collections.abc import Mapping
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest

from config.common.errors import InvalidIdempotencyKey

# The name of an entry. If the user is logged in, or has just logged in, its value is the session's key or the digest of
# the personal access token. See config.web.share.
LOGGED_IN = "admin.logged_in"
# The name of an entry. For a query or a search of records, its value is a function that returns whether the client has
# disconnected.
IS_GONE = "web.is_gone"

# Accept only visible ASCII: an ID goes into a header and a column, and neither may hold control characters.
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}").fullmatch
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}").fullmatch


def request_id(request: HttpRequest) -> str:
    """Return the ID of this request in answers, logs and stored records (`__traceId`)."""
    known: str | None = getattr(request, "request_id", None)
    if known is None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        known = offered if _ACCEPTABLE(offered) else secrets.token_hex(16)
        request.request_id = known  # type: ignore[attr-defined]
    return known


def idempotency_key(meta: Mapping[str, str]) -> str | None:
    """Return the Idempotency-Key of a request, or None if it has none. Raises InvalidIdempotencyKey."""
    key = meta.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _IDEMPOTENCY_KEY(key):
        raise InvalidIdempotencyKey
    return key


def client_address(request: HttpRequest) -> str | None:
    """Return the client's address, as the outermost of our own proxies saw it, or as we see it without a proxy."""
    own: str = request.META.get("REMOTE_ADDR", "")
    claimed = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies: int = settings.PROXY_COUNT
    for address in ([claimed[-proxies]] if 0 < proxies <= len(claimed) else []) + [own]:
        try:
            return str(ip_address(address.strip()))
        except ValueError:
            continue
    return None
