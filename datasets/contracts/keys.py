"""API keys as tokens: JSON Web Tokens signed with HS256, whose claims name the project.

Claims: `jti` the key's id, `project_id`, `iat`, and `exp` where the key expires.
"""

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from jwt.utils import base64url_decode, base64url_encode

from config.common.errors import ApiError
from datasets.models import ApiKey

_ALGORITHM = "HS256"
_MAX_ID = 2**63 - 1  # of a row in the database
PERSONAL_PREFIX = "pat_"
# What reading a claim of an unforeseen type may raise; PyJWT does not catch it all.
_MALFORMED = (ValueError, TypeError, AttributeError, OverflowError)
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class MissingApiKey(ApiError):
    """No usable Authorization header."""

    status, code, error, headers = 401, "missing_api_key", "Missing API key", _CHALLENGE


class InvalidApiKey(ApiError):
    """Forged, expired, revoked, or of an inactive project: one answer for all."""

    status, code, error, headers = 401, "invalid_api_key", "Invalid API key", _CHALLENGE


class MissingProjectClaim(ApiError):
    """Signed by us, but not a project's key."""

    status, code, error = 401, "missing_project_claim", "Project not found in API token claims"
    headers = _CHALLENGE


class PersonalTokenUsed(ApiError):
    """A person's token where a project's is needed."""

    status, code = 403, "personal_access_token"
    error = "Use a project API key, not a personal access token"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says."""

    token_id: UUID
    project_id: int
    expires_at: float  # seconds since the epoch; infinity if it does not


def issue_token(key: ApiKey) -> str:
    """The token of a key, to be shown once. The same key gives the same token as long as the secret stays."""
    claims: dict[str, Any] = {
        "jti": str(key.token_id),
        "project_id": key.project_id,
        "iat": int(key.created_at.timestamp()),
    }
    if key.expires_at is not None:
        claims["exp"] = int(key.expires_at.timestamp())
    return jwt.encode(claims, settings.API_KEY_SECRET, algorithm=_ALGORITHM)


def read_token(token: str) -> Claims:
    """The claims of a token that we signed, with the present secret or a former one. No database is asked.

    Raises InvalidApiKey, or MissingProjectClaim for a genuine token that names no project.
    """
    claims = _verified(token)
    if not _is_canonical(token):
        raise InvalidApiKey
    project_id = claims.get("project_id")
    if not isinstance(project_id, int) or isinstance(project_id, bool):
        raise MissingProjectClaim
    if not 0 < project_id <= _MAX_ID:
        raise InvalidApiKey
    try:
        return Claims(UUID(claims["jti"]), project_id, float(claims.get("exp", math.inf)))
    except (KeyError, *_MALFORMED):
        raise InvalidApiKey from None


def _is_canonical(token: str) -> bool:
    """Whether the signature is written as we write it. base64 is read leniently: characters that it lacks are skipped.

    Else one key would have any number of tokens, and each of them a place in the catalog.
    """
    signature = token.rpartition(".")[2]
    return base64url_encode(base64url_decode(signature)).decode() == signature


def _verified(token: str) -> dict[str, Any]:
    for secret in (settings.API_KEY_SECRET, *settings.API_KEY_SECRET_FALLBACKS):
        try:
            # `iat` is information: a host whose clock runs ahead may have signed the token.
            claims: dict[str, Any] = jwt.decode(token, secret, algorithms=[_ALGORITHM], options={"verify_iat": False})
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, *_MALFORMED):
            break
        return claims
    raise InvalidApiKey
