"""The URL of a Redis Cluster: `redis+cluster://user:password@host:6379,host,host`.

`rediss+cluster` uses TLS. The URL need not name all nodes, because each node knows the others.
"""

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from config.common.sentinel.urls import address, login, options, tls

_SCHEMES = ("redis+cluster", "rediss+cluster")
_PORT = 6379


class ClusterUrl(NamedTuple):
    """The parts of a cluster's URL, as redis-py names them."""

    addresses: list[tuple[str, int]]
    redis: dict[str, Any]  # the arguments of each connection, without its address


def is_cluster(url: str) -> bool:
    """Return whether this is the URL of a cluster."""
    return urlsplit(url).scheme in _SCHEMES


def parse(name: str, url: str) -> ClusterUrl:
    """Return the parts of a URL.

    Args:
        name: The name of the variable that has the URL, for error messages.
        url: A URL whose scheme is `redis+cluster` or `rediss+cluster`.

    Raises:
        ImproperlyConfigured: The URL is wrong. The message does not contain it.
    """
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        found = ClusterUrl([address(each, _PORT) for each in hosts.split(",")], {**login(parts), "ssl": False})
        query = options(parts)
        if parts.scheme == "rediss+cluster":
            found.redis.update(tls(query), ssl=True)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}: expected redis+cluster://user:password@host:6379,host,host. User, password and ports are "
            "optional. In a password, write special characters as %XX."
        ) from None
    if parts.path not in ("", "/", "/0"):
        raise ImproperlyConfigured(
            f"{name}: a cluster has only database 0. Remove the path behind the last host of the URL."
        )
    return found


def check(name: str, url: str) -> None:
    """Raise ImproperlyConfigured if a cluster's URL is wrong. Accept every URL of anything else."""
    if is_cluster(url):
        parse(name, url)
