"""The flush: what Redis counted is in the database, whoever fails, dies, or races with it."""

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
from config.common.env import BASE_DIR
from datasets.models import Dataset
from quotas import counters
from quotas.models import MonthlyUsage, ThresholdEvent
from quotas.services import current, flush, save_limit, set_limit
from quotas.signals import quota_threshold_crossed
from quotas.tasks import flush_usage
from tests.conftest import Api, record
from tests.support.at_once import Threads
from tests.support.books import Books, balanced, books, charge, limit_in_force, this_month
from tests.support.outages import database_away, everything_in, own_client, redis_away

MONTH = "2026-01"


@pytest.fixture
def crowd(transactional_db: None) -> list[User]:
    """Five users, charged 1 to 5 records."""
    users = [User.objects.create_user(f"user-{number}") for number in range(1, 6)]
    for number, user in enumerate(users, 1):
        charge(user, number)
    return users


def test_what_was_counted_is_in_the_database_after_it(api: Api, owner: User) -> None:
    assert api.batch([record()] * 3).status_code == 202
    assert books(owner) == Books(3, 3, True, None)
    flush_usage()
    assert books(owner) == balanced(3)
    assert api.one(record()).status_code == 202
    assert books(owner) == Books(4, 1, True, 3)
    flush_usage()
    assert books(owner) == balanced(4)


def test_a_flush_that_is_repeated_changes_nothing(crowd: list[User]) -> None:
    flush()
    counted, written = everything_in(own_client()), list(MonthlyUsage.objects.order_by("pk").values())
    for user in crowd:
        redis.client().sadd(counters.DIRTY, f"{user.pk}:{this_month()}")
    assert flush() == 5
    assert flush() == 0
    assert everything_in(own_client()) == counted
    assert list(MonthlyUsage.objects.order_by("pk").values()) == written


def test_months_that_are_over_are_flushed_beside_this_one(owner: User) -> None:
    charge(owner, 7, MONTH)
    charge(owner, 2)
    flush()
    assert (books(owner, MONTH), books(owner)) == (balanced(7), balanced(2))


# -- one user's failure -------------------------------------------------------------------------------


def test_a_user_who_was_deleted_leaves_no_counters_and_holds_up_nobody(crowd: list[User]) -> None:
    gone, *others = crowd
    charge(gone, 9, MONTH)
    set_limit(gone, 100)
    gone_id = gone.pk
    gone.delete()
    flush()
    assert [books(user) for user in others] == [balanced(number) for number in (2, 3, 4, 5)]
    assert list(redis.client().scan_iter(f"*:datasets:{gone_id}*")) == []
    assert redis.client().scard(counters.DIRTY) == 0


def test_a_user_who_is_deleted_during_the_flush_holds_up_nobody(crowd: list[User]) -> None:
    """The flush waits for who deletes, and who deletes for the flush: nothing is written for a user who is no more."""
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
    """The database refuses this user's usage."""
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


def test_what_cannot_be_written_is_told_and_tried_again_and_the_rest_is_written(crowd: list[User]) -> None:
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


def test_what_names_no_user_and_month_is_dropped(crowd: list[User]) -> None:
    malformed = [
        *("", "x", ":", "1", "1:", ":2026-01", "1:2026-13", "1:2026-1", "1:2026-01:", " 1:2026-01", "0:2026-01"),
        *("-1:2026-01", "１:2026-01", "1:2026-01\n", b"\xff:2026-01", "1" * 20 + ":2026-01"),
    ]
    redis.client().sadd(counters.DIRTY, *malformed, "999999999:2026-01", "9223372036854775808:2026-01")
    flush()
    assert [books(user) for user in crowd] == [balanced(number) for number in (1, 2, 3, 4, 5)]
    assert redis.client().scard(counters.DIRTY) == 0
    assert MonthlyUsage.objects.count() == 5


# -- dying half-way -----------------------------------------------------------------------------------


def test_a_database_that_is_away_costs_nothing_but_time(crowd: list[User]) -> None:
    with database_away(), pytest.raises(Exception, match="not currently accepting connections"):
        flush()
    assert all(books(user) == Books(number, number, True, None) for number, user in enumerate(crowd, 1))
    flush()
    assert [books(user) for user in crowd] == [balanced(number) for number in (1, 2, 3, 4, 5)]


class _Death(BaseException):
    """As of a process that is told to stop."""


def test_a_flush_that_dies_between_the_database_and_redis_is_finished_by_the_next(owner: User) -> None:
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


def test_a_redis_that_goes_away_during_the_flush_leaves_the_rest_to_the_next(owner: User) -> None:
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


def test_after_a_flush_a_wiped_redis_is_seeded_unnoticed(api: Api, owner: User) -> None:
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


def test_a_wiped_redis_forgets_what_was_not_flushed_and_nothing_else(api: Api, owner: User) -> None:
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


def test_a_total_that_fell_behind_the_database_is_raised_to_it(owner: User) -> None:
    """As of a Redis that lost its last second of writes, or was wiped while a flush was under way."""
    charge(owner, 5)
    flush()
    redis.client().set(counters.total_key(owner.pk, this_month()), 3)
    redis.client().sadd(counters.DIRTY, f"{owner.pk}:{this_month()}")
    flush()
    assert books(owner) == balanced(5)


# -- races --------------------------------------------------------------------------------------------


def test_flushes_that_race_with_each_other_and_with_requests_agree_in_the_end(
    api: Api, dataset: Dataset, owner: User
) -> None:
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


def test_a_limit_is_never_taken_back_by_a_flush(owner: User) -> None:
    """A flush puts right a limit whose announcement was lost, and must not take an announcement for one."""
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


def test_the_next_flush_puts_right_announcements_that_came_in_the_wrong_order(owner: User) -> None:
    set_limit(owner, 7)
    counters.announce_limit(owner.pk, 5, this_month())  # of a change that was saved before
    flush()
    assert (limit_in_force(owner), current(owner.pk).limit) == (7, 7)


def test_a_limit_that_was_announced_during_the_flush_is_looked_at_by_the_next(owner: User) -> None:
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
assert counters.client().keys(f"*:datasets:{gone_id}*") == []
assert MonthlyUsage.objects.count() == 1
"""


def test_all_of_it_holds_on_sqlite(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "REDIS_URL": settings.REDIS_URL.replace("db=0", "db=2"),
    }
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", _ON_SQLITE]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


# -- HTTP while the database has not what Redis has ---------------------------------------------------


def test_requests_go_on_while_the_flush_cannot(api: Api, owner: User) -> None:
    set_limit(owner, 10)
    assert api.one(record()).status_code == 202

    def send(size: int) -> httpx.Response:
        return api.batch([record()] * size)

    with database_away():
        assert send(4).status_code == 202
        assert send(6).status_code == 429
    flush()
    assert books(owner) == balanced(5)
