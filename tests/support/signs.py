"""Signs of life of the processes that a test does not start."""

from ingest.monitoring import health, heartbeat


def all_is_well() -> None:
    """Every process is alive, and a worker has looked at the storage."""
    for process in heartbeat.PROCESSES:
        heartbeat.write(process)
    health.look_at_storage()
