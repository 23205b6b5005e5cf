"""The local cluster of `up --cluster`: with which data directories and options it starts."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError

from config.common.env import embedded_cluster
from config.management.commands.up import Command
from config.processes import cluster


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


def test_another_number_of_primaries_is_refused(data_dir: Path) -> None:
    cluster.require_same(None)
    cluster.require_same(3)
    cluster.create(3)
    cluster.require_same(3)
    assert (data_dir / "cluster" / "url").stat().st_mode & 0o077 == 0
    for other in (None, 4):
        with pytest.raises(CommandError, match="Start with --cluster 3, or choose another"):
            cluster.require_same(other)


def test_the_data_of_one_redis_is_not_left_behind(data_dir: Path) -> None:
    (data_dir / "redis" / "appendonlydir").mkdir(parents=True)
    cluster.require_same(None)
    with pytest.raises(CommandError, match="has the data of a single Redis"):
        cluster.require_same(3)


def test_too_few_primaries_are_refused(data_dir: Path) -> None:
    with pytest.raises(CommandError, match="at least 3 primaries"):
        cluster.create(2)
    assert embedded_cluster(data_dir) is None


def test_a_cluster_is_refused_if_redis_url_names_another_redis(settings: Any) -> None:
    settings.REDIS_IS_EMBEDDED = False
    with pytest.raises(CommandError, match="Unset REDIS_URL, or leave --cluster out"):
        Command()._choose_redis(3)


def test_nodes_that_never_met_are_deleted(data_dir: Path, settings: Any) -> None:
    cluster.create(3)
    settings.REDIS_URL = embedded_cluster(data_dir)
    assert list(cluster.commands()) == [f"node-{number}" for number in range(1, 7)]
    assert (data_dir / "cluster" / "node-1" / "valkey.conf").stat().st_mode & 0o077 == 0
    cluster.discard_unformed()
    assert not (data_dir / "cluster" / "node-1").exists()
    cluster.commands()
    (data_dir / "cluster" / "formed").touch()
    cluster.discard_unformed()
    assert (data_dir / "cluster" / "node-1").exists()
