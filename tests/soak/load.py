"""Send batches at a fixed rate, even if the service is slow, and count the answers."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.benchmarks.payloads import body

_CLIENTS = 16
_BODIES = 20  # different bodies, sent in turn
_TIMEOUT_SECONDS = 60
_MAX_ERRORS = 100  # the number of errors whose texts are kept
# Trace IDs begin with this. The trace ID of a request is stored with its records.
PREFIX = "soak-"


class Load:
    """Requests with `batch` records each to one dataset. The number of a request is its ID and Idempotency-Key."""

    def __init__(self, url: str, dataset: int, token: str, batch: int) -> None:
        self.batch = batch
        self.acknowledged = 0  # the number of acknowledged requests
        self.errors: list[str] = []
        self._address = urlsplit(url)
        self._path = f"/datasets/{dataset}" + "/batch" * (batch > 1)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._bodies = [body(batch, seed) for seed in range(_BODIES)]
        self._numbers = itertools.count()
        self._counting = threading.Lock()
        self._slowest = 0.0

    @property
    def records(self) -> int:
        """Return how many records were acknowledged."""
        return self.acknowledged * self.batch

    def slowest_seconds(self) -> float:
        """Return the longest latency since the last call, counted from when a request was due."""
        with self._counting:
            slowest, self._slowest = self._slowest, 0.0
        return slowest

    @contextmanager
    def sending(self, per_second: float | None) -> Iterator[None]:
        """Send `per_second` requests per second during the block. With None, send each one after the last answer."""
        over = threading.Event()
        turns = itertools.count()
        began = time.monotonic()

        def send() -> None:
            connection = self._connect()
            while not over.is_set():
                due = began + next(turns) / per_second if per_second else time.monotonic()
                if not over.wait(max(0.0, due - time.monotonic())):
                    self._send(connection, due)
            connection.close()

        clients = [threading.Thread(target=send) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            over.set()
            for client in clients:
                client.join()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=_TIMEOUT_SECONDS, blocksize=1 << 20
        )

    def _send(self, connection: http.client.HTTPConnection, due: float) -> None:
        number = next(self._numbers)
        name = f"{PREFIX}{number}"
        headers = {**self._headers, "X-Request-Id": name, "Idempotency-Key": name}
        try:
            connection.request("POST", self._path, self._bodies[number % _BODIES], headers)
            response = connection.getresponse()
            said = response.read()
            error = None if response.status == 202 else f"{response.status} {said[:300].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as failure:
            connection.close()  # the next request connects again
            error = repr(failure)
        with self._counting:
            self._slowest = max(self._slowest, time.monotonic() - due)
            if error is None:
                self.acknowledged += 1
            elif len(self.errors) < _MAX_ERRORS:
                self.errors.append(f"{name}: {error}")
