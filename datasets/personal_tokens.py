"""Personal access tokens: issue, find and revoke.

A token is `pat_` and 256 random bits. It is shown once. The database has only its digest.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from config.common import clock
from datasets.access import may_manage
from datasets.contracts.keys import PERSONAL_PREFIX
from datasets.models import PersonalAccessToken

_BYTES = 32
# `last_used_at` may be older than the last request by up to this time, so that most requests write nothing.
_LAST_USED_PRECISION = timedelta(minutes=1)


def issue(token: PersonalAccessToken) -> str:
    """Save a new token, and return its secret, to be shown once."""
    secret = PERSONAL_PREFIX + secrets.token_urlsafe(_BYTES)
    token.digest = digest_of(secret)
    token.save(force_insert=True)
    return secret


def create(
    *, user: User, name: str, scope: str = PersonalAccessToken.Scope.WRITE, expires_at: datetime | None = None
) -> tuple[PersonalAccessToken, str]:
    """Create a token for a user. Return the token and its secret.

    Raises:
        ValidationError: The name is invalid, `expires_at` is in the past, or the user may not use tokens.
    """
    if not may_manage(user):
        raise ValidationError(
            f"{user} is inactive or not staff, so a token would have no rights. Make {user} active staff first."
        )
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationError(f"{expires_at:%Y-%m-%d %H:%M} UTC is in the past. Choose a later time.")
    token = PersonalAccessToken(user=user, name=name, scope=scope, expires_at=expires_at)
    token.full_clean(exclude=("digest",))
    return token, issue(token)


def in_force() -> QuerySet[PersonalAccessToken]:
    """Return the tokens of active users that are neither revoked nor expired."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    return PersonalAccessToken.objects.filter(unexpired, revoked_at=None, user__is_active=True)


def find(secret: str) -> PersonalAccessToken | None:
    """Return the token in force that has this secret, with its user. Save the time of its use once a minute."""
    token = in_force().select_related("user").filter(digest=digest_of(secret)).first()
    if token is not None:
        now = clock.now()
        if token.last_used_at is None or now - token.last_used_at >= _LAST_USED_PRECISION:
            PersonalAccessToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(tokens: Sequence[PersonalAccessToken]) -> None:
    """Revoke tokens: the next request with them is refused. Tokens that were revoked earlier do not change."""
    PersonalAccessToken.objects.filter(pk__in=[token.pk for token in tokens], revoked_at=None).update(
        revoked_at=clock.now()
    )


def digest_of(secret: str) -> str:
    """Return the digest that the database keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
