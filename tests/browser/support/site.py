"""The whole site in this process: the application on a port, and a worker. Both use the test servers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.db import connections

from ingest.queue import turns
from ingest.storing.drain import drain
from tests.support.processes.signs import all_is_well
from tests.support.sending.asgi import as_wsgi


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            connections.close_all()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Log nothing. If a test fails, its output is enough."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve the application. Yields its URL."""
    server = make_server("127.0.0.1", 0, as_wsgi, server_class=_Server, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def working() -> Iterator[None]:
    """Run a worker that drains datasets and writes its heartbeat."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(0.1):
                all_is_well()
                while dataset_ids := turns.next_due():
                    drain(*dataset_ids)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
