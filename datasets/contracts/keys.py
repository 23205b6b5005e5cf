"""API keys as tokens. A token is a JSON Web Token (RFC 7519), signed with HS256.

It has these claims: `jti` (the key's `token_id`), `project_id`, `iat`, and `exp` if the key expires.
"""

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from jwt.utils import base64url_decode, base64url_encode

from config.common import clock
from config.common.errors import ApiError
from datasets.models import ApiKey

_ALGORITHM = "HS256"
_MAX_ID = 2**63 - 1  # the largest ID of a row in the database
PERSONAL_PREFIX = "pat_"
# Reading a claim of an unexpected type may raise these. PyJWT does not catch all of them.
_MALFORMED = (ValueError, TypeError, AttributeError, OverflowError)
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class MissingApiKey(ApiError):
    """The request has no usable Authorization header."""

    status, code, error, headers = 401, "missing_api_key", "Missing API key", _CHALLENGE


class InvalidApiKey(ApiError):
    """The key is forged, expired or revoked, or its project is inactive. All cases get the same answer."""

    status, code, error, headers = 401, "invalid_api_key", "Invalid API key", _CHALLENGE


class MissingProjectClaim(ApiError):
    """We signed the token, but it names no project."""

    status, code, error = 401, "missing_project_claim", "Project not found in API token claims"
    headers = _CHALLENGE


class PersonalTokenUsed(ApiError):
    """The token belongs to a person, but a project's key is needed."""

    status, code = 403, "personal_access_token"
    error = "Use a project API key, not a personal access token"


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a genuine token."""

    token_id: UUID
    project_id: int
    expires_at: float  # seconds since the Unix epoch; infinity if the key does not expire


def issue_token(key: ApiKey) -> str:
    """Return the token of a key, to be shown once. A key has the same token until API_KEY_SECRET changes."""
    claims: dict[str, Any] = {
        "jti": str(key.token_id),
        "project_id": key.project_id,
        "iat": int(key.created_at.timestamp()),
    }
    if key.expires_at is not None:
        expires_at = key.expires_at.timestamp()
        claims["exp"] = int(expires_at) if expires_at.is_integer() else expires_at
    return jwt.encode(claims, settings.API_KEY_SECRET, algorithm=_ALGORITHM)


def read_token(token: str) -> Claims:
    """Return the claims of a token that we signed with the present secret or a former one. Do not ask the database.

    Raises:
        InvalidApiKey: We did not sign the token, it has expired, or its claims are malformed.
        MissingProjectClaim: The token is genuine, but names no project.
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
        found = Claims(UUID(claims["jti"]), project_id, float(claims.get("exp", math.inf)))
    except (KeyError, *_MALFORMED):
        raise InvalidApiKey from None
    if found.expires_at <= clock.seconds() or ("exp" in claims and not math.isfinite(found.expires_at)):
        raise InvalidApiKey
    return found


def _is_canonical(token: str) -> bool:
    """Return whether the signature is spelled as we spell it.

    base64 decoders skip unknown characters, so one key could have any number of spellings, each with an entry in the
    catalog's cache.
    """
    signature = token.rpartition(".")[2]
    return base64url_encode(base64url_decode(signature)).decode() == signature


def _verified(token: str) -> dict[str, Any]:
    """Return the claims of a token that one of our secrets has signed. Raise InvalidApiKey if none has."""
    for secret in (settings.API_KEY_SECRET, *settings.API_KEY_SECRET_FALLBACKS):
        try:
            # `iat` is not checked: the clock of the host that signed the token may run ahead. `read_token` checks
            # `exp`, because PyJWT would ignore its fraction.
            claims: dict[str, Any] = jwt.decode(
                token, secret, algorithms=[_ALGORITHM], options={"verify_iat": False, "verify_exp": False}
            )
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, *_MALFORMED):
            break
        return claims
    raise InvalidApiKey
