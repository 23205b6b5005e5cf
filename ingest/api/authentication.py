"""The API's one authentication class: a project API key as a bearer token."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication

from datasets.contracts.keys import PERSONAL_PREFIX, InvalidApiKey, MissingApiKey, PersonalTokenUsed

# A signed token of ours is some 250 characters; what is far longer need not be looked at.
_MAX_TOKEN_LENGTH = 4096


class ApiKeyAuthentication(BaseAuthentication):
    """Takes the token from `Authorization: Bearer`. Whether it is good is for the catalog to say, with the contract."""

    def authenticate(self, request: HttpRequest) -> tuple[None, str]:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MissingApiKey
        if token.startswith(PERSONAL_PREFIX):
            raise PersonalTokenUsed
        if len(token) > _MAX_TOKEN_LENGTH:
            raise InvalidApiKey
        return None, token
