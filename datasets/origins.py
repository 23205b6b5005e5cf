"""Origins of web pages: scheme, host and port (RFC 6454), as browsers write them in the header `Origin`."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

MAX_ORIGINS = 50
_MAX_CHARACTERS = 255
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII).fullmatch
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOW = "To see the origin of a page, open it and type location.origin into the browser's console."


def read_origins(texts: Iterable[str]) -> list[str]:
    """Return origins as browsers write them, each once, in their order. Raise ValidationError if one is wrong."""
    problems, found = [], []
    for text in texts:
        try:
            found.append(read_origin(text))
        except ValidationError as problem:
            problems += problem.messages
    if len(found) > MAX_ORIGINS:
        problems.append(f"A key can have at most {MAX_ORIGINS} origins.")
    if problems:
        raise ValidationError(problems)
    return list(dict.fromkeys(found))


def read_origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, without the default port. Raise ValidationError."""
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    if text.strip().lower() in ("*", "null"):
        raise ValidationError(f"“{shown}” would let every page use the key. Name the origins of your pages.")
    if "*" in text:
        raise ValidationError(f"“{shown}” has a wildcard, which is not supported. Add each origin separately.")
    if len(text) > _MAX_CHARACTERS or not text.isascii() or not text.isprintable():
        raise ValidationError(f"“{shown}” is not an origin that a browser sends. {_HOW}")
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        raise ValidationError(f"“{shown}” is not an origin. Write one like https://shop.example.com.") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise ValidationError(f"“{shown}” does not begin with https:// or http://. {_HOW}")
    if parts.path not in ("", "/") or "?" in text or "#" in text or "@" in text:
        wanted = "only scheme, host and port, like https://shop.example.com"
        raise ValidationError(f"“{shown}” is an address, but an origin has no path and no login. Write {wanted}.")
    host = _host(parts.hostname or "")
    if host is None or port == 0 or parts.netloc.endswith(":"):
        raise ValidationError(f"“{shown}” has no valid host or port. {_HOW}")
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def _host(name: str) -> str | None:
    """Return a host as browsers write it, or None if it is not valid."""
    if ":" in name:
        try:
            return f"[{IPv6Address(name)}]"
        except ValueError:
            return None
    return name if _HOST(name) else None


def unencrypted(origins: Iterable[str]) -> list[str]:
    """Return the origins whose pages others on the network can change: they use http, and are not on this machine."""
    return [each for each in origins if each.startswith("http://") and not _is_local(each)]


def _is_local(origin: str) -> bool:
    host = re.sub(r":[0-9]+$", "", origin.removeprefix("http://"))
    return host in _LOCAL or host.endswith(".localhost")
