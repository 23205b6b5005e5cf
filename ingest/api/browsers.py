"""Requests of web pages from other sites: the CORS headers, and who may use which key.

A browser sends the page's origin in the header `Origin`. Before most requests, it asks the service whether the page may
send them: this is the preflight. The browser shows an answer only to pages that the answer's header
`Access-Control-Allow-Origin` names. The service uses no cookies here, so these headers alone are no protection: the key
and its origins decide. See docs/decisions/0026-browser-keys.md.
"""

from collections.abc import Sequence

from django.http import HttpResponse

from datasets.contracts.browsers import BrowserKey, BrowserKeyRequired, KeyInAddress, OriginNotAllowed
from ingest.api.bypasses import ApiRequest
from ingest.validation.body import JSON

Headers = Sequence[tuple[bytes, bytes]]

# The request headers that this service allows a page to send. A page may always send some other headers.
_ACCEPTED_HEADERS = (
    *("Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match"),
    *("Prefer", "X-Loguro-Dataset-Id", "X-Request-Id"),
)
# The response headers that this service allows a page to read. A page may always read some other headers.
_EXPOSED_HEADERS = (
    *("ETag", "Idempotent-Replayed", "Location", "Preference-Applied", "RateLimit"),
    *("RateLimit-Policy", "Retry-After", "X-Request-Id"),
)
# Chromium keeps the answer to a preflight for two hours at most, Firefox for a day.
_MAX_AGE_SECONDS = 86_400
# The media type of a text that navigator.sendBeacon sends. If a page from another site sent JSON with a beacon, the
# browser would first send a preflight, and would then refuse the beacon, because beacons also send cookies.
_TEXT = "text/plain"

_VARY = (b"vary", b"Origin")
NO_PAGE: Headers = (_VARY,)


def _readable_in(origin: str) -> Headers:
    """Return the headers that let pages of an origin read the answer. `*` means every page."""
    exposed = (b"access-control-expose-headers", ", ".join(_EXPOSED_HEADERS).encode())
    return ((b"access-control-allow-origin", origin.encode("latin-1")), exposed, _VARY)


ANY_PAGE = _readable_in("*")


def preflight(request: ApiRequest, methods: Sequence[str]) -> HttpResponse | None:
    """Return the answer to a preflight, or None if the request is not a preflight.

    A preflight carries no key. So every page gets the same answer for every dataset, even for one that does not exist.
    The service checks the key in the request that follows.
    """
    if request.method != "OPTIONS" or not {"HTTP_ORIGIN", "HTTP_ACCESS_CONTROL_REQUEST_METHOD"} <= request.META.keys():
        return None
    headers = {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": ", ".join(_ACCEPTED_HEADERS),
        "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
    }
    response = HttpResponse(status=204, headers=headers)
    del response.headers["Content-Type"]
    return response


def check_sender(request: ApiRequest, key: BrowserKey | None) -> None:
    """Raise a refusal if a request may not use its key. Decide which page may read the answer.

    Raises:
        OriginNotAllowed: The key is a browser key, and its list does not have the page's origin.
        BrowserKeyRequired: The key is an ordinary key, and a page of another site has sent it.
        KeyInAddress: The key is an ordinary key, and it is in the address.
    """
    origin = request.META.get("HTTP_ORIGIN")
    if key is None:
        if request.key_is_in_address:
            raise KeyInAddress(_IN_ADDRESS)
        if origin is not None and not _is_our_own(origin, request):
            raise BrowserKeyRequired(_IN_BROWSER)
        return
    request.cors = NO_PAGE
    if origin not in key.origins:
        raise OriginNotAllowed({"detail": _why(origin)})
    request.cors = _readable_in(origin)
    content_type = request.META.get("CONTENT_TYPE", "")
    if request.key_is_in_address and content_type.partition(";")[0].strip().lower() == _TEXT:
        request.META["CONTENT_TYPE"] = JSON + content_type[content_type.index(";") :] if ";" in content_type else JSON


def _is_our_own(origin: str, request: ApiRequest) -> bool:
    """Return whether a page of this service has sent the request. The page /docs does so when a user tries the API."""
    return origin.partition("://")[2] == request.META.get("HTTP_HOST")


_IN_ADDRESS = {
    "detail": "Send this key in the header Authorization: Bearer. Addresses are kept in logs, so rotate the key now."
}
_IN_BROWSER = {
    "detail": "Everybody who opens the page can read this key: revoke it, and issue a browser key for the page. If a "
    "server of yours has passed the request on, remove the header Origin there."
}


def _why(origin: str | None) -> str:
    """Return why a browser key does not work for a request with this `Origin` header, or with none."""
    if origin is None:
        return "A browser key works only in web pages, and this request has no Origin header. Use an ordinary key."
    if origin == "null":
        return "The page has no origin: it is a file, or a frame in a sandbox. Browser keys do not work there."
    return f"Pages at {origin[:100]} may not use this key. If they should, add this origin to the key."
