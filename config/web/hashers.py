"""Password hashing that cannot block a web process: at most two checks run at the same time."""

import threading

from django.contrib.auth.hashers import PBKDF2PasswordHasher

_MAX_CHECKS = 2
_WAIT_SECONDS = 2.0
_checks = threading.Semaphore(_MAX_CHECKS)


class PasswordChecksBusy(Exception):
    """Two other password checks took longer than a login may wait."""


class BoundedPasswordHasher(PBKDF2PasswordHasher):
    """Django's default hasher. A third check waits up to two seconds, then raises PasswordChecksBusy (503)."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        if not _checks.acquire(timeout=_WAIT_SECONDS):
            raise PasswordChecksBusy
        try:
            return super().encode(password, salt, iterations)
        finally:
            _checks.release()
