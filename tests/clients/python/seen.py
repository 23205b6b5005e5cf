"""Transports of httpx that send a client's requests to the application in this process, and keep them."""

import asyncio
import gzip
import json
from collections.abc import Callable

import httpx

from tests.support.sending.asgi import Transport


class Seen(Transport):
    """Sends requests to the application, and keeps them. It can also answer instead of the application."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | None] = lambda request: None) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.requests.append(request)
        return self.answer(request) or super().handle_request(request)

    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.requests]

    def records(self) -> list[int]:
        """Return how many records each request had."""
        return [len(json.loads(plain(request))) for request in self.requests]


class AsyncSeen(httpx.AsyncBaseTransport):
    """Does the same as `Seen` for an async client."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, in a thread."""
        answer = await asyncio.to_thread(self.seen.handle_request, request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())


def refuse(request: httpx.Request) -> httpx.Response:
    """Answer as if there were no server."""
    raise httpx.ConnectError("connection refused")


def plain(request: httpx.Request) -> bytes:
    body = request.read()
    return gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
