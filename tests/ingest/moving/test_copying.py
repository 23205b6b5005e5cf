"""Values of each type are copied without changes. A second copy gives the same result."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.common import redis
from datasets.models import Dataset
from ingest.moving.copying import copy_keys
from ingest.moving.move import client_of
from ingest.moving.names import Names
from ingest.queue import redis_keys
from tests.support.servers.cluster import ValkeyCluster, use
from tests.support.servers.sentinels import forget_connections, trio


@pytest.fixture
def old(dataset: Dataset) -> Iterator[Any]:
    client = client_of(os.environ["REDIS_URL"])
    yield client
    client.close()


@pytest.fixture
def copy(old: Any, three: ValkeyCluster, settings: Any) -> Iterator[Any]:
    """Return a function that copies everything to the cluster, twice."""
    use(settings, three.url)
    redis.client().flushall()

    def copied() -> Any:
        names = Names()
        copy_keys(old, names, lambda _: None)
        return copy_keys(old, names, lambda _: None)

    yield copied
    forget_connections()


def test_a_long_stream_keeps_ids_and_entries(old: Any, copy: Any, dataset: Dataset) -> None:
    key = f"queue:stream:{dataset.pk}"
    with old.pipeline() as pipe:
        for number in range(3000):
            body = b"x" * (300_000 if number % 1000 == 7 else 20)
            pipe.xadd(key, {"b": body, "t": b"\xff\x00{%d}" % number}, id=f"{number // 3 + 1}-{number % 3}")
        pipe.xdel(key, "500-1")
        pipe.execute()
    assert copy().requests == 2999
    name = redis_keys.stream(dataset.pk)
    assert redis.client().xrange(name) == old.xrange(key)
    assert redis.client().xinfo_stream(name)["last-generated-id"] == b"1000-2"


def test_an_empty_stream_keeps_its_last_id(old: Any, copy: Any, dataset: Dataset) -> None:
    key = f"queue:stream:{dataset.pk}"
    old.xadd(key, {"b": b"x"}, id="17-3")
    old.execute_command("XSETID", key, "9999999999999-4")
    old.xtrim(key, maxlen=0)
    copy()
    name = redis_keys.stream(dataset.pk)
    assert redis.client().xlen(name) == 0
    assert redis.client().xinfo_stream(name)["last-generated-id"] == b"9999999999999-4"


def test_a_trimmed_stream_keeps_a_last_id_above_its_entries(old: Any, copy: Any, dataset: Dataset) -> None:
    key = f"queue:stream:{dataset.pk}"
    for entry_id in ("17-3", "17-4"):
        old.xadd(key, {"b": b"x"}, id=entry_id)
    old.xdel(key, "17-4")
    copy()
    assert redis.client().xinfo_stream(redis_keys.stream(dataset.pk))["last-generated-id"] == b"17-4"


def test_values_of_each_type_keep_their_order_and_life(old: Any, copy: Any, dataset: Dataset) -> None:
    project = dataset.project_id
    old.set(b"idem:\x00{7}\xff:9", b"\x00value", px=90_000)
    old.rpush(f"refusals:log:{project}", *(f"{number}" for number in range(2500)))
    old.hset(f"stats:stored:{dataset.pk}", mapping={f"{number}": number for number in range(2500)})
    old.zadd(f"queue:pending:{project}", {f"{dataset.pk}": 1_764_000_000_123})
    old.sadd("queue:untidy", *range(2500))
    old.zadd("queue:turns", {f"{project}": 7, "999": 8})
    old.set("someone", "else")
    copied = copy()
    assert (copied.idempotency_keys, copied.foreign, copied.example) == (1, 1, b"someone")
    assert 80_000 < copied.idempotency_ms <= 90_000
    new, tag = redis.client(), f"{{{dataset.project.owner_id}}}"
    assert new.get(b"idem:\x00{7}\xff:9") == b"\x00value"
    assert 80_000 < new.pttl(b"idem:\x00{7}\xff:9") <= 90_000
    assert new.lrange(redis_keys.refusal_log(project), 0, -1) == old.lrange(f"refusals:log:{project}", 0, -1)
    assert new.hgetall(redis_keys.stored_by_hour(dataset.pk)) == old.hgetall(f"stats:stored:{dataset.pk}")
    assert new.zscore(redis_keys.pending(project), dataset.pk) == 1_764_000_000_123
    assert new.smembers(redis_keys.UNTIDY) == old.smembers("queue:untidy")
    assert new.zrange(f"{tag}:queue:turns", 0, -1) == [str(project).encode()]
    assert not new.exists("someone")
    assert new.ttl(redis_keys.UNTIDY) == -1


def test_a_server_behind_sentinel_is_found(tmp_path: Path) -> None:
    with trio(tmp_path) as found:
        client = client_of(found.url())
        client.set("key", "value")
        assert found.primary.client().get("key") == b"value"
