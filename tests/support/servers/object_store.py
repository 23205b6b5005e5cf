"""An S3 server in its own process. It can be stopped, and started again with its objects."""

import logging
import threading
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import unquote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.support.processes.crashing import PROCESSES


class ObjectStore:
    """The server. It handles one request at a time, so that conditional writes are atomic as in real object stores."""

    def __init__(self) -> None:
        ours, theirs = PROCESSES.Pipe()
        self._pipe: Connection = ours
        self._process = PROCESSES.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{self._ask('start')}"

    def start(self) -> None:
        self._ask("start")

    def stop(self) -> None:
        """Refuse connections, as a server that is down does."""
        self._ask("stop")

    def hang(self, name: str) -> None:
        """Accept requests whose address contains `name`, but never answer them. With "", answer all requests again."""
        self._ask(f"hang {name}")

    def requests(self) -> list[tuple[str, str, str]]:
        """Return method, path and If-None-Match of the requests since the last call."""
        seen: list[tuple[str, str, str]] = self._ask("requests")
        return seen

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        if not self._pipe.poll(60):
            raise TimeoutError("the object store does not answer")
        return self._pipe.recv()


def _serve(pipe: Connection) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)
    seen: list[tuple[str, str, str]] = []
    one_at_a_time = threading.Lock()
    hanging = ""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if hanging and hanging in f"{environ['PATH_INFO']}?{unquote(environ['QUERY_STRING'])}":
            threading.Event().wait()
        with one_at_a_time:
            seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_IF_NONE_MATCH", "")))
            return moto(environ, start_response)

    server, port = None, 0
    while True:
        what = pipe.recv()
        answer: Any = None
        if what == "start":
            server = make_server("127.0.0.1", port, application, threaded=True)
            answer = port = server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
        elif what == "stop" and server is not None:
            server.shutdown()
            server.server_close()
        elif what.startswith("hang "):
            hanging = what.removeprefix("hang ")
        elif what == "requests":
            answer, seen[:] = list(seen), []
        pipe.send(answer)
