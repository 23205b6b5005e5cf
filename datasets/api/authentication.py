"""Authenticate a request by its personal access token, and check the token's scope."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from config.common.requests import LOGGED_IN, client_address
from datasets import personal_tokens
from datasets.api.errors import InsufficientScope, InvalidToken, MissingToken, ProjectKeyUsed, TooManyFailedTokens
from datasets.contracts.keys import PERSONAL_PREFIX
from datasets.models import PersonalAccessToken

_DOTS_IN_AN_API_KEY = 2  # an API key is a JSON Web Token, which has three parts


class FailedTokens(SimpleRateThrottle):
    """Counts the invalid tokens from each address. The limits are those of failed logins.

    Valid tokens from this address are still accepted: it may be the address of a whole company.
    """

    def get_rate(self) -> str:
        """Return nothing: `parse_rate` takes the limit from the settings."""
        return ""

    def parse_rate(self, rate: str | None) -> tuple[int, int]:
        """Return the limit: the number of failures, and the seconds for which each counts."""
        return settings.AXES_FAILURE_LIMIT, int(settings.AXES_COOLOFF_TIME.total_seconds())

    def get_cache_key(self, request: Request, view: Any) -> str:
        return f"failed_tokens:{client_address(request._request)}"

    def note(self, request: Request) -> None:
        """Count a failure. Raises TooManyFailedTokens beyond the limit."""
        if not self.allow_request(request, None):  # type: ignore[arg-type]  # our cache key needs no view
            raise TooManyFailedTokens(self.wait() or 0)


class PersonalTokenAuthentication(BaseAuthentication):
    """Takes the token from `Authorization: Bearer`, and ignores sessions and cookies."""

    def authenticate(self, request: Request) -> tuple[User, PersonalAccessToken]:
        scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise MissingToken
        if secret.count(".") == _DOTS_IN_AN_API_KEY:
            raise ProjectKeyUsed
        token = personal_tokens.find(secret) if secret.startswith(PERSONAL_PREFIX) else None
        if token is None:
            FailedTokens().note(request)
            raise InvalidToken
        request.META[LOGGED_IN] = token.digest
        return token.user, token


class ScopePermission(BasePermission):
    """Only tokens with the scope `write` may change anything."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise InsufficientScope."""
        token: Any = request.auth
        if request.method not in SAFE_METHODS and token.scope != PersonalAccessToken.Scope.WRITE:
            raise InsufficientScope
        return True
