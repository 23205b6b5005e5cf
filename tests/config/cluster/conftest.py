"""Clusters that the tests of a file share. Each test leaves its cluster as it found it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.common.redis import Script
from tests.support.servers.cluster import ValkeyCluster, cluster, use
from tests.support.servers.sentinels import forget_connections


@pytest.fixture
def servers(three: ValkeyCluster, settings: Any) -> Iterator[ValkeyCluster]:
    """Use three primaries as the service's Redis."""
    use(settings, three.url)
    yield three
    forget_connections()


@pytest.fixture
def replicated(tmp_path: Path, settings: Any) -> Iterator[ValkeyCluster]:
    """Use three primaries with a replica each as the service's Redis. Only this test uses them."""
    with cluster(tmp_path / "cluster", replicas=True) as found:
        use(settings, found.url)
        yield found
    forget_connections()


@pytest.fixture
def count(tmp_path: Path) -> Script:
    """Return a script that adds one to each of its keys, and returns the sum."""
    path = tmp_path / "count.lua"
    path.write_text("local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('INCR', key) end return sum")
    return Script(path)
