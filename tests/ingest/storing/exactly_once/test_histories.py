"""Random histories: every accepted record is stored exactly once, unless Redis lost it."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from config.common import redis
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream
from ingest.storing import ledger, quarantine
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.ingest.storing.exactly_once.test_restored_redis import all_is_stored, put_below
from tests.support.entries import counted, counters, enqueue, let_the_lock_expire, names_in_table, send
from tests.support.servers.backups import HOUR, Backup, last_id, set_clock


class Crash(BaseException):
    """Simulates the end of the process."""


class Life:
    """A history of records that are sent and stored while Redis is restored and its clock moves, and its outcome."""

    STEPS: tuple[tuple[Any, str], ...] = (
        (ledger, "recount"),
        (stream, "keep_ahead"),
        (stream, "renumber"),
        (DatasetTable, "append"),
        (quarantine, "put"),
        (stream, "trim"),
    )

    def __init__(self, seed: int, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        self.api, self.dataset, self.monkeypatch = api, dataset, monkeypatch
        self.sent: set[str] = set()
        self.number = 0
        self.poison: set[str] = set()
        self.given: list[str] = []  # the IDs that records got
        self.backup: tuple[Backup, set[str]] | None = None
        self.history: list[str] = []
        send(api, "first")
        self.sent.add("first")
        drain(dataset.pk)

    def live(self) -> None:
        acts: list[Callable[[], str]] = [self.admit] * 4 + [self.drain] * 2
        acts += [self.send_poison, self.crash, self.copy, self.restore, self.step_ahead, self.step_back, self.use_up]
        for _ in range(self.chance.randint(4, 14)):
            self.history.append(self.chance.choice(acts)())
            now = counters(self.dataset)
            assert min(now.values()) >= 0, self.history
            assert (now["queued"], now["bytes"]) == tuple(counted(self.dataset).values()), self.history

    def admit(self) -> str:
        names = [f"{self.number + n}" for n in range(self.chance.randint(1, 3))]
        self.number += len(names)
        send(self.api, *names)
        self.sent |= set(names)
        self.given.append(last_id(self.dataset))
        return f"send {names}"

    def send_poison(self) -> str:
        self.given.append(enqueue(self.dataset, f"{self.number}".encode(), trace=f"{self.number}"))
        self.poison.add(f"{self.number}")
        self.number += 1
        return "send poison"

    def drain(self) -> str:
        return f"drained {drain(self.dataset.pk)}"

    def crash(self) -> str:
        owner, name = self.chance.choice(self.STEPS)
        before = self.chance.random() < 0.5
        original = getattr(owner, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            if not before:
                original(*args, **kwargs)
            raise Crash

        with self.monkeypatch.context() as patch:
            patch.setattr(owner, name, dying)
            try:
                drain(self.dataset.pk)
            except Crash:
                let_the_lock_expire(self.dataset)
        return f"crash {'before' if before else 'after'} {name}"

    def copy(self) -> str:
        self.backup = Backup.made(), self.sent | self.poison
        return "copy"

    def restore(self) -> str:
        if self.backup is None:
            return "-"
        backup, known = self.backup
        self.sent &= known | set(names_in_table(self.dataset))
        self.poison &= known | kept(self.dataset)
        backup.restore()
        return "restore"

    def step_ahead(self) -> str:
        set_clock(self.dataset, self.chance.randint(1, 100) * HOUR)
        return "clock ahead"

    def step_back(self) -> str:
        """Give the next record the ID of an earlier record, if Redis has lost the earlier one."""
        last = stream.position_of(last_id(self.dataset))
        lost = [each for each in self.given if stream.position_of(each) > last + 1]
        if not lost:
            return "-"
        put_below(self.dataset, self.chance.choice(lost))
        return "clock back"

    def use_up(self) -> str:
        ms, seq = map(int, last_id(self.dataset).split("-"))
        most = 2**20 - self.chance.randint(0, 3)
        if seq < most:
            redis.client().execute_command("XSETID", redis_keys.stream(self.dataset.pk), f"{ms}-{most}")
        return "sequence numbers used up"


def test_random_history_stores_each_record_once(api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.monotonic() + 12
    lives = 0
    while time.monotonic() < deadline:
        redis.client().flushall()
        QuarantinedEntry.objects.all().delete()
        table = DatasetTable.of(dataset)
        if table.refresh():
            table.delta.delete()
        seed = random.SystemRandom().randrange(10**9)
        life = Life(seed, api, dataset, monkeypatch)
        try:
            life.live()
            life.admit()
            drain(dataset.pk)
            drain(dataset.pk)
            assert kept(dataset) == life.poison
            all_is_stored(dataset, list(life.sent), quarantined=len(life.poison))
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {life.history}") from failure
        lives += 1
    assert lives >= 3


def kept(dataset: Dataset) -> set[str]:
    bodies = QuarantinedEntry.objects.filter(dataset=dataset).values_list("body", flat=True)
    return {bytes(body).decode() for body in bodies}
