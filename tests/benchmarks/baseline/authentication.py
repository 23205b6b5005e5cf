"""Look up the API key in the database."""

import hashlib

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tests.benchmarks.baseline.models import ApiKey, Project


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`."""

    def authenticate(self, request: Request) -> tuple[Project, ApiKey] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return None
        digest = hashlib.sha256(token.encode()).hexdigest()
        key = (
            ApiKey.objects.select_related("project")
            .filter(digest=digest, revoked_at=None, project__is_active=True)
            .first()
        )
        if key is None:
            raise AuthenticationFailed("Invalid API key")
        return key.project, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
