"""The options that both clients have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from dataset_ingest.errors import DatasetError
from dataset_ingest.receipts import Receipt


@dataclass(frozen=True)
class Options:
    """How a client collects, sends and repeats. Times are in seconds.

    Attributes:
        max_batch_records: A batch is sent when it has this number of records.
        max_batch_bytes: A batch is also sent when it has this number of bytes.
        flush_interval: A batch is also sent when its first record has waited for this time.
        max_buffered_bytes: The maximum number of bytes of records that wait or are being sent. This limits the memory:
            in addition to its text, a record takes about 200 bytes.
        on_overflow: What `enqueue` does when the buffer is full: raise `BufferFullError`, or wait for room.
        max_retries: How often a request is repeated. None: as often as `retry_for` allows.
        retry_for: For how long a request is repeated. If there is a spool, enqueued records are repeated without end,
            except after a 429.
        min_backoff: The longest pause before the first retry. The longest pause doubles with each further retry.
        max_backoff: The longest pause never exceeds this time. Each pause is random, between 0 and the longest pause.
        timeout: How long to wait for a connection, and for each part of an answer.
        close_timeout: How long `close`, or the exit of the program, waits for records without an answer.
        connections: The maximum number of requests with enqueued records that run at the same time.
        spool: A directory in which enqueued records are kept until the service has answered.
        on_accepted: Called with the receipt of each batch of enqueued records.
        on_error: Called with each error of enqueued records, and with the JSON texts of these records. Without this
            hook, `flush` and `close` raise the first error.
    """

    max_batch_records: int = 500
    max_batch_bytes: int = 512 * 1024
    flush_interval: float = 1.0
    max_buffered_bytes: int = 64 * 1024 * 1024
    on_overflow: Literal["error", "block"] = "error"
    max_retries: int | None = None
    retry_for: float = 300.0
    min_backoff: float = 0.25
    max_backoff: float = 30.0
    timeout: float = 30.0
    close_timeout: float = 10.0
    connections: int = 2
    spool: str | os.PathLike[str] | None = None
    on_accepted: Callable[[Receipt], None] | None = None
    on_error: Callable[[DatasetError, Sequence[bytes]], None] | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_records", "max_batch_bytes", "max_buffered_bytes", "connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1.")
        if self.on_overflow not in ("error", "block"):
            raise ValueError('on_overflow must be "error" or "block".')


def address_of(base_url: str) -> str:
    """Return the address of the service, without the slash at its end."""
    if not base_url.lower().startswith(("http://", "https://")):
        raise ValueError(f"base_url must begin with http:// or https://, but it is {base_url!r}.")
    return base_url.rstrip("/")


def authorization_of(token: str) -> str:
    """Return the header for an API key or a token. White space around the token is left out, like a line break."""
    found = token.strip()
    if not found.isascii() or not found.isprintable() or not found:
        raise ValueError("An API key or a token is a text of visible ASCII characters, and is not empty.")
    return f"Bearer {found}"


class OptionArguments(TypedDict, total=False):
    """The options of the class `Options`, as keyword arguments of the clients."""

    max_batch_records: int
    max_batch_bytes: int
    flush_interval: float
    max_buffered_bytes: int
    on_overflow: Literal["error", "block"]
    max_retries: int | None
    retry_for: float
    min_backoff: float
    max_backoff: float
    timeout: float
    close_timeout: float
    connections: int
    spool: str | os.PathLike[str] | None
    on_accepted: Callable[[Receipt], None] | None
    on_error: Callable[[DatasetError, Sequence[bytes]], None] | None
