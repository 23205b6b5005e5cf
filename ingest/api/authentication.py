"""The API's one authentication class: a project API key as a bearer token."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication

from datasets.contracts.keys import PERSONAL_PREFIX, InvalidApiKey, MissingApiKey, PersonalTokenUsed

# Our signed tokens have about 250 characters. A much longer one is refused unread.
_MAX_TOKEN_LENGTH = 4096
_WHERE_THEY_WORK = {
    "detail": "Personal access tokens work at /api/. To send records, use an API key of the project: make one in the "
    "admin, or with POST /api/keys/<project>."
}


class ApiKeyAuthentication(BaseAuthentication):
    """Takes the token from `Authorization: Bearer`. The catalog checks it together with the contract."""

    def authenticate(self, request: HttpRequest) -> tuple[None, str]:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MissingApiKey
        if token.startswith(PERSONAL_PREFIX):
            raise PersonalTokenUsed(_WHERE_THEY_WORK)
        if len(token) > _MAX_TOKEN_LENGTH:
            raise InvalidApiKey
        return None, token
