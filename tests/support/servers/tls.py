"""TLS in front of a Redis. The servers in the wheels were built without TLS."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import trustme

T = TypeVar("T")
_PIECE_BYTES = 64 * 1024


class TlsProxy:
    """Forward connections with TLS to a Unix socket. Clients need a certificate, as Redis demands by default.

    Use it as a context manager: its event loop runs in a thread.
    """

    def __init__(self, socket: Path, directory: Path) -> None:
        self._socket = socket
        self._authority, self._certificate = directory / "authority.pem", directory / "client.pem"
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls", daemon=True)

    def __enter__(self) -> "TlsProxy":
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        authority.cert_pem.write_to_path(str(self._authority))
        authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(self._certificate))
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._forward, "127.0.0.1", 0, ssl=context))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.drop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def url(self, database: int, *, password: str, trusted: bool = True) -> str:
        """Return the URL for a client. An untrusted client has no certificate, and does not know our authority."""
        files = {"ssl_ca_certs": self._authority, "ssl_certfile": self._certificate, "ssl_keyfile": self._certificate}
        bare = f"rediss://:{password}@localhost:{self.port}/{database}"
        return f"{bare}?{urlencode(files)}" if trusted else bare

    def drop(self) -> int:
        """Break all connections. Return how many there were."""
        return self._call(self._drop())

    def _call(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    async def _drop(self) -> int:
        dropped = [*self._connections]
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        return len(dropped)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            from_redis, to_redis = await asyncio.open_unix_connection(str(self._socket))
            writers.append(to_redis)
            ways = [asyncio.ensure_future(_pump(*way)) for way in ((reader, to_redis), (from_redis, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for each in writers:
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
