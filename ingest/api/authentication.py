"""The API's one authentication class: a project API key as a bearer token."""

from typing import Any
from urllib.parse import parse_qs

from rest_framework.authentication import BaseAuthentication

from datasets.contracts.keys import PERSONAL_PREFIX, InvalidApiKey, MissingApiKey, PersonalTokenUsed

# Our signed tokens have about 250 characters. The service refuses longer tokens than this without reading them.
_MAX_TOKEN_LENGTH = 4096
_MAX_PARAMETERS = 20
_WHERE_THEY_WORK = {
    "detail": "Personal access tokens work at /api/. To send records, use an API key of the project: make one in the "
    "admin, or with POST /api/keys/<project>."
}


class ApiKeyAuthentication(BaseAuthentication):
    """Takes the token from `Authorization: Bearer`. The catalog checks it together with the contract.

    Without this header, it takes the token from the address: `?key=`. This is for navigator.sendBeacon, which cannot
    send headers, so only browser keys are accepted there. See `ingest.api.browsers`.
    """

    def authenticate(self, request: Any) -> tuple[None, str]:
        header: str | None = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            token = _key_in_address(request.query)
            request.key_is_in_address = True
        else:
            scheme, _, token = header.partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else ""
        if not token:
            raise MissingApiKey
        if token.startswith(PERSONAL_PREFIX):
            raise PersonalTokenUsed(_WHERE_THEY_WORK)
        if len(token) > _MAX_TOKEN_LENGTH:
            raise InvalidApiKey
        return None, token


def _key_in_address(query: bytes) -> str:
    """Return the parameter `key` of a query string, or an empty text if there is no such parameter or more than one."""
    try:
        found = parse_qs(query.decode("latin-1"), max_num_fields=_MAX_PARAMETERS).get("key", ())
    except ValueError:
        return ""
    return found[0] if len(found) == 1 else ""
