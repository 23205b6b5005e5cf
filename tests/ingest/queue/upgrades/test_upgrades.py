"""Redis data that the code of earlier releases has left: after the upgrade, each record is stored once.

Each fixture was made by `make.py` with the code of a release, or of a commit before the first one.
"""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from config.common import redis
from datasets import installation, services
from datasets.contracts.keys import issue_token
from datasets.installation import CURRENT_VERSION, DATA_VERSION, AnotherVersion
from datasets.models import Dataset, Project, SchemaVersion
from datasets.tables import table
from ingest.monitoring import health
from ingest.queue import admission, redis_keys, turns, upgrades
from ingest.storing.drain import drain
from ingest.storing.ledger import Balance, balance
from tests.conftest import Api
from tests.ingest.queue.upgrades.use import QUEUED, STORED
from tests.support.documents import ROOT
from tests.support.entries import counters, table_of
from tests.support.servers.outages import everything_in, own_client

HERE = Path(__file__).parent
RELEASES = sorted(path.name.removesuffix(".json.gz") for path in HERE.glob("*.json.gz"))


class Left:
    """The data that a release has left: its rows in the database, its tables, and its data in Redis."""

    def __init__(self, release: str) -> None:
        self.release = release
        # Other tests may have used the same IDs. So let this process forget all datasets and generations.
        table._open.clear()
        admission._generations.clear()
        self.fixture: dict[str, Any] = json.loads(gzip.decompress((HERE / f"{release}.json.gz").read_bytes()))
        owner = User.objects.create_user("owner", pk=self.fixture["owner"])
        self.project = Project.objects.create(pk=self.fixture["project"], slug="upgraded", name="upgraded", owner=owner)
        self.half, self.whole = [self._dataset(**row) for row in self.fixture["datasets"]]
        for name, content in self.fixture["tables"].items():
            path = Path(settings.STORAGE_URL) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
        for each in self.fixture["redis"]:
            restore(**each)
        self.token = issue_token(services.create_key(project=self.project, name="new"))

    def _dataset(self, pk: int, name: str, slug: str, version: int, table_id: str) -> Dataset:
        has_table = any(f"dataset_{pk}/" in name for name in self.fixture["tables"])
        dataset = Dataset.objects.create(
            pk=pk, project=self.project, name=name, slug=slug, has_table=has_table, table_id=table_id or None
        )
        fields = [{"name": "n", "type": "string", "description": ""}]
        SchemaVersion.objects.create(pk=version, dataset=dataset, number=1, fields=fields)
        return dataset

    def send_again(self) -> list[tuple[int, str | None]]:
        """Repeat every request with its Idempotency-Key. Return the status, and whether the key was known."""
        answers = []
        for each in self.fixture["sent"]:
            api = Api(self.token, Dataset.objects.get(pk=each["dataset"]))
            answer = api.batch(each["body"], Idempotency_Key=each["key"])
            answers.append((answer.status_code, answer.headers.get("Idempotent-Replayed")))
        return answers


def restore(key: str, kind: str, life: int, value: Any) -> None:
    """Write a key that `use.dump` has read."""
    client, name = redis.client(), data(key)
    if kind == "string":
        client.set(name, data(value))
    elif kind == "set":
        client.sadd(name, *data(value))
    elif kind == "list":
        client.rpush(name, *data(value))
    elif kind == "hash":
        client.hset(name, mapping=dict(data(value)))
    elif kind == "zset":
        client.zadd(name, dict(data(value)))
    else:
        for stream_id, fields in data(value):
            client.xadd(name, dict(fields), id=stream_id)
    if life > 0:
        client.pexpire(name, life)


def data(value: Any) -> Any:
    """Do the inverse of `use.text`, except that mappings stay lists of pairs."""
    if isinstance(value, str):
        return value.encode("latin-1")
    return [data(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(params=RELEASES)
def left(request: pytest.FixtureRequest, transactional_db: None, clean_redis: None) -> Left:
    left = Left(request.param)
    redis.client().set(installation.INSTALLATION, installation.our_id())
    return left


def ledger_of(dataset: Dataset) -> Balance:
    """Read the dataset again, because a drain may have bound it to its table. Return its ledger."""
    return balance(Dataset.objects.get(pk=dataset.pk))


def drain_everything() -> None:
    while dataset_ids := turns.next_due():
        drain(*dataset_ids)


def names(dataset: Dataset) -> list[str]:
    """Return the names of the records in the table, sorted."""
    return sorted(table_of(dataset).to_pyarrow_table()["n"].to_pylist())


def test_data_of_a_release_is_stored_once_and_the_ledger_adds_up(left: Left) -> None:
    call_command("migrate_queue")
    before = ledger_of(left.half), ledger_of(left.whole)
    assert [(each.accepted, each.stored, each.queued) for each in before] == [(15, 9, 6), (6, 0, 6)]
    assert all(each.adds_up for each in before)
    assert upgrades.version() == CURRENT_VERSION
    assert health.checks()["redis"] == "ok"

    drain_everything()
    assert names(left.half) == [f"{key} {n}" for key in sorted((*STORED, *QUEUED)) for n in range(3)]
    assert names(left.whole) == [f"{key} {n}" for key in QUEUED for n in range(3)]
    for dataset, accepted in ((left.half, 15), (left.whole, 6)):
        after = ledger_of(dataset)
        assert (after.accepted, after.stored, after.queued, after.adds_up) == (accepted, accepted, 0, True)
        assert counters(dataset) == {"accepted": accepted, "queued": 0, "bytes": 0, "total": 0}


def test_a_retry_across_the_upgrade_is_not_stored_again(left: Left) -> None:
    call_command("migrate_queue")
    # The first commits computed another digest of the body. So a retry is refused, but its key is known.
    answer = (422, None) if left.release == "before-0.1.0-commit-43" else (202, "true")
    assert left.send_again() == [answer] * 7
    assert sum(map(int, redis.client().hvals(redis_keys.known_keys(left.project.pk)))) == 7
    drain_everything()
    assert (len(names(left.half)), len(names(left.whole))) == (15, 6)


def test_an_upgrade_that_is_repeated_or_died_does_no_harm(left: Left) -> None:
    before = upgrades.version()
    call_command("migrate_queue")
    done = everything_in(own_client())
    redis.client().set(DATA_VERSION, before)
    call_command("migrate_queue")
    assert everything_in(own_client()) == done


def test_check_tells_whether_to_upgrade_and_changes_nothing(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    before, found = everything_in(own_client()), upgrades.version()
    if found < CURRENT_VERSION:
        with pytest.raises(SystemExit) as ended:
            call_command("migrate_queue", check=True)
        assert ended.value.code == 1
        needed = f"The data in Redis has version {found}, and this release needs version {CURRENT_VERSION}."
        assert needed in capsys.readouterr().err
    else:
        call_command("migrate_queue", check=True)
    assert everything_in(own_client()) == before


def test_check_changes_nothing_in_an_empty_redis(clean_redis: None, transactional_db: None) -> None:
    call_command("migrate_queue", check=True)
    assert everything_in(own_client()) == {}


def test_check_refuses_the_data_of_another_installation(clean_redis: None, transactional_db: None) -> None:
    redis.client().set(installation.INSTALLATION, "another")
    with pytest.raises(CommandError, match="belongs to another installation"):
        call_command("migrate_queue", check=True)


def test_nothing_is_touched_before_the_upgrade(left: Left) -> None:
    if upgrades.version() == CURRENT_VERSION:
        return
    api = Api(left.token, left.half)
    answer = api.one({"timestamp": "2026-06-10T10:58:00Z", "context": {}, "n": "x"})
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    with pytest.raises(AnotherVersion, match="earlier release"):
        turns.next_due()
    assert "manage.py migrate_queue" in health.checks()["redis"]


def test_negative_counters_of_an_earlier_upgrade_are_corrected(transactional_db: None) -> None:
    """Code of version 1 has used data of version 0. The records that it stored were never counted as queued."""
    left = Left("before-0.1.0-commit-103")
    for dataset in (left.half, left.whole):
        redis.client().mset({redis_keys.queued(dataset.pk): -2388, redis_keys.queued_bytes(dataset.pk): -70_000})
    redis.client().set(redis_keys.TOTAL_BYTES, -140_000)
    assert not ledger_of(left.half).adds_up
    call_command("migrate_queue")
    assert (ledger_of(left.half).queued, ledger_of(left.half).adds_up) == (6, True)
    drain_everything()
    assert counters(left.half)["total"] == 0
    assert ledger_of(left.half).adds_up


def test_a_negative_number_never_adds_up(dataset: Dataset) -> None:
    installation.check()
    redis.client().set(redis_keys.GENERATION, "feedf00d")
    redis.client().mset({redis_keys.accepted(dataset.pk): -5, redis_keys.queued(dataset.pk): -5})
    found = balance(dataset)
    assert (found.accepted, found.queued, found.adds_up) == (-5, -5, False)


def test_data_of_a_newer_release_is_refused(dataset: Dataset) -> None:
    redis.client().mset({installation.INSTALLATION: installation.our_id(), DATA_VERSION: CURRENT_VERSION + 1})
    words = "was written by a newer release"
    with pytest.raises(AnotherVersion, match=words):
        turns.next_due()
    for check in (False, True):
        with pytest.raises(CommandError, match=words):
            call_command("migrate_queue", check=check)
    assert words in health.checks()["redis"]


def test_every_release_has_its_data() -> None:
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released
    assert set(released) == {release for release in RELEASES if not release.startswith("before-")}


def test_every_version_has_its_step() -> None:
    assert len(upgrades._STEPS) == CURRENT_VERSION
