"""The URL of a Redis behind Sentinel: `redis+sentinel://user:password@host:26379,host,host/service/0`.

`rediss+sentinel` uses TLS for Redis and the sentinels. The username and password of the sentinels, usually others than
those of Redis, are in the query: `sentinel_username` and `sentinel_password`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from redis.connection import to_bool

_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_PORT = 26379
_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class SentinelUrl(NamedTuple):
    """The parts of the URL, as redis-py names them."""

    addresses: list[tuple[str, int]]  # of the sentinels
    service: str  # Sentinel's service name, which stands for the primary and its replicas
    redis: dict[str, Any]  # `db`, `username` and `password` of a connection to Redis
    sentinel: dict[str, Any]  # `username` and `password` of a connection to a sentinel
    tls: dict[str, Any]  # arguments of each connection, if the scheme asks for TLS

    def to_redis(self) -> dict[str, Any]:
        """Return the arguments of a connection to Redis, without an address."""
        return {**self.redis, **self.tls}

    def to_sentinel(self) -> dict[str, Any]:
        """Return the arguments of a connection to a sentinel, without an address."""
        return {**self.sentinel, **self.tls, "ssl": bool(self.tls)}


def is_sentinel(url: str) -> bool:
    """Return whether this is the URL of a Redis behind Sentinel."""
    return urlsplit(url).scheme in _SCHEMES


def parse(name: str, url: str) -> SentinelUrl:
    """Return the parts of a URL.

    Args:
        name: The name of the variable that has the URL, for error messages.
        url: A URL whose scheme is `redis+sentinel` or `rediss+sentinel`.

    Raises:
        ImproperlyConfigured: The URL is wrong. The message does not contain it.
    """
    try:
        return _parse(url)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}: expected redis+sentinel://user:password@host:26379,host,host/service/0. User, password, ports "
            "and the database number are optional. In a password, write special characters as %XX."
        ) from None


def check(name: str, url: str) -> None:
    """Raise ImproperlyConfigured if the URL of a Redis behind Sentinel is wrong. Accept every URL of anything else."""
    if is_sentinel(url):
        parse(name, url)


def for_celery(url: SentinelUrl) -> str:
    """Return the URL of a Redis behind Sentinel in Celery's syntax.

    It does not contain Sentinel's service name. Celery gets this name in its transport option `master_name`.
    """
    user, password = (quote(url.redis[each] or "", safe="") for each in ("username", "password"))
    login = f"{user}:{password}@" if password else ""
    return ";".join(f"sentinel://{login}{_written(*each)}/{url.redis['db']}" for each in url.addresses)


def _parse(url: str) -> SentinelUrl:
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    service, _, database = parts.path.removeprefix("/").partition("/")
    query = options(parts, *_SENTINEL_OPTIONS)
    if not service:
        raise ValueError
    return SentinelUrl(
        addresses=[address(each, _PORT) for each in hosts.split(",")],
        service=unquote(service),
        redis={"db": int(database or "0"), **login(parts)},
        sentinel={name.removeprefix("sentinel_"): query[name] for name in _SENTINEL_OPTIONS if name in query},
        tls=tls(query) if parts.scheme == "rediss+sentinel" else {},
    )


# -- functions that `config.common.cluster.urls` also uses. Each raises ValueError if the URL is wrong


def login(parts: SplitResult) -> dict[str, str | None]:
    """Return `username` and `password` of a connection to Redis."""
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return {"username": unquote(user) or None, "password": unquote(password) or None}


def options(parts: SplitResult, *others: str) -> dict[str, str]:
    """Return the options in the query. Only the options of TLS and those in `others` are allowed."""
    query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    if query.keys() - {*_TLS_OPTIONS, *others}:
        raise ValueError
    return query


def tls(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a connection with TLS."""
    checks_name = to_bool(query.get("ssl_check_hostname", "true"))  # type: ignore[no-untyped-call]
    given = {name: value for name, value in query.items() if name in _TLS_OPTIONS}
    return {"ssl_cert_reqs": "required", **given, "ssl_check_hostname": checks_name}


def address(text: str, port: int) -> tuple[str, int]:
    """Return the host and the port of `host:port`, or of `host` alone. The default of the port is `port`."""
    place = urlsplit(f"//{text}")
    if not place.hostname:
        raise ValueError(text)
    return place.hostname, place.port or port


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
