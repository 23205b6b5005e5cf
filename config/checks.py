"""System checks: settings that would fail later are named at start."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register


@register()
def check_settings(**_: Any) -> list[CheckMessage]:
    """Settings that contradict each other or the promise."""
    found: list[CheckMessage] = []
    if len(settings.API_KEY_SECRET) < 32:
        found.append(
            Error("API_KEY_SECRET is shorter than 32 characters.", hint="Set 50 random ones.", id="config.E001")
        )
    if settings.BACKLOG_LIMIT_BYTES < settings.MAX_BODY_BYTES:
        found.append(Error("BACKLOG_LIMIT_BYTES has no room for one body of MAX_BODY_BYTES.", id="config.E002"))
    if settings.DRAIN_LEASE_SECONDS < 5:
        found.append(
            checks.Warning(
                "DRAIN_LEASE_SECONDS is short: drains that are alive will be started again.", id="config.W001"
            )
        )
    if settings.MAX_BATCH_RECORDS > 100_000:
        found.append(Error("MAX_BATCH_RECORDS above 100000: row ids would not sort.", id="config.E003"))
    return found
