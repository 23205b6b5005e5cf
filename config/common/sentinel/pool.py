"""Connections to the primary that the sentinels name. django-redis gets them through its option CONNECTION_FACTORY."""

import threading
from typing import Any

from django_redis.pool import ConnectionFactory
from redis.sentinel import Sentinel, SentinelConnectionPool

from config.common.sentinel import urls


class Sentinels(Sentinel):
    """redis-py's sentinels, for several threads.

    redis-py moves the sentinel that answers to the front of its list. If two threads did that at the same time, the
    list could lose a sentinel.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address of the primary. Raises redis-py's ConnectionError."""
        with self._lock:
            found: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
            return found


class SentinelConnectionFactory(ConnectionFactory):  # type: ignore[misc]  # django-redis has no annotations
    """Makes django-redis's pool from a URL that names sentinels. django-redis's own factory does not know such URLs."""

    def get_connection_pool(self, params: dict[str, Any]) -> Any:
        """Return a pool whose connections ask the sentinels for the primary each time they connect."""
        url = urls.parse("REDIS_URL", params["url"])
        kwargs = self.pool_cls_kwargs
        asking = {
            "socket_timeout": kwargs["socket_connect_timeout"],  # a sentinel answers immediately
            "socket_connect_timeout": kwargs["socket_connect_timeout"],
            "retry": kwargs["retry"],
        }
        sentinels = Sentinels(url.addresses, sentinel_kwargs={**asking, **url.to_sentinel()})
        own = {**kwargs, **url.to_redis(), "ssl": bool(url.tls), "parser_class": params["parser_class"]}
        return SentinelConnectionPool(url.service, sentinels, **own)  # type: ignore[no-untyped-call]
