"""Django's cache in Redis."""

import json
import pickle
from pathlib import Path

import pytest
from django.core.cache import cache

from tests.support.servers.outages import own_client


def test_djangos_cache_runs_no_code_from_redis(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "run",)  # type: ignore[return-value]

    cache.set("kept", {"a": [1, "é"]})
    assert cache.get("kept") == {"a": [1, "é"]}
    assert json.loads(own_client().get(cache.make_key("kept"))) == {"a": [1, "é"]}
    own_client().set(cache.make_key("planted"), pickle.dumps(Touch()))
    with pytest.raises(ValueError, match=r"Expecting value|codec"):
        cache.get("planted")
    assert not (tmp_path / "run").exists()
