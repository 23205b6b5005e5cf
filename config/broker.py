"""Count the messages in a queue of Celery's broker. The broker may be Redis or RabbitMQ."""

from typing import Any

from celery import Celery


def waiting(app: Celery, queue: str) -> int:
    """Return the number of messages in the queue that no worker has taken."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        # Declare the queue as Celery does: RabbitMQ refuses any other declaration. A passive declaration would find no
        # queue in Redis, because kombu then leaves out the prefix of our keys.
        count: int = channel.queue_declare(queue=queue, durable=True, auto_delete=False).message_count
        return count
