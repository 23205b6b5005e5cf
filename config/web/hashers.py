"""Password hashing that cannot take a web process: at most two checks run at once."""

import threading

from django.contrib.auth.hashers import PBKDF2PasswordHasher

_AT_ONCE = 2
_WAIT_SECONDS = 2.0
_checks = threading.Semaphore(_AT_ONCE)


class PasswordChecksBusy(Exception):
    """Two passwords are being checked already, and took longer than a login may wait."""


class BoundedPasswordHasher(PBKDF2PasswordHasher):
    """Django's default hasher. A third check waits for two seconds, then raises PasswordChecksBusy: 503."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        if not _checks.acquire(timeout=_WAIT_SECONDS):
            raise PasswordChecksBusy
        try:
            return super().encode(password, salt, iterations)
        finally:
            _checks.release()
