"""80, 95 and 100 % of a limit are recorded once a month, signaled once, and shown in the admin."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from django.contrib.auth.models import User

from config.common import clock
from quotas.models import ThresholdEvent
from quotas.services import flush, set_limit
from quotas.signals import quota_threshold_crossed
from tests.conftest import Api, record
from tests.support.books import balanced, books, charge, this_month, thresholds
from tests.support.sending.at_once import at_once


@pytest.fixture
def told() -> Iterator[list[tuple[str, int]]]:
    """Yield a list that gets (username, percent) of every signal that is sent."""
    heard: list[tuple[str, int]] = []

    def hear(event: ThresholdEvent, **_: object) -> None:
        heard.append((event.user.get_username(), event.percent))

    quota_threshold_crossed.connect(hear)
    yield heard
    quota_threshold_crossed.disconnect(hear)


def test_each_threshold_is_recorded_and_signaled_once(api: Api, owner: User, told: list[tuple[str, int]]) -> None:
    set_limit(owner, 100)
    expected: list[int] = []
    for size, crossed in ((79, []), (1, [80]), (14, []), (1, [95]), (4, []), (1, [100])):
        assert api.batch([record()] * size).status_code == 202
        expected += crossed
        for _ in range(2):
            flush()
            assert thresholds(owner) == [(this_month(), percent) for percent in expected]
    assert api.one(record()).status_code == 429
    flush()
    assert told == [("owner", 80), ("owner", 95), ("owner", 100)]
    assert list(ThresholdEvent.objects.order_by("percent").values_list("used", "limit")) == [
        (80, 100),
        (95, 100),
        (100, 100),
    ]


def test_a_jump_over_all_thresholds_records_all(api: Api, owner: User, told: list[tuple[str, int]]) -> None:
    set_limit(owner, 3)
    assert api.batch([record()] * 3).status_code == 202
    flush()
    assert [percent for _, percent in thresholds(owner)] == [80, 95, 100]
    assert told == [("owner", 80), ("owner", 95), ("owner", 100)]


def test_concurrent_flushes_record_and_signal_once(api: Api, owner: User, told: list[tuple[str, int]]) -> None:
    set_limit(owner, 3)
    assert api.batch([record()] * 3).status_code == 202
    at_once([partial(flush)] * 8)
    assert [percent for _, percent in thresholds(owner)] == [80, 95, 100]
    assert sorted(told) == [("owner", 80), ("owner", 95), ("owner", 100)]


def test_each_month_has_its_own_thresholds(
    api: Api, owner: User, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limit(owner, 5)
    for month in (11, 12):
        monkeypatch.setattr(clock, "now", lambda month=month: datetime(2026, month, 30, tzinfo=UTC))
        assert api.batch([record()] * 4).status_code == 202
        flush()
    assert thresholds(owner) == [("2026-11", 80), ("2026-12", 80)]
    assert told == [("owner", 80)] * 2


def test_each_user_has_their_own_thresholds(owner: User, told: list[tuple[str, int]]) -> None:
    other = User.objects.create_user("other")
    for user, limit in ((owner, 10), (other, 100)):
        set_limit(user, limit)
        charge(user, 10)
    flush()
    assert (len(thresholds(owner)), thresholds(other)) == (3, [])
    assert {name for name, _ in told} == {"owner"}


def test_lowering_a_limit_below_usage_crosses_thresholds(owner: User, told: list[tuple[str, int]]) -> None:
    """No further record is accepted, so only the change of the limit makes the next flush check the thresholds."""
    set_limit(owner, 1000)
    charge(owner, 96)
    flush()
    assert told == []
    set_limit(owner, 100)
    flush()
    assert told == [("owner", 80), ("owner", 95)]
    set_limit(owner, 1000)
    set_limit(owner, 96)
    flush()
    assert told == [("owner", 80), ("owner", 95), ("owner", 100)]


def test_unlimited_and_0_have_no_thresholds(owner: User, told: list[tuple[str, int]]) -> None:
    for limit in (-1, 0):
        set_limit(owner, limit)
        charge(owner, 100)
        flush()
    assert (thresholds(owner), told) == ([], [])


def test_a_failing_receiver_does_not_stop_a_flush(
    owner: User, told: list[tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the mail server is away")

    set_limit(owner, 10)
    charge(owner, 8)
    quota_threshold_crossed.connect(fail)
    try:
        flush()
    finally:
        quota_threshold_crossed.disconnect(fail)
    assert books(owner) == balanced(8)
    assert (told, thresholds(owner)) == ([("owner", 80)], [(this_month(), 80)])
    assert "a receiver of quota_threshold_crossed failed" in caplog.text
    assert "the mail server is away" in caplog.text
