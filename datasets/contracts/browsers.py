"""Browser keys: API keys that stand in web pages, where everybody can read them.

Each works only in pages of the origins in its list. See docs/decisions/0026-browser-keys.md.
"""

from dataclasses import dataclass

from config.common.errors import ApiError


class OriginNotAllowed(ApiError):
    """A browser key came from a page that may not use it, or from no page."""

    status, code, error = 403, "origin_not_allowed", "Origin not allowed for this API key"


class BrowserKeyRequired(ApiError):
    """An ordinary key came from a web page."""

    status, code, error = 403, "browser_key_required", "Use a browser key in web pages, not an ordinary API key"


class KeyInAddress(ApiError):
    """An ordinary key was in the address of a request."""

    status, code, error = 403, "api_key_in_address", "Only a browser key may be in the address"


@dataclass(frozen=True, slots=True)
class BrowserKey:
    """What the pages with a browser key may do."""

    origins: frozenset[str]
    records_per_minute: int
