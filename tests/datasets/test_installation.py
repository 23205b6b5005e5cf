"""Two installations on one Redis: the second one is refused with a reason, and changes nothing."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from config.common import redis
from config.common.env import BASE_DIR
from datasets import installation
from datasets.installation import INSTALLATION, UnusableData
from datasets.models import Dataset, Installation
from ingest.monitoring import health
from ingest.queue import turns
from ingest.storing import upkeep
from ingest.storing.drain import drain
from quotas import services as quotas
from tests.conftest import Api, record, stored
from tests.support.entries import in_stream
from tests.support.servers.outages import everything_in, own_client

THEIRS = "0ddba110-0000-4000-8000-000000000000"
WORDS = "The data in this Redis belongs to another installation"


@pytest.fixture
def foreign_redis(transactional_db: None) -> Iterator[None]:
    """A Redis that belongs to another installation, after it was wiped."""
    redis.client().flushall()
    redis.client().set(INSTALLATION, THEIRS)
    yield
    redis.client().delete(INSTALLATION)


def test_an_empty_redis_gets_the_first_installations_id(transactional_db: None) -> None:
    installation.check()
    assert redis.client().get(INSTALLATION) == str(Installation.objects.get().uuid).encode()
    installation.check()


def test_a_wiped_redis_gets_the_id_again(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    redis.client().flushall()
    assert api.one(record()).status_code == 202
    assert redis.client().get(INSTALLATION) == installation.our_id().encode()
    assert len(stored(dataset)) == 1


def test_the_redis_of_another_installation_stays_untouched(api: Api, dataset: Dataset, foreign_redis: None) -> None:
    redis.client().set("queue:generation", "feedf00d")
    before = {key: value for key, value in everything_in(own_client()).items() if not key.startswith(b"revision:")}
    for response in (api.one(record()), api.batch([record()])):
        assert (response.status_code, response.json()) == (
            503,
            {
                "error": "Ingest queue unavailable",
                "code": "queue_unavailable",
                "detail": "Redis holds data of another installation or release (see /readyz). "
                "Nothing was queued or charged.",
            },
        )
    for work in (turns.next_due, lambda: drain(dataset.pk), quotas.flush, upkeep.note_key_use):
        with pytest.raises(UnusableData, match=WORDS):
            work()
    after = {key: value for key, value in everything_in(own_client()).items() if not key.startswith(b"revision:")}
    assert after == before
    assert health.checks()["redis"].startswith(WORDS)


def test_a_running_process_notices_a_foreign_redis(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    redis.client().flushall()
    redis.client().mset({INSTALLATION: THEIRS, "queue:generation": "feedf00d"})
    assert api.one(record()).status_code == 503
    assert in_stream(dataset) == 0


@pytest.mark.parametrize(
    "command", [["worker", "-Q", "ingest.drain", "-c", "1"], ["beat", "-S", "config.celery:BoundedScheduler"]]
)
def test_a_celery_process_refuses_to_start(foreign_redis: None, command: list[str]) -> None:
    environment = {**os.environ, "C_FORCE_ROOT": "1", "DATABASE_URL": _url()}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", *command],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert WORDS in done.stderr


def test_up_refuses_to_start(tmp_path: Path) -> None:
    """Another installation has its own directory, but uses our Redis."""
    own_client().set(INSTALLATION, str(uuid.uuid4()))
    environment = {**os.environ, "DATA_DIR": str(tmp_path / "other"), "DATABASE_URL": "", "STORAGE_URL": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "up", "--no-demo", "--port", "18490"],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert WORDS in done.stderr
    assert "Set REDIS_URL to a Redis" in done.stderr


def _url() -> str:
    """Return the URL of the tests' database for another process."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{settings.DATABASES['default']['NAME']}").geturl()
