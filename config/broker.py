"""Look at the queues of Celery's broker, whatever kind it is."""

from typing import Any

from celery import Celery


def waiting(app: Celery, queue: str) -> int:
    """Return the number of messages in the queue that no worker has taken."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        # RabbitMQ refuses a declaration that differs from Celery's. A passive one would find no queue in Redis, because
        # kombu then leaves out the prefix of our keys.
        count: int = channel.queue_declare(queue=queue, durable=True, auto_delete=False).message_count
        return count
