"""What workers do for quotas."""

from celery import shared_task

from quotas import services


@shared_task(name="quotas.flush_usage")
def flush_usage() -> None:
    """Write the usage counted in Redis to the database."""
    services.flush()
