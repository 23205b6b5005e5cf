"""A relay between a client and the service, which can lose answers."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on to the service."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, service_port: int) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.service_port = service_port
        self.to_lose = 0  # answers that the client will not get
        self.lost = 0


class _Connection(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.service_port)) as service, suppress(OSError):
            threading.Thread(target=_pass_on, args=(self.request, service), daemon=True).start()
            while answer := service.recv(65536):
                if self.server.to_lose:
                    self.server.to_lose -= 1
                    self.server.lost += 1
                    self.request.shutdown(socket.SHUT_RDWR)
                    return
                self.request.sendall(answer)


def _pass_on(client: Any, service: socket.socket) -> None:
    with suppress(OSError):
        while asked := client.recv(65536):
            service.sendall(asked)
        service.shutdown(socket.SHUT_WR)


@contextmanager
def relaying(port: int, service_port: int, *, to_lose: int = 0) -> Iterator[Relay]:
    """Relay connections to this port during a block."""
    with Relay(port, service_port) as relay:
        relay.to_lose = to_lose
        threading.Thread(target=relay.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield relay
        finally:
            relay.shutdown()
