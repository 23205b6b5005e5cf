"""Each Redis key on one server has a name in a cluster, or there is a reason why it has none."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from config.common import redis
from datasets import installation
from datasets.contracts import old_form, revisions
from datasets.models import ApiKey, Dataset
from datasets.queries import figures
from ingest.moving import names as moving
from ingest.moving.names import Names
from ingest.queue import redis_keys
from quotas import counters
from tests.support.entries import enqueue

LEFT = {"slot", "lock", "deaths", "heartbeat"}


@pytest.fixture
def ids(dataset: Dataset, key: ApiKey) -> dict[str, Any]:
    """An argument for each parameter of a function that returns the name of a key."""
    return {
        "dataset_id": dataset.pk,
        "project_id": dataset.project_id,
        "key_id": key.pk,
        "version_id": dataset.versions.get().pk,
        "user_id": dataset.project.owner_id,
        "period": "2026-11",
        "key": "chosen by the client",
        "name": "worker",
        "tag": 0,
    }


def functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that return the name of a key, by their names."""
    found: dict[str, Callable[..., Any]] = {
        name: each for name, each in inspect.getmembers(redis_keys, inspect.isfunction) if name[0] != "_"
    }
    del found["tagged"]
    others = (counters.limit_key, counters.total_key, counters.delta_key, old_form.key, figures._slow)
    return found | {each.__qualname__: each for each in others} | {"revision": revisions.key}


def written(name: str, ids: dict[str, Any]) -> bytes:
    function = functions()[name]
    found = function(*(ids[each] for each in inspect.signature(function).parameters))
    return found if isinstance(found, bytes) else found.encode()


@pytest.mark.parametrize("name", functions())
def test_a_key_gets_the_name_that_the_service_uses_in_a_cluster(name: str, ids: dict[str, Any], settings: Any) -> None:
    on_one_server = written(name, ids)
    names = Names()
    settings.REDIS_IS_CLUSTER = True
    ids["tag"] = ids["user_id"]
    in_cluster = written(name, ids)
    assert names.is_ours(on_one_server)
    assert names.is_ours_in_cluster(in_cluster)
    if name in LEFT:
        assert names.in_cluster(on_one_server) is None
    elif name == "idempotency":
        assert names.in_cluster(on_one_server) == written("idempotency_before_move", ids)
    else:
        assert names.in_cluster(on_one_server) == in_cluster


def test_each_key_without_an_argument_is_known(ids: dict[str, Any]) -> None:
    names = Names()
    constants = [value for name, value in vars(redis_keys).items() if name.isupper()]
    prefixes = {redis_keys.IDEMPOTENCY, redis_keys.REFUSAL_LOG_PREFIX}
    assert len(constants) > 10
    for key in {*constants, installation.INSTALLATION, installation.DATA_VERSION, counters.dirty_key(0)} - prefixes:
        assert names.is_ours(key.encode()) or key == redis_keys.BEFORE_MOVE


def test_keys_of_what_was_deleted_and_of_others_are_not_moved(ids: dict[str, Any]) -> None:
    names = Names()
    for key in (b"queue:stream:999", b"quota_limit:datasets:999", b"refusals:log:999"):
        assert names.is_ours(key)
        assert names.in_cluster(key) is None
    for key in (b"queue:stream", b"queue:stream:x", b"someone:7", b"usage_total:datasets:x:2026-11", b"7"):
        assert not names.is_ours(key)
        assert names.in_cluster(key) is None


def test_the_service_writes_no_other_key(dataset: Dataset) -> None:
    enqueue(dataset, b"{}")
    names = Names()
    assert [key for key in redis.client().scan_iter() if not names.is_ours(key)] == []
    assert moving._DIRTY.decode() == counters.dirty_key(0)
