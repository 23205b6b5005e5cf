"""The flush writes usage from Redis to the database, even if servers fail, flushes die or several run together."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from redis.exceptions import RedisError

from config.common import redis
from config.common.cluster.key_tags import NO_TAG
from config.common.env import BASE_DIR
from datasets.models import Dataset
from quotas import counters
from quotas.models import MonthlyUsage, ThresholdEvent
from quotas.services import current, flush, save_limit, set_limit
from quotas.signals import quota_threshold_crossed
from quotas.tasks import flush_usage
from tests.conftest import Api, record
from tests.support.books import Books, balanced, books, charge, limit_in_force, this_month
from tests.support.sending.at_once import Threads
from tests.support.servers.outages import database_away, everything_in, own_client, redis_away

MONTH = "2026-01"


@pytest.fixture
def crowd(transactional_db: None) -> list[User]:
    """Five users, charged 1 to 5 records."""
    users = [User.objects.create_user(f"user-{number}") for number in range(1, 6)]
    for number, user in enumerate(users, 1):
        charge(user, number)
    return users


def test_a_flush_writes_counted_usage_to_the_database(api: Api, owner: User) -> None:
    assert api.batch([record()] * 3).status_code == 202
    assert books(owner) == Books(3, 3, True, None)
    flush_usage()
    assert books(owner) == balanced(3)
    assert api.one(record()).status_code == 202
    assert books(owner) == Books(4, 1, True, 3)
    flush_usage()
    assert books(owner) == balanced(4)


def test_a_repeated_flush_changes_nothing(crowd: list[User]) -> None:
    flush()
    counted, written = everything_in(own_client()), list(MonthlyUsage.objects.order_by("pk").values())
    for user in crowd:
        redis.client().sadd(counters.dirty_key(NO_TAG), f"{user.pk}:{this_month()}")
    assert flush() == 5
    assert flush() == 0
    assert everything_in(own_client()) == counted
    assert list(MonthlyUsage.objects.order_by("pk").values()) == written


def test_past_months_are_flushed_with_the_current_one(owner: User) -> None:
    charge(owner, 7, MONTH)
    charge(owner, 2)
    flush()
    assert (books(owner, MONTH), books(owner)) == (balanced(7), balanced(2))


# -- one user's failure -------------------------------------------------------------------------------


def test_a_flush_deletes_the_counters_of_a_deleted_user(crowd: list[User]) -> None:
    gone, *others = crowd
    charge(gone, 9, MONTH)
    set_limit(gone, 100)
    gone_id = gone.pk
    gone.delete()
    flush()
    assert [books(user) for user in others] == [balanced(number) for number in (2, 3, 4, 5)]
    assert list(redis.client().scan_iter(f"*:datasets:{gone_id}*")) == []
    assert redis.client().scard(counters.dirty_key(NO_TAG)) == 0


def test_a_user_deleted_during_a_flush_does_not_stop_it(crowd: list[User]) -> None:
    """The flush waits until the deletion is committed, and then writes nothing for that user."""
    gone, *others = crowd
    gone_id = gone.pk
    deleted, waited_for = Event(), Event()

    def delete() -> None:
        with transaction.atomic():
            User.objects.get(pk=gone_id).delete()
            deleted.set()
            assert waited_for.wait(60)

    with Threads(2) as pool:
        deletion = pool.submit(delete)
        assert deleted.wait(60)
        flushing = pool.submit(flush)
        wait_until_someone_waits_for_a_row()
        waited_for.set()
        deletion.result(60)
        flushing.result(60)
    assert [books(user) for user in others] == [balanced(number) for number in (2, 3, 4, 5)]
    assert list(redis.client().scan_iter(f"*:datasets:{gone_id}*")) == []


def wait_until_someone_waits_for_a_row() -> None:
    deadline = time.monotonic() + 60
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone() != (0,):
                return
        assert time.monotonic() < deadline


@contextmanager
def database_refusing(user: User) -> Iterator[None]:
    """Make the database refuse this user's usage."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON quotas_monthlyusage FOR EACH ROW"
            f" WHEN (NEW.user_id = {user.pk}) EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")


def test_a_flush_that_fails_for_one_user_writes_the_others(crowd: list[User]) -> None:
    garbled, of_another_type, refused, *others = crowd
    redis.client().set(counters.total_key(garbled.pk, this_month()), "many")
    redis.client().delete(counters.total_key(of_another_type.pk, this_month()))
    redis.client().rpush(counters.total_key(of_another_type.pk, this_month()), "1")
    with database_refusing(refused), pytest.raises(ExceptionGroup) as told:
        flush_usage()
    assert [books(user) for user in others] == [balanced(4), balanced(5)]
    notes = sorted(note for failure in told.value.exceptions for note in failure.__notes__)
    assert notes == sorted(
        f"while usage_dirty:datasets b'{user.pk}:{this_month()}' was flushed"
        for user in (garbled, of_another_type, refused)
    )
    assert books(refused) == Books(3, 3, True, None)
    redis.client().delete(*(counters.total_key(user.pk, this_month()) for user in (garbled, of_another_type)))
    flush_usage()
    assert [books(user) for user in crowd] == [balanced(number) for number in (1, 2, 3, 4, 5)]


def test_a_malformed_dirty_member_is_dropped(crowd: list[User]) -> None:
    malformed = [
        *("", "x", ":", "1", "1:", ":2026-01", "1:2026-13", "1:2026-1", "1:2026-01:", " 1:2026-01", "0:2026-01"),
        *("-1:2026-01", "１:2026-01", "1:2026-01\n", b"\xff:2026-01", "1" * 20 + ":2026-01"),
    ]
    redis.client().sadd(counters.dirty_key(NO_TAG), *malformed, "999999999:2026-01", "9223372036854775808:2026-01")
    flush()
    assert [books(user) for user in crowd] == [balanced(number) for number in (1, 2, 3, 4, 5)]
    assert redis.client().scard(counters.dirty_key(NO_TAG)) == 0
    assert MonthlyUsage.objects.count() == 5


# -- flushes that die -----------------------------------------------------------------------------------


def test_a_database_outage_delays_a_flush_and_loses_nothing(crowd: list[User]) -> None:
    with database_away(), pytest.raises(Exception, match="not currently accepting connections"):
        flush()
    assert all(books(user) == Books(number, number, True, None) for number, user in enumerate(crowd, 1))
    flush()
    assert [books(user) for user in crowd] == [balanced(number) for number in (1, 2, 3, 4, 5)]


class _Death(BaseException):
    """Raised like the exception in a process that gets a signal to stop."""


def test_the_next_flush_finishes_a_flush_that_died(owner: User) -> None:
    set_limit(owner, 10)
    charge(owner, 8)

    def die(**_: object) -> None:
        raise _Death

    quota_threshold_crossed.connect(die)
    try:
        with pytest.raises(_Death):
            flush()
    finally:
        quota_threshold_crossed.disconnect(die)
    assert books(owner) == Books(8, 8, True, 8)
    charge(owner, 1)
    flush()
    assert books(owner) == balanced(9)
    assert ThresholdEvent.objects.count() == 1


def test_the_next_flush_finishes_a_flush_that_lost_redis(owner: User) -> None:
    set_limit(owner, 10)
    charge(owner, 10)
    away = redis_away()

    def hide(**_: object) -> None:
        if not hidden:
            hidden.append(away.__enter__())

    hidden: list[object] = []
    quota_threshold_crossed.connect(hide)
    try:
        with pytest.raises(RedisError):
            flush()
    finally:
        quota_threshold_crossed.disconnect(hide)
        away.__exit__(None, None, None)
    assert books(owner) == Books(10, 10, True, 10)
    flush()
    assert books(owner) == balanced(10)
    assert ThresholdEvent.objects.count() == 3


# -- a wiped Redis ------------------------------------------------------------------------------------


def test_after_a_flush_a_wiped_redis_is_seeded(api: Api, owner: User) -> None:
    set_limit(owner, 10)
    assert api.batch([record()] * 6).status_code == 202
    flush()
    redis.client().flushall()
    answer = api.one(record())
    assert answer.status_code == 202
    assert answer.headers["RateLimit"].startswith('"monthly";r=3;')
    assert books(owner) == Books(7, 1, True, 6)
    assert api.batch([record()] * 4).status_code == 429
    flush()
    assert books(owner) == balanced(7)


def test_a_wiped_redis_loses_only_unflushed_usage(api: Api, owner: User) -> None:
    set_limit(owner, 10)
    assert api.batch([record()] * 6).status_code == 202
    flush()
    assert api.batch([record()] * 3).status_code == 202
    redis.client().flushall()
    assert api.batch([record()] * 5).status_code == 429
    assert api.batch([record()] * 4).status_code == 202
    assert books(owner) == Books(10, 4, True, 6)
    flush()
    assert books(owner) == balanced(10)


def test_a_flush_raises_a_total_below_the_database(owner: User) -> None:
    """Redis may lose its last second of writes, or be wiped during a flush."""
    charge(owner, 5)
    flush()
    redis.client().set(counters.total_key(owner.pk, this_month()), 3)
    redis.client().sadd(counters.dirty_key(NO_TAG), f"{owner.pk}:{this_month()}")
    flush()
    assert books(owner) == balanced(5)


# -- races --------------------------------------------------------------------------------------------


def test_racing_flushes_and_requests_agree_in_the_end(api: Api, dataset: Dataset, owner: User) -> None:
    set_limit(owner, 100_000)
    over = Event()

    def flush_without_end() -> int:
        count = 0
        while not over.is_set():
            count += flush()
        return count

    def send() -> int:
        client = Api(api.token, dataset)
        return sum(client.batch([record()] * size).json()["count"] for size in (1, 2, 3, 4, 5) * 4)

    with Threads(12) as pool:
        flushes = [pool.submit(flush_without_end) for _ in range(4)]
        sent = sum(each.result(60) for each in [pool.submit(send) for _ in range(8)])
        over.set()
        assert sum(each.result(60) for each in flushes) > 4
    assert sent == 8 * 60
    flush()
    assert books(owner) == balanced(sent)


def test_a_flush_never_undoes_a_new_limit(owner: User) -> None:
    """A flush restores a limit whose announcement was lost, but never overwrites a newer limit."""
    over = Event()

    def flush_without_end() -> None:
        while not over.is_set():
            charge(owner, 1)
            flush()

    set_limit(owner, -1)
    with Threads(2) as pool:
        flushes = [pool.submit(flush_without_end) for _ in range(2)]
        try:
            for limit in [0, -1] * 25:
                set_limit(owner, limit)
                assert limit_in_force(owner) == limit
        finally:
            over.set()
        for each in flushes:
            each.result(60)
    assert limit_in_force(owner) == -1


def test_a_flush_corrects_limits_announced_in_wrong_order(owner: User) -> None:
    set_limit(owner, 7)
    counters.announce_limit(owner.pk, 5, this_month())  # the announcement of an earlier change
    flush()
    assert (limit_in_force(owner), current(owner.pk).limit) == (7, 7)


def test_the_next_flush_reads_a_limit_set_during_a_flush(owner: User) -> None:
    set_limit(owner, 10)
    charge(owner, 8)

    def change(**_: object) -> None:
        owner.refresh_from_db()
        row = owner.dataset_quota
        row.records_per_month = 8
        save_limit(row)

    quota_threshold_crossed.connect(change)
    try:
        flush()
    finally:
        quota_threshold_crossed.disconnect(change)
    assert books(owner).is_dirty
    flush()
    assert books(owner) == balanced(8)
    assert ThresholdEvent.objects.filter(percent=100, limit=8).count() == 1


# -- SQLite -------------------------------------------------------------------------------------------

_ON_SQLITE = """
from django.contrib.auth.models import User
from django.core.management import call_command
from config.common.redis import client
from quotas import counters
from quotas.models import MonthlyUsage
from quotas.services import flush, set_limit
from tests.support.books import balanced, books, charge

call_command("migrate", verbosity=0)
gone, other = (User.objects.create_user(name) for name in ("gone", "other"))
set_limit(other, 10)
for user in (gone, other):
    charge(user, 10)
gone_id = gone.pk
gone.delete()
flush()
flush()
assert books(other) == balanced(10)
assert client().keys(f"*:datasets:{gone_id}*") == []
assert MonthlyUsage.objects.count() == 1
"""


def test_flushes_work_on_sqlite(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "REDIS_URL": settings.REDIS_URL.replace("db=0", "db=2"),
    }
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", _ON_SQLITE]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


# -- requests while the database is down --------------------------------------------------------------


def test_requests_are_accepted_while_flushes_fail(api: Api, owner: User) -> None:
    set_limit(owner, 10)
    assert api.one(record()).status_code == 202

    def send(size: int) -> httpx.Response:
        return api.batch([record()] * size)

    with database_away():
        assert send(4).status_code == 202
        assert send(6).status_code == 429
    flush()
    assert books(owner) == balanced(5)
