"""Send records with names, put entries into a stream directly, and find out later where they are."""

import json
import secrets
from collections.abc import Iterable
from typing import Any

import httpx
from deltalake import DeltaTable
from django.conf import settings

from config.common import redis
from config.common.cluster.key_tags import tagged
from datasets import installation, tags
from datasets.models import Dataset
from ingest.queue import generations, redis_keys
from tests.conftest import Api, record


def named(*names: object) -> list[dict[str, Any]]:
    """Return records of the example schema. Their names are in the field `country`."""
    return [record(country=str(name)) for name in names]


def send(api: Api, *names: object) -> httpx.Response:
    """Send a batch of named records, and check that it is accepted."""
    response = api.batch(named(*names))
    assert response.status_code == 202, response.text
    return response


def status(api: Api, accepted: httpx.Response) -> dict[str, Any]:
    """Return what the receipt of a 202 says now."""
    response = api.request("GET", accepted.headers["Location"])
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def table_of(dataset: Dataset) -> DeltaTable:
    """Open the dataset's table by its path only, as a reader outside the service does."""
    return DeltaTable(f"{settings.STORAGE_URL}/project_{dataset.project_id}/dataset_{dataset.pk}")


def names_in_table(dataset: Dataset) -> list[str]:
    """Return the names in the table, in the order of acceptance."""
    rows = table_of(dataset).to_pyarrow_table().select(["id", "country"]).to_pylist()
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids), "an ID is in the table twice"
    return [row["country"] for row in sorted(rows, key=lambda row: row["id"])]


def enqueue(
    dataset: Dataset,
    body: bytes,
    *,
    form: bytes = b"o",
    count: int = 1,
    version: int | None = None,
    trace: str | bytes = "t",
) -> str:
    """Put an entry into the stream without any check. Change the counters as admission would change them."""
    version = dataset.versions.order_by("-number")[0].pk if version is None else version
    tag = tags.of_dataset(dataset.pk)
    installation.check([tag])
    with redis.pipeline(redis_keys.stream(dataset.pk), transaction=True) as step:
        step.set(tagged(redis_keys.GENERATION, tag), "feedf00d", nx=True)
        step.xadd(redis_keys.stream(dataset.pk), {"b": body, "f": form, "n": count, "v": version, "t": trace})
        step.incrby(redis_keys.accepted(dataset.pk), count)
        step.incrby(redis_keys.queued(dataset.pk), count)
        step.incrby(redis_keys.queued_bytes(dataset.pk), len(body))
        step.incrby(tagged(redis_keys.TOTAL_BYTES, tag), len(body))
        step.zadd(redis_keys.pending(dataset.project_id), {str(dataset.pk): 0}, nx=True)
        step.zadd(tagged(redis_keys.TURNS, tag), {str(dataset.project_id): 0}, nx=True)
        stream_id: bytes = step.execute()[1]
    return stream_id.decode()


def large(rows: int = 3000) -> bytes:
    """Return JSON that compresses like ordinary data, with about 50 bytes for each row."""
    return json.dumps([{"name": f"{n:05}", "noise": secrets.token_hex(8)} for n in range(rows)]).encode()


def counters(dataset: Dataset) -> dict[str, int]:
    """Return the dataset's counters in Redis, and the total of queued bytes."""
    keys = {
        "accepted": redis_keys.accepted(dataset.pk),
        "queued": redis_keys.queued(dataset.pk),
        "bytes": redis_keys.queued_bytes(dataset.pk),
        "total": tagged(redis_keys.TOTAL_BYTES, tags.of_dataset(dataset.pk)),
    }
    return {name: int(value or 0) for name, value in zip(keys, redis.client().mget(keys.values()), strict=True)}


def counted(dataset: Dataset) -> dict[str, int]:
    """Count the records and bytes in the stream, entry by entry. The counters should be the same."""
    entries: Iterable[Any] = redis.client().xrange(redis_keys.stream(dataset.pk))
    fields = [fields for _, fields in entries]
    return {"queued": sum(int(each[b"n"]) for each in fields), "bytes": sum(len(each[b"b"]) for each in fields)}


def let_the_lock_expire(dataset: Dataset) -> None:
    """Delete the lock of a drain that died, as if its lease had ended."""
    redis.client().delete(redis_keys.lock(dataset.pk))


def in_stream(dataset: Dataset) -> int:
    """Return the number of entries in the stream."""
    return int(redis.client().xlen(redis_keys.stream(dataset.pk)))


def generation() -> str:
    """Return the present generation."""
    (tag,) = tags.in_use()
    found = generations.current(tag)
    assert found is not None
    return found
