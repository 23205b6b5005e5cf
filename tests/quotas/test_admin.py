"""Quotas in the admin: who may change what, in which words, and that it is in force at once."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from quotas.models import MonthlyUsage, QuotaLimit, ThresholdEvent
from quotas.services import flush, set_limit
from tests.conftest import Api, record
from tests.ingest.outages import redis_away
from tests.quotas.books import charge, limit_in_force, this_month

LIST, ADD = (reverse(f"admin:quotas_quotalimit_{page}") for page in ("changelist", "add"))


@pytest.fixture
def admin(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def limit(owner: User) -> QuotaLimit:
    set_limit(owner, 1000)
    return QuotaLimit.objects.get()


def page_of(limit: QuotaLimit, name: str = "change") -> str:
    return reverse(f"admin:quotas_quotalimit_{name}", args=(limit.pk,))


def text(response: Any) -> str:
    """What is read on a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_a_limit_that_is_added_is_in_force(admin: Client, api: Api, owner: User) -> None:
    assert admin.post(ADD, {"user": owner.pk, "preset": "other", "number": "2"}).status_code == 302
    assert limit_in_force(owner) == 2
    assert [api.one(record()).status_code for _ in range(3)] == [202, 202, 429]


@pytest.mark.parametrize(
    ("posted", "expected"),
    [
        ({"preset": "-1"}, -1),
        ({"preset": "0"}, 0),
        ({"preset": "10000"}, 10_000),
        ({"preset": "10000", "number": "5"}, 10_000),
        ({"preset": "other", "number": "0"}, 0),
        ({"preset": "other", "number": str(2**53 - 1)}, 2**53 - 1),
    ],
)
def test_a_limit_is_changed_to_a_usual_one_or_a_number(
    admin: Client, limit: QuotaLimit, posted: dict[str, str], expected: int
) -> None:
    assert admin.post(page_of(limit), posted).status_code == 302
    limit.refresh_from_db()
    assert (limit.records_per_month, limit_in_force(limit.user)) == (expected, expected)
    assert LogEntry.objects.get().change_message == f"Records a month: “1000” → “{expected}”."


@pytest.mark.parametrize(
    ("posted", "said"),
    [
        ({"preset": "other"}, "How many records a month?"),
        ({"preset": "other", "number": "-1"}, "greater than or equal to 0"),
        ({"preset": "other", "number": str(2**53)}, "less than or equal to 9007199254740991"),
        ({"preset": "other", "number": "many"}, "Enter a whole number."),
        ({"preset": "5"}, "5 is not one of the available choices"),
        ({}, "This field is required."),
    ],
)
def test_what_is_no_limit_is_said_at_the_field(
    admin: Client, limit: QuotaLimit, posted: dict[str, str], said: str
) -> None:
    response = admin.post(page_of(limit), posted)
    assert response.status_code == 200
    assert said in text(response)
    assert limit_in_force(limit.user) == 1000


@pytest.mark.parametrize(("value", "chosen", "number"), [(-1, "-1", None), (100_000, "100000", None), (7, "other", 7)])
def test_the_form_shows_the_limit_there_is(
    admin: Client, owner: User, value: int, chosen: str, number: int | None
) -> None:
    set_limit(owner, value)
    form = admin.get(page_of(QuotaLimit.objects.get())).context["adminform"].form
    assert (form["preset"].value(), form["number"].value()) == (chosen, number)


def test_a_limit_that_is_deleted_leaves_the_default(
    admin: Client, api: Api, limit: QuotaLimit, settings: Settings
) -> None:
    settings.DEFAULT_QUOTA_LIMIT = 1
    assert admin.post(page_of(limit, "delete"), {"post": "yes"}).status_code == 302
    assert not QuotaLimit.objects.exists()
    assert [api.one(record()).status_code for _ in range(2)] == [202, 429]


def test_usage_months_and_thresholds_are_shown(admin: Client, owner: User, limit: QuotaLimit) -> None:
    charge(owner, 12_345, "2026-01")
    charge(owner, 960)
    flush()
    charge(owner, 5)
    assert "1,000 a month" in text(admin.get(LIST))
    assert "965 (96 %)" in text(admin.get(LIST))
    page = text(admin.get(page_of(limit)))
    assert "965 of 1,000 records: 96 %" in page
    assert f"{this_month()} 965" in page
    assert "95 % of 1,000 (960 records)" in page
    for model in ("monthlyusage", "thresholdevent"):
        assert "owner" in text(admin.get(reverse(f"admin:quotas_{model}_changelist")))


def test_what_is_remembered_is_changed_by_nobody(admin: Client, owner: User, limit: QuotaLimit) -> None:
    charge(owner, 1000)
    flush()
    for row in (MonthlyUsage.objects.get(), ThresholdEvent.objects.first()):
        assert row is not None
        before = type(row).objects.values().get(pk=row.pk)
        name = f"admin:quotas_{row._meta.model_name}"
        assert admin.get(reverse(f"{name}_add")).status_code == 403
        assert admin.post(reverse(f"{name}_change", args=(row.pk,)), {"used": "0"}).status_code == 403
        assert admin.post(reverse(f"{name}_delete", args=(row.pk,)), {"post": "yes"}).status_code == 403
        assert type(row).objects.values().get(pk=row.pk) == before


def test_staff_see_their_own_limit_and_cannot_change_it(owner: User, limit: QuotaLimit) -> None:
    set_limit(User.objects.create_user("other"), 77)
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    listed = text(client.get(LIST))
    assert "1,000 a month" in listed
    assert "77 a month" not in listed
    assert "0 of 1,000 records: 0 %" in text(client.get(page_of(limit)))
    assert client.post(page_of(limit), {"preset": "-1"}).status_code == 403
    assert client.post(page_of(limit, "delete"), {"post": "yes"}).status_code == 403
    assert client.get(ADD).status_code == 403
    assert limit_in_force(owner) == 1000


def test_while_redis_is_away_it_is_said_and_nothing_is_changed(admin: Client, owner: User, limit: QuotaLimit) -> None:
    charge(owner, 960)
    flush()
    with redis_away():
        for path, posted in ((page_of(limit), {"preset": "-1"}), (page_of(limit, "delete"), {"post": "yes"})):
            response = admin.post(path, posted, follow=True)
            assert response.status_code == 200
            assert "Redis does not answer" in text(response)
        for path in (LIST, page_of(limit)):
            response = admin.get(path)
            assert response.status_code == 200
            assert "960" in text(response)
    limit.refresh_from_db()
    assert (limit.records_per_month, limit_in_force(owner)) == (1000, 1000)
