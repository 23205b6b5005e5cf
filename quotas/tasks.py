"""Celery tasks of the quotas app."""

from celery import shared_task

from quotas import services


@shared_task(name="quotas.flush_usage")
def flush_usage() -> None:
    """Write to the database the usage that Redis has counted."""
    services.flush()
