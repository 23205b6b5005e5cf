"""The whole service over a Redis with TLS, a password and client certificates."""

import json
import secrets
from pathlib import Path

from tests.support.processes.stack import running, wait_for
from tests.support.sending.connection import ROW
from tests.support.servers.plugin import RedisServer
from tests.support.servers.tls import TlsProxy

JSON = {"Content-Type": "application/json"}


def test_records_are_accepted_and_stored_over_tls(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    server.client().config_set("requirepass", "s3cret")
    try:
        with TlsProxy(server.socket, tmp_path) as proxy:
            environment = {"REDIS_URL": proxy.url(0, password="s3cret")}
            with running(tmp_path / "data", "--no-demo", "--web", "1", environment=environment) as stack:
                project, dataset, token = stack.make_dataset("tenant", {"text": "string"})
                # Small admissions use one connection, and large ones use others.
                large = [{**ROW, "text": secrets.token_urlsafe(1000)} for _ in range(2000)]
                with stack.client(token) as client:
                    assert client.post(f"/datasets/{dataset}", json=ROW).status_code == 202
                    batch = client.post(f"/datasets/{dataset}/batch", content=json.dumps(large), headers=JSON)
                    assert batch.json()["count"] == 2000
                    assert proxy.drop() > 5  # of the web process, the workers and beat
                    assert client.post(f"/datasets/{dataset}", json=ROW).status_code == 202
                    stack.wait_until_drained(dataset, 2002)
                    assert client.get(batch.headers["Location"]).json()["status"] == "stored"
                    wait_for(lambda: client.get("/readyz").status_code == 200, "readiness")
                    assert client.get("/admin/login/").status_code == 200
                texts = stack.query(project, dataset, "SELECT text FROM records")
                assert sorted(text for (text,) in texts) == sorted(["x", "x", *(str(row["text"]) for row in large)])
    finally:
        server.stop()
