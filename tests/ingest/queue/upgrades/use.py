"""Send and store records with the code of an earlier release. Then write the resulting Redis data to a file.

`make.py` runs this code in the shell of the release's `manage.py`. OUT is the file to write.
"""

import json
from pathlib import Path
from typing import Any

import httpx
from django.contrib.auth.models import User

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.schemas.fields import Field
from ingest.storing.drain import drain
from tests.support.sending.asgi import Transport

# Each batch has its own Idempotency-Key. Each record has another `n`.
STORED, QUEUED = ("stored-1", "stored-2", "stored-3"), ("queued-1", "queued-2")


def use_it() -> dict[str, Any]:
    """Return the fixture without the tables."""
    owner = User.objects.create_user("owner", pk=70001)
    project = services.create_project(slug="upgraded", owner=owner)
    half = services.create_dataset(project=project, name="Half", fields=[Field("n", "string")])
    whole = services.create_dataset(project=project, name="Whole", fields=[Field("n", "string")])
    token = issue_token(services.create_key(project=project, name="old"))
    http = httpx.Client(transport=Transport(), base_url="http://localhost")
    sent = []

    def send(dataset_id: int, key: str) -> None:
        record = {"timestamp": "2026-06-10T10:58:00Z", "context": {}}
        body = json.dumps([{**record, "n": f"{key} {n}"} for n in range(3)])
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
        answer = http.post(f"/datasets/{dataset_id}/batch", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        sent.append({"dataset": dataset_id, "key": key, "body": body})

    for key in STORED:
        send(half.pk, key)
    drain(half.pk)
    half.refresh_from_db()
    for key in QUEUED:
        send(half.pk, key)
        send(whole.pk, key)
    return {
        "owner": owner.pk,
        "project": project.pk,
        "datasets": [
            {
                "pk": each.pk,
                "name": each.name,
                "slug": each.slug,
                "version": each.versions.get().pk,
                "table_id": str(getattr(each, "table_id", None) or ""),
            }
            for each in (half, whole)
        ],
        "sent": sent,
        "redis": [dump(redis.client(), key) for key in sorted(redis.client().keys("*"))],
    }


def dump(client: Any, key: bytes) -> dict[str, Any]:
    """Return a key with its value and its time to live in ms. Bytes become text in latin-1."""
    kind = client.type(key).decode()
    value: Any
    if kind == "string":
        value = client.get(key)
    elif kind == "set":
        value = sorted(client.smembers(key))
    elif kind == "list":
        value = client.lrange(key, 0, -1)
    elif kind == "hash":
        value = client.hgetall(key)
    elif kind == "zset":
        value = client.zrange(key, 0, -1, withscores=True)
    else:
        value = client.xrange(key)
    return {"key": text(key), "kind": kind, "life": client.pttl(key), "value": text(value)}


def text(value: Any) -> Any:
    """Convert a value for JSON. A mapping becomes a list of pairs."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return [[text(name), text(each)] for name, each in value.items()]
    return [text(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    Path(globals()["OUT"]).write_text(json.dumps(use_it(), indent=1))
